"""ONNX files with cells written out step by step, as torch.onnx.export writes them, without torch."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

WIDTH, HIDDEN = 3, 4


def unrolled(op: str, steps: int, bias: bool = True, form: str = "torchscript") -> bytes:
    """From x (N, steps, WIDTH) and h, of an LSTM also c, to y (N, steps, HIDDEN) and the states behind.

    form: "torchscript", as torch's older exporter, or "dynamo", as the newer one.
    """
    rng = np.random.default_rng(0)
    count = {"LSTM": 4, "GRU": 3, "RNN": 1}[op]
    shapes = {"wx": (count * HIDDEN, WIDTH), "wh": (count * HIDDEN, HIDDEN), "bx": (count * HIDDEN,)}
    constants = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    constants |= {"bh": constants["bx"] / 2, "sizes": np.full(count, HIDDEN), "one": np.array([1])}
    nodes: list[Any] = []

    def node(kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        names = [f"{kind}_{len(nodes)}_{at}" for at in range(outputs)]
        nodes.append(helper.make_node(kind, inputs, names, **attributes))
        return names if outputs > 1 else names[0]

    constants |= {"wx.T": constants["wx"].T.copy(), "wh.T": constants["wh"].T.copy()}

    def product(value: str, which: str) -> str:
        if form == "dynamo" or bias:
            return str(node("Gemm", value, f"w{which}", *([f"b{which}"] if bias else []), transB=1))
        return str(node("MatMul", value, f"w{which}.T"))  # what the older exporter makes of a Gemm without bias

    def split(value: str, parts: int) -> Any:
        if form == "dynamo":
            return node("Split", value, outputs=parts, axis=1, num_outputs=parts)
        return node("Split", value, "sizes", outputs=parts, axis=1)

    node.split = split
    h, c, made = "h", "c", []
    for at in range(steps):
        constants[f"at_{at}"] = np.array(at)
        of_x = product(node("Gather", "x", f"at_{at}", axis=1), "x")
        of_h = product(h, "h")
        h, c = {"LSTM": _lstm, "GRU": _gru, "RNN": _rnn}[op](node, of_x, of_h, h, c)
        made.append(node("Unsqueeze", h, "one"))
    ends = [node("Concat", *made, axis=1), h, *([c] if op == "LSTM" else [])]
    inputs = {"x": ["N", steps, WIDTH], "h": ["N", HIDDEN], **({"c": ["N", HIDDEN]} if op == "LSTM" else {})}
    graph = helper.make_graph(
        nodes,
        "unrolled",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ends],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    data: bytes = model.SerializeToString()
    return data


def _lstm(node: Any, of_x: str, of_h: str, h: str, c: str) -> tuple[str, str]:
    i, f, g, o = node.split(node("Add", of_h, of_x), 4)
    i, f, g, o = node("Sigmoid", i), node("Sigmoid", f), node("Tanh", g), node("Sigmoid", o)
    c = node("Add", node("Mul", f, c), node("Mul", i, g))
    return node("Mul", o, node("Tanh", c)), c


def _gru(node: Any, of_x: str, of_h: str, h: str, c: str) -> tuple[str, str]:
    x, own = node.split(of_x, 3), node.split(of_h, 3)
    r, z = (node("Sigmoid", node("Add", own[at], x[at])) for at in (0, 1))
    n = node("Tanh", node("Add", x[2], node("Mul", own[2], r)))
    return node("Add", node("Mul", node("Sub", h, n), z), n), c


def _rnn(node: Any, of_x: str, of_h: str, h: str, c: str) -> tuple[str, str]:
    return node("Relu", node("Add", of_h, of_x)), c
