"""Checkpointed BPTT: how few bytes the tape of a long sequence takes within a memory budget, and how much longer it
takes.

    python benchmarks/memory_budget.py                      # LSTM 64 -> 128, 8 rows of 20 000 steps; a minute or two
    python benchmarks/memory_budget.py --cell GRU --threads 2 --steps 5000 --json memory_budget.json

Bytes are what tapes say they hold (`nbytes`), after their backward. The output, which the caller gets, is left out of
them; the copy of x is not. Each budget is measured in turns with the plain tape, forward and backward of all gradients;
ratios are medians over the rounds, and all gradients must have the plain tape's bits.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from engines import Array, Runner
from measure import Effort, interleave, pin
from report import format_seconds

EFFORT = Effort(sample_seconds=5e-3, seconds=40.0, min_rounds=5, max_rounds=31, max_seconds=120.0)
SHARES = (0.0, 0.25, 0.5, 0.75)  # of what there is between the least that works and the whole tape
MOST_BYTES, MOST_TIME = 1 / 8, 1.5  # that the smallest tape may take of the plain one's


def least_budget(layer: Any, x: Array) -> int:
    """Bytes: the error of a budget of none says it."""
    try:
        layer.record(x, memory_budget=0)
    except ValueError as error:
        found = re.search(r"at least (\d+)", str(error))
        if found:
            return int(found[1])
    raise SystemExit("memory_budget.py: a budget of 0 bytes did not say what works")


def measure(cell: str, sizes: tuple[int, int], rows: int, steps: int) -> list[dict[str, Any]]:
    import recurra as rc

    rng = np.random.default_rng(0)
    layer = getattr(rc, cell)(*sizes, seed=0)
    x = rng.standard_normal((rows, steps, sizes[0]), np.float32)
    dy = rng.standard_normal((rows, steps, sizes[1]), np.float32)
    held: dict[str, int] = {}

    def train(label: str, budget: int | None) -> list[Array]:
        layer.zero_grad()
        tape = layer.record(x, memory_budget=budget)
        dx, _state = tape.backward(dy)
        held[label] = tape.nbytes - dy.nbytes
        tape.close()
        return [dx, *layer.grads.values()]

    expected = [array.copy() for array in train("plain", None)]
    whole, least = held["plain"] + dy.nbytes, least_budget(layer, x)
    budgets: dict[str, int | None] = {"plain": None}
    budgets |= {f"{share:.0%} more" if share else "the least": int(least + share * (whole - least)) for share in SHARES}
    runners = []
    for label, budget in budgets.items():
        for got, wanted in zip(train(label, budget), expected, strict=True):
            if got.tobytes() != wanted.tobytes():
                raise SystemExit(f"memory_budget.py: {label}: a gradient differs from the plain tape's")

        def run(label: str = label, budget: int | None = budget) -> Array:
            return train(label, budget)[0]

        runners.append(Runner(label, run, run))
    times = interleave(runners, EFFORT, pause=0.0)
    return [
        {
            "name": label,
            "bytes": held[label],
            "share": held[label] / held["plain"],
            "seconds": float(np.median(times[:, k])),
            "ratio": float(np.median(times[:, k] / times[:, 0])),
        }
        for k, label in enumerate(budgets)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure tapes within memory budgets beside the plain tape.")
    parser.add_argument("--cell", default="LSTM", help="LSTM (default), GRU, RNN, MinGRU or MinLSTM")
    parser.add_argument("--sizes", type=int, nargs=2, default=(64, 128), help="features and units (default: 64 128)")
    parser.add_argument("--rows", type=int, default=8, help="sequences (default: 8)")
    parser.add_argument("--steps", type=int, default=20_000, help="of a sequence (default: 20000)")
    parser.add_argument("--threads", type=int, default=1, help="CPUs (default: 1)")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    arguments = parser.parse_args()

    pin(arguments.threads)
    import recurra as rc

    rc.set_num_threads(arguments.threads)
    results = measure(arguments.cell, tuple(arguments.sizes), arguments.rows, arguments.steps)
    print("| budget | tape, MB | of the plain one | time | ratio | |\n|---|---:|---:|---:|---:|---|")
    for result in results:
        mark = ""
        if result["name"] == "the least":
            mark = "ok" if result["share"] <= MOST_BYTES and result["ratio"] <= MOST_TIME else "**FAIL**"
        size, seconds = f"{result['bytes'] / 1e6:.1f}", format_seconds(result["seconds"])
        print(f"| {result['name']} | {size} | {result['share']:.3f} | {seconds} | {result['ratio']:.2f} | {mark} |")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
