"""Symbols: the values of a model that is being built, from `recurra.Input` and from layers called on symbols."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

from recurra.common import checks
from recurra.graph.graph import Port
from recurra.saving import registry

if TYPE_CHECKING:
    import numpy.typing as npt

    from recurra.layers.leaf import LeafLayer

_serial = count()  # later calls have larger numbers, so they come later in a model


class Call:
    """A layer called on symbols."""

    def __init__(self, layer: LeafLayer, inputs: tuple[Symbol, ...], states: tuple[Symbol | None, ...]) -> None:
        self.layer, self.inputs, self.states = layer, inputs, states
        self.serial = next(_serial)


class Symbol:
    """What will be there when the model runs: a sequence (N, T, features), a vector (N, features), or tokens (N, T).

    `a + b`, `a - b` and `a * b` go element by element; `a[..., 2:5]` takes features, as `recurra.Slice`. Attributes: features, None if known only then; sequence, whether there is a
    time axis; tokens, whether it holds integers.
    """

    def __init__(
        self, source: Port | Call, which: int, features: int | None, sequence: bool, tokens: bool = False
    ) -> None:
        self.source = source
        self.which = which  # of a call: 0 the output, then the states
        self.features, self.sequence, self.tokens = features, sequence, tokens

    @property
    def shape(self) -> tuple[int | None, ...]:
        """None for what is known only when the model runs."""
        time = (None,) if self.sequence else ()
        return (None, *time) if self.tokens else (None, *time, self.features)

    @property
    def state(self) -> Any:
        """The final state of the layer that gives this, built like that layer's state, each array of it a vector (N,
        num_layers * directions * H) that may begin another layer or be fed to one."""
        layer = self.source.layer if isinstance(self.source, Call) else None
        if layer is None or not layer.state_names:
            what = "an Input" if layer is None else layer.label
            raise AttributeError(
                f"state: got the output of {what}, expected that of a recurrent layer, as only those have states; "
                f"take the state of the tensor that the recurrent layer gave"
            )
        found = [Symbol(self.source, 1 + index, size, sequence=False) for index, size in enumerate(state_sizes(layer))]
        return found[0] if len(found) == 1 else tuple(found)

    def __add__(self, other: Any) -> Any:
        return _merged("Add", self, other)

    def __sub__(self, other: Any) -> Any:
        return _merged("Subtract", self, other)

    def __mul__(self, other: Any) -> Any:
        return _merged("Multiply", self, other)

    def __getitem__(self, key: Any) -> Any:
        return _sliced(self, key)

    def __iter__(self) -> Any:
        raise TypeError(
            "Symbol: got a loop over its parts, expected none, as it has them only when the model runs; take features as "
            "symbol[..., 2:5]"
        )

    def __bool__(self) -> bool:
        raise TypeError(
            "Symbol: got a question about its value, expected none, as it has one only when the model runs; "
            "call a recurra.Model on arrays"
        )

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError(
            "Symbol: got a use as an array, expected layers called on it, as it has values only when the model runs; "
            "make a recurra.Model and call that on arrays"
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
) -> Symbol:
    """Where data enter a model: sequences (N, T, features), vectors (N, features), or tokens (N, T).

        x = rc.Input(features=16)
        h = rc.LSTM(16, 32)(x)
        model = rc.Model(x, rc.Linear(32, 4)(h))

    Args:
        features: how many each step has; or
        tokens: how many different ones there are.
        sequence: False for vectors, without a time axis.
        name: for `summary`.
        dtype: float32 or float64, as the layers that read it; None for whatever they have. `a + b` of two inputs of
            float64 is float64.
    """
    if (features is None) == (tokens is None):
        raise ValueError(
            f"Input: got features={features} and tokens={tokens}, expected one of the two; "
            f"write Input(features=...) for numbers, Input(tokens=...) for integers"
        )
    sequence = checks.flag("Input", "sequence", sequence)
    if name is not None and not isinstance(name, str):
        raise TypeError(f"Input: got name={name!r}, expected a text; write name='...'")
    if tokens is not None and not sequence:
        raise ValueError("Input: got tokens with sequence=False, expected sequences of tokens; leave sequence out")
    if tokens is not None and dtype is not None:
        raise ValueError(
            f"Input: got tokens with dtype={dtype!r}, expected none, as any integers will do; leave dtype out"
        )
    kind, size = ("features", features) if tokens is None else ("tokens", tokens)
    size = checks.integer("Input", kind, size)
    wanted = None if dtype is None else checks.dtype_name("Input", dtype)
    port = Port(kind, size, "sequence" if sequence else "vector", name, wanted)
    return Symbol(port, 0, None if tokens is not None else size, sequence, kind == "tokens")


def found(x: Any) -> bool:
    """Whether x is a symbol or has one among its parts."""
    if isinstance(x, tuple | list):
        return any(isinstance(one, Symbol) for one in x)
    return isinstance(x, Symbol) or (isinstance(x, dict) and any(isinstance(one, Symbol) for one in x.values()))


def state_sizes(layer: LeafLayer) -> list[int]:
    """How many numbers each array of the layer's state has for a row."""
    return [array.shape[0] * array.shape[2] for array in layer.state_zeros(0)]


def _merged(kind: str, one: Symbol, other: Any) -> Any:
    if not isinstance(other, Symbol):
        return NotImplemented
    dtype = next((found for found in (_dtype(one), _dtype(other)) if found is not None), "float32")
    return registry.find(kind).from_config({"dtype": dtype})((one, other))


def _sliced(symbol: Symbol, key: Any) -> Any:
    """`symbol[..., start:stop:step]`, with as many `:` as there are other axes if they are written out."""
    *before, features = key if isinstance(key, tuple) else (key,)
    axes = len(symbol.shape) - 1
    leads = before == [Ellipsis] or (len(before) == axes and all(one == slice(None) for one in before))
    if symbol.tokens or not leads or not isinstance(features, slice):
        raise TypeError(
            f"Symbol: got [{key!r}] of {symbol!r}, expected features, [..., start:stop]; for one of them write [..., 3:4], "
            f"for the last step recurra.Pool('last')"
        )
    if symbol.features is None:
        raise ValueError(
            "Symbol: got a slice of features whose number is known only when the model runs, expected a known number; take "
            "it of what a layer with an output_size gives"
        )
    start, stop, step = features.indices(symbol.features)
    config = {"start": start, "stop": stop, "step": step, "dtype": _dtype(symbol) or "float32"}
    return registry.find("Slice").from_config(config)(symbol)


def _dtype(symbol: Symbol) -> Any:
    """That of the layers and inputs behind it; None where none says."""
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
