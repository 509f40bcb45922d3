"""The metrics of all outputs."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from recurra.metrics.find import named
from recurra.metrics.metric import checked_name
from recurra.training.history import as_float
from recurra.typing import Array

if TYPE_CHECKING:
    from recurra.metrics import Metric
    from recurra.training.model import TrainableModel


#: Names of numbers that are in every epoch's logs, and what file names call the epoch.
TAKEN = ("loss", "lr", "grad_norm", "clipped", "epoch")


class MetricGroup:
    """For each output its metrics; of a model with several outputs their names begin with the output's."""

    def __init__(self, operation: str, model: TrainableModel, given: Any) -> None:
        structure = model.structures[1]
        none = isinstance(given, list | tuple | dict) and not given
        listed = structure.spread_optional(operation, "metrics", None if none else given)
        self._named: list[dict[str, Metric]] = []
        for index, one in enumerate(listed):
            some = [] if one is None else list(one) if isinstance(one, list | tuple) else [one]
            prefix = ""
            if structure.count is not None:
                prefix = f"{structure.names[index] if structure.names else f'output_{index}'}_"
            found = [named(operation, metric) for metric in some]
            for metric in found:
                checked_name(f"{operation}: {type(metric).__name__}", metric.name)
            self._named.append({prefix + metric.name: metric.fresh() for metric in found})
            taken = next((name for name in self._named[-1] if name in TAKEN or name.startswith("val_")), None)
            if taken is not None:
                raise ValueError(
                    f"{operation}: got a metric of the name {taken!r}, expected another than {', '.join(TAKEN)} and val_..., "
                    f"which fit uses itself; give it name=..."
                )
            if len(self._named[-1]) < len(found):
                raise ValueError(
                    f"{operation}: got two metrics of one name in {[metric.name for metric in found]}, expected different "
                    f"names; give them name=..."
                )

    @property
    def names(self) -> list[str]:
        """Of all numbers."""
        return [name for group in self._named for name in group]

    def mode(self, name: str) -> str | None:
        """ "min" or "max", which way is better; None for a name that is not known here."""
        return next((group[name].mode for group in self._named if name in group), None)

    def update(self, output: int, predictions: Array, targets: Array, lengths: Array | None) -> None:
        """One more batch of an output."""
        for metric in self._named[output].values():
            metric.update(predictions, targets, lengths)

    def results(self) -> dict[str, float]:
        """The numbers so far."""
        found = {name: metric.result() for group in self._named for name, metric in group.items()}
        return {name: as_float(f"the result of the metric {name}", value) for name, value in found.items()}

    def reset(self) -> None:
        """Forget all batches."""
        for group in self._named:
            for metric in group.values():
                metric.reset()

    def fresh(self) -> MetricGroup:
        """The same metrics, with nothing in them."""
        other = copy.copy(self)
        other._named = [{name: metric.fresh() for name, metric in group.items()} for group in self._named]
        return other

    def metrics(self) -> Sequence[tuple[str, Metric]]:
        """All of them, by name."""
        return [pair for group in self._named for pair in group.items()]
