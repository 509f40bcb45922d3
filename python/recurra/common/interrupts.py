"""Deferred signals, so that a handler cannot interrupt a group of calls half-way.

A single native call is better where it will do (`_core.run_updates`, `_core.assign`, `_core.add_gradients`): it also
protects against exceptions that other threads or debuggers raise.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from recurra import _core


@contextmanager
def deferred() -> Iterator[None]:
    """Defer Python signal handlers, which run on the main thread only, to the end of the block."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []

    def hold(number: int, _frame: object) -> None:
        if number not in came:
            came.append(number)

    found = {int(number): signal.getsignal(number) for number in signal.valid_signals()}
    handlers = {number: handler for number, handler in found.items() if callable(handler)}
    try:
        for number in handlers:
            signal.signal(number, hold)
        yield
    finally:
        _core.release_signals(hold, handlers, came)
