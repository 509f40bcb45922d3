"""Exporters of layers on images, and of transposed convolution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from recurra.interop.onnx.export_windows import past_of
from recurra.interop.onnx.exporter import Exporter, Made, over_steps, refuse
from recurra.interop.onnx.writer import Tensor, Writer


def _spread(writer: Writer, layer: Any, x: str, channels: int) -> str:
    """The features as images of ONNX: channels second, then rows and columns."""
    if layer.width is None:
        images = writer.node("Reshape", [x, writer.integers(0, 0, layer.height, channels)])
        return writer.node("Transpose", [images], perm=[0, 3, 2, 1])
    images = writer.node("Reshape", [x, writer.integers(-1, layer.height, layer.width, channels)])
    return writer.node("Transpose", [images], perm=[0, 3, 1, 2])


def _gathered(writer: Writer, layer: Any, x: Tensor, images: str) -> str:
    """Images of ONNX as features again."""
    if layer.width is None:
        turned = writer.node("Transpose", [images], perm=[0, 3, 2, 1])
        return writer.node("Reshape", [turned, writer.integers(0, 0, layer.output_size)])
    turned = writer.node("Transpose", [images], perm=[0, 2, 3, 1])
    if not x.sequence:
        return writer.node("Reshape", [turned, writer.integers(0, layer.output_size)])
    rows = writer.node("Shape", [x.name], start=0, end=2)
    shape = writer.node("Concat", [rows, writer.integers(layer.output_size)], axis=0)
    return writer.node("Reshape", [turned, shape])


def _window(layer: Any, is_padded: bool = True) -> dict[str, Any]:
    (top, bottom), (left, right) = layer._zeros
    pads = [top, left if is_padded else 0, bottom, right if is_padded else 0]
    return {"kernel_shape": list(layer.kernel_size), "strides": list(layer.stride), "pads": pads}


def _lengths(writer: Writer, layer: Any, x: Tensor) -> str | None:
    """The output's lengths, as in `Windowed.output_lengths`."""
    if x.lengths is None or layer.keeps_steps:
        return x.lengths
    room = layer._before + layer._after - layer._span + layer._step_stride
    return _after(writer, x.lengths, writer.node("Add", [x.lengths, writer.integers(room)]), layer._step_stride)


def _after(writer: Writer, lengths: str, room: str, stride: int) -> str:
    """room // stride, at least 0, and 0 in rows without steps."""
    made = writer.node("Div", [writer.node("Max", [room, writer.integers(0)]), writer.integers(stride)])
    there = writer.node("Greater", [lengths, writer.integers(0)])
    return writer.node("Where", [there, made, writer.integers(0)])


def _conv(writer: Writer, layer: Any, inputs: Sequence[Tensor], begin: Sequence[str]) -> Made:
    x = inputs[0]
    given, finals = writer.without_padding(x) if layer.width is None else x.name, []
    if begin:
        past = writer.node("Transpose", [begin[0]], perm=[1, 0, 2])
        given = writer.node("Concat", [past, given], axis=1)
        finals = [past_of(writer, given, x.lengths, layer._before)]
    weights = [writer.parameter(layer.params[name]) for name in (("weight", "bias") if layer.bias else ("weight",))]
    images = _spread(writer, layer, given, layer.in_channels)
    options = _window(layer, is_padded=not begin)
    made = writer.node("Conv", [images, *weights], **options, dilations=list(layer.dilation), group=layer.groups)
    return Made(Tensor(_gathered(writer, layer, x, made), x.sequence, _lengths(writer, layer, x)), finals)


def _pool(writer: Writer, layer: Any, inputs: Sequence[Tensor], begin: Sequence[str]) -> Made:
    x, window, largest = inputs[0], _window(layer), type(layer).__name__ == "MaxPool2d"
    if begin:
        raise refuse(layer, "keeps a state of how many columns it has seen; make it with another padding")
    ragged = x.lengths is not None and layer.width is None
    if largest or not ragged:
        given = writer.without_padding(x, -np.inf) if ragged else x.name
        kind = {} if largest else {"count_include_pad": 0}
        images = _spread(writer, layer, given, layer.channels)
        made = writer.node("MaxPool" if largest else "AveragePool", [images], **window, **kind)
    else:
        total = _mean(writer, _spread(writer, layer, writer.without_padding(x), layer.channels), window)
        rows = writer.constant(np.ones((1, 1, layer.height), writer.dtype))
        there = writer.node("Mul", [writer.cast(writer.mask(x), writer.dtype), rows])
        count = _mean(writer, _spread(writer, layer, there, 1), window)
        least = 0.5 / (layer.kernel_size[0] * layer.kernel_size[1])
        made = writer.node("Div", [total, writer.node("Max", [count, writer.number(least)])])
    return Made(Tensor(_gathered(writer, layer, x, made), x.sequence, _lengths(writer, layer, x)))


def _mean(writer: Writer, images: str, window: dict[str, Any]) -> str:
    return writer.node("AveragePool", [images], **window, count_include_pad=1)


def _transposed(writer: Writer, layer: Any, inputs: Sequence[Tensor], begin: Sequence[str]) -> Made:
    x = inputs[0]
    weights = [writer.parameter(layer.params[name]) for name in (("weight", "bias") if layer.bias else ("weight",))]
    window = {"kernel_shape": [layer.kernel_size], "strides": [layer.stride], "pads": [layer.padding] * 2}
    more = {"dilations": [layer.dilation], "output_padding": [layer.output_padding], "group": layer.groups}
    y = over_steps(writer, "ConvTranspose", writer.without_padding(x), *weights, **window, **more)
    lengths = x.lengths
    if lengths is not None and not layer.keeps_steps:
        grown = writer.node("Mul", [lengths, writer.integers(layer.stride)])
        grown = writer.node("Add", [grown, writer.integers(layer._one - layer.stride)])
        lengths = _after(writer, lengths, grown, 1)
    return Made(Tensor(y, True, lengths))


EXPORTERS: dict[str, Exporter] = {
    "Conv2d": _conv,
    "MaxPool2d": _pool,
    "AvgPool2d": _pool,
    "ConvTranspose1d": _transposed,
}
