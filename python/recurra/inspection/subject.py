"""The model under diagnosis: its recurrent parts, what goes in, and a promise to leave it as it was."""

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
    """One layer and direction of a recurrent layer at work.

    `node` is its place among the graph's nodes, `slot` that among the layers and directions of its stack; `prefix` and
    `end` stand around the names of its parameters.
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
    """What a part did in a recorded forward: h (N, T, size), what the cell kept beside it (N, T, values, H), c (N, T, H)
    or None, zeros past the lengths (N,)."""

    part: Part
    h: Array
    kept: Array
    c: Array | None
    lengths: Array


class Subject:
    """A model and its data, checked and converted as `fit` does.

    `given` is what was asked about, if that is a layer of the model alone, whose parameters' names have no number before them.
    """

    def __init__(self, operation: str, model: Trainable, x: Any, lengths: Any, given: Layer | None = None) -> None:
        self.operation = operation
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
        """The arrays that go in."""
        return self.model.structures[0].spread(self.operation, "x", self.x)

    def valid(self) -> list[Array | None]:
        """The valid steps of every value of the graph; None where all are or there is no time."""
        given = self.model.structures[0].spread_optional(self.operation, "lengths", self.lengths)
        return self.graph.lengths([None if one is None else np.asarray(one) for one in given])

    def node_name(self, index: int) -> str:
        """What messages call a layer at work."""
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
        """The same; a ValueError if there are none."""
        parts = self.parts()
        if not parts:
            names = ", ".join(layer.label for layer in self.graph.layers)
            raise ValueError(
                f"{self.operation}: got a model of {names}, expected one with a recurrent layer; there is nothing to look at"
            )
        return parts

    def node_lengths(self, node: Node, steps: int, rows: int) -> Array:
        """The valid steps that a node sees, of so many."""
        own = self.valid()[node.inputs[0]]
        return np.full(rows, steps) if own is None else own

    def activity(self, tape: Tape) -> Iterator[Activity]:
        """What the parts did in a recorded forward of the model."""
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
        """The piece of a tape that ran a node of the core, and the node's place in it."""
        for piece, run in tape.pieces:
            if node < len(run.nodes):
                return cast("_core.Tape", piece), node
            node -= len(run.nodes)
        raise AssertionError(node)

    @contextmanager
    def untouched(self) -> Iterator[None]:
        """Gradients start at zero inside; they and the buffers are as they were outside, whatever happens."""
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
    """The cell, layer and direction of each part of a layer; none of one that is not recurrent."""
    if isinstance(layer, AttentionDecoder):
        return [(layer.core_cell, 0, False)]
    if not isinstance(layer, Recurrent):
        return []
    directions = (False, True) if layer.bidirectional else (False,)
    return [(layer._cell(), inner, reverse) for inner in range(layer.num_layers) for reverse in directions]
