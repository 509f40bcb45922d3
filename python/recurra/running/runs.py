"""A graph cut into runs: one program for native neighbours, one for each layer written in Python."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

from recurra import _core
from recurra.common.typing import Array
from recurra.graph.graph import Graph, Node, unpack
from recurra.running.python_program import PythonProgram

if TYPE_CHECKING:
    from recurra.layers.native import NativeLayer
    from recurra.running.stream import StreamPiece
    from recurra.running.tape import TapePiece


class Program(Protocol):
    """The program of one run: `_core.Program`, or its counterpart for a layer written in Python.

    Arguments for several inputs are tuples, for a single one plain; the same for outputs.
    """

    def forward(
        self, x: Any, lengths: Any, reset: Any, state: Sequence[Array] | None, time_major: bool
    ) -> tuple[Any, list[Array]]: ...

    def record(
        self,
        x: Any,
        lengths: Any,
        reset: Any,
        state: Sequence[Array] | None,
        time_major: bool,
        training: bool,
        input_grad: Any,
        seed: int,
        memory_budget: int | None,
        finishes: bool,
        first_row: int,
    ) -> TapePiece: ...

    def stream(self, batch_size: int) -> StreamPiece: ...


class Run(NamedTuple):
    """The nodes of one program, its input and output values, and the slice of its arrays in the flat state."""

    program: Program
    nodes: tuple[Node, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    states: slice

    def pick(self, flat: list[Any] | None) -> list[Any] | None:
        """This run's part of a flat state; None if it is empty."""
        return (flat[self.states] or None) if flat is not None else None

    def made(self, y: Any) -> Iterable[tuple[int, Any]]:
        """The program's outputs by value number."""
        return zip(self.outputs, unpack(y, len(self.outputs)), strict=True)


def cut(owner: str, graph: Graph) -> list[Run]:
    """The runs, in order."""
    # Each layer written in Python has a unique key, and so is a run by itself.
    groups = [
        tuple(node for _index, node in neighbours)
        for _key, neighbours in groupby(
            enumerate(graph.nodes), lambda item: "native" if item[1].layer.native else item[0]
        )
    ]
    runs = []
    begin = 0
    for place, nodes in enumerate(groups):
        first, last = nodes[0].output, nodes[-1].output + len(nodes[-1].states)
        read = {value for node in nodes for value in (*node.inputs, *node.states) if value is not None}
        inputs = tuple(sorted(value for value in read if value < first))
        later = [value for group in groups[place + 1 :] for node in group for value in (*node.inputs, *node.states)]
        wanted = dict.fromkeys(value for value in (*graph.outputs, *later) if value is not None)
        outputs = tuple(value for value in wanted if first <= value <= last)
        end = begin + sum(len(node.own_states) for node in nodes)
        program: Program
        if nodes[0].layer.native:
            program = _native_program(owner, graph, nodes, inputs, outputs)
        else:
            program = PythonProgram(nodes[0].layer)  # type: ignore[arg-type]
        runs.append(Run(program, nodes, inputs, outputs, slice(begin, end)))
        begin = end
    return runs


def _native_program(
    owner: str, graph: Graph, nodes: Sequence[Node], inputs: Sequence[int], outputs: Sequence[int]
) -> _core.Program:
    number = {value: index for index, value in enumerate(inputs)}
    ports = []
    for value in inputs:
        port = graph.inputs[value] if value < len(graph.inputs) else None
        ports.append((port.axis, port.size or 0) if port else ("either", 0))
    listed = []
    following = len(inputs)
    for node in nodes:
        begin = [-1 if value is None else number[value] for value in node.states]
        listed.append((cast("NativeLayer", node.layer).core, [number[value] for value in node.inputs], begin))
        for offset in range(1 + len(node.states)):
            number[node.output + offset] = following + offset
        following += 1 + len(node.states)
    return _core.Program(owner, ports, listed, [number[value] for value in outputs])
