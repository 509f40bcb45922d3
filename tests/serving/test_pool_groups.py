"""Steps that coroutines ask for in one turn of their loop: gathered and scattered natively, in the order of asking."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections import deque
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest

import recurra as rc
from agreement import assert_same_bits
from array_types import DTYPES, Array
from recurra import _core
from recurra.serving import Pool
from stream_models import FEATURES

X = np.random.default_rng(3).standard_normal((40, FEATURES)).astype(np.float32)


def model(dtype: str = "float32") -> Any:
    return rc.Sequential(rc.GRU(FEATURES, 9, dtype=dtype), rc.Linear(9, 3, dtype=dtype), seed=0)


def group_of(owner: Any = None, made: Any = Future) -> tuple[Any, deque[Any]]:
    inbox: deque[Any] = deque()
    return _core.StepGroup("float32", FEATURES, owner, made, inbox), inbox


class Row:
    """What a group knows of a stream."""

    def __init__(self, slot: int | None) -> None:
        self.slot, self.used = slot, 0.0


def test_a_group_gathers_and_scatters() -> None:
    group, inbox = group_of()
    rows = [Row(5), Row(2), Row(7)]
    futures = [group.add(row, x) for row, x in zip(rows, X, strict=False)]
    assert list(inbox) == [group]
    assert len(group) == 3
    assert group.add(rows[1], X[9]) is None  # its second step waits for the first
    futures[1].cancel()
    x, slots, left, waited, lengths = group.take(1e9)
    assert_same_bits(x, X[[0, 2]])
    assert (slots, left, len(group)) == ([5, 7], 1, 0)
    assert waited > 0
    assert sum(count for _, count in lengths) == 2
    y = np.arange(8, dtype=np.float32).reshape(2, 4)
    group.finish(y, 3.5)
    assert_same_bits(futures[2].result(), y[1])
    assert futures[0].result().base is None
    assert [row.used for row in rows] == [3.5, 0.0, 3.5]


def test_a_step_does_not_pass_what_came_after_its_group() -> None:
    group, inbox = group_of()
    assert group.add(Row(0), X[0]) is not None
    inbox.append("a request")
    assert group.add(Row(1), X[1]) is None
    assert [x.tolist() for _, x, _, _ in group.spread()] == [X[0].tolist()]
    assert group.add(Row(1), X[1]) is not None
    assert inbox.count(group) == 2


@pytest.mark.parametrize(
    "x", [X[0].astype(np.float64), X[0][:-1], X[:2], X.T[:, 0][::-1], X[0].astype(">f4"), X[0].tolist(), None]
)
def test_what_is_no_plain_step_takes_another_way(x: Any) -> None:
    group, inbox = group_of()
    assert group.add(Row(0), x) is None
    assert not inbox
    assert not group


def test_a_stream_without_a_slot_leaves_a_group_as_it_is() -> None:
    group, _ = group_of()
    future = group.add(Row(1), X[0])
    assert group.add(Row(None), X[1]) is not None
    assert group.take(0.0) is None
    assert len(group.spread()) == 2
    assert not future.done()


def test_wrong_results_are_refused() -> None:
    group, _ = group_of()
    future = group.add(Row(1), X[0])
    group.take(0.0)
    with pytest.raises(ValueError, match="expected 1 rows"):
        group.finish(np.zeros((2, 3), np.float32), 0.0)
    group.abandon()
    assert future.cancelled()


def test_a_pool_that_is_forgotten_with_steps_that_wait_is_collected() -> None:
    pool = Pool(model(), 3)
    loop = asyncio.new_event_loop()

    async def ask(pool: Pool) -> None:
        pool._scheduler.loops.join(pool.open(), X[0])
        asyncio.get_running_loop().stop()

    task = loop.create_task(ask(pool))
    loop.run_forever()
    loop.close()
    gone = weakref.ref(pool)
    del pool, task, loop
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_stream_asked_in_every_way_keeps_the_order(dtype: str) -> None:
    """Awaited with and without a timeout, as a Future, as a chunk, and closed, all before the loop's turn ends."""
    network = model(dtype)
    xs = X.astype(dtype)

    async def main() -> None:
        async with Pool(network, 8) as pool:
            for first in range(4):
                streams = [pool.open() for _ in range(4)]
                twins = [network.stream(1) for _ in streams]
                asked: list[tuple[int, Any]] = []
                for turn in range(8):
                    for k, stream in enumerate(streams):
                        x: Array = xs[turn + k]
                        way = (first + turn * 3 + k) % 5
                        if way == 0:
                            asked.append((k, asyncio.wrap_future(stream.submit_step(x))))
                        elif way == 1:
                            asked.append((k, asyncio.create_task(stream.aprocess(x[None]))))
                        elif way == 2:
                            asked.append((k, asyncio.create_task(stream.astep(x, timeout=60))))
                        else:
                            asked.append((k, asyncio.create_task(stream.astep(x))))
                        if way in (1, 2, 3, 4):
                            await asyncio.sleep(0) if turn % 3 == 0 else None
                    # Tasks begin in the order in which they were made, Futures at once: let those begin first.
                    await asyncio.sleep(0)
                results = await asyncio.gather(*(one for _, one in asked))
                # Each stream has taken eight inputs; a Future of the same turn is before that turn's tasks.
                for k, twin in enumerate(twins):
                    mine = [y for (which, _), y in zip(asked, results, strict=True) if which == k]
                    for turn, y in enumerate(mine):
                        assert_same_bits(y.reshape(-1), twin.step(xs[turn + k][None])[0])
                for stream in streams:
                    stream.close()

    asyncio.run(main())


def test_cancelled_evicted_and_closed_streams_in_a_group() -> None:
    network = model()

    async def main() -> None:
        async with Pool(network, 8) as pool:
            streams = [pool.open() for _ in range(6)]
            twins = [network.stream(1) for _ in streams]
            assert pool.evict_idle(0) == 6
            tasks = [asyncio.create_task(stream.astep(X[k])) for k, stream in enumerate(streams)]
            await asyncio.sleep(0)  # they have asked
            tasks[2].cancel()
            ys = await asyncio.gather(*tasks, return_exceptions=True)
            assert isinstance(ys[2], asyncio.CancelledError)
            for k, (y, twin) in enumerate(zip(ys, twins, strict=True)):
                if k != 2:
                    assert_same_bits(y, twin.step(X[k : k + 1])[0])
            assert_same_bits(await streams[2].astep(X[7]), twins[2].step(X[7:8])[0])
            assert pool.stats().cancelled == 1
            streams[0].close()
            with pytest.raises(ValueError, match="closed stream"):
                await streams[0].astep(X[0])

    asyncio.run(main())


def test_an_error_in_a_group_is_its_streams_alone() -> None:
    network = rc.Sequential(rc.GRU(FEATURES, 4), rc.Linear(4, 2), seed=0)

    async def main() -> None:
        async with Pool(network, 8) as pool:
            streams = [pool.open() for _ in range(5)]
            twins = [network.stream(1) for _ in streams]
            step = pool._rows.stream.step

            def fails(x: Array, *more: Any) -> Array:
                if (x == 7.0).any():
                    raise OverflowError("the user's own error")
                return step(x, *more)  # type: ignore[no-any-return]

            pool._rows.stream.step = fails  # type: ignore[method-assign]
            xs = [X[k].copy() for k in range(5)]
            xs[3][:] = 7.0
            ys = await asyncio.gather(
                *(one.astep(x) for one, x in zip(streams, xs, strict=True)), return_exceptions=True
            )
            assert isinstance(ys[3], OverflowError)
            for k in (0, 1, 2, 4):
                assert_same_bits(ys[k], twins[k].step(xs[k][None])[0])
            assert_same_bits(await streams[3].astep(X[0]), twins[3].step(X[:1])[0])
            assert pool.stats().failed == 1
            assert pool.stats().steps == 5

    asyncio.run(main())


def test_a_full_queue_counts_the_steps_of_a_group() -> None:
    async def main() -> None:
        async with Pool(model(), 30, max_queue=8) as pool:
            streams = [pool.open() for _ in range(30)]
            tasks = [asyncio.create_task(stream.astep(X[0])) for stream in streams]
            await asyncio.sleep(0)
            assert pool.stats().queue == 8
            with pytest.raises(rc.serving.Overloaded):
                streams[0].submit_step(X[0])
            await asyncio.gather(*tasks)
            assert pool.stats().steps == 30

    asyncio.run(main())


def test_calls_that_wait_for_company_may_come_in_groups() -> None:
    async def main() -> None:
        async with Pool(model(), 30, max_wait=0.05) as pool:
            streams = [pool.open() for _ in range(20)]
            await asyncio.gather(*(stream.astep(X[0]) for stream in streams))
            sizes = pool.stats().batch_sizes
            assert sizes.total == 20
            assert sizes.number <= 2
            assert pool.stats().waiting.total >= 0.02

    asyncio.run(main())
