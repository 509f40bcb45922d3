"""Metrics of the tags that a CRF decodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from recurra.common import checks
from recurra.common.typing import Lengths, Rows
from recurra.data.rows import one_array
from recurra.layers import crf
from recurra.metrics.find import named
from recurra.metrics.metric import Metric, checked_name

if TYPE_CHECKING:
    from typing_extensions import Self

    from recurra.layers.layer import Layer


class Viterbi(Metric):
    """A metric of each row's most probable tagging, from `crf.viterbi`, instead of each step's largest score.

        metrics=[rc.metrics.Viterbi(crf, "accuracy")]

    Predictions are the scores (N, T, C) of a model that ends in the layer `crf`. The inner metric gets one-hot taggings
    (N, T, C) instead, so it must depend only on the class of the largest score, as accuracy and F1 do.

    Args:
        crf: the `recurra.CRF` at the end of the model.
        metric: a metric of this module, or its name.
        name: by default the metric's name after "viterbi", such as "viterbi_accuracy".

    Example:
        >>> crf = rc.CRF(3)
        >>> metric = rc.metrics.Viterbi(crf)
        >>> metric.update(10 * np.eye(3, dtype=np.float32)[[[0, 1, 2]]], np.array([[0, 1, 1]]))
        >>> round(metric.result(), 3)
        0.667
    """

    def __init__(self, crf: crf.CRF, metric: Any = "accuracy", name: str | None = None) -> None:
        self.crf = _checked(crf)
        self._metric = named("Viterbi", metric)
        self.name = f"viterbi_{self._metric.name}" if name is None else checked_name("Viterbi", name)
        self.mode = self._metric.mode
        self.reset()

    def check_model(self, operation: str, model: Layer) -> None:
        """Refuse a model that does not contain the layer `crf`."""
        crf.check_in_model(operation, "Viterbi", self.crf, model)
        self._metric.check_model(operation, model)

    def update(
        self, predictions: Any, targets: Rows, lengths: Lengths = None, weights: npt.ArrayLike | None = None
    ) -> None:
        """Add a batch; rows of weight 0 are not read."""
        predictions, targets, lengths, weights = one_array("Viterbi", predictions, targets, lengths, weights)
        scores = checks.array("Viterbi", "predictions", predictions)
        valid = lengths
        if weights is not None and np.ndim(weights) == 1 and scores.ndim == 3:
            valid = np.where(
                np.asarray(weights) > 0, np.full(len(scores), scores.shape[1]) if lengths is None else lengths, 0
            )
        tags = self.crf.viterbi(scores, valid)
        chosen = np.zeros(scores.shape, scores.dtype)
        np.put_along_axis(chosen, tags[..., None], 1, -1)
        if weights is None:
            self._metric.update(chosen, targets, lengths)
        else:
            self._metric.update(chosen, targets, lengths, weights=weights)  # type: ignore[call-arg]

    def result(self) -> float:
        """The result of the inner metric."""
        return self._metric.result()

    def reset(self) -> None:
        """Reset to no batches."""
        self._metric.reset()

    def fresh(self) -> Self:
        """A new metric with the same options and no batches."""
        twin = super().fresh()
        twin._metric = self._metric.fresh()
        return twin

    def state_dict(self) -> dict[str, Any]:
        """The state of the inner metric."""
        return self._metric.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state from a `state_dict()` of a metric with the same options."""
        self._metric.load_state_dict(state)


def _checked(layer: Any) -> crf.CRF:
    if not isinstance(layer, crf.CRF):
        raise TypeError(
            f"Viterbi: got {type(layer).__name__}, expected the layer recurra.CRF that the model ends in; write "
            f"Viterbi(model.layers[-1])"
        )
    return layer
