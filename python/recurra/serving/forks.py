"""What pools do when the process forks: a child has neither the worker's thread nor those that wait."""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Forked(Protocol):
    """What is told in a child."""

    def after_fork(self) -> None: ...


_watched: WeakSet[Forked] = WeakSet()


def watch(one: Forked) -> None:
    """Call its `after_fork` in children."""
    _watched.add(one)


def _in_child() -> None:
    for one in list(_watched):
        one.after_fork()


os.register_at_fork(after_in_child=_in_child)
