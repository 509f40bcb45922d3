"""Residual networks on images, as exporters write them, run as one native model, with the values of onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

import recurra as rc


class Net:
    """A graph on images x (N, 3, 8, W), written node by node."""

    def __init__(self, dims: list[Any]) -> None:
        self.rng, self.dims = np.random.default_rng(0), dims
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}

    def known(self, *shape: int) -> str:
        name = f"constant {len(self.constants)}"
        self.constants[name] = (self.rng.standard_normal(shape) / 2).astype(np.float32)
        return name

    def __call__(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"{op} {len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def conv(self, x: str, channels: tuple[int, int], kernel: int = 3, bias: bool = False, **attributes: Any) -> str:
        weights = [self.known(channels[1], channels[0], kernel, kernel), *([self.known(channels[1])] if bias else [])]
        return self("Conv", x, *weights, pads=[kernel // 2] * 4, **attributes)

    def content(self, *outputs: str) -> bytes:
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, self.dims)],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            [numpy_helper.from_array(one, name) for name, one in self.constants.items()],
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        return bytes(made.SerializeToString())


def checked(content: bytes, *shape: int) -> Any:
    model, session = rc.from_onnx(content), ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    for seed in (0, 1):
        x = np.random.default_rng(seed).standard_normal((seed + 1, *shape)).astype(np.float32)
        y, _state = model(x)
        for one, other in zip(y if isinstance(y, tuple) else (y,), session.run(None, {"x": x}), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5, rtol=1e-5)
    return model


def in_numpy(model: Any) -> list[str]:
    return [node.op for node in model._example().numpy]


def test_scales_and_shifts_of_channels_join_the_convolution_before_them() -> None:
    net = Net(["N", 3, 8, "W"])
    h = net("Add", net.known(1, 5, 1, 1), net("Mul", net.conv("x", (3, 5)), net.known(5, 1, 1)))
    h = net("Relu", h)
    h = net("Div", net("Sub", net.conv(h, (5, 4), bias=True), net.known(4, 1, 1)), net.known())
    model = checked(net.content(h), 3, 8, 9)
    assert [node.op for node in model._graph.nodes] == ["Conv", "Relu", "Conv"]
    assert in_numpy(model) == []


@pytest.mark.parametrize("activation", ["Relu", "Swish"])
def test_a_residual_network_is_one_model(activation: str) -> None:
    net = Net(["N", 3, 8, "W"])

    def act(x: str) -> str:
        return net("Relu", x) if activation == "Relu" else net("Mul", x, net("Sigmoid", x))

    h = net.conv("x", (3, 6))
    for _ in range(2):
        inner = act(net("Add", net("Mul", h, net.known(1, 6, 1, 1)), net.known(1, 6, 1, 1)))
        h = net("Add", h, net.conv(act(net.conv(inner, (6, 4))), (4, 6)))
    h = net("Sub", net.known(6, 1, 1), net("Mul", net.known(), h))
    model = checked(net.content(h), 3, 8, 9)
    assert in_numpy(model) == []
    assert len(model._example().models) == 1
    model.as_model()  # layers alone


def test_an_input_beside_what_a_model_makes_joins_it() -> None:
    net = Net(["N", 3, 8, "W"])
    model = checked(net.content(net("Add", "x", net("Relu", net.conv("x", (3, 3))))), 3, 8, 9)
    assert in_numpy(model) == []


@pytest.mark.parametrize("shape", [(3, 8, 1), (1, 8, 9), (3, 1, 9), (8, 9), (1, 1, 9), (1, 3, 8, 9)])
def test_other_constants_stay_what_they_are(shape: tuple[int, ...]) -> None:
    net = Net(["N", 3, 8, "W"])
    h = net("Add", net("Mul", net.conv("x", (3, 3)), net.known(*shape)), net.known(3, 1, 1))
    if len(shape) == 4:
        h = net("ReduceSum", h)
    checked(net.content(h, "Conv 0"), 3, 8, 9)


def test_a_convolution_that_others_read_keeps_its_values() -> None:
    net = Net(["N", 3, 8, "W"])
    conv = net.conv("x", (3, 4))
    scaled = net("Mul", conv, net.known(4, 1, 1))
    checked(net.content(net("Add", scaled, net.known(4, 1, 1)), scaled, conv), 3, 8, 9)


def test_a_size_of_minus_1_is_any_size() -> None:
    net = Net([-1, 3, 8, -1])
    checked(net.content(net.conv("x", (3, 4))), 3, 8, 9)


def test_a_report_of_a_graph_that_needs_more_than_a_few_steps() -> None:
    net = Net(["N", 3, 8, "W"])
    model = rc.from_onnx(net.content(net("Conv", "x", net.known(2, 3, 8, 20))))
    assert "Conv2d" in model.import_report()
