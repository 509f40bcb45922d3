"""A model cut for generation: what runs once, and what runs at every step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np

from recurra import _core
from recurra.common.structure import Structure
from recurra.common.typing import Array, State
from recurra.graph.graph import Graph, Node
from recurra.graph.part import part
from recurra.layers.attention import AdditiveAttention, AttentionDecoder, MultiplicativeAttention
from recurra.layers.repeat import LearntVector
from recurra.running.runner import Runner
from recurra.running.runs import cut

_ATTENDING = (AdditiveAttention, AttentionDecoder, MultiplicativeAttention)

#: What is not a fed input of the native generation.
GIVEN, MEMORY = -1, -2


class Prepared(NamedTuple):
    """The arguments of a native generation: for each input of the program its array, lengths and use, and the state."""

    x: list[Array]
    lengths: list[Array | None]
    feeds: list[int]
    state: list[Array] | None


class StepPart:
    """The part of a graph that runs at every step, as a native program, and the part before it.

    Nodes that do not depend on the inputs that are fed back run once, over whole sequences: an encoder, a style. A
    graph that can be streamed runs step by step as a whole, as its stream would.

    Args:
        owner: the model's name.
        fed: for each of the graph's inputs the output that feeds it, None if it is given.
    """

    def __init__(self, owner: str, graph: Graph, fed: Sequence[int | None]) -> None:
        self._owner, self._graph, self._fed = owner, graph, fed
        streams = all(layer.why_not_streamable() is None for layer in graph.layers) and not graph.why_not_streamable()
        self._before: list[Node] = []
        self._during = list(graph.nodes)
        if not streams:
            changing = {index for index, output in enumerate(fed) if output is not None}
            self._before, self._during = _split(graph.nodes, changing)
        self._check()
        outputs = graph.outputs
        during, self._inputs = part(graph, self._during, outputs)
        runs = cut(owner, during)
        self.program = cast("_core.Program", runs[0].program)
        self._memories = {
            value for node in self._during if isinstance(node.layer, _ATTENDING) for value in node.inputs[1:]
        }
        #: Whether the state of a generation is the model's.
        self.keeps_state = not self._before

    def _check(self) -> None:
        graph, owner = self._graph, self._owner
        made = {value for node in self._during for value in range(node.output, node.output + 1 + len(node.states))}
        for value in graph.outputs:
            if value not in made:
                raise ValueError(
                    f"{owner}: got a model with an output that does not depend on what is generated, expected the "
                    "scores of a next step; give the other inputs alone in given="
                )
        for node in self._during:
            layer = node.layer
            if not layer.native:
                raise TypeError(
                    f"{owner}: got a model with {layer.label}, which is written in Python, expected native layers "
                    "where a step depends on the one before it; step model.stream() instead"
                )
            why = None if isinstance(layer, _ATTENDING) else layer.why_not_streamable()
            if why:
                raise ValueError(f"{owner}: got {layer.label}, expected layers that can run step by step; it {why}")
            if any(value in made for value in node.states):
                raise ValueError(
                    f"{owner}: got {layer.label} whose state comes from a layer that reads what is generated, expected "
                    "one that is carried from step to step; let the state come from the given inputs"
                )
            for value in node.inputs[1:]:
                if isinstance(layer, _ATTENDING) and value in made:
                    raise ValueError(
                        f"{owner}: got {layer.label} that attends to what is generated, expected a memory that is "
                        "known before; let it come from the given inputs"
                    )

    def prepare(
        self, x: Sequence[Array], lengths: Sequence[Array | None], state: list[Array | None] | None
    ) -> Prepared:
        """The arguments for inputs of the whole graph, prompts where they are fed, and its flat state."""
        values: dict[int, tuple[Array, Array | None]] = dict(enumerate(zip(x, lengths, strict=True)))
        states: dict[int, Array | None] = self._own_states(state)
        if self._before:
            self._run_before(values, states)
        given = [values[value] for value in self._inputs]
        flat: list[Array | None] = []
        for node in self._during:
            for index, value in enumerate(node.states):
                specified = self._shaped(node, index, values[value][0]) if value is not None else None
                flat.append(states.get(node.output + 1 + index) if value is None else specified)
        everything = [array for node in self._during for array in node.layer.state_zeros(len(given[0][0]))]
        filled = [zero if array is None else array for zero, array in zip(everything, flat, strict=True)]
        feeds = [
            MEMORY if value in self._memories else GIVEN if value >= len(self._fed) or self._fed[value] is None
            else cast("int", self._fed[value])
            for value in self._inputs
        ]  # fmt: skip
        return Prepared([array for array, _ in given], [valid for _, valid in given], feeds, filled or None)

    def _own_states(self, state: list[Array | None] | None) -> dict[int, Array | None]:
        """The model's own states by the values that they become."""
        places = [node.output + 1 + index for node in self._graph.nodes for index in node.own_states]
        return dict(zip(places, state or [None] * len(places), strict=True))

    def _shaped(self, node: Node, index: int, vector: Array) -> Array:
        """A vector (N, count * size) as a state (count, N, size)."""
        count, _rows, size = node.layer.state_zeros(0)[index].shape
        return np.ascontiguousarray(vector.reshape(len(vector), count, size).swapaxes(0, 1))

    def _run_before(self, values: dict[int, tuple[Array, Array | None]], states: dict[int, Array | None]) -> None:
        wanted = [value for value in self._inputs if value >= len(self._fed)]
        wanted += [
            value for node in self._during for value in node.states if value is not None and value >= len(self._fed)
        ]
        wanted = list(dict.fromkeys(wanted))
        if not wanted:
            return
        graph, inputs = part(self._graph, self._before, wanted)
        runner = Runner(
            self._owner, graph, alone=False, inputs=_structure(len(inputs)), outputs=_structure(len(wanted))
        )
        own: State = [
            _entry([states.get(node.output + 1 + index) for index in node.own_states]) for node in self._before
        ]
        arrays = [values[value][0] for value in inputs]
        valid = [values[value][1] for value in inputs]
        y, _final = runner.forward(runner.inputs.join(arrays), own, runner.inputs.join(valid), None)
        made = graph.lengths(valid)
        for value, array, number in zip(wanted, runner.outputs.spread(self._owner, "y", y), graph.outputs, strict=True):
            values[value] = array, made[number]


def _structure(count: int) -> Structure:
    return Structure(None if count == 1 else count)


def _entry(arrays: list[Any]) -> Any:
    """A layer's entry in a state."""
    if not arrays or all(array is None for array in arrays):
        return None
    return arrays[0] if len(arrays) == 1 else tuple(arrays)


def _split(nodes: Sequence[Node], changing: set[int]) -> tuple[list[Node], list[Node]]:
    """The nodes that do not depend on the values `changing`, and the others."""
    changing = set(changing)
    before, during = [], []
    for node in nodes:
        read = (*node.inputs, *(value for value in node.states if value is not None))
        if isinstance(node.layer, LearntVector) or changing.isdisjoint(read):  # of x, that counts the rows alone
            before.append(node)
            continue
        during.append(node)
        changing.update(range(node.output, node.output + 1 + len(node.states)))
    return before, during
