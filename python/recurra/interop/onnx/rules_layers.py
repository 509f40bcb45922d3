"""Rules for products with constant matrices, embeddings, activations and normalisations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from recurra.common.typing import Array
from recurra.interop.onnx.graph import Node
from recurra.interop.onnx.ops import normalise
from recurra.interop.onnx.rules import FLOATS, Rule, arrays, dtype_of, known, left_out, open_view, place_of, shape_of
from recurra.interop.onnx.store import filled
from recurra.interop.onnx.values import Value, View, labelled, settled
from recurra.layers.activation import Activation
from recurra.layers.basic import Embedding, Linear
from recurra.layers.normalisation import BatchNorm, LayerNorm

if TYPE_CHECKING:
    from recurra.interop.onnx.trace import Tracer

_PATTERNS = {2: "NF", 3: "NTF"}
#: For each operator, the name of the Activation and the attributes that it requires.
_ACTIVATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name.lower(), {}) for name in ("Relu", "Tanh", "Sigmoid", "Softplus", "Sqrt", "Exp", "Log", "Abs")},
    "LeakyRelu": ("leaky_relu", {"alpha": 0.01}),
    "Elu": ("elu", {"alpha": 1.0}),
    "Softsign": ("softsign", {}),
    "HardSwish": ("hard_swish", {}),
    "HardSigmoid": ("hard_sigmoid", {"alpha": 1.0 / 6.0, "beta": 0.5}),
    "Selu": ("selu", {"alpha": 1.6732632423543772, "gamma": 1.0507009873554805}),
    "Mish": ("mish", {}),
    "Gelu": ("gelu", {"approximate": "none"}),
}


def _in_island(value: Value | None) -> View | None:
    view = open_view(value)
    return None if view is None or value is None or value.dtype not in FLOATS else settled(view)


def _features_last(tracer: Tracer, value: Value | None) -> tuple[View, tuple[int, ...]] | None:
    """The value as a view with the features as its last axis, and its shape."""
    if value is None or value.dtype not in FLOATS or 0 in shape_of(value):
        return None
    shape, view = shape_of(value), _in_island(value)
    fits = view is not None and view.directions == 1 and shape[-1:] == view.base[-1:]
    if view is not None and fits and (shape[-1] == 1 or view.order.endswith("F")):
        return view, shape
    pattern = _PATTERNS.get(len(shape))
    seen = None if pattern is None else tracer.seen(value, pattern)
    return None if seen is None else (seen, shape)


def _dense(tracer: Tracer, node: Node, value: Value | None, weight: Array, bias: Array | None) -> list[Value] | None:
    """To a Linear: x @ weight + bias."""
    if weight.ndim != 2 or 0 in weight.shape or value is None or shape_of(value)[-1:] != weight.shape[:1]:
        return None
    found = _features_last(tracer, value)
    if found is None:
        return None
    view, shape = found

    def make() -> Linear:
        given = {"weight": weight.T} if bias is None else {"weight": weight.T, "bias": bias}
        return filled(Linear, given, *weight.shape, bias=bias is not None, dtype=dtype_of(value))

    symbol = tracer.store.get(id(node), make)(view.symbol)
    made = (*shape[:-1], weight.shape[1])
    order = view.order.removesuffix("F") + ("F" if made[-1] != 1 else "")
    return [Value(made, value.dtype, view=View(view.island, symbol, (*view.base[:-1], made[-1]), order))]


def _matmul(tracer: Tracer, node: Node, inputs: Sequence[Value | None]) -> list[Value] | None:
    weight, bias = known(inputs, 1), known(inputs, 2)
    return None if weight is None else _dense(tracer, node, inputs[0], weight, bias)


def _gemm(tracer: Tracer, node: Node, inputs: Sequence[Value | None]) -> list[Value] | None:
    weight, bias = known(inputs, 1), known(inputs, 2)
    if weight is None or node.attributes.get("transA") or (bias is None and not left_out(inputs, 2)):
        return None
    weight = weight.T if node.attributes.get("transB") else weight
    kind = weight.dtype.type
    weight = weight * kind(node.attributes.get("alpha", 1.0))
    if bias is not None:
        if bias.size not in (1, weight.shape[-1]):
            return None
        bias = np.broadcast_to(bias.reshape(-1) * kind(node.attributes.get("beta", 1.0)), weight.shape[-1:])
    return _dense(tracer, node, inputs[0], weight, bias)


def _embedding(tracer: Tracer, node: Node, inputs: Sequence[Value | None]) -> list[Value] | None:
    weight, tokens = known(inputs, 0), inputs[1]
    if (
        weight is None
        or weight.ndim != 2
        or weight.dtype not in FLOATS
        or node.attributes.get("axis", 0) not in (0, -2)
    ):
        return None
    shape = shape_of(tokens)
    if tokens is None or tokens.slot is None or len(shape) != 2 or 0 in weight.shape:
        return None

    def make() -> Embedding:
        return filled(Embedding, {"weight": weight}, *weight.shape, dtype=weight.dtype.name)

    view = tracer.island.tokens(tokens.slot, shape, len(weight))
    symbol = tracer.store.get(id(node), make)(view.symbol)
    made = (*shape, weight.shape[1])
    order, _sizes = labelled(made, "NTF")
    return [Value(made, weight.dtype, view=View(view.island, symbol, made, order))]


def _activated(tracer: Tracer, value: Value, view: View, name: str) -> list[Value]:
    layer = tracer.store.plain(Activation, name, dtype=dtype_of(value))
    return [replace(value, slot=None, view=replace(view, symbol=layer(view.symbol)))]


def _activation(tracer: Tracer, node: Node, inputs: Sequence[Value | None]) -> list[Value] | None:
    view, value = _in_island(inputs[0]), inputs[0]
    name, wanted = _ACTIVATIONS[node.op]
    same = node.op != "HardSigmoid" or "alpha" in node.attributes  # whose default is another
    same = same and all(
        np.allclose(node.attributes.get(key, one), one)
        if isinstance(one, float)
        else node.attributes.get(key, one) == one
        for key, one in wanted.items()
    )
    return None if view is None or value is None or not same else _activated(tracer, value, view, name)


def _power(tracer: Tracer, node: Node, inputs: Sequence[Value | None]) -> list[Value] | None:
    """To a square or a square root."""
    view, value, exponent = _in_island(inputs[0]), inputs[0], known(inputs, 1)
    if view is None or value is None or exponent is None or exponent.size != 1:
        return None
    name = {2.0: "square", 0.5: "sqrt"}.get(float(exponent.reshape(-1)[0]))
    return None if name is None or exponent.ndim > len(shape_of(value)) else _activated(tracer, value, view, name)


def _softmax(tracer: Tracer, node: Node, inputs: Sequence[Value | None]) -> list[Value] | None:
    view, value = _in_island(inputs[0]), inputs[0]
    if view is None or value is None:
        return None
    shape = shape_of(value)
    axes = normalise.softmax_axes(node, len(shape))
    wide = [at for at in axes if shape[at] != 1]
    if view.directions != 1 or wide != [place_of(view, shape, "F")]:
        return None
    return _activated(tracer, value, view, "softmax")


def _batch_norm(tracer: Tracer, node: Node, inputs: Sequence[Value | None]) -> list[Value] | None:
    value = inputs[0]
    numbers = arrays(inputs)[1:5]
    if (
        value is None
        or any(one is None for one in numbers)
        or node.attributes.get("training_mode")
        or any(node.outputs[1:])
    ):
        return None
    shape = shape_of(value)
    pattern = {2: "NF", 3: "NFT"}.get(len(shape))
    view = None if pattern is None or not node.attributes.get("epsilon", 1e-5) > 0 else tracer.seen(value, pattern)
    if view is None:
        return None

    def make() -> BatchNorm:
        given = dict(zip(("weight", "bias", "running_mean", "running_var"), numbers, strict=True))
        return filled(BatchNorm, given, shape[1], eps=node.attributes.get("epsilon", 1e-5), dtype=dtype_of(value))

    layer = tracer.store.get(id(node), make)
    return [replace(value, slot=None, view=replace(view, symbol=layer(view.symbol)))]


def _layer_norm(tracer: Tracer, node: Node, inputs: Sequence[Value | None]) -> list[Value] | None:
    value, scale, bias = inputs[0], known(inputs, 1), known(inputs, 2)
    if value is None or scale is None or scale.ndim != 1 or any(node.outputs[1:]):
        return None
    shape = shape_of(value)
    axis = int(node.attributes.get("axis", -1))
    if axis not in (-1, len(shape) - 1) or shape[-1] != scale.size or not node.attributes.get("epsilon", 1e-5) > 0:
        return None
    if bias is None and not left_out(inputs, 2):
        return None
    found = _features_last(tracer, value)
    if found is None:
        return None

    def make() -> LayerNorm:
        given = {"weight": scale, "bias": np.zeros(shape[-1]) if bias is None else bias}
        return filled(LayerNorm, given, shape[-1], eps=node.attributes.get("epsilon", 1e-5), dtype=dtype_of(value))

    view = found[0]
    return [replace(value, slot=None, view=replace(view, symbol=tracer.store.get(id(node), make)(view.symbol)))]


RULES: dict[str, Rule] = {
    **dict.fromkeys(_ACTIVATIONS, _activation),
    "Pow": _power,
    "Softmax": _softmax,
    "MatMul": _matmul,
    "Gemm": _gemm,
    "BatchNormalization": _batch_norm,
    "LayerNormalization": _layer_norm,
    "Gather": _embedding,
}
