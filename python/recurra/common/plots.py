"""matplotlib, brought in where something is drawn, and what the pictures share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Distinct in hue and lightness, for lines and bars.
COLORS = ("#1f5fa8", "#d9711f", "#2e8b57", "#8a3ffc", "#c2185b", "#607d8b", "#b8860b", "#00838f")


def pyplot(operation: str) -> Any:
    """matplotlib.pyplot; without matplotlib an ImportError that says what to do."""
    try:
        import matplotlib.pyplot as plt  # here: an import of recurra need not wait for it
    except ImportError as error:
        raise ImportError(
            f"{operation}: got no matplotlib, expected it to be installed; run pip install 'recurra[plot]'"
        ) from error
    return plt


def axes_of(operation: str, ax: Any, width: float = 7.0, height: float = 4.0) -> Axes:
    """`ax`, or the axes of a new figure of so many inches."""
    if ax is not None:
        return ax  # type: ignore[no-any-return]
    _figure, made = pyplot(operation).subplots(figsize=(width, height), layout="constrained")
    return made  # type: ignore[no-any-return]
