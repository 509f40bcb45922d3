"""Plain calls, Futures and awaitables: who waits, who is woken, who is cancelled, and what then became of the
stream."""

from __future__ import annotations

import asyncio
import random
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from linecache import getline
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

import recurra as rc
from agreement import assert_same_bits
from array_types import Array
from fresh_python import run_python
from recurra import serving
from recurra.serving import Pool
from user_layers import Gate

FEATURES = 5
X = np.random.default_rng(0).standard_normal((40, FEATURES)).astype(np.float32)


def model(hidden: int = 9) -> Any:
    return rc.GRU(FEATURES, hidden, seed=0)


def gated() -> tuple[Any, Gate]:
    """A model that computes only while its gate is open."""
    gate = Gate()
    return rc.Sequential(rc.GRU(FEATURES, FEATURES), gate, rc.LSTM(FEATURES, 4), seed=0), gate


@contextmanager
def busy(pool: Pool, gate: Gate) -> Iterator[None]:
    """During the block the pool computes a step that does not end."""
    stream = pool.open()
    gate.entered.clear()
    step = stream.submit_step(X[0])
    assert gate.entered.wait(20)
    yield
    gate.opened.set()
    step.result(20)
    stream.close()


def test_a_lone_caller_computes_itself() -> None:
    """No thread is started for plain calls, nor for those of a loop that are few."""
    code = """
    import asyncio, threading
    import numpy as np
    import recurra as rc
    with rc.serving.Pool(rc.GRU(5, 9), 10) as pool:
        stream = pool.open()
        x = np.zeros(5, np.float32)
        for _ in range(50):
            stream.step(x)
            stream.process(x[None])
            stream.fork().close()
            stream.reset()
        pool.restore(stream.snapshot())
        async def main():
            for _ in range(50):
                await stream.astep(x)
        asyncio.run(main())
        assert threading.active_count() == 1, threading.enumerate()
        stream.submit_step(x).result()
        assert threading.active_count() == 2
        worker, = set(threading.enumerate()) - {threading.main_thread()}
    worker.join(20)
    assert not worker.is_alive()
    """
    run_python(code)


def test_an_import_brings_no_service() -> None:
    loaded = run_python("import sys, recurra; recurra.LSTM(1, 1); print('recurra.serving' in sys.modules)")
    assert loaded.strip() == "False"


def test_what_came_meanwhile_goes_together_and_wakes_a_loop_once() -> None:
    network, gate = gated()

    async def main() -> None:
        async with Pool(network, 33) as pool:
            streams = [pool.open() for _ in range(32)]
            with busy(pool, gate):
                tasks = [asyncio.create_task(stream.astep(X[k])) for k, stream in enumerate(streams)]
                while pool.stats().queue < 32:
                    await asyncio.sleep(0)
                loop = asyncio.get_running_loop()
                woken: list[int] = []
                threadsafe = loop.call_soon_threadsafe
                loop.call_soon_threadsafe = lambda *args: (woken.append(1), threadsafe(*args))[1]  # type: ignore[assignment]
            for k, y in enumerate(await asyncio.gather(*tasks)):
                assert_same_bits(y, network.stream(1).step(X[k : k + 1])[0])
            assert woken == [1]
            assert pool.stats().batch_sizes.counts[:7] == (1, 0, 0, 0, 0, 1, 0)

    asyncio.run(main())


def test_a_batch_has_at_most_max_batch_streams() -> None:
    network, gate = gated()
    with Pool(network, 33, max_batch=8) as pool:
        streams = [pool.open() for _ in range(32)]
        with busy(pool, gate):
            steps = [stream.submit_step(X[0]) for stream in streams]
        for step in steps:
            step.result(20)
        assert pool.stats().batch_sizes.counts[:5] == (1, 0, 0, 4, 0)


def test_max_wait_gathers_steps_that_come_one_by_one() -> None:
    with Pool(model(), 6, max_batch=4, max_wait=30.0) as pool:
        steps = [pool.open().submit_step(X[k]) for k in range(4)]
        for step in steps:
            step.result(20)  # as soon as they are four
        assert pool.stats().batch_sizes.counts[:3] == (0, 0, 1)
        left = pool.open().submit_step(X[0])
        pool.drain()  # waits for no more company
        assert left.done()


@pytest.mark.parametrize("seed", range(4))
def test_what_was_cancelled_happened_or_not(seed: int) -> None:
    """A stream goes on from either state, and the others as if nothing had been."""
    network = model(33)
    pick = random.Random(seed)

    async def caller(stream: Any, twin: Any) -> None:
        for _ in range(30):
            x = X[pick.randrange(len(X))]
            chunk = X[: pick.randrange(40)]
            long = pick.random() < 0.3
            task = asyncio.ensure_future(stream.aprocess(chunk) if long else stream.astep(x))
            if pick.random() < 0.4:
                for _ in range(pick.randrange(3)):
                    await asyncio.sleep(0)
                task.cancel()
            before = twin.state()
            expected = twin.process(chunk[None])[0] if long else twin.step(x[None])[0]
            try:
                assert_same_bits(await task, expected)
            except asyncio.CancelledError:
                now = stream.snapshot()  # after what waits
                past, future = network.stream(1), twin
                past.load_state(before)
                found = pool.restore(now).step(x).tobytes()
                twin = next(one for one in (past, future) if one.fork().step(x[None])[0].tobytes() == found)

    async def main() -> None:
        with pool:
            await asyncio.gather(*(caller(pool.open(), network.stream(1)) for _ in range(20)))

    pool = Pool(network, 60)
    pool._rows.seconds = 1e-3  # chunks in parts
    asyncio.run(main())


def test_a_future_can_be_cancelled_until_it_is_computed() -> None:
    network, gate = gated()
    with Pool(network, 3) as pool:
        stream, other = pool.open(), pool.open()
        with busy(pool, gate):
            steps = [stream.submit_step(X[k]) for k in range(3)]
            last = other.submit_step(X[5])
            assert steps[1].cancel()
        with pytest.raises(CancelledError):
            steps[1].result(20)
        twin = network.stream(1)
        assert_same_bits(steps[0].result(20), twin.step(X[:1])[0])
        assert_same_bits(steps[2].result(20), twin.step(X[2:3])[0])
        assert_same_bits(last.result(20), network.stream(1).step(X[5:6])[0])
        assert pool.stats().cancelled == 1


def test_a_caller_may_reuse_its_buffer() -> None:
    network, gate = gated()
    with Pool(network, 3) as pool:
        stream = pool.open()
        buffer = X[0].copy()
        with busy(pool, gate):
            steps = []
            for k in range(3):
                buffer[:] = X[k]
                steps.append(stream.submit_step(buffer))
            buffer[:] = np.nan
        twin = network.stream(1)
        for k, step in enumerate(steps):
            assert_same_bits(step.result(20), twin.step(X[k : k + 1])[0])


def test_results_are_the_callers_own() -> None:
    with Pool(model(), 8) as pool:
        streams = [pool.open() for _ in range(8)]
        ys: list[Array] = []
        pool._scheduler._turns("test", lambda: ys.extend([s.submit_step(X[0]) for s in streams]))  # type: ignore[misc]
        results = [y.result(20) for y in ys]  # type: ignore[attr-defined]
        for index, y in enumerate(results):
            y[...] = index
        assert [float(y[0]) for y in results] == list(range(8))


def test_a_callback_may_use_the_pool() -> None:
    """It runs on the worker's thread, which then computes what the callback waits for."""
    network = model()
    with Pool(network, 2) as pool:
        stream, other = pool.open(), pool.open()
        made: list[Array] = []
        done = threading.Event()

        def callback(_future: Any) -> None:
            made.append(other.submit_step(X[1]).result(0) if other is None else other.step(X[1]))
            later = other.submit_step(X[2])
            made.append(other.step(X[3]))
            assert later.done()
            pool.drain()
            done.set()

        stream.submit_step(X[0]).add_done_callback(callback)
        assert done.wait(20)
        twin = network.stream(1)
        for y, k in zip(made, (1, 3), strict=True):
            if k == 3:
                twin.step(X[2:3])
            assert_same_bits(y, twin.step(X[k : k + 1])[0])


def test_a_call_inside_another_is_refused() -> None:
    class Nested(rc.PythonLayer):
        stateless = True

        def forward(self, x: Array, **_options: Any) -> Any:
            stream.step(x[0, 0])
            return x, None

        def backward(self, dy: Array, saved: Any) -> Array:
            return dy

    with Pool(rc.Sequential(rc.GRU(FEATURES, FEATURES), Nested()), 1) as pool:
        stream = pool.open()
        with pytest.raises(ValueError, match=r"^PoolStream: got a call inside another on the same thread"):
            stream.step(X[0])
        with pytest.raises(ValueError, match="inside another"):
            stream.submit_step(X[0]).result(20)


@pytest.mark.parametrize("max_queue", [None, 1, 3])
def test_loops_of_several_threads(max_queue: int | None) -> None:
    network = model(40)
    with Pool(network, 60, max_queue=max_queue) as pool:

        def run() -> None:
            async def caller() -> None:
                with pool.open() as stream:
                    twin = network.stream(1)
                    for x in X:
                        assert_same_bits(await stream.astep(x), twin.step(x[None])[0])

            async def main() -> None:
                await asyncio.gather(*(caller() for _ in range(12)))

            asyncio.run(main())

        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert pool.stats().steps == 4 * 12 * len(X)


class Interrupt:
    """Raises KeyboardInterrupt at the k-th line of the pool's own Python that the main thread comes by, but for places
    where no signal is handled: at a `with`, of which the interpreter tells also just before it leaves the block, and
    where a loop jumps back, which from Python 3.12 on is not always within the `with` around it."""

    def __init__(self, at: int) -> None:
        self.left = at
        self.folder = str(Path(serving.__file__).parent)

    def __call__(self, frame: FrameType, _event: str, _arg: Any) -> Any:
        if not frame.f_code.co_filename.startswith(self.folder) or frame.f_code.co_name == "__del__":
            return None
        last = -1

        def local(frame: FrameType, event: str, _arg: Any) -> Any:
            nonlocal last
            if event == "line":
                ahead, last = frame.f_lineno > last, frame.f_lineno
                if ahead and not getline(frame.f_code.co_filename, frame.f_lineno).lstrip().startswith("with "):
                    self.left -= 1
                    if self.left == 0:
                        raise KeyboardInterrupt
            return local

        return local


@contextmanager
def interrupted(at: int) -> Iterator[Interrupt]:
    before = sys.gettrace()
    sys.settrace(interrupt := Interrupt(at))
    try:
        with suppress(KeyboardInterrupt):
            yield interrupt
    finally:
        sys.settrace(before)


@pytest.mark.parametrize("work", ["plain", "queued", "loop"])
def test_ctrl_c_anywhere_leaves_a_pool_that_works(work: str) -> None:
    """At each line in turn, until the work is through without coming by so many."""
    network = model()
    pool = Pool(network, 400, max_queue=100)
    other = pool.open()
    twin = network.stream(1)

    tasks: list[asyncio.Task[Any]] = []

    async def steps(*streams: Any) -> None:
        own = asyncio.current_task()
        assert own is not None
        tasks[:] = [own, *(asyncio.create_task(stream.astep(X[0])) for stream in streams)]
        await asyncio.gather(*tasks[1:])

    for at in range(1, 400):
        stream = pool.open()
        before = stream.snapshot()
        with interrupted(at) as interrupt:
            if work == "plain":
                stream.step(X[0])
                stream.process(X[:2])
                pool.open().close()
            elif work == "queued":
                pool._scheduler.line.held += 1  # so that it finds a queue
                try:
                    waiting = stream.submit_step(X[0])
                    waiting.cancel()
                finally:
                    pool._scheduler.line.held -= 1
                stream.submit_step(X[0]).result(20)
                stream.submit_step(X[1]).result(20)
                stream.reset()
            else:
                asyncio.run(steps(stream, pool.open()))
        for task in tasks:
            if task.done() and not task.cancelled():
                task.exception()  # asyncio tells of those that nobody looked at
        assert_same_bits(other.step(X[at % 40]), twin.step(X[at % 40][None])[0], f"line {at}")
        assert_same_bits(other.submit_step(X[0]).result(20), twin.step(X[:1])[0])
        assert_same_bits(asyncio.run(asyncio.wait_for(other.astep(X[1]), 20)), twin.step(X[1:2])[0])
        assert len(stream.snapshot()) == len(before)
        stream.close()
        end = time.monotonic() + 20
        while pool.stats().queue and time.monotonic() < end:
            time.sleep(0.001)
        assert pool.stats().queue == 0
        if interrupt.left > 0:
            break
    else:
        raise AssertionError("the work has more lines than were tried")
    assert at > 20
    pool.close()
