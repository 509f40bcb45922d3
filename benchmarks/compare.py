"""Measures recurra against PyTorch and ONNX Runtime on the grid of `workloads.py`.

    python benchmarks/compare.py                         # the whole grid, one thread
    python benchmarks/compare.py --threads 2 --only "step lstm" --json results.json
    python benchmarks/compare.py --short                 # a few seconds, to see that it runs

README.md beside this file says what is measured, and how.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
from pathlib import Path
from typing import Any

import numpy as np

from measure import FULL, SHORT, Effort, interleave, pin
from report import KINDS, print_header, print_row, print_table_head
from workloads import WORKLOADS, Workload


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure recurra against other engines, in one process and in turns.")
    parser.add_argument("--only", default="", help='workloads whose name contains this, such as "training gru"')
    parser.add_argument("--threads", type=int, default=1, help="CPUs for every engine (default: 1)")
    parser.add_argument("--short", action="store_true", help="few workloads, few repeats: to see that it runs")
    parser.add_argument("--input-grad", action="store_true", help="training computes the input's gradient too")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    parser.add_argument("--list", action="store_true", help="print the workloads' names and end")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    workloads = [w for w in WORKLOADS if arguments.only in w.name and (w.short or not arguments.short)]
    if not workloads:
        raise SystemExit(f"compare.py: no workload's name contains {arguments.only!r}; --list prints the names")
    if arguments.list:
        print(*(workload.name for workload in workloads), sep="\n")
        return

    # Before any engine is loaded: libraries count the CPUs when they start.
    cpus = pin(arguments.threads)
    from engines import load_engines

    engines = load_engines(arguments.threads)

    import recurra as rc
    from roofline import measure_machine

    machine = measure_machine()
    report: dict[str, Any] = {
        "cpu": cpu_name(),
        "cpus": cpus,
        "threads": arguments.threads,
        "input_grad": arguments.input_grad,
        "openmp": {name: value for name, value in os.environ.items() if name.startswith(("OMP_", "GOMP_", "KMP_"))},
        "versions": {"python": platform.python_version(), **{engine.name: engine.version for engine in engines}},
        "core": rc.build_info(),
        "machine": dataclasses.asdict(machine),
        "results": [],
    }
    print_header(report)
    for kind, title in KINDS.items():
        rows = [workload for workload in workloads if workload.kind == kind]
        if rows:
            print_table_head(title, [engine.name for engine in engines])
        for workload in rows:
            result = measure(workload, engines, machine, arguments, SHORT if arguments.short else FULL)
            report["results"].append(result)
            print_row(workload, result, [engine.name for engine in engines])
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def measure(
    workload: Workload, engines: list[Any], machine: Any, arguments: argparse.Namespace, effort: Effort
) -> dict[str, Any]:
    """Times one workload on every engine that can do it, after checking that they compute the same."""
    from engines import make_problem
    from roofline import limit_seconds

    problem = make_problem(workload, arguments.input_grad)
    entries = [(engine.name, runner) for engine in engines for runner in engine.runners(problem)]
    check_agreement(workload, entries)
    # Threads of another engine may still be spinning; alone on one CPU, there are none.
    pause = 0.01 if arguments.threads > 1 else 0.0
    times = interleave([runner for _, runner in entries], effort, pause)
    medians = np.median(times, axis=0)
    best: dict[str, int] = {}  # of each engine, the fastest way
    for index, (name, _) in enumerate(entries):
        if name not in best or medians[index] < medians[best[name]]:
            best[name] = index
    ours = best["recurra"]
    peers = {name: index for name, index in best.items() if name != "recurra"}
    peer = min(peers, key=lambda name: medians[peers[name]])
    limit = limit_seconds(workload, machine, arguments.threads, arguments.input_grad)
    return {
        "name": workload.name,
        **dataclasses.asdict(workload),
        "rounds": len(times),
        "engines": {
            name: {
                "way": entries[index][1].label,
                "seconds": float(medians[index]),
                "quartiles": [float(value) for value in np.percentile(times[:, index], [25, 75])],
            }
            for name, index in best.items()
        },
        "peer": peer,
        # Round by round, because a drift of the machine meets both in the same round.
        "ratio": float(np.median(times[:, peers[peer]] / times[:, ours])),
        "limit_seconds": limit,
        "roofline": limit / float(medians[ours]),
    }


def check_agreement(workload: Workload, entries: list[tuple[str, Any]]) -> None:
    """A comparison of speeds means nothing between different computations."""
    expected = None
    for name, runner in entries:
        with runner.context():
            result = runner.result()
        if expected is None:
            expected = result
        error = np.abs(result - expected).max() / np.abs(expected).max()
        if not error < 1e-3:
            what = f"{name} ({runner.label})"
            raise SystemExit(f"compare.py: {workload.name}: {what} differs from recurra by {error:.1e}")


def cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


if __name__ == "__main__":
    main()
