"""One stream of a pool."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from recurra.common.typing import State
from recurra.serving.closing import Closing
from recurra.serving.door import seconds
from recurra.serving.errors import Overloaded

if TYPE_CHECKING:
    from recurra.serving.pool import Pool
    from recurra.serving.requests import Request


class PoolStream(Closing):
    """The carried state of one sequence in a `Pool`, which made it.

    Arrays have no batch axis: a step takes (features,) and gives (output features,), a chunk (t, features) and
    (t, output features); tokens are a number, and (t,). For a model with several inputs or outputs, one each, in the
    structure that a call of the model takes. The bits are those of a `Stream` of its own, whatever the others do.

    What is asked of one stream runs in the order in which it was asked, also when several threads or tasks ask. `step`,
    `submit_step` and `astep` do the same; they differ in who waits. All raise, or their Future or awaitable does:

    - ValueError, TypeError: x does not fit, the stream is closed, or the pool is draining.
    - Overloaded: the queue is full (`astep` and `aprocess` wait for room), or the stream was evicted and all slots are
      taken.
    - TimeoutError: `timeout` seconds passed before its computation began. It was not computed.

    After any error, and after a cancellation that came before the computation, the state is as before.

    Example:
        >>> model = rc.Sequential(rc.LSTM(3, 8), rc.Linear(8, 2))
        >>> pool = rc.serving.Pool(model, max_streams=100)
        >>> with pool, pool.open() as stream:
        ...     ys = stream.process(np.ones((5, 3), np.float32))
        ...     other = stream.fork()  # goes on from the same state
        ...     ys.shape, other.step(np.ones(3, np.float32)).shape
        ((5, 2), (2,))
    """

    __slots__ = ("__weakref__", "_closed", "_kept", "_pool", "queued", "slot", "used")

    def __init__(self, pool: Pool, slot: int) -> None:
        self._pool = pool
        #: Its row; None while it is evicted, and when it is closed.
        self.slot: int | None = slot
        self._kept: State = None  # the state while it is evicted
        self._closed = False
        #: For the scheduler: its requests, of which the first is the next to be computed; None if there is none.
        self.queued: deque[Request] | None = None
        #: When it was last used, in seconds of `perf_counter`.
        self.used = perf_counter()

    def step(self, x: Any, *, timeout: float | None = None) -> Any:
        """One step: (features,) -> (output features,)."""
        pool = self._pool
        if type(x) is np.ndarray and x.shape == pool._shape and x.dtype is pool._dtype:
            y = pool._scheduler.step(self, x)
            if y is not NotImplemented:
                return y
        timeout = seconds("PoolStream.step", timeout)
        return pool._scheduler.call(self, pool._door.step(x), timeout)

    def process(self, chunk: Any, *, timeout: float | None = None) -> Any:
        """The next t steps, 0 or more: (t, features) -> (t, output features)."""
        pool = self._pool
        timeout = seconds("PoolStream.process", timeout)
        return pool._scheduler.call(self, pool._door.chunk(chunk), timeout)

    def submit_step(self, x: Any, *, timeout: float | None = None) -> Future[Any]:
        """The Future of a step. It can be cancelled until its computation begins."""
        return self._submit("submit_step", x, timeout, False)

    def submit_process(self, chunk: Any, *, timeout: float | None = None) -> Future[Any]:
        """The Future of a chunk's steps."""
        return self._submit("submit_process", chunk, timeout, True)

    def _submit(self, name: str, x: Any, timeout: float | None, chunk: bool) -> Future[Any]:
        operation = f"PoolStream.{name}"
        timeout = seconds(operation, timeout)
        door = self._pool._door
        given = door.chunk(x, operation) if chunk else door.step(x, operation)
        future: Future[Any] = self._pool._scheduler.promise(self, given, timeout)
        return future

    async def astep(self, x: Any, *, timeout: float | None = None) -> Any:
        """One step, for coroutines: `y = await stream.astep(x)`."""
        pool = self._pool
        if timeout is None and (future := pool._scheduler.loops.join(self, x)) is not None:
            return await future
        timeout = seconds("PoolStream.astep", timeout)
        return await pool._scheduler.loops.call(self, pool._door.step(x, "PoolStream.astep"), timeout)

    async def aprocess(self, chunk: Any, *, timeout: float | None = None) -> Any:
        """The next t steps, for coroutines. Cancelled in the middle, it leaves the state as before the chunk."""
        pool = self._pool
        timeout = seconds("PoolStream.aprocess", timeout)
        return await pool._scheduler.loops.call(self, pool._door.chunk(chunk, "PoolStream.aprocess"), timeout)

    def reset(self) -> None:
        """Zero the state, after the steps that were asked for before."""
        self._pool._scheduler.rest(self, self._reset)

    def submit_reset(self) -> Future[None]:
        """The Future of `reset`."""
        return self._pool._scheduler.promise_rest(self, self._reset)  # type: ignore[no-any-return]

    async def areset(self) -> None:
        """`reset`, for coroutines."""
        await self._pool._scheduler.loops.rest(self, self._reset)

    def fork(self) -> PoolStream:
        """Another stream of the pool, with a copy of this one's state.

        Raises:
            Overloaded: all slots are taken.
        """
        return self._pool._scheduler.rest(self, self._fork)  # type: ignore[no-any-return]

    def submit_fork(self) -> Future[PoolStream]:
        """The Future of `fork`."""
        return self._pool._scheduler.promise_rest(self, self._fork)  # type: ignore[no-any-return]

    async def afork(self) -> PoolStream:
        """`fork`, for coroutines."""
        return await self._pool._scheduler.loops.rest(self, self._fork)  # type: ignore[no-any-return]

    def snapshot(self) -> bytes:
        """The state as safetensors bytes with a hash of the model, for `Pool.restore`."""
        return self._pool._scheduler.rest(self, self._snapshot)  # type: ignore[no-any-return]

    def submit_snapshot(self) -> Future[bytes]:
        """The Future of `snapshot`."""
        return self._pool._scheduler.promise_rest(self, self._snapshot)  # type: ignore[no-any-return]

    async def asnapshot(self) -> bytes:
        """`snapshot`, for coroutines."""
        return await self._pool._scheduler.loops.rest(self, self._snapshot)  # type: ignore[no-any-return]

    def close(self) -> None:
        """Free the slot, after the steps that were asked for before. Closing twice does no harm."""
        if not self._closed:
            self._pool._scheduler.rest(self, self.close_now)

    def submit_close(self) -> Future[None]:
        """The Future of `close`."""
        return self._pool._scheduler.promise_rest(self, self.close_now)  # type: ignore[no-any-return]

    async def aclose(self) -> None:
        """`close`, for coroutines; `async with` awaits it."""
        if not self._closed:
            await self._pool._scheduler.loops.rest(self, self.close_now)

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    # For whoever has the scheduler's turn

    def _reset(self) -> None:
        self._pool._rows.reset(self.take_slot())
        self.used = perf_counter()

    def _fork(self) -> PoolStream:
        return self._pool._opened(self.state_now())

    def _snapshot(self) -> bytes:
        return self._pool._snapshots.write(self.state_now())

    def take_slot(self) -> int:
        """Its slot; one that was evicted comes back."""
        if self.slot is None:
            self._check_open()
            slot = self._pool._rows.take(self._kept)
            if slot is None:
                raise Overloaded(
                    "PoolStream: got a step of a stream that was evicted while all slots are taken, expected a free "
                    "one; close or evict others, or allow more max_streams"
                )
            self.slot, self._kept = slot, None
        return self.slot

    def state_now(self) -> State:
        """A copy of its state."""
        self._check_open()
        return self._kept if self.slot is None else self._pool._rows.state(self.slot)

    def evict_now(self) -> None:
        """Keep the state, and free the slot."""
        if self.slot is not None:
            self._kept = self._pool._rows.state(self.slot)
            slot, self.slot = self.slot, None
            self._pool._rows.give_back(slot)

    def close_now(self) -> None:
        """Free the slot for good."""
        self._closed, self._kept = True, None
        slot, self.slot = self.slot, None
        if slot is not None:
            self._pool._rows.give_back(slot)
        self._pool._scheduler.streams.discard(self)

    @property
    def evicted(self) -> bool:
        """Whether it is without a slot until its next step."""
        return self.slot is None and not self._closed

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError("PoolStream: got a call on a closed stream, expected an open one; open another")

    def __del__(self) -> None:
        slot = getattr(self, "slot", None)
        if slot is not None:  # nobody closed it
            self._pool._rows.dropped.append(slot)

    def __reduce__(self) -> Any:
        raise TypeError(
            "PoolStream: got a request to copy or pickle it, expected none, as its state is the pool's; take fork() or "
            "snapshot()"
        )

    def __repr__(self) -> str:
        return f"<PoolStream, {'closed' if self._closed else 'evicted' if self.evicted else 'open'}>"
