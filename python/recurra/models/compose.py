"""Any layer with a shortcut around it, any pair of layers in two directions: small models, to be parts of larger ones."""

from __future__ import annotations

from types import EllipsisType
from typing import Any

from recurra.common import checks
from recurra.graph.symbolic import Input, Symbol
from recurra.layers.layer import Layer
from recurra.layers.merge import Add, Average, Concatenate, Multiply, Reverse
from recurra.models.model import Model


def Residual(layer: Layer) -> Model:  # noqa: N802 - a model, named as one
    """y = x + layer(x) (He et al. 2016), of a layer or model with as many outputs as inputs.

        h = rc.Residual(rc.Sequential(rc.Linear(32, 32), rc.Dropout(0.1)))(x)

    Args:
        layer: it, with its own input_size.

    Raises:
        ValueError: the features differ, or the layer takes any number of them.
    """
    x = _input_of("Residual", "layer", layer)
    return Model(x, x + layer(x))


def Bidirectional(  # noqa: N802
    forward: Layer, backward: Layer | EllipsisType = ..., *, merge_mode: str | None = "concat"
) -> Model:
    """The outputs of `forward` and those of `backward`, which reads each sequence from its end, at every step (Schuster and
    Paliwal 1997).

    With return_sequences=False in both, each one's last output: of `backward`, the one at the first step.

        h = rc.Bidirectional(rc.GRU(8, 32), rc.LSTM(8, 16))(x)
        h = rc.Bidirectional(rc.GRU(8, 32), merge_mode="sum")(x)

    Args:
        forward, backward: layers or models with as many inputs; without `backward`, it is one like `forward` with parameters of
            its own.
        merge_mode: how the two become one, as in Keras: "concat", side by side; "sum", "mul" or "ave", element by element;
            None for a model with the two as a pair of outputs.

    Raises:
        ValueError: the two take different numbers of features, or any number, or one returns sequences and the other not;
            they are to be merged element by element and give different numbers of features.
    """
    x = _input_of("Bidirectional", "forward", forward)
    checks.choice("Bidirectional", "merge_mode", merge_mode, ("concat", "sum", "mul", "ave", None))
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
    merges = {"concat": Concatenate, "sum": Add, "mul": Multiply, "ave": Average}
    return Model(x, merges[merge_mode](dtype=dtype)((forward(x), y)))


def _like(layer: Any) -> Layer:
    """A layer of the same arguments, whose parameters wait for a model's seed."""
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
            f"put it behind such a layer in a Sequential"
        )
    return Input(features=layer.input_size)
