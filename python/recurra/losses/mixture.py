"""The loss of a mixture density network."""

from __future__ import annotations

import numpy as np

from recurra import _core
from recurra.common import checks
from recurra.common.typing import Array
from recurra.losses.numbers import RealTargets


class MixtureDensity(RealTargets):
    """-log p(t) under a mixture of M Gaussians over F features, in nats, summed over steps (Bishop 1994).

    The predictions of a step are, in this order: the logits of the M mixture weights; the means (M, F); the logarithms
    of the standard deviations (M, F); if `correlated`, M numbers whose tanh is the correlation; if `end_of_stroke`, the
    logit of the last target, which is 0 or 1. `prediction_size` is their number. Targets are (N, T, F) or (N, F), with
    one more feature for `end_of_stroke`. The mean is over steps.

    `MixtureDensity(20, correlated=True, end_of_stroke=True)` is the handwriting model of Graves (2013), section 4.1,
    except that there the end of stroke comes first, and its logit has the opposite sign.

    Args:
        components: M, the number of Gaussians.
        features: F, the number of real features.
        correlated: whether the two features of a component (F = 2) are correlated; else they are independent.
        end_of_stroke: whether the last target is 0 or 1, independent of the others.
        eps: lower bound of standard deviations and of 1 - correlation^2; at the bound their gradient is 0.

    Example:
        >>> loss = rc.losses.MixtureDensity(3, features=2)
        >>> value = loss(np.zeros((2, 5, 15), np.float32), np.ones((2, 5, 2)))
        >>> round(value.mean, 3), value.gradient.shape
        (2.838, (2, 5, 15))
    """

    def __init__(
        self,
        components: int,
        features: int = 2,
        *,
        correlated: bool = False,
        end_of_stroke: bool = False,
        eps: float = 1e-6,
    ) -> None:
        name = type(self).__name__
        self.components = checks.integer(name, "components", components, maximum=2**20)
        self.features = checks.integer(name, "features", features, maximum=2**20)
        self.correlated = checks.flag(name, "correlated", correlated)
        self.end_of_stroke = checks.flag(name, "end_of_stroke", end_of_stroke)
        self.eps = checks.number(name, "eps", eps, 1e-300, 0.5)
        if self.correlated and self.features != 2:
            raise ValueError(
                f"{name}: got correlated=True with features={self.features}, expected features=2; leave correlated out"
            )

    @property
    def prediction_size(self) -> int:
        """The number of features that the last layer must have."""
        return self.components * (1 + 2 * self.features + self.correlated) + self.end_of_stroke

    def _target_shape(self, operation: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        if shape[-1] != self.prediction_size:
            raise ValueError(
                f"{operation}: got predictions of {shape[-1]} features, expected {self.prediction_size}, the loss's "
                f"prediction_size; change the size of the last layer"
            )
        return *shape[:-1], self.features + self.end_of_stroke

    def _check_values(self, operation: str, name: str, valid: Array, features: int) -> None:
        super()._check_values(operation, name, valid, features)
        if self.end_of_stroke and not np.isin(valid[..., -1], (0, 1)).all():
            raise ValueError(
                f"{operation}: got values other than 0 and 1 in {name}[..., -1], expected 1 where a stroke ends, else "
                "0; put the ends of strokes there, or use MixtureDensity(end_of_stroke=False)"
            )

    def _terms(self, shape: tuple[int, ...]) -> int:
        return 1

    def _sum(
        self, predictions: Array, targets: Array, lengths: Array | None, weights: Array | None, gradient: bool
    ) -> tuple[float, Array | None]:
        return _core.mixture_density(
            predictions,
            targets,
            lengths,
            weights,
            gradient,
            components=self.components,
            features=self.features,
            correlated=self.correlated,
            binary=self.end_of_stroke,
            eps=self.eps,
        )
