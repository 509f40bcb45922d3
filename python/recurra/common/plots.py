"""matplotlib, imported only to draw, and the style that plots share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Distinct in hue and lightness, for lines and bars.
COLORS = ("#1f5fa8", "#d9711f", "#2e8b57", "#8a3ffc", "#c2185b", "#607d8b", "#b8860b", "#00838f")


def pyplot(operation: str) -> Any:
    """matplotlib.pyplot; an ImportError that says what to install if it is missing."""
    try:
        import matplotlib.pyplot as plt  # late, to keep `import recurra` cheap
    except ImportError as error:
        raise ImportError(f"{operation}: matplotlib is not installed; run pip install 'recurra[plot]'") from error
    return plt


def axes_of(operation: str, ax: Any, width: float = 7.0, height: float = 4.0) -> Axes:
    """`ax`, or the axes of a new figure of width x height inches."""
    if ax is not None:
        return ax  # type: ignore[no-any-return]
    _figure, made = pyplot(operation).subplots(figsize=(width, height), layout="constrained")
    return made  # type: ignore[no-any-return]
