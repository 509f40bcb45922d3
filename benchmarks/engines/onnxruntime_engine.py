"""ONNX Runtime: a graph of RNN, LSTM or GRU nodes; states are the graph's inputs and outputs. It does not train."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from engines import Array, Problem, Runner
from workloads import Workload

OPERATORS = {"rnn": "RNN", "lstm": "LSTM", "gru": "GRU"}
GATE_ORDER = {"rnn": [0], "lstm": [0, 3, 1, 2], "gru": [1, 0, 2]}  # ONNX's iofc from ifgo, zrh from rzn
OPSET = 17
IR_VERSION = 8  # the one that belongs to the opset


class OnnxRuntimeEngine:
    name = "onnxruntime"
    version = ort.__version__

    def __init__(self) -> None:
        self._threads = 1

    def set_num_threads(self, threads: int) -> None:
        self._threads = threads

    def runners(self, problem: Problem) -> list[Runner]:
        workload = problem.workload
        if workload.kind == "training":
            return []
        options = ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        model = build_model(workload, problem.weights)
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        x = np.ascontiguousarray(problem.x.transpose(1, 0, 2))
        if workload.kind == "step":
            return [_bound(session, workload, x, state_names(workload)), _unbound_step(session, workload, x)]
        return [_bound(session, workload, x, [])]


def state_names(workload: Workload) -> list[str]:
    kinds = "hc" if workload.cell == "lstm" else "h"
    return [f"{kind}_{layer}" for layer in range(workload.num_layers) for kind in kinds]


def build_model(workload: Workload, weights: dict[str, Array]) -> onnx.ModelProto:
    """x (T, N, I) -> y (T, directions, N, H), and for steps every `name` in `state_names` -> `name`_next."""
    batch, hidden, directions = workload.batch, workload.hidden_size, workload.directions
    nodes, initializers = [], []

    def constant(name: str, value: np.ndarray) -> str:
        initializers.append(numpy_helper.from_array(value, name))
        return name

    states = state_names(workload) if workload.kind == "step" else []
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

    state_shape = [directions, batch, hidden]
    graph = helper.make_graph(
        nodes,
        "recurrent",
        [value("x", [workload.steps, batch, workload.input_size])] + [value(name, state_shape) for name in states],
        [value("y", [workload.steps, *state_shape])] + [value(f"{name}_next", state_shape) for name in states],
        initializers,
    )
    opsets = [helper.make_opsetid("", OPSET)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)


def _layer_weights(workload: Workload, weights: dict[str, Array], layer: int) -> tuple[Array, Array, Array]:
    """ONNX's W (directions, gates * H, I), R (directions, gates * H, H) and B (directions, 2 * gates * H)."""
    order = GATE_ORDER[workload.cell]

    def gates(name: str, suffix: str) -> Array:
        value = weights[name + suffix]
        return np.concatenate([np.split(value, len(order))[gate] for gate in order])

    suffixes = [f"_l{layer}" + "_reverse" * direction for direction in range(workload.directions)]
    w = np.stack([gates("weight_ih", suffix) for suffix in suffixes])
    r = np.stack([gates("weight_hh", suffix) for suffix in suffixes])
    b = np.stack([np.concatenate([gates("bias_ih", suffix), gates("bias_hh", suffix)]) for suffix in suffixes])
    return w, r, b


def _bound(session: ort.InferenceSession, workload: Workload, x: Array, states: list[str]) -> Runner:
    """Inputs and outputs bound to fixed memory of ONNX Runtime's own. States go to and fro between two sets of it."""
    shape = (workload.directions, workload.batch, workload.hidden_size)
    y = _value(np.zeros((workload.steps, *shape), np.float32))
    zeros = np.zeros(shape, np.float32)
    memory = [{name: _value(zeros) for name in states} for _ in range(2)]

    def bind(old: dict[str, ort.OrtValue], new: dict[str, ort.OrtValue]) -> ort.IOBinding:
        binding = session.io_binding()
        binding.bind_ortvalue_input("x", _value(x))
        binding.bind_ortvalue_output("y", y)
        for name in states:
            binding.bind_ortvalue_input(name, old[name])
            binding.bind_ortvalue_output(f"{name}_next", new[name])
        return binding

    bindings = [bind(memory[0], memory[1]), bind(memory[1], memory[0])]
    turns = cycle(bindings)

    def run() -> None:
        session.run_with_iobinding(next(turns))

    def result() -> Array:
        for value in memory[0].values():
            value.update_inplace(zeros)
        session.run_with_iobinding(bindings[0])
        return _last(y.numpy())

    return Runner("bound run", run, result)


def _value(array: Array) -> ort.OrtValue:
    """A copy that ONNX Runtime owns; over an array's own memory it would not keep the array alive."""
    value = ort.OrtValue.ortvalue_from_shape_and_type(array.shape, np.float32)
    value.update_inplace(array)
    return value


def _unbound_step(session: ort.InferenceSession, workload: Workload, x: Array) -> Runner:
    shape = (workload.directions, workload.batch, workload.hidden_size)
    names = state_names(workload)
    outputs = ["y", *(f"{name}_next" for name in names)]
    feed = {"x": x}

    def run() -> Array:
        y, *states = session.run(outputs, feed)
        feed.update(zip(names, states, strict=True))
        return y

    def result() -> Array:
        feed.update({name: np.zeros(shape, np.float32) for name in names})
        return _last(run())

    return Runner("run", run, result)


def _last(y: Array) -> Array:
    """(T, directions, N, H) -> (N, directions * H) at the last step."""
    return y[-1].transpose(1, 0, 2).reshape(y.shape[2], -1)
