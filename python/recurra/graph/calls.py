"""Calls of layers and models on symbols: each of their layers becomes a call in the new model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from recurra.common.structure import Structure
from recurra.graph.graph import Port
from recurra.graph.symbolic import Call, Symbol, state_sizes

if TYPE_CHECKING:
    from recurra.layers.layer import Layer
    from recurra.layers.leaf import LeafLayer


def call(layer: Layer, x: Any, state: Any, lengths: Any, reset: Any, mask: Any = None) -> Any:
    """Call a layer, or all layers of a model, on symbols."""
    if lengths is not None or reset is not None or mask is not None:
        raise ValueError(
            f"{layer.label}: got lengths, reset or mask in a symbolic call, expected none; give them when the model is "
            f"called"
        )
    runner = layer._runner(x)
    inputs = runner.inputs.spread(layer.label, "x", x)
    for index, one in enumerate(inputs):
        if not isinstance(one, Symbol):
            raise TypeError(
                f"{layer.label}: got {type(one).__name__} as {runner.inputs.label('x', index)}, expected a symbol, as "
                f"the others are; make an Input for it"
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
    """One layer called on symbols, which must fit it: the output."""
    first = inputs[0]
    if not getattr(layer, "batch_first", True):
        raise ValueError(
            f"{layer.label}: got a layer with batch_first=False, expected (N, T, features) throughout a model; "
            f"make it with batch_first=True"
        )
    _check_kind(layer, inputs)
    _check_size(layer, first)
    _check_time(layer, first)
    _check_states(layer, states)
    for index, one in enumerate(inputs[1:], 1):
        layer.check_other(index, first, one)
    features = layer.joined_features([one.features for one in inputs])
    sequence = layer.made_steps is not None or (first.sequence and layer.return_sequences)
    return Symbol(Call(layer, inputs, tuple(states)), 0, features, sequence)


def _check_kind(layer: LeafLayer, inputs: Sequence[Symbol]) -> None:
    """Refuse features for tokens, and tokens for features. A Python layer may turn features into tokens."""
    label, first = layer.label, inputs[0]
    if layer.input_kind == "tokens" and not first.tokens:
        if isinstance(first.source, Port):
            raise TypeError(
                f"{label}: got an Input of features, expected tokens; make it Input(tokens={layer.input_size})"
            )
        if first.source.layer.native:
            raise TypeError(f"{label}: got features, expected tokens; give it an Input(tokens=...)")
    if layer.input_kind == "features" and any(one.tokens for one in inputs):
        raise TypeError(f"{label}: got tokens, expected features; put an Embedding between the Input and this layer")


def _check_size(layer: LeafLayer, first: Symbol) -> None:
    size = first.source.size if first.tokens and isinstance(first.source, Port) else first.features
    if None not in (size, layer.input_size) and size != layer.input_size:
        what = "different tokens" if first.tokens else "features"
        raise ValueError(
            f"{layer.label}: got {size} {what}, expected {layer.input_size}; change the layer's input size or what "
            f"comes before it"
        )


def _check_time(layer: LeafLayer, first: Symbol) -> None:
    if layer.made_steps is not None and first.sequence:
        raise ValueError(
            f"{layer.label}: got sequences (N, T, {first.features}), expected vectors; give it a state, or make the "
            "layer before it with return_sequences=False"
        )
    if layer.needs_sequences and not first.sequence:
        raise ValueError(
            f"{layer.label}: got vectors (N, {first.features}), expected sequences; make the layer before it with "
            f"return_sequences=True, or the Input with sequence=True"
        )


def _check_states(layer: LeafLayer, states: Sequence[Any]) -> None:
    """Refuse initial states that are no symbols of the size of the layer's state; None is the model's own state."""
    for name, symbol, wanted in zip(layer.state_names, states, state_sizes(layer), strict=False):
        if symbol is None:
            continue
        if not isinstance(symbol, Symbol):
            raise TypeError(
                f"{layer.label}: got {type(symbol).__name__} as state {name} in a part of a model, expected a symbol; "
                f"make an Input(features={wanted}, sequence=False) for it"
            )
        if symbol.sequence or symbol.tokens or symbol.features not in (None, wanted):
            raise ValueError(
                f"{layer.label}: got state {name} of shape {symbol.shape}, expected (None, {wanted}), num_layers * "
                f"directions * H numbers a row; give it another layer's state of that size, or a Linear's output"
            )
