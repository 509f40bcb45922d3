"""What waits in a pool's queue, and how its outcome reaches the caller: a thread, a Future, or an event loop."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from time import perf_counter
from typing import TYPE_CHECKING, Any

from recurra.common.typing import State
from recurra.serving.door import Given

if TYPE_CHECKING:
    import asyncio

    from recurra import _core
    from recurra.serving.pool_stream import PoolStream


class Request:
    """A step or a chunk of a stream, or a call that needs the streams to rest.

    Attributes:
        stream: whose requests run in order; None if it is about no single one.
        given: the checked input; None for a call.
        born, deadline: in seconds of `perf_counter`; a deadline of None never passes.
        begun: whether its computation has begun.
        at: the steps of the chunk that are computed.
        parts: the outputs of these steps.
        saved: the state before a chunk that is computed in several parts.
        call: the function of a call.
        done: whether `result` or `error` holds the outcome.
    """

    __slots__ = (
        "at",
        "begun",
        "born",
        "call",
        "deadline",
        "done",
        "error",
        "given",
        "parts",
        "result",
        "saved",
        "stream",
    )

    def __init__(
        self,
        stream: PoolStream | None,
        given: Given | None,
        timeout: float | None = None,
        call: Callable[[], Any] | None = None,
    ) -> None:
        self.stream, self.given, self.call = stream, given, call
        self.born = perf_counter()
        self.deadline = None if timeout is None else self.born + timeout
        self.begun = self.done = False
        self.at = 0
        self.parts: list[Any] | None = None
        self.saved: State = None
        self.result: Any = None
        self.error: BaseException | None = None

    def start(self) -> bool:
        """Whether the caller still waits; a Future cannot be cancelled from here on."""
        return self.is_wanted()

    def is_wanted(self) -> bool:
        """Whether the caller still waits."""
        return True

    def finish(self, result: Any) -> None:
        """Set the result."""
        self.result, self.done = result, True

    def fail(self, error: BaseException) -> None:
        """Set the error."""
        self.error, self.done = error, True

    def settle(self) -> None:
        """Hand the outcome over."""

    def abandon(self) -> None:
        """There will be no outcome."""


class Waiting(Request):
    """Of a thread that waits."""

    __slots__ = ("_gate", "left")

    def __init__(
        self,
        stream: PoolStream | None,
        given: Given | None,
        timeout: float | None = None,
        call: Callable[[], Any] | None = None,
    ) -> None:
        super().__init__(stream, given, timeout, call)
        self.left = False
        self._gate = threading.Lock()
        self._gate.acquire()

    def is_wanted(self) -> bool:
        """False after an exception, such as that of Ctrl-C, took the thread away."""
        return not self.left

    def settle(self) -> None:
        """Wake the thread."""
        self._gate.release()

    def wait(self, remind: Callable[[], None]) -> None:
        """Until it is settled. `remind` is called now and then, in case that a thread which should go on with the queue
        was taken away by an exception."""
        try:
            while not (self._gate.acquire(timeout=0.2) or self.done):
                remind()
        except BaseException:
            self.left = True
            raise

    def outcome(self) -> Any:
        """The result, or the error raised."""
        if self.error is not None:
            try:
                raise self.error
            finally:
                self.error = None  # else the error's traceback keeps this object, and itself, alive
        return self.result


class Promised(Request):
    """Of a `concurrent.futures.Future`."""

    __slots__ = ("future",)

    def __init__(
        self,
        stream: PoolStream | None,
        given: Given | None,
        timeout: float | None = None,
        call: Callable[[], Any] | None = None,
    ) -> None:
        super().__init__(stream, given, timeout, call)
        self.future: Future[Any] = Future()

    def start(self) -> bool:
        """False if it was cancelled."""
        return self.future.set_running_or_notify_cancel()

    def settle(self) -> None:
        """Set its result or exception, unless it was cancelled."""
        if self.future.cancelled():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


class Awaited(Request):
    """Of a coroutine on an event loop, which alone may call `settle`."""

    __slots__ = ("future", "home")

    def __init__(
        self,
        stream: PoolStream | None,
        given: Given | None,
        timeout: float | None,
        home: Home,
        future: asyncio.Future[Any] | None = None,
        call: Callable[[], Any] | None = None,
    ) -> None:
        super().__init__(stream, given, timeout, call)
        self.home = home
        self.future: asyncio.Future[Any] = home.loop.create_future() if future is None else future

    def is_wanted(self) -> bool:
        """False if the coroutine was cancelled."""
        return not self.future.cancelled()

    def abandon(self) -> None:
        """Cancel the future."""
        self.future.cancel()

    def settle(self) -> None:
        """Set the future's result or exception, unless it was cancelled meanwhile."""
        if self.future.done():
            return
        if self.error is None:
            self.future.set_result(self.result)
        elif isinstance(self.error, StopIteration):  # which no coroutine can raise
            self.future.set_exception(RuntimeError(f"PoolStream: a layer raised {self.error!r}"))
        else:
            self.future.set_exception(self.error)


class Home:
    """An event loop whose coroutines use a pool.

    Attributes:
        group: the steps that were asked for in this turn, if the model is one for which they need no further check.
        flushes: whether the loop will look at the queue in this turn.
        room: futures of coroutines that wait until the queue has room.
    """

    __slots__ = ("flushes", "group", "loop", "room")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.group: _core.StepGroup | None = None
        self.flushes = False
        self.room: deque[asyncio.Future[None]] = deque()

    def settle(self, requests: list[Awaited], room: int) -> None:
        """On the loop's thread: hand outcomes over, and let so many coroutines in."""
        for request in requests:
            request.settle()
        while room > 0 and self.room:
            turn = self.room.popleft()
            if not turn.done():
                turn.set_result(None)
                room -= 1

    def settle_soon(self, requests: list[Awaited], room: int) -> None:
        """The same from any thread, with one wake-up of the loop."""
        with suppress(RuntimeError):  # the loop is closed, and nobody waits
            self.loop.call_soon_threadsafe(self.settle, requests, room)


def awaited_in(group: _core.StepGroup) -> list[Request]:
    """The steps of a group as requests; it has none afterwards."""
    made: list[Request] = []
    for stream, x, future, born in group.spread():
        request = Awaited(stream, Given((x,), None, None), None, group.owner, future)
        request.born = born
        made.append(request)
    return made
