"""Signals at a moment that suits: several calls that belong together are done all or not begun.

What can be one instruction of Python is better so (`_core.run_updates`, `_core.assign`, `_core.add_gradients`): that holds
for exceptions that other threads or debuggers raise, too.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from recurra import _core


@contextmanager
def deferred() -> Iterator[None]:
    """Holds back, until the end of the block, every signal that has a handler in Python; they run on the main thread only."""
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
