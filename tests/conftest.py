"""What every test shares: the forced ISA is really running, and a test leaves the thread count as it found it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

import recurra as rc
from recurra import _core


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "every_isa: run again by test_isa.py with every ISA that the machine supports")
    _core.set_patient(True)  # what two threads do is compared with what one does, however busy the machine
    torch.set_num_threads(1)  # the peer's problems are small; its threads would only compete with ours


def pytest_report_header() -> str:
    return f"recurra isa: {rc.isa()}"


def pytest_sessionstart(session: pytest.Session) -> None:
    forced = os.environ.get("RECURRA_ISA")
    if forced and rc.isa() != forced:
        pytest.exit(f"RECURRA_ISA={forced}, but {rc.isa()} is running", returncode=3)


@pytest.fixture(autouse=True)
def _same_thread_count_after() -> Iterator[None]:
    threads = rc.get_num_threads()
    yield
    rc.set_num_threads(threads)
