"""How often a call looks whether it is to stop."""

from __future__ import annotations

from collections.abc import Callable

from recurra import _core


def polls(call: Callable[[], object]) -> int:
    """How often a call polls its stop function: a measure of its work, and of how soon it would stop."""
    most = 1 << 40
    _core.interrupt_at(most)
    try:
        call()
    finally:
        left = _core.interrupt_at(0)
    return most - left
