"""What is done to a bidirectional layer's outputs while directions and features are axes of their own."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

import recurra as rc

SHAPES = {"Y": (5, 2, 3, 4), "Y_h": (2, 3, 4)}


def _node(kind: str, axis: int, shape: list[int], rng: np.random.Generator) -> tuple[Any, dict[str, Any]]:
    """A node that turns t into y along an axis, and its constants."""
    if kind == "Transpose":
        return helper.make_node(kind, ["t"], ["y"], perm=list(rng.permutation(len(shape)))), {}
    if kind == "Gather":
        return helper.make_node(kind, ["t", "at"], ["y"], axis=axis), {"at": np.array(rng.choice([0, 1, -1]))}
    if kind == "Slice":
        places = {"begin": np.array([rng.integers(2)]), "end": np.array([2]), "axes": np.array([axis])}
        return helper.make_node(kind, ["t", *places], ["y"]), places
    if kind == "Split":
        return helper.make_node(kind, ["t", "sizes"], ["y", "z"], axis=axis), {"sizes": np.array([1, shape[axis] - 1])}
    if kind == "MatMul":
        return helper.make_node(kind, ["t", "m"], ["y"]), {"m": rng.standard_normal((shape[-1], 3)).astype(np.float32)}
    if kind == "Concat":
        return helper.make_node(kind, ["t", "t"], ["y"], axis=axis), {}
    if kind == "ReduceMean":
        return helper.make_node(kind, ["t"], ["y"], axes=[axis], keepdims=0), {}
    if kind == "Softmax":
        return helper.make_node(kind, ["t"], ["y"], axis=axis), {}
    return helper.make_node(kind, ["t"], ["y"]), {}


@pytest.mark.parametrize(
    "kind", ["Transpose", "Gather", "Slice", "Split", "MatMul", "Concat", "ReduceMean", "Softmax", "Tanh"]
)
def test_any_axis_in_any_order(kind: str) -> None:
    rng = np.random.default_rng(len(kind))
    weights = {"W": rng.standard_normal((2, 12, 3)), "R": rng.standard_normal((2, 12, 4))}
    for _ in range(40):
        output = str(rng.choice(list(SHAPES)))
        order = [int(one) for one in rng.permutation(len(SHAPES[output]))]
        shape = [SHAPES[output][one] for one in order]
        axis = int(rng.integers(len(shape)))
        node, constants = _node(kind, axis, shape, rng)
        nodes = [
            helper.make_node("GRU", ["x", "W", "R"], list(SHAPES), hidden_size=4, direction="bidirectional"),
            helper.make_node("Transpose", [output], ["t"], perm=order),
            node,
        ]
        constants = {name: array.astype(np.float32) for name, array in weights.items()} | constants
        graph = helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [5, 3, 3])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(array, name) for name, array in constants.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        content, x = model.SerializeToString(), rng.standard_normal((5, 3, 3), np.float32)
        wanted = ort.InferenceSession(content, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
        y, _state = rc.from_onnx(content, states={})(x)
        np.testing.assert_allclose(y, wanted, atol=2e-6, err_msg=f"{output} {order} {node}")
