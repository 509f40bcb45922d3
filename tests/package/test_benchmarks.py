"""The comparison of a benchmark's ratios with a committed table. What is measured is no test's matter."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from scripts import load_script

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def table() -> ModuleType:
    return load_script("benchmarks/table.py")


def section(**ratios: dict[str, float]) -> dict[str, Any]:
    return {"cpu": "a CPU", "versions": {"torch": "1"}, "ratios": ratios}


def report(**changes: Any) -> dict[str, Any]:
    result = {"name": "step", "engines": {"recurra": {"seconds": 1.23456e-6}}, "ratios": {"torch": 2.0}}
    same = {"cpu": "a CPU", "core": {"isa": "avx2"}, "versions": {}, "results": [result]}
    return {**same, "threads": 1, "input_grad": False, "isa": None, **changes}


def test_names_what_fell(table: ModuleType) -> None:
    before = section(step={"torch": 2.0}, sequence={"torch": 3.0})
    comparison = table.compare(before, section(step={"torch": 1.6}, sequence={"torch": 2.9}), 0.15)
    assert comparison.falls == ["step: ratio to torch 2.00 -> 1.60, -20%"]
    assert comparison.compared == 2


def test_rises_are_fine(table: ModuleType) -> None:
    assert table.compare(section(step={"torch": 2.0}), section(step={"torch": 9.0}), 0.15).falls == []


def test_tolerance_is_the_bound(table: ModuleType) -> None:
    before, now = section(step={"torch": 2.0}), section(step={"torch": 1.6})
    assert table.compare(before, now, 0.25).falls == []
    assert len(table.compare(before, now, 0.15).falls) == 1


def test_lists_what_has_no_counterpart(table: ModuleType) -> None:
    before = section(other={"torch": 2.0}, step={"torch": 2.0})
    comparison = table.compare(before, section(step={"jax": 1.0}, sequence={"torch": 1.0}), 0.15)
    assert comparison.new == ["step", "sequence"]
    assert comparison.falls == []
    assert comparison.compared == 0


def test_compares_with_the_fastest_of_the_shared_peers(table: ModuleType) -> None:
    """A peer that is missing now cannot fall, and a slow one's scatter does not count."""
    before = section(step={"torch": 6.0, "onnxruntime": 2.0, "MNN": 1.1})
    assert table.compare(before, section(step={"torch": 4.0, "onnxruntime": 2.0}), 0.15).falls == []
    (fall,) = table.compare(before, section(step={"torch": 1.5, "onnxruntime": 2.0}), 0.15).falls
    assert fall == "step: ratio to onnxruntime, now torch 2.00 -> 1.50, -25%"


def test_comparisons_with_ourselves_count_each(table: ModuleType) -> None:
    before = section(ragged={"torch": 2.0, "recurra, dense": 1.8, "recurra, 1 thread": 1.9})
    now = section(ragged={"torch": 2.0, "recurra, dense": 1.0, "recurra, 1 thread": 1.9})
    comparison = table.compare(before, now, 0.15)
    assert comparison.falls == ["ragged: ratio to recurra, dense 1.80 -> 1.00, -44%"]
    assert comparison.compared == 3


def test_a_workload_may_have_no_peer(table: ModuleType) -> None:
    comparison = table.compare(section(step={"recurra, 1 thread": 1.9}), section(step={"recurra, 1 thread": 1.9}), 0.15)
    assert comparison.new == []
    assert comparison.compared == 1


def test_print_comparison_tells_whether_all_is_well(table: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    before, now = section(step={"torch": 2.0}), section(step={"torch": 1.0}) | {"versions": {"torch": "2"}}
    assert not table.print_comparison(Path("folder/t.json"), before, now, 0.15)
    printed = capsys.readouterr().out
    assert "FELL: step" in printed
    assert "torch 1 -> 2" in printed
    assert table.print_comparison(Path("folder/t.json"), before, before, 0.15)


def test_a_file_holds_sections(table: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "results" / "table.json"
    two = report(threads=2, input_grad=True, isa="avx2")
    assert table.section_name(two) == "2 threads, input-grad, avx2"
    table.save(two, path)
    table.save(report(cpu="the first"), path)
    table.save(report(cpu="the second"), path)
    assert table.load(report(), path)["cpu"] == "the second"
    loaded = table.load(two, path)
    assert loaded["ratios"] == {"step": {"torch": 2.0}}
    assert loaded["seconds"] == {"step": 1.235e-06}


def test_a_missing_section_is_said(table: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    table.save(report(), path)
    with pytest.raises(SystemExit, match="no section '2 threads', only '1 thread'"):
        table.load(report(threads=2), path)


@pytest.mark.parametrize(
    ("vendor", "family", "model", "name"),
    [
        ("AuthenticAMD", "25", "1", "zen3"),
        ("AuthenticAMD", "25", "17", "zen4"),
        ("GenuineIntel", "6", "207", "emerald-rapids"),
        ("GenuineIntel", "6", "158", "genuineintel-6-158"),
    ],
)
def test_tables_are_named_by_the_processor(
    vendor: str, family: str, model: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    processor = load_script("benchmarks/processor.py")
    monkeypatch.setattr(processor, "_of_first_cpu", lambda: {"vendor_id": vendor, "cpu family": family, "model": model})
    assert processor.microarchitecture() == name
    assert processor.own_table().name == f"{name}.json"


def test_a_reader_of_the_list_may_go_early() -> None:
    command = f"{sys.executable} benchmarks/compare.py --list | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
