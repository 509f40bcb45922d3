"""A picture of a table that `compare.py --save` wrote: every workload's ratio to the fastest other engine.

    python benchmarks/plot.py benchmarks/results/zen4.json ratios.svg --section "1 thread"

It needs matplotlib: pip install '.[plot]'.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from report import TITLES, geometric_mean, shape
from table import is_own
from workloads import KINDS, WORKLOADS

FASTER, SLOWER, INK, FAINT = "#2f6fb3", "#d1742f", "#24292f", "#d0d7de"
TICKS = (0.5, 1, 2, 3, 5, 10, 20)
TIMES = "\N{MULTIPLICATION SIGN}"
ROW, TITLE, EDGES = 0.215, 0.42, 0.55  # inches of height: of a bar, a group's title, and what is above and below all
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # letters, not their outlines: smaller, and they can be searched
    "svg.hashsalt": "recurra",  # the same picture from the same table, byte for byte
    "font.size": 9,
    "text.color": INK,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw a table of ratios.")
    parser.add_argument("table", type=Path, help="what compare.py --save wrote")
    parser.add_argument("picture", type=Path, help="the file to write, such as ratios.svg or ratios.png")
    parser.add_argument("--section", default="1 thread", help="which of the table's settings (default: %(default)s)")
    arguments = parser.parse_args()
    sections = json.loads(arguments.table.read_text(encoding="utf-8"))
    if arguments.section not in sections:
        raise SystemExit(f"plot.py: no section {arguments.section!r}, only {', '.join(map(repr, sections))}")
    with mpl.rc_context(STYLE):
        figure = draw(groups(sections[arguments.section]))
        metadata = {"Date": None} if arguments.picture.suffix == ".svg" else {}
        figure.savefig(arguments.picture, dpi=150, facecolor="white", metadata=metadata)


def groups(section: dict[str, Any]) -> list[tuple[str, list[tuple[str, str, float]]]]:
    """For every kind its title and rows: what, the fastest peer, the ratio to it."""
    found = []
    for kind in KINDS:
        rows = []
        for workload in WORKLOADS:
            ratios = section["ratios"].get(workload.name, {})
            peers = [column for column in ratios if not is_own(column)]
            if workload.kind == kind and peers:
                fastest = min(peers, key=lambda peer: ratios[peer])
                rows.append((shape(workload), fastest, ratios[fastest]))
        if rows:
            found.append((TITLES[kind], rows))
    return found


def draw(found: list[tuple[str, list[tuple[str, str, float]]]]) -> Figure:
    heights = [TITLE + ROW * len(rows) for _, rows in found]
    figure = Figure(figsize=(8.6, sum(heights) + EDGES))
    everything = [ratio for _, rows in found for *_, ratio in rows]
    # Room for the labels, which stand right of the bars.
    limits = (min(0.7, 0.8 * min(everything)), 1.8 * max(2.0, *everything))
    top = figure.get_figheight() - 0.1
    for (title, rows), height in zip(found, heights, strict=True):
        bottom = top - height
        box = (0.30, bottom / figure.get_figheight(), 0.68, ROW * len(rows) / figure.get_figheight())
        draw_group(figure.add_axes(box), title, rows, limits)
        top = bottom
    axes = figure.axes[-1]
    axes.tick_params(axis="x", labelbottom=True, labelcolor=INK)
    axes.set_xlabel("times as fast as the fastest other engine (named at each bar)", color=INK)
    return figure


def draw_group(axes: Axes, title: str, rows: list[tuple[str, str, float]], limits: tuple[float, float]) -> None:
    axes.set_xscale("log")
    axes.set_xlim(*limits)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    for place, (_, peer, ratio) in enumerate(rows):
        axes.barh(place, ratio - 1, left=1, height=0.68, color=FASTER if ratio >= 1 else SLOWER)
        axes.text(max(ratio, 1) * 1.03, place, f"{ratio:.2f}{TIMES}  {peer}", va="center", color=INK)
    mean = geometric_mean([ratio for *_, ratio in rows])
    axes.set_title(
        f"{title}: {mean:.2f}{TIMES} (geometric mean)", loc="left", x=-0.43, fontsize=10, fontweight="bold", pad=5
    )
    axes.set_yticks(range(len(rows)), [what for what, *_ in rows])
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
