"""The objective that training minimises: the losses of all outputs, with their targets and weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from recurra.common import checks, errors
from recurra.common.structure import Structure, plain
from recurra.common.typing import Array
from recurra.data import convert, row_weights, target_checks
from recurra.data.feed import Feed, Outputs, place
from recurra.data.rows import Chosen, Rows
from recurra.losses import Loss, LossValue
from recurra.losses.find import named
from recurra.objective import activations, crf_losses

if TYPE_CHECKING:
    from recurra.data.fingerprint import Fingerprint
    from recurra.objective.metric_group import MetricGroup
    from recurra.objective.pieces import Segment
    from recurra.objective.trainable import Trainable

#: A loss, the name or class of one, or a function: see `recurra.losses.Function`.
OneLoss: TypeAlias = "Loss | str | type[Loss] | Callable[[Any, Any], Any]"
#: One loss, or one for each output, in the structure of the model's outputs; likewise for weights.
Losses: TypeAlias = "OneLoss | Sequence[OneLoss] | Mapping[str, OneLoss]"
Weights: TypeAlias = "float | Sequence[float] | Mapping[str, float] | None"
#: Class weights for a single output, or for each output, in the structure of the model's outputs.
ClassWeights: TypeAlias = "Mapping[int, float] | Any | None"


class Targets:
    """The targets of a feed's outputs, and the weights of their rows or steps."""

    def __init__(self, outputs: Outputs, targets: Sequence[Rows], weights: Sequence[Rows | None]) -> None:
        self.outputs, self._targets, self._weights = outputs, targets, weights

    def batch(self, chosen: Chosen) -> tuple[list[Array], list[Array | None]]:
        """The targets and weights of the chosen rows, one of each per output."""
        targets = [rows.batch(chosen)[0] for rows in self._targets]
        return targets, [None if rows is None else rows.batch(chosen)[0] for rows in self._weights]

    def add_to(self, fingerprint: Fingerprint, chosen: slice, lengths: Sequence[Array | None]) -> None:
        """Add the chosen rows' targets and weights to the fingerprint; steps past an output's `lengths` are padding."""
        for target, weight, valid in zip(self._targets, self._weights, lengths, strict=True):
            target.add_to(fingerprint, chosen, valid)
            if weight is None:
                fingerprint.add(None)
            else:
                weight.add_to(fingerprint, chosen, valid)


class Goal:
    """The objective: the sum over the outputs of weight times mean loss."""

    def __init__(
        self,
        operation: str,
        model: Trainable,
        loss: Losses,
        loss_weights: Weights = None,
        class_weight: ClassWeights = None,
    ) -> None:
        self._model, self.structure = model, model.structures[1]
        structure, count = self.structure, len(model.output_infos())
        several = isinstance(loss, list | tuple | Mapping)
        given = structure.spread(operation, "loss", loss) if several or count == 1 else [loss] * count
        for one in given:
            crf_losses.refuse_layer(operation, one)
        self.losses = [named(operation, one) for one in given]
        for one in self.losses:
            one.check_model(operation, model)
        activations.refuse_twice(operation, model, self.losses)
        weights = [1.0] * count if loss_weights is None else structure.spread(operation, "loss_weights", loss_weights)
        self._weights = [checks.number(operation, "loss_weights", weight) for weight in weights]
        self._class_weights = [
            None if one is None else row_weights.of_classes(operation, one)
            for one in structure.spread_optional(operation, "class_weight", class_weight)
        ]

    def targets(
        self, operation: str, feed: Feed, y: Any, sample_weight: Any = None, metrics: MetricGroup | None = None
    ) -> Targets:
        """y and sample_weight, checked against the inputs and converted to what the losses read. `metrics` must be able
        to read the targets too; an unweighted metric reads all of them, those of weight 0 included."""
        outputs, structure = Outputs(self._model, feed.parts), self.structure
        targets: list[Rows] = []
        weights: list[Rows | None] = []
        for index, (info, rows, one, loss, weight, classes) in enumerate(
            zip(
                outputs.infos,
                outputs.rows,
                structure.spread(operation, "y", y),
                self.losses,
                structure.spread_optional(operation, "sample_weight", sample_weight),
                self._class_weights,
                strict=True,
            )
        ):
            where = place(operation, structure, "y", index)
            if classes is not None and loss.whole_rows:
                raise ValueError(
                    f"{where}: got class_weight for {type(loss).__name__}, expected none, as its targets are whole "
                    "rows of labels; give sample_weight"
                )
            target = convert.targets(where, info, rows, one, loss)
            steps = info.has_steps(rows) and not loss.whole_rows
            own = None if weight is None else row_weights.given(where, target, weight, steps)
            if classes is not None:
                own = row_weights.by_class(where, target, own, classes, type(loss).__name__)
            target_checks.check(where, info, rows, target, loss, own)
            if metrics is not None:
                metrics.check(where, index, info, rows, target, own, loss)
            targets.append(target)
            weights.append(own)
        return Targets(outputs, targets, weights)

    def values(
        self, y: Sequence[Array], segment: Segment, metrics: MetricGroup | None = None, *, gradient: bool = True
    ) -> list[LossValue]:
        """The loss of each output over a segment, which also updates `metrics`."""
        lead, counting = min(segment.lead, segment.steps) if segment.lead else 0, segment.counting
        found = []
        for index, (loss, one, target, weight, valid) in enumerate(
            zip(self.losses, y, counting.targets, counting.weights, counting.output_lengths(), strict=True)
        ):
            seen = np.ascontiguousarray(one[:, lead:]) if lead else one
            value = loss(seen, target, valid, weights=weight, gradient=gradient)
            if metrics is not None:
                metrics.update(index, seen, target, valid, weight, loss)
            if lead and value.gradient is not None:
                value = replace(value, gradient=np.pad(value.gradient, ((0, 0), (lead, 0), (0, 0))))
            found.append(value)
        return found

    def counts(self, segment: Segment) -> list[float]:
        """The counts that `values` will return, computed without the outputs."""
        counting = segment.counting
        return [
            loss.count(target, shape, valid, weight)
            for loss, target, shape, valid, weight in zip(
                self.losses,
                counting.targets,
                counting.outputs.shapes(counting.x),
                counting.output_lengths(),
                counting.weights,
                strict=True,
            )
        ]

    def gradients(self, values: Sequence[LossValue], counts: Sequence[float]) -> list[Array | None]:
        """dy of each output for `backward`; the resulting gradients times `scale(counts)` are those of the objective.
        `counts` are summed over all batches of an optimiser step."""
        if len(values) == 1:
            return [values[0].gradient]
        return [
            value.gradient * value.gradient.dtype.type(weight / count)
            if value.count and value.gradient is not None
            else None
            for value, weight, count in zip(values, self._weights, counts, strict=True)
        ]

    def scale(self, counts: Sequence[float]) -> float:
        """The factor for the parameter gradients. With one output it replaces a pass over dy; with several it is 1."""
        return self._weights[0] / counts[0] if len(counts) == 1 and counts[0] else 1.0

    def mean(self, values: Sequence[LossValue] = ()) -> Mean:
        """The running mean loss, starting with a batch's `values`."""
        mean = Mean(self._weights, self.structure)
        mean.add(values)
        return mean

    def config(self) -> dict[str, Any]:
        """Settings that must be the same when a run is resumed."""
        return {
            "losses": [{"class": type(loss).__name__, **plain(vars(loss))} for loss in self.losses],
            "loss_weights": self._weights,
            "class_weight": [None if one is None else plain(one) for one in self._class_weights],
        }


class Mean:
    """The running mean loss over batches: the weighted sum, over outputs, of the mean over all counted elements.

    Attributes: per output, sums, counts, and left_out, the number of rows that its loss could not count.
    """

    def __init__(self, weights: Sequence[float], structure: Structure) -> None:
        self._weights, self._structure = weights, structure
        self.sums, self.counts = [0.0] * len(weights), [0.0] * len(weights)
        self.left_out = [0] * len(weights)

    def add(self, batch: Sequence[LossValue]) -> None:
        """Add the losses of one batch."""
        for index, value in enumerate(batch):
            self.sums[index] += value.sum
            self.counts[index] += value.count
            self.left_out[index] += value.left_out

    @property
    def value(self) -> float:
        """The mean loss; NaN if an output counted nothing, as no loss is not a loss of 0."""
        return self._total(math.nan)

    @property
    def value_of_counted(self) -> float:
        """The mean loss of the outputs that counted anything."""
        return self._total(0.0)

    def _total(self, empty: float) -> float:
        return sum(
            weight * (own / count if count else empty)
            for weight, own, count in zip(self._weights, self.sums, self.counts, strict=True)
            if weight
        )

    def warn(self, operation: str) -> None:
        """Warn of outputs that counted nothing, and of rows that a loss left out."""
        for index, (count, left_out, weight) in enumerate(zip(self.counts, self.left_out, self._weights, strict=True)):
            infeasible = f"{left_out} row{'s' * (left_out > 1)} whose targets need more steps than there are"
            if not count and weight:
                why = f"; left out {infeasible}" if left_out else ""
                said = (
                    "got nothing to count, so that the loss is NaN: lengths, weights or labels leave every row "
                    f"out{why}; give data with at least one row that counts"
                )
            elif left_out:
                said = (
                    f"left out {infeasible}, or have symbols of probability 0; give longer or less subsampled "
                    "sequences, or find the rows with CTC(infeasible='error')"
                )
            else:
                continue
            errors.warn(f"{place(operation, self._structure, 'y', index)}: {said}")
