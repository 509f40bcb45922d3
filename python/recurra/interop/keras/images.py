"""Converters for layers of Keras on images: the first of their axes is time here, or each step holds an image."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from recurra.interop.keras.layer import Apply, KerasLayer, Kwargs, converts
from recurra.interop.keras.source import refused
from recurra.interop.keras.values import Value
from recurra.interop.keras.windows import padding_of, steps_of
from recurra.layers.convolution2d import Conv2d
from recurra.layers.image_pooling import AvgPool2d, MaxPool2d
from recurra.layers.images import ImageLayer
from recurra.layers.pooling import Pool


def _image(layer: KerasLayer, args: tuple[Any, ...]) -> Value:
    """The input, which must be images of this layer's axes: columns as steps, or in TimeDistributed one in each
    step."""
    value = layer.one(args, image=True)
    if len(value.image) != (3 if layer.builder.is_stepwise else 2):
        raise refused(
            "got a sequence or vectors, expected images (steps, height, channels), whose first axis is time here, or "
            "in TimeDistributed (steps, height, width, channels)"
        )
    layer.expect("data_format", "channels_last", None)
    return value


def _pair(layer: KerasLayer, name: str, default: Any) -> tuple[int, int]:
    value = layer.get(name, default)
    value = list(value) if isinstance(value, list | tuple) else [value, value]
    if len(value) != 2 or not all(type(one) is int and 0 < one < 1 << 16 for one in value):
        raise refused(f"got {name}={value!r:.80}, expected a positive integer or two")
    return value[0], value[1]


def _sizes(layer: KerasLayer, value: Value) -> dict[str, Any]:
    if layer.builder.is_stepwise:
        return {"height": value.image[0], "width": value.image[1]}
    return {"height": value.image[0]}


def _axes(layer: KerasLayer, value: Value) -> tuple[int | None, int | None]:
    """The sizes of Keras' two axes."""
    return (value.image[0], value.image[1]) if layer.builder.is_stepwise else (value.steps, value.image[0])


def _turned(layer: KerasLayer, pair: Any) -> Any:
    """A pair for Keras' axes as (height, width) here, where the columns are Keras' first axis."""
    return tuple(pair) if layer.builder.is_stepwise else (pair[1], pair[0])


def _made(layer: KerasLayer, value: Value, window: ImageLayer, symbol: Any, channels: int) -> Value:
    layer.reads(value) if not layer.builder.is_stepwise else None
    image = (window.output_height, *((window.output_width,) if window.output_width else ()), channels)
    steps = value.steps if layer.builder.is_stepwise else steps_of(value, window)
    return value.now(symbol, steps=steps, image=image, masked=value.masked and layer.builder.is_stepwise)


@converts("Conv2D", "Convolution2D")
def convert_conv2d(layer: KerasLayer, args: tuple[Any, ...], kwargs: Kwargs) -> Apply:
    """To a Conv2d."""
    x = _image(layer, args)
    layer.expect("groups", 1)
    channels, filters, bias = x.image[-1], layer.integer("filters"), layer.flag("use_bias", True)
    size, stride = _pair(layer, "kernel_size", None), _pair(layer, "strides", 1)
    dilation = _pair(layer, "dilation_rate", 1)
    kernel, *rest = layer.weights.own((*size, channels, filters), *([(filters,)] if bias else []))
    paddings: list[str] = []
    for axis, steps in enumerate(_axes(layer, x)):
        padding, before = padding_of(layer, steps, size[axis], stride[axis], dilation[axis])
        shape = (*kernel.shape[:axis], before, *kernel.shape[axis + 1 :])
        kernel = np.concatenate([np.zeros(shape, kernel.dtype), kernel], axis=axis)
        paddings.append(padding)
    conv = Conv2d(
        channels,
        filters,
        _turned(layer, kernel.shape[:2]),
        _turned(layer, stride),
        _turned(layer, paddings),
        _turned(layer, dilation),
        **_sizes(layer, x),
        bias=bias,
        dtype=layer.dtype,
    )
    weight = kernel.transpose((3, 2, 0, 1) if layer.builder.is_stepwise else (3, 2, 1, 0))
    layer.filled(conv, {"weight": weight, **({"bias": rest[0]} if bias else {})})
    activation = layer.activation()

    def apply(args: tuple[Any, ...], kwargs: Kwargs) -> Value:
        value = _image(layer, args)
        return _made(layer, value, conv, activation(conv(value.symbol)), filters)

    return apply


@converts("MaxPooling2D", "AveragePooling2D", "MaxPool2D", "AvgPool2D")
def convert_pool2d(layer: KerasLayer, args: tuple[Any, ...], kwargs: Kwargs) -> Apply:
    """To a MaxPool2d or AvgPool2d."""
    x = _image(layer, args)
    size = _pair(layer, "pool_size", 2)
    stride = size if layer.get("strides", None) is None else _pair(layer, "strides", None)
    paddings: list[str] = []
    for axis, steps in enumerate(_axes(layer, x)):
        padding, before = padding_of(layer, steps, size[axis], stride[axis], 1)
        if before and ((steps or 0) % stride[axis] or size[axis] != stride[axis]):
            raise refused(
                f"got padding='same' with windows of {size[axis]}, {stride[axis]} apart, over {steps} rows or columns, "
                "expected windows that fit, or one apart"
            )
        paddings.append("valid" if before else padding)
    cls = MaxPool2d if layer.kind.startswith("Max") else AvgPool2d
    turned = (_turned(layer, size), _turned(layer, stride), _turned(layer, paddings))
    pool = cls(*turned, channels=x.image[-1], **_sizes(layer, x), dtype=layer.dtype)

    def apply(args: tuple[Any, ...], kwargs: Kwargs) -> Value:
        value = _image(layer, args)
        return _made(layer, value, pool, pool(value.symbol), value.image[-1])

    return apply


@converts("GlobalAveragePooling2D", "GlobalMaxPooling2D", "GlobalAvgPool2D", "GlobalMaxPool2D")
def convert_global_pool2d(layer: KerasLayer, args: tuple[Any, ...], kwargs: Kwargs) -> Apply:
    """To a pool over each image or column, and where columns are the steps a Pool."""
    x = _image(layer, args)
    layer.expect("keepdims", False)
    mean = layer.kind.startswith("GlobalAv")
    window = x.image[:2] if layer.builder.is_stepwise else (x.image[0], 1)
    pool = (AvgPool2d if mean else MaxPool2d)(window, channels=x.image[-1], **_sizes(layer, x), dtype=layer.dtype)

    def apply(args: tuple[Any, ...], kwargs: Kwargs) -> Value:
        value = _image(layer, args)
        symbol = pool(value.symbol)
        if layer.builder.is_stepwise:
            return value.now(symbol, image=())
        layer.reads(value)
        return value.vector(Pool("mean" if mean else "max", dtype=layer.dtype)(symbol))

    return apply


def reshaped_image(layer: KerasLayer, value: Value, target: Any) -> Value:
    """An image's columns, or in TimeDistributed the images, as features: the same values in the same order."""
    if not layer.builder.is_stepwise:
        count = int(np.prod(value.image))
        known = [one for one in target if one != -1]
        steps = value.steps
        left = None if steps is None else steps * count // max(int(np.prod(known)), 1)
        shape = [left if one == -1 else one for one in target]
        if len(shape) == 2 and shape[1] == count and (shape[0] == steps or target[0] == -1):
            return replace(value, given=value.symbol, image=(), masked=False)
        raise refused(f"got target_shape={target!r:.80} of {[steps, *value.image]}, expected the same steps")
    if list(target) in ([-1], [int(np.prod(value.image))]):
        return replace(value, given=value.symbol, image=())
    raise refused(f"got target_shape={target!r:.80} of {list(value.image)}, expected all in one")
