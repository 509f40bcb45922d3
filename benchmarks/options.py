"""Options: what each option of a cell costs in training, as a multiple of the plain cell's time.

    python benchmarks/options.py                     # LSTM 32-128, 256x365, a few minutes
    python benchmarks/options.py --cell gru --only zoneout --threads 2 --json options.json

Forward and backward of all parameters, with the masks of training drawn anew for every call. Every option is measured
in turns with the plain cell, in one process; the ratio is the median over the rounds.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from engines import Problem, Runner, load_engines, make_problem
from measure import Effort, interleave, pin
from report import CELLS, format_seconds, shape
from workloads import Workload

EFFORT = Effort(sample_seconds=5e-3, seconds=6.0, min_rounds=7, max_rounds=51, max_seconds=60.0)

# Ratios that are to be reached.
OPTION = 1.15
LAYER_NORM = 1.5
REGULARISERS = 1.8


@dataclass(frozen=True)
class Option:
    name: str
    keywords: dict[str, Any] = field(hash=False)
    bound: float = OPTION


DROPOUTS = {"input_dropout": 0.2, "recurrent_dropout": 0.2}
ZONEOUT = {"zoneout": 0.1}
ZONEOUTS = {**ZONEOUT, "zoneout_cell": 0.1}
OPTIONS = {
    "lstm": [
        Option("input dropout", {"input_dropout": 0.2}),
        Option("recurrent dropout", {"recurrent_dropout": 0.2}),
        Option("zoneout of h", ZONEOUT),
        Option("zoneout of c", {"zoneout_cell": 0.1}),
        Option("peepholes", {"peepholes": True}),
        Option("clipped cell", {"cell_clip": 3.0}),
        Option("hard sigmoid", {"recurrent_activation": "hard_sigmoid"}),
        Option("projection to 64", {"proj_size": 64}),
        Option("layer norm", {"layer_norm": True}, LAYER_NORM),
        Option("all regularisers", {**DROPOUTS, **ZONEOUTS, "layer_norm": True}, REGULARISERS),
    ],
    "gru": [
        Option("input dropout", {"input_dropout": 0.2}),
        Option("recurrent dropout", {"recurrent_dropout": 0.2}),
        Option("zoneout", ZONEOUT),
        Option("layer norm", {"layer_norm": True}, LAYER_NORM),
        Option("all regularisers", {**DROPOUTS, **ZONEOUT, "layer_norm": True}, REGULARISERS),
    ],
}
OPTIONS["rnn"] = list(OPTIONS["gru"])
OPTIONS["gru"].append(Option("hard sigmoid", {"recurrent_activation": "hard_sigmoid"}))


def make_runner(problem: Problem, keywords: dict[str, Any]) -> Runner:
    """With weights of the layer's own, and as much of the output's gradient as it takes."""
    from engines import recurra_engine

    layer = recurra_engine.make_layer(problem.workload, seed=0, **keywords)
    dy = np.ascontiguousarray(problem.dy[:, :, : layer.output_size])
    runner = recurra_engine.make_runner(layer, replace(problem, dy=dy), None)
    runner.result()
    return runner


def measure(option: Option, problem: Problem, pause: float) -> dict[str, Any]:
    make = partial(make_runner, problem)
    times = interleave([make(option.keywords), make({})], EFFORT, pause)
    seconds, plain = (float(value) for value in np.median(times, axis=0))
    ratio = float(np.median(times[:, 0] / times[:, 1]))
    return {"option": option.name, "seconds": seconds, "plain_seconds": plain, "ratio": ratio, "bound": option.bound}


def print_row(result: dict[str, Any]) -> None:
    times = f"{format_seconds(result['seconds'])} | {format_seconds(result['plain_seconds'])}"
    mark = "ok" if result["ratio"] <= result["bound"] else "**FAIL**"
    print(f"| {result['option']} | {times} | {result['ratio']:.2f} | {result['bound']:.2f} | {mark} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what each option of a cell costs in training.")
    parser.add_argument("--cell", choices=OPTIONS, default="lstm", help="which cell (default: lstm)")
    parser.add_argument("--only", default="", help="options whose name contains this")
    parser.add_argument("--threads", type=int, default=1, help="CPUs (default: 1)")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    arguments = parser.parse_args()
    chosen = [option for option in OPTIONS[arguments.cell] if arguments.only in option.name]
    if not chosen:
        raise SystemExit(f"options.py: no option's name contains {arguments.only!r}")

    pin(arguments.threads)
    load_engines([], arguments.threads)
    workload = Workload("training", arguments.cell, 32, 128, 1, False, 256, 365)
    problem = make_problem(workload, input_grad=False)
    print(f"{shape(workload)}, training\n")
    print(f"| option | time | plain {CELLS[arguments.cell]} | ratio | at most | |")
    print("|---|---:|---:|---:|---:|---|")
    results = []
    for option in chosen:
        results.append(measure(option, problem, pause=0.0 if arguments.threads == 1 else 0.01))
        print_row(results[-1])
    above = [result for result in results if result["ratio"] > result["bound"]]
    print(f"\n{len(above)} of {len(results)} above their bounds")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
