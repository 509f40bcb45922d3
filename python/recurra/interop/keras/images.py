"""Converters for layers of Keras on images: the first of their axes is time here, or each step holds an image."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from recurra.common.typing import Array
from recurra.interop.keras.layer import Apply, KerasLayer, Kwargs, converts
from recurra.interop.keras.source import refused
from recurra.interop.keras.values import Value
from recurra.interop.keras.windows import padding_of, steps_of
from recurra.layers.convolution2d import Conv2d
from recurra.layers.image_pooling import AvgPool2d, MaxPool2d
from recurra.layers.images import ImageLayer
from recurra.layers.leaf import LeafLayer
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
    x, groups = _image(layer, args), layer.integer("groups", 1)
    filters, bias, size = layer.integer("filters"), layer.flag("use_bias", True), _pair(layer, "kernel_size", None)
    shape = (*size, x.image[-1] // groups, filters)
    kernel, *rest = layer.weights.own(shape, *([(filters,)] if bias else []))
    return _conv(layer, x, kernel, rest[0] if rest else None, groups)


@converts("DepthwiseConv2D", "SeparableConv2D")
def convert_depthwise2d(layer: KerasLayer, args: tuple[Any, ...], kwargs: Kwargs) -> Apply:
    """To a Conv2d of a group for each channel and, if separable, one of single places behind it."""
    x, many, bias = _image(layer, args), layer.integer("depth_multiplier", 1), layer.flag("use_bias", True)
    channels, size = x.image[-1], _pair(layer, "kernel_size", None)
    separable, inner = layer.kind == "SeparableConv2D", channels * many
    filters = layer.integer("filters") if separable else inner
    shapes: list[Any] = [(*size, channels, many), *([(1, 1, inner, filters)] if separable else [])]
    depthwise, *rest = layer.weights.own(*shapes, *([(filters,)] if bias else []))
    pointwise = rest.pop(0) if separable else None
    kernel = depthwise.reshape(*size, 1, inner)
    return _conv(layer, x, kernel, rest[0] if rest else None, channels, pointwise)


def _conv(
    layer: KerasLayer, x: Value, kernel: Array, bias: Array | None, groups: int, pointwise: Array | None = None
) -> Apply:
    """The convolution with a kernel (height, width, channels of a group, filters), and with one of single places."""
    size, stride = kernel.shape[:2], _pair(layer, "strides", 1)
    dilation = _pair(layer, "dilation_rate", 1)
    paddings: list[str] = []
    for axis, steps in enumerate(_axes(layer, x)):
        padding, before = padding_of(layer, steps, size[axis], stride[axis], dilation[axis])
        shape = (*kernel.shape[:axis], before, *kernel.shape[axis + 1 :])
        kernel = np.concatenate([np.zeros(shape, kernel.dtype), kernel], axis=axis)
        paddings.append(padding)
    filters, turned = kernel.shape[3], (3, 2, 0, 1) if layer.builder.is_stepwise else (3, 2, 1, 0)
    own_bias = bias if pointwise is None else None
    conv = Conv2d(
        kernel.shape[2] * groups,
        filters,
        _turned(layer, kernel.shape[:2]),
        _turned(layer, stride),
        _turned(layer, paddings),
        _turned(layer, dilation),
        **_sizes(layer, x),
        groups=groups,
        bias=own_bias is not None,
        dtype=layer.dtype,
    )
    weights = {"weight": kernel.transpose(turned), **({} if own_bias is None else {"bias": own_bias})}
    convs: list[LeafLayer] = [layer.filled(conv, weights)]
    if pointwise is not None:
        filters = pointwise.shape[3]
        places: dict[str, Any] = {"height": conv.output_height, "width": conv.output_width}
        second = Conv2d(pointwise.shape[2], filters, 1, **places, bias=bias is not None, dtype=layer.dtype)
        weights = {"weight": pointwise.transpose(turned), **({} if bias is None else {"bias": bias})}
        convs.append(layer.filled(second, weights))
    activation = layer.activation()

    def apply(args: tuple[Any, ...], kwargs: Kwargs) -> Value:
        value = _image(layer, args)
        symbol = value.symbol
        for one in convs:
            symbol = one(symbol)
        return _made(layer, value, conv, activation(symbol), filters)

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
