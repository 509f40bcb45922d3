"""A pool of streams."""

from __future__ import annotations

from asyncio import to_thread
from collections.abc import Mapping
from concurrent.futures import Future
from time import perf_counter, sleep
from typing import TYPE_CHECKING, Any

from recurra.common import checks
from recurra.common.typing import State
from recurra.layers.layer import Layer
from recurra.serving.closing import Closing
from recurra.serving.door import Door, seconds
from recurra.serving.errors import Overloaded
from recurra.serving.pool_stream import PoolStream
from recurra.serving.rows import Rows
from recurra.serving.scheduler import Scheduler
from recurra.serving.served import served
from recurra.serving.stats import PoolStats, Tally

if TYPE_CHECKING:
    from recurra.interop.onnx.model import OnnxModel


class Pool(Closing):
    """Live streams of one model, for services: each has its own caller, and those that wait are computed together.

        pool = rc.serving.Pool(model, max_streams=1000)
        stream = pool.open()
        y = stream.step(x)                       # (features,) -> (output features,), from any thread
        future = stream.submit_step(x)           # a concurrent.futures.Future
        y = await stream.astep(x)                # on an event loop

    While nobody else computes, a step runs at once on its caller's thread. Otherwise, what came in meanwhile goes in
    one native call. That changes no result: the bits of each stream are those of a `Stream` of its own.

    `with` closes the pool, and `async with`, too. In a process that was forked the child's pool works, with a copy of
    the streams; what waited belongs to the parent.

    Args:
        model: a layer or model that streams, or what `from_onnx` returned, if its inputs are (N, features), its states
            have rows, and all that is no layer only moves numbers (voice detectors are such graphs). A layer's weights
            may change at any time, by `load_state_dict` here or otherwise; each native call sees one version of them.
        max_streams: slots for streams. The memory is taken at once, the state's bytes for each.
        max_batch: streams in one native call at most; None for no limit.
        max_wait: seconds that a step may wait for others to share its call. 0 computes at once what there is.
        max_queue: steps and chunks that may wait; more of them are refused with `Overloaded`, or wait outside the queue
            if they are awaited. None for no limit.

    Raises:
        ValueError: the model does not stream.
        TypeError: it is none of these.

    Example:
        >>> model = rc.Sequential(rc.LSTM(3, 8), rc.Linear(8, 2))
        >>> pool = rc.serving.Pool(model, max_streams=100)
        >>> with pool, pool.open() as stream:
        ...     y = stream.step(np.ones(3, np.float32))
        ...     future = stream.submit_step(np.ones(3, np.float32))
        ...     y.shape, future.result().shape
        ((2,), (2,))
    """

    def __init__(
        self,
        model: Layer | OnnxModel,
        max_streams: int,
        max_batch: int | None = None,
        max_wait: float = 0.0,
        max_queue: int | None = None,
    ) -> None:
        about = served(model)
        self._slots = checks.integer("Pool", "max_streams", max_streams)
        batch = self._slots if max_batch is None else checks.integer("Pool", "max_batch", max_batch)
        wait = checks.number("Pool", "max_wait", max_wait)
        room = None if max_queue is None else checks.integer("Pool", "max_queue", max_queue)
        self._model = model
        self._tally = Tally()
        self._rows = Rows(about, self._slots, self._tally)
        self._door = Door(about.ports, about.inputs, about.dtype)
        #: Of an x that needs no further check.
        self._shape, self._dtype = self._door.shape if self._rows.single else None, about.dtype
        self._snapshots = about.snapshots
        plain = (self._shape[0], str(self._dtype)) if self._shape is not None else None
        self._scheduler = Scheduler(self._rows, self._tally, plain, batch, wait, room)
        self._closed = False

    @property
    def model(self) -> Layer | OnnxModel:
        """The model."""
        return self._model

    @property
    def max_streams(self) -> int:
        """The number of slots."""
        return self._slots

    def open(self) -> PoolStream:
        """A new stream, with zero state.

        One that is garbage collected without having been closed gives its slot back, too.

        Raises:
            Overloaded: all slots are taken.
            ValueError: the pool is draining or closed.
        """
        return self._scheduler.rest(None, self._opened, None)  # type: ignore[no-any-return]

    def submit_open(self) -> Future[PoolStream]:
        """The Future of `open`."""
        return self._scheduler.promise_rest(None, self._opened, None)  # type: ignore[no-any-return]

    async def aopen(self) -> PoolStream:
        """`open`, for coroutines."""
        return await self._scheduler.loops.rest(None, self._opened, None)  # type: ignore[no-any-return]

    def restore(self, data: bytes, strict: bool = True) -> PoolStream:
        """A new stream that goes on from a `snapshot()`, taken in this process or another.

        Args:
            data: the bytes.
            strict: whether the model must have the weights that it had then; if not, they may be others of the same
                layers and sizes.

        Raises:
            ValueError: a snapshot of another model or, if strict, of other weights; the pool is draining or closed.
            ModelFormatError: bytes that are no snapshot, or a damaged one.
            Overloaded: all slots are taken.
        """
        state = self._kept("restore", data, strict)
        return self._scheduler.rest(None, self._opened, state)  # type: ignore[no-any-return]

    def submit_restore(self, data: bytes, strict: bool = True) -> Future[PoolStream]:
        """The Future of `restore`. Bytes that do not fit are refused at once."""
        state = self._kept("submit_restore", data, strict)
        return self._scheduler.promise_rest(None, self._opened, state)  # type: ignore[no-any-return]

    async def arestore(self, data: bytes, strict: bool = True) -> PoolStream:
        """`restore`, for coroutines."""
        state = self._kept("arestore", data, strict)
        return await self._scheduler.loops.rest(None, self._opened, state)  # type: ignore[no-any-return]

    def _kept(self, name: str, data: bytes, strict: bool) -> State:
        return self._snapshots.read(data, checks.flag(f"Pool.{name}", "strict", strict))

    def _opened(self, state: State) -> PoolStream:
        self._scheduler.check_takes()
        slot = self._rows.take(state)
        if slot is None:
            raise Overloaded(
                f"Pool.open: got {self._slots} open streams, expected fewer than max_streams; close or evict some, or "
                "allow more"
            )
        stream = PoolStream(self, slot)
        self._scheduler.streams.add(stream)
        return stream

    def evict_idle(self, seconds: float) -> int:
        """Take the slots of streams that were not used for so long, and keep their states aside. Each comes back with
        its next step, if a slot is free then.

        Returns:
            How many there were.
        """
        seconds = checks.number("Pool.evict_idle", "seconds", seconds)
        return self._scheduler.rest(None, self._evict, seconds)  # type: ignore[no-any-return]

    def _evict(self, seconds: float) -> int:
        before = perf_counter() - seconds
        idle = [
            one
            for one in self._scheduler.open_streams()
            if not one.evicted and one.queued is None and one.used <= before
        ]
        for stream in idle:
            stream.evict_now()
        self._tally.evictions += len(idle)
        return len(idle)

    def load_state_dict(self, mapping: Mapping[str, Any], strict: bool = True) -> None:
        """Give the model other weights while its streams go on: `model.load_state_dict`. No native call sees a mixture
        of old and new ones; a long chunk may be computed with the old ones at first, and then with the new."""
        if not isinstance(self._model, Layer):
            raise TypeError(
                "Pool.load_state_dict: got a pool of a graph from ONNX, expected one of a layer or model; open another "
                "pool"
            )
        self._model.load_state_dict(mapping, strict)

    def stats(self) -> PoolStats:
        """What it did so far, and what waits now."""
        streams = self._scheduler.open_streams()
        return self._tally.stats(len(streams), sum(one.evicted for one in streams), len(self._scheduler.line))

    def drain(self, timeout: float | None = None) -> None:
        """Take no more steps, and return when those that wait are done. Streams can be saved and closed afterwards.

        Args:
            timeout: seconds to wait; None for any time.

        Raises:
            TimeoutError: some still wait; they will be computed, and no others.
        """
        timeout = seconds("Pool.drain", timeout)
        end = None if timeout is None else perf_counter() + timeout
        self._scheduler.refuse("Pool: got a call after drain() or close(), expected it before; open another pool")
        pause = 1e-4
        while not self._scheduler.is_at_rest():
            if end is not None and perf_counter() >= end:
                raise TimeoutError(f"Pool.drain: {len(self._scheduler.line)} requests wait after {timeout} seconds")
            if not self._scheduler.work_here():
                sleep(pause)
                pause = min(2 * pause, 5e-3)

    def close(self) -> None:
        """Drain, and close all streams."""
        if not self._closed:
            self.drain()
            self._scheduler.rest(None, self._close)
            self._scheduler.retire()

    async def aclose(self) -> None:
        """`close`, for coroutines; `async with` awaits it. The event loop goes on meanwhile."""
        await to_thread(self.close)

    def _close(self) -> None:
        for stream in self._scheduler.open_streams():
            stream.close_now()
        self._closed = True

    def __reduce__(self) -> Any:
        raise TypeError(
            "Pool: got a request to copy or pickle it, expected none, as it belongs to this process; make another one, "
            "and restore snapshots of the streams"
        )
