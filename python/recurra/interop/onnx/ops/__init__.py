"""ONNX operators in numpy, for nodes that are not layers and for constant folding.

An operator is a function of its node, its inputs (None for an omitted one) and the maximum size of a result.
"""

from __future__ import annotations

from recurra.interop.onnx.ops import (
    elementwise,
    integers,
    normalise,
    products,
    quantised_lstm,
    reduce,
    select,
    shapes,
    windows,
)
from recurra.interop.onnx.ops.common import Operator

#: The domain of operators that files do not have.
OWN = "recurra"

#: Operators by (domain, name).
OPERATORS: dict[tuple[str, str], Operator] = {
    **{
        ("", name): operator
        for module in (elementwise, integers, normalise, products, reduce, select, shapes, windows)
        for name, operator in module.OPERATORS.items()
    },
    (OWN, "Affine"): elementwise.affine,
    (OWN, "QuantizedLSTM"): quantised_lstm.lstm,
    ("com.microsoft", "FusedMatMul"): products.fused_matmul,
    ("com.microsoft", "Gelu"): elementwise.OPERATORS["Gelu"],
}
