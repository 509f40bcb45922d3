"""Graphs of recurrent nodes on no rows and no steps; and what the error of a graph without states advises."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import recurra as rc

EMPTY = [(0, 2), (3, 0), (0, 0)]


@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize(("op", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_nodes_on_nothing_behave_as_layers(op: str, gates: int, directions: int, lengths: bool) -> None:
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal((directions, gates * 4, size)).astype(np.float32) for size in (2, 4)]
    outputs = ["Y", "Y_h", "Y_c"][: 3 if op == "LSTM" else 2]
    reads = ["x", "W", "R", "", "lengths" if lengths else "", "h"]
    direction = "bidirectional" if directions == 2 else "forward"
    node = helper.make_node(op, reads, outputs, hidden_size=4, direction=direction)
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["T", "N", 2]),
        helper.make_tensor_value_info("h", TensorProto.FLOAT, [directions, "N", 4]),
    ]
    if lengths:
        inputs.append(helper.make_tensor_value_info("lengths", TensorProto.INT32, ["N"]))
    graph = helper.make_graph(
        [node],
        "empty",
        inputs,
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(one, name) for one, name in zip(weights, "WR", strict=True)],
    )
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    model = rc.from_onnx(content, states={})
    for steps, rows in EMPTY:
        h = rng.standard_normal((directions, rows, 4)).astype(np.float32)
        given: dict[str, Any] = {"x": np.zeros((steps, rows, 2), np.float32), "h": h}
        if lengths:
            given["lengths"] = np.zeros(rows, np.int32)
        (y, final, *_c), _state = model(given)
        assert y.shape == (steps, directions, rows, 4)
        np.testing.assert_array_equal(final, h)


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("cell", [rc.RNN, rc.LSTM, rc.GRU])
def test_exported_models_on_nothing_behave_as_they_did(cell: Any, both: bool, tmp_path: Path) -> None:
    model = rc.Sequential(rc.Linear(2, 3), cell(3, 4, 2, bidirectional=both), rc.Linear(8 if both else 4, 2), seed=0)
    model.to_onnx(tmp_path / "m.onnx")
    back = rc.from_onnx(tmp_path / "m.onnx")
    for steps, rows in EMPTY:
        x = np.zeros((rows, steps, 2), np.float32)
        (wanted, states), (y, found) = model(x), back(x)
        np.testing.assert_array_equal(y, wanted)
        entry = states[1]
        for one, other in zip(found, entry if isinstance(entry, tuple | list) else [entry], strict=True):
            np.testing.assert_array_equal(one, other)


def advised(content: Path) -> tuple[Any, str]:
    model = rc.from_onnx(content, states={})
    with pytest.raises(ValueError, match="got a graph without states") as caught:
        model.stream()
    return model, str(caught.value)


STREAMABLE = [rc.Linear(3, 3), rc.LSTM(3, 3), rc.GRU(3, 3)]
STOPS = [rc.Pool("last"), rc.Pool("mean"), rc.LSTM(3, 3, bidirectional=True)]


@pytest.mark.parametrize("count", range(3))
@pytest.mark.parametrize("stop", [*range(len(STOPS)), None])
def test_what_is_advised_for_a_graph_without_states_works(count: int, stop: int | None, tmp_path: Path) -> None:
    last = [rc.Linear(6 if stop == 2 else 3, 2)]
    original = rc.Sequential(*STREAMABLE[:count], *([] if stop is None else [STOPS[stop]]), *last)
    original.to_onnx(tmp_path / "m.onnx")
    model, told = advised(tmp_path / "m.onnx")
    x = np.random.default_rng(0).standard_normal((1, 4, 3)).astype(np.float32)
    if stop is None:
        assert told.endswith("take as_model().stream()")
        stream = model.as_model().stream()
        y = np.stack([stream.step(x[:, at]) for at in range(4)], 1)
        np.testing.assert_allclose(y, original(x)[0], atol=1e-6)
        return
    assert "as_model().stream()" not in told
    code = re.search(r"recurra\.(Sequential\(.*\)\.stream\(\))$", told)
    assert (code is not None) == (count > 0)
    if code is not None:
        assert STOPS[stop].label in told
        stream = eval(code[1], {"Sequential": rc.Sequential, "model": model})
        assert stream.step(x[:, 0]).shape == (1, 3)


def test_nothing_is_advised_that_a_graph_of_other_nodes_cannot_do(tmp_path: Path) -> None:
    node = helper.make_node("CumSum", ["x", "axis"], ["y"])
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3]) for name in "xy"]
    graph = helper.make_graph([node], "sums", info[:1], info[1:], [numpy_helper.from_array(np.array(1), "axis")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "m.onnx")
    assert "as_model" not in advised(tmp_path / "m.onnx")[1]
