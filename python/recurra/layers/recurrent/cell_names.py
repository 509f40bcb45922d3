"""Names of cells in arguments: those of the layers, in any case."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from recurra.common import checks


def cell_name(operation: str, value: Any, allowed: Iterable[str]) -> str:
    """`value`, such as "LSTM" or "lstm", as one of the lower-case names in `allowed`."""
    given = value.lower() if isinstance(value, str) else value
    if given in (known := tuple(allowed)):
        return str(given)
    return str(checks.choice(operation, "cell", value, known))
