"""Symbols: the values of a model that is being built, from `recurra.Input` and from layers called on symbols."""

from __future__ import annotations

import math
from itertools import count
from typing import TYPE_CHECKING, Any

from recurra.common import checks
from recurra.graph.graph import Port
from recurra.saving import registry

if TYPE_CHECKING:
    import numpy.typing as npt

    from recurra.layers.leaf import LeafLayer

_serial = count()  # numbers calls in the order in which they were made, which is the order of layers in a model


class Call:
    """A layer called on symbols."""

    def __init__(self, layer: LeafLayer, inputs: tuple[Symbol, ...], states: tuple[Symbol | None, ...]) -> None:
        self.layer, self.inputs, self.states = layer, inputs, states
        self.serial = next(_serial)


class Symbol:
    """A value of a model being built: a sequence (N, T, features), a vector (N, features), or tokens (N, T).

    `a + b`, `a - b` and `a * b` are elementwise; `a[..., 2:5]` selects features, as `recurra.Slice` does.

    Attributes: features, None if known only at run time; sequence, whether there is a time axis; tokens, whether it
    holds integers.

    Example:
        >>> x = rc.Input(features=4)
        >>> y = rc.Linear(4, 4)(x) + x
        >>> model = rc.Model(x, y[..., :2])
        >>> model(np.ones((2, 5, 4), np.float32))[0].shape
        (2, 5, 2)
    """

    def __init__(
        self, source: Port | Call, which: int, features: int | None, sequence: bool, tokens: bool = False
    ) -> None:
        self.source = source
        self.which = which  # 0: the output of the call, 1 and up: its final states
        self.features, self.sequence, self.tokens = features, sequence, tokens

    @property
    def shape(self) -> tuple[int | None, ...]:
        """The shape, with None for sizes known only at run time."""
        time = (None,) if self.sequence else ()
        return (None, *time) if self.tokens else (None, *time, self.features)

    @property
    def state(self) -> Any:
        """The final state of the layer whose output this is, structured like that layer's state. Each array is a vector
        (N, num_layers * directions * H), to be another layer's initial state or input."""
        layer = self.source.layer if isinstance(self.source, Call) else None
        if layer is None or not layer.state_names:
            what = "an Input" if layer is None else layer.label
            raise AttributeError(
                f"state: got the output of {what}, expected the output of a recurrent layer, as only those have a "
                "state; take the state of a recurrent layer's output"
            )
        found = [Symbol(self.source, 1 + index, size, sequence=False) for index, size in enumerate(state_sizes(layer))]
        return found[0] if len(found) == 1 else tuple(found)

    def __add__(self, other: Any) -> Symbol:
        return _merged("Add", self, other)

    def __sub__(self, other: Any) -> Symbol:
        return _merged("Subtract", self, other)

    def __mul__(self, other: Any) -> Symbol:
        return _merged("Multiply", self, other)

    def __getitem__(self, key: Any) -> Symbol:
        return _sliced(self, key)

    def __iter__(self) -> Any:
        raise TypeError(
            "Symbol: cannot be iterated over, as it has no values before the model runs; select features with "
            "symbol[..., 2:5]"
        )

    def __bool__(self) -> bool:
        raise TypeError("Symbol: has no truth value before the model runs; call a recurra.Model on arrays")

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError(
            "Symbol: cannot be used as an array, as it has no values before the model runs; call layers on it, or make "
            "a recurra.Model and call that on arrays"
        )

    def __repr__(self) -> str:
        return f"Symbol(shape={self.shape}{', tokens' if self.tokens else ''})"


def Input(  # noqa: N802 - as in Keras
    *,
    features: int | None = None,
    tokens: int | None = None,
    sequence: bool = True,
    name: str | None = None,
    dtype: npt.DTypeLike | None = None,
    mask_value: float | None = None,
) -> Symbol:
    """An input of a model: sequences (N, T, features), vectors (N, features), or tokens (N, T).

        x = rc.Input(features=16)
        h = rc.LSTM(16, 32)(x)
        model = rc.Model(x, rc.Linear(32, 4)(h))

    Args:
        features: number of features of each step; or
        tokens: number of distinct tokens.
        sequence: False for vectors, without a time axis.
        name: for `summary`.
        dtype: float32 or float64, the dtype of the layers that read it; None for theirs. `a + b` of two inputs of
            float64 is float64.
        mask_value: the token that is padding, or the number that all features of a step of padding have (Keras'
            mask_zero and Masking): a call without lengths and mask makes its mask of that, and `fit` and `evaluate`
            leave these steps out of losses and metrics. None for every step valid. A model that this one is a part of
            has inputs of its own.

    Example:
        >>> series, place = rc.Input(features=3), rc.Input(features=2, sequence=False)
        >>> h = rc.GRU(3, 8)(series).state
        >>> model = rc.Model((series, place), rc.Concatenate()((h, place)))
        >>> model((np.ones((4, 5, 3), np.float32), np.ones((4, 2), np.float32)))[0].shape
        (4, 10)
    """
    if (features is None) == (tokens is None):
        raise ValueError(
            f"Input: got features={features} and tokens={tokens}, expected one of the two; "
            f"write Input(features=...) for numbers, Input(tokens=...) for integers"
        )
    sequence = checks.flag("Input", "sequence", sequence)
    if name is not None and not isinstance(name, str):
        raise TypeError(f"Input: got name={name!r}, expected a str; write name='...'")
    if tokens is not None and not sequence:
        raise ValueError("Input: got tokens with sequence=False, expected sequences of tokens; leave sequence out")
    if tokens is not None and dtype is not None:
        raise ValueError(
            f"Input: got tokens with dtype={dtype!r}, expected none, as any integers will do; leave dtype out"
        )
    kind, size = ("features", features) if tokens is None else ("tokens", tokens)
    size = checks.integer("Input", kind, size)
    wanted = None if dtype is None else checks.dtype_name("Input", dtype)
    if mask_value is not None:
        mask_value = checks.number("Input", "mask_value", mask_value, -math.inf)
        if not sequence:
            raise ValueError(
                f"Input: got mask_value={mask_value} with sequence=False, expected None, as vectors have no padding; "
                "leave it out"
            )
    port = Port(kind, size, "sequence" if sequence else "vector", name, wanted, mask_value)
    return Symbol(port, 0, None if tokens is not None else size, sequence, kind == "tokens")


def found(x: Any) -> bool:
    """Whether x is a symbol or contains one."""
    if isinstance(x, tuple | list):
        return any(isinstance(one, Symbol) for one in x)
    return isinstance(x, Symbol) or (isinstance(x, dict) and any(isinstance(one, Symbol) for one in x.values()))


def state_sizes(layer: LeafLayer) -> list[int]:
    """Numbers per row of each array of the layer's state."""
    return [array.shape[0] * array.shape[2] for array in layer.state_zeros(0)]


def _merged(kind: str, one: Symbol, other: Any) -> Symbol:
    if not isinstance(other, Symbol):
        return NotImplemented  # type: ignore[no-any-return] # Python asks the other operand
    dtype = next((found for found in (_dtype(one), _dtype(other)) if found is not None), "float32")
    merged: Symbol = registry.find(kind).from_config({"dtype": dtype})((one, other))
    return merged


def _sliced(symbol: Symbol, key: Any) -> Symbol:
    """`symbol[..., start:stop:step]`, or with a `:` for each of the other axes."""
    *before, features = key if isinstance(key, tuple) else (key,)
    axes = len(symbol.shape) - 1
    leads = before == [Ellipsis] or (len(before) == axes and all(one == slice(None) for one in before))
    if symbol.tokens or not leads or not isinstance(features, slice):
        raise TypeError(
            f"Symbol: got [{key!r}] of {symbol!r}, expected a slice of features, [..., start:stop]; for one feature "
            "write [..., 3:4], for the last step use recurra.Pool('last')"
        )
    if symbol.features is None:
        raise ValueError(
            "Symbol: got a slice of features whose number is known only at run time, expected a known number; slice "
            "the output of a layer with an output_size"
        )
    start, stop, step = features.indices(symbol.features)
    config = {"start": start, "stop": stop, "step": step, "dtype": _dtype(symbol) or "float32"}
    sliced: Symbol = registry.find("Slice").from_config(config)(symbol)
    return sliced


def _dtype(symbol: Symbol) -> Any:
    """The dtype of the layers and inputs that the symbol depends on; None if none has one."""
    waiting: list[Port | Call] = [symbol.source]
    while waiting:
        source = waiting.pop()
        if isinstance(source, Call):
            if source.layer.dtype is not None:
                return source.layer.dtype
            waiting += [one.source for one in source.inputs]
        elif source.dtype is not None:
            return source.dtype
    return None
