"""What every test shares: the forced ISA is really running, a test has its number of threads and leaves it as it
was."""

from __future__ import annotations

import gc
import os
import signal
from collections import Counter
from collections.abc import Iterator
from zlib import crc32

import pytest
import torch

import other_isas
import recurra as rc
from recurra import _core

#: The numbers of threads that tests run with, whatever the machine has: None, its own, as users do.
THREADS = (None, 3, 4, 7, 16)


def forced_threads() -> int | None:
    """RECURRA_TEST_THREADS, of all tests; None: each has one of THREADS that follows from its name."""
    text = os.environ.get("RECURRA_TEST_THREADS")
    return int(text) if text else None


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "every_isa: run again by test_isa.py with every ISA that the machine supports")
    config.addinivalue_line("markers", "by_turns(days=2): whose cases scripts/test shares out among so many days")
    _core.set_patient(True)  # what several threads do is compared with what one does, however busy the machine
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in what a shell without job control starts with `&`
        signal.signal(signal.SIGINT, signal.default_int_handler)  # which the tests' child processes have then, too
    torch.set_num_threads(1)  # the peer's problems are small; its threads would only compete with ours


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_waits_for_other_isas)  # last; the order of the others stays
    part, _, parts = os.environ.get("RECURRA_TEST_PART", "0/1").partition("/")  # "1/2" is the second of two
    kept = [item for item in items if _number(item) % int(parts) == int(part)]
    items[:] = kept if (day := os.environ.get("RECURRA_TEST_DAY", "")) == "" else _due(kept, int(day))


def _due(items: list[pytest.Item], day: int) -> list[pytest.Item]:
    """Without those that are for another day: half of the tests marked `every_isa`, of those marked `by_turns` as
    many a day of each function."""
    seen: Counter[str] = Counter()
    due = []
    for item in items:
        turn, days = 0, 1
        if marker := item.get_closest_marker("by_turns"):
            function = item.nodeid.partition("[")[0]
            turn, days = seen[function], marker.kwargs.get("days", 2)
            seen[function] += 1
        elif item.get_closest_marker("every_isa"):
            turn, days = _number(item), 2
        if (turn - day) % days == 0:
            due.append(item)
    return due


def _number(item: pytest.Item) -> int:
    """A number from its name."""
    return crc32(item.nodeid.encode())


def pytest_collection_finish(session: pytest.Session) -> None:
    gc.collect()
    gc.freeze()  # torch, Keras and 14 000 tests are there to stay: a collection that looks at them takes half a second
    if not session.config.option.collectonly and any(map(_waits_for_other_isas, session.items)):
        other_isas.start()


def pytest_sessionfinish() -> None:
    other_isas.stop()


def _waits_for_other_isas(item: pytest.Item) -> bool:
    return item.name.startswith("test_the_contracts_hold[")


def pytest_report_header() -> str:
    threads = forced_threads() or ", ".join(str(count or rc.get_num_threads()) for count in THREADS) + " in turns"
    return f"recurra isa: {rc.isa()}; threads: {threads}"


def pytest_sessionstart(session: pytest.Session) -> None:
    forced = os.environ.get("RECURRA_ISA")
    if forced and rc.isa() != forced:
        pytest.exit(f"RECURRA_ISA={forced}, but {rc.isa()} is running", returncode=3)


@pytest.fixture(autouse=True)
def _threads(request: pytest.FixtureRequest) -> Iterator[None]:
    """The test's number of threads, which share even the smallest calls unless it is the machine's own number."""
    before = rc.get_num_threads()
    name = f"{rc.isa()} {request.node.nodeid}"
    threads = forced_threads() or THREADS[crc32(name.encode()) % len(THREADS)]
    rc.set_num_threads(threads or before)
    _core.set_eager(threads is not None)
    yield
    _core.set_eager(False)
    rc.set_num_threads(before)
