"""The metrics of all outputs."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from recurra.common.structure import Structure
from recurra.common.typing import Array
from recurra.data import target_checks
from recurra.data.rows import ArrayRows, Rows
from recurra.losses.labels import BinaryCrossEntropy, LabelLoss
from recurra.losses.of_logits import OfLogits
from recurra.metrics.classes import ClassScore
from recurra.metrics.correct import Accuracy
from recurra.metrics.find import named
from recurra.metrics.metric import Read, checked_name

if TYPE_CHECKING:
    from recurra.data.feed import OutputInfo
    from recurra.losses import Loss
    from recurra.metrics import Metric
    from recurra.objective.trainable import Trainable


#: Reserved names: the logs of every epoch have these, and "epoch" is a placeholder in file names.
TAKEN = ("loss", "lr", "grad_norm", "clipped", "epoch")


def _listed(
    operation: str, structure: Structure, losses: Sequence[Loss | None], what: str, given: Any
) -> list[list[Metric]]:
    """The metrics of each output; the output's loss decides what a name such as "accuracy" means."""
    none = isinstance(given, list | tuple | dict) and not given
    found = []
    spread = structure.spread_optional(operation, what, None if none else given)
    for one, loss in zip(spread, losses, strict=True):
        some = [] if one is None else list(one) if isinstance(one, list | tuple) else [one]
        found.append([named(operation, metric, loss) for metric in some])
    return found


def _check_weighable(operation: str, metric: Metric) -> None:
    """Refuse a metric whose `update` takes no weights, before training starts."""
    try:
        inspect.signature(metric.update).bind(None, None, None, weights=None)
    except TypeError:
        raise TypeError(
            f"{operation}: got {type(metric).__name__} in weighted_metrics, expected a metric that takes weights; "
            "write its update(self, predictions, targets, lengths=None, weights=None), or give it in metrics"
        ) from None


def _check_labels(where: str, name: str, metric: Metric, targets: Rows, trained: Loss) -> None:
    """Refuse targets that are numbers for a metric that reads class labels."""
    array = targets.array if isinstance(targets, ArrayRows) else targets.items[0]
    if array.dtype.kind in "iu":
        return
    hint = "leave it out, or use a metric of numbers, such as 'mae'"
    if isinstance(trained, BinaryCrossEntropy):
        hint = "leave it out, or write 'binary_accuracy'"
        if isinstance(metric, ClassScore):
            hint = f"write metrics.{type(metric).__name__}(threshold=0.5)"
        elif isinstance(metric, Accuracy):
            hint = "write 'binary_accuracy'"
    raise ValueError(
        f"{where}: metric {name}: got the targets of {type(trained).__name__}, which are numbers, expected labels of "
        f"classes; {hint}"
    )


class MetricGroup:
    """The metrics of all outputs; with several outputs, the names of metrics begin with the output's name."""

    def __init__(
        self, operation: str, model: Trainable, given: Any, weighted: Any = (), losses: Sequence[Loss] | None = None
    ) -> None:
        structure = model.structures[1]
        trained = [None] * len(model.output_infos()) if losses is None else losses
        self._named: list[dict[str, Metric]] = []
        self._weighted: set[str] = set()
        lists = [
            _listed(operation, structure, trained, *one) for one in (("metrics", given), ("weighted_metrics", weighted))
        ]
        for index, (some, with_weights) in enumerate(zip(*lists, strict=True)):
            prefix = ""
            if structure.count is not None:
                prefix = f"{structure.names[index] if structure.names else f'output_{index}'}_"
            found = [*some, *with_weights]
            for metric in found:
                checked_name(f"{operation}: {type(metric).__name__}", metric.name)
                metric.check_model(operation, model)
            self._named.append({prefix + metric.name: metric.fresh() for metric in some})
            for metric in with_weights:
                _check_weighable(operation, metric)
                name = prefix + ("weighted_" if metric.name in {one.name for one in some} else "") + metric.name
                self._named[-1][name] = metric.fresh()
                self._weighted.add(name)
            taken = next((name for name in self._named[-1] if name in TAKEN or name.startswith("val_")), None)
            if taken is not None:
                raise ValueError(
                    f"{operation}: got a metric named {taken!r}, expected a name other than {', '.join(TAKEN)} and "
                    "val_..., which fit uses itself; give it name=..."
                )
            if len(self._named[-1]) < len(found):
                raise ValueError(
                    f"{operation}: got two metrics with the same name in {[metric.name for metric in found]}, expected "
                    "different names; give them name=..."
                )

    @property
    def names(self) -> list[str]:
        """The names of all metrics."""
        return [name for group in self._named for name in group]

    def config(self) -> dict[str, Any]:
        """Settings that must be the same when a run is resumed."""
        return {
            name: {**metric.fresh().config(), **({"weighted": True} if name in self._weighted else {})}
            for name, metric in self.metrics()
        }

    def mode(self, name: str) -> str | None:
        """ "min" if lower values of the metric are better, "max" if higher ones are; None for an unknown name."""
        return next((group[name].mode for group in self._named if name in group), None)

    def check(
        self,
        where: str,
        output: int,
        info: OutputInfo,
        x: Rows,
        targets: Rows,
        weights: Rows | None,
        trained: Loss,
    ) -> None:
        """Refuse targets of an output, converted by its loss `trained`, that one of its metrics cannot read."""
        for name, metric in self._named[output].items():
            if not isinstance(metric, Read):
                continue
            axes = targets.array.ndim if isinstance(targets, ArrayRows) else targets.items[0].ndim + 1
            loss = metric.reads(axes, 3 if info.has_steps(x) else 2)
            if isinstance(loss, LabelLoss) and not isinstance(trained, LabelLoss):
                _check_labels(where, name, metric, targets, trained)
            counted = weights if name in self._weighted else None
            try:
                target_checks.check(f"{where}: metric {name}", info, x, targets, loss, counted)
            except ValueError as error:
                if weights is None or counted is not None:
                    raise
                raise ValueError(f"{error}, or, if a weight of 0 leaves it out, use weighted_metrics") from None

    def update(
        self,
        output: int,
        predictions: Array,
        targets: Array,
        lengths: Array | None,
        weights: Array | None = None,
        trained: Loss | None = None,
    ) -> None:
        """Add one batch of an output. Metrics that read logits get logits, even where the loss reads probabilities."""
        for name, metric in self._named[output].items():
            seen = predictions
            if isinstance(trained, OfLogits) and not trained.from_logits and isinstance(metric, Read):
                loss = metric.reads(np.ndim(targets), predictions.ndim)
                if isinstance(loss, OfLogits) and loss.from_logits:
                    seen = trained.logits(predictions)
            if weights is not None and name in self._weighted:
                metric.update(seen, targets, lengths, weights=weights)  # type: ignore[call-arg]
            else:
                metric.update(seen, targets, lengths)

    def results(self) -> dict[str, float]:
        """The value of each metric over the batches so far."""
        found = {name: metric.result() for group in self._named for name, metric in group.items()}
        return {name: as_float(f"the result of the metric {name}", value) for name, value in found.items()}

    def reset(self) -> None:
        """Reset all metrics."""
        for group in self._named:
            for metric in group.values():
                metric.reset()

    def fresh(self) -> MetricGroup:
        """The same metrics, reset; this group is unchanged."""
        other = copy.copy(self)
        other._named = [{name: metric.fresh() for name, metric in group.items()} for group in self._named]
        return other

    def metrics(self) -> Sequence[tuple[str, Metric]]:
        """All metrics, with their names."""
        return [pair for group in self._named for pair in group.items()]


def as_float(what: str, value: Any) -> float:
    """`value`, returned by a metric or callback, as a float; `what` names it in the error."""
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"fit: got {value!r:.100} as {what}, expected a number; make it a float") from error
