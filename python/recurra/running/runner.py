"""Runs a graph of layers, cut at the layers written in Python; what lies between them is one native call each."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, cast

import numpy as np

from recurra import _core
from recurra.common import checks, seeds
from recurra.common.structure import ALONE, Structure
from recurra.common.typing import Array, State
from recurra.graph.forms import Form
from recurra.graph.graph import Graph, Node, pack, unpack
from recurra.running.python_program import PythonProgram
from recurra.running.state import StateLayout
from recurra.running.stream import Stream, StreamPiece
from recurra.running.tape import Tape, TapePiece

if TYPE_CHECKING:
    from recurra.layers.native import NativeLayer

#: A call's inputs, flat state, lengths and resets as programs take them, and how its results are written.
_Arguments: TypeAlias = "tuple[list[Array], list[Array] | None, list[Array | None], list[Array | None], Form | None]"


class Program(Protocol):
    """What runs one run: `_core.Program`, or its twin for a layer written in Python.

    What belongs to the inputs is given in a tuple if there are several, else as it is; the same for the outputs.
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
    ) -> TapePiece: ...

    def stream(self, batch_size: int) -> StreamPiece: ...


class Run(NamedTuple):
    """Nodes that one program runs, the values it takes and makes, and the place of its arrays in the flat state."""

    program: Program
    nodes: tuple[Node, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    states: slice

    def pick(self, flat: list[Any] | None) -> list[Any] | None:
        """This run's part of a flat state; None where there is nothing to give."""
        return (flat[self.states] or None) if flat is not None else None

    def made(self, y: Any) -> Iterable[tuple[int, Any]]:
        """What the program returned, by the values' numbers."""
        return zip(self.outputs, unpack(y, len(self.outputs)), strict=True)


def _cut(owner: str, graph: Graph) -> list[Run]:
    # A layer written in Python has a key of its own, so that it makes a run alone.
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


def _copies(arrays: Sequence[Array | None]) -> list[Array | None]:
    """So that layers written in Python see the same as all others, whatever the caller does to its arrays."""
    return [None if one is None else one.copy() for one in arrays]


class _Call:
    """The values of a call, as far as they are made, their lengths and resets."""

    def __init__(
        self, graph: Graph, x: Sequence[Array], lengths: Sequence[Array | None], resets: Sequence[Array | None]
    ) -> None:
        self._graph = graph
        self.values: dict[int, Array] = dict(enumerate(x))
        self._lengths, self._resets = graph.spread(lengths), graph.spread(resets)

    def given(self, run: Run) -> tuple[Any, Any, Any]:
        """What the run's program takes."""
        taken = (self.values, self._lengths, self._resets)
        x, lengths, resets = (pack([one[value] for value in run.inputs]) for one in taken)
        return x, lengths, resets

    def take(self, run: Run, y: Any) -> None:
        """What it made. It has checked lengths and resets, so that layers can say what becomes of them."""
        self.values.update(run.made(y))
        self._graph.follow(run.nodes, self._lengths, self._resets)


class Runner:
    """Runs a graph forwards, records it, streams it: the one way that layers alone and models are run."""

    def __init__(
        self,
        owner: str,
        graph: Graph,
        *,
        alone: bool,
        inputs: Structure = ALONE,
        outputs: Structure = ALONE,
        time_major: bool = False,
    ) -> None:
        self._owner, self._graph, self._time_major = owner, graph, time_major
        self.inputs, self.outputs = inputs, outputs
        self._runs = _cut(owner, graph)
        #: What runs all of it, if one native program does.
        self._whole = self._runs[0].program if len(self._runs) == 1 and graph.all_native else None
        self._wanted: dict[bool, list[bool]] = {}
        self.layout = StateLayout(owner, graph.nodes, alone)
        #: By input: the axes of x without a batch axis; -1 where that cannot be told, as vectors have as many.
        self._ranks = [
            {"features": 2, "tokens": 1}.get(port.kind, -1) if needs else -1
            for port, needs in zip(graph.inputs, graph.needs_sequences, strict=False)
        ]
        self._rank = self._ranks[0]

    def _door(self, x: Any, state: State, lengths: Any, reset: Any, mask: Any) -> _Arguments:
        owner, inputs = self._owner, self.inputs
        if inputs.count is None:  # at once: small calls feel what follows
            arrays = [x if type(x) is np.ndarray else checks.array(owner, "x", x)]
            if mask is not None or arrays[0].ndim == self._rank:
                return self._formed(arrays, state, lengths, reset, mask)
            valid = [None if lengths is None else checks.lengths(owner, lengths)]
            restart = [None if reset is None else checks.array(owner, "reset", reset)]
        else:
            arrays = [
                checks.array(owner, inputs.label("x", index), one)
                for index, one in enumerate(inputs.spread(owner, "x", x))
            ]
            if mask is not None or self._is_unbatched(arrays):
                return self._formed(arrays, state, lengths, reset, mask)
            valid, restart = self._several(lengths, reset)
        flat = None
        if state is not None:
            axis = 1 if self._time_major else 0
            rows = arrays[0].shape[axis] if arrays[0].ndim > axis else 0
            flat = self.layout.fill(self.layout.arrays(owner, state), rows)
        return arrays, flat, valid, restart, None

    def _is_unbatched(self, arrays: Sequence[Array]) -> bool:
        """Whether the inputs have no batch axis: the first that must be a sequence tells."""
        return any(one.ndim == rank for one, rank in zip(arrays, self._ranks, strict=True) if rank > 0)

    def _formed(self, arrays: list[Array], state: State, lengths: Any, reset: Any, mask: Any) -> _Arguments:
        """The arguments of a call whose inputs are written otherwise than the core takes them."""
        owner, inputs = self._owner, self.inputs
        form = Form(owner, self._graph, self._is_unbatched(arrays), self._time_major)
        arrays = form.arrays(arrays)
        valid, restart = self._several(lengths, reset, form)
        if mask is not None:
            masks = form.resets(
                [
                    None if one is None else checks.array(owner, inputs.label("mask", index), one)
                    for index, one in enumerate(inputs.spread(owner, "mask", mask))
                ]
            )
            arrays, valid, restart = form.moved(arrays, valid, restart, masks)
        flat = form.states(owner, self.layout.arrays(owner, state))
        axis = 1 if self._time_major else 0
        return arrays, self.layout.fill(flat, arrays[0].shape[axis]), valid, restart, form

    def _several(
        self, lengths: Any, reset: Any, form: Form | None = None
    ) -> tuple[list[Array | None], list[Array | None]]:
        owner, inputs = self._owner, self.inputs
        valid = [
            None if one is None else checks.lengths(owner, one)
            for one in inputs.spread_optional(owner, "lengths", lengths)
        ]
        if form is not None:
            valid = form.lengths(valid)
        restart = [
            None if one is None else checks.array(owner, inputs.label("reset", index), one)
            for index, one in enumerate(inputs.spread_optional(owner, "reset", reset))
        ]
        if form is not None:
            restart = form.resets(restart)
        return valid, restart

    def forward(self, x: Any, state: State, lengths: Any, reset: Any, mask: Any = None) -> tuple[Any, State]:
        """The outputs and the final state."""
        arrays, flat, valid, restart, form = self._door(x, state, lengths, reset, mask)
        if self._whole is not None:
            y, final = self._whole.forward(pack(arrays), pack(valid), pack(restart), flat or None, self._time_major)
            if form is not None:
                return self._written(y, form), self.layout.nest(form.final(final))
            return y if self.outputs.count is None else self._written(y), self.layout.nest(final)
        valid, restart = _copies(valid), _copies(restart)
        y, final = _core.read_whole(
            self._graph.all_parameters, self._owner, self._forward_runs, arrays, valid, restart, flat
        )
        return self._written(y, form), self.layout.nest(final if form is None else form.final(final))

    def _forward_runs(
        self, arrays: list[Array], valid: list[Array | None], restart: list[Array | None], flat: list[Array] | None
    ) -> tuple[Any, list[Array]]:
        call = _Call(self._graph, arrays, valid, restart)
        final: list[Array] = []
        for run in self._runs:
            y, part = run.program.forward(*call.given(run), run.pick(flat), self._time_major)
            call.take(run, y)
            final += part
        return pack([call.values[value] for value in self._graph.outputs]), final

    def _written(self, y: Any, form: Form | None = None) -> Any:
        """The outputs, as a program gives them, as people write them."""
        graph = self._graph
        parts = unpack(y, len(graph.outputs))
        if form is not None:
            parts = [form.out(value, one) for value, one in zip(graph.outputs, parts, strict=True)]
        return self.outputs.join(parts)

    def record(
        self,
        x: Any,
        state: State,
        lengths: Any,
        reset: Any,
        training: bool,
        input_grad: bool,
        seed: int | None,
        memory_budget: int | None = None,
        mask: Any = None,
    ) -> Tape:
        """The same, remembered."""
        operation = f"{self._owner}.record"
        if memory_budget is not None:
            memory_budget = self._checked_budget(operation, memory_budget)
        training = checks.flag(operation, "training", training)
        wanted = self._gradients_wanted(checks.flag(operation, "input_grad", input_grad))
        seed = seeds.resolve(operation, seed)
        arrays, flat, valid, restart, form = self._door(x, state, lengths, reset, mask)
        if not self._graph.all_native:  # what users' layers save is the tape's own
            arrays, valid, restart = cast("list[Array]", _copies(arrays)), _copies(valid), _copies(restart)
        given = (arrays, valid, restart, flat, training, wanted, seed, memory_budget)
        versions: list[int] = []
        if self._graph.all_native:  # a native program looks at the versions of its layers by itself
            pieces = self._record_runs(True, *given)
        else:
            versions, pieces = _core.read_whole(self._graph.all_parameters, operation, self._record_versions, *given)
            # Batch norm moves its statistics here, as the record may have been made more than once.
            _core.finish_records([piece for piece, _run in pieces if isinstance(piece, _core.Tape)])
        return Tape(self._owner, self._graph, pieces, self.layout, (self.inputs, self.outputs), versions, form)

    def _record_versions(self, *given: Any) -> tuple[list[int], list[tuple[TapePiece, Run]]]:
        return [layer.parameters.version for layer in self._graph.layers], self._record_runs(False, *given)

    def _record_runs(
        self,
        finishes: bool,
        arrays: list[Array],
        valid: list[Array | None],
        restart: list[Array | None],
        flat: list[Array] | None,
        training: bool,
        wanted: list[bool],
        seed: int,
        memory_budget: int | None,
    ) -> list[tuple[TapePiece, Run]]:
        call = _Call(self._graph, arrays, valid, restart)
        pieces: list[tuple[TapePiece, Run]] = []
        for index, run in enumerate(self._runs):
            piece = run.program.record(
                *call.given(run),
                run.pick(flat),
                self._time_major,
                training,
                pack([wanted[value] for value in run.inputs]),
                seed if len(self._runs) == 1 else seeds.derive(seed, index),
                memory_budget,
                finishes,
            )
            if run is not self._runs[-1]:
                call.take(run, piece.y)
            pieces.append((piece, run))
        return pieces

    def _checked_budget(self, operation: str, memory_budget: int) -> int:
        python = [layer.label for layer in self._graph.layers if not layer.native]
        if python:
            raise ValueError(
                f"{operation}: got memory_budget for a model with {python[0]}, which is written in Python, expected native "
                f"layers only, as only they know ahead what they will keep; leave memory_budget out, or record the native "
                f"part of the model with it"
            )
        return checks.integer(operation, "memory_budget", memory_budget, 0, sys.maxsize)

    def _gradients_wanted(self, input_grad: bool) -> list[bool]:
        """Of which values the gradient is: those of inputs, if asked for, and of layers with anything to learn behind."""
        if input_grad in self._wanted:
            return self._wanted[input_grad]
        graph = self._graph
        wanted = [input_grad and port.kind != "tokens" for port in graph.inputs]
        wanted += [False] * (graph.count - len(wanted))
        for node in graph.nodes:
            read = any(wanted[value] for value in (*node.inputs, *node.states) if value is not None)
            any_wanted = read or bool(node.own_states) or node.layer.parameters.size > 0
            wanted[node.output : node.output + 1 + len(node.states)] = [any_wanted] * (1 + len(node.states))
        self._wanted[input_grad] = wanted
        return wanted

    def stream(self, batch_size: int) -> Stream:
        """A state at rest and the buffers of a step."""
        operation = f"{self._owner}.stream"
        batch_size = checks.integer(operation, "batch_size", batch_size, 0)
        layers = self._graph.layers
        for index, layer in enumerate(layers):
            if why := layer.why_not_streamable():
                place = layer.label if len(layers) == 1 else f"layer {index} ({layer.label})"
                raise ValueError(f"{operation}: got {place}, expected layers that run step by step; it {why}")
        if why := self._graph.why_not_streamable():
            raise ValueError(f"{operation}: got {why}, expected sequences throughout; use a call of the model")
        pieces = [(run.program.stream(batch_size), run) for run in self._runs]
        return Stream(self._owner, self._graph, pieces, self.layout, (self.inputs, self.outputs))
