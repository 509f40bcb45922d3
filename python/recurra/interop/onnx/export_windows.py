"""Exporters of convolutions and pooling over windows of steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from recurra.interop.onnx.exporter import Exporter, Made, over_steps, refuse
from recurra.interop.onnx.writer import Tensor, Writer


def _pads(layer: Any, span: int) -> list[int]:
    before = {"causal": span - 1, "same": (span - 1) // 2, "valid": 0}[layer.padding]
    return [before, 0 if layer.padding == "valid" else span - 1 - before]


def _lengths(writer: Writer, layer: Any, x: Tensor, span: int) -> str | None:
    """The output's lengths, as in `Windowed.output_lengths`."""
    if x.lengths is None or layer.keeps_steps:
        return x.lengths
    lost = 1 + (span - 1 if layer.padding == "valid" else 0) - layer.stride
    room = writer.node("Max", [writer.node("Sub", [x.lengths, writer.integers(lost)]), writer.integers(0)])
    return writer.node("Div", [room, writer.integers(layer.stride)])


def _conv(writer: Writer, layer: Any, inputs: Sequence[Tensor], begin: Sequence[str]) -> Made:
    x, span = inputs[0], (layer.kernel_size - 1) * layer.dilation + 1
    given, pads, finals = writer.without_padding(x), _pads(layer, span), []
    if begin:
        past = writer.node("Transpose", [begin[0]], perm=[1, 0, 2])
        given, pads = writer.node("Concat", [past, given], axis=1), [0, 0]
        finals = [past_of(writer, given, x.lengths, span - 1)]
    weights = [writer.parameter(layer.params[name]) for name in (("weight", "bias") if layer.bias else ("weight",))]
    window: dict[str, Any] = {"kernel_shape": [layer.kernel_size], "strides": [layer.stride], "pads": pads}
    y = over_steps(writer, "Conv", given, *weights, **window, dilations=[layer.dilation], group=layer.groups)
    return Made(Tensor(y, True, _lengths(writer, layer, x, span)), finals)


def past_of(writer: Writer, steps: str, lengths: str | None, count: int) -> str:
    """The new past, (count, N, channels): the last `count` valid steps of `steps`, which begins with the old past."""
    if lengths is None:
        ends = (writer.integers(-count), writer.integers(2**63 - 1), writer.integers(1))
        last = writer.node("Slice", [steps, *ends])
    else:
        first = writer.node("Unsqueeze", [lengths, writer.integers(1)])
        places = writer.node("Add", [first, writer.constant(np.arange(count)[None])])
        last = writer.node("GatherND", [steps, writer.node("Unsqueeze", [places, writer.integers(2)])], batch_dims=1)
    return writer.node("Transpose", [last], perm=[1, 0, 2])


def _window_pool(writer: Writer, layer: Any, inputs: Sequence[Tensor], begin: Sequence[str]) -> Made:
    x, span, maximum = inputs[0], layer.kernel_size, type(layer).__name__ == "MaxPool1d"
    if begin:
        raise refuse(layer, "keeps a state of how many steps it has seen; make it without features=")
    window = {"kernel_shape": [span], "strides": [layer.stride], "pads": _pads(layer, span)}
    if maximum or x.lengths is None:
        kind = {} if maximum else {"count_include_pad": 0}
        given = writer.without_padding(x, -np.inf) if maximum else x.name
        y = over_steps(writer, "MaxPool" if maximum else "AveragePool", given, **window, **kind)
    else:
        total = over_steps(writer, "AveragePool", writer.without_padding(x), **window, count_include_pad=1)
        there = writer.cast(writer.mask(x), writer.dtype)
        count = over_steps(writer, "AveragePool", there, **window, count_include_pad=1)
        y = writer.node("Div", [total, writer.node("Max", [count, writer.number(0.5 / span)])])
    return Made(Tensor(y, True, _lengths(writer, layer, x, span)))


EXPORTERS: dict[str, Exporter] = {"Conv1d": _conv, "MaxPool1d": _window_pool, "AvgPool1d": _window_pool}
