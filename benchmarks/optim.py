"""A step of an optimiser beside PyTorch's, its default one and its fused one.

    python benchmarks/optim.py                              # half a minute
    python benchmarks/optim.py --threads 2 --json optim.json

The parameters are those of an LSTM. recurra's step also makes the gradient's norm, which it returns; PyTorch's does
not. Parameters are compared after a step. Ratios are medians over the rounds.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from engines import Array, Runner, load_engines
from measure import Effort, interleave, pin
from report import format_seconds

EFFORT = Effort(sample_seconds=2e-3, seconds=3.0, min_rounds=7, max_rounds=101)
PAUSE = 0.01  # with several threads, for those of the other engine to go to sleep
SIZES = [64, 256, 1024]  # inputs and units
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "SGD": {"momentum": 0.9},
    "RMSprop": {},
    "Adam": {},
    "AdamW": {},
}
RATE = 1e-6
CLOSE = 1e-6


def ours(name: str, size: int, gradient: Array) -> Runner:
    import recurra as rc

    layer = rc.LSTM(size, size, seed=0)
    optimizer = getattr(rc.optim, name)(RATE, **OPTIMIZERS[name])
    for grad in layer.grads.values():
        grad[:] = gradient[: grad.size].reshape(grad.shape)

    def step() -> None:
        optimizer.step(layer)

    def result() -> Array:
        step()
        return np.concatenate([value.ravel() for value in layer.params.values()])

    return Runner("recurra", step, result)


def theirs(name: str, size: int, gradient: Array, fused: bool) -> Runner:
    import torch

    import recurra as rc

    module = torch.nn.LSTM(size, size)
    values = rc.LSTM(size, size, seed=0).params
    module.load_state_dict({name: torch.tensor(value) for name, value in values.items()})
    parameters = [module.get_parameter(name) for name in values]
    for parameter in parameters:
        parameter.grad = torch.tensor(gradient[: parameter.numel()].reshape(parameter.shape))
    optimizer = getattr(torch.optim, name)(parameters, RATE, **OPTIMIZERS[name], **({"fused": True} if fused else {}))

    def result() -> Array:
        optimizer.step()
        return np.concatenate([parameter.detach().numpy().ravel() for parameter in parameters])

    return Runner("torch, fused" if fused else "torch", optimizer.step, result)


def measure(name: str, size: int, threads: int) -> dict[str, Any]:
    gradient = np.random.default_rng(0).standard_normal(4 * size * size).astype(np.float32)
    runners = [ours(name, size, gradient), theirs(name, size, gradient, False)]
    if name != "RMSprop":  # which PyTorch has no fused step of
        runners.append(theirs(name, size, gradient, True))
    mine, *others = [runner.result() for runner in runners]
    for other in others:
        if np.abs(mine - other).max() > CLOSE:
            raise SystemExit(f"{name}: parameters differ by {np.abs(mine - other).max():.1e} after a step")
    times = interleave(runners, EFFORT, PAUSE if threads > 1 else 0.0)
    return {
        "name": name,
        "parameters": mine.size,
        "seconds": {runner.label: float(np.median(times[:, k])) for k, runner in enumerate(runners)},
        "ratios": {
            runner.label: float(np.median(times[:, k] / times[:, 0])) for k, runner in enumerate(runners[1:], 1)
        },
    }


def print_row(result: dict[str, Any]) -> None:
    cells = [result["name"], f"{result['parameters'] / 1e3:.0f}", format_seconds(result["seconds"]["recurra"])]
    for label in ("torch", "torch, fused"):
        seconds = result["seconds"].get(label)
        cells += [format_seconds(seconds), f"{result['ratios'][label]:.2f}"] if seconds else ["", ""]
    print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure optimisers' steps beside PyTorch's.")
    parser.add_argument("--threads", type=int, default=1, help="CPUs (default: 1)")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    arguments = parser.parse_args()

    pin(arguments.threads)
    load_engines(["torch"], arguments.threads)
    print(
        "| | thousand parameters | recurra | torch | ratio | torch, fused | ratio |\n"
        "|---|---:|---:|---:|---:|---:|---:|"
    )
    results = []
    for name in OPTIMIZERS:
        for size in SIZES:
            results.append(measure(name, size, arguments.threads))
            print_row(results[-1])
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
