"""The norm of gradients, without overflow or underflow of their squares."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from recurra import _core


class Norm(NamedTuple):
    """The norm root * 2^exponent; NaN or infinite if the gradient is.

    Attributes: outside, the number of elements beyond the limit.
    """

    root: float
    exponent: int
    outside: int = 0

    @classmethod
    def of(cls, weights: Iterable[_core.Parameters], scale: float = 1.0, limit: float = math.inf) -> Norm:
        """The norm of clamp(scale * gradient, -limit, limit) over all `weights` together."""
        parts = [_core.gradient_norm(one, scale, limit) for one in weights]
        top = max((exponent for square, exponent, _outside in parts if square), default=0)
        square = sum(math.ldexp(square, 2 * (exponent - top)) for square, exponent, _outside in parts)
        return cls(math.sqrt(square), top, sum(outside for _square, _exponent, outside in parts))

    def times(self, scale: float) -> Norm:
        """The norm of scale * gradient, without intermediate overflow."""
        digits, exponent = math.frexp(scale)
        return Norm(self.root * digits, self.exponent + exponent, self.outside)

    @property
    def value(self) -> float:
        """The norm as a float; infinite if too large for one."""
        try:
            return math.ldexp(self.root, self.exponent)
        except OverflowError:
            return math.inf

    @property
    def is_finite(self) -> bool:
        """Whether every element of the gradient is finite."""
        return math.isfinite(self.root)
