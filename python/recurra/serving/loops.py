"""Event loops whose coroutines use a pool."""

from __future__ import annotations

import threading
from asyncio import TimeoutError as AsyncTimeoutError
from asyncio import get_running_loop, wait_for
from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING, Any

from recurra import _core
from recurra.serving.door import Given
from recurra.serving.errors import expired
from recurra.serving.requests import Awaited, Home, awaited_in

if TYPE_CHECKING:
    import asyncio

    from recurra.serving.pool_stream import PoolStream
    from recurra.serving.rows import Rows
    from recurra.serving.scheduler import Scheduler


class Loops:
    """The side of a scheduler that coroutines see."""

    def __init__(self, scheduler: Scheduler, rows: Rows, plain: tuple[int, str] | None) -> None:
        self._scheduler, self._rows = scheduler, rows
        #: Of a step that needs no further check: its features, and the dtype's name.
        self._plain = plain
        self._line = scheduler.line
        self.homes: list[Home] = []
        self._lock = threading.Lock()  # of who adds a home

    def after_fork(self) -> None:
        """In a child, whose loops are others."""
        self.homes, self._lock = [], threading.Lock()

    def join(self, stream: PoolStream, x: Any) -> asyncio.Future[Any] | None:
        """The future of a step with an x that has the right shape and dtype, by as few Python objects as possible; None
        if it has to take the longer way, `call`."""
        home = self._home()
        if home.group is None and not self._has_group(home):
            return None
        if not self._scheduler.takes_more():
            return None
        assert home.group is not None
        future = home.group.add(stream, x)
        if future is not None and not home.flushes:
            self._flush_soon(home)
        return future

    async def call(self, stream: PoolStream, given: Given, timeout: float | None) -> Any:
        """The output of a step or chunk."""
        home = self._home()
        request = Awaited(stream, given.copied(), timeout, home)
        while not self._scheduler.accept(request):
            await self._room(home, request)
        if not home.flushes:
            self._flush_soon(home)
        return await request.future

    async def rest(self, stream: PoolStream | None, function: Callable[..., Any], *args: Any) -> Any:
        """`Scheduler.rest` for a coroutine."""
        made = self._scheduler.rest_now(function, args)
        if made is not NotImplemented:
            return made
        home = self._home()
        request = Awaited(stream, None, None, home, call=lambda: function(*args))
        self._scheduler.add_call(request)
        if not home.flushes:
            self._flush_soon(home)
        return await request.future

    def _flush_soon(self, home: Home) -> None:
        home.loop.call_soon(self._flush, home)
        home.flushes = True  # in this order, in case that an exception of Ctrl-C comes between

    def settle(self, requests: list[Awaited]) -> None:
        """From any thread: hand outcomes over, and let those in who wait for room. Wakes each loop at most once."""
        sorted_in: dict[int, list[Awaited]] = {}
        for request in requests:
            sorted_in.setdefault(id(request.home), []).append(request)
        for home in self.homes:
            own = sorted_in.get(id(home), [])
            if own or home.room:
                home.settle_soon(own, self._scheduler.room() if home.room else 0)

    def _home(self) -> Home:
        loop = get_running_loop()
        for home in self.homes:
            if home.loop is loop:
                return home
        made = Home(loop)
        with self._lock:
            self.homes = [*(home for home in self.homes if not home.loop.is_closed()), made]
        self._has_group(made)
        return made

    def _has_group(self, home: Home) -> bool:
        """Make the loop's group, if it is known what a step is."""
        plain = self._plain or self._rows.learnt
        if plain is None:
            return False
        features, dtype = plain
        home.group = _core.StepGroup(dtype, features, home, home.loop.create_future, self._line.inbox)
        with self._lock:
            waiting = (group for group in self._line.groups if group)  # of a closed loop, too
            own = (one.group for one in self.homes if one.group is not None)
            self._line.groups = tuple(dict.fromkeys((*waiting, *own)))
        return True

    async def _room(self, home: Home, request: Awaited) -> None:
        """Until the queue may have room."""
        turn = home.loop.create_future()
        home.room.append(turn)
        try:
            if self._scheduler.room():  # since it was refused
                return
            if request.deadline is None:
                await turn
                return
            try:
                await wait_for(turn, request.deadline - perf_counter())
            except AsyncTimeoutError:  # another than TimeoutError until Python 3.11
                with self._lock:
                    self._scheduler.tally.left += 1
                raise expired("PoolStream") from None
        except BaseException:
            home.settle([], self._scheduler.room())  # another may have its place
            raise
        finally:
            turn.cancel()

    def _flush(self, home: Home) -> None:
        """In the loop's turn after some coroutines came: compute what they want here, if that is quick."""
        home.flushes = False
        try:
            done = self._scheduler.at_once(self._compute, home) if self._line.inbox else NotImplemented
        finally:
            if home.group is not None:
                home.group.abandon()  # those whom an exception of Ctrl-C cut off
        if done is not NotImplemented:
            home.settle(done, self._scheduler.room() if home.room else 0)
            self.settle([])
        self._scheduler.ring()

    def _compute(self, home: Home) -> Any:
        """All that waits, if it is a few steps of this loop's coroutines, each of another stream."""
        line = self._line
        if line.held or not self._scheduler.is_quick(len(line)):
            return NotImplemented
        if home.group and len(line.inbox) == 1 and line.inbox[0] is home.group:
            return self._compute_group(home.group)
        for entry in line.inbox:
            if entry is home.group or (
                isinstance(entry, Awaited)
                and entry.home is home
                and not (entry.given and entry.given.steps is not None)
            ):
                continue
            return NotImplemented
        found: list[Any] = []
        for _ in range(len(line.inbox)):
            entry = line.inbox.popleft()
            found += awaited_in(entry) if isinstance(entry, _core.StepGroup) else [entry]
        streams = [id(one.stream) for one in found if one.stream is not None]
        if len(set(streams)) < len(streams):
            line.inbox.extendleft(reversed(found))
            return NotImplemented
        return self._compute_each(found)

    def _compute_group(self, group: _core.StepGroup) -> Any:
        """Gathered and scattered natively."""
        begin = perf_counter()
        taken = group.take(begin)
        self._line.inbox.popleft()
        if taken is None:  # a stream is to come back from its eviction, or is closed
            return self._compute_each(awaited_in(group))
        x, slots, cancelled, waited, lengths = taken
        try:
            y = self._rows.together(x, slots, begin) if slots else x
        except Exception:  # noqa: BLE001 - of a layer written in Python; it may be one stream's alone
            return self._compute_each(awaited_in(group))
        self._scheduler.tally.joined(cancelled, waited, lengths)
        group.finish(y, perf_counter())
        return []

    def _compute_each(self, found: list[Any]) -> list[Any]:
        try:
            self._scheduler.compute(found)
        finally:
            for one in found:
                if not one.done:  # an exception of Ctrl-C came between
                    one.abandon()
        return found
