"""Values between the layers of the model being read: symbols, with Keras' masks and shapes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from recurra.graph.symbolic import Input
from recurra.interop.keras.source import refused


class Port:
    """An input of the model and its mask. The symbol is made once a layer tells whether the input holds tokens."""

    def __init__(self, name: str, shape: list[int | None], dtype: str) -> None:
        self.name, self.shape, self._dtype = name, shape, dtype
        self.symbol: Any = None
        #: Steps of this value are padding; None without a mask.
        self.mask_value: float | None = None
        #: The names of a layer that skips padding and of one that reads it.
        self.skipping = self.reading = ""

    def tokens(self, size: int) -> Any:
        """The symbol, with tokens below `size`."""
        if self.symbol is None:
            if len(self.shape) != 1:
                raise refused(f"got tokens of shape {tuple(self.shape)} in {self.name!r}, expected (steps,)")
            self.symbol = Input(tokens=size, name=self.name)
        if not self.symbol.tokens or self.symbol.source.size != size:
            raise refused(
                f"got input {self.name!r} for two tables of different sizes, or also as numbers, expected one"
            )
        return self.symbol

    def numbers(self) -> Any:
        """The symbol, for sequences or vectors of numbers."""
        if self.symbol is None:
            sizes = self.shape[1:] if len(self.shape) > 1 else self.shape
            known = [one for one in sizes if one is not None]
            if not 1 <= len(self.shape) <= 4 or len(known) < len(sizes):
                raise refused(
                    f"got input {self.name!r} of shape {tuple(self.shape)}, expected (features,), (steps, features), "
                    "(steps, height, channels) or (steps, height, width, channels), all but the steps known"
                )
            features = math.prod(known)
            self.symbol = Input(features=features, sequence=len(self.shape) > 1, name=self.name, dtype=self._dtype)
        if self.symbol.tokens:
            raise refused(f"got input {self.name!r} as tokens and as numbers, expected one of them")
        return self.symbol

    def mask_by(self, value: float) -> None:
        """Mask the steps that hold `value`."""
        if self.mask_value not in (None, value):
            raise refused(f"got two masks of input {self.name!r}, of {self.mask_value} and of {value}, expected one")
        self.mask_value = value


@dataclass(frozen=True)
class Mask:
    """An input's mask as a value in the graph; with port None, a mask that is `everywhere`."""

    port: Port | None
    everywhere: bool = False


@dataclass(frozen=True)
class Value:
    """A sequence (N, steps, features) or a vector (N, features).

    steps: the number of steps, None if variable; port: the input with the same time axis; masked: whether Keras passes
    that input's mask along; flat: whether Keras has flattened it to (N, steps * features); image: Keras' axes of a
    step's features, if there are several: (height, channels) or (height, width, channels).
    """

    given: Any
    sequence: bool
    steps: int | None = None
    port: Port | None = None
    masked: bool = False
    flat: bool = False
    image: tuple[int, ...] = ()

    @classmethod
    def of(cls, port: Port) -> Value:
        """The value of an input."""
        image = tuple(one or 0 for one in port.shape[1:]) if len(port.shape) > 2 else ()
        return cls(None, len(port.shape) > 1, port.shape[0] if port.shape else None, port, image=image)

    @property
    def symbol(self) -> Any:
        """The symbol to call layers on."""
        if self.given is not None:
            return self.given
        assert self.port is not None
        return self.port.numbers()

    @property
    def features(self) -> int:
        """The number of features."""
        features = self.symbol.features
        if features is None:
            raise refused("got a layer of an unknown number of features, expected a known one")
        return int(features)

    def now(self, symbol: Any, **changes: Any) -> Value:
        """A value with the same steps and another symbol."""
        return replace(self, given=symbol, **changes)

    def vector(self, symbol: Any) -> Value:
        """A value that is a vector."""
        return Value(symbol, sequence=False)
