"""Measures recurra against other engines on the grid of `workloads.py`.

    python benchmarks/compare.py                         # the whole grid, one thread, all engines
    python benchmarks/compare.py --threads 2 --only "step lstm" --engines torch --json results.json
    python benchmarks/compare.py --draws 60 --seed 1     # sizes that nobody chose
    python benchmarks/compare.py --short                 # a few seconds, to see that it runs

README.md beside this file says what is measured, and how.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import table
from engines import ENGINES, load_engines, make_problem
from measure import DRAWN, FULL, SHORT, Effort, interleave, pin
from processor import cpu_name, own_table
from report import Table, print_header
from workloads import KINDS, WORKLOADS, Workload, drawn

# What holds the libraries to an instruction set. The others cannot be held.
ISA_SETTINGS = {
    "avx2": {
        "RECURRA_ISA": "avx2",
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    }
}
SHORT_ENGINES = "torch,onnxruntime"  # what '.[test]' installs
ISA_ENGINES = "torch"
TOLERANCE, SHORT_TOLERANCE = 0.15, 0.5


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure recurra against other engines, in one process and in turns.")
    parser.add_argument("--only", default="", help='workloads whose name contains this, such as "training gru"')
    parser.add_argument("--engines", help=f"besides recurra, separated by commas (default: all of {', '.join(PEERS)})")
    parser.add_argument("--threads", type=int, default=1, help="CPUs for every engine (default: 1)")
    parser.add_argument(
        "--short", action="store_true", help=f"little work, and only {SHORT_ENGINES}: to see that it runs"
    )
    parser.add_argument(
        "--draws",
        type=int,
        metavar="N",
        help="instead of the grid, N sequences and N trainings of sizes drawn at random",
    )
    parser.add_argument("--seed", type=int, default=0, help="of --draws (default: 0)")
    parser.add_argument("--input-grad", action="store_true", help="training computes the input's gradient too")
    parser.add_argument("--isa", choices=ISA_SETTINGS, help=f"hold recurra and {ISA_ENGINES} to this instruction set")
    parser.add_argument("--json", type=Path, help="write all that was measured to this file")
    parser.add_argument(
        "--save",
        type=Path,
        nargs="?",
        const=own_table(),
        metavar="TABLE",
        help=f"put the ratios into this table of several settings (default: this processor's, {own_table().name})",
    )
    parser.add_argument(
        "--check",
        type=Path,
        nargs="?",
        const=own_table(),
        metavar="TABLE",
        help="compare the ratios with such a table (default: this processor's, if there is one); exit status 1 if one "
        "fell",
    )
    parser.add_argument(
        "--tolerance", type=float, help=f"how far a ratio may fall (default: {TOLERANCE}; --short: {SHORT_TOLERANCE})"
    )
    parser.add_argument("--list", action="store_true", help="print the workloads' names and end")
    return parser.parse_args()


@contextmanager
def whole_or_cut_off() -> Iterator[None]:
    """Standard output may be a pipe whose reader, such as `head`, has enough before its end."""
    try:
        yield
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # which is flushed once more at the end


PEERS = [name for name in ENGINES if name != table.OURS]


def main() -> None:
    arguments = parse_arguments()
    if arguments.draws is None:
        workloads = [w for w in WORKLOADS if arguments.only in w.name and (w.short or not arguments.short)]
    elif arguments.draws < 1 or arguments.save or arguments.check:
        raise SystemExit(
            "compare.py: --draws takes a positive number, and tables hold the grid alone: no --save, no --check"
        )
    else:
        workloads = [w for w in drawn(arguments.draws, arguments.seed) if arguments.only in w.name]
    if not workloads:
        raise SystemExit(f"compare.py: no workload's name contains {arguments.only!r}; --list prints the names")
    if arguments.list:
        with whole_or_cut_off():
            print(*(workload.name for workload in workloads), sep="\n", flush=True)
        return
    names = chosen_engines(arguments)
    if arguments.check == own_table() and not arguments.check.exists():
        print(f"There is no table of this processor, {own_table().name}, to compare with; --save makes one.\n")
        arguments.check = None
    if arguments.check and not arguments.check.exists():
        raise SystemExit(f"compare.py: there is no table {arguments.check} to compare with; --save makes one")

    # Before any engine is loaded: libraries count the CPUs, and look at what those can do, when they start.
    os.environ.update(ISA_SETTINGS.get(arguments.isa, {}))
    cpus = pin(arguments.threads)
    engines = load_engines(names, arguments.threads)

    import recurra as rc
    from roofline import measure_machine

    effort = SHORT if arguments.short else FULL if arguments.draws is None else DRAWN
    machine = measure_machine()
    report: dict[str, Any] = {
        "cpu": cpu_name(),
        "cpus": cpus,
        "threads": arguments.threads,
        "input_grad": arguments.input_grad,
        "isa": arguments.isa,
        "openmp": {name: value for name, value in os.environ.items() if name.startswith(("OMP_", "GOMP_", "KMP_"))},
        "versions": {"python": platform.python_version(), **{engine.name: engine.version for engine in engines}},
        "core": rc.build_info(),
        "machine": dataclasses.asdict(machine),
        "results": [],
    }
    print_header(report)
    for kind in KINDS:
        rows = [workload for workload in workloads if workload.kind == kind]
        able = [engine for engine in engines if kind in engine.kinds]
        printed = Table(kind, [engine.name for engine in able if engine.name != table.OURS])
        for workload in rows:
            result = measure(workload, able, machine, arguments, effort)
            report["results"].append(result)
            printed.print_row(workload, result)
        if rows:
            printed.print_summary()
    finish(report, arguments)


def chosen_engines(arguments: argparse.Namespace) -> list[str]:
    default = ISA_ENGINES if arguments.isa else SHORT_ENGINES if arguments.short else ",".join(PEERS)
    text = default if arguments.engines is None else arguments.engines
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in PEERS:
            raise SystemExit(f"compare.py: got the engine {name!r}, expected some of {', '.join(PEERS)}")
    return names


def measure(
    workload: Workload, engines: list[Any], machine: Any, arguments: argparse.Namespace, effort: Effort
) -> dict[str, Any]:
    """Times one workload on every engine that can do it, after checking that they compute the same."""
    from roofline import limit_seconds

    problem = make_problem(workload, arguments.input_grad)
    entries = [
        (f"{engine.name}, {runner.variant}" if runner.variant else engine.name, runner)
        for engine in engines
        for runner in engine.runners(problem)
    ]
    check_agreement(workload, entries)
    # Threads of another engine may still be spinning; alone on one CPU, there are none.
    pause = 0.01 if arguments.threads > 1 else 0.0
    times = interleave([runner for _, runner in entries], effort, pause)
    medians = np.median(times, axis=0)
    best: dict[str, int] = {}  # of each column, the fastest way
    for index, (column, _) in enumerate(entries):
        if column not in best or medians[index] < medians[best[column]]:
            best[column] = index
    ours = best[table.OURS]
    # Round by round, because a drift of the machine meets both in the same round.
    ratios = {
        column: float(np.median(times[:, index] / times[:, ours])) for column, index in best.items() if index != ours
    }
    peers = [column for column in ratios if not table.is_own(column)]
    peer = min(peers, key=lambda column: medians[best[column]], default=None)
    result = {
        "name": workload.name,
        **dataclasses.asdict(workload),
        "rounds": len(times),
        "engines": {
            column: {
                "way": entries[index][1].label,
                "seconds": float(medians[index]),
                "quartiles": [float(value) for value in np.percentile(times[:, index], [25, 75])],
            }
            for column, index in best.items()
        },
        "ratios": ratios,
        "peer": peer,  # the fastest of the others
        "ratio": ratios[peer] if peer else None,
    }
    if not workload.ragged:
        result["limit_seconds"] = limit_seconds(workload, machine, arguments.threads, arguments.input_grad)
    return result


def check_agreement(workload: Workload, entries: list[tuple[str, Any]]) -> None:
    """A comparison of speeds means nothing between different computations."""
    expected = None
    for column, runner in entries:
        with runner.context():
            result = runner.result()
        if expected is None:
            expected = result
        error = np.abs(result - expected).max() / np.abs(expected).max()
        if not error < 1e-3:
            what = f"{column} ({runner.label})"
            raise SystemExit(f"compare.py: {workload.name}: {what} differs from recurra by {error:.1e}")


def finish(report: dict[str, Any], arguments: argparse.Namespace) -> None:
    """Writes the files that were asked for and compares with a table; the table is read before it is written."""
    before = table.load(report, arguments.check) if arguments.check else None
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if arguments.save:
        table.save(report, arguments.save)
    if before is not None:
        usual = SHORT_TOLERANCE if arguments.short else TOLERANCE
        tolerance = usual if arguments.tolerance is None else arguments.tolerance
        if not table.print_comparison(arguments.check, before, table.make_section(report), tolerance):
            sys.exit(1)


if __name__ == "__main__":
    main()
