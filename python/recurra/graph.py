"""Layers and the values that pass between them, as plain data: what a model computes, not how."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from recurra.typing import Array

if TYPE_CHECKING:
    from recurra.leaf import LeafLayer


def pack(values: Sequence[Any]) -> Any:
    """Values as programs take them: one as it is, several in a tuple."""
    return values[0] if len(values) == 1 else tuple(values)


def unpack(values: Any, count: int) -> Sequence[Any]:
    """The same values in a list; None stands for None everywhere."""
    return [values] * count if count == 1 or values is None else values


@dataclass(frozen=True)
class Port:
    """An input. kind: "features", "tokens" or "any"; size: features or different tokens, None for any; axis: "sequence",
    "vector" (no time) or "either"."""

    kind: str = "any"
    size: int | None = None
    axis: str = "either"
    name: str | None = None


@dataclass(frozen=True)
class Node:
    """A layer at work: the values it reads and, for each array of its state, the vector it begins with; None: the model's
    own state says. Its output is value `output`, its final states the ones behind."""

    layer: LeafLayer
    inputs: tuple[int, ...]
    states: tuple[int | None, ...]
    output: int

    @property
    def own_states(self) -> list[int]:
        """Which arrays of its state are the model's own."""
        return [index for index, value in enumerate(self.states) if value is None]


@dataclass(frozen=True)
class Graph:
    """Values are numbered: the inputs, then for each node its output and its final states."""

    inputs: tuple[Port, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[int, ...]

    @classmethod
    def build(
        cls,
        inputs: Sequence[Port],
        nodes: Sequence[tuple[LeafLayer, Sequence[int], Sequence[int | None]]],
        outputs: Sequence[int],
    ) -> Graph:
        """From layers, the values each reads, and what its states begin with (empty: all are the model's own)."""
        numbered = []
        following = len(inputs)
        for layer, reads, states in nodes:
            begin = tuple(states) or (None,) * len(layer.state_names)
            numbered.append(Node(layer, tuple(reads), begin, following))
            following += 1 + len(layer.state_names)
        return cls(tuple(inputs), tuple(numbered), tuple(outputs))

    @classmethod
    def chain(cls, layers: Sequence[LeafLayer]) -> Graph:
        """Layers in a row."""
        nodes: list[tuple[LeafLayer, Sequence[int], Sequence[int | None]]] = []
        last, following = 0, 1
        for layer in layers:
            nodes.append((layer, [last], []))
            last, following = following, following + 1 + len(layer.state_names)
        return cls.build([Port(layers[0].input_kind, layers[0].input_size)], nodes, [last])

    @cached_property
    def layers(self) -> tuple[LeafLayer, ...]:
        """Each layer once, in the order in which they are first at work."""
        return tuple({id(node.layer): node.layer for node in self.nodes}.values())

    @property
    def count(self) -> int:
        """How many values there are."""
        last = self.nodes[-1]
        return last.output + 1 + len(last.states)

    def lengths(self, given: Sequence[Array | None]) -> list[Array | None]:
        """The valid steps of every value, from those of the inputs; None where all are or there is no time."""
        return self._carried(given, lambda node, lengths: node.layer.output_lengths(lengths[node.inputs[0]]))

    def resets(self, given: Sequence[Array | None], lengths: Sequence[Array | None]) -> list[Array | None]:
        """The resets of every value, given its lengths."""
        return self._carried(
            given, lambda node, resets: node.layer.output_reset(resets[node.inputs[0]], lengths[node.inputs[0]])
        )

    def _carried(
        self, given: Sequence[Array | None], follow: Callable[[Node, list[Array | None]], Array | None]
    ) -> list[Array | None]:
        values: list[Array | None] = [*given, *[None] * (self.count - len(given))]
        for node in self.nodes:
            values[node.output] = follow(node, values)
        return values

    @cached_property
    def sources(self) -> list[int | None]:
        """For every value the input whose time axis it has, or its layers have made their own from; None for vectors."""
        found: list[int | None] = [
            None if port.axis == "vector" else index for index, port in enumerate(self.inputs)
        ] + [None] * (self.count - len(self.inputs))
        for node in self.nodes:
            if node.layer.return_sequences:
                found[node.output] = found[node.inputs[0]]
        return found

    def why_not_streamable(self) -> str | None:
        """What keeps a graph of layers that can all be streamed from it; None if nothing does."""
        outputs = {node.output for node in self.nodes}
        read = {value for node in self.nodes for value in (*node.inputs, *node.states)} | set(self.outputs)
        for index, port in enumerate(self.inputs):
            if port.axis == "vector":
                return f"input {index}, which has no time axis"
        if any(len(node.own_states) < len(node.states) for node in self.nodes):
            return "a layer that begins with another one's final state"
        if read - outputs - set(range(len(self.inputs))) - {None}:
            return "a layer that reads another one's final state, or has it as output"
        return None
