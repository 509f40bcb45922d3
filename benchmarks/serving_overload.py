"""A pool that is asked for three times what it can do: what it refuses, what it still does, and how soon it recovers.

    python benchmarks/serving_overload.py                  # a minute of overload
    python benchmarks/serving_overload.py --seconds 10 --hidden 256

Callers ask by `submit_step` at a fixed rate, whether or not they got the last answer, and drop what is refused; the
queue has a bound. The capacity is what the pool does for callers who ask again as soon as there is room. Then, in
turns: a third of it, three times as much, a third again, in windows of a quarter of a second.
"""

from __future__ import annotations

import argparse
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

import recurra as rc

WINDOW = 0.25
MIB = 2**20


@dataclass
class Window:
    """What was asked in a while, and what became of it."""

    asked: int = 0
    refused: int = 0
    latencies: deque[float] = field(default_factory=deque)

    def p99(self) -> float:
        return float(np.percentile(self.latencies, 99)) if self.latencies else float("nan")


class Callers:
    def __init__(self, pool: Any, streams: int, xs: Any) -> None:
        self.pool, self.xs = pool, xs
        self.streams = [pool.open() for _ in range(streams)]
        self.number = 0

    def ask(self, window: Window) -> bool:
        self.number += 1
        window.asked += 1
        begin = perf_counter()
        try:
            x = self.xs[self.number % len(self.xs)]
            future: Future[Any] = self.streams[self.number % len(self.streams)].submit_step(x)
        except rc.serving.Overloaded:
            window.refused += 1
            return False
        future.add_done_callback(lambda _: window.latencies.append(perf_counter() - begin))
        return True

    def at_rate(self, rate: float, seconds: float) -> list[Window]:
        """Windows of callers who ask so often, whatever comes of it."""
        windows = []
        begin = perf_counter()
        asked = 0
        while (now := perf_counter() - begin) < seconds:
            if len(windows) <= now / WINDOW:
                windows.append(Window())
            while asked < rate * (perf_counter() - begin) and perf_counter() - begin < now + WINDOW:
                self.ask(windows[-1])
                asked += 1
            time.sleep(5e-4)
        return windows

    def capacity(self, seconds: float) -> float:
        """Steps a second of callers who wait for room."""
        window = Window()
        end = perf_counter() + seconds
        while perf_counter() < end:
            if not self.ask(window):
                time.sleep(5e-4)
        return len(window.latencies) / seconds


def memory() -> float:
    """MiB of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / MIB


def main() -> None:
    parser = argparse.ArgumentParser(description="Ask a pool for three times what it can do.")
    parser.add_argument("--hidden", type=int, default=1024, help="units of the LSTM (default: 1024)")
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--queue", type=int, default=256, help="the pool's max_queue (default: 256)")
    parser.add_argument("--seconds", type=float, default=60.0, help="of overload (default: 60)")
    arguments = parser.parse_args()

    hidden = arguments.hidden
    pool = rc.serving.Pool(rc.LSTM(hidden, hidden, seed=0), arguments.streams, max_queue=arguments.queue)
    xs = np.random.default_rng(0).standard_normal((64, hidden)).astype(np.float32)
    callers = Callers(pool, arguments.streams, xs)
    callers.capacity(1.0)
    capacity = callers.capacity(4.0)
    time.sleep(0.5)
    normal = callers.at_rate(capacity / 3, 5.0)
    before = memory()
    overload = callers.at_rate(3 * capacity, arguments.seconds)
    most = memory()
    recovery = callers.at_rate(capacity / 3, 5.0)
    pool.drain()

    asked, refused = sum(one.asked for one in overload), sum(one.refused for one in overload)
    done = sum(len(one.latencies) for one in overload)
    usual = sorted(one.p99() for one in normal)[len(normal) // 2]
    print(f"LSTM {hidden}-{hidden}, {arguments.streams} streams, a queue for {arguments.queue}")
    print(f"capacity                 {capacity:.0f} steps a second")
    print(
        f"asked for                {asked / arguments.seconds:.0f} a second, "
        f"{asked / arguments.seconds / capacity:.2f} x"
    )
    print(
        f"done                     {done / arguments.seconds:.0f} a second, {done / arguments.seconds / capacity:.2f} x"
    )
    print(f"refused, and told so     {refused}; neither refused nor done: {asked - refused - done}")
    print(
        "p99 of what was taken    "
        f"{1e3 * float(np.percentile(np.concatenate([one.latencies for one in overload]), 99)):.1f} ms"
    )
    print(f"memory                   {before:.0f} MiB before, {most:.0f} MiB at its end")
    after = ", ".join(f"{1e3 * one.p99():.1f}" for one in recovery[:8])
    print(f"p99 at a third           {1e3 * usual:.1f} ms before; afterwards, in windows of {WINDOW} s: {after} ms")


if __name__ == "__main__":
    main()
