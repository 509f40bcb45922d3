"""Adam, with coupled or decoupled weight decay."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from recurra import _core
from recurra.common import checks
from recurra.common.docstrings import with_inherited_arguments
from recurra.optim.memory import Slot
from recurra.optim.optimizer import Optimizer, Rule
from recurra.optim.schedule import Rate


class Adam(Optimizer):
    """Adam (Kingma and Ba 2015): m' = b1 m + (1 - b1) g, v' = b2 v + (1 - b2) g^2,
    w' = w - lr * (m' / (1 - b1^t)) / (sqrt(v' / (1 - b2^t)) + eps).

    Args:
        lr: learning rate: a number, or a schedule.
        betas: (b1, b2), each at least 0 and less than 1.
        eps: added to the denominator for numerical stability.
        weight_decay: adds weight_decay * w to the gradient.
        no_decay: parameters whose name contains one of these strings are not decayed.
        lr_multipliers: {pattern: factor}, factors of the learning rate of parameters whose whole name fits
            (`fnmatch`), as in {"0.*": 0.1} for layer 0; the first pattern that fits counts. None for 1 everywhere.

    Example:
        >>> optimizer = rc.optim.Adam(3e-3)
        >>> model = rc.Sequential(rc.GRU(1, 2), rc.Linear(2, 1))
        >>> x = np.zeros((8, 5, 1), np.float32)
        >>> history = model.fit(x, x, loss="mse", optimizer=optimizer, verbose=0)
        >>> optimizer.steps
        1
    """

    memory = ("m", "v")
    _decoupled = False

    def __init__(
        self,
        lr: Rate = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        no_decay: Sequence[str] = (),
        lr_multipliers: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(lr, weight_decay, no_decay, lr_multipliers)
        name = type(self).__name__
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise TypeError(f"{name}: got betas={betas!r}, expected a pair of numbers; write betas=(0.9, 0.999)")
        below_one = math.nextafter(1.0, 0.0)
        first, second = (checks.number(name, "betas", beta, 0.0, below_one) for beta in betas)
        self.betas = (first, second)
        self.eps = checks.number(name, "eps", eps)

    def _update(self, parameters: _core.Parameters, begin: int, end: int, rule: Rule, slot: Slot) -> _core.Update:
        m, v = slot.arrays["m"], slot.arrays["v"]
        sparse = parameters.sparse
        return _core.adam_update(
            parameters, begin, end, rule, m, v, slot.steps, *self.betas, self.eps, sparse, self._decoupled
        )


@with_inherited_arguments
class SparseAdam(Adam):
    """Adam that skips the rows of a sparse embedding without a gradient (lazy Adam), as torch.optim.SparseAdam.

    In layers with sparse=True only the rows in `grad_rows`, and their m and v, are updated; t counts all steps:
    w' = w - lr * sqrt(1 - b2^t) / (1 - b1^t) * m' / (sqrt(v') + eps). Other layers are updated as in `Adam`.

    Args:
        weight_decay: adds weight_decay * w to the gradient; with sparse layers, no_decay must exclude them.

    Example:
        >>> model = rc.Sequential(rc.Embedding(10_000, 4, sparse=True), rc.GRU(4, 2))
        >>> tokens, y = np.ones((8, 5), int), np.zeros((8, 5, 2))
        >>> history = model.fit(
        ...     tokens, y, loss="mse", optimizer=rc.optim.SparseAdam(), verbose=0
        ... )
    """

    def _refuse_sparse(self, operation: str, label: str) -> None:
        """Accepts sparse layers."""


@with_inherited_arguments
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019): first w -= lr * weight_decay * w, then as Adam.

    Args:
        weight_decay: each step first reduces every parameter by the fraction lr * weight_decay.

    Example:
        >>> optimizer = rc.optim.AdamW(3e-3, weight_decay=0.01, no_decay=("bias",))
        >>> model = rc.Sequential(rc.GRU(1, 2), rc.Linear(2, 1))
        >>> x = np.zeros((8, 5, 1), np.float32)
        >>> history = model.fit(x, x, loss="mse", optimizer=optimizer, verbose=0)
        >>> optimizer.steps
        1
    """

    _decoupled = True

    def __init__(
        self,
        lr: Rate = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        no_decay: Sequence[str] = (),
        lr_multipliers: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(
            lr, betas=betas, eps=eps, weight_decay=weight_decay, no_decay=no_decay, lr_multipliers=lr_multipliers
        )
