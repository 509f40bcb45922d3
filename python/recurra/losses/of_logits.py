"""Losses that apply the model's last sigmoid or softmax themselves."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from recurra.common.typing import Array
from recurra.losses import probabilities
from recurra.losses.step_loss import StepLoss


class OfLogits(StepLoss):
    """A loss computed from logits. With from_logits=False predictions are probabilities, converted to logits.

    Attributes: activation, the name of the function that turns logits into probabilities.
    """

    activation: ClassVar[str]
    from_logits: bool

    @staticmethod
    @abstractmethod
    def _as_logits(p: Array) -> tuple[Array, Array]:
        """The logits of probabilities, and their derivative."""

    @abstractmethod
    def _sum_of_logits(
        self, predictions: Array, targets: Array, lengths: Array | None, weights: Array | None, gradient: bool
    ) -> tuple[float, Array | None]:
        """`_sum` for predictions that are logits."""

    @abstractmethod
    def probabilities(self, predictions: Array) -> Array:
        """The probabilities given by the predictions of a model trained with this loss."""

    def logits(self, predictions: Array) -> Array:
        """Predictions converted to logits, as metrics read them."""
        return predictions if self.from_logits else self._as_logits(predictions)[0]

    def _sum(
        self, predictions: Array, targets: Array, lengths: Array | None, weights: Array | None, gradient: bool
    ) -> tuple[float, Array | None]:
        if self.from_logits:
            return self._sum_of_logits(predictions, targets, lengths, weights, gradient)
        probabilities.check(type(self).__name__, self.activation, predictions, lengths, weights)
        logits, slope = self._as_logits(predictions)
        total, own = self._sum_of_logits(logits, targets, lengths, weights, gradient)
        return total, probabilities.chained(own, slope)
