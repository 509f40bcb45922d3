"""Matrix product operators."""

from __future__ import annotations

from typing import Any

import numpy as np

from recurra.common.typing import Array
from recurra.interop.onnx.graph import Node
from recurra.interop.onnx.ops.common import Arrays, Operator, given, room


def _product(a: Any, b: Any, limit: int) -> Array:
    if a.ndim > 1 and b.ndim > 1:
        room((*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1]), limit)
    return np.asarray(np.matmul(a, b))


def _gemm(node: Node, inputs: Arrays, limit: int) -> list[Array]:
    a = inputs[0].T if node.attributes.get("transA") else inputs[0]
    b = inputs[1].T if node.attributes.get("transB") else inputs[1]
    kind = a.dtype.type
    y = _product(a, b, limit) * kind(node.attributes.get("alpha", 1.0))
    c = given(inputs, 2)
    return [y if c is None else y + kind(node.attributes.get("beta", 1.0)) * c]


def fused_matmul(node: Node, inputs: Arrays, limit: int) -> list[Array]:
    """onnxruntime's FusedMatMul: a product of transposed matrices."""
    a = np.swapaxes(inputs[0], -1, -2) if node.attributes.get("transA") else inputs[0]
    b = np.swapaxes(inputs[1], -1, -2) if node.attributes.get("transB") else inputs[1]
    return [_product(a, b, limit) * a.dtype.type(node.attributes.get("alpha", 1.0))]


def _einsum(node: Node, inputs: Arrays, limit: int) -> list[Array]:
    equation = node.attributes["equation"].replace(" ", "")
    sizes: dict[str, int] = {}
    terms, arrow, result = equation.partition("->")
    for term, one in zip(terms.split(","), inputs, strict=True):
        sizes.update(zip(term, one.shape, strict=False))
    if arrow and "." not in equation:
        room([sizes[letter] for letter in result], limit)
    return [np.asarray(np.einsum(equation, *inputs))]


def _matmul(node: Node, inputs: Arrays, limit: int) -> list[Array]:
    """MatMul; a third input is the bias of a fused Add (fuse.py)."""
    y, bias = _product(inputs[0], inputs[1], limit), given(inputs, 2)
    return [y if bias is None else y + bias]


OPERATORS: dict[str, Operator] = {
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Einsum": _einsum,
}
