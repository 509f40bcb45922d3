"""How long Ctrl-C takes to end a native call, and what `import recurra` costs beside numpy's import.

    python benchmarks/interrupts.py

Each call takes seconds if it is left alone; SIGINT comes after a tenth of one. The target is 200 ms for every call on
an idle machine. The tests count how often calls look instead (tests/running/test_polls.py), since a busy machine has
its own time.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from statistics import median
from time import perf_counter

import numpy as np

import recurra as rc

TARGET = 0.2  # seconds
RNG = np.random.default_rng(0)


def interrupted(call: Callable[[], object]) -> float | None:
    """Seconds from the signal to the KeyboardInterrupt; None: the call ended first."""
    sent = []

    def send() -> None:
        sent.append(perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(0.1, send)
    timer.start()
    try:
        call()
    except KeyboardInterrupt:
        return perf_counter() - sent[0]
    timer.cancel()
    return None


def calls() -> dict[str, Callable[[], object]]:
    layer = rc.LSTM(64, 256, num_layers=2, seed=0)
    x = RNG.standard_normal((8, 20000, 64), dtype=np.float32)
    one, labels = np.repeat(x[:1], 4, axis=1), RNG.integers(1, 64, (1, 9000))
    search = rc.Embedding(20000, 64, seed=0), rc.GRU(64, 128, seed=0), rc.Linear(128, 20000, seed=0)
    pair = np.repeat(one, 20, axis=1)
    return {
        "LSTM": lambda: layer(x),
        "LSTM, recorded": lambda: layer.record(x),
        "CTC of one row": lambda: rc.losses.CTC()(one, labels),
        "CTC, beam search": lambda: rc.ctc.beam_search(one, beam_size=500),
        "cross-entropy": lambda: rc.losses.CrossEntropy()(pair, np.ones(pair.shape[:2], np.int64)),
        "search": lambda: rc.search.beam_search(search, start=0, end=None, max_steps=50, beam_size=20, batch_size=50),
    }


def import_seconds(name: str) -> float:
    code = f"import time; t = time.perf_counter(); import {name}; print(time.perf_counter() - t)"
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def main() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name, call in calls().items():
        late = interrupted(call)
        said = (
            "ended before Ctrl-C" if late is None else f"{late * 1000:.0f} ms{'' if late <= TARGET else ', too late'}"
        )
        print(f"{name:20} {said}")
    extra = [import_seconds("recurra") - import_seconds("numpy") for _ in range(9)]
    print(f"import recurra       {median(extra) * 1000:.0f} ms more than import numpy")


if __name__ == "__main__":
    main()
