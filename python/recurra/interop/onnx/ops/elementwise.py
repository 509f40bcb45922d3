"""Elementwise operators."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from recurra.common.typing import Array
from recurra.interop.onnx import tensors
from recurra.interop.onnx.graph import Node
from recurra.interop.onnx.ops.common import Arrays, Operator, argument, room


def _several(function: Callable[..., Any]) -> Operator:
    """An operator of several inputs, with broadcasting."""

    def operator(node: Node, inputs: Arrays, limit: int) -> list[Array]:
        first = np.shape(inputs[0])
        if any(np.shape(one) != first for one in inputs[1:]):  # equal shapes need no room of their own
            room(np.broadcast_shapes(*(np.shape(one) for one in inputs)), limit)
        return [np.asarray(function(*inputs))]

    return operator


def _one(function: Callable[..., Any], **defaults: float) -> Operator:
    """An operator of one input, and of attributes with these defaults."""

    def operator(node: Node, inputs: Arrays, limit: int) -> list[Array]:
        x = np.asarray(inputs[0])
        options = [x.dtype.type(node.attributes.get(name, default)) for name, default in defaults.items()]
        return [np.asarray(function(x, *options)).astype(x.dtype, copy=False)]

    return operator


affine = _several(lambda x, scale, shift: x * scale + shift)


def _divide(a: Any, b: Any) -> Any:
    if a.dtype.kind == "f":
        return a / b
    return (np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b))).astype(a.dtype)


def _power(a: Any, b: Any) -> Any:
    return (
        np.power(a, b).astype(a.dtype) if np.size(b) != 1 or float(b.flat[0]) != 2.0 else a * a + 0 * b.astype(a.dtype)
    )


def _remainder(node: Node, inputs: Arrays, limit: int) -> list[Array]:
    return _several(np.fmod if node.attributes.get("fmod") else np.mod)(node, inputs, limit)


def sigmoid(x: Array) -> Array:
    """1 / (1 + e^-x), without overflow."""
    half = x.dtype.type(0.5)
    found: Array = np.tanh(x * half) * half + half
    return found


def _erf(x: Array) -> Array:
    """The error function."""
    return np.asarray(np.frompyfunc(math.erf, 1, 1)(x.astype(np.float64)), np.float64).astype(x.dtype)


def _softplus(x: Array) -> Array:
    """log(1 + e^x), without overflow."""
    found: Array = np.logaddexp(x, x.dtype.type(0))
    return found


def _gelu(node: Node, inputs: Arrays, limit: int) -> list[Array]:
    x = inputs[0].astype(np.float64)
    if node.attributes.get("approximate", "none") == "tanh":
        y = 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    else:
        y = 0.5 * x * (1 + _erf(x / math.sqrt(2)))
    return [y.astype(inputs[0].dtype)]


def _clip(node: Node, inputs: Arrays, limit: int) -> list[Array]:
    low, high = argument(node, inputs, 1, "min"), argument(node, inputs, 2, "max")
    x = inputs[0]
    x = x if low is None else np.maximum(x, np.asarray(low, x.dtype))
    return [x if high is None else np.minimum(x, np.asarray(high, x.dtype))]


def _cast(node: Node, inputs: Arrays, limit: int) -> list[Array]:
    return [np.asarray(inputs[0]).astype(tensors.dtype(int(node.attributes["to"]), str(node)))]


def _mean(*inputs: Any) -> Any:
    return sum(inputs[1:], start=inputs[0]) / inputs[0].dtype.type(len(inputs))


def _fold(function: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    def over(*inputs: Any) -> Any:
        found = inputs[0]
        for one in inputs[1:]:
            found = function(found, one)
        return found

    return over


def _is_infinite(node: Node, inputs: Arrays, limit: int) -> list[Array]:
    low, high = node.attributes.get("detect_negative", 1), node.attributes.get("detect_positive", 1)
    x = inputs[0]
    return [np.isinf(x) & ((x < 0) & bool(low) | (x > 0) & bool(high))]


_UNARY: dict[str, Callable[..., Any]] = {
    **{
        name: getattr(np, name.lower())
        for name in ("Exp", "Log", "Sqrt", "Floor", "Ceil", "Sign", "Sin", "Cos", "Tan", "Tanh", "Sinh", "Cosh")
    },
    "Abs": np.abs,
    "Atan": np.arctan,
    "Erf": _erf,
    "Identity": lambda x: x,
    "Neg": np.negative,
    "Reciprocal": lambda x: x.dtype.type(1) / x,
    "Relu": lambda x: np.maximum(x, x.dtype.type(0)),
    "Round": np.round,
    "Sigmoid": sigmoid,
    "Softplus": _softplus,
    "Softsign": lambda x: x / (1 + np.abs(x)),
    "Mish": lambda x: x * np.tanh(_softplus(x)),
    "HardSwish": lambda x: x * np.clip(x / x.dtype.type(6) + x.dtype.type(0.5), 0, 1),
}
OPERATORS: dict[str, Operator] = {
    **{name: _one(function) for name, function in _UNARY.items()},
    "Celu": _one(lambda x, a: np.maximum(x, 0) + np.minimum(0, a * np.expm1(x / a)), alpha=1.0),
    "Elu": _one(lambda x, a: np.where(x > 0, x, a * np.expm1(np.minimum(x, 0))), alpha=1.0),
    "HardSigmoid": _one(lambda x, a, b: np.clip(a * x + b, 0, 1), alpha=0.2, beta=0.5),
    "LeakyRelu": _one(lambda x, a: np.where(x > 0, x, a * x), alpha=0.01),
    "Selu": _one(
        lambda x, a, g: g * np.where(x > 0, x, a * np.expm1(np.minimum(x, 0))),
        alpha=1.67326319217681884765625,
        gamma=1.05070102214813232421875,
    ),
    "Swish": _one(lambda x, a: x * sigmoid(a * x), alpha=1.0),
    "ThresholdedRelu": _one(lambda x, a: np.where(x > a, x, 0), alpha=1.0),
    "Cast": _cast,
    "CastLike": lambda node, inputs, limit: [inputs[0].astype(inputs[1].dtype)],
    "Clip": _clip,
    "Gelu": _gelu,
    "IsInf": _is_infinite,
    "IsNaN": lambda node, inputs, limit: [np.isnan(inputs[0])],
    "Not": lambda node, inputs, limit: [np.logical_not(inputs[0])],
    "Dropout": lambda node, inputs, limit: [inputs[0], np.ones(np.shape(inputs[0]), bool)][: len(node.outputs)],
    "Mod": _remainder,
    "PRelu": _several(lambda x, slope: np.where(x > 0, x, slope * x)),
    "Add": _several(np.add),
    "Sub": _several(np.subtract),
    "Mul": _several(np.multiply),
    "Div": _several(_divide),
    "Pow": _several(_power),
    "Min": _several(_fold(np.minimum)),
    "Max": _several(_fold(np.maximum)),
    "Sum": _several(_fold(np.add)),
    "Mean": _several(_mean),
    "And": _several(np.logical_and),
    "Or": _several(np.logical_or),
    "Xor": _several(np.logical_xor),
    "Equal": _several(np.equal),
    "Less": _several(np.less),
    "LessOrEqual": _several(np.less_equal),
    "Greater": _several(np.greater),
    "GreaterOrEqual": _several(np.greater_equal),
    "Where": _several(np.where),
}
