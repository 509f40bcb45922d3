"""Layers in a row, cut at the layers written in Python into runs; each run of native layers is one native call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, Protocol

import numpy.typing as npt

from recurra import checks, seeds
from recurra.state import StateLayout
from recurra.stream import Stream, StreamPiece
from recurra.tape import Tape, TapePiece
from recurra.typing import Array, Lengths, State

if TYPE_CHECKING:
    from recurra.leaf import LeafLayer


class Program(Protocol):
    """What runs one run: `_core.Program`, or its twin for a layer written in Python."""

    def forward(
        self,
        x: Array,
        lengths: Array | None,
        reset: Array | None,
        state: Sequence[Array] | None,
        time_major: bool,
    ) -> tuple[Array, list[Array]]: ...

    def record(
        self,
        x: Array,
        lengths: Array | None,
        reset: Array | None,
        state: Sequence[Array] | None,
        time_major: bool,
        training: bool,
        input_grad: bool,
        seed: int,
    ) -> TapePiece: ...

    def stream(self, batch_size: int) -> StreamPiece: ...


@dataclass(frozen=True)
class Run:
    """Neighbours that one program runs, and the place of their arrays in the flat state of the chain."""

    program: Program
    layers: tuple[LeafLayer, ...]
    states: slice

    def pick(self, flat: list[Any] | None) -> list[Any] | None:
        """This run's part of a flat state; None where there is nothing to give."""
        return (flat[self.states] or None) if flat is not None else None

    def carry(self, lengths: Array | None, reset: Array | None) -> tuple[Array | None, Array | None]:
        """The lengths and resets of the output; none where the time axis has ended."""
        for layer in self.layers:
            lengths = layer.output_lengths(lengths)
            if not layer.return_sequences:
                reset = None
        return lengths, reset


def _cut(owner: str, layers: Sequence[LeafLayer]) -> list[Run]:
    runs = []
    begin = 0
    # A layer written in Python has a key of its own, so that it makes a run alone.
    for _key, neighbours in groupby(enumerate(layers), lambda item: "native" if item[1].native else item[0]):
        group = tuple(layer for _index, layer in neighbours)
        end = begin + sum(len(layer.state_names) for layer in group)
        runs.append(Run(group[0].program(owner, group), group, slice(begin, end)))
        begin = end
    return runs


class Chain:
    """Runs layers forwards, records them, streams them: the one way that layers alone and models are run."""

    def __init__(
        self, owner: str, leaves: Sequence[tuple[str, LeafLayer]], *, alone: bool, time_major: bool = False
    ) -> None:
        self._owner = owner
        self._leaves = leaves
        self._time_major = time_major
        layers = [layer for _prefix, layer in leaves]
        self._runs = _cut(owner, layers)
        self._all_native = all(layer.native for layer in layers)
        self.layout = StateLayout(owner, layers, alone)

    def _door(
        self, x: npt.ArrayLike, state: State, lengths: Lengths, reset: npt.ArrayLike | None
    ) -> tuple[Array, list[Array] | None, Array | None, Array | None]:
        x = checks.array(self._owner, "x", x)
        flat = None
        if state is not None:
            axis = 1 if self._time_major else 0
            rows = x.shape[axis] if x.ndim > axis else 0
            flat = self.layout.fill(self.layout.flatten(self._owner, state), rows)
        valid = None if lengths is None else checks.lengths(self._owner, lengths)
        return x, flat, valid, None if reset is None else checks.array(self._owner, "reset", reset)

    def forward(
        self, x: npt.ArrayLike, state: State, lengths: Lengths, reset: npt.ArrayLike | None
    ) -> tuple[Array, State]:
        """The output and the final state."""
        y, flat, valid, restart = self._door(x, state, lengths, reset)
        final: list[Array] = []
        for index, run in enumerate(self._runs):
            if index > 0:
                valid, restart = self._runs[index - 1].carry(valid, restart)
            y, part = run.program.forward(y, valid, restart, run.pick(flat), self._time_major)
            final += part
        return y, self.layout.nest(final)

    def record(
        self,
        x: npt.ArrayLike,
        state: State,
        lengths: Lengths,
        reset: npt.ArrayLike | None,
        training: bool,
        input_grad: bool,
        seed: int | None,
    ) -> Tape:
        """The same, remembered."""
        operation = f"{self._owner}.record"
        training = checks.flag(operation, "training", training)
        wanted = checks.flag(operation, "input_grad", input_grad)
        seed = seeds.resolve(operation, seed)
        y, flat, valid, restart = self._door(x, state, lengths, reset)
        # A native program checks the versions of its layers by itself.
        versions = [] if self._all_native else [layer.parameters.version for _prefix, layer in self._leaves]
        pieces: list[tuple[TapePiece, slice]] = []
        for index, run in enumerate(self._runs):
            if index > 0:
                before = self._runs[index - 1]
                y = pieces[-1][0].y
                valid, restart = before.carry(valid, restart)
                # What comes before a later run needs its gradient, if it has anything to learn.
                wanted = wanted or any(layer.parameters.size for layer in before.layers)
            own = seed if len(self._runs) == 1 else seeds.derive(seed, index)
            differentiable = wanted and run.layers[0].input_kind != "tokens"
            piece = run.program.record(
                y, valid, restart, run.pick(flat), self._time_major, training, differentiable, own
            )
            pieces.append((piece, run.states))
        return Tape(self._owner, pieces, self.layout, self._leaves, versions, all_native=self._all_native)

    def stream(self, batch_size: int) -> Stream:
        """A state at rest and the buffers of a step."""
        batch_size = checks.integer(f"{self._owner}.stream", "batch_size", batch_size, 0)
        for prefix, layer in self._leaves:
            if why := layer.why_not_streamable():
                place = f"layer {prefix[:-1]} ({layer.label})" if prefix else layer.label
                raise ValueError(f"{self._owner}.stream: got {place}, expected layers that run step by step; it {why}")
        pieces = [(run.program.stream(batch_size), run.states) for run in self._runs]
        return Stream(self._owner, pieces, self.layout)
