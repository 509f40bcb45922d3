"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from recurra import _core
from recurra.common import checks
from recurra.optim.memory import Slot
from recurra.optim.optimizer import Optimizer, Rule
from recurra.optim.schedule import Rate


class SGD(Optimizer):
    """Stochastic gradient descent; with momentum v' = momentum * v + g, w' = w - lr * v' (nesterov: w - lr * (g +
    momentum * v')), as PyTorch's (Sutskever et al. 2013).

    Args:
        lr: learning rate: a number, or a schedule.
        momentum: from 0 (none) to 1.
        nesterov: whether to use Nesterov momentum; needs momentum.
        weight_decay: adds weight_decay * w to the gradient.
        no_decay: parameters whose name contains one of these strings are not decayed.
        lr_multipliers: {pattern: factor}, factors of the learning rate of parameters whose whole name fits
            (`fnmatch`), as in {"0.*": 0.1} for layer 0; the first pattern that fits counts. None for 1 everywhere.

    Example:
        >>> optimizer = rc.optim.SGD(0.1, momentum=0.9)
        >>> model = rc.Sequential(rc.GRU(1, 2), rc.Linear(2, 1))
        >>> x = np.zeros((8, 5, 1), np.float32)
        >>> history = model.fit(x, x, loss="mse", optimizer=optimizer, verbose=0)
        >>> optimizer.steps
        1
    """

    def __init__(
        self,
        lr: Rate,
        *,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        no_decay: Sequence[str] = (),
        lr_multipliers: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(lr, weight_decay, no_decay, lr_multipliers)
        self.momentum = checks.number("SGD", "momentum", momentum, 0.0, 1.0)
        self.nesterov = checks.flag("SGD", "nesterov", nesterov)
        if self.nesterov and not self.momentum:
            raise ValueError("SGD: got nesterov=True without momentum, expected both; set momentum, such as 0.9")
        self.memory = ("velocity",) if self.momentum else ()

    def _update(self, parameters: _core.Parameters, begin: int, end: int, rule: Rule, slot: Slot) -> _core.Update:
        velocity = slot.arrays.get("velocity")
        return _core.sgd_update(parameters, begin, end, rule, velocity, self.momentum, self.nesterov)

    def _refuse_sparse(self, operation: str, label: str) -> None:
        """Refuses sparse layers only with momentum, which moves rows without a gradient."""
        if self.momentum:
            super()._refuse_sparse(operation, label)
