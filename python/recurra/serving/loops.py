"""Event loops whose coroutines use a pool."""

from __future__ import annotations

import threading
from asyncio import TimeoutError as AsyncTimeoutError
from asyncio import get_running_loop, wait_for
from time import perf_counter
from typing import TYPE_CHECKING, Any

from recurra.serving.door import Given
from recurra.serving.errors import expired
from recurra.serving.requests import Awaited, Home

if TYPE_CHECKING:
    from recurra.serving.pool_stream import PoolStream
    from recurra.serving.scheduler import Scheduler


class Loops:
    """The side of a scheduler that coroutines see."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._line = scheduler.line
        self.homes: list[Home] = []
        self._lock = threading.Lock()  # of who adds a home

    def after_fork(self) -> None:
        """In a child, whose loops are others."""
        self.homes, self._lock = [], threading.Lock()

    async def call(self, stream: PoolStream, given: Given, timeout: float | None) -> Any:
        """The output of a step or chunk."""
        home = self._home()
        request = Awaited(stream, given.copied(), timeout, home)
        while not self._scheduler.accept(request):
            await self._room(home, request)
        if not home.flushes:
            home.loop.call_soon(self._flush, home)
            home.flushes = True  # in this order, in case that an exception of Ctrl-C comes between
        return await request.future

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
        return made

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
        done = self._scheduler.at_once(self._compute, home) if self._line.inbox else NotImplemented
        if done is not NotImplemented:
            home.settle(done, self._scheduler.room() if home.room else 0)
            self.settle([])
        self._scheduler.ring()

    def _compute(self, home: Home) -> Any:
        """All that waits, if it is a few steps of this loop's coroutines, each of another stream."""
        found = list(self._line.inbox)
        if self._line.held or not self._scheduler.is_quick(len(found)):
            return NotImplemented
        for one in found:
            if not isinstance(one, Awaited) or one.home is not home or (one.given and one.given.steps is not None):
                return NotImplemented
        if len({id(one.stream) for one in found}) < len(found):
            return NotImplemented
        for _ in found:
            self._line.inbox.popleft()
        try:
            self._scheduler.compute(found)
        finally:
            for one in found:
                if not one.done:  # an exception of Ctrl-C came between
                    one.abandon()
        return found
