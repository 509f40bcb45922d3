"""A thread that works while there is something to do, and is not there when there is nothing for long."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

#: Seconds without work after which the thread ends; the next ring starts another.
IDLE_SECONDS = 5.0


class Worker:
    """Calls `work` until it says that nothing is left, then sleeps until somebody rings.

    Args:
        lock: held by those who add work, while they add it.
        work: does some of it, and returns the seconds after which it is to be called again if nobody rings before; None
            if there is nothing to do.
        is_idle: whether there is nothing to do.
    """

    def __init__(self, lock: threading.Lock, work: Callable[[], float | None], is_idle: Callable[[], bool]) -> None:
        self._lock, self._work, self._is_idle = lock, work, is_idle
        self._thread: threading.Thread | None = None
        self._patience = IDLE_SECONDS
        self._bell = self._new_bell()

    @staticmethod
    def _new_bell() -> threading.Lock:
        """A lock that is free once somebody rang."""
        bell = threading.Lock()
        bell.acquire()
        return bell

    def ring(self) -> None:
        """There is work, added before."""
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    thread = threading.Thread(target=self._run, name="recurra pool", daemon=True)
                    thread.start()
                    self._thread = thread
        if self._bell.locked():
            with suppress(RuntimeError):  # another thread was faster
                self._bell.release()

    def retire(self) -> None:
        """From now on, end as soon as there is nothing to do."""
        self._patience = 0.0
        if self._thread is not None:
            self.ring()

    def is_current(self) -> bool:
        """Whether this is the thread."""
        return self._thread is not None and self._thread.ident == threading.get_ident()

    def _run(self) -> None:
        try:
            while not self._ends():
                pass
        finally:
            self._thread = None  # also after an error, so that the next ring starts another

    def _ends(self) -> bool:
        """Work or sleep; whether the thread is to end."""
        pause = self._work()
        if pause == 0.0:
            return False
        if self._bell.acquire(timeout=self._patience if pause is None else pause) or pause is not None:
            return False
        with self._lock:
            if not self._is_idle():
                return False
            self._thread = None
            return True

    def after_fork(self, lock: threading.Lock) -> None:
        """In a child, where the thread is not."""
        self._lock, self._thread, self._bell = lock, None, self._new_bell()
