"""The `every_isa` tests with the other instruction sets, in processes beside this one.

Each test runs with the best set (in scripts/test every other day), and every other day with one of the others.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

import recurra as rc

ISAS: list[str] = rc.build_info()["isas_supported"]  # built in and supported by this machine, the best first
OTHERS = [isa for isa in ISAS if isa != rc.isa()]


class Run:
    """One such process; RECURRA_ISA is read at import."""

    def __init__(self, isa: str, part: str) -> None:
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - open for as long as the process runs
        command = [sys.executable, "-m", "pytest", "-m", "every_isa", "-p", "no:cacheprovider", "--tb=short", "-rs"]
        self._process = subprocess.Popen(
            ["nice", *command, str(Path(__file__).parents[1])],
            env={**os.environ, "RECURRA_ISA": isa, "RECURRA_TEST_PART": part, "RECURRA_TEST_DAY": ""},
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )

    def result(self, timeout: float) -> tuple[int, str]:
        """Exit status and output."""
        status = self._process.wait(timeout)
        self._output.seek(0)
        return status, self._output.read().decode()

    def kill(self) -> None:
        """Terminate it if it is running."""
        self._process.kill()


#: The running processes by instruction set.
RUNS: dict[str, Run] = {}


def start() -> None:
    """Start all processes."""
    half = date.today().toordinal() % 2
    RUNS.update({isa: Run(isa, f"{2 * index + half}/{2 * len(OTHERS)}") for index, isa in enumerate(OTHERS)})


def stop() -> None:
    """Terminate the processes that are still running."""
    for run in RUNS.values():
        run.kill()
