"""What a pool refuses: more than there is room for, what came too late, and what does not fit."""

from __future__ import annotations

import asyncio
import copy
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from test_pool_callers import FEATURES, X, busy, gated, model

import recurra as rc
from agreement import assert_same_bits
from recurra.serving import Overloaded, Pool
from stream_models import TOKENS, tokens
from user_layers import Gate


def test_a_full_queue_refuses() -> None:
    network, gate = gated()
    with Pool(network, 10, max_queue=3) as pool:
        streams = [pool.open() for _ in range(5)]
        with busy(pool, gate):
            steps = [stream.submit_step(X[k]) for k, stream in enumerate(streams[:3])]
            for call in (streams[3].step, streams[3].submit_step, streams[0].submit_step):
                with pytest.raises(Overloaded, match=r"^PoolStream: got a step while 3 others wait"):
                    call(X[0])
            with pytest.raises(Overloaded):
                streams[4].process(X)
            assert pool.stats().queue == 3
            assert pool.stats().refused == 4
        for k, step in enumerate(steps):
            assert_same_bits(step.result(20), network.stream(1).step(X[k : k + 1])[0])
        assert_same_bits(streams[3].step(X[0]), network.stream(1).step(X[:1])[0])


def test_more_than_it_can_do_for_a_while() -> None:
    """Threads that ask without waiting: who is refused is told so, what was taken has its bits, the queue has its
    bound, and afterwards all is as before."""
    network = model()
    with Pool(network, 31, max_queue=16) as pool:
        queues: list[int] = []

        def flood(seed: int) -> tuple[int, list[tuple[Any, Any]]]:
            rng = np.random.default_rng(seed)
            streams = [pool.open() for _ in range(10)]
            taken: list[list[tuple[Any, Any]]] = [[] for _ in streams]
            refused = 0
            for _ in range(600):
                k = int(rng.integers(10))
                x = X[rng.integers(40)]
                try:
                    taken[k].append((x, streams[k].submit_step(x)))
                except Overloaded:
                    refused += 1
                queues.append(pool.stats().queue)
            twins = [network.stream(1) for _ in streams]
            for twin, one in zip(twins, taken, strict=True):
                for x, future in one:
                    assert_same_bits(future.result(20), twin.step(x[None])[0])
            return refused, list(zip(streams, twins, strict=True))

        def crowd(stream: Any) -> int:
            refused = 0
            for _ in range(40):
                try:
                    stream.submit_step(X[0])
                except Overloaded:
                    refused += 1
            return refused

        refused = pool._scheduler._turns("test", crowd, pool.open())  # nobody computes meanwhile
        assert refused == 24
        with ThreadPoolExecutor(3) as threads:
            floods = list(threads.map(flood, range(3)))
        for one, live in floods:
            refused += one
            for stream, twin in live:
                assert_same_bits(stream.step(X[0]), twin.step(X[:1])[0])
        assert max(queues) <= 16 + 1  # one on its way from the inbox to its stream may be counted twice
        stats = pool.stats()
        assert stats.refused == refused
        assert stats.queue == 0
        assert stats.failed == stats.expired == stats.cancelled == 0


def test_coroutines_wait_for_room() -> None:
    network, gate = gated()

    async def main() -> None:
        async with Pool(network, 40, max_queue=3) as pool:
            streams = [pool.open() for _ in range(30)]
            with busy(pool, gate):
                tasks = [asyncio.create_task(stream.astep(X[k])) for k, stream in enumerate(streams)]
                late = asyncio.create_task(streams[0].astep(X[0], timeout=0.01))
                gone = [asyncio.create_task(stream.astep(X[0])) for stream in streams[:20]]
                await asyncio.sleep(0.05)
                assert pool.stats().queue == 3
                assert late.done()
                for task in gone:
                    task.cancel()
            for k, y in enumerate(await asyncio.wait_for(asyncio.gather(*tasks), 20)):
                assert_same_bits(y, network.stream(1).step(X[k : k + 1])[0])
            with pytest.raises(TimeoutError, match=r"^PoolStream: got no turn before its timeout"):
                await late
            assert pool.stats().refused == 0
            assert pool.stats().queue == 0

    asyncio.run(main())


def test_what_comes_too_late_is_not_computed() -> None:
    network, gate = gated()

    async def main(pool: Pool) -> None:
        stream, plain = pool.open(), pool.open()
        caught: list[Exception] = []

        def call() -> None:
            try:
                plain.step(X[0], timeout=0.0)
            except TimeoutError as error:
                caught.append(error)

        thread = threading.Thread(target=call)
        with busy(pool, gate):
            first = stream.submit_step(X[0], timeout=100.0)
            late = stream.submit_process(X[:3], timeout=0.0)
            third = asyncio.create_task(stream.astep(X[1], timeout=0.0))
            thread.start()
            await asyncio.sleep(0.05)
        thread.join(20)
        with pytest.raises(TimeoutError, match=r"^PoolStream: got no turn before its timeout"):
            late.result(20)
        with pytest.raises(TimeoutError):
            await third
        assert len(caught) == 1
        twin = network.stream(1)
        assert_same_bits(first.result(20), twin.step(X[:1])[0])
        assert_same_bits(stream.step(X[5]), twin.step(X[5:6])[0])
        assert pool.stats().expired == 3

    with Pool(network, 3) as pool:
        asyncio.run(main(pool))


BAD: list[tuple[Any, type[Exception], str]] = [
    (X[:1], ValueError, r"got x of shape \(1, 5\), expected \(5,\); a pool's stream is one sequence"),
    (X[0, :4], ValueError, r"got x of shape \(4,\), expected \(5,\)"),
    (X[0].astype(np.float64), TypeError, r"got x of float64, expected float32; convert it with x.astype\(np.float32\)"),
    ([1, 2, 3, 4, 5], TypeError, "got x of int64, expected float32"),
    (None, TypeError, "got x of object"),
    ("abc", TypeError, "got x of"),
    ({}, TypeError, "got x of"),
    (np.float32(3), ValueError, r"got x of shape \(\)"),
]


@pytest.mark.parametrize(("x", "error", "message"), BAD)
def test_an_input_that_does_not_fit_is_its_callers_matter(x: Any, error: type[Exception], message: str) -> None:
    """Refused before it waits: the others do not notice, and its stream goes on."""
    network, gate = gated()

    async def main(pool: Pool) -> None:
        streams = [pool.open() for _ in range(3)]
        with busy(pool, gate):
            steps = [stream.submit_step(X[k]) for k, stream in enumerate(streams)]
            for name in ("step", "submit_step"):
                with pytest.raises(error, match=rf"^PoolStream\.{name}: {message}"):
                    getattr(streams[0], name)(x)
            with pytest.raises(error, match=rf"^PoolStream\.astep: {message}"):
                await streams[0].astep(x)
            for name in ("process", "submit_process"):
                with pytest.raises(error, match=rf"^PoolStream\.{name}: got x"):
                    getattr(streams[0], name)(x if np.ndim(x) != 2 else X[None])
            with pytest.raises(error):
                await streams[0].aprocess(x if np.ndim(x) != 2 else X[None])
            assert pool.stats().queue == 3
        for k, step in enumerate(steps):
            assert_same_bits(step.result(20), network.stream(1).step(X[k : k + 1])[0])

    with Pool(network, 4) as pool:
        asyncio.run(main(pool))


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (TOKENS, ValueError, f"got token {TOKENS} in x, expected 0 to {TOKENS - 1}"),
        (-1, ValueError, "got token -1 in x"),
        (np.uint64(2**64 - 1), ValueError, "got token 9223372036854775807 in x"),
        (1.0, TypeError, "got x of float64, expected integers"),
        (True, TypeError, "got x of bool, expected integers"),
        ([1], ValueError, r"got x of shape \(1,\), expected one token"),
    ],
)
def test_tokens_that_do_not_fit(x: Any, error: type[Exception], message: str) -> None:
    with Pool(tokens("float32"), 2) as pool:
        stream = pool.open()
        with pytest.raises(error, match=rf"^PoolStream\.step: {message}"):
            stream.step(x)
        with pytest.raises(error, match=r"^PoolStream\.process: got"):
            stream.process([x, x])
        stream.process([])


def test_nan_stays_with_its_stream() -> None:
    network = rc.Sequential(rc.LSTM(FEATURES, 40), rc.GRU(40, 3), seed=0)
    with Pool(network, 20) as pool:
        streams, twins = [pool.open() for _ in range(20)], [network.stream(1) for _ in range(20)]
        for turn in range(4):
            xs = [np.full_like(X[0], np.nan if k % 3 == turn else np.inf if k == 7 else X[k, 0]) for k in range(20)]
            asked: list[Any] = []
            pool._scheduler._turns("test", lambda: asked.extend(s.submit_step(x) for s, x in zip(streams, xs)))  # noqa: B023, B905
            for future, twin, x in zip(asked, twins, xs, strict=True):
                assert_same_bits(future.result(20), twin.step(x[None])[0])


def test_an_error_that_one_streams_values_cause_is_that_streams_alone() -> None:
    """A layer written in Python raises for a batch; those who did not cause it are computed, and the one who did is as
    before, also after a part of its chunk."""
    gate = Gate()
    network = rc.Sequential(rc.GRU(FEATURES, 4), rc.Residual(rc.Linear(4, 4)), seed=0)
    network = rc.Sequential(rc.Linear(FEATURES, FEATURES), gate, network, seed=0)
    gate.opened.set()
    with Pool(network, 10) as pool:
        streams, twins = [pool.open() for _ in range(9)], [network.stream(1) for _ in range(9)]
        pool._rows.seconds = 1e-4
        for turn in range(3):
            xs = [X[k : k + (1 if turn == 0 else 30)].copy() for k in range(9)]
            xs[3][-1] = xs[7][len(xs[7]) // 2] = 1e9
            asked: list[Any] = []

            def submit() -> None:
                for stream, x in zip(streams, xs, strict=True):  # noqa: B023
                    asked.append(stream.submit_step(x[0]) if len(x) == 1 else stream.submit_process(x))  # noqa: B023

            pool._scheduler._turns("test", submit)
            for k, (future, twin, x) in enumerate(zip(asked, twins, xs, strict=True)):
                if k in (3, 7):
                    with pytest.raises(OverflowError, match="the user's own error"):
                        future.result(20)
                elif len(x) == 1:
                    assert_same_bits(future.result(20), twin.step(x)[0])
                else:
                    assert_same_bits(future.result(20), twin.process(x[None])[0])
        for stream, twin in zip(streams, twins, strict=True):
            assert_same_bits(stream.step(X[0]), twin.step(X[:1])[0])
        assert pool.stats().failed == 6


def test_slots_that_are_all_taken() -> None:
    with Pool(model(), 2) as pool:
        streams = [pool.open(), pool.open()]
        for call in (pool.open, streams[0].fork, lambda: pool.restore(streams[0].snapshot())):
            with pytest.raises(Overloaded, match=r"^Pool.open: got 2 open streams, expected fewer than max_streams"):
                call()
        streams[0].close()
        pool.open()


def test_idle_streams_leave_their_slots_and_come_back() -> None:
    network = model()
    with Pool(network, 3) as pool:
        streams, twins = [pool.open() for _ in range(3)], [network.stream(1) for _ in range(3)]
        for k in range(3):
            streams[k].step(X[k])
            twins[k].step(X[k : k + 1])
        assert pool.evict_idle(1000) == 0
        assert pool.evict_idle(0) == 3
        assert pool.evict_idle(0) == 0
        assert pool.stats()[:2] == (3, 3)
        others = [pool.open() for _ in range(2)]
        fork = streams[1].fork()
        for call in (streams[0].step, lambda x: streams[0].submit_step(x).result(20), lambda x: streams[0].reset()):
            with pytest.raises(Overloaded, match=r"^PoolStream: got a step of a stream that was evicted"):
                call(X[0])
        assert streams[0].evicted
        assert_same_bits(fork.step(X[9]), twins[1].fork().step(X[9:10])[0])
        fork.close()
        data = streams[0].snapshot()
        assert_same_bits(streams[0].step(X[9]), twins[0].fork().step(X[9:10])[0])
        others[0].close()
        assert_same_bits(pool.restore(data).step(X[9]), twins[0].step(X[9:10])[0])
        streams[1].close()
        del streams[2]
        assert pool.stats().evicted == 0
        assert pool.stats().evictions == 3


def test_eviction_passes_streams_over_that_wait() -> None:
    network, gate = gated()
    with Pool(network, 3) as pool:
        stream = pool.open()
        with busy(pool, gate):
            steps = [stream.submit_step(X[k]) for k in range(2)]
            evicting = threading.Thread(target=pool.evict_idle, args=(0,))
            evicting.start()
        evicting.join(20)
        twin = network.stream(1)
        for k, step in enumerate(steps):
            assert_same_bits(step.result(20), twin.step(X[k : k + 1])[0])


def test_a_closed_stream() -> None:
    with Pool(model(), 2) as pool:
        with pool.open() as stream:
            assert not stream.closed
        assert stream.closed
        stream.close()
        calls: list[Callable[[], Any]] = [
            lambda: stream.step(X[0]),
            lambda: stream.process(X),
            lambda: stream.submit_step(X[0]).result(20),
            stream.reset,
            stream.fork,
            stream.snapshot,
            lambda: asyncio.run(stream.astep(X[0])),
        ]
        for call in calls:
            with pytest.raises(ValueError, match=r"^PoolStream: got a call on a closed stream, expected an open one"):
                call()
        assert pool.stats().streams == 0


def test_closing_waits_for_what_was_asked_before() -> None:
    network, gate = gated()
    pool = Pool(network, 5)
    streams = [pool.open() for _ in range(3)]
    closing = threading.Thread(target=pool.close)
    with busy(pool, gate):
        steps = [stream.submit_step(X[k]) for k in range(4) for stream in streams]
        with pytest.raises(TimeoutError, match=r"^Pool.drain: 12 requests wait after 0.01 seconds"):
            pool.drain(0.01)
        closing.start()
        for call in (streams[0].step, streams[0].submit_step, streams[0].process):
            with pytest.raises(ValueError, match=r"^Pool: got a call after drain\(\) or close\(\)"):
                call(X[0] if call != streams[0].process else X)
        assert not any(step.done() for step in steps)
    closing.join(20)
    for step in steps:
        step.result(0)
    assert all(stream.closed for stream in streams)
    for late in (pool.open, lambda: streams[0].step(X[0])):
        with pytest.raises(ValueError, match=r"^Pool: got a call after drain\(\) or close\(\)|closed stream"):
            late()
    pool.close()


def test_streams_of_a_drained_pool_can_be_saved() -> None:
    network = model()
    with Pool(network, 2) as pool:
        stream = pool.open()
        stream.step(X[0])
        pool.drain()
        with pytest.raises(ValueError, match="after drain"):
            pool.open()
        data = stream.snapshot()
    twin = network.stream(1)
    twin.step(X[:1])
    with Pool(network, 1) as pool:
        assert_same_bits(pool.restore(data).step(X[1]), twin.step(X[1:2])[0])


def test_coroutines_that_wait_for_room_are_told_when_the_pool_drains() -> None:
    network, gate = gated()

    async def main() -> None:
        pool = Pool(network, 9, max_queue=1)
        streams = [pool.open() for _ in range(6)]
        with busy(pool, gate):
            tasks = [asyncio.create_task(stream.astep(X[k])) for k, stream in enumerate(streams)]
            await asyncio.sleep(0.02)
            with pytest.raises(TimeoutError):
                pool.drain(0.0)
        found = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 20)
        assert_same_bits(found[0], network.stream(1).step(X[:1])[0])
        assert all(isinstance(one, ValueError) and "after drain" in str(one) for one in found[1:])
        pool.close()

    asyncio.run(main())


def test_weights_change_under_live_streams() -> None:
    network = rc.Sequential(rc.LSTM(FEATURES, 20), rc.Linear(20, 2), seed=0)
    other = rc.Sequential(rc.LSTM(FEATURES, 20), rc.Linear(20, 2), seed=1)
    with Pool(network, 2) as pool:
        stream, twin = pool.open(), network.stream(1)
        assert_same_bits(stream.step(X[0]), twin.step(X[:1])[0])
        pool.load_state_dict(other.state_dict())
        changed = other.stream(1)
        changed.load_state(twin.state())
        assert_same_bits(stream.step(X[1]), changed.step(X[1:2])[0])
        with pytest.raises(ValueError, match="load_state_dict"):
            pool.load_state_dict({"wrong": X})
        assert_same_bits(stream.step(X[2]), changed.step(X[2:3])[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_streams": 0}, "Pool: got max_streams=0"),
        ({"max_streams": 2.5}, "Pool: got max_streams=2.5"),
        ({"max_streams": 2, "max_batch": 0}, "Pool: got max_batch=0"),
        ({"max_streams": 2, "max_wait": -1}, "Pool: got max_wait=-1"),
        ({"max_streams": 2, "max_queue": 0}, "Pool: got max_queue=0"),
        ({"max_streams": 2, "model": "m"}, "Pool: got a str as the model"),
        ({"max_streams": 2, "model": rc.GRU(1, 1, bidirectional=True)}, "GRU.stream: got GRU"),
    ],
)
def test_arguments_that_do_not_fit(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=f"^{message}"):
        Pool(**{"model": model(), **arguments})


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_neither_copies_nor_pickles(copied: Callable[[Any], Any]) -> None:
    with Pool(model(), 1) as pool:
        for one, message in ((pool, "^Pool: got .*snapshots"), (pool.open(), "^PoolStream: got .*fork")):
            with pytest.raises(TypeError, match=message):
                copied(one)


def test_times_that_do_not_fit() -> None:
    with Pool(model(), 1) as pool:
        stream = pool.open()
        for call in (stream.step, stream.submit_step):
            with pytest.raises((ValueError, TypeError), match=r"^PoolStream.*timeout"):
                call(X[0].tolist(), timeout=-1.0)
        for wrong in (-1.0, "x", None):
            with pytest.raises((ValueError, TypeError), match=r"^Pool.evict_idle"):
                pool.evict_idle(wrong)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"^Pool.drain"):
            pool.drain(-1.0)


def test_histograms() -> None:
    with Pool(model(), 4) as pool:
        streams = [pool.open() for _ in range(4)]
        assert pool.stats().waiting.quantile(0.5) == 0
        streams[0].step(X[0])
        streams[0].process(X[:7])
        asked: list[Any] = []
        pool._scheduler._turns("test", lambda: asked.extend(stream.submit_step(X[0]) for stream in streams[:3]))
        for one in asked:
            one.result(20)
        stats = pool.stats()
        assert stats.steps == 11
        assert stats.batch_sizes.counts[:4] == (2, 0, 1, 0)
        assert (stats.batch_sizes.number, stats.batch_sizes.total) == (3, 5)
        assert stats.batch_sizes.quantile(0.5) == 1
        assert stats.batch_sizes.quantile(1) == 4
        assert stats.waiting.number == 5
        assert stats.computing.number == 3
        assert 0 < stats.computing.quantile(0.01) <= stats.computing.quantile(1)
        for histogram in stats[-3:]:
            assert len(histogram.counts) == len(histogram.bounds) + 1  # type: ignore[union-attr]
