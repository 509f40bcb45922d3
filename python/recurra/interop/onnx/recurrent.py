"""ONNX's RNN, GRU and LSTM as layers: what their attributes mean, and how their weights are laid out.

https://onnx.ai/onnx/operators/onnx__LSTM.html and its neighbours are the specification.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recurra.common.errors import ModelFormatError
from recurra.common.typing import Array
from recurra.interop.onnx import activations
from recurra.interop.onnx.graph import Node
from recurra.layers.recurrent.gru import GRU
from recurra.layers.recurrent.lstm import LSTM
from recurra.layers.recurrent.recurrent import Recurrent
from recurra.layers.recurrent.rnn import RNN


@dataclass(frozen=True)
class _Kind:
    """A cell: its class, and ONNX's order of gates as rows of ours."""

    layer: type[Recurrent]
    order: tuple[int, ...]


#: For each of our gates its place in ONNX: iofc for i, f, g, o; zrh for r, z, n.
KINDS = {
    "RNN": _Kind(RNN, (0,)),
    "GRU": _Kind(GRU, (1, 0, 2)),
    "LSTM": _Kind(LSTM, (0, 2, 3, 1)),
}
#: ONNX's places of i, f and o among the peepholes.
PEEPHOLES = (0, 2, 1)


@dataclass(frozen=True)
class Spec:
    """What the attributes of a node say, in this library's terms."""

    op: str
    directions: int
    backwards: bool
    batch_first: bool
    options: tuple[tuple[str, Any], ...]

    @property
    def state_count(self) -> int:
        """h, and c of an LSTM."""
        return 2 if self.op == "LSTM" else 1


def _refuse(node: Node, name: str, why: str) -> ModelFormatError:
    return ModelFormatError(f"{node}: got {name}={node.attributes[name]!r}, {why}")


def spec(node: Node) -> Spec:
    """What the node is, if a cell here can hold it.

    Raises:
        ModelFormatError: it cannot; the message names the attribute.
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
    """The layer, with W, R, B (or None) and P (or None) of a node.

    Raises:
        ModelFormatError: their shapes do not go together.
    """
    w, r, b, p = weights
    kind = KINDS[node.op]
    gates = len(kind.order)
    if w is None or r is None or w.ndim != 3 or r.ndim != 3:
        raise ModelFormatError(f"{node}: got no W or R of three axes, expected both")
    directions, rows, inputs = w.shape
    hidden = r.shape[2]
    fits = directions == found.directions and rows == gates * hidden and r.shape == (directions, rows, hidden)
    fits = fits and (b is None or b.shape == (directions, 2 * rows)) and hidden > 0 and inputs > 0
    fits = fits and (p is None or p.shape == (directions, 3 * hidden))
    if not fits or node.attributes.get("hidden_size", hidden) != hidden:
        shapes = [None if one is None else one.shape for one in weights]
        raise ModelFormatError(
            f"{node}: got W, R, B, P of shapes {shapes}, which do not go together; export the model again"
        )
    options = {**dict(found.options), "bias": b is not None, "bidirectional": directions == 2, "seed": 0}
    if p is not None:
        options["peepholes"] = True
    dtype = "float64" if w.dtype == np.float64 else "float32"
    layer = kind.layer(inputs, hidden, dtype=dtype, **options)
    layer.load_state_dict(
        {
            name: np.ascontiguousarray(array, dtype)
            for direction in range(directions)
            for name, array in _named(kind, [one if one is None else one[direction] for one in weights], direction)
        }
    )
    return layer


def _named(kind: _Kind, weights: Sequence[Any], direction: int) -> list[tuple[str, Array]]:
    w, r, b, p = weights
    end = "_l0_reverse" if direction else "_l0"
    found = [("weight_ih" + end, regated(w, kind.order)), ("weight_hh" + end, regated(r, kind.order))]
    if b is not None:
        own, recurrent = np.split(b, 2)
        found += [("bias_ih" + end, regated(own, kind.order)), ("bias_hh" + end, regated(recurrent, kind.order))]
    if p is not None:
        found.append(("weight_peephole" + end, regated(p, PEEPHOLES)))
    return found


def regated(array: Array, order: Sequence[int]) -> Array:
    """The gates' blocks of rows in another order."""
    blocks = np.split(array, len(order))
    return np.concatenate([blocks[at] for at in order])


def run(layer: Recurrent, found: Spec, x: Array, lengths: Array | None, states: Sequence[Array | None]) -> list[Array]:
    """Y, Y_h and, of an LSTM, Y_c in ONNX's layout, for X and the states in it."""
    batch_axis = 0 if found.batch_first else 1
    if x.ndim != 3:
        raise ValueError(f"got X of shape {x.shape}, expected three axes")
    rows = np.ascontiguousarray(x if found.batch_first else x.swapaxes(0, 1), layer.dtype)
    valid = np.full(len(rows), rows.shape[1]) if lengths is None else np.asarray(lengths)
    own = [
        None if one is None else np.ascontiguousarray(one.swapaxes(0, 1) if found.batch_first else one, layer.dtype)
        for one in states
    ]
    state: Any = None
    if any(one is not None for one in own):
        zeros = layer.state_zeros(x.shape[batch_axis])
        filled = [zero if one is None else one for one, zero in zip(own, zeros, strict=True)]
        state = tuple(filled) if len(filled) > 1 else filled[0]
    y, final = layer(turned(rows, valid) if found.backwards else rows, state, None if lengths is None else valid)
    y = turned(y, valid) if found.backwards else y
    y = y.reshape(*y.shape[:2], found.directions, -1)
    y = y if found.batch_first else y.transpose(1, 2, 0, 3)
    finals = final if isinstance(final, tuple) else (final,)
    return [
        one.astype(x.dtype, copy=False) for one in (y, *(s.swapaxes(0, 1) if found.batch_first else s for s in finals))
    ]


def turned(rows: Array, valid: Array) -> Array:
    """The valid steps of each row, the last one first."""
    steps = np.arange(rows.shape[1])
    places = np.where(steps < valid[:, None], valid[:, None] - 1 - steps, steps)
    found: Array = np.take_along_axis(rows, places[..., None], 1)
    return found
