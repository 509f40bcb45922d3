"""The requests that wait, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

from recurra import _core
from recurra.serving.requests import Request, awaited_in

if TYPE_CHECKING:
    from recurra.serving.pool_stream import PoolStream


class Line:
    """Any thread appends to `inbox`, which is one call that no exception can come between. Everything else is for
    whoever has the scheduler's turn on the worker's thread, where no signal handler runs.

    Attributes:
        inbox: what came since; a group is an entry as long as it has steps.
        groups: of the event loops.
        ready: of each stream the first request, and calls that are about no single stream.
        held: requests in `ready` and behind the first ones of their streams.
    """

    def __init__(self) -> None:
        self.inbox: deque[Request | _core.StepGroup] = deque()
        self.groups: tuple[_core.StepGroup, ...] = ()
        self.ready: deque[Request] = deque()
        self.held = 0

    def __len__(self) -> int:
        count = len(self.inbox) + self.held
        for group in self.groups:
            if (steps := len(group)) > 1:
                count += steps - 1
        return count

    def sort(self) -> None:
        """Empty the inbox: what is the first request of its stream is ready, others are behind it."""
        for _ in range(len(self.inbox)):
            entry = self.inbox.popleft()
            if isinstance(entry, Request):
                self._place(entry)
                continue
            for request in awaited_in(entry):
                self._place(request)

    def _place(self, request: Request) -> None:
        self.held += 1
        stream = request.stream
        if stream is None:
            self.ready.append(request)
        elif stream.queued is None:
            stream.queued = deque([request])
            self.ready.append(request)
        else:
            stream.queued.append(request)

    def take(self) -> Request:
        """The next one, which must come back by `put_back`."""
        self.held -= 1
        return self.ready.popleft()

    def put_back(self, request: Request) -> None:
        """After its turn. What is ready then: the rest of its chunk, or the next request of its stream."""
        stream = request.stream
        if not request.done:
            self.ready.append(request)
            self.held += 1
        elif stream is not None and stream.queued is not None:
            stream.queued.popleft()
            if stream.queued:
                self.ready.append(stream.queued[0])
            else:
                stream.queued = None

    def set_aside(self, requests: list[Request]) -> None:
        """Let these of `ready` wait while others have their turn."""
        aside = set(map(id, requests))
        self.ready = deque(one for one in self.ready if id(one) not in aside)

    def bring_back(self, requests: list[Request]) -> None:
        """The same, in front, as they were."""
        self.ready.extendleft(reversed(requests))

    def clear(self, streams: Iterable[PoolStream]) -> list[Request]:
        """Forget everything, and return it."""
        lost = [*(entry for entry in self.inbox if isinstance(entry, Request)), *self.ready]
        for group in self.groups:
            group.clear()
        for stream in streams:
            lost += stream.queued or ()
            stream.queued = None
        self.groups = ()
        self.inbox, self.ready, self.held = deque(), deque(), 0
        return lost
