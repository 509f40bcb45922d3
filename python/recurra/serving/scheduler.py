"""Who computes when: a caller at once if nobody else does, else one thread all that is waiting."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from time import perf_counter, sleep
from typing import TYPE_CHECKING, Any, NoReturn
from weakref import WeakSet

from recurra import _core
from recurra.common.typing import Array
from recurra.serving import forks
from recurra.serving.batch import Batches
from recurra.serving.door import Given
from recurra.serving.errors import Overloaded
from recurra.serving.line import Line
from recurra.serving.loops import Loops
from recurra.serving.requests import Awaited, Promised, Request, Waiting
from recurra.serving.rows import PART_SECONDS, Rows
from recurra.serving.stats import Tally
from recurra.serving.worker import Worker

if TYPE_CHECKING:
    from recurra.serving.pool_stream import PoolStream

#: How soon the worker looks again whether a caller that computes has ended, if it did not ring.
_BUSY_SECONDS = 0.01
#: Room in a queue without a limit.
_ALL = 1 << 30


class Scheduler:
    """Runs requests, those of one stream in their order.

    Whoever computes has the turn, which guards the rows and their slots. A caller who finds the line empty and the turn
    free computes on its own thread. Otherwise its request joins the line, and the worker's thread computes all that is
    there, in batches.
    """

    def __init__(
        self,
        rows: Rows,
        tally: Tally,
        plain: tuple[int, str] | None,
        max_batch: int,
        max_wait: float,
        max_queue: int | None,
    ) -> None:
        self._rows, self.tally = rows, tally
        self._max_batch, self._max_wait, self._max_queue = max_batch, max_wait, max_queue
        self._batches = Batches(rows, tally)
        self._turns = _core.Turns()
        self._lock = threading.Lock()  # of who adds to the inbox
        self.line = Line()
        self.loops = Loops(self, rows, plain)
        #: Those that are open.
        self.streams: WeakSet[PoolStream] = WeakSet()
        self._seen: list[Request] = []  # of the worker's last batch
        self._refuses: str | None = None  # why new requests are refused
        self._worker = Worker(self._lock, self._work, self.is_idle)
        forks.watch(self)

    def is_idle(self) -> bool:
        """Whether nothing waits."""
        return not self.line

    def is_at_rest(self) -> bool:
        """Whether nothing waits, and nobody computes."""
        return not self.line and self._turns.attempt(lambda: True) is True

    def is_quick(self, steps: int) -> bool:
        """Whether so many steps may be computed by a thread that should not be kept for long."""
        return not self._max_wait and steps <= self._max_batch and steps * self._rows.seconds <= PART_SECONDS

    def open_streams(self) -> list[PoolStream]:
        """Those that are open now."""
        while True:
            with suppress(RuntimeError):  # another thread opened one
                return list(self.streams)

    # What callers ask for

    def step(self, stream: PoolStream, x: Array) -> Any:
        """The output of a step with an x that has the right shape and dtype, by as few Python calls as possible;
        NotImplemented if this thread cannot compute at once."""
        if self.line.inbox or self.line.held or self._max_wait:
            return NotImplemented
        try:
            return self._turns.attempt(self._step_alone, stream, x)
        finally:
            if self.line.inbox:
                self._worker.ring()

    def call(self, stream: PoolStream, given: Given, timeout: float | None) -> Any:
        """The output of a step or chunk, on this thread if nobody else computes."""
        if not self.line and not self._max_wait:
            y = self.at_once(self._alone, stream, given)
            if y is not NotImplemented:
                return y
        self._check_nesting("PoolStream")
        self._check_room()
        request = Waiting(stream, given.copied(), timeout)
        self._accept_or_raise(request)
        return self._wait(request)

    def rest(self, stream: PoolStream | None, function: Callable[..., Any], *args: Any) -> Any:
        """`function(*args)`, after what waits for this stream, while no stream computes."""
        made = self.rest_now(function, args)
        if made is not NotImplemented:
            return made
        self._check_nesting("Pool")
        request = Waiting(stream, None, call=lambda: function(*args))
        self.add_call(request)
        return self._wait(request)

    def rest_now(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """The same on this thread; NotImplemented if anything waits or computes."""
        return NotImplemented if self.line else self.at_once(self._if_idle, function, args)

    def add_call(self, request: Request) -> None:
        """To the line, however full it is: a call frees more than it takes."""
        with self._lock:
            self.line.inbox.append(request)

    def promise(self, stream: PoolStream, given: Given, timeout: float | None) -> Any:
        """The Future of a step or chunk."""
        self._check_room()
        request = Promised(stream, given.copied(), timeout)
        self._accept_or_raise(request)
        self._worker.ring()
        return request.future

    def promise_rest(self, stream: PoolStream | None, function: Callable[..., Any], *args: Any) -> Any:
        """The Future of `rest`."""
        request = Promised(stream, None, call=lambda: function(*args))
        self.add_call(request)
        self._worker.ring()
        return request.future

    # The line

    def accept(self, request: Request) -> bool:
        """Add to the line; False if it is full."""
        with self._lock:
            self.check_takes()
            if self._is_full():
                return False
            self.line.inbox.append(request)
            return True

    def _is_full(self) -> bool:
        return self._max_queue is not None and len(self.line) >= self._max_queue

    def _check_room(self) -> None:
        """Refuse before anything is made for the request, as under overload most are."""
        if not self._refuses and self._is_full():
            self._refuse_one()

    def _accept_or_raise(self, request: Request) -> None:
        if not self.accept(request):
            self._refuse_one()

    def _refuse_one(self) -> NoReturn:
        with self._lock:
            self.tally.refused += 1
        raise Overloaded(
            f"PoolStream: got a step while {self._max_queue} others wait, expected fewer; send less, allow a longer "
            "max_queue, or await astep, which waits for room"
        )

    def takes_more(self) -> bool:
        """Whether another step may join the line."""
        return self._refuses is None and not self._is_full()

    def room(self) -> int:
        """How many more it takes."""
        if self._max_queue is None or self._refuses:  # which those who come in are told
            return _ALL
        return max(0, self._max_queue - len(self.line))

    def refuse(self, why: str) -> None:
        """From now on, take no more steps and chunks."""
        with self._lock:
            self._refuses = self._refuses or why
        self._worker.ring()

    def retire(self) -> None:
        """There will be no more work."""
        self._worker.retire()

    def check_takes(self) -> None:
        """Raises if new requests are refused."""
        if self._refuses:
            raise ValueError(self._refuses)

    def ring(self) -> None:
        """Tell the worker if there is work."""
        if self.line:
            self._worker.ring()

    # On a caller's thread

    def at_once(self, function: Callable[..., Any], *args: Any) -> Any:
        """`function(*args)` with the turn; NotImplemented if another has it."""
        try:
            return self._turns.attempt(function, *args)
        finally:
            if self.line.inbox:
                self._worker.ring()

    def _step_alone(self, stream: PoolStream, x: Array) -> Any:
        if self.line.inbox or self.line.held or self._refuses or stream.slot is None:
            return NotImplemented
        begin = perf_counter()
        y = self._rows.stream.step(x[None], None, None, (stream.slot,))
        stream.used = end = perf_counter()
        self.tally.alone(1, end - begin)
        return y[0]

    def _alone(self, stream: PoolStream, given: Given) -> Any:
        if self.line or self._refuses or self._rows.takes_long(given.steps):
            return NotImplemented
        slot = stream.take_slot()
        begin = perf_counter()
        y = self._rows.alone(slot, given)
        stream.used = end = perf_counter()
        self.tally.alone(1 if given.steps is None else given.steps, end - begin)
        return y

    def _if_idle(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        return NotImplemented if self.line else function(*args)

    def _check_nesting(self, operation: str) -> None:
        """A call that would wait for itself."""
        if self._turns.inside:
            raise ValueError(
                f"{operation}: got a call inside another on the same thread, as from a layer or a signal handler, "
                "expected one at a time; let a signal handler set a flag, and act on it after the call"
            )

    def _wait(self, request: Waiting) -> Any:
        self._worker.ring()
        while not request.done and self.work_here():
            pass
        if not request.done:
            request.wait(self.ring)
        return request.outcome()

    def compute(self, requests: list[Request]) -> None:
        """The steps of different streams."""
        now = perf_counter()
        self._batches.compute([one for one in requests if self._batches.begin(one, now)])

    # On the worker's thread

    def work_here(self) -> bool:
        """On the worker's own thread, as in a Future's callback, do some of the work; False on other threads."""
        if not self._worker.is_current():
            return False
        sleep(min(self._work() or 0.0, 1e-3))
        return True

    def _work(self) -> float | None:
        if not self.line:
            return None
        made = self._turns.attempt(self._round)
        if made is NotImplemented:
            return _BUSY_SECONDS
        done, pause = made
        for request in done:
            if not isinstance(request, Awaited):
                request.settle()
        self.loops.settle([request for request in done if isinstance(request, Awaited)])
        return float(pause)

    def _round(self) -> tuple[list[Request], float]:
        """Compute a batch: the requests that are done, and the seconds to wait before the next."""
        line = self.line
        line.sort()
        now = perf_counter()
        pause, waiting = self._pause(now)
        line.set_aside(waiting)
        self._seen = seen = []
        batch: list[Request] = []
        try:
            while line.ready and len(batch) < self._max_batch:
                seen.append(request := line.take())
                if self._batches.begin(request, now):
                    batch.append(request)
            self._batches.compute(batch)
        except BaseException as error:  # noqa: BLE001 - of a layer written in Python, which may raise SystemExit
            for request in seen:
                if not request.done:
                    request.fail(error)
        for request in seen:
            line.put_back(request)
        line.bring_back(waiting)
        return [request for request in seen if request.done], pause

    def _pause(self, now: float) -> tuple[float, list[Request]]:
        """The seconds for which steps that are ready shall wait for others, and these steps."""
        if not self._max_wait or self._refuses:
            return 0.0, []
        steps = [one for one in self.line.ready if one.call is None]
        if not 0 < len(steps) < self._max_batch:
            return 0.0, []
        end = min(one.born for one in steps) + self._max_wait
        if end <= now or any(one.deadline is not None and one.deadline <= end for one in steps):
            return 0.0, []
        return end - now, steps

    def after_fork(self) -> None:
        """In a child: those who wait are in the parent, and so is the worker."""
        self._lock = threading.Lock()
        self._worker.after_fork(self._lock)
        self.loops.after_fork()
        for request in [*self._seen, *self.line.clear(self.open_streams())]:
            if isinstance(request, Waiting) and not request.done:  # this thread forks in a signal handler
                request.fail(RuntimeError("PoolStream: this process was forked while the call waited; call again"))
        self._seen = []
