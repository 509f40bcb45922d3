"""Exporters of RNN, GRU and LSTM: a node for each layer of a stack."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from recurra.common.typing import Array
from recurra.interop.onnx import activations
from recurra.interop.onnx.exporter import Exporter, Made, refuse
from recurra.interop.onnx.recurrent import KINDS, peepholes, regated
from recurra.interop.onnx.writer import Tensor, Writer

#: Options without an attribute in ONNX; falsy values are supported.
_PLAIN = ("proj_size", "layer_norm", "zoneout", "zoneout_cell", "cell_clip")


def _cell(writer: Writer, layer: Any, inputs: Sequence[Tensor], begin: Sequence[str]) -> Made:
    options = [name for name in _PLAIN if getattr(layer, name, None)]
    if options:
        raise refuse(
            layer, f"has {options[0]}={getattr(layer, options[0])!r}, which ONNX's {layer.label} has no attribute for"
        )
    x, depth = inputs[0], layer.num_layers
    directions = layer.num_directions
    valid = "" if x.lengths is None else writer.cast(writer.at_least_one(x.lengths), np.int32)
    starts = [_split(writer, one, depth, directions) for one in begin]
    finals: list[list[str]] = [[] for _one in begin]
    y = writer.node("Transpose", [x.name], perm=[1, 0, 2])
    for level in range(depth):
        given = [y, *_weights(writer, layer, level), valid, *(one[level] for one in starts)]
        if getattr(layer, "peepholes", False):
            given += [writer.parameter(_arrays(layer, "weight_peephole", level, peepholes))]
        made = writer.nodes(type(layer).__name__, given, 1 + len(begin), **_attributes(layer))
        for found, final, start in zip(finals, made[1:], starts, strict=True):
            found.append(_kept(writer, x, final, start[level]))
        turned = writer.node("Transpose", [made[0]], perm=[0, 2, 1, 3])
        y = writer.node("Reshape", [turned, writer.integers(0, 0, -1)])
    whole = [one[0] if depth == 1 else writer.node("Concat", one, axis=0) for one in finals]
    if layer.return_sequences:
        return Made(Tensor(writer.node("Transpose", [y], perm=[1, 0, 2]), True, x.lengths), whole)
    rows = writer.node("Transpose", [finals[0][-1]], perm=[1, 0, 2])
    vector = writer.node("Reshape", [rows, writer.integers(0, -1)])
    return Made(Tensor(vector, False), whole)


def _split(writer: Writer, state: str, depth: int, directions: int) -> list[str]:
    if depth == 1:
        return [state]
    return writer.nodes("Split", [state, writer.integers(*[directions] * depth)], depth, axis=0)


def _kept(writer: Writer, x: Tensor, final: str, start: str) -> str:
    """The final state, which is the initial one in rows without steps."""
    if x.lengths is None:
        return final
    return writer.node("Where", [writer.has_steps(x.lengths), final, start])


def _attributes(layer: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"hidden_size": layer.hidden_size}
    if layer.bidirectional:
        found["direction"] = "bidirectional"
    if type(layer).__name__ == "GRU":
        found["linear_before_reset"] = int(layer.reset_after)
    return {**found, **activations.write(layer)}


def _weights(writer: Writer, layer: Any, level: int) -> list[str]:
    order = partial(regated, type(layer).__name__, back=True)
    names = [writer.parameter(_arrays(layer, name, level, order)) for name in ("weight_ih", "weight_hh")]
    if not layer.bias:
        return [*names, ""]
    both = [_arrays(layer, name, level, order) for name in ("bias_ih", "bias_hh")]
    return [*names, writer.parameter(np.concatenate(both, axis=1))]


def _arrays(layer: Any, name: str, level: int, order: Callable[[Array], Array]) -> Array:
    """A parameter of both directions, (D, gates * H, ...)."""
    ends = ["", "_reverse"][: layer.num_directions]
    return np.stack([order(np.asarray(layer.params[f"{name}_l{level}{end}"])) for end in ends])


EXPORTERS: dict[str, Exporter] = dict.fromkeys(KINDS, _cell)
