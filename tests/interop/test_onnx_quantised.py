"""onnxruntime's DynamicQuantizeLSTM with its roundings of x and h, beside onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

import recurra as rc

I, H = 3, 4


def content(kind: Any, per_column: bool, direction: str, extras: str, **attributes: Any) -> bytes:
    rng = np.random.default_rng(0)
    count, low = 2 if direction == "bidirectional" else 1, np.iinfo(kind).min
    shape = (count, 4 * H) if per_column else (count,)
    known: dict[str, Any] = {}
    for name, inputs in (("W", I), ("R", H)):
        known[name] = rng.integers(low, low + 256, (count, inputs, 4 * H)).astype(kind)
        known[f"s{name}"] = rng.uniform(0.003, 0.006, shape).astype(np.float32)
        known[f"z{name}"] = np.full(shape, 0 if kind == np.int8 else 128, kind)
    inputs = {"x": ["T", "N", I]}
    names = ["x", "W", "R", "", "", "", "", "", "sW", "zW", "sR", "zR"]
    if "bias" in extras:
        known["B"], names[3] = rng.standard_normal((count, 8 * H)).astype(np.float32), "B"
    if "peepholes" in extras:
        known["P"], names[7] = rng.standard_normal((count, 3 * H)).astype(np.float32), "P"
    if "states" in extras:
        inputs |= {"h": [count, "N", H], "c": [count, "N", H]}
        names[5:7] = "h", "c"
    node = helper.make_node(
        "DynamicQuantizeLSTM",
        names,
        ["y", "y_h", "y_c"],
        domain="com.microsoft",
        hidden_size=H,
        direction=direction,
        **attributes,
    )
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("y", "y_h", "y_c")],
        [numpy_helper.from_array(one, name) for name, one in known.items()],
    )
    sets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return bytes(helper.make_model(graph, opset_imports=sets, ir_version=8).SerializeToString())


@pytest.mark.parametrize("kind", [np.int8, np.uint8])
@pytest.mark.parametrize("per_column", [False, True])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("extras", ["", "bias states", "bias peepholes"])
def test_roundings_are_those_of_onnxruntime(kind: Any, per_column: bool, direction: str, extras: str) -> None:
    data = content(kind, per_column, direction, extras)
    options, rng = ort.SessionOptions(), np.random.default_rng(1)
    options.intra_op_num_threads = 1  # several threads take rows each, and have scales of their own
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    given = {"x": rng.standard_normal((6, 3, I)).astype(np.float32)}
    if "states" in extras:
        given |= {name: rng.standard_normal((1 + (direction[0] == "b"), 3, H)).astype(np.float32) for name in "hc"}
    model = rc.from_onnx(data, states={}, round_activations=True)
    for one, other in zip(model(given)[0], session.run(None, given), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert "QuantizedLSTM" in model.import_report()
    floats = rc.from_onnx(data, states={})
    assert "LSTM" in floats.import_report()
    for one, other in zip(floats(given)[0], session.run(None, given), strict=True):
        np.testing.assert_allclose(one, other, atol=0.05)


def test_an_lstm_that_rounds_has_the_usual_activations() -> None:
    data = content(np.int8, False, "forward", "", activations=["Sigmoid", "Tanh", "Relu"])
    rc.from_onnx(data)
    with pytest.raises(rc.ModelFormatError, match="round_activations=False"):
        rc.from_onnx(data, round_activations=True)
