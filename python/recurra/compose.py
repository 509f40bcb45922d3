"""Any layer with a shortcut around it, any pair of layers in two directions: small models, to be parts of larger ones."""

from __future__ import annotations

from typing import Any

from recurra import checks
from recurra.layer import Layer
from recurra.merge import Concatenate, Reverse
from recurra.model import Model
from recurra.symbolic import Input, Symbol


def Residual(layer: Layer) -> Model:  # noqa: N802 - a model, named as one
    """y = x + layer(x) (He et al. 2016), of a layer or model with as many outputs as inputs.

        h = rc.Residual(rc.Sequential(rc.Linear(32, 32), rc.Dropout(0.1)))(x)

    Raises:
        ValueError: the features differ, or the layer takes any number of them.
    """
    x = _input_of("Residual", "layer", layer)
    return Model(x, x + layer(x))


def Bidirectional(forward: Layer, backward: Layer) -> Model:  # noqa: N802
    """The outputs of `forward` and, side by side, those of `backward`, which reads each sequence from its end (Schuster and
    Paliwal 1997).

    With return_sequences=False in both, each one's last output: of `backward`, the one at the first step.

        h = rc.Bidirectional(rc.GRU(8, 32), rc.LSTM(8, 16))(x)

    Raises:
        ValueError: the two take different numbers of features, or any number, or one returns sequences and the other not.
    """
    x = _input_of("Bidirectional", "forward", forward)
    checks.kind("Bidirectional", "backward", backward, Layer, "GRU")
    dtype = forward.dtype or backward.dtype or "float32"
    turn = Reverse(dtype=dtype)
    y: Any = backward(turn(x))
    if backward.return_sequences:
        y = turn(y)
    return Model(x, Concatenate(dtype=dtype)((forward(x), y)))


def _input_of(operation: str, name: str, layer: Layer) -> Symbol:
    checks.kind(operation, name, layer, Layer, "GRU")
    if layer.input_kind == "tokens" or layer.input_size is None:
        got = "tokens" if layer.input_kind == "tokens" else "any number of features"
        raise ValueError(
            f"{operation}: got {layer.label}, which takes {got}, expected a layer with an input_size; "
            f"put it behind such a layer in a Sequential"
        )
    return Input(features=layer.input_size)
