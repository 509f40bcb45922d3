"""Recurrences as Scan and Loop nodes run in numpy, as onnxruntime runs them, and say so; endless ones are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import recurra as rc

FLOAT = TensorProto.FLOAT
info = helper.make_tensor_value_info
RNG = np.random.default_rng(0)
W = numpy_helper.from_array(RNG.standard_normal((5, 3)).astype(np.float32), "W")


def content(nodes: Any, inputs: Any, outputs: Any, constants: Any) -> bytes:
    graph = helper.make_graph(nodes, "loops", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def step() -> list[Any]:
    return [
        helper.make_node("Concat", ["x_t", "h"], ["both"], axis=1),
        helper.make_node("MatMul", ["both", "W"], ["sum"]),
        helper.make_node("Tanh", ["sum"], ["h_t"]),
        helper.make_node("Identity", ["h_t"], ["y_t"]),
    ]


@pytest.mark.parametrize("back", [0, 1])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_scan_runs_as_in_onnxruntime(axis: int, back: int) -> None:
    body = helper.make_graph(
        step(),
        "cell",
        [info(one, FLOAT, None) for one in ("h", "x_t")],
        [info(one, FLOAT, None) for one in ("h_t", "y_t")],
    )
    options = {
        f"scan_{side}_{what}": [value]
        for side in ("input", "output")
        for what, value in (("axes", axis), ("directions", back))
    }
    node = helper.make_node("Scan", ["h0", "x"], ["hn", "y"], body=body, num_scan_inputs=1, **options)
    sizes = [None, None, 2]
    data = content(
        [node],
        [info("h0", FLOAT, [2, 3]), info("x", FLOAT, sizes)],
        [info("hn", FLOAT, None), info("y", FLOAT, None)],
        [W],
    )
    x, h = RNG.standard_normal((2, 7, 2) if axis else (7, 2, 2)).astype(np.float32), np.ones((2, 3), np.float32)
    wanted = onnxruntime.InferenceSession(data).run(None, {"x": x, "h0": h})
    model = rc.from_onnx(data, states={})
    for one, other in zip(model({"x": x, "h0": h})[0], wanted, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-6)
    assert "Scan" in model.import_report()
    assert "each step" in model.import_report()


def test_an_endless_loop_is_refused_at_once() -> None:
    nodes = [helper.make_node("Identity", ["goes"], ["go"]), helper.make_node("Tanh", ["h"], ["h_t"])]
    body = helper.make_graph(
        nodes,
        "body",
        [info("at", TensorProto.INT64, []), info("goes", TensorProto.BOOL, []), info("h", FLOAT, None)],
        [info("go", TensorProto.BOOL, []), info("h_t", FLOAT, None)],
    )
    trips = numpy_helper.from_array(np.array(1 << 62), "trips")
    loop = helper.make_node("Loop", ["trips", "", "h0"], ["y"], body=body)
    data = content([loop], [info("h0", FLOAT, [2, 3])], [info("y", FLOAT, None)], [trips])
    with pytest.raises(ValueError, match=f"a loop of {1 << 62} steps, expected at most"):
        rc.from_onnx(data, states={})(np.ones((2, 3), np.float32))
