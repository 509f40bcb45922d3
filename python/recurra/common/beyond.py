"""What methods of lower rooms do by functions of rooms above, which are brought in when they are first asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

_homes: dict[str, str] = {}


def offer(homes: Mapping[str, str]) -> None:
    """For each function the module that has it; said once, by the package itself, which stands above all rooms."""
    _homes.update(homes)


def ask(name: str) -> Callable[..., Any]:
    """The function of that name."""
    found: Callable[..., Any] = getattr(import_module(_homes[name]), name)
    return found
