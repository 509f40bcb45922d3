"""Converters for layers of Keras across steps: convolutions, pooling, Flatten, RepeatVector, Reshape."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from recurra.common.typing import Array
from recurra.interop.keras.layer import Apply, KerasLayer, Kwargs, converts
from recurra.interop.keras.source import refused
from recurra.interop.keras.values import Value
from recurra.layers.convolution import Conv1d
from recurra.layers.pooling import Pool
from recurra.layers.repeat import RepeatVector
from recurra.layers.window_pooling import AvgPool1d, MaxPool1d
from recurra.layers.windows import Windowed

#: Bound on the weights of a grouped convolution after its expansion to a single group.
_MOST_WEIGHTS = 1 << 26


def padding_of(layer: KerasLayer, size: int | None, kernel: int, stride: int, dilation: int) -> tuple[str, int]:
    """The padding here, and the number of zeros to prepend to the kernel for Keras' alignment of the windows."""
    padding, span = layer.get("padding", "valid"), (kernel - 1) * dilation + 1
    if padding not in ("valid", "same", "causal"):
        raise refused(f"got padding={padding!r:.80}, expected 'valid', 'same' or 'causal'")
    if stride > 1 and dilation > 1:
        raise refused(f"got strides of {stride} and a dilation of {dilation}, expected one of them, as in Keras")
    if padding != "same" or stride == 1:
        return str(padding), 0
    if size is None:
        raise refused("got padding='same' with strides over an unknown number of steps, expected a known one")
    steps = -(-size // stride)
    left = max((steps - 1) * stride + span - size, 0) // 2
    return "same", span - 1 - 2 * left if left != (span - 1) // 2 else 0


def steps_of(value: Value, window: Windowed) -> int | None:
    """The number of output steps."""
    found = window.output_lengths(None if value.steps is None else np.array([value.steps]))
    return None if found is None else int(found[0])


@converts("Conv1D", "Convolution1D", "AtrousConvolution1D")
def convert_conv(layer: KerasLayer, args: tuple[Any, ...], kwargs: Kwargs) -> Apply:
    """To a Conv1d."""
    x = layer.sequence(layer.one(args))
    layer.expect("data_format", "channels_last")
    features, filters, size = x.features, layer.integer("filters"), layer.integer("kernel_size")
    groups = layer.integer("groups", 1)
    bias = layer.flag("use_bias", True)
    kernel, *rest = _conv_weights(layer, [(size, features // groups, filters)], [(filters,)] if bias else [])
    return _conv(layer, x, kernel, rest[0] if rest else None, groups)


def _conv_weights(layer: KerasLayer, kernels: list[Any], biases: list[Any]) -> list[Array]:
    """The kernels and biases; kernels of Keras 1 have one more axis and may be transposed."""
    if layer.builder.major > 1:
        return layer.weights.own(*kernels, *biases)
    ((size, inputs, filters),) = kernels
    found = layer.weights.own((None, None, None, None), *biases)
    kernel = found[0]
    if kernel.shape == (filters, inputs, size, 1) and kernel.shape != (size, 1, inputs, filters):
        kernel = kernel.transpose(2, 3, 1, 0)
    if kernel.shape != (size, 1, inputs, filters):
        raise refused(f"got a kernel of shape {kernel.shape}, expected {(size, 1, inputs, filters)}")
    return [kernel[:, 0], *found[1:]]


def _ungrouped(kernel: Array, features: int, groups: int) -> Array:
    """The kernel for a single group, (size, features, filters): zero for features outside a filter's group."""
    if groups == 1:
        return kernel
    size, inner, filters = kernel.shape
    if size * features * filters > _MOST_WEIGHTS or inner * groups != features or filters % groups:
        raise refused(
            f"got {groups} groups of {features} features and {filters} filters, expected fewer, and divisors of both"
        )
    whole = np.zeros((size, features, filters), kernel.dtype)
    each = filters // groups
    for group in range(groups):
        at = slice(group * each, (group + 1) * each)
        whole[:, group * inner : (group + 1) * inner, at] = kernel[:, :, at]
    return whole


def _conv(layer: KerasLayer, x: Value, kernel: Array, bias: Array | None, groups: int = 1) -> Apply:
    stride, dilation = layer.integer("strides", 1), layer.integer("dilation_rate", 1)
    padding, before = padding_of(layer, x.steps, kernel.shape[0], stride, dilation)
    kernel = np.concatenate([np.zeros((before, *kernel.shape[1:]), kernel.dtype), kernel])
    size, features, filters = kernel.shape
    conv = Conv1d(
        features * groups,
        filters,
        size,
        stride=stride,
        dilation=dilation,
        padding=padding,
        groups=groups,
        bias=bias is not None,
        dtype=layer.dtype,
    )
    layer.filled(conv, {"weight": kernel.transpose(2, 1, 0), **({} if bias is None else {"bias": bias})})
    activation = layer.activation()

    def apply(args: tuple[Any, ...], kwargs: Kwargs) -> Value:
        value = layer.sequence(layer.one(args))
        layer.reads(value)
        return value.now(activation(conv(value.symbol)), steps=steps_of(value, conv), masked=False)

    return apply


@converts("DepthwiseConv1D", "SeparableConv1D")
def convert_depthwise(layer: KerasLayer, args: tuple[Any, ...], kwargs: Kwargs) -> Apply:
    """To a Conv1d: of a group for each feature or, if separable, with the pointwise product, in one kernel."""
    x = layer.sequence(layer.one(args))
    layer.expect("data_format", "channels_last")
    features, size, many = x.features, layer.integer("kernel_size"), layer.integer("depth_multiplier", 1)
    bias, separable = layer.flag("use_bias", True), layer.kind == "SeparableConv1D"
    filters = layer.integer("filters") if separable else features * many
    shapes: list[Any] = [(size, features, many)]
    shapes += [(1, features * many, filters)] if separable else []
    depthwise, *rest = layer.weights.own(*shapes, *([(filters,)] if bias else []))
    kernel = depthwise.reshape(size, 1, features * many)
    if not separable:
        return _conv(layer, x, kernel, rest[0] if rest else None, features)
    kernel = _ungrouped(kernel, features, features) @ rest.pop(0)[0]
    return _conv(layer, x, kernel, rest[0] if rest else None)


@converts("MaxPooling1D", "AveragePooling1D", "MaxPool1D", "AvgPool1D")
def convert_window_pool(layer: KerasLayer, args: tuple[Any, ...], kwargs: Kwargs) -> Apply:
    """To a MaxPool1d or AvgPool1d."""
    x = layer.sequence(layer.one(args))
    layer.expect("data_format", "channels_last")
    size = layer.integer("pool_size", 2)
    stride = size if layer.get("strides", None) is None else layer.integer("strides")
    padding, before = padding_of(layer, x.steps, size, stride, 1)
    if before:
        if (x.steps or 0) % stride or size != stride:
            raise refused(
                f"got padding='same' with windows of {size} steps, {stride} apart, over {x.steps} steps, expected "
                "windows that fit, or one step apart"
            )
        padding = "valid"
    cls = MaxPool1d if layer.kind.startswith("Max") else AvgPool1d
    pool = cls(size, stride, padding, features=x.features, dtype=layer.dtype)

    def apply(args: tuple[Any, ...], kwargs: Kwargs) -> Value:
        value = layer.sequence(layer.one(args))
        layer.reads(value)
        return value.now(pool(value.symbol), steps=steps_of(value, pool), masked=False)

    return apply


@converts("GlobalAveragePooling1D", "GlobalMaxPooling1D", "GlobalAvgPool1D", "GlobalMaxPool1D")
def convert_global_pool(layer: KerasLayer, args: tuple[Any, ...], kwargs: Kwargs) -> Apply:
    """To a Pool over all steps; only the mean leaves out masked ones in Keras."""
    mean = layer.kind.startswith("GlobalAv")
    layer.expect("data_format", "channels_last")
    keeps = layer.flag("keepdims", False)
    pool = Pool("mean" if mean else "max", dtype=layer.dtype)

    def apply(args: tuple[Any, ...], kwargs: Kwargs) -> Value:
        layer.no_more(kwargs)
        value = layer.sequence(layer.one(args))
        if mean:
            layer.skips(value, kwargs)
        else:
            layer.reads(value)
        return _repeated(layer, value.vector(pool(value.symbol)), 1) if keeps else value.vector(pool(value.symbol))

    return apply


def _repeated(layer: KerasLayer, value: Value, steps: int) -> Value:
    return Value(RepeatVector(steps, dtype=layer.dtype)(value.symbol), sequence=True, steps=steps)


@converts("RepeatVector")
def convert_repeat(layer: KerasLayer, args: tuple[Any, ...], kwargs: Kwargs) -> Apply:
    """To a RepeatVector."""
    steps = layer.integer("n")

    def apply(args: tuple[Any, ...], kwargs: Kwargs) -> Value:
        value = layer.one(args)
        if value.sequence:
            raise refused("got sequences, expected vectors")
        return _repeated(layer, value, steps)

    return apply


@converts("Flatten")
def convert_flatten(layer: KerasLayer, args: tuple[Any, ...], kwargs: Kwargs) -> Apply:
    """To no layer; a Flatten of several steps is absorbed by the next Dense."""
    return lambda args, _kwargs: _flattened(layer, layer.one(args, image=True))


def _flattened(layer: KerasLayer, value: Value) -> Value:
    if not value.sequence or layer.builder.is_stepwise:
        return replace(value, given=value.symbol, image=()) if value.image else value
    if value.image:
        value = replace(value, given=value.symbol, image=())
    if value.steps is None:
        raise refused("got sequences of an unknown number of steps, expected a known one")
    layer.reads(value)
    if value.steps == 1:
        return value.vector(Pool("last", dtype=layer.dtype)(value.symbol))
    return replace(value, given=value.symbol, flat=True, masked=False)


@converts("Reshape")
def convert_reshape(layer: KerasLayer, args: tuple[Any, ...], kwargs: Kwargs) -> Apply:
    """Only to the same shape, from a vector to a single step, or flattening."""
    from recurra.interop.keras.images import reshaped_image  # late: it imports this module

    target = layer.get("target_shape")

    def apply(args: tuple[Any, ...], kwargs: Kwargs) -> Value:
        value = layer.one(args, image=True)
        if value.image:
            return reshaped_image(layer, value, target)
        steps, features = (value.steps if value.sequence else 1), value.features
        count = None if steps is None else steps * features
        known = [one for one in target if one != -1]
        left = None if count is None else count // max(int(np.prod(known)), 1)
        shape = [left if one == -1 else one for one in target]
        own = [steps, features] if value.sequence else [features]
        if shape == own:
            return value.now(value.symbol, masked=False)
        if shape == [1, features] and not value.sequence:
            return _repeated(layer, value, 1)
        if shape == [count] and value.sequence:
            return _flattened(layer, value)
        raise refused(f"got target_shape={target!r:.80} of {own}, expected the same steps and features, or all in one")

    return apply
