"""What passes between the layers of a model while it is read: symbols, with what Keras knows of them beside their values."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from recurra.graph.symbolic import Input
from recurra.interop.keras.source import refused


class Port:
    """An input of the model, whose symbol is made when a layer says whether it holds tokens; and the mask that it gives."""

    def __init__(self, name: str, shape: list[int | None], dtype: str) -> None:
        self.name, self.shape, self._dtype = name, shape, dtype
        self.symbol: Any = None
        #: Steps of this value are padding, if any layer makes a mask of it.
        self.mask_value: float | None = None
        #: The layers that read its steps together: one that leaves padding out, one that does not.
        self.skipping = self.reading = ""

    def tokens(self, size: int) -> Any:
        """The symbol, of so many different tokens."""
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
        """The symbol, of sequences or vectors of numbers."""
        if self.symbol is None:
            features = self.shape[-1] if self.shape else None
            if len(self.shape) not in (1, 2) or features is None:
                raise refused(
                    f"got input {self.name!r} of shape {tuple(self.shape)}, expected (steps, features) or (features,) with known "
                    f"features"
                )
            self.symbol = Input(features=features, sequence=len(self.shape) == 2, name=self.name, dtype=self._dtype)
        if self.symbol.tokens:
            raise refused(f"got input {self.name!r} as tokens and as numbers, expected one of them")
        return self.symbol

    def mask_by(self, value: float) -> None:
        """Steps of this value are padding."""
        if self.mask_value not in (None, value):
            raise refused(f"got two masks of input {self.name!r}, of {self.mask_value} and of {value}, expected one")
        self.mask_value = value


@dataclass(frozen=True)
class Mask:
    """The mask of an input as a value of the graph; without one, a mask that is true, or false, everywhere."""

    port: Port | None
    everywhere: bool = False


@dataclass(frozen=True)
class Value:
    """A sequence (N, steps, features) or a vector (N, features).

    steps: how many, None if any; port: the input whose time axis it has; masked: whether Keras has that input's mask beside
    it; flat: whether Keras has flattened it to (N, steps * features).
    """

    given: Any
    sequence: bool
    steps: int | None = None
    port: Port | None = None
    masked: bool = False
    flat: bool = False

    @classmethod
    def of(cls, port: Port) -> Value:
        """An input's."""
        sequence = len(port.shape) == 2
        return cls(None, sequence, port.shape[0] if port.shape else None, port)

    @property
    def symbol(self) -> Any:
        """What layers are called on."""
        if self.given is not None:
            return self.given
        assert self.port is not None
        return self.port.numbers()

    @property
    def features(self) -> int:
        """How many there are."""
        features = self.symbol.features
        if features is None:
            raise refused("got a layer of an unknown number of features, expected a known one")
        return int(features)

    def now(self, symbol: Any, **changes: Any) -> Value:
        """The same steps with other values."""
        return replace(self, given=symbol, **changes)

    def vector(self, symbol: Any) -> Value:
        """A vector made of it."""
        return Value(symbol, sequence=False)
