"""Layers and the values that pass between them, as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from recurra.common.typing import Array

if TYPE_CHECKING:
    from recurra import _core
    from recurra.layers.leaf import LeafLayer


def pack(values: Sequence[Any]) -> Any:
    """Values as programs take them: a single one as is, several as a tuple."""
    return values[0] if len(values) == 1 else tuple(values)


def unpack(values: Any, count: int) -> Sequence[Any]:
    """The inverse of `pack`; None stands for None everywhere."""
    return [values] * count if count == 1 or values is None else values


class Port(NamedTuple):
    """An input. kind: "features", "tokens" or "any"; size: number of features or of distinct tokens, None for any;
    axis: "sequence", "vector" (no time axis) or "either"; dtype: float32 or float64, None for the layers' dtype;
    mask_value: what padding holds, None for no mask of its own."""

    kind: str = "any"
    size: int | None = None
    axis: str = "either"
    name: str | None = None
    dtype: str | None = None
    mask_value: float | None = None

    def valid_steps(self, x: Array) -> Array | None:
        """(N, T) bool: which steps of x are no padding; None if its values do not say so."""
        if self.mask_value is None:
            return None
        differs = np.asarray(x != self.mask_value)
        return differs if self.kind == "tokens" else np.asarray(differs.any(-1))


class Node:
    """One call of a layer: the values it reads and, for each array of its state, the value with the initial state, or
    None for the model's own state. Its output is value `output`; its final states are the values after it."""

    def __init__(self, layer: LeafLayer, inputs: Sequence[int], states: Sequence[int | None], output: int) -> None:
        self.layer, self.inputs, self.states, self.output = layer, tuple(inputs), tuple(states), output

    @cached_property
    def own_states(self) -> list[int]:
        """The arrays of its state that belong to the model's own state."""
        return [index for index, value in enumerate(self.states) if value is None]


class Graph:
    """Values are numbered: the inputs, then for each node its output and its final states.

    Built from layers, the values each reads, and its initial states (empty: all are the model's own).
    """

    def __init__(
        self,
        inputs: Sequence[Port],
        nodes: Sequence[tuple[LeafLayer, Sequence[int], Sequence[int | None]]],
        outputs: Sequence[int],
    ) -> None:
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        numbered = []
        following = len(inputs)
        for layer, reads, states in nodes:
            numbered.append(Node(layer, reads, states or [None] * len(layer.state_names), following))
            following += 1 + len(layer.state_names)
        self.nodes = tuple(numbered)
        self.count = following  # of values

    @classmethod
    def chain(cls, graphs: Sequence[Graph]) -> Graph:
        """The composition of graphs: the inputs of each are the outputs of the one before."""
        ports = graphs[0].inputs
        given: Sequence[int] = range(len(ports))
        following = len(ports)
        nodes: list[tuple[LeafLayer, Sequence[int], Sequence[int | None]]] = []
        for graph in graphs:
            number = dict(enumerate(given))
            for node in graph.nodes:
                begin = [None if value is None else number[value] for value in node.states]
                nodes.append((node.layer, [number[value] for value in node.inputs], begin))
                for offset in range(1 + len(node.states)):
                    number[node.output + offset] = following + offset
                following += 1 + len(node.states)
            given = [number[value] for value in graph.outputs]
        return cls(ports, nodes, given)

    @cached_property
    def layers(self) -> tuple[LeafLayer, ...]:
        """Each layer once, in the order of first use."""
        return tuple({id(node.layer): node.layer for node in self.nodes}.values())

    @property
    def is_chain(self) -> bool:
        """Whether every layer reads the output of the one before alone, from the input to the output."""
        made = [0, *(node.output for node in self.nodes)]
        reads = [node.inputs == (before,) for node, before in zip(self.nodes, made, strict=False)]
        once = len(self.layers) == len(self.nodes)
        return once and all(reads) and len(self.inputs) == 1 and self.outputs == (made[-1],)

    @property
    def finds_masks(self) -> bool:
        """Whether inputs say by their values which steps are padding."""
        return any(port.mask_value is not None for port in self.inputs)

    @property
    def all_parameters(self) -> list[_core.Parameters]:
        """The parameters of all layers."""
        return [one for layer in self.layers for one in layer.all_parameters]

    @cached_property
    def all_native(self) -> bool:
        """Whether all layers are native, so that the graph runs as one program."""
        return all(layer.native for layer in self.layers)

    def lengths(self, given: Sequence[Array | None]) -> list[Array | None]:
        """The lengths of every value, given those of the inputs; None where every step is valid or there is no time
        axis."""
        values = self.spread(given)
        self.follow(self.nodes, values, self.spread([]))
        return values

    def spread(self, given: Sequence[Array | None]) -> list[Array | None]:
        """One entry per value: those given for the inputs, None for all others."""
        return [*given, *[None] * (self.count - len(given))]

    def follow(self, nodes: Sequence[Node], lengths: list[Array | None], resets: list[Array | None]) -> None:
        """Fill in the lengths and resets of the outputs of these nodes."""
        for node in nodes:
            valid, reset = lengths[node.inputs[0]], resets[node.inputs[0]]
            if node.layer.made_steps is not None:
                rows = next((len(one) for one in lengths[: len(self.inputs)] if one is not None), None)
                valid = None if rows is None else np.full(rows, node.layer.made_steps)
            lengths[node.output] = node.layer.output_lengths(valid)
            resets[node.output] = node.layer.output_reset(reset, valid)

    @cached_property
    def sources(self) -> list[int | None]:
        """For every value, the input that its time axis comes from; None for vectors."""
        behind = [
            *range(len(self.inputs)),
            *[0] * (self.count - len(self.inputs)),
        ]  # the input that a value's rows come from
        found: list[int | None] = [None if port.axis == "vector" else at for at, port in enumerate(self.inputs)]
        found += [None] * (self.count - len(self.inputs))
        for node in self.nodes:
            first = node.inputs[0]
            behind[node.output : node.output + 1 + len(node.states)] = [behind[first]] * (1 + len(node.states))
            if node.layer.made_steps is not None:
                found[node.output] = behind[first]
            elif node.layer.return_sequences:
                found[node.output] = found[first]
        return found

    @cached_property
    def makes_time(self) -> list[bool]:
        """For every value, whether a layer made its time axis from vectors, so that it is no input's."""
        found = [False] * self.count
        for node in self.nodes:
            layer = node.layer
            found[node.output] = layer.made_steps is not None or (layer.return_sequences and found[node.inputs[0]])
        return found

    @cached_property
    def keeps_steps(self) -> list[bool]:
        """For every value, whether its steps are those of its source."""
        found = [True] * len(self.inputs) + [False] * (self.count - len(self.inputs))
        for node in self.nodes:
            layer = node.layer
            keeps = layer.made_steps is None and layer.return_sequences and layer.keeps_steps
            found[node.output] = keeps and found[node.inputs[0]]
        return found

    @cached_property
    def needs_sequences(self) -> list[bool]:
        """For every value, whether it must have a time axis, because a layer that reads it, or one further on, needs
        it."""
        needs = [port.axis == "sequence" for port in self.inputs] + [False] * (self.count - len(self.inputs))
        for node in reversed(self.nodes):
            layer = node.layer
            if layer.made_steps is not None:
                continue
            own = layer.needs_sequences or (layer.return_sequences and needs[node.output])
            for index, value in enumerate(node.inputs):
                needs[value] |= own or (index > 0 and not layer.joins)
        return needs

    def axes(self, given: Sequence[str]) -> list[str]:
        """The axes of the outputs, "sequence", "vector" or "either", given those of the inputs."""
        found = [*given, *["vector"] * (self.count - len(given))]
        for node in self.nodes:
            if node.layer.made_steps is not None:
                found[node.output] = "sequence"
            elif node.layer.return_sequences:
                found[node.output] = found[node.inputs[0]]
        return [found[value] for value in self.outputs]

    @cached_property
    def names(self) -> list[str]:
        """The values' names in `summary` and `repr`: an input's name or x0, x1, ...; then v0, v0.state.h, ..., v1,
        ..."""
        found = [port.name or f"x{index}" for index, port in enumerate(self.inputs)]
        for index, node in enumerate(self.nodes):
            found += [f"v{index}", *(f"v{index}.state.{name}" for name in node.layer.state_names)]
        return found

    def reads(self, node: Node) -> list[str]:
        """The names of a node's inputs and initial states."""
        begin = [self.names[value] for value in node.states if value is not None]
        return [*(self.names[value] for value in node.inputs), *(f"state={name}" for name in begin)]

    @cached_property
    def features(self) -> list[int | None]:
        """The number of features of every value; None if known only at run time."""
        return self.features_from([None if port.kind == "tokens" else port.size for port in self.inputs])

    def features_from(self, given: Sequence[int | None]) -> list[int | None]:
        """The number of features of every value, given each input's."""
        found = list(given)
        for node in self.nodes:
            found.append(node.layer.joined_features([found[value] for value in node.inputs]))
            found += [array.shape[0] * array.shape[2] for array in node.layer.state_zeros(0)]
        return found

    def why_not_streamable(self) -> str | None:
        """Why a graph of streamable layers cannot be streamed; None if it can."""
        outputs = {node.output for node in self.nodes}
        read = {value for node in self.nodes for value in (*node.inputs, *node.states)} | set(self.outputs)
        for index, port in enumerate(self.inputs):
            if port.axis == "vector":
                return f"input {index}, which has no time axis"
        if any(len(node.own_states) < len(node.states) for node in self.nodes):
            return "a layer whose initial state is another layer's final state"
        if read - outputs - set(range(len(self.inputs))) - {None}:
            return "a layer's final state used as an input or output"
        return None
