"""The loss of linear-chain conditional random fields."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from recurra import _core
from recurra.common.typing import Array
from recurra.layers import crf as layers
from recurra.losses.labels import LabelLoss
from recurra.losses.loss import Checked, LossValue
from recurra.losses.step_loss import counted_steps
from recurra.running.score_gradient import ScoreGradient

if TYPE_CHECKING:
    from recurra.layers.layer import Layer


class CRF(LabelLoss):
    """-log p(tags) of a linear-chain CRF, in nats, summed over rows (Lafferty, McCallum, Pereira 2001).

    Predictions are the scores (N, T, C) of a model that ends in the layer `crf`, whose transitions are part of the
    loss; targets are integer tags (N, T), from 0 to C - 1. With all transitions 0 it equals `CrossEntropy`. The count
    is the number of steps, as with pytorch-crf's reduction="token_mean". Weights are per row, not per step.

    `value.gradient` carries the gradient of the transitions, so that a tape's `backward(value.gradient)` adds it to the
    layer's `grads`.

    Args:
        crf: the `recurra.CRF` at the end of the model.
        ignore_index: a label, of any value, for steps whose tag is unknown: the loss is -log of the total probability
            of all taggings with the known tags (Tsuboi et al. 2008). These steps do not count.

    Example:
        >>> crf = rc.CRF(3)
        >>> model = rc.Sequential(rc.GRU(4, 8), rc.Linear(8, 3), crf)
        >>> x, tags = np.ones((2, 5, 4), np.float32), np.ones((2, 5), int)
        >>> history = model.fit(x, tags, loss=rc.losses.CRF(crf), optimizer="adam", verbose=0)
    """

    whole_rows: ClassVar[bool] = True

    def __init__(self, crf: layers.CRF, ignore_index: int | None = None) -> None:
        if not isinstance(crf, layers.CRF):
            raise TypeError(
                f"losses.CRF: got {type(crf).__name__}, expected the layer recurra.CRF that the model ends in, whose "
                f"transitions it trains; write losses.CRF(model.layers[-1])"
            )
        self.crf = crf
        super().__init__(ignore_index)

    def check_model(self, operation: str, model: Layer) -> None:
        """Refuse a model that does not contain the layer `crf`."""
        layers.check_in_model(operation, "losses.CRF", self.crf, model)

    def _target_shape(self, operation: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        if shape[-1] != self.crf.num_tags:
            raise ValueError(
                f"{operation}: got predictions of {shape[-1]} tags, expected {self.crf.num_tags}, as the CRF has; give "
                "the outputs of the model that ends in it"
            )
        return shape[:-1]

    def check(
        self,
        operation: str,
        name: str,
        shape: tuple[int, ...],
        targets: Array,
        lengths: Array | None = None,
        weights: Array | None = None,
    ) -> None:
        """Refuse converted targets that do not fit predictions of `shape`, or that violate the CRF's constraints."""
        super().check(operation, name, shape, targets, lengths, weights)
        if self.crf.constraints is None or not targets.size or targets.ndim != 2:
            return
        counted = counted_steps(shape, lengths, weights)
        known = np.ones(targets.shape, bool) if counted is None else counted
        ends = known & ~np.pad(known[:, 1:], ((0, 0), (0, 1)))
        if self.ignore_index is not None:
            known = known & (targets != self.ignore_index)
        tags = np.where(known, targets, 0)
        pairs, start, end = self.crf.constraints
        wrong = {
            "begins with the tag": known[:, :1] & ~start[tags[:, :1]],
            "ends with the tag": ends & known & ~end[tags],
            "has before another tag the tag": known[:, :-1] & known[:, 1:] & ~pairs[tags[:, :-1], tags[:, 1:]],
        }
        for what, where in wrong.items():
            for row, step in np.argwhere(where)[:1]:
                following = f" before {tags[row, step + 1]}" if "another" in what else ""
                what = "has" if following else what
                place = name if "[" in name else f"row {row} of {name}"
                raise ValueError(
                    f"{operation}: got {place}, which {what} "
                    f"{'the tag ' if following else ''}{tags[row, step]}{following} at step {step}, expected what the "
                    "CRF's constraints allow; correct the tags, or relax the constraints"
                )

    def _checked(self, operation: str, shape: tuple[int, ...], *arguments: Any) -> Any:
        if len(shape) != 3:
            raise ValueError(
                f"{operation}: got predictions of shape {shape}, expected (N, T, {self.crf.num_tags}); write "
                f"predictions[None] if it is one row"
            )
        return super()._checked(operation, shape, *arguments)

    def _compute(self, operation: str, batch: Checked, gradient: bool) -> LossValue:
        parameters = self.crf.parameters
        total, scores, own = _core.crf(*batch, gradient, parameters, self.crf.allowed, self.ignore_index)
        count = self._count(operation, batch.predictions.shape, *batch[1:])
        if scores is None or own is None:
            return LossValue(total, count, None)
        return LossValue(total, count, ScoreGradient.of(scores, parameters, own))

    def _sum(self, *_batch: Any) -> tuple[float, Array | None]:
        raise NotImplementedError  # `_compute` replaces it: one native call also returns the transitions' gradient
