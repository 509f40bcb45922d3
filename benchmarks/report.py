"""The results as text: a header and tables in Markdown."""

from __future__ import annotations

import os
from typing import Any

from workloads import Workload

KINDS = {
    "step": "One step a call, state kept",
    "sequence": "Whole sequences, forward",
    "training": "Training: forward and backward of all parameters",
}
CELLS = {"rnn": "RNN", "lstm": "LSTM", "gru": "GRU"}


def print_header(report: dict[str, Any]) -> None:
    machine = report["machine"]
    cpus = ", ".join(map(str, report["cpus"]))
    print(f"{report['cpu']}, {report['threads']} thread(s) on CPU {cpus}, kernels: {report['core']['isa']}")
    print(", ".join(f"{name} {version}" for name, version in report["versions"].items()))
    print(
        f"One core, measured: {machine['fma_gflops']:.0f} GFLOP/s in multiply-adds; reads {machine['l2_gbs']:.0f} GB/s "
        f"from L2, {machine['l3_gbs']:.0f} from L3, {machine['dram_gbs']:.0f} from memory"
    )
    settings = ", ".join(f"{name}={value}" for name, value in report["openmp"].items())
    print(f"OpenMP settings: {settings or 'none, each library has its own defaults'}")
    if report["threads"] > 1 and os.environ.get("OMP_WAIT_POLICY", "").lower() == "passive":
        print("Warning: OMP_WAIT_POLICY=passive slows down PyTorch's small calls; unset it for a fair run.")


def print_table_head(title: str, names: list[str]) -> None:
    print(f"\n**{title}**\n")
    print(f"| cell, sizes, batch x steps | {' | '.join(names)} | ratio | of the limit |")
    print(f"|---|{'---:|' * (len(names) + 2)}", flush=True)


def print_row(workload: Workload, result: dict[str, Any], names: list[str]) -> None:
    engines = result["engines"]
    times = [format_seconds(engines[name]["seconds"]) if name in engines else "" for name in names]
    layers = f" x{workload.num_layers}" if workload.num_layers > 1 else ""
    both = " both ways" if workload.bidirectional else ""
    size = f"{CELLS[workload.cell]} {workload.input_size}→{workload.hidden_size}{layers}{both}"
    what = f"{size}, {workload.batch}x{workload.steps}"
    print(f"| {' | '.join([what, *times])} | {result['ratio']:.2f} | {result['roofline']:.0%} |", flush=True)


def format_seconds(seconds: float) -> str:
    """Three significant digits, in µs below a millisecond and in ms above."""
    value, unit = (seconds * 1e3, "ms") if seconds >= 1e-3 else (seconds * 1e6, "µs")
    digits = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:.{digits}f} {unit}"
