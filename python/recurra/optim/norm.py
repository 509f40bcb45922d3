"""The norm of gradients whose squares no float can hold."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from recurra import _core
from recurra.layers.leaf import LeafLayer


@dataclass(frozen=True)
class Norm:
    """root * 2^exponent; NaN or infinite if the gradient is.

    Attributes: outside, how many of its elements lay outside a limit.
    """

    root: float
    exponent: int
    outside: int = 0

    @classmethod
    def of(cls, layers: Iterable[LeafLayer], scale: float = 1.0, limit: float = math.inf) -> Norm:
        """Of clamp(scale * gradient, -limit, limit), over all layers together."""
        parts = [_core.gradient_norm(layer.parameters, scale, limit) for layer in layers]
        top = max((exponent for square, exponent, _outside in parts if square), default=0)
        square = sum(math.ldexp(square, 2 * (exponent - top)) for square, exponent, _outside in parts)
        return cls(math.sqrt(square), top, sum(outside for _square, _exponent, outside in parts))

    def times(self, scale: float) -> Norm:
        """Of the gradient times a number; nothing overflows on the way."""
        digits, exponent = math.frexp(scale)
        return replace(self, root=self.root * digits, exponent=self.exponent + exponent)

    @property
    def value(self) -> float:
        """As a number; infinite where it is larger than all of them."""
        try:
            return math.ldexp(self.root, self.exponent)
        except OverflowError:
            return math.inf

    @property
    def is_finite(self) -> bool:
        """Whether every element is."""
        return math.isfinite(self.root)
