"""RMSprop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from recurra import _core
from recurra.common import checks
from recurra.optim.memory import Slot
from recurra.optim.optimizer import Optimizer, Rule
from recurra.optim.schedule import Rate


class RMSprop(Optimizer):
    """RMSprop (Tieleman and Hinton 2012) as PyTorch's: s' = alpha s + (1 - alpha) g^2,
    w' = w - lr * g / (sqrt(s') + eps).

    Centered (Graves 2013), the root is that of the variance s' - m'^2 with m' = alpha m + (1 - alpha) g, taken as 0
    where rounding makes it negative. With momentum v' = momentum * v + g / (sqrt(...) + eps), w' = w - lr * v'.

    Args:
        lr: learning rate: a number, or a schedule.
        alpha: decay of the running means, from 0 to 1.
        eps: added to the denominator for numerical stability.
        momentum: from 0 (none) to 1.
        centered: whether to divide by the root of the gradient's variance instead of its mean square.
        weight_decay: adds weight_decay * w to the gradient.
        no_decay: parameters whose name contains one of these strings are not decayed.
        lr_multipliers: {pattern: factor}, factors of the learning rate of parameters whose whole name fits
            (`fnmatch`), as in {"0.*": 0.1} for layer 0; the first pattern that fits counts. None for 1 everywhere.

    Example:
        >>> optimizer = rc.optim.RMSprop(1e-3)
        >>> model = rc.Sequential(rc.GRU(1, 2), rc.Linear(2, 1))
        >>> x = np.zeros((8, 5, 1), np.float32)
        >>> history = model.fit(x, x, loss="mse", optimizer=optimizer, verbose=0)
        >>> optimizer.steps
        1
    """

    def __init__(
        self,
        lr: Rate = 1e-2,
        *,
        alpha: float = 0.99,
        eps: float = 1e-8,
        momentum: float = 0.0,
        centered: bool = False,
        weight_decay: float = 0.0,
        no_decay: Sequence[str] = (),
        lr_multipliers: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(lr, weight_decay, no_decay, lr_multipliers)
        self.alpha = checks.number("RMSprop", "alpha", alpha, 0.0, 1.0)
        self.eps = checks.number("RMSprop", "eps", eps)
        self.momentum = checks.number("RMSprop", "momentum", momentum, 0.0, 1.0)
        self.centered = checks.flag("RMSprop", "centered", centered)
        wanted = {"square": True, "mean": self.centered, "velocity": self.momentum > 0}
        self.memory = tuple(name for name, is_kept in wanted.items() if is_kept)

    def _update(self, parameters: _core.Parameters, begin: int, end: int, rule: Rule, slot: Slot) -> _core.Update:
        square, mean, velocity = (slot.arrays.get(name) for name in ("square", "mean", "velocity"))
        assert square is not None
        return _core.rmsprop_update(
            parameters, begin, end, rule, square, mean, velocity, self.alpha, self.eps, self.momentum
        )
