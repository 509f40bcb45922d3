"""Latency: how long single steps of a stream take, called from Python, and how much longer the slowest ones.

    python benchmarks/latency.py                       # some seconds
    python benchmarks/latency.py --steps 1000000 --json latency.json

Every call is timed by itself with `time.perf_counter_ns`, whose own time is part of what is reported. One thread, one
CPU, without Python's garbage collection. What the system does meanwhile shows in the slowest steps. So below every
stream there is a call that adds up numbers for as long and allocates nothing, measured in the same way, and beside both
stands how often the system took the CPU away. If that is more than a few times a second, the core is not idle.
"""

from __future__ import annotations

import argparse
import gc
import json
from collections.abc import Callable
from functools import partial
from itertools import repeat
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from time import perf_counter_ns
from typing import Any

import numpy as np
import numpy.typing as npt

from measure import pin

SIZES = [(1, 40), (128, 128)]  # LSTMs, batch 1
WARM_UP = 20_000
TARGET = 3.0  # the 99.9th percentile, over the median, on an idle core


def timed(call: Callable[[], object], steps: int) -> tuple[npt.NDArray[np.int64], int]:
    """Nanoseconds of each call, into memory that is there before the first; how often the CPU was taken away."""
    times = np.ones(steps, np.int64)
    for _ in repeat(None, WARM_UP):
        call()
    gc.collect()
    gc.disable()
    taken = getrusage(RUSAGE_SELF).ru_nivcsw
    try:
        for k in range(steps):
            start = perf_counter_ns()
            call()
            times[k] = perf_counter_ns() - start
    finally:
        gc.enable()
    return times, getrusage(RUSAGE_SELF).ru_nivcsw - taken


def stepper(input_size: int, hidden_size: int) -> Callable[[], object]:
    import recurra as rc

    rc.set_num_threads(1)
    stream = rc.LSTM(input_size, hidden_size).stream(batch_size=1)
    x = np.random.default_rng(0).standard_normal((1, input_size), np.float32)
    return partial(stream.step, x, out=np.empty((1, hidden_size), np.float32))


def adder(nanoseconds: float) -> Callable[[], object]:
    """A call that takes about so long: a sum over a range, its length found by bisection."""
    low, high = 1, 1 << 20
    while high - low > 1:
        middle = (low + high) // 2
        numbers, times = range(middle), []
        for _ in range(21):
            start = perf_counter_ns()
            sum(numbers)
            times.append(perf_counter_ns() - start)
        low, high = (middle, high) if np.median(times) < nanoseconds else (low, middle)
    return partial(sum, range(high))


def summary(name: str, call: Callable[[], object], steps: int) -> dict[str, Any]:
    times, taken = timed(call, steps)
    median, p99, p999 = (float(value) for value in np.percentile(times, [50, 99, 99.9]))
    values = {"median": median, "p99": p99, "p99.9": p999, "max": float(times.max()), "ratio": p999 / median}
    return {"name": name, **values, "taken_away": taken, "seconds": float(times.sum() / 1e9)}


def print_row(result: dict[str, Any], judged: bool) -> None:
    times = " | ".join(f"{result[key] / 1e3:.2f}" for key in ("median", "p99", "p99.9", "max"))
    mark = "" if not judged else "ok" if result["ratio"] <= TARGET else "**FAIL**"
    taken = f"{result['taken_away']} in {result['seconds']:.1f} s"
    print(f"| {result['name']} | {times} | {result['ratio']:.2f} | {mark} | {taken} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the distribution of a stream's step latency.")
    parser.add_argument("--steps", type=int, default=200_000, help="timed steps of each stream (default: 200000)")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    arguments = parser.parse_args()

    pin(1)
    steps = arguments.steps
    print(f"| {steps} calls | median, us | p99 | p99.9 | max | p99.9 / median | at most {TARGET:g} | CPU taken away |")
    print("|---|---:|---:|---:|---:|---:|---|---:|")
    results = []
    for input_size, hidden_size in SIZES:
        results.append(summary(f"LSTM {input_size}-{hidden_size}", stepper(input_size, hidden_size), steps))
        print_row(results[-1], judged=True)
        results.append(summary("a sum for as long", adder(results[-1]["median"]), steps))
        print_row(results[-1], judged=False)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
