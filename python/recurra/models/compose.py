"""Residual and Bidirectional: small models of other layers, to be parts of larger models."""

from __future__ import annotations

from types import EllipsisType
from typing import Any

from recurra.common import checks
from recurra.graph.symbolic import Input, Symbol
from recurra.layers.layer import Layer
from recurra.layers.merge import Add, Average, Concatenate, Multiply, Reverse
from recurra.models.model import Model

#: By Keras' names, how outputs of two directions become one.
MERGES = {"concat": Concatenate, "sum": Add, "mul": Multiply, "ave": Average}


def Residual(layer: Layer) -> Model:  # noqa: N802 - a model, named as one
    """y = x + layer(x) (He et al. 2016), for a layer or model with equally many input and output features.

        h = rc.Residual(rc.Sequential(rc.Linear(32, 32), rc.Dropout(0.1)))(x)

    Args:
        layer: it, with its own input_size.

    Raises:
        ValueError: the numbers of features differ, or the layer accepts any number.

    Example:
        >>> block = rc.Residual(rc.Sequential(rc.GRU(8, 8), rc.Dropout(0.1)))
        >>> block(np.ones((2, 5, 8), np.float32))[0].shape
        (2, 5, 8)
    """
    x = _input_of("Residual", "layer", layer)
    return Model(x, x + layer(x))


def Bidirectional(  # noqa: N802
    forward: Layer, backward: Layer | EllipsisType = ..., *, merge_mode: str | None = "concat"
) -> Model:
    """The outputs of `forward`, combined at every step with those of `backward`, which reads each sequence in reverse
    (Schuster and Paliwal 1997).

    With return_sequences=False in both, combines their last outputs: that of `backward` is the one at the first step.

        h = rc.Bidirectional(rc.GRU(8, 32), rc.LSTM(8, 16))(x)
        h = rc.Bidirectional(rc.GRU(8, 32), merge_mode="sum")(x)

    Args:
        forward, backward: layers or models with the same input size; without `backward`, a copy of `forward` with its
            own parameters.
        merge_mode: how the two outputs are combined, as in Keras: "concat"; elementwise "sum", "mul" or "ave"; None for
            a model with the pair as its outputs.

    Raises:
        ValueError: the two have different input sizes, or accept any number of features; only one returns sequences; or
            they are merged elementwise and have different output sizes.

    Example:
        >>> both = rc.Bidirectional(rc.GRU(3, 8), rc.LSTM(3, 4))
        >>> both(np.ones((2, 5, 3), np.float32))[0].shape
        (2, 5, 12)
    """
    x = _input_of("Bidirectional", "forward", forward)
    checks.choice("Bidirectional", "merge_mode", merge_mode, (*MERGES, None))
    if backward is ...:
        backward = _like(forward)
    checks.kind("Bidirectional", "backward", backward, Layer, "recurra")
    dtype = forward.dtype or backward.dtype or "float32"
    turn = Reverse(dtype=dtype)
    y: Any = backward(turn(x))
    if backward.return_sequences:
        y = turn(y)
    if merge_mode is None:
        return Model(x, (forward(x), y))
    return Model(x, MERGES[merge_mode](dtype=dtype)((forward(x), y)))


def _like(layer: Any) -> Layer:
    """A layer with the same configuration, whose parameters a model's seed can still initialise."""
    checks.kind("Bidirectional", "forward", layer, Layer, "recurra")
    custom = {type(leaf).__name__: type(leaf) for _prefix, leaf in layer.leaves if not leaf.native}
    made: Layer = type(layer).from_config(layer.config(), custom)
    return made


def _input_of(operation: str, name: str, layer: Layer) -> Symbol:
    checks.kind(operation, name, layer, Layer, "recurra")
    if layer.input_kind == "tokens" or layer.input_size is None:
        got = "tokens" if layer.input_kind == "tokens" else "any number of features"
        raise ValueError(
            f"{operation}: got {layer.label}, which takes {got}, expected a layer with an input_size; "
            f"put it after such a layer in a Sequential"
        )
    return Input(features=layer.input_size)
