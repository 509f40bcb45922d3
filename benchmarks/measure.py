"""Timing: pinned, warmed up, interleaved, median."""

from __future__ import annotations

import gc
import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

import numpy as np
import numpy.typing as npt

from engines import Runner


@dataclass(frozen=True)
class Effort:
    """How long to measure one workload."""

    sample_seconds: float  # a sample is as many calls as fill this time, at least one
    seconds: float  # about this long in all, within the limits below
    min_rounds: int
    max_rounds: int
    max_seconds: float = 60.0  # rather than longer, rounds become fewer, down to LEAST_ROUNDS


FULL = Effort(sample_seconds=5e-3, seconds=8.0, min_rounds=7, max_rounds=101)
DRAWN = Effort(sample_seconds=5e-3, seconds=2.0, min_rounds=5, max_rounds=41)
SHORT = Effort(sample_seconds=2e-3, seconds=0.3, min_rounds=3, max_rounds=15)
LEAST_ROUNDS = 3
LONG_SECONDS = 5.0  # a call as long as this is no faster for another one before it


def pin(threads: int) -> list[int]:
    """Restricts the process to `threads` CPUs, of different cores where there are enough, and returns them."""
    allowed = sorted(os.sched_getaffinity(0))
    if threads > len(allowed):
        raise SystemExit(f"benchmarks: got --threads {threads}, expected at most {len(allowed)}, the CPUs it may use")
    first_of_core = [cpu for cpu in allowed if cpu == min(set(_siblings(cpu)) & set(allowed))]
    rest = [cpu for cpu in allowed if cpu not in first_of_core]
    chosen = (first_of_core + rest)[:threads]
    os.sched_setaffinity(0, chosen)
    return chosen


def _siblings(cpu: int) -> list[int]:
    """The CPUs that share a core with this one, itself included."""
    path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    if not path.exists():
        return [cpu]
    siblings: list[int] = []
    for part in path.read_text().strip().split(","):
        first, _, last = part.partition("-")
        siblings += range(int(first), int(last or first) + 1)
    return siblings


def interleave(runners: Sequence[Runner], effort: Effort, pause: float) -> npt.NDArray[np.float64]:
    """Seconds a call, (rounds, runners).

    In each round every runner is sampled once, in an order drawn anew, so that a drift of the machine meets them alike
    and none always follows the same other one. `pause` seconds pass before a sample, for threads that the runner before
    left spinning; and as long as a call takes, at most 0.5 s, since after a long one the system takes back its memory.
    """
    calls, settled, expected = [], [], 0.0
    for runner in runners:
        settled.append(_settled(runner))
        calls.append(max(1, math.ceil(effort.sample_seconds / settled[-1])))
        expected += calls[-1] * settled[-1] + pause
    rounds = min(max(effort.seconds / expected, effort.min_rounds), effort.max_rounds)
    rounds = int(max(min(rounds, effort.max_seconds / expected), LEAST_ROUNDS))
    times = np.empty((rounds, len(runners)))
    order = np.random.default_rng(0)
    gc.collect()
    gc.disable()
    try:
        for turn in range(rounds):
            for index in order.permutation(len(runners)):
                time.sleep(pause + (min(settled[index], 0.5) if settled[index] > 0.05 else 0.0))
                times[turn, index] = _sample(runners[index], calls[index], settled[index] < LONG_SECONDS)
    finally:
        gc.enable()
    return times


def _sample(runner: Runner, calls: int, warm_up: bool) -> float:
    run = runner.run
    with runner.context():
        if warm_up:  # the caches may hold another engine's data
            run()
        start = time.perf_counter()
        for _ in repeat(None, calls):
            run()
        return (time.perf_counter() - start) / calls


def _settled(runner: Runner) -> float:
    """Warms up until 50 ms have passed; seconds of a call then. `runner.result` has run before."""
    calls, spent, seconds = 1, 0.0, 0.0
    while spent < 0.05:
        seconds = _sample(runner, calls, warm_up=False)
        spent += seconds * calls
        calls *= 2
    return seconds
