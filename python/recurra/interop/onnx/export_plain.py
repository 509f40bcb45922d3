"""Exporters of layers that act on each step, and of pooling over all steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from recurra.interop.onnx.exporter import Exporter, Made, over_steps, same
from recurra.interop.onnx.writer import Tensor, Writer

_OPERATORS = {
    "relu": "Relu",
    "tanh": "Tanh",
    "sigmoid": "Sigmoid",
    "softplus": "Softplus",
    "sqrt": "Sqrt",
    "exp": "Exp",
    "log": "Log",
    "abs": "Abs",
    "leaky_relu": "LeakyRelu",
    "elu": "Elu",
    "hard_swish": "HardSwish",
    "softsign": "Softsign",
}


def _linear(writer: Writer, layer: Any, inputs: Sequence[Tensor], begin: Sequence[str]) -> Made:
    y = writer.node("MatMul", [inputs[0].name, writer.parameter(layer.params["weight"].T)])
    return same(inputs[0], writer.node("Add", [y, writer.parameter(layer.params["bias"])]) if layer.bias else y)


def _embedding(writer: Writer, layer: Any, inputs: Sequence[Tensor], begin: Sequence[str]) -> Made:
    tokens = inputs[0].name
    if inputs[0].lengths is not None:  # padding may hold numbers that are not tokens
        mask = writer.node("Squeeze", [writer.mask(inputs[0]), writer.integers(2)])
        tokens = writer.node("Where", [mask, tokens, writer.constant(np.array(0, np.int64))])
    return same(inputs[0], writer.node("Gather", [writer.parameter(layer.params["weight"]), tokens], axis=0))


def _dropout(writer: Writer, layer: Any, inputs: Sequence[Tensor], begin: Sequence[str]) -> Made:
    return Made(inputs[0])


def _activation(writer: Writer, layer: Any, inputs: Sequence[Tensor], begin: Sequence[str]) -> Made:
    x, name = inputs[0].name, layer.name
    if name in _OPERATORS:
        return same(inputs[0], writer.node(_OPERATORS[name], [x]))
    if name == "softmax":
        return same(inputs[0], writer.node("Softmax", [x], axis=-1))
    if name == "square":
        return same(inputs[0], writer.node("Mul", [x, x]))
    if name == "silu":
        return same(inputs[0], writer.node("Mul", [x, writer.node("Sigmoid", [x])]))
    if name == "gelu":
        half = writer.node("Mul", [x, writer.number(0.5)])
        error = writer.node("Erf", [writer.node("Mul", [x, writer.number(0.5**0.5)])])
        return same(inputs[0], writer.node("Mul", [half, writer.node("Add", [error, writer.number(1.0)])]))
    if name == "mish":
        return same(inputs[0], writer.node("Mul", [x, writer.node("Tanh", [writer.node("Softplus", [x])])]))
    if name in ("hard_tanh", "relu6"):
        low, high = (-1.0, 1.0) if name == "hard_tanh" else (0.0, 6.0)
        return same(inputs[0], writer.node("Clip", [x, writer.number(low), writer.number(high)]))
    if name == "hard_sigmoid":
        return same(inputs[0], writer.node("HardSigmoid", [x], alpha=1.0 / 6.0, beta=0.5))
    if name == "selu":
        return same(inputs[0], writer.node("Selu", [x], alpha=1.6732632423543772, gamma=1.0507009873554805))
    raise ValueError(f"to_onnx: got Activation({name!r}), which has no operator in ONNX; use another one")


def _affine(layer: Any) -> tuple[Any, Any]:
    if layer.affine:
        return layer.params["weight"], layer.params["bias"]
    return np.ones(layer.features), np.zeros(layer.features)


def _layer_norm(writer: Writer, layer: Any, inputs: Sequence[Tensor], begin: Sequence[str]) -> Made:
    weights = [writer.parameter(one) for one in _affine(layer)]
    return same(inputs[0], writer.node("LayerNormalization", [inputs[0].name, *weights], axis=-1, epsilon=layer.eps))


def _batch_norm(writer: Writer, layer: Any, inputs: Sequence[Tensor], begin: Sequence[str]) -> Made:
    numbers = (*_affine(layer), layer.buffers["running_mean"], layer.buffers["running_var"])
    names = [writer.parameter(one) for one in numbers]
    if inputs[0].sequence:
        y = over_steps(writer, "BatchNormalization", inputs[0].name, *names, epsilon=layer.eps)
    else:
        y = writer.node("BatchNormalization", [inputs[0].name, *names], epsilon=layer.eps)
    return same(inputs[0], y)


def _pool(writer: Writer, layer: Any, inputs: Sequence[Tensor], begin: Sequence[str]) -> Made:
    x, valid = inputs[0], inputs[0].lengths
    if layer.mode == "last":
        if valid is None:
            return Made(Tensor(writer.node("Gather", [x.name, writer.constant(np.array(-1, np.int64))], axis=1), False))
        last = writer.node("Sub", [writer.at_least_one(valid), writer.integers(1)])
        place = writer.node("Concat", [writer.node("Unsqueeze", [last, writer.integers(1)])], axis=1)
        y = writer.node("GatherND", [x.name, place], batch_dims=1)
    elif layer.mode == "max":
        y = writer.node("ReduceMax", [writer.without_padding(x, -np.inf)], axes=[1], keepdims=0)
    elif valid is None:
        y = writer.node("ReduceMean", [x.name], axes=[1], keepdims=0)
    else:
        total = writer.node("ReduceSum", [writer.without_padding(x), writer.integers(1)], keepdims=0)
        count = writer.node("Unsqueeze", [writer.at_least_one(valid), writer.integers(1)])
        y = writer.node("Div", [total, writer.cast(count, writer.dtype)])
    return Made(Tensor(y if valid is None else _only_rows(writer, y, valid), False))


def _only_rows(writer: Writer, y: str, valid: str) -> str:
    """y with 0 in rows without steps."""
    return writer.node("Where", [writer.has_steps(valid), y, writer.number(0.0)])


def _attention_pool(writer: Writer, layer: Any, inputs: Sequence[Tensor], begin: Sequence[str]) -> Made:
    x = inputs[0]
    product = writer.node("MatMul", [x.name, writer.parameter(layer.params["weight"].T)])
    inner = writer.node("Tanh", [writer.node("Add", [product, writer.parameter(layer.params["bias"])])])
    scores = writer.node("MatMul", [inner, writer.parameter(layer.params["context"][:, None])])
    scores = writer.without_padding(Tensor(scores, True, x.lengths), -1e30)
    weights = writer.node("Transpose", [writer.node("Softmax", [scores], axis=1)], perm=[0, 2, 1])
    y = writer.node("Squeeze", [writer.node("MatMul", [weights, writer.without_padding(x)]), writer.integers(1)])
    return Made(Tensor(y if x.lengths is None else _only_rows(writer, y, x.lengths), False))


EXPORTERS: dict[str, Exporter] = {
    "Linear": _linear,
    "Embedding": _embedding,
    "Dropout": _dropout,
    "Activation": _activation,
    "LayerNorm": _layer_norm,
    "BatchNorm": _batch_norm,
    "Pool": _pool,
    "AttentionPool": _attention_pool,
}
