"""The states of recurrent layers over time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from recurra.common import checks
from recurra.common.plots import axes_of
from recurra.common.typing import Array
from recurra.diagnose.models import subject_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class LayerStates:
    """The states of one layer and direction.

    Attributes: name, as in `params`, such as "0.LSTM l1_reverse"; h, (N, T, H or proj_size), after every step, 0 past
    the lengths; c, (N, T, H) for an LSTM, else None; lengths, (N,).

    Example:
        >>> states = rc.diagnose.hidden_states(rc.LSTM(2, 8), np.ones((4, 10, 2), np.float32))
        >>> layer = states.layers[0]
        >>> layer.h.shape, layer.c.shape, layer.lengths.tolist()
        ((4, 10, 8), (4, 10, 8), [10, 10, 10, 10])
    """

    name: str
    h: Array
    c: Array | None
    lengths: Array

    def plot(self, row: int = 0, values: str = "h", ax: Any = None) -> Axes:
        """Draw a row as a heat map: one line per unit, time to the right.

        Args:
            row: index of the sequence in the batch.
            values: "h", or "c" for an LSTM.
            ax: matplotlib axes to draw on; None makes a figure.

        Raises:
            ValueError: no such row or values.
            ImportError: matplotlib is not installed.
        """
        row = checks.integer("plot", "row", row, 0, len(self.lengths) - 1)
        values = checks.choice("plot", "values", values, ("h",) if self.c is None else ("h", "c"))
        shown = self.h if self.c is None or values == "h" else self.c
        shown = shown[row, : self.lengths[row]].T
        units, steps = shown.shape
        if not steps:
            raise ValueError(
                f"plot: got row={row}, which has no valid steps, expected a row with at least one; choose another row"
            )
        axes = axes_of("plot", ax, 7.0, min(1.4 + 0.06 * units, 6.0))
        finite = np.abs(shown[np.isfinite(shown)])
        limit = float(finite.max(initial=0.0)) or 1.0
        image = axes.imshow(shown, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest")
        axes.figure.colorbar(image, ax=axes, label=values, fraction=0.05, pad=0.02)
        axes.set(title=f"{self.name}, row {row}", xlabel="step", ylabel="unit")
        if steps < 12:
            axes.set_xticks(range(steps))
        return axes


@dataclass(frozen=True)
class HiddenStates:
    """The result of `hidden_states`.

    Attributes: layers, one entry per recurrent layer and direction, in the order in which they run.

    Example:
        >>> model = rc.Sequential(rc.GRU(2, 8), rc.GRU(8, 4))
        >>> states = rc.diagnose.hidden_states(model, np.ones((4, 10, 2), np.float32))
        >>> [layer.h.shape for layer in states.layers]
        [(4, 10, 8), (4, 10, 4)]
    """

    layers: tuple[LayerStates, ...]

    def plot(self, row: int = 0, layer: int = 0, values: str = "h", ax: Any = None) -> Axes:
        """Draw a row of `layers[layer]`; see `LayerStates.plot`."""
        layer = checks.integer("plot", "layer", layer, 0, len(self.layers) - 1)
        return self.layers[layer].plot(row, values, ax)


def hidden_states(model: Any, x: Any, lengths: Any = None) -> HiddenStates:
    """The states of every recurrent layer and direction after every step, in inference.

    Args:
        model: a model, or a layer alone.
        x, lengths: a batch, as `predict` takes it.

    Raises:
        ValueError, TypeError: data that do not fit the model, or a model without a recurrent layer.

    Example:
        >>> model = rc.Sequential(rc.LSTM(2, 8), rc.Linear(8, 1))
        >>> states = rc.diagnose.hidden_states(model, np.ones((4, 10, 2), np.float32))
        >>> states.layers[0].h.shape, states.layers[0].c.shape
        ((4, 10, 8), (4, 10, 8))
    """
    subject = subject_of("hidden_states", model, x, lengths)
    subject.need_parts()
    tape = subject.model.record(subject.x, lengths=subject.lengths, training=False, input_grad=False, seed=0)
    found = subject.activity(tape)
    return HiddenStates(tuple(LayerStates(one.part.name, one.h, one.c, one.lengths) for one in found))
