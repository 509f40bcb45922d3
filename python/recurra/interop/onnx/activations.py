"""Converts the activations of ONNX's cells to the layers' arguments and back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from recurra.common.errors import ModelFormatError
from recurra.interop.onnx.graph import Node
from recurra.layers.recurrent.cell_activation import core_activation

#: For each cell, the layer's arguments for the activations f, g and h.
ARGUMENTS = {
    "RNN": ("nonlinearity",),
    "GRU": ("recurrent_activation", "activation"),
    "LSTM": ("recurrent_activation", "activation", "output_activation"),
}
_USUAL = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}
#: ONNX's names by recurra's, which are the same in lower case.
_PLAIN = {"tanh": "Tanh", "sigmoid": "Sigmoid", "relu": "Relu", "softsign": "Softsign"}
#: Activations with alpha and beta, and the defaults once a node's lists are used up.
_SCALED = {"hardsigmoid": (0.2, 0.5), "affine": (1.0, 0.0)}


def read(node: Node, directions: int) -> dict[str, Any]:
    """The layer's arguments for a node's activations.

    Raises:
        ModelFormatError: no cell here supports these activations.
    """
    names = node.attributes.get("activations", _USUAL[node.op] * directions)
    each = len(_USUAL[node.op])
    numbers = [iter(node.attributes.get(name, [])) for name in ("activation_alpha", "activation_beta")]
    found = [_one(node, name.lower(), numbers) for name in names]
    parts = [tuple(found[at : at + each]) for at in range(0, len(found), each)]
    if len(found) != each * directions or len(set(parts)) != 1:
        raise _refusal(node, f"expected {each} for a direction, the same in both")
    options = dict(zip(ARGUMENTS[node.op], parts[0], strict=True))
    if options.get("output_activation") == options.get("activation"):
        options.pop("output_activation", None)
    return options


def _one(node: Node, name: str, numbers: list[Iterator[float]]) -> Any:
    if name in _PLAIN:
        return name
    if name not in _SCALED:
        raise _refusal(node, f"expected some of {', '.join((*_PLAIN.values(), 'HardSigmoid'))}, which cells here have")
    alpha, beta = (float(next(one, usual)) for one, usual in zip(numbers, _SCALED[name], strict=True))
    if name == "hardsigmoid":
        return "hard_sigmoid", alpha, beta
    if (alpha, beta) != (1.0, 0.0):
        raise _refusal(node, f"with alpha {alpha} and beta {beta}, expected 1 and 0 of Affine; export it without them")
    return "linear"


def _refusal(node: Node, why: str) -> ModelFormatError:
    return ModelFormatError(f"{node}: got activations={node.attributes.get('activations')!r}, {why}")


def write(layer: Any) -> dict[str, Any]:
    """The node's attributes for a layer's activations; none for ONNX's defaults."""
    op = type(layer).__name__
    chosen = [getattr(layer, name) for name in ARGUMENTS[op]]
    if op == "LSTM" and chosen[2] is None:
        chosen[2] = chosen[1]
    names, alphas, betas = [], [], []
    for one in chosen:
        kind, alpha, beta = core_activation(one)
        if kind in _PLAIN:
            names.append(_PLAIN[kind])
            continue
        name, alpha, beta = ("HardSigmoid", alpha, beta) if kind == "hard_sigmoid" else ("Affine", 1.0, 0.0)
        names.append(name)
        alphas.append(float(alpha))
        betas.append(float(beta))
    if names == _USUAL[op]:
        return {}
    count = layer.num_directions
    found: dict[str, Any] = {"activations": names * count}
    return {**found, "activation_alpha": alphas * count, "activation_beta": betas * count} if alphas else found
