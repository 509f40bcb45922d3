"""A plot of the gradient through time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from recurra.common.plots import COLORS, axes_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from recurra.diagnose.gradient_flow import GradientFlow


def draw(flow: GradientFlow, ax: Any) -> Axes:
    """See `GradientFlow.plot`."""
    axes = axes_of("plot", ax)
    for index, layer in enumerate(flow.layers):
        color = COLORS[index % len(COLORS)]
        label = f"{layer.name}: {layer.verdict}"
        axes.plot(-np.arange(len(layer.reach)), _visible(layer.reach), color=color, label=label)
        if not np.array_equal(layer.reach, layer.from_end):
            axes.plot(-np.arange(len(layer.from_end)), _visible(layer.from_end), color=color, ls=":", lw=1, alpha=0.8)
    axes.set_yscale("log")
    axes.set(
        title=f"Gradient of the loss through time: {flow.verdict}",
        xlabel="step, counted back from each sequence's last",
        ylabel="norm of dL/dh",
    )
    if any(not np.array_equal(layer.reach, layer.from_end) for layer in flow.layers):
        axes.plot([], [], color="#808080", ls=":", lw=1, label="with the errors of all steps")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize="small")
    return axes


def _visible(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The values that a logarithmic scale can show; NaN for others."""
    return np.where(np.isfinite(values) & (values > 0), values, np.nan)
