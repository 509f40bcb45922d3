"""The history of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from recurra.common import html
from recurra.objective.metric_group import as_float


@dataclass(repr=False)
class History:
    """The numbers of a run, as `fit` returns them.

    Attributes: history, for each name a list with a number per epoch; epoch, the epochs' numbers; seed, which repeats
    the run. The names: "loss" (mean over the epoch, during which the parameters changed) and the metrics; "lr", the
    rate after the last step; "grad_norm", the mean norm of a step's gradient before clipping, and "clipped", the mean
    fraction that was clipped; with validation data, `val_loss` and each metric prefixed with `val_`.

    Example:
        >>> model = rc.Sequential(rc.GRU(1, 2), rc.Linear(2, 1))
        >>> x = np.zeros((4, 5, 1), np.float32)
        >>> history = model.fit(x, x, loss="mse", optimizer="adam", epochs=3, verbose=0)
        >>> history.epoch, len(history.history["loss"])
        ([0, 1, 2], 3)
    """

    seed: int
    history: dict[str, list[float]] = field(default_factory=dict)
    epoch: list[int] = field(default_factory=list)

    def plot(self, names: str | Sequence[str] | None = None, *, axes: Any = None) -> Any:
        """Draw the numbers over the epochs with matplotlib: training and validation of one name in one panel.

        Args:
            names: the names to draw, one or several, without `val_`; None for loss, metrics, and the gradient norm.
            axes: matplotlib axes to draw on, one for each name; None makes a figure.

        Returns:
            The axes, in an array.

        Raises:
            ImportError: matplotlib is not installed; run `pip install recurra[plot]`.
            ValueError: an unknown name.
        """
        from recurra.training.history_plot import draw

        return draw(self, names, axes)

    def __repr__(self) -> str:
        last = "".join(f", {name}={values[-1]:.4g}" for name, values in self.history.items())
        return f"History({len(self.epoch)} epochs{last}, seed={self.seed})"

    def _repr_html_(self) -> str:
        """A row for each epoch, for notebooks."""
        columns = [[str(number) for number in self.epoch]]
        columns += [[f"{value:.4g}" for value in values] for values in self.history.values()]
        rows = [("epoch", *self.history), *zip(*columns, strict=True)]
        return html.table(rows, caption=f"History of {len(self.epoch)} epochs")

    def append(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Add an epoch, or more numbers of the last one. Missing numbers are NaN."""
        if not self.epoch or self.epoch[-1] != epoch:
            self.epoch.append(epoch)
        for name in {**self.history, **logs}:
            values = self.history.setdefault(name, [])
            values += [float("nan")] * (len(self.epoch) - len(values))
            if name in logs:
                values[-1] = as_float(f"{name} in the logs of an epoch", logs[name])
