r"""A picture of tables that `compare.py --save` wrote: every workload's ratio to the fastest other engine.

    python benchmarks/plot.py ratios.svg benchmarks/results/zen4.json \
        "benchmarks/results/emerald-rapids.json#1 thread, avx2"

It needs matplotlib: pip install '.[plot]'.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from report import TITLES, geometric_mean, shape
from table import OURS, is_own
from workloads import KINDS, WORKLOADS, Workload

INK, FAINT = "#24292f", "#d0d7de"
COLOURS = ("#2f6fb3", "#5aa02c", "#8a5fb0", "#d1742f")  # of the tables
TICKS = (0.5, 1, 2, 3, 5, 10, 20)
TIMES = "\N{MULTIPLICATION SIGN}"
BAR, GAP, TITLE, EDGES = 0.17, 0.05, 0.42, 0.85  # inches of height: a bar, a row's gap, a title, what is around all
INSTRUCTIONS = {"avx512": "AVX-512", "avx2": "AVX2", "baseline": "SSE2", "neon": "NEON"}
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # letters, not their outlines: smaller, and they can be searched
    "svg.hashsalt": "recurra",  # the same picture from the same table, byte for byte
    "font.size": 9,
    "text.color": INK,
}


@dataclass(frozen=True)
class Table:
    """One setting on one processor: for every workload the fastest peer and the ratio to it."""

    name: str
    ratios: dict[str, tuple[str, float]]

    @classmethod
    def read(cls, text: str) -> Table:
        """`PATH` or `PATH#SECTION`."""
        path, _, section = text.partition("#")
        sections = json.loads(Path(path).read_text(encoding="utf-8"))
        section = section or "1 thread"
        if section not in sections:
            raise SystemExit(f"plot.py: {path} has no section {section!r}, only {', '.join(map(repr, sections))}")
        found = {}
        for workload, ratios in sections[section]["ratios"].items():
            peers = {column: ratio for column, ratio in ratios.items() if not is_own(column)}
            if peers:
                fastest = min(peers, key=peers.__getitem__)
                found[workload] = (fastest, peers[fastest])
        processor = re.sub(r"(\D)(\d)", r"\1 \2", Path(path).stem.replace("-", " ")).title()
        name = f"{processor}, {INSTRUCTIONS[sections[section]['kernels']]}"
        engines = {column.partition(",")[0] for ratios in sections[section]["ratios"].values() for column in ratios}
        if len(others := engines - {OURS}) == 1:  # such as the one that can be held to an instruction set
            name += f" (beside {others.pop()} alone)"
        return cls(name, found)


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw tables of ratios.")
    parser.add_argument("picture", type=Path, help="the file to write, such as ratios.svg or ratios.png")
    parser.add_argument(
        "tables", nargs="+", metavar="TABLE", help="what compare.py --save wrote; its setting after a #: '1 thread'"
    )
    arguments = parser.parse_args()
    if len(arguments.tables) > len(COLOURS):
        parser.error(f"{len(arguments.tables)} tables, at most {len(COLOURS)}")
    with mpl.rc_context(STYLE):
        figure = draw([Table.read(text) for text in arguments.tables])
        metadata = {"Date": None} if arguments.picture.suffix == ".svg" else {}
        figure.savefig(arguments.picture, dpi=150, facecolor="white", metadata=metadata)


def draw(tables: Sequence[Table]) -> Figure:
    groups = []
    for kind in KINDS:
        rows = [one for one in WORKLOADS if one.kind == kind and any(one.name in table.ratios for table in tables)]
        if rows:
            groups.append((TITLES[kind], rows))
    row_height = BAR * len(tables) + GAP
    heights = [TITLE + row_height * len(rows) for _, rows in groups]
    figure = Figure(figsize=(8.6, sum(heights) + EDGES))
    everything = [ratio for table in tables for _, ratio in table.ratios.values()]
    # Room for the labels, which stand right of the bars.
    limits = (min(0.7, 0.8 * min(everything)), 1.8 * max(2.0, *everything))
    total = figure.get_figheight()
    top = total - 0.4
    for (title, rows), height in zip(groups, heights, strict=True):
        bottom = top - height
        box = (0.30, bottom / total, 0.68, row_height * len(rows) / total)
        draw_group(figure.add_axes(box), title, rows, tables, limits)
        top = bottom
    axes = figure.axes[-1]
    axes.tick_params(axis="x", labelbottom=True, labelcolor=INK)
    axes.set_xlabel("times as fast as the fastest other engine (named at each bar)", color=INK)
    figure.legend(
        [Patch(color=colour) for colour in COLOURS[: len(tables)]],
        [table.name for table in tables],
        loc="upper right",
        bbox_to_anchor=(0.98, 1),
        ncols=len(tables),
        frameon=False,
    )
    return figure


def draw_group(
    axes: Axes, title: str, rows: Sequence[Workload], tables: Sequence[Table], limits: tuple[float, float]
) -> None:
    axes.set_xscale("log")
    axes.set_xlim(*limits)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    height = BAR / (BAR * len(tables) + GAP)
    means = []
    for number, (table, colour) in enumerate(zip(tables, COLOURS, strict=False)):
        for row, workload in enumerate(rows):
            if workload.name in table.ratios:
                peer, ratio = table.ratios[workload.name]
                place = row + (number - (len(tables) - 1) / 2) * height
                axes.barh(place, ratio - 1, left=1, height=0.9 * height, color=colour)
                axes.text(
                    max(ratio, 1) * 1.03, place, f"{ratio:.2f}{TIMES}  {peer}", va="center", color=INK, fontsize=8
                )
        measured = [table.ratios[one.name][1] for one in rows if one.name in table.ratios]
        means += [f"{geometric_mean(measured):.2f}{TIMES}"] if measured else []
    axes.set_title(
        f"{title}: {' and '.join(means)} (geometric mean)",
        loc="left",
        x=-0.43,
        fontsize=10,
        fontweight="bold",
        pad=5,
    )
    axes.set_yticks(range(len(rows)), [shape(one) for one in rows])
    axes.set_xticks([tick for tick in TICKS if limits[0] <= tick <= limits[1]])
    axes.xaxis.set_major_formatter("{x:g}" + TIMES)
    axes.tick_params(which="both", length=0, labelbottom=False, labelcolor=INK)
    axes.grid(axis="x", which="major", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.axvline(1, color=INK, linewidth=1)
    for side in axes.spines.values():
        side.set_visible(False)


if __name__ == "__main__":
    main()
