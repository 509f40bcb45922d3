"""Losses of reinforcement learning: of a policy's actions, and of the values that their advantages are measured by."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt

from recurra import _core
from recurra.common import checks, seeds
from recurra.common.typing import Array, Rows
from recurra.data.rows import is_list
from recurra.losses.numbers import RealTargets
from recurra.losses.step_loss import as_numbers


class Fields(RealTargets):
    """A loss with several targets a step, which lie side by side in the last axis of one array."""

    def _joined(self, **fields: Any) -> Any:
        """The fields side by side: (..., 1) of those that are one number a step, and (..., F) of `wide` ones."""
        name = f"{type(self).__name__}.targets"
        fields = {key: _one_array(field) for key, field in fields.items()}
        if any(is_list(field) for field in fields.values()):
            sizes = {key: len(field) for key, field in fields.items()}
            if len(set(sizes.values())) > 1:
                raise ValueError(f"{name}: got {sizes} rows, expected as many of each; give a list of arrays for each")
            rows = zip(*fields.values(), strict=True)
            return [self._joined(**dict(zip(fields, row, strict=True))) for row in rows]
        arrays = [as_numbers(checks.numeric(name, key, field), np.dtype(np.float64)) for key, field in fields.items()]
        arrays = [one if key in self._wide else one[..., None] for key, one in zip(fields, arrays, strict=True)]
        shapes = {key: one.shape[:-1] for key, one in zip(fields, arrays, strict=True)}
        if len(set(shapes.values())) > 1:
            raise ValueError(
                f"{name}: got rows and steps {shapes}, expected the same of each; give one number for each step"
            )
        return np.concatenate(arrays, -1)

    #: Fields with an axis of features.
    _wide: tuple[str, ...] = ()


class PolicyGradient(Fields):
    """-advantage * log pi(action) - entropy * H(pi), summed over steps: REINFORCE (Williams 1992).

    Its gradient is the policy gradient (Sutton et al. 2000, theorem 1). H is the entropy of the distribution, which
    keeps it from narrowing early (Mnih et al. 2016). The mean is over steps.

    Predictions (N, T, F) or (N, F) are a policy: with distribution="categorical" the logits of F actions, of which
    those with a logit of -infinity are ruled out; with "gaussian" F / 2 means, then as many logarithms of variances, as
    in `GaussianNLL`, of an action of F / 2 independent numbers. Targets are made by `targets`. Advantages are
    constants: no gradient flows to what they were computed from.

    Args:
        distribution: "categorical" or "gaussian".
        entropy: weight of the entropy, at least 0.
        eps: lower bound of a Gaussian's variances; below it the gradient of log v is 0.

    Example:
        >>> loss = rc.losses.PolicyGradient(entropy=0.01)
        >>> targets = loss.targets(actions=[[0, 1, 1]], advantages=[[1.0, -0.5, 2.0]])
        >>> value = loss(np.zeros((1, 3, 2), np.float32), targets)
        >>> round(value.mean, 3), value.gradient.shape
        (0.571, (1, 3, 2))
    """

    def __init__(self, distribution: str = "categorical", *, entropy: float = 0.0, eps: float = 1e-6) -> None:
        name = type(self).__name__
        self.distribution: str = checks.choice(name, "distribution", distribution, ("categorical", "gaussian"))
        self.entropy = checks.number(name, "entropy", entropy, 0.0)
        self.eps = checks.number(name, "eps", eps, 1e-300)
        self._wide = ("actions",) if self.distribution == "gaussian" else ()

    def targets(self, actions: npt.ArrayLike | Rows, advantages: npt.ArrayLike | Rows) -> Any:
        """What the loss reads as targets, in float64: actions and advantages side by side.

        Args:
            actions: (N, T) or (N,) numbers of actions; of a Gaussian policy (N, T, F / 2) or (N, F / 2). Or a list of
                rows, as also for the others: then the result is a list.
            advantages: (N, T) or (N,).

        Raises:
            ValueError, TypeError: rows or steps that differ; no numbers.
        """
        return self._joined(actions=actions, advantages=advantages)

    def log_probs(self, predictions: npt.ArrayLike, actions: npt.ArrayLike) -> Array:
        """log pi(action) of each step, (N, T) or (N,), in float64.

        Args:
            predictions: as in a call. actions: as in `targets`.

        Raises:
            ValueError, TypeError: actions that do not fit the predictions.
        """
        operation = f"{type(self).__name__}.log_probs"
        x, targets = checks.numeric(operation, "predictions", predictions), self._drawn(operation, actions)
        x = x.astype(np.float64, copy=False)
        self._check_policy(operation, "actions", x, targets)
        if self.distribution == "categorical":
            chosen = np.take_along_axis(_log_softmax(x), targets.astype(np.int64), -1)[..., 0]
            return np.asarray(chosen)
        mean, log_variance = self._gaussian(x)
        terms = (targets - mean) ** 2 * np.exp(-log_variance) + log_variance + math.log(2 * math.pi)
        return np.asarray(-terms.sum(-1) / 2)

    def sample(self, predictions: npt.ArrayLike, seed: int | np.random.Generator | None = None) -> Array:
        """Actions drawn from the policy, as `targets` takes them.

        Args:
            predictions: as in a call. seed: of the drawing, or a generator, which a loop goes on with; None: fresh.

        Raises:
            ValueError, TypeError: predictions that are no policy, or hold NaN.
        """
        operation = f"{type(self).__name__}.sample"
        x = checks.numeric(operation, "predictions", predictions).astype(np.float64, copy=False)
        self._check_policy(operation, "predictions", x, None)
        possible = x < np.inf if self.distribution == "categorical" else np.isfinite(x)
        if not possible.all() or (x.shape[-1] and (x == -np.inf).all(-1).any()):
            raise ValueError(
                f"{operation}: got predictions with NaN or infinity, or a step without a possible action, expected "
                "numbers that can be drawn from; look for NaN in the model's parameters and inputs"
            )
        rng = seed if isinstance(seed, np.random.Generator) else seeds.generator(seeds.resolve(operation, seed))
        if self.distribution == "categorical":  # the largest of logits with Gumbel noise has the softmax's distribution
            return np.asarray((x + rng.gumbel(size=x.shape)).argmax(-1))
        mean, log_variance = self._gaussian(x)
        return np.asarray(mean + np.exp(log_variance / 2) * rng.standard_normal(mean.shape))

    def _gaussian(self, x: Array) -> tuple[Array, Array]:
        mean, log_variance = np.split(x, 2, -1)
        return mean, np.maximum(log_variance, math.log(self.eps))

    def _drawn(self, operation: str, actions: npt.ArrayLike) -> Array:
        array = as_numbers(checks.numeric(operation, "actions", actions), np.dtype(np.float64))
        return array if self._wide else array[..., None]

    def _check_policy(self, operation: str, name: str, x: Array, actions: Array | None) -> None:
        if x.ndim < 1:
            raise ValueError(f"{operation}: got one number, expected predictions (..., F); give a policy of F features")
        wanted = (*x.shape[:-1], self._action_size(operation, x.shape))
        if actions is None:
            return
        if actions.shape != wanted:
            given, expected = (shape if self._wide else shape[:-1] for shape in (actions.shape, wanted))
            raise ValueError(
                f"{operation}: got {name} of shape {given}, expected {expected} for predictions of shape {x.shape}; "
                "give an action for each step"
            )
        if actions.size:
            self._check_actions(operation, name, actions, x.shape[-1])

    def _action_size(self, operation: str, shape: tuple[int, ...]) -> int:
        if self.distribution == "categorical":
            return 1
        if not shape[-1] or shape[-1] % 2:
            raise ValueError(
                f"{operation}: got predictions of {shape[-1]} features, expected an even number, a mean and the "
                "logarithm of a variance for each number of an action; change the size of the last layer"
            )
        return shape[-1] // 2

    #: Numbers beside the action: its advantage.
    _beside = 1
    _clip: float | None = None

    def _target_shape(self, operation: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        return *shape[:-1], self._action_size(operation, shape) + self._beside

    def _hint(self, name: str, got: tuple[int, ...], expected: tuple[int, ...], shape: tuple[int, ...]) -> str:
        return f"write {name} = loss.targets(...) with actions and advantages for each step"

    def _check_values(self, operation: str, name: str, valid: Array, features: int) -> None:
        super()._check_values(operation, name, valid, features)
        self._check_actions(operation, name, valid[..., : -self._beside], features)

    def _check_actions(self, operation: str, name: str, actions: Array, features: int) -> None:
        if (
            self.distribution == "categorical"
            and not ((actions >= 0) & (actions < features) & (actions == np.floor(actions))).all()
        ):
            raise ValueError(
                f"{operation}: got actions from {actions.min():g} to {actions.max():g} in {name}, expected whole "
                f"numbers from 0 to {features - 1}, as the predictions have {features} features; number the actions "
                "from 0, or use distribution='gaussian' for real numbers"
            )

    def _terms(self, shape: tuple[int, ...]) -> int:
        return 1

    def _sum(
        self, predictions: Array, targets: Array, lengths: Array | None, weights: Array | None, gradient: bool
    ) -> tuple[float, Array | None]:
        gaussian = self.distribution == "gaussian"
        return _core.policy_loss(
            predictions, targets, lengths, weights, gradient, gaussian, self._clip, self.entropy, self.eps
        )


class PPO(PolicyGradient):
    """-min(r A, clip(r, 1 - clip, 1 + clip) A) - entropy * H(pi), summed over steps: proximal policy optimisation.

    The clipped surrogate objective (Schulman et al. 2017, equation 7), with the sign turned round, and the entropy term
    of equation 9. r = pi(action) / pi_old(action) is the ratio to the probability that the action was drawn with, A the
    advantage. Predictions, entropy and mean are those of `PolicyGradient`.

    Args:
        distribution, entropy, eps: as in `PolicyGradient`.
        clip: how far r may go from 1 before a step has no gradient, above 0 and below 1.

    Example:
        >>> loss = rc.losses.PPO(clip=0.2)
        >>> logits = np.zeros((1, 3, 2), np.float32)  # of the policy that acted
        >>> actions = loss.sample(logits, seed=0)
        >>> old = loss.log_probs(logits, actions)
        >>> targets = loss.targets(actions, [[1.0, -0.5, 2.0]], old)
        >>> value = loss(logits, targets)
        >>> round(value.mean, 3), value.gradient.shape
        (-0.833, (1, 3, 2))
    """

    _beside = 2

    def __init__(
        self, distribution: str = "categorical", *, clip: float = 0.2, entropy: float = 0.0, eps: float = 1e-6
    ) -> None:
        super().__init__(distribution, entropy=entropy, eps=eps)
        self.clip = checks.number(type(self).__name__, "clip", clip, math.ulp(0.0), 1 - 2**-53)
        self._clip = self.clip

    def targets(  # type: ignore[override]
        self,
        actions: npt.ArrayLike | Rows,
        advantages: npt.ArrayLike | Rows,
        log_probs: npt.ArrayLike | Rows,
    ) -> Any:
        """What the loss reads as targets, in float64: actions, advantages and old log-probabilities side by side.

        Args:
            actions, advantages: as in `PolicyGradient.targets`.
            log_probs: (N, T) or (N,), log pi_old(action), as `log_probs` gives it for the policy that acted.

        Raises:
            ValueError, TypeError: rows or steps that differ; no numbers.
        """
        return self._joined(actions=actions, advantages=advantages, log_probs=log_probs)

    def _hint(self, name: str, got: tuple[int, ...], expected: tuple[int, ...], shape: tuple[int, ...]) -> str:
        return f"write {name} = loss.targets(...) with actions, advantages and old log-probabilities for each step"


class ValueFunction(Fields):
    """(v - R)^2, or with `clip` max((v - R)^2, (v_c - R)^2) with v_c = clip(v, v_old - clip, v_old + clip).

    The squared error of a value function (Schulman et al. 2017, equation 9), summed over values, whose targets R are
    returns; clipped as in the authors' code, so that a value moves by at most `clip` from what it was when the steps
    were taken. Predictions are (N, T, F) or (N, F), mostly F = 1. The mean is over values.

    Args:
        clip: above 0; None: not clipped, as `MeanSquaredError`.

    Example:
        >>> loss = rc.losses.ValueFunction(clip=0.5)
        >>> targets = loss.targets(np.ones((2, 5, 1)), old_values=np.zeros((2, 5, 1)))
        >>> value = loss(np.full((2, 5, 1), 0.75, np.float32), targets)
        >>> round(value.mean, 3), value.gradient.shape
        (0.25, (2, 5, 1))
    """

    _wide = ("returns", "old_values")

    def __init__(self, clip: float | None = None) -> None:
        self.clip = None if clip is None else checks.number(type(self).__name__, "clip", clip, math.ulp(0.0))

    def targets(self, returns: npt.ArrayLike | Rows, old_values: npt.ArrayLike | Rows | None = None) -> Any:
        """What the loss reads as targets, in float64: returns and, with `clip`, old values side by side.

        Args:
            returns: (N, T, F) or (N, F), in the predictions' shape; or a list of rows.
            old_values: likewise; None without `clip`.

        Raises:
            ValueError, TypeError: shapes that differ; no numbers; old values missing, or given without `clip`.
        """
        if (old_values is None) != (self.clip is None):
            got, wanted = ("none", "them") if old_values is None else ("them", "none")
            raise ValueError(
                f"ValueFunction.targets: got {got} for old_values with clip={self.clip}, expected {wanted}; give "
                "old_values and clip, or neither"
            )
        given = {"returns": returns} if old_values is None else {"returns": returns, "old_values": old_values}
        return self._joined(**given)

    def _target_shape(self, operation: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape if self.clip is None else (*shape[:-1], 2 * shape[-1])

    def _terms(self, shape: tuple[int, ...]) -> int:
        return shape[-1]

    def _hint(self, name: str, got: tuple[int, ...], expected: tuple[int, ...], shape: tuple[int, ...]) -> str:
        if self.clip is None:
            return super()._hint(name, got, expected, shape)
        return f"write {name} = loss.targets(returns, old_values), each of the predictions' shape"

    def _sum(
        self, predictions: Array, targets: Array, lengths: Array | None, weights: Array | None, gradient: bool
    ) -> tuple[float, Array | None]:
        if self.clip is None:
            return _core.mean_squared_error(predictions, targets, lengths, weights, gradient)
        return _core.value_loss(predictions, targets, lengths, weights, gradient, self.clip)


def _one_array(field: Any) -> Any:
    """Equally long lists of plain numbers as one array; anything else as it is."""
    if isinstance(field, list) and not any(isinstance(row, np.ndarray) for row in field):
        with suppress(ValueError):  # of lists that are not equally long
            return np.asarray(field)
    return field


def _log_softmax(x: Array) -> Array:
    shifted = x - x.max(-1, keepdims=True, initial=-np.inf)
    made: Array = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return made
