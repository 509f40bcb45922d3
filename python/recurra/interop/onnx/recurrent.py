"""ONNX's RNN, GRU and LSTM as layers: their attributes and the layout of their weights.

https://onnx.ai/onnx/operators/onnx__LSTM.html and the pages of GRU and RNN are the specification.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recurra.common.errors import ModelFormatError
from recurra.common.typing import Array
from recurra.interop.gate_orders import ORDERS, gates
from recurra.interop.onnx import activations
from recurra.interop.onnx.graph import Node
from recurra.interop.onnx.store import filled
from recurra.layers.merge import Reverse
from recurra.layers.recurrent.gru import GRU
from recurra.layers.recurrent.lstm import LSTM
from recurra.layers.recurrent.recurrent import Recurrent
from recurra.layers.recurrent.rnn import RNN

#: Classes by the operators' names, which are the same.
KINDS: dict[str, type[Recurrent]] = {"RNN": RNN, "GRU": GRU, "LSTM": LSTM}
#: The indices of W, R, B and P among a node's inputs.
WEIGHTS = (1, 2, 3, 7)


@dataclass(frozen=True)
class Spec:
    """A node's attributes in this library's terms."""

    op: str
    directions: int
    backwards: bool
    batch_first: bool
    options: tuple[tuple[str, Any], ...]

    @property
    def state_count(self) -> int:
        """The number of states: h, and for an LSTM c."""
        return 2 if self.op == "LSTM" else 1


def _refuse(node: Node, name: str, why: str) -> ModelFormatError:
    return ModelFormatError(f"{node}: got {name}={node.attributes[name]!r}, {why}")


def spec(node: Node) -> Spec:
    """The node's attributes, checked.

    Raises:
        ModelFormatError: no cell here supports an attribute, which the message names.
    """
    direction = node.attributes.get("direction", "forward")
    if direction not in ("forward", "reverse", "bidirectional"):
        raise _refuse(node, "direction", "expected forward, reverse or bidirectional")
    directions = 2 if direction == "bidirectional" else 1
    if node.attributes.get("clip"):
        raise _refuse(
            node, "clip", "expected none, as no cell here bounds the inputs of its activations; export without it"
        )
    if node.attributes.get("input_forget"):
        raise _refuse(node, "input_forget", "expected 0, as no cell here couples these gates; export without it")
    if node.attributes.get("layout", 0) not in (0, 1):
        raise _refuse(node, "layout", "expected 0 or 1")
    options = activations.read(node, directions)
    if node.op == "GRU":
        options["reset_after"] = bool(node.attributes.get("linear_before_reset", 0))
    layout = node.attributes.get("layout", 0) == 1
    return Spec(node.op, directions, direction == "reverse", layout, tuple(sorted(options.items())))


def make(node: Node, found: Spec, weights: Sequence[Array | None]) -> Recurrent:
    """The layer for a node with the weights W, R, B (or None) and P (or None).

    Raises:
        ModelFormatError: the shapes are inconsistent.
    """
    w, r, b, p = weights
    kind = KINDS[node.op]
    if w is None or r is None or w.ndim != 3 or r.ndim != 3:
        raise ModelFormatError(f"{node}: got no W or R of three axes, expected both")
    directions, rows, inputs = w.shape
    hidden = r.shape[2]
    fits = directions == found.directions and rows == kind.gates * hidden and r.shape == (directions, rows, hidden)
    fits = fits and (b is None or b.shape == (directions, 2 * rows)) and hidden > 0 and inputs > 0
    fits = fits and (p is None or p.shape == (directions, 3 * hidden))
    if not fits or node.attributes.get("hidden_size", hidden) != hidden:
        shapes = [None if one is None else one.shape for one in weights]
        raise ModelFormatError(
            f"{node}: got W, R, B, P of shapes {shapes}, which do not go together; export the model again"
        )
    options = {**dict(found.options), "bias": b is not None, "bidirectional": directions == 2}
    if p is not None:
        options["peepholes"] = True
    values = {
        name: array
        for direction in range(directions)
        for name, array in _named(node.op, [one if one is None else one[direction] for one in weights], direction)
    }
    dtype = "float64" if w.dtype == np.float64 else "float32"
    return filled(kind, values, inputs, hidden, dtype=dtype, **options)


def _named(op: str, weights: Sequence[Any], direction: int) -> list[tuple[str, Array]]:
    w, r, b, p = weights
    end = "_l0_reverse" if direction else "_l0"
    found = [("weight_ih" + end, w), ("weight_hh" + end, r)]
    if b is not None:
        found += zip(("bias_ih" + end, "bias_hh" + end), np.split(b, 2), strict=True)
    found = [(name, regated(op, array)) for name, array in found]
    return found if p is None else [*found, ("weight_peephole" + end, peepholes(p))]


def regated(op: str, array: Array, *, back: bool = False) -> Array:
    """A cell's weights with their gates reordered from ONNX's order to recurra's, or `back`."""
    if op not in ORDERS:
        return array
    return gates(array, op, "recurra", "onnx") if back else gates(array, op, "onnx")


def peepholes(array: Array) -> Array:
    """Peephole weights reordered from ONNX's i, o, f to recurra's i, f, o, or back."""
    i, second, third = np.split(array, 3)
    return np.concatenate([i, third, second])


def run(layer: Recurrent, found: Spec, x: Array, lengths: Array | None, states: Sequence[Array | None]) -> list[Array]:
    """Y, Y_h and, for an LSTM, Y_c, for X and the initial states; all in ONNX's layout."""
    batch_axis = 0 if found.batch_first else 1
    if x.ndim != 3:
        raise ValueError(f"got X of shape {x.shape}, expected three axes")
    rows = np.ascontiguousarray(x if found.batch_first else x.swapaxes(0, 1), layer.dtype)
    own = [
        None if one is None else np.ascontiguousarray(one.swapaxes(0, 1) if found.batch_first else one, layer.dtype)
        for one in states
    ]
    state: Any = None
    if any(one is not None for one in own):
        zeros = layer.state_zeros(x.shape[batch_axis])
        filled = [zero if one is None else one for one, zero in zip(own, zeros, strict=True)]
        state = tuple(filled) if len(filled) > 1 else filled[0]
    turn = Reverse(dtype=layer.dtype) if found.backwards else None
    y, final = layer(rows if turn is None else turn(rows, lengths=lengths)[0], state, lengths)
    y = y if turn is None else turn(y, lengths=lengths)[0]
    y = y.reshape(*y.shape[:2], found.directions, y.shape[2] // found.directions)  # -1 has no value without rows
    y = y if found.batch_first else y.transpose(1, 2, 0, 3)
    finals = final if isinstance(final, tuple) else (final,)
    return [
        one.astype(x.dtype, copy=False) for one in (y, *(s.swapaxes(0, 1) if found.batch_first else s for s in finals))
    ]
