"""minGRU and minLSTM: how much faster a long sequence trains than with GRUs of the same size.

    python benchmarks/min_rnn.py                            # a minute
    python benchmarks/min_rnn.py --threads 2 --steps 1024 --json min_rnn.json

A call records a forward and runs it backwards, for the gradients of all parameters but not of x. Layers take turns;
ratios are medians over the rounds. Beside them stands the share of the peak of fma that the products reach: the gates
of minGRU and minLSTM meet only the input, so there is no product from one step to the next and no gradient through one.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from engines import Array, Runner, load_engines
from measure import Effort, interleave, pin
from report import format_seconds

EFFORT = Effort(sample_seconds=5e-3, seconds=30.0, min_rounds=7, max_rounds=51)
TARGETS = {"torch.nn.GRU": 5.0, "rc.GRU": 2.5}  # how many times as fast as they minGRU is to be
PRODUCTS = {"rc.MinGRU": (2, 0), "rc.MinLSTM": (3, 0), "rc.GRU": (3, 3), "torch.nn.GRU": (3, 3)}  # with x, with h


def flops(label: str, size: int, tokens: int) -> int:
    """A multiply-add being two: products forwards, as many for the weights' gradient, and those with h once more."""
    of_x, of_h = PRODUCTS[label]
    return 2 * size * size * tokens * (2 * of_x + 3 * of_h)


def recurra_runner(label: str, size: int, x: Array, dy: Array) -> Runner:
    import recurra as rc

    layer = getattr(rc, label.removeprefix("rc."))(size, size, seed=0)

    def train() -> Array:
        layer.zero_grad()
        layer.record(x, input_grad=False).backward(dy)
        return np.asarray(layer.grads["weight_ih_l0"])

    return Runner(label, train, train)


def torch_runner(label: str, size: int, x: Array, dy: Array) -> Runner:
    import torch

    layer = torch.nn.GRU(size, size, batch_first=True)
    inputs, gradient = torch.from_numpy(x), torch.from_numpy(dy)

    def train() -> Array:
        layer.zero_grad()
        layer(inputs)[0].backward(gradient)
        return np.asarray(layer.weight_ih_l0.grad)

    return Runner(label, train, train)


def measure(size: int, rows: int, steps: int) -> list[dict[str, Any]]:
    from roofline import measure_machine

    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal((rows, steps, size), np.float32) for _ in range(2))
    runners = []
    for label in PRODUCTS:
        make: Callable[[str, int, Array, Array], Runner] = torch_runner if "torch" in label else recurra_runner
        runners.append(make(label, size, x, dy))
        runners[-1].result()
    peak = measure_machine().fma_gflops
    times = interleave(runners, EFFORT, pause=0.0)
    results = []
    for k, runner in enumerate(runners):
        seconds = float(np.median(times[:, k]))
        gflops = flops(runner.label, size, rows * steps) / seconds / 1e9
        ratio = float(np.median(times[:, k] / times[:, 0]))
        results.append({"name": runner.label, "seconds": seconds, "gflops": gflops, "peak": peak, "ratio": ratio})
    return results


def print_row(result: dict[str, Any], threads: int) -> None:
    share = result["gflops"] / (threads * result["peak"])
    target = TARGETS.get(result["name"])
    mark = "" if target is None else f"{target:g} | ok" if result["ratio"] >= target else f"{target:g} | **FAIL**"
    print(
        f"| {result['name']} | {format_seconds(result['seconds'])} | {result['gflops']:.0f} | {share:.0%} "
        f"| {result['ratio']:.2f} | {mark or '|'} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure training of minGRU and minLSTM beside GRUs.")
    parser.add_argument("--threads", type=int, default=1, help="CPUs (default: 1)")
    parser.add_argument("--size", type=int, default=256, help="features and units (default: 256)")
    parser.add_argument("--rows", type=int, default=8, help="sequences (default: 8)")
    parser.add_argument("--steps", type=int, default=4096, help="of a sequence (default: 4096)")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    arguments = parser.parse_args()

    pin(arguments.threads)
    load_engines(["torch"], arguments.threads)
    results = measure(arguments.size, arguments.rows, arguments.steps)
    print(f"| {arguments.rows} x {arguments.steps}, {arguments.size} | time | GFLOP/s | of the peak | ", end="")
    print("minGRU is faster by | at least | |\n|---|---:|---:|---:|---:|---:|---|")
    for result in results:
        print_row(result, arguments.threads)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
