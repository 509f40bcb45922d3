"""The committed tables of ratios: written from a run's report, and what a later run compares itself with.

A file holds a section for every setting that was measured, by name: "1 thread", "2 threads, input-grad". In a section,
`ratios` has for every workload the other columns' times divided by recurra's, `seconds` recurra's own time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

OURS = "recurra"


def is_own(column: str) -> bool:
    """Whether it compares recurra with itself, as "recurra, dense" does."""
    return column.startswith(f"{OURS}, ")


def section_name(report: Mapping[str, Any]) -> str:
    threads = report["threads"]
    parts = [f"{threads} thread" + "s" * (threads > 1)]
    parts += ["input-grad"] if report["input_grad"] else []
    parts += [report["isa"]] if report["isa"] else []
    return ", ".join(parts)


def make_section(report: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of a report."""
    results = report["results"]
    return {
        "cpu": report["cpu"],
        "kernels": report["core"]["isa"],
        "versions": dict(report["versions"]),
        "seconds": {result["name"]: _short(result["engines"][OURS]["seconds"]) for result in results},
        "ratios": {
            result["name"]: {column: _short(ratio) for column, ratio in result["ratios"].items()} for result in results
        },
    }


def _short(number: float) -> float:
    return float(f"{number:.4g}")


def save(report: Mapping[str, Any], path: Path) -> None:
    """Puts the report's section into the file, in place of the one that was there; other sections stay."""
    sections = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    sections[section_name(report)] = make_section(report)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(dict(sorted(sections.items())), indent=1) + "\n", encoding="utf-8")


def load(report: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The file's section of this report's setting."""
    sections = json.loads(path.read_text(encoding="utf-8"))
    name = section_name(report)
    if name not in sections:
        raise SystemExit(f"compare.py: {path} has no section {name!r}, only {', '.join(map(repr, sections))}")
    section: dict[str, Any] = sections[name]
    return section


@dataclass
class Comparison:
    """What changed, a line for each."""

    falls: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)  # not in the table, or with no column in common
    compared: int = 0


def compare(before: Mapping[str, Any], now: Mapping[str, Any], tolerance: float) -> Comparison:
    """Two sections' ratios, workload by workload.

    Of the peers that both have, the fastest one's ratio counts: it falls whenever recurra gets slower, and a slow
    peer's scatter does not matter. Each comparison with recurra itself counts by itself.
    """
    comparison = Comparison()
    for workload, ratios in now["ratios"].items():
        old = before["ratios"].get(workload, {})
        shared = [column for column in ratios if column in old]
        peers = [column for column in shared if not is_own(column)]
        pairs = [(column, old[column], ratios[column]) for column in shared if column not in peers]
        if peers:
            then, today = (min(peers, key=lambda peer: table[peer]) for table in (old, ratios))
            pairs.insert(0, (today if then == today else f"{then}, now {today}", old[then], ratios[today]))
        if not pairs:
            comparison.new.append(workload)
        comparison.compared += len(pairs)
        for column, was, is_now in pairs:
            if is_now < was * (1 - tolerance):
                change = f"{was:.2f} -> {is_now:.2f}, {is_now / was - 1:+.0%}"
                comparison.falls.append(f"{workload}: ratio to {column} {change}")
    return comparison


def print_comparison(path: Path, before: Mapping[str, Any], now: Mapping[str, Any], tolerance: float) -> bool:
    """Whether nothing fell."""
    comparison = compare(before, now, tolerance)
    print(f"\n**Against {path.name}**: {comparison.compared} ratios, of which may fall at most {tolerance:.0%}\n")
    if before["cpu"] != now["cpu"]:
        print(f"The table was measured on another CPU: {before['cpu']}.")
    changed = [
        f"{name} {before['versions'][name]} -> {version}"
        for name, version in now["versions"].items()
        if before["versions"].get(name, version) != version
    ]
    if changed:
        print(f"Other versions: {', '.join(changed)}.")
    for workload in comparison.new:
        print(f"- new: {workload}")
    for fall in comparison.falls:
        print(f"- FELL: {fall}")
    if not comparison.falls:
        print("Nothing fell.")
    return not comparison.falls
