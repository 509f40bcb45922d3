"""Each stream of a pool has the bits of a stream of its own, whoever steps with it, joins, forks and leaves."""

from __future__ import annotations

import asyncio
import gc
import os
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import recurra as rc
from agreement import assert_same_bits
from array_types import DTYPES, Array
from recurra.serving import Pool, PoolStream
from stream_models import FEATURES, MODELS, TOKENS, flat


class Life:
    """A pool whose streams do what chance says, each with a twin, a stream of its own that does the same."""

    def __init__(self, model: Any, make_x: Callable[[np.random.Generator, int], Array], slots: int, seed: int) -> None:
        self.model, self.make_x = model, make_x
        self.rng, self.pick = np.random.default_rng(seed), random.Random(seed)
        self.pool = Pool(model, slots, max_batch=self.pick.choice([None, 3, slots]))
        self.streams: list[tuple[PoolStream, Any]] = []

    def join(self, count: int) -> None:
        for _ in range(min(count, self.pool.max_streams - len(self.streams))):
            self.streams.append((self.pool.open(), self.model.stream(1)))

    def some(self) -> list[tuple[PoolStream, Any]]:
        return self.pick.sample(self.streams, self.pick.randint(0, len(self.streams)))

    def ask(self, stream: PoolStream, twin: Any) -> tuple[Any, Array]:
        """A Future, and what is expected of it."""
        if self.pick.random() < 0.7:
            x = self.make_x(self.rng, 1)[0]
            return stream.submit_step(x), twin.step(np.asarray(x)[None])[0]
        x = self.make_x(self.rng, self.pick.choice([0, 1, 2, 5, 9]))
        return stream.submit_process(x), twin.process(x[None])[0]

    def burst(self) -> None:
        """Several streams at once, and some several times."""
        chosen = [one for one in self.some() for _ in range(self.pick.choice([1, 1, 1, 3]))]
        asked: list[tuple[Any, Array]] = []

        def submit() -> None:
            asked.extend(self.ask(*one) for one in chosen)

        if self.pick.random() < 0.5:
            submit()
        else:  # while the worker cannot begin
            self.pool._scheduler._turns("test", submit)
        for future, expected in asked:
            assert_same_bits(future.result(20), expected)

    def awaited(self) -> None:
        """Several streams on an event loop."""

        async def one(stream: PoolStream, twin: Any) -> None:
            for _ in range(self.pick.choice([1, 1, 3])):
                if self.pick.random() < 0.8:
                    x = self.make_x(self.rng, 1)
                    assert_same_bits(await stream.astep(x[0]), twin.step(x)[0])
                else:
                    x = self.make_x(self.rng, self.pick.choice([0, 1, 4]))
                    assert_same_bits(await stream.aprocess(x), twin.process(x[None])[0])
                if self.pick.random() < 0.2:
                    await asyncio.sleep(0)

        async def every() -> None:
            await asyncio.gather(*(one(*both) for both in self.some()))

        asyncio.run(every())

    def plain(self) -> None:
        for stream, twin in self.some()[:5]:
            x = self.make_x(self.rng, self.pick.randint(0, 4))
            assert_same_bits(stream.process(x), twin.process(x[None])[0])
            x = self.make_x(self.rng, 1)
            assert_same_bits(stream.step(x[0]), twin.step(x)[0])

    def fork(self) -> None:
        for stream, twin in self.some()[: self.pool.max_streams - len(self.streams)]:
            self.streams.append((stream.fork(), twin.fork()))

    def leave(self) -> None:
        for one in self.some()[:6]:
            self.streams.remove(one)
            if self.pick.random() < 0.5:
                one[0].close()

    def restore(self) -> None:
        for index, (stream, twin) in enumerate(self.streams[:4]):
            data = stream.snapshot()
            stream.close()
            self.streams[index] = self.pool.restore(data), twin

    def reset(self) -> None:
        for stream, twin in self.some():
            stream.reset()
            twin.reset()

    def train(self) -> None:
        self.pool.load_state_dict({name: array * 0.9 for name, array in self.model.state_dict().items()})

    def live(self, turns: int) -> None:
        self.join(6)
        for _ in range(turns):
            what = self.pick.random()
            if what < 0.35:
                self.burst()
            elif what < 0.55:
                self.awaited()
            elif what < 0.65:
                self.plain()
            elif what < 0.72:
                self.join(self.pick.randint(1, 5))
            elif what < 0.78:
                self.fork()
            elif what < 0.84:
                self.leave()
            elif what < 0.88:
                self.restore()
            elif what < 0.92:
                self.reset()
            elif what < 0.96:
                self.pool.evict_idle(0)
            else:
                self.train()
        for stream, twin in self.streams:
            for one, other in zip(flat(stream.state_now()), flat(twin.state()), strict=True):
                assert_same_bits(one, other)
        assert sum(self.pool.stats().batch_sizes.counts[1:]), "some went together"
        self.pool.close()


def features(rng: np.random.Generator, steps: int, dtype: str = "float32") -> Array:
    return rng.standard_normal((steps, FEATURES)).astype(dtype)


def tokens(rng: np.random.Generator, steps: int) -> Array:
    return rng.integers(0, TOKENS, steps)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", MODELS)
def test_streams_that_come_and_go(name: str, dtype: str) -> None:
    make_x = tokens if name == "tokens" else lambda rng, steps: features(rng, steps, dtype)
    Life(MODELS[name](dtype), make_x, 24, len(name)).live(60)


def test_hundreds_of_streams() -> None:
    Life(rc.LSTM(FEATURES, 33, seed=0), features, 400, 7).live(60)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_streams_that_come_and_go_by_the_thousand(threads: int) -> None:
    """RECURRA_STREAMS=10000 in the environment takes minutes."""
    count = int(os.environ.get("RECURRA_STREAMS", "1000"))
    before = rc.get_num_threads()
    rc.set_num_threads(threads)
    try:
        life = Life(rc.LSTM(FEATURES, 33, seed=0), features, count, 10 + threads)
        life.join(count * 9 // 10)
        life.live(14)
    finally:
        rc.set_num_threads(before)


def test_pools_of_several_models_and_dtypes_at_once() -> None:
    """They share the threads that compute; each stream has its bits, on three event loops."""
    made = [(MODELS["windows"](dtype), dtype) for dtype in DTYPES]
    made += [(rc.LSTM(FEATURES, 40, 2, dtype=dtype, seed=0), dtype) for dtype in DTYPES]
    pools = [Pool(network, 40) for network, _ in made]

    async def caller(which: int, rng: np.random.Generator) -> None:
        network, dtype = made[which]
        twin = network.stream(1)
        async with pools[which].open() as stream:
            for turn in range(6):
                x = features(rng, 1 if turn % 3 else 30, dtype)
                if len(x) == 1:
                    assert_same_bits(await stream.astep(x[0]), twin.step(x)[0])
                else:
                    assert_same_bits(await stream.aprocess(x), twin.process(x[None])[0])

    async def loop(seed: int) -> None:
        rng = np.random.default_rng(seed)
        await asyncio.gather(*(caller(which, rng) for which in range(len(pools)) for _ in range(6)))

    with ThreadPoolExecutor(3) as threads:
        for _ in threads.map(lambda seed: asyncio.run(loop(seed)), range(3)):
            pass
    for pool in pools:
        pool.close()


def test_a_model_with_several_inputs_and_outputs() -> None:
    x, z = rc.Input(features=FEATURES), rc.Input(tokens=TOKENS)
    h = rc.GRU(FEATURES + 3, 6)(rc.Concatenate()((x, rc.Embedding(TOKENS, 3)(z))))
    model = rc.Model({"x": x, "z": z}, (h, rc.Linear(6, 2)(h)))
    rng = np.random.default_rng(0)
    with Pool(model, 9) as pool:
        streams = [(pool.open(), model.stream(1)) for _ in range(9)]
        for steps in (1, 3, 0, 2):
            asked = []
            for stream, twin in streams:
                given = {"x": features(rng, steps), "z": tokens(rng, steps)}
                expected = twin.process({name: array[None] for name, array in given.items()})
                asked.append((stream.submit_process(given), expected))
            for future, expected in asked:
                for one, other in zip(future.result(20), expected, strict=True):
                    assert_same_bits(one, other[0])
        stream, twin = streams[0]
        given = {"x": features(rng, 1)[0], "z": 3}
        expected = twin.step({"x": given["x"][None], "z": np.array([3])})  # type: ignore[index]
        for one, other in zip(stream.step(given), expected, strict=True):
            assert_same_bits(one, other[0])
        with pytest.raises(ValueError, match=r"^PoolStream.process: got x\['z'\] of 2 steps and x\['x'\] of 3"):
            stream.process({"x": features(rng, 3), "z": tokens(rng, 2)})


def test_features_that_only_a_run_tells_go_with_their_like() -> None:
    with Pool(rc.Activation("tanh"), 4) as pool:
        streams = [pool.open() for _ in range(4)]
        xs = [np.full(size, 0.5, np.float32) for size in (2, 3, 2, 5)]
        for future, x in [(stream.submit_step(x), x) for stream, x in zip(streams, xs, strict=True)]:
            assert_same_bits(future.result(20), rc.Activation("tanh")(x[None, None])[0][0, 0])


def test_threads_with_streams_of_their_own() -> None:
    model = rc.Sequential(rc.LSTM(FEATURES, 40), rc.GRU(40, 40), seed=0)
    pool = Pool(model, 64)

    def caller(seed: int) -> None:
        rng = np.random.default_rng(seed)
        with pool.open() as stream:
            twin = model.stream(1)
            for turn in range(60):
                x = features(rng, 1 + turn % 3)
                if turn % 7 == 0:
                    assert_same_bits(stream.submit_process(x).result(20), twin.process(x[None])[0])
                elif turn % 11 == 0:
                    with stream.fork() as fork:
                        assert_same_bits(fork.process(x), twin.fork().process(x[None])[0])
                else:
                    assert_same_bits(stream.step(x[0]), twin.step(x[:1])[0])

    with ThreadPoolExecutor(16) as threads:
        for done in [threads.submit(caller, seed) for seed in range(48)]:
            done.result(60)
    assert pool.stats().streams == 0
    pool.close()


def test_threads_that_share_a_stream_step_in_turns() -> None:
    """Which order they come in is theirs; no step is lost, and none is computed twice."""
    model = rc.Sequential(rc.RNN(1, 1, nonlinearity="relu", bias=False))
    with model.edit() as weights:
        for name in weights:
            weights[name][...] = 1
    with Pool(model, 1) as pool, ThreadPoolExecutor(8) as threads:
        stream = pool.open()
        one = np.ones(1, np.float32)
        sums = list(threads.map(lambda _: float(stream.step(one)[0]), range(400)))
    assert sorted(sums) == list(range(1, 401))


def test_a_long_chunk_is_computed_in_parts_between_which_others_step() -> None:
    model = rc.LSTM(FEATURES, 64, seed=0)
    rng = np.random.default_rng(0)
    with Pool(model, 3) as pool:
        streams, twins = [pool.open() for _ in range(3)], [model.stream(1) for _ in range(3)]
        pool._rows.seconds = 1e-4  # a slow machine
        x, xs = features(rng, 500), features(rng, 3)
        long, other = streams[0].submit_process(x), streams[1].submit_process(x[:90])
        steps = [streams[2].submit_step(one) for one in xs]
        assert_same_bits(long.result(20), twins[0].process(x[None])[0])
        assert_same_bits(other.result(20), twins[1].process(x[None, :90])[0])
        for step, one in zip(steps, xs, strict=True):
            assert_same_bits(step.result(20), twins[2].step(one[None])[0])
        assert pool.stats().computing.number > 10


def test_tasks_of_an_event_loop() -> None:
    model = rc.Sequential(rc.LSTM(FEATURES, 40), rc.Linear(40, 3), seed=0)

    async def caller(pool: Pool, seed: int) -> None:
        rng, pick = np.random.default_rng(seed), random.Random(seed)
        async with pool.open() as stream:
            twin = model.stream(1)
            for _ in range(pick.randint(5, 30)):
                x = features(rng, 1 if pick.random() < 0.7 else pick.randint(0, 9))
                if len(x) == 1 and pick.random() < 0.8:
                    assert_same_bits(await stream.astep(x[0]), twin.step(x)[0])
                else:
                    assert_same_bits(await stream.aprocess(x), twin.process(x[None])[0])
                if pick.random() < 0.2:
                    await asyncio.sleep(0)

    async def main() -> None:
        async with Pool(model, 300, max_queue=50) as pool:
            await asyncio.gather(*(caller(pool, seed) for seed in range(300)))
            assert pool.stats().streams == 0
            assert sum(pool.stats().batch_sizes.counts[2:])

    asyncio.run(main())


def test_streams_that_nobody_closed_give_their_slots_back() -> None:
    model = rc.GRU(FEATURES, 4, seed=0)
    pool = Pool(model, 3)
    x = features(np.random.default_rng(0), 1)[0]
    for _ in range(20):
        stream = pool.open()
        assert_same_bits(stream.step(x), model.stream(1).step(x[None])[0])
        last = stream.submit_step(x)
        del stream  # while its step waits
        last.result(20)
    gc.collect()
    assert pool.stats().streams <= 1
