"""ONNX operators in numpy, for what no layer computes and for what is known before a model runs.

An operator is a function of its node, its inputs (None where one is left out) and the most numbers that a result may have.
"""

from __future__ import annotations

from recurra.interop.onnx.ops import elementwise, integers, normalise, products, reduce, select, shapes, windows
from recurra.interop.onnx.ops.common import Operator

#: By (domain, name).
OPERATORS: dict[tuple[str, str], Operator] = {
    **{
        ("", name): operator
        for module in (elementwise, integers, normalise, products, reduce, select, shapes, windows)
        for name, operator in module.OPERATORS.items()
    },
    ("com.microsoft", "FusedMatMul"): products.fused_matmul,
    ("com.microsoft", "Gelu"): elementwise.OPERATORS["Gelu"],
}
