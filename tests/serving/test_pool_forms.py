"""Whatever is asked of a pool or a stream can be waited for by a thread, as a Future, and by a coroutine."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import numpy as np
import pytest
from test_pool_callers import X, busy, gated, model

from agreement import assert_same_bits
from recurra.serving import Overloaded, Pool, PoolStream

OPERATIONS = {PoolStream: ["step", "process", "reset", "fork", "snapshot", "close"], Pool: ["open", "restore"]}


def ask(form: str, of: Pool | PoolStream, operation: str, *args: Any) -> Any:
    """The outcome, waited for in one of the three ways."""
    if form == "await":
        return asyncio.run(getattr(of, f"a{operation}")(*args))
    if form == "submit":
        return getattr(of, f"submit_{operation}")(*args).result(20)
    return getattr(of, operation)(*args)


@pytest.fixture(params=["plain", "submit", "await"])
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize(
    ("of", "operation"), [(of, operation) for of, operations in OPERATIONS.items() for operation in operations]
)
def test_each_has_three_forms(of: type, operation: str) -> None:
    for name in (operation, f"submit_{operation}", f"a{operation}"):
        assert getattr(of, name).__doc__


def test_all_forms_do_the_same(form: str) -> None:
    with Pool(model(), 8) as pool:
        twin = pool.model.stream(1)
        stream = ask(form, pool, "open")
        assert_same_bits(ask(form, stream, "step", X[0]), twin.step(X[:1])[0])
        assert_same_bits(ask(form, stream, "process", X[1:4]), twin.process(X[None, 1:4])[0])
        other = ask(form, stream, "fork")
        again = ask(form, pool, "restore", ask(form, stream, "snapshot"))
        assert ask(form, stream, "reset") is None
        assert_same_bits(ask(form, stream, "step", X[0]), pool.model.stream(1).step(X[:1])[0])
        expected = twin.step(X[4:5])[0]
        for one in (other, again):
            assert_same_bits(ask(form, one, "step", X[4]), expected)
            assert ask(form, one, "close") is None
            assert one.closed
            ask(form, one, "close")  # which does no harm
        assert pool.stats().streams == 1


def test_errors_come_through(form: str) -> None:
    pool = Pool(model(), 1)
    stream = pool.open()
    data = stream.snapshot()
    for operation, args in (("open", ()), ("restore", (data,))):
        with pytest.raises(Overloaded, match=r"^Pool.open: got 1 open streams"):
            ask(form, pool, operation, *args)
    with pytest.raises(Overloaded):
        ask(form, stream, "fork")
    with pytest.raises(ValueError, match="restore"):
        ask(form, pool, "restore", data[:-1])
    stream.close()
    for operation in ("reset", "fork", "snapshot"):
        with pytest.raises(ValueError, match=r"^PoolStream: got a call on a closed stream"):
            ask(form, stream, operation)
    pool.close()
    with pytest.raises(ValueError, match=r"^Pool: got a call after drain"):
        ask(form, pool, "open")


def test_coroutines_wait_their_turn() -> None:
    """While others compute, and behind the steps of the same stream; the event loop goes on meanwhile."""
    network, gate = gated()

    async def main(pool: Pool) -> None:
        stream = pool.open()
        with busy(pool, gate):
            steps = [asyncio.create_task(stream.astep(X[k])) for k in range(3)]
            await asyncio.sleep(0)
            state = asyncio.create_task(stream.asnapshot())
            after = asyncio.create_task(stream.astep(X[3]))
            opened = asyncio.create_task(pool.aopen())
            dropped = asyncio.create_task(pool.aopen())
            begin = time.perf_counter()
            await asyncio.sleep(0.05)
            assert time.perf_counter() - begin < 10
            assert not any(task.done() for task in (*steps, state, after, opened))
            dropped.cancel()
        ys = await asyncio.gather(*steps, after)
        twin = network.stream(1)
        for k, y in enumerate(ys):
            assert_same_bits(y, twin.step(X[k : k + 1])[0])
        again = await pool.arestore(await state)
        assert_same_bits(await again.astep(X[3]), ys[3])
        async with await opened:
            assert pool.stats().streams == 3
        assert pool.stats().streams == 2

    with Pool(network, 5) as pool:
        gate.opened.clear()
        asyncio.run(main(pool))


def test_the_end_of_an_async_block_keeps_no_loop() -> None:
    """`async with pool` drains on another thread: tasks of the loop go on, and what they asked for is computed."""
    network, gate = gated()

    async def main() -> list[Any]:
        gate.opened.clear()
        async with Pool(network, 5) as pool:
            streams = [pool.open() for _ in range(3)]
            first = streams[0].submit_step(X[0])
            gate.entered.wait(20)
            tasks = [asyncio.create_task(stream.astep(X[1])) for stream in streams[1:]]
            await asyncio.sleep(0)
            asyncio.get_running_loop().call_later(0.05, gate.opened.set)  # which a kept loop would not do
        return [first.result(20), *(await asyncio.gather(*tasks))]

    ys = asyncio.run(asyncio.wait_for(main(), 20))
    for y, x in zip(ys, (X[0], X[1], X[1]), strict=True):
        assert_same_bits(y, network.stream(1).step(x[None])[0])


def test_many_at_once_of_every_kind() -> None:
    """Coroutines that open, step, fork, save, restore and close: no thread is started, and each has its bits."""
    network = model()

    async def caller(pool: Pool, seed: int) -> None:
        rng = np.random.default_rng(seed)
        twin = network.stream(1)
        stream = await pool.aopen()
        for _ in range(30):
            x = X[rng.integers(len(X))]
            match int(rng.integers(6)):
                case 0:
                    await stream.areset()
                    twin.reset()
                case 1:
                    old, stream = stream, await stream.afork()
                    await old.aclose()
                case 2:
                    data = await stream.asnapshot()
                    await stream.aclose()
                    stream = await pool.arestore(data)
                case _:
                    assert_same_bits(await stream.astep(x), twin.step(x[None])[0])
        await stream.aclose()

    async def main() -> None:
        async with Pool(network, 64) as pool:
            threads = threading.active_count()
            await asyncio.gather(*(caller(pool, seed) for seed in range(30)))
            assert pool.stats().streams == 0
            assert threading.active_count() <= threads + 1  # the pool's own

    asyncio.run(main())
