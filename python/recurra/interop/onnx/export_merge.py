"""Exporters of merging layers, Reverse, Slice, RepeatVector and LearntVector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from recurra.interop.onnx.exporter import Exporter, Made, same
from recurra.interop.onnx.writer import Tensor, Writer

_OPERATORS = {"Add": "Sum", "Subtract": "Sub", "Average": "Mean", "Maximum": "Max", "Minimum": "Min"}


def _merge(writer: Writer, layer: Any, inputs: Sequence[Tensor], begin: Sequence[str]) -> Made:
    return same(inputs[0], writer.node(_OPERATORS[type(layer).__name__], [one.name for one in inputs]))


def _multiply(writer: Writer, layer: Any, inputs: Sequence[Tensor], begin: Sequence[str]) -> Made:
    y = inputs[0].name
    for one in inputs[1:]:
        y = writer.node("Mul", [y, one.name])
    return same(inputs[0], y)


def _dot(writer: Writer, layer: Any, inputs: Sequence[Tensor], begin: Sequence[str]) -> Made:
    product = writer.node("Mul", [one.name for one in inputs])
    return same(inputs[0], writer.node("ReduceSum", [product, writer.integers(-1)], keepdims=1))


def _concatenate(writer: Writer, layer: Any, inputs: Sequence[Tensor], begin: Sequence[str]) -> Made:
    return same(inputs[0], writer.node("Concat", [one.name for one in inputs], axis=-1))


def _turned(writer: Writer, tensor: Tensor) -> str:
    """The valid steps of each row reversed."""
    if tensor.lengths is None:
        ends = (writer.integers(-1), writer.integers(-(2**63) + 1), writer.integers(1), writer.integers(-1))
        return writer.node("Slice", [tensor.name, *ends])
    least = writer.at_least_one(tensor.lengths)  # 1 for 0 leaves the row unchanged
    return writer.node("ReverseSequence", [tensor.name, least], batch_axis=0, time_axis=1)


def _reverse(writer: Writer, layer: Any, inputs: Sequence[Tensor], begin: Sequence[str]) -> Made:
    return same(inputs[0], _turned(writer, inputs[0]))


def _slice(writer: Writer, layer: Any, inputs: Sequence[Tensor], begin: Sequence[str]) -> Made:
    parts = [writer.integers(one) for one in (layer.start, layer.stop, -1, layer.step)]
    return same(inputs[0], writer.node("Slice", [inputs[0].name, *parts]))


def _repeat(writer: Writer, layer: Any, inputs: Sequence[Tensor], begin: Sequence[str]) -> Made:
    row = writer.node("Unsqueeze", [inputs[0].name, writer.integers(1)])
    return Made(Tensor(writer.node("Expand", [row, writer.integers(1, layer.n, 1)]), True))


def _learnt(writer: Writer, layer: Any, inputs: Sequence[Tensor], begin: Sequence[str]) -> Made:
    rows = writer.node("Shape", [inputs[0].name], start=0, end=1)
    shape = writer.node("Concat", [rows, writer.integers(1)], axis=0)
    value = writer.parameter(np.asarray(layer.params["value"])[None])
    return Made(Tensor(writer.node("Expand", [value, shape]), False))


EXPORTERS: dict[str, Exporter] = {
    **dict.fromkeys(_OPERATORS, _merge),
    "Multiply": _multiply,
    "Dot": _dot,
    "Concatenate": _concatenate,
    "Reverse": _reverse,
    "Slice": _slice,
    "RepeatVector": _repeat,
    "LearntVector": _learnt,
}
