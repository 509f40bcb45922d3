"""Exporters of layers with numbers for each channel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from recurra.interop.onnx.exporter import Exporter, Made, same
from recurra.interop.onnx.writer import Tensor, Writer


def _by_channel(writer: Writer, x: Tensor, channels: int, op: str, *others: str, **attributes: Any) -> str:
    """An operator on (N, channels, positions, T) or (N, channels, positions), applied to the channels of all
    positions."""
    before = (0, 0) if x.sequence else (0,)
    turn = [0, 3, 2, 1] if x.sequence else [0, 2, 1]
    split = writer.node("Reshape", [x.name, writer.integers(*before, -1, channels)])
    made = writer.node(op, [writer.node("Transpose", [split], perm=turn), *others], **attributes)
    return writer.node("Reshape", [writer.node("Transpose", [made], perm=turn), writer.integers(*before, -1)])


def _batch_norm(writer: Writer, layer: Any, inputs: Sequence[Tensor], begin: Sequence[str]) -> Made:
    gain, shift = np.ones(layer.channels), np.zeros(layer.channels)
    if layer.affine:
        gain, shift = layer.params["weight"], layer.params["bias"]
    numbers = (gain, shift, layer.buffers["running_mean"], layer.buffers["running_var"])
    names = [writer.parameter(one) for one in numbers]
    y = _by_channel(writer, inputs[0], layer.channels, "BatchNormalization", *names, epsilon=layer.eps)
    return same(inputs[0], y)


def _prelu(writer: Writer, layer: Any, inputs: Sequence[Tensor], begin: Sequence[str]) -> Made:
    slope = layer.params["weight"]
    if layer.num_parameters == 1:
        return same(inputs[0], writer.node("PRelu", [inputs[0].name, writer.parameter(slope)]))
    slope = writer.parameter(slope.reshape(-1, *(1, 1)[: 2 if inputs[0].sequence else 1]))
    return same(inputs[0], _by_channel(writer, inputs[0], layer.num_parameters, "PRelu", slope))


def _row_norm(writer: Writer, layer: Any, inputs: Sequence[Tensor], begin: Sequence[str]) -> Made:
    """Means over the valid steps, positions and channels of each row's groups."""
    x = inputs[0]
    instance = type(layer).__name__ == "InstanceNorm1d"
    channels = layer.features if instance else layer.num_channels
    groups = channels if instance else layer.num_groups
    split = writer.integers(0, -1, groups, channels // groups)
    rows = writer.node("Reshape", [writer.without_padding(x), split])
    there = None
    if x.sequence and x.lengths is not None:
        valid = writer.node("Expand", [writer.mask(x), writer.node("Shape", [x.name])])
        there = writer.node("Reshape", [writer.cast(valid, writer.dtype), split])

    def mean(values: str) -> str:
        if there is None:
            return writer.node("ReduceMean", [values], axes=[1, 3])
        axes = writer.integers(1, 3)
        count = writer.node("Max", [writer.node("ReduceSum", [there, axes]), writer.number(1.0)])
        return writer.node("Div", [writer.node("ReduceSum", [values, axes]), count])

    centred = writer.node("Sub", [rows, mean(rows)])
    if there is not None:
        centred = writer.node("Mul", [centred, there])
    variance = mean(writer.node("Mul", [centred, centred]))
    deviation = writer.node("Sqrt", [writer.node("Add", [variance, writer.number(layer.eps)])])
    y = writer.node("Reshape", [writer.node("Div", [centred, deviation]), writer.integers(0, -1, channels)])
    if layer.affine:
        y = writer.node("Mul", [y, writer.parameter(layer.params["weight"])])
        y = writer.node("Add", [y, writer.parameter(layer.params["bias"])])
    return same(x, writer.node("Reshape", [y, writer.node("Shape", [x.name])]))


def _permute(writer: Writer, layer: Any, inputs: Sequence[Tensor], begin: Sequence[str]) -> Made:
    before = (0, 0) if inputs[0].sequence else (0,)
    split = writer.node("Reshape", [inputs[0].name, writer.integers(*before, *layer.shape)])
    order = [*range(len(before)), *(axis + len(before) for axis in layer.dims)]
    turned = writer.node("Transpose", [split], perm=order)
    return same(inputs[0], writer.node("Reshape", [turned, writer.integers(*before, layer.output_size)]))


EXPORTERS: dict[str, Exporter] = {
    "BatchNorm2d": _batch_norm,
    "PReLU": _prelu,
    "GroupNorm": _row_norm,
    "InstanceNorm1d": _row_norm,
    "Permute": _permute,
}
