"""Every instruction set: RECURRA_ISA is read at import, so each gets a process that runs the `every_isa` tests."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

import recurra as rc
from support import run_python

ISAS: list[str] = rc.build_info()["isas_supported"]  # built in and supported by this machine, the best first


def test_the_machine_is_used() -> None:
    """No ISA is missing from the list, hence from the tests below, that this machine has."""
    assert "baseline" in ISAS
    assert rc.isa() in ISAS
    if platform.machine() == "x86_64":
        flags = set(Path("/proc/cpuinfo").read_text().partition("flags")[2].partition("\n")[0].split())
        assert ("avx2" in ISAS) == ({"avx2", "fma"} <= flags)
        assert ("avx512" in ISAS) == ({"avx512f", "avx512bw", "avx512dq", "avx512vl"} <= flags)
    if "RECURRA_ISA" not in os.environ:
        assert rc.isa() == ISAS[0], "the best one is the default"


@pytest.mark.parametrize("isa", ISAS)
def test_a_forced_isa_is_the_one_that_runs(isa: str) -> None:
    assert run_python("import recurra; print(recurra.isa())", RECURRA_ISA=isa).strip() == isa


@pytest.mark.parametrize("isa", [isa for isa in ISAS if isa != rc.isa()])
def test_the_contracts_hold(isa: str) -> None:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-m",
        "every_isa",
        "-p",
        "no:cacheprovider",
        "--tb=short",
        "-rs",
        str(Path(__file__).parent),
    ]
    done = subprocess.run(
        command, env={**os.environ, "RECURRA_ISA": isa}, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, f"with RECURRA_ISA={isa}:\n{done.stdout[-20000:]}\n{done.stderr[-5000:]}"
    assert f"recurra isa: {isa}\n" in done.stdout  # conftest.py: what rc.isa() said in there
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


@pytest.mark.parametrize("name", ["sse9", "AVX2 ", "avx2,avx512"])
def test_an_unknown_isa_is_an_error_that_names_the_valid_ones(name: str) -> None:
    output = run_python(
        """
        try:
            import recurra
        except (ImportError, ValueError) as error:
            print(error)
        """,
        RECURRA_ISA=name,
    )
    assert "RECURRA_ISA" in output
    assert name in output
    assert all(isa in output for isa in ISAS)
