"""Callers who come and go."""

from __future__ import annotations

import asyncio
import gc
import random
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

from callers.services import Service
from engines import Array

LIFETIME = 5.0  # seconds that a caller stays, in the mean
WARM_UP = 0.5  # seconds that do not count


@dataclass
class Load:
    """What callers do, and what became of it."""

    streams: int
    rate: float
    seconds: float
    latencies: list[float]
    lags: list[float]


async def _caller(service: Service, load: Load, xs: Array, end: float, pick: random.Random) -> None:
    """Joins, and stays."""
    await _stay(service, load, xs, end, pick, await service.join())


async def _stay(service: Service, load: Load, xs: Array, end: float, pick: random.Random, caller: Any) -> None:
    """Steps at a fixed rate for a random time, then leaves."""
    now = perf_counter()
    end, begin = min(end, now + pick.expovariate(1 / LIFETIME)), end - load.seconds
    due = now + pick.random() / load.rate
    while due < end:
        if (pause := due - perf_counter()) > 0:
            await asyncio.sleep(pause)
        await service.step(caller, xs[pick.randrange(len(xs))])
        if due > begin:
            load.latencies.append(perf_counter() - due)
        due += 1 / load.rate
    await service.leave(caller)


async def _watch(load: Load, end: float) -> None:
    """How late the event loop is, every 5 ms."""
    while (due := perf_counter() + 5e-3) < end:
        await asyncio.sleep(5e-3)
        load.lags.append(perf_counter() - due)


async def _serve(service: Service, load: Load, xs: Array) -> None:
    pick = random.Random(0)
    first = [await service.join() for _ in range(load.streams)]
    end = perf_counter() + WARM_UP + load.seconds
    tasks = {asyncio.create_task(_stay(service, load, xs, end, pick, caller)) for caller in first}
    watch = asyncio.create_task(_watch(load, end))
    while perf_counter() < end:
        await asyncio.sleep(min(pick.expovariate(load.streams / LIFETIME), max(0.0, end - perf_counter())))
        tasks.add(asyncio.create_task(_caller(service, load, xs, end, pick)))
        tasks = {task for task in tasks if not task.done()} if len(tasks) > 2 * load.streams else tasks
    await asyncio.gather(watch, *tasks)


def measure(service: Service, features: int, streams: int, rate: float, seconds: float) -> dict[str, Any]:
    """Latencies and lag, in ms, with so many streams."""
    load = Load(streams, rate, seconds, [], [])
    xs = np.random.default_rng(0).standard_normal((512, features)).astype(np.float32)
    gc.collect()
    asyncio.run(_serve(service, load, xs))
    p50, p99, p999 = (float(value) * 1e3 for value in np.percentile(load.latencies, [50, 99, 99.9]))
    lag = float(np.percentile(load.lags, 99)) * 1e3
    result = {"service": service.name, "streams": streams, "p50": p50, "p99": p99, "p99.9": p999, "lag": lag}
    return {**result, "steps": len(load.latencies), "about": service.about()}
