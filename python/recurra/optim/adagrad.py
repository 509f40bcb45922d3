"""Adagrad."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from recurra import _core
from recurra.common import checks
from recurra.optim.memory import Slot
from recurra.optim.optimizer import Optimizer, Rule
from recurra.optim.schedule import Rate


class Adagrad(Optimizer):
    """Adagrad (Duchi, Hazan and Singer 2011), as PyTorch's: s' = s + g^2, w' = w - lr * g / (sqrt(s') + eps).

    In layers with sparse=True it updates only the rows in `grad_rows`, with the same bits as a dense update.

    Args:
        lr: learning rate: a number, or a schedule.
        eps: added to the denominator for numerical stability.
        weight_decay: adds weight_decay * w to the gradient; with sparse layers, no_decay must exclude them.
        no_decay: parameters whose name contains one of these strings are not decayed.
        lr_multipliers: {pattern: factor}, factors of the learning rate of parameters whose whole name fits
            (`fnmatch`), as in {"0.*": 0.1} for layer 0; the first pattern that fits counts. None for 1 everywhere.

    Example:
        >>> optimizer = rc.optim.Adagrad(0.05)
        >>> model = rc.Sequential(rc.GRU(1, 2), rc.Linear(2, 1))
        >>> x = np.zeros((8, 5, 1), np.float32)
        >>> history = model.fit(x, x, loss="mse", optimizer=optimizer, verbose=0)
        >>> optimizer.steps
        1
    """

    memory = ("square",)

    def __init__(
        self,
        lr: Rate = 1e-2,
        *,
        eps: float = 1e-10,
        weight_decay: float = 0.0,
        no_decay: Sequence[str] = (),
        lr_multipliers: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(lr, weight_decay, no_decay, lr_multipliers)
        self.eps = checks.number("Adagrad", "eps", eps)

    def _update(self, parameters: _core.Parameters, begin: int, end: int, rule: Rule, slot: Slot) -> _core.Update:
        return _core.adagrad_update(parameters, begin, end, rule, slot.arrays["square"], self.eps)

    def _refuse_sparse(self, operation: str, label: str) -> None:
        """Accepts sparse layers: a row without a gradient does not move."""
