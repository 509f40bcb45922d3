"""Users' own cells (rc.cell) beside the built-in ones: how many times as long a step of training takes.

    python benchmarks/own_cells.py                          # a minute
    python benchmarks/own_cells.py --threads 2 --rows 64 --steps 128 --json own_cells.json

A call records a forward and runs it backwards, for the gradients of all parameters and of x. Each cell takes turns with
the built-in one that is nearest to it; ratios are medians over the rounds. IndRNN and SRU have a built-in relative, the
others are the built-in cells' own equations as text.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from engines import Array, Runner
from measure import Effort, interleave, pin
from report import format_seconds

EFFORT = Effort(sample_seconds=5e-3, seconds=10.0, min_rounds=7, max_rounds=51)


class Pair(NamedTuple):
    """A cell's equations, the built-in layer nearest to it, and how many times as long it may take."""

    name: str
    equations: str
    nearest: str
    most: float | None = None


PAIRS = [
    Pair("IndRNN", "h = relu(W @ x + u * h + b)", "MinGRU", 1.2),
    Pair(
        "SRU",
        """
        f = sigmoid(W_f @ x + v_f * c + b_f)
        r = sigmoid(W_r @ x + v_r * c + b_r)
        c = f * c + (1 - f) * (W @ x)
        h = r * c + (1 - r) * x
        """,
        "MinLSTM",
        1.2,
    ),
    Pair("MinGRU as text", "z = sigmoid(W_z @ x + b_z); h = (1 - z) * h + z * (W_n @ x + b_n)", "MinGRU", 1.2),
    Pair("RNN as text", "h = tanh(W @ x + U @ h + b)", "RNN"),
    Pair(
        "GRU as text",
        """
        r = sigmoid(W_r @ x + U_r @ h + b_r)
        z = sigmoid(W_z @ x + U_z @ h + b_z)
        n = tanh(W_n @ x + b_n + r * (U_n @ h + c_n))
        h = (1 - z) * n + z * h
        """,
        "GRU",
    ),
    Pair(
        "LSTM as text",
        """
        i = sigmoid(W_i @ x + U_i @ h + b_i)
        f = sigmoid(W_f @ x + U_f @ h + b_f)
        g = tanh(W_g @ x + U_g @ h + b_g)
        o = sigmoid(W_o @ x + U_o @ h + b_o)
        c = f * c + i * g
        h = o * tanh(c)
        """,
        "LSTM",
    ),
]


def runner(label: str, layer: Any, x: Array, dy: Array) -> Runner:
    def train() -> Array:
        layer.zero_grad()
        dx, _state = layer.record(x).backward(dy)
        return np.asarray(dx)

    return Runner(label, train, train)


def measure(pair: Pair, size: int, rows: int, steps: int) -> dict[str, Any]:
    import recurra as rc

    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal((rows, steps, size), np.float32) for _ in range(2))
    own = rc.cell(pair.name.replace(" ", "_"), pair.equations)(size, size, seed=0)
    nearest = getattr(rc, pair.nearest)(size, size, seed=0)
    runners = [runner(pair.name, own, x, dy), runner(pair.nearest, nearest, x, dy)]
    for one in runners:
        one.result()
    times = interleave(runners, EFFORT, pause=0.0)
    seconds = np.median(times, axis=0)
    return {
        "name": pair.name,
        "nearest": pair.nearest,
        "seconds": float(seconds[0]),
        "nearest_seconds": float(seconds[1]),
        "ratio": float(np.median(times[:, 0] / times[:, 1])),
        "most": pair.most,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure training of users' cells beside the built-in ones.")
    parser.add_argument("--threads", type=int, default=1, help="CPUs (default: 1)")
    parser.add_argument("--size", type=int, default=128, help="features and units (default: 128)")
    parser.add_argument("--rows", type=int, default=32, help="sequences (default: 32)")
    parser.add_argument("--steps", type=int, default=100, help="of a sequence (default: 100)")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    arguments = parser.parse_args()

    pin(arguments.threads)
    print(f"| {arguments.rows} x {arguments.steps}, {arguments.size} | time | nearest | time | ratio | at most | |")
    print("|---|---:|---|---:|---:|---:|---|")
    results = []
    for pair in PAIRS:
        one = measure(pair, arguments.size, arguments.rows, arguments.steps)
        results.append(one)
        mark = "|" if pair.most is None else f"{pair.most:g} | {'ok' if one['ratio'] <= pair.most else '**FAIL**'}"
        print(
            f"| {pair.name} | {format_seconds(one['seconds'])} | rc.{pair.nearest} "
            f"| {format_seconds(one['nearest_seconds'])} | {one['ratio']:.2f} | {mark} |",
            flush=True,
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
