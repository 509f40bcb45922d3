"""Cliffs: sizes, cells, types and values at which recurra is much slower than beside them. There is no other engine.

    python benchmarks/cliffs.py                      # some minutes
    python benchmarks/cliffs.py --only "training gru" --threads 2 --json cliffs.json

Every case is measured in turns with its neighbour. Its speed is work divided by time, over the neighbour's: below the
bound, there is a cliff.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from engines import Problem, Runner, load_engines, make_problem
from measure import Effort, interleave, pin
from report import format_seconds
from workloads import Workload

EFFORT = Effort(sample_seconds=5e-3, seconds=1.0, min_rounds=5, max_rounds=51, max_seconds=10.0)
ROUND = 16  # the widest vector's floats

# Speeds that are to be reached.
ODD_SIZE = 0.8
SAME_WORK = 1 / 1.25  # another activation, or the reset gate elsewhere
FEWER_GATES = 1.0
DOUBLE = 0.45
DENORMAL = 1 / 1.1
TINY = 1e-39  # times normal numbers: below the smallest normal one of 32 bits


@dataclass(frozen=True)
class Case:
    """One thing that can be measured."""

    workload: Workload
    options: dict[str, Any] = field(default_factory=dict)  # of the layer
    scale: float = 1.0  # of inputs and output gradients; if it is not 1, biases are 0

    @property
    def name(self) -> str:
        """As the workload's, with what is special after it."""
        parts = [self.workload.name, *(f"{name}={value}" for name, value in self.options.items())]
        return " ".join([*parts, f"scale={self.scale:g}"] if self.scale != 1 else parts)


@dataclass(frozen=True)
class Pair:
    case: Case
    neighbour: Case
    bound: float
    per_flop: bool = False  # whether the two do different amounts of work


def pairs() -> Iterator[Pair]:
    for kind in ("sequence", "training"):
        for cell in ("lstm", "gru"):
            for rows, steps in ((32, 50), (1, 200)):
                yield from odd_sizes(kind, cell, rows, steps)
            yield from odd_batches(kind, cell)
    for kind, rows, steps in (("step", 1, 1), ("sequence", 1, 200), ("sequence", 32, 50), ("training", 32, 50)):
        yield from cells(kind, rows, steps)
    for kind in ("sequence", "training"):
        yield from numbers(kind)


def odd_sizes(kind: str, cell: str, rows: int, steps: int) -> Iterator[Pair]:
    def case(features: int, units: int) -> Case:
        return Case(Workload(kind, cell, features, units, 1, False, rows, steps))

    for units in (45, 46, 67, 129, 1023):
        yield Pair(case(64, units), case(64, nearest_round(units)), ODD_SIZE, per_flop=True)
    for features in (1, 3, 257):
        yield Pair(case(features, 128), case(nearest_round(features), 128), ODD_SIZE, per_flop=True)


def nearest_round(size: int) -> int:
    return max(1, round(size / ROUND)) * ROUND


def odd_batches(kind: str, cell: str) -> Iterator[Pair]:
    """Against the nearest power of two: a larger one may not be done sooner."""
    for rows, near in ((1, 2), (2, 4), (3, 4), (5, 4), (7, 8), (17, 16), (33, 32)):
        case, neighbour = (Case(Workload(kind, cell, 64, 128, 1, False, batch, 50)) for batch in (rows, near))
        yield Pair(case, neighbour, min(ODD_SIZE, rows / near), per_flop=True)


def cells(kind: str, rows: int, steps: int) -> Iterator[Pair]:
    for units in (32, 128, 512):

        def case(cell: str, units: int = units, **options: Any) -> Case:
            return Case(Workload(kind, cell, units, units, 1, False, rows, steps), options)

        yield Pair(case("gru"), case("lstm"), FEWER_GATES)
        yield Pair(case("gru", reset_after=False), case("gru"), SAME_WORK)
        for nonlinearity in ("relu", "sigmoid"):
            yield Pair(case("rnn", nonlinearity=nonlinearity), case("rnn"), SAME_WORK)


def numbers(kind: str) -> Iterator[Pair]:
    for cell in ("rnn", "lstm", "gru"):
        for units in (32, 128, 512):
            usual = Case(Workload(kind, cell, units, units, 1, False, 32, 50))
            yield Pair(replace(usual, options={"dtype": "float64"}), usual, DOUBLE)
            yield Pair(replace(usual, scale=TINY), usual, DENORMAL)


def make_runner(case: Case) -> Runner:
    from engines.recurra_engine import make_layer, make_runner

    layer = make_layer(case.workload, **case.options)
    problem = adapted(make_problem(case.workload, input_grad=False), layer.dtype, case.scale)
    layer.load_state_dict(problem.weights)
    runner = make_runner(layer, problem, None)
    with runner.context():
        runner.result()
    return runner


def adapted(problem: Problem, dtype: Any, scale: float) -> Problem:
    weights = {
        name: (np.zeros_like(value) if scale != 1 and name.startswith("bias") else value).astype(dtype)
        for name, value in problem.weights.items()
    }
    x, dy = (np.multiply(value, scale, dtype=dtype) for value in (problem.x, problem.dy))
    return replace(problem, weights=weights, x=x, dy=dy)


def measure(pair: Pair, pause: float) -> dict[str, Any]:

    both = (pair.case, pair.neighbour)
    times = interleave([make_runner(case) for case in both], EFFORT, pause)
    seconds = np.median(times, axis=0)
    flops = [case.workload.flops() for case in both]
    work = flops[0] / flops[1] if pair.per_flop else 1.0
    return {
        "case": pair.case.name,
        "neighbour": pair.neighbour.name,
        "seconds": [float(value) for value in seconds],
        "gflops": [float(value) for value in np.array(flops) / seconds / 1e9],
        "speed": float(work * np.median(times[:, 1] / times[:, 0])),
        "bound": pair.bound,
    }


def print_row(result: dict[str, Any]) -> None:
    times = " | ".join(
        f"{format_seconds(seconds)} | {gflops:.1f}"
        for seconds, gflops in zip(result["seconds"], result["gflops"], strict=True)
    )
    mark = "ok" if result["speed"] >= result["bound"] else "**FAIL**"
    print(
        f"| {result['case']} | {result['neighbour']} | {times} | {result['speed']:.2f} | {result['bound']:.2f} "
        f"| {mark} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Find sizes, cells and values at which recurra is slower than beside.")
    parser.add_argument("--only", default="", help='cases whose name contains this, such as "training gru"')
    parser.add_argument("--threads", type=int, default=1, help="CPUs (default: 1)")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    arguments = parser.parse_args()
    chosen = [pair for pair in pairs() if arguments.only in pair.case.name]
    if not chosen:
        raise SystemExit(f"cliffs.py: no case's name contains {arguments.only!r}")

    pin(arguments.threads)
    load_engines([], arguments.threads)
    print("| case | neighbour | time | GFLOP/s | its time | its GFLOP/s | speed | at least | |")
    print("|---|---|---:|---:|---:|---:|---:|---:|---|")
    results = []
    for pair in chosen:
        results.append(measure(pair, pause=0.0))
        print_row(results[-1])
    below = [result for result in results if result["speed"] < result["bound"]]
    print(f"\n{len(below)} of {len(results)} below their bounds")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
