"""matplotlib, brought in where something is drawn."""

from __future__ import annotations

from typing import Any


def pyplot(operation: str) -> Any:
    """matplotlib.pyplot; without matplotlib an ImportError that says what to do."""
    try:
        import matplotlib.pyplot as plt  # here: an import of recurra need not wait for it
    except ImportError as error:
        raise ImportError(
            f"{operation}: got no matplotlib, expected it to be installed; run pip install 'recurra[plot]'"
        ) from error
    return plt
