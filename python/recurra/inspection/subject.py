"""The model under diagnosis: its data and recurrent parts; the model is left unchanged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from recurra.common import interrupts
from recurra.common.typing import Array
from recurra.data.feed import Feed
from recurra.graph.graph import Node
from recurra.layers.attention import AttentionDecoder
from recurra.layers.layer import Layer
from recurra.layers.leaf import LeafLayer
from recurra.layers.recurrent.recurrent import Recurrent
from recurra.objective.trainable import Trainable
from recurra.running.tape import Tape

if TYPE_CHECKING:
    from recurra import _core


class Part(NamedTuple):
    """One layer and direction of a call of a recurrent layer.

    `node` is the index in the graph's nodes, `slot` that among the layers and directions of its stack; `prefix` and
    `end` are the prefix and suffix of the names of its parameters.
    """

    node: int
    slot: int
    name: str
    layer: int
    label: str
    cell: str
    reverse: bool
    prefix: str
    end: str


class Activity(NamedTuple):
    """A part's activity in a recorded forward: h (N, T, size), the values saved for backward (N, T, values, H), c (N,
    T, H) or None; zeros past the lengths (N,)."""

    part: Part
    h: Array
    kept: Array
    c: Array | None
    lengths: Array


class Subject:
    """A model and its data, checked and converted as by `fit`.

    `given` is the layer under diagnosis, if `model` merely wraps it: its parameters' names then have no prefix.
    `first_row` is the number of the first row in the batch that x is a part of.
    """

    def __init__(
        self,
        operation: str,
        model: Trainable,
        x: Any,
        lengths: Any,
        given: Layer | None = None,
        first_row: int = 0,
    ) -> None:
        self.operation, self.first_row = operation, first_row
        self.model = model
        feed = Feed(operation, self.model, x, lengths)
        if not len(feed):
            raise ValueError(f"{operation}: got x without rows, expected at least one; give some data")
        self.feed = feed
        self.x, self.lengths = feed.batch(slice(None))
        self.graph = self.model._graph()
        self.place = {id(layer): index for index, layer in enumerate(self.graph.layers)}
        self.prefix = {id(layer): prefix for prefix, layer in (given or model).leaves}

    def inputs(self) -> list[Array]:
        """The input arrays."""
        return self.model.structures[0].spread(self.operation, "x", self.x)

    def valid(self) -> list[Array | None]:
        """The lengths of every value of the graph; None where every step is valid or there is no time axis."""
        given = self.model.structures[0].spread_optional(self.operation, "lengths", self.lengths)
        return self.graph.lengths([None if one is None else np.asarray(one) for one in given])

    def node_name(self, index: int) -> str:
        """The name of a node in messages."""
        node = self.graph.nodes[index]
        calls = [place for place, other in enumerate(self.graph.nodes) if other.layer is node.layer]
        again = f" (call {calls.index(index) + 1})" if len(calls) > 1 else ""
        return f"{self.prefix[id(node.layer)]}{node.layer.label}{again}"

    def parts(self) -> list[Part]:
        """The recurrent parts, in the order in which they run."""
        found = []
        for index, node in enumerate(self.graph.nodes):
            layer, name, place = node.layer, self.node_name(index), self.place[id(node.layer)]
            prefix = self.prefix[id(layer)]
            for slot, (cell, inner, reverse) in enumerate(_slots(layer)):
                end = f"_l{inner}" + ("_reverse" if reverse else "")
                alone = len(_slots(layer)) == 1
                own = name if alone else f"{name} {end[1:]}"
                found.append(Part(index, slot, own, place, layer.label, cell, reverse, prefix, end))
        return found

    def need_parts(self) -> list[Part]:
        """The recurrent parts; raises ValueError if there are none."""
        parts = self.parts()
        if not parts:
            names = ", ".join(layer.label for layer in self.graph.layers)
            raise ValueError(
                f"{self.operation}: got a model of {names}, expected one with a recurrent layer; give such a model"
            )
        return parts

    def node_lengths(self, node: Node, steps: int, rows: int) -> Array:
        """The lengths of a node's input; `steps` for each of `rows` rows if every step is valid."""
        own = self.valid()[node.inputs[0]]
        return np.full(rows, steps) if own is None else own

    def activity(self, tape: Tape) -> Iterator[Activity]:
        """The activity of the parts in a recorded forward of the model."""
        read: list[tuple[Array, Array, Array | None]] = []
        for part in self.parts():
            if part.slot == 0:
                piece, index = self.place_of(tape, part.node)
                read = piece.activity(index)
            h, kept, c = read[part.slot]
            rows, steps = h.shape[:2]
            units = h.shape[2] if c is None else c.shape[2]
            values = kept.reshape(rows, steps, kept.shape[2] // units, units)
            yield Activity(part, h, values, c, self.node_lengths(self.graph.nodes[part.node], steps, rows))

    def place_of(self, tape: Tape, node: int) -> tuple[_core.Tape, int]:
        """The native tape that ran a node, and the node's index in it."""
        for piece, run in tape.pieces:
            if node < len(run.nodes):
                return cast("_core.Tape", piece), node
            node -= len(run.nodes)
        raise AssertionError(node)

    @contextmanager
    def untouched(self) -> Iterator[None]:
        """Within the block, gradients start at zero; on exit, they and the buffers are restored, even after an
        exception."""
        layers = self.graph.layers
        grads = [{name: array.copy() for name, array in layer.grads.items()} for layer in layers]
        buffers = [{name: array.copy() for name, array in layer.own_buffers.items()} for layer in layers]
        try:
            for layer in layers:
                layer.zero_grad()
            yield
        finally:
            with interrupts.deferred():
                for layer, own, kept in zip(layers, grads, buffers, strict=True):
                    for name, array in own.items():
                        layer.grads[name] = array
                    for name, array in kept.items():
                        layer.own_buffers[name][...] = array


def _slots(layer: LeafLayer) -> Sequence[tuple[str, int, bool]]:
    """The cell, layer and direction of each part of a layer; empty if it is not recurrent."""
    if isinstance(layer, AttentionDecoder):
        return [(layer.core_cell, 0, False)]
    if not isinstance(layer, Recurrent):
        return []
    directions = (False, True) if layer.bidirectional else (False,)
    return [(layer._cell(), inner, reverse) for inner in range(layer.num_layers) for reverse in directions]
