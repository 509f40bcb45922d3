"""Models drawn as they are read: `recurra.Input`, and layers called on what it gives."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import TYPE_CHECKING, Any

from recurra.common import checks
from recurra.common.structure import Structure
from recurra.graph.graph import Port
from recurra.saving import registry

if TYPE_CHECKING:
    import numpy.typing as npt

    from recurra.layers.layer import Layer
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


def call(layer: Layer, x: Any, state: Any, lengths: Any, reset: Any, mask: Any = None) -> Any:
    """The layer, or all layers of a model, at work on symbols."""
    if lengths is not None or reset is not None or mask is not None:
        raise ValueError(
            f"{layer.label}: got lengths, reset or mask for a part of a model, expected none; give them when the model is called"
        )
    runner = layer._runner(x)
    inputs = runner.inputs.spread(layer.label, "x", x)
    for index, one in enumerate(inputs):
        if not isinstance(one, Symbol):
            raise TypeError(
                f"{layer.label}: got {type(one).__name__} as {runner.inputs.label('x', index)}, expected what an Input or a "
                f"layer has given, as the others are; make an Input for it"
            )
    own = runner.layout.flatten(layer.label, state)
    return _inlined(layer, len(inputs), inputs, own, runner.outputs)


def _inlined(layer: Layer, inputs: int, given: Sequence[Symbol], own: Sequence[Any] | None, outputs: Structure) -> Any:
    graph = layer._graph(inputs)
    values: list[Symbol | None] = [*given, *[None] * (graph.count - len(given))]
    left = iter(own or [])
    for node in graph.nodes:
        begin = tuple(
            (next(left) if own is not None else None) if value is None else values[value] for value in node.states
        )
        read = tuple(one for one in (values[value] for value in node.inputs) if one is not None)
        symbol = _applied(node.layer, read, begin)
        values[node.output] = symbol
        for index, size in enumerate(state_sizes(node.layer)):
            values[node.output + 1 + index] = Symbol(symbol.source, 1 + index, size, sequence=False)
    return outputs.join([values[value] for value in graph.outputs])


def _applied(layer: LeafLayer, inputs: tuple[Symbol, ...], states: tuple[Any, ...]) -> Symbol:
    label, first = layer.label, inputs[0]
    if not getattr(layer, "batch_first", True):
        raise ValueError(
            f"{label}: got a layer with batch_first=False, expected (N, T, features) throughout a model; "
            f"make it with batch_first=True"
        )
    if (
        layer.input_kind == "tokens"
        and not first.tokens
        and isinstance(first.source, Call)
        and first.source.layer.native
    ):
        raise TypeError(f"{label}: got features, expected tokens; give it an Input(tokens=...)")
    if layer.input_kind == "tokens" and isinstance(first.source, Port) and not first.tokens:
        raise TypeError(f"{label}: got an Input of features, expected tokens; make it Input(tokens={layer.input_size})")
    if layer.input_kind == "features" and any(one.tokens for one in inputs):
        raise TypeError(f"{label}: got tokens, expected features; put an Embedding between the Input and this layer")
    size = first.source.size if first.tokens and isinstance(first.source, Port) else first.features
    if None not in (size, layer.input_size) and size != layer.input_size:
        what = "different tokens" if first.tokens else "features"
        raise ValueError(
            f"{label}: got {size} {what}, expected {layer.input_size}; change the layer's input size or what comes before it"
        )
    if layer.made_steps is not None and first.sequence:
        raise ValueError(
            f"{label}: got sequences (N, T, {first.features}), expected vectors; give it a state, or make the layer before it "
            f"with return_sequences=False"
        )
    if layer.needs_sequences and not first.sequence:
        raise ValueError(
            f"{label}: got vectors (N, {first.features}), expected sequences; make the layer before it with "
            f"return_sequences=True, or the Input with sequence=True"
        )
    for name, symbol, wanted in zip(layer.state_names, states, state_sizes(layer), strict=False):
        if symbol is None:
            continue
        if not isinstance(symbol, Symbol):
            raise TypeError(
                f"{label}: got {type(symbol).__name__} as state {name} in a part of a model, expected a symbol; make an "
                f"Input(features={wanted}, sequence=False) for it"
            )
        if symbol.sequence or symbol.tokens or symbol.features not in (None, wanted):
            raise ValueError(
                f"{label}: got state {name} of shape {symbol.shape}, expected (None, {wanted}), num_layers * directions * H "
                f"numbers a row; give it another layer's state of that size, or a Linear's output"
            )
    for index, one in enumerate(inputs[1:], 1):
        layer.check_other(index, first, one)
    features = layer.joined_features([one.features for one in inputs])
    source = Call(layer, inputs, tuple(states))
    sequence = layer.made_steps is not None or (first.sequence and layer.return_sequences)
    return Symbol(source, 0, features, sequence)
