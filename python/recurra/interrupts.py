"""Signals at a moment that suits: several calls that belong together are done all or not begun.

What can be one instruction of Python is better so (`_core.run_updates`, `_core.assign`, `_core.add_gradients`): that holds
for exceptions that other threads or debuggers raise, too.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def deferred() -> Iterator[None]:
    """Holds back, until the end of the block, every signal that has a handler in Python; they run on the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    try:
        for number, handler in handlers.items():
            if callable(handler):
                signal.signal(number, lambda number, _frame: held.append(number))
        yield
    finally:
        for number, handler in handlers.items():
            if callable(handler):
                signal.signal(number, handler)
        _deliver(list(dict.fromkeys(held)))


def _deliver(numbers: list[int]) -> None:
    """Each to its handler, whatever those before it raise."""
    if numbers:
        try:
            signal.raise_signal(numbers[0])
        finally:
            _deliver(numbers[1:])
