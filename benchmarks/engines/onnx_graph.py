"""The workload as an ONNX graph of RNN, LSTM or GRU nodes, for the engines that read such graphs.

For steps the states are inputs and outputs of the graph.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from engines import Array, reorder_gates
from workloads import Workload

OPERATORS = {"rnn": "RNN", "lstm": "LSTM", "gru": "GRU"}
GATE_ORDER = {"rnn": [0], "lstm": [0, 3, 1, 2], "gru": [1, 0, 2]}  # ONNX's iofc from ifgo, zrh from rzn
OPSET = 17
IR_VERSION = 8  # the one that belongs to the opset


def state_names(workload: Workload) -> list[str]:
    """Of steps, in the order of the layers; sequences start from zeros and give no states back."""
    if workload.kind != "step":
        return []
    kinds = "hc" if workload.cell == "lstm" else "h"
    return [f"{kind}_{layer}" for layer in range(workload.num_layers) for kind in kinds]


def state_shape(workload: Workload) -> tuple[int, int, int]:
    return (workload.directions, workload.batch, workload.hidden_size)


def build_model(workload: Workload, weights: dict[str, Array]) -> onnx.ModelProto:
    """x (T, N, I) -> y (T, directions, N, H), and every `name` in `state_names` -> `name`_next."""
    batch, hidden, directions = workload.batch, workload.hidden_size, workload.directions
    nodes, initializers = [], []

    def constant(name: str, value: np.ndarray) -> str:
        initializers.append(numpy_helper.from_array(value, name))
        return name

    states = state_names(workload)
    current = "x"
    for layer in range(workload.num_layers):
        if layer:  # (T, directions, N, H) -> (T, N, directions * H)
            nodes.append(helper.make_node("Transpose", [current], [f"t_{layer}"], perm=[0, 2, 1, 3]))
            shape = constant(f"shape_{layer}", np.array([workload.steps, batch, directions * hidden], np.int64))
            nodes.append(helper.make_node("Reshape", [f"t_{layer}", shape], [f"x_{layer}"]))
            current = f"x_{layer}"
        w, r, b = _layer_weights(workload, weights, layer)
        inputs = [current, constant(f"W_{layer}", w), constant(f"R_{layer}", r), constant(f"B_{layer}", b), ""]
        own = [name for name in states if name.endswith(f"_{layer}")]
        current = "y" if layer == workload.num_layers - 1 else f"y_{layer}"
        attributes: dict[str, Any] = {
            "hidden_size": hidden,
            "direction": "bidirectional" if workload.bidirectional else "forward",
        }
        if workload.cell == "gru":
            attributes["linear_before_reset"] = 1
        outputs = [current, *(f"{name}_next" for name in own)]
        nodes.append(helper.make_node(OPERATORS[workload.cell], inputs + own, outputs, **attributes))

    def value(name: str, shape: list[int]) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    state_dims = list(state_shape(workload))
    graph = helper.make_graph(
        nodes,
        "recurrent",
        [value("x", [workload.steps, batch, workload.input_size])] + [value(name, state_dims) for name in states],
        [value("y", [workload.steps, *state_dims])] + [value(f"{name}_next", state_dims) for name in states],
        initializers,
    )
    opsets = [helper.make_opsetid("", OPSET)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)


def _layer_weights(workload: Workload, weights: dict[str, Array], layer: int) -> tuple[Array, Array, Array]:
    """ONNX's W (directions, gates * H, I), R (directions, gates * H, H) and B (directions, 2 * gates * H)."""
    order = GATE_ORDER[workload.cell]

    def gates(name: str, suffix: str) -> Array:
        return reorder_gates(weights[name + suffix], order)

    suffixes = [f"_l{layer}" + "_reverse" * direction for direction in range(workload.directions)]
    w = np.stack([gates("weight_ih", suffix) for suffix in suffixes])
    r = np.stack([gates("weight_hh", suffix) for suffix in suffixes])
    b = np.stack([np.concatenate([gates("bias_ih", suffix), gates("bias_hh", suffix)]) for suffix in suffixes])
    return w, r, b


def last_output(y: Array) -> Array:
    """The graph's y (T, directions, N, H) -> (N, directions * H) at the last step."""
    return y[-1].transpose(1, 0, 2).reshape(y.shape[2], -1)
