"""What `fit` returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from recurra.objective.metric_group import as_float


@dataclass
class History:
    """The numbers of a run.

    Attributes: history, a list with a number per epoch for each name; epoch, the epochs' numbers; seed, which repeats the
    run. The names: "loss" (mean over the epoch, while the parameters moved) and the metrics; "lr", the rate after the last
    step; "grad_norm", the mean norm of a step's gradient before clipping, and "clipped", the mean fraction that clipping
    cut; with validation data `val_loss` and each metric behind `val_`.
    """

    seed: int
    history: dict[str, list[float]] = field(default_factory=dict)
    epoch: list[int] = field(default_factory=list)

    def plot(self, names: str | Sequence[str] | None = None, *, axes: Any = None) -> Any:
        """Draw the numbers over the epochs with matplotlib: training and validation of one name in one panel.

        Args:
            names: which to draw, one or several, without `val_`; None for loss, metrics, and the gradient's norm.
            axes: as many of matplotlib's axes to draw into; None makes a figure.

        Returns:
            The axes, in an array.

        Raises:
            ImportError: matplotlib is not there; `pip install recurra[plot]` brings it.
            ValueError: an unknown name.
        """
        from recurra.training.history_plot import draw

        return draw(self, names, axes)

    def append(self, epoch: int, logs: Mapping[str, float]) -> None:
        """One more epoch, or more numbers of the last one. Where a name has none, it is NaN."""
        if not self.epoch or self.epoch[-1] != epoch:
            self.epoch.append(epoch)
        for name in {**self.history, **logs}:
            values = self.history.setdefault(name, [])
            values += [float("nan")] * (len(self.epoch) - len(values))
            if name in logs:
                values[-1] = as_float(f"{name} in the logs of an epoch", logs[name])
