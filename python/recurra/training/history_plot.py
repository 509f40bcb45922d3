"""A plot of the history."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from recurra.common import plots

if TYPE_CHECKING:
    from recurra.training.history import History


def draw(history: History, names: str | Sequence[str] | None, axes: Any) -> Any:
    """See `History.plot`."""
    own = [name for name in history.history if not name.startswith("val_")]
    if names is None:
        names = [name for name in own if name not in ("lr", "clipped")]
    names = [names] if isinstance(names, str) else names
    unknown = [name for name in names if name not in own]
    if unknown:
        raise ValueError(
            f"plot: got the name {unknown[0]!r}, expected some of {', '.join(own) or 'none, as no epoch has run'}; "
            f"correct it"
        )
    plt = plots.pyplot("plot")
    from matplotlib.ticker import MaxNLocator

    if axes is None:
        columns = min(len(names), 3) or 1
        rows = -(-len(names) // columns) or 1
        _figure, axes = plt.subplots(
            rows, columns, figsize=(4.2 * columns, 2.9 * rows), squeeze=False, layout="constrained"
        )
    panels = np.atleast_1d(np.asarray(axes, object)).ravel()
    if len(panels) < len(names):
        raise ValueError(f"plot: got {len(panels)} axes, expected {len(names)}, one for each name; give more")
    epochs = np.array(history.epoch) + 1
    for panel, name in zip(panels, names, strict=False):
        for key, label, color in ((name, "training", plots.COLORS[0]), (f"val_{name}", "validation", plots.COLORS[1])):
            if key in history.history:
                values = history.history[key]
                panel.plot(
                    epochs[: len(values)], values, label=label, color=color, marker="." if len(values) < 40 else ""
                )
        panel.set(title=name, xlabel="epoch")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.grid(alpha=0.3)
        if f"val_{name}" in history.history:
            panel.legend(frameon=False)
    for panel in panels[len(names) :]:
        panel.set_visible(False)
    return panels[: len(names)]
