"""Runs a graph of layers: inference, recording, streaming."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cached_property
from typing import Any, cast

from recurra import _core
from recurra.common import checks, seeds
from recurra.common.structure import ALONE, Structure
from recurra.common.typing import Array, State
from recurra.graph.forms import Form
from recurra.graph.graph import Graph, pack, unpack
from recurra.running.arguments import ArgumentReader
from recurra.running.runs import Run, cut
from recurra.running.state import StateLayout
from recurra.running.stream import Stream, Streamed
from recurra.running.tape import Tape, TapePiece


def _copies(arrays: Sequence[Array | None]) -> list[Array | None]:
    """Copies of the caller's arrays, so that all runs see the same, even if another thread writes to them meanwhile."""
    return [None if one is None else one.copy() for one in arrays]


class _Call:
    """The values of a call computed so far, with their lengths and resets."""

    def __init__(
        self, graph: Graph, x: Sequence[Array], lengths: Sequence[Array | None], resets: Sequence[Array | None]
    ) -> None:
        self._graph = graph
        self.values: dict[int, Array] = dict(enumerate(x))
        self._lengths, self._resets = graph.spread(lengths), graph.spread(resets)

    def given(self, run: Run) -> tuple[Any, Any, Any]:
        """The arguments of the run's program."""
        taken = (self.values, self._lengths, self._resets)
        x, lengths, resets = (pack([one[value] for value in run.inputs]) for one in taken)
        return x, lengths, resets

    def take(self, run: Run, y: Any) -> None:
        """Store the run's outputs, and derive their lengths and resets; the program has checked those of its inputs."""
        self.values.update(run.made(y))
        self._graph.follow(run.nodes, self._lengths, self._resets)


class Runner:
    """Runs, records and streams the graph of a single layer or of a model."""

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
        self._runs = cut(owner, graph)
        #: The program of the whole graph, if it is a single native one.
        self._whole = self._runs[0].program if len(self._runs) == 1 and graph.all_native else None
        self._wanted: dict[bool, list[bool]] = {}
        self.layout = StateLayout(owner, graph.nodes, alone)
        reader = ArgumentReader(owner, graph, inputs, self.layout, time_major)
        self._read = reader.read_masked if reader.finds_masks else reader.read

    def forward(self, x: Any, state: State, lengths: Any, reset: Any, mask: Any = None) -> tuple[Any, State]:
        """The outputs and the final state."""
        arrays, flat, valid, restart, form = self._read(x, state, lengths, reset, mask)
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

    def forward_flat(
        self, x: Sequence[Array], state: list[Array] | None, lengths: Array | None
    ) -> tuple[Sequence[Array], list[Array]]:
        """`forward` of a graph of native layers with lists of arrays in the program's shapes: the flat state's, None
        for zeros, and one of lengths for all inputs. Python checks nothing else, which small calls would notice."""
        assert self._whole is not None
        valid = absent = pack([None] * len(x))
        if lengths is not None:
            valid = pack([checks.lengths(self._owner, lengths)] * len(x))
        y, final = self._whole.forward(pack(x), valid, absent, state, self._time_major)
        return unpack(y, len(self._graph.outputs)), final

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
        """A program's outputs in the caller's structure and form."""
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
        first_row: int = 0,
        memory: Any = None,
    ) -> Tape:
        """The tape of a call, recorded for backward."""
        operation = f"{self._owner}.record"
        if memory_budget is not None:
            memory_budget = self._checked_budget(operation, memory_budget)
        if memory is not None:
            from recurra.running import tape_memory

            tape_memory.refuse_python(operation, "memory", self._graph)
            memory = tape_memory.to_write(operation, memory)
        training = checks.flag(operation, "training", training)
        wanted = self._gradients_wanted(checks.flag(operation, "input_grad", input_grad))
        seed = seeds.resolve(operation, seed)
        if first_row != 0:  # small calls notice the check
            first_row = checks.integer(operation, "first_row", first_row, 0)
        arrays, flat, valid, restart, form = self._read(x, state, lengths, reset, mask)
        if self._whole is not None:  # it checks the versions of its layers itself
            block: tuple[tuple[Array, int], ...] = ()
            if memory is not None:
                self._refuse_form(operation, form)
                block = ((memory, self._signature),)
            piece = self._whole.record(
                pack(arrays),
                pack(valid),
                pack(restart),
                flat or None,
                self._time_major,
                training,
                pack(wanted[: len(arrays)]),
                seed,
                memory_budget,
                True,
                first_row,
                *block,
            )
            return self._tape([(piece, self._runs[0])], (), form)
        # Layers written in Python may save what they are given on the tape.
        arrays, valid, restart = cast("list[Array]", _copies(arrays)), _copies(valid), _copies(restart)
        given = (arrays, valid, restart, flat, training, wanted, seed, first_row)
        versions, pieces = _core.read_whole(self._graph.all_parameters, operation, self._record_runs, *given)
        # Batch norm updates its running statistics only here, as recording may have been repeated.
        _core.finish_records([piece for piece, _run in pieces if isinstance(piece, _core.Tape)])
        return self._tape(pieces, versions, form)

    def _tape(
        self, pieces: Sequence[tuple[TapePiece, Run]], versions: Sequence[int] = (), form: Form | None = None
    ) -> Tape:
        return Tape(self._owner, self._graph, pieces, self.layout, (self.inputs, self.outputs), versions, form)

    def _refuse_form(self, operation: str, form: Form | None) -> None:
        """The bytes of a tape do not say in which form the caller gave its arguments."""
        if form is not None:
            raise ValueError(
                f"{operation}: got a mask, or x without a batch axis, for a tape in the caller's memory, expected "
                "lengths and rows; write lengths=..., x[None]"
            )

    @cached_property
    def _signature(self) -> int:
        from recurra.running import tape_memory

        return tape_memory.signature(self._graph)

    def tape_bytes(
        self, shape: Any, lengths: Any, reset: bool, state: bool, training: bool, memory_budget: int | None
    ) -> int:
        """Bytes of a tape in the caller's memory."""
        from recurra.running import tape_memory

        operation = f"{self._owner}.tape_bytes"
        tape_memory.refuse_python(operation, "a tape in the caller's memory", self._graph)
        if memory_budget is not None:
            memory_budget = self._checked_budget(operation, memory_budget)
        program = cast("_core.Program", self._runs[0].program)
        x = tape_memory.stand_ins(operation, shape, self.inputs, self._graph, program.dtype)
        arrays, _flat, valid, _restart, form = self._read(x, None, lengths, None, None)
        self._refuse_form(operation, form)
        return program.tape_bytes(
            pack(arrays),
            pack(valid),
            checks.flag(operation, "reset", reset),
            checks.flag(operation, "state", state),
            self._time_major,
            checks.flag(operation, "training", training),
            memory_budget,
        )

    def open_tape(self, memory: Any) -> Tape:
        """The tape in such memory."""
        from recurra.running import tape_memory

        operation = f"{self._owner}.open_tape"
        tape_memory.refuse_python(operation, "a tape in the caller's memory", self._graph)
        program = cast("_core.Program", self._runs[0].program)
        piece = program.open_tape(tape_memory.to_read(operation, memory), self._signature)
        return self._tape([(piece, self._runs[0])])

    def _record_runs(
        self,
        arrays: list[Array],
        valid: list[Array | None],
        restart: list[Array | None],
        flat: list[Array] | None,
        training: bool,
        wanted: list[bool],
        seed: int,
        first_row: int,
    ) -> tuple[list[int], list[tuple[TapePiece, Run]]]:
        versions = [layer.parameters.version for layer in self._graph.layers]
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
                None,
                False,
                first_row,
            )
            if run is not self._runs[-1]:
                call.take(run, piece.y)
            pieces.append((piece, run))
        return versions, pieces

    def _checked_budget(self, operation: str, memory_budget: int) -> int:
        from recurra.running import tape_memory  # late, as all that reads it: few need it

        tape_memory.refuse_python(operation, "memory_budget", self._graph)
        return checks.integer(operation, "memory_budget", memory_budget, 0, sys.maxsize)

    def _gradients_wanted(self, input_grad: bool) -> list[bool]:
        """For every value, whether its gradient is needed: by the caller, for inputs, or by parameters that it depends
        on."""
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

    def stream(self, batch_size: int, model: Streamed) -> Stream[Any]:
        """A stream with zero state; a copy of it is made by `model`."""
        operation = f"{self._owner}.stream"
        batch_size = checks.integer(operation, "batch_size", batch_size, 0)
        layers = self._graph.layers
        for index, layer in enumerate(layers):
            if why := layer.why_not_streamable():
                place = layer.label if len(layers) == 1 else f"layer {index} ({layer.label})"
                raise ValueError(f"{operation}: got {place}, expected layers that can run step by step; it {why}")
        if why := self._graph.why_not_streamable():
            raise ValueError(f"{operation}: got {why}, expected sequences throughout; call the model instead")
        pieces = [(run.program.stream(batch_size), run) for run in self._runs]
        return Stream(self._owner, model, self._graph, pieces, self.layout, (self.inputs, self.outputs))
