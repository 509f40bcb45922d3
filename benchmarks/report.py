"""The results as text: a header and tables in Markdown."""

from __future__ import annotations

import math
import os
from typing import Any

from table import OURS, is_own
from workloads import Workload

TITLES = {
    "step": "One step a call, state kept",
    "sequence": "Whole sequences, forward",
    "training": "Training: forward and backward of all parameters",
    "ragged": "Sequences of many lengths, forward",
    "ragged training": "Sequences of many lengths, training",
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


class Table:
    """One kind's workloads, printed row by row as they are measured."""

    def __init__(self, kind: str, names: list[str]) -> None:
        """`names`: of the engines that do this kind of work, some of them perhaps not in every row."""
        self._kind = kind
        self._names = names
        self._peers: list[str] = []
        self._own: list[str] = []  # the columns that compare recurra with itself
        self._limits = False  # whether there is one to compare with
        self._results: list[dict[str, Any]] = []

    def print_row(self, workload: Workload, result: dict[str, Any]) -> None:
        """The fastest peer's time is bold: the ratio is to that one."""
        if not self._results:
            columns = list(result["engines"])
            self._own = [column for column in columns if is_own(column)]
            variants = [column for column in columns if column not in [OURS, *self._own, *self._names]]
            self._peers = self._names + variants
            self._limits = "limit_seconds" in result
            self._print_head()
        self._results.append(result)
        times = {column: format_seconds(engine["seconds"]) for column, engine in result["engines"].items()}
        if result["peer"]:
            times[result["peer"]] = f"**{times[result['peer']]}**"
        ratio = [f"{result['ratio']:.2f}" if result["peer"] else ""] if self._peers else []
        limit = [f"{result['limit_seconds'] / result['engines'][OURS]['seconds']:.0%}"] if self._limits else []
        cells = [times.get(column, "") for column in [OURS, *self._own, *self._peers]]
        cells += [*ratio, *(f"{result['ratios'][column]:.2f}" for column in self._own), *limit]
        print(f"| {' | '.join([shape(workload), *cells])} |", flush=True)

    def _print_head(self) -> None:
        heads = [OURS, *self._own, *self._peers, *(["ratio"] if self._peers else [])]
        heads += [*(f"ratio to {column}" for column in self._own), *(["of the limit"] if self._limits else [])]
        print(f"\n**{TITLES[self._kind]}**\n")
        print(f"| cell, sizes, batch x steps | {' | '.join(heads)} |")
        print(f"|---|{'---:|' * len(heads)}")

    def print_summary(self) -> None:
        print()
        ratios = {"the fastest other engine": [result["ratio"] for result in self._results if result["peer"]]}
        ratios |= {column: [result["ratios"][column] for result in self._results] for column in self._own}
        for column, values in ratios.items():
            if values:
                print(f"Ratio to {column}: geometric mean {geometric_mean(values):.2f}, least {min(values):.2f}")


def geometric_mean(ratios: list[float]) -> float:
    return math.exp(sum(map(math.log, ratios)) / len(ratios))


def shape(workload: Workload) -> str:
    layers = f" x{workload.num_layers}" if workload.num_layers > 1 else ""
    both = " both ways" if workload.bidirectional else ""
    size = f"{CELLS[workload.cell]} {workload.input_size}→{workload.hidden_size}{layers}{both}"
    return f"{size}, {workload.batch}x{workload.steps}"


def format_seconds(seconds: float) -> str:
    """Three significant digits, in µs below a millisecond and in ms above."""
    value, unit = (seconds * 1e3, "ms") if seconds >= 1e-3 else (seconds * 1e6, "µs")
    digits = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:.{digits}f} {unit}"
