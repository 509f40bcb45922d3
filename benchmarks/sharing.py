"""Processes that share the CPUs, each with threads of its own, as the workers of a web server do.

    python benchmarks/sharing.py                         # two processes a CPU, recurra and PyTorch, a minute
    python benchmarks/sharing.py --processes 16 --seconds 5

Every process runs the same workload as often as it can. "serving" is a pool with 200 callers on an event loop, each of
whom asks for its next step when it has the one before; and the same with chunks of 64 steps between them, as many in
all. What all get done together is told for one thread a process and for a thread a CPU, which is every engine's
default, in turns; the ratio says what the default costs.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import time
from multiprocessing import get_context

import numpy as np

from engines import load_engines, make_problem
from workloads import Workload

WORKLOADS = [
    Workload("training", "lstm", 1, 24, 1, False, 16, 512),
    Workload("training", "lstm", 32, 128, 1, False, 32, 50),
    Workload("sequence", "lstm", 128, 128, 1, False, 1, 512),
]
SERVING = [Workload("serving", "lstm", 128, 128, 1, False, 1, chunk) for chunk in (1, 64)]
CALLERS = 200


def work(engine: str, workload: Workload, threads: int, seconds: float) -> float:
    """Calls a second of one process."""
    [*_, loaded] = load_engines([engine], threads)
    runner = loaded.runners(make_problem(workload, False))[0]
    runner.result()
    calls = 0
    with runner.context():
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            runner.run()
            calls += 1
    return calls / seconds


def serve(_engine: str, workload: Workload, threads: int, seconds: float) -> float:
    """Steps a second of one process."""
    import recurra as rc

    rc.set_num_threads(threads)
    size, chunk = workload.input_size, workload.steps
    pool = rc.serving.Pool(rc.LSTM(size, workload.hidden_size, seed=0), CALLERS)
    xs = np.random.default_rng(0).standard_normal((64, size)).astype(np.float32)

    async def caller(number: int, end: float) -> None:
        async with pool.open() as stream:
            turn = number
            while time.monotonic() < end:
                if chunk > 1 and turn % chunk == 0:
                    await stream.aprocess(xs[:chunk])
                else:
                    await stream.astep(xs[turn % 64])
                turn += 1

    async def callers(end: float) -> None:
        await asyncio.gather(*(caller(number, end) for number in range(CALLERS)))

    asyncio.run(callers(time.monotonic() + seconds))
    return pool.stats().steps / seconds


def main() -> None:
    cpus = len(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(description="Measure processes that share the CPUs.")
    parser.add_argument("--processes", type=int, default=2 * cpus, help="how many (default: two a CPU)")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement (default: 3)")
    parser.add_argument("--rounds", type=int, default=3, help="of which the median counts (default: 3)")
    parser.add_argument("--engines", default="recurra,torch", help="separated by commas (default: recurra,torch)")
    arguments = parser.parse_args()

    print(f"{arguments.processes} processes on {cpus} CPUs: calls a second of all together\n")
    print(f"| workload | engine | 1 thread each | {cpus} threads each | ratio |\n|---|---|---:|---:|---:|")
    for workload in [*WORKLOADS, *SERVING]:
        for engine in ["recurra"] if workload in SERVING else arguments.engines.split(","):
            rates: dict[int, list[float]] = {1: [], cpus: []}
            for _ in range(arguments.rounds):
                for threads, measured in rates.items():
                    with get_context("spawn").Pool(arguments.processes) as pool:
                        job = (engine, workload, threads, arguments.seconds)
                        measured.append(
                            sum(pool.starmap(serve if workload in SERVING else work, [job] * arguments.processes))
                        )
            one, default = (statistics.median(rates[threads]) for threads in (1, cpus))
            print(f"| {workload.name} | {engine} | {one:.0f} | {default:.0f} | {default / one:.2f} |", flush=True)


if __name__ == "__main__":
    main()
