"""The streams of a pool as rows of one stream: slots are taken and given back, and some rows step in one call."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from recurra.common.typing import Array, State
from recurra.serving.door import Given
from recurra.serving.requests import Request
from recurra.serving.stats import Tally

if TYPE_CHECKING:
    from recurra.serving.served import Served

#: A chunk that would compute for longer is computed in parts, between which others have their turn.
PART_SECONDS = 2e-3
#: The first guess of seconds for a row's step.
_GUESS = 5e-6


class Rows:
    """One stream with a row, or slot, for each of the pool's streams. For whoever has the scheduler's turn."""

    def __init__(self, model: Served, slots: int, tally: Tally) -> None:
        self.stream = model.stream(slots)
        self._inputs, self._outputs = model.inputs, model.outputs
        #: Whether there is one input and one output.
        self.single = self._inputs.count is None and self._outputs.count is None
        self._free = list(range(slots - 1, -1, -1))
        self._tally = tally
        #: Slots of streams that were never closed; any thread may append, as garbage is collected anywhere.
        self.dropped: deque[int] = deque()
        #: Of the last calls, for a row's step.
        self.seconds = _GUESS

    @property
    def learnt(self) -> tuple[int, str] | None:
        """The features and dtype's name of a step that was computed, of a graph that leaves them open."""
        return getattr(self.stream, "learnt", None)

    # Slots

    def take(self, state: State = None) -> int | None:
        """A slot with this state; None if all are taken."""
        while self.dropped:
            self._free.append(self.dropped.popleft())
        if not self._free:
            return None
        slot = self._free[-1]
        self.stream.load_state(state, [slot])
        return self._free.pop()

    def give_back(self, slot: int) -> None:
        """Free the slot."""
        self._free.append(slot)

    def reset(self, slot: int) -> None:
        """Zero its state."""
        self.stream.reset([slot])

    def state(self, slot: int) -> State:
        """A copy of its state."""
        return self.stream.state([slot])

    def load(self, slot: int, state: State) -> None:
        """Set its state."""
        self.stream.load_state(state, [slot])

    # Computing

    def takes_long(self, steps: int | None) -> bool:
        """Whether a chunk is to be computed in parts."""
        return steps is not None and steps * self.seconds > PART_SECONDS

    def alone(self, slot: int, given: Given) -> Any:
        """The output of one stream's step or chunk."""
        call = self.stream.step if given.steps is None else self.stream.process
        if self.single:
            return call(given.arrays[0][None], None, None, (slot,))[0]
        y = call(self._inputs.join([array[None] for array in given.arrays]), None, None, (slot,))
        return self._outputs.join([one[0] for one in self._outputs.spread("", "", y)])

    def together(self, x: Array, slots: list[int], begin: float) -> Array:
        """The outputs of steps that were gathered since `begin`, of a model with one input and one output."""
        y: Array = self.stream.step(x, None, None, slots)
        self._count(len(slots), 1, perf_counter() - begin)
        return y

    def run(self, requests: Sequence[Request], slots: Sequence[int]) -> None:
        """Compute steps, and the next part of chunks, one of each stream; those that are then complete are done."""
        groups: dict[Any, list[int]] = {}
        for index, request in enumerate(requests):
            given = request.given
            assert given is not None
            groups.setdefault((given.steps and 1, given.key), []).append(index)
        for group in groups.values():
            self._run_group([requests[index] for index in group], [slots[index] for index in group])

    def _run_group(self, group: list[Request], slots: list[int]) -> None:
        """If the call fails, each alone, so that what one has brought fails no other."""
        try:
            self._advance(group, slots)
        except Exception as error:  # noqa: BLE001 - a layer written in Python may raise anything
            if len(group) > 1:
                for request, slot in zip(group, slots, strict=True):
                    self._run_group([request], [slot])
                return
            self.restore(group[0], slots[0])
            group[0].fail(error)

    def restore(self, request: Request, slot: int) -> None:
        """The state before the chunk, if a part of it was computed."""
        if request.at:
            self.load(slot, request.saved)

    def _advance(self, group: list[Request], slots: list[int]) -> None:
        begin = perf_counter()
        given = [request.given for request in group if request.given is not None]
        if given[0].steps is None:
            steps = 1
            x = [np.array(arrays) for arrays in zip(*(one.arrays for one in given), strict=True)]
            y = self._call(self.stream.step, x, slots)
            for request, result in zip(group, y, strict=True):
                request.finish(result)
        else:
            left = [(one.steps or 0) - request.at for one, request in zip(given, group, strict=True)]
            steps = min(*left, max(1, int(PART_SECONDS / (self.seconds * len(group)))))
            for request, slot, more in zip(group, slots, left, strict=True):
                if not request.at and more > steps:
                    request.saved = self.state(slot)
            x = [
                np.array([one[request.at : request.at + steps] for one, request in zip(arrays, group, strict=True)])
                for arrays in zip(*(one.arrays for one in given), strict=True)
            ]
            y = self._call(self.stream.process, x, slots)
            for request, result, more in zip(group, y, left, strict=True):
                request.at += steps
                if request.parts is None:
                    request.parts = []
                request.parts.append(result)
                if more == steps:
                    request.finish(self._joined(request.parts))
        self._count(len(group), steps, perf_counter() - begin)

    def _count(self, rows: int, steps: int, seconds: float) -> None:
        if steps:
            # At most the double, as a thread that was off its processor for a while says nothing about a step.
            new = min(seconds / (rows * steps), 2 * self.seconds)
            self.seconds += (new - self.seconds) / 8
        self._tally.batch(rows, steps, seconds)

    def _call(self, call: Any, x: list[Array], slots: list[int]) -> list[Any]:
        """The output of each row, in memory of its own."""
        if self.single:
            y: Array = call(x[0], None, None, slots)
            return [row.copy() for row in y] if len(slots) > 1 else [y[0]]
        made = self._outputs.spread("", "", call(self._inputs.join(x), None, None, slots))
        return [self._outputs.join([one[index].copy() for one in made]) for index in range(len(slots))]

    def _joined(self, parts: list[Any]) -> Any:
        """The outputs of a chunk's parts as those of the chunk."""
        if len(parts) == 1:
            return parts[0]
        every = [self._outputs.spread("", "", part) for part in parts]
        return self._outputs.join([np.concatenate(one) for one in zip(*every, strict=True)])
