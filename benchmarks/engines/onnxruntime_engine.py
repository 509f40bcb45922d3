"""ONNX Runtime: the graph of `onnx_graph`, run with bound memory or plainly. It does not train."""

from __future__ import annotations

from itertools import cycle

import numpy as np
import onnxruntime as ort

from engines import Array, KeepsThreads, Problem, Runner, several
from engines.onnx_graph import build_model, last_output, state_names, state_shape
from workloads import Workload


class OnnxRuntimeEngine(KeepsThreads):
    name = "onnxruntime"
    version = ort.__version__
    kinds = ("step", "sequence")

    def runners(self, problem: Problem) -> list[Runner]:
        workload = problem.workload
        options = ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        model = build_model(workload, problem.weights)
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        x = np.ascontiguousarray(problem.x.transpose(1, 0, 2))
        bound = _bound(session, workload, x)
        return [bound, _unbound_step(session, workload, x)] if workload.kind == "step" else [bound]


def _bound(session: ort.InferenceSession, workload: Workload, x: Array) -> Runner:
    """Inputs and outputs bound to fixed memory of ONNX Runtime's own. States go to and fro between two sets of it."""
    states, shape = state_names(workload), state_shape(workload)
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
        nonlocal turns
        turns = cycle(bindings)
        for value in memory[0].values():
            value.update_inplace(zeros)
        several(workload, run)
        return last_output(y.numpy())

    return Runner("bound run", run, result)


def _value(array: Array) -> ort.OrtValue:
    """A copy that ONNX Runtime owns; over an array's own memory it would not keep the array alive."""
    value = ort.OrtValue.ortvalue_from_shape_and_type(array.shape, np.float32)
    value.update_inplace(array)
    return value


def _unbound_step(session: ort.InferenceSession, workload: Workload, x: Array) -> Runner:
    names, shape = state_names(workload), state_shape(workload)
    outputs = ["y", *(f"{name}_next" for name in names)]
    feed = {"x": x}

    def run() -> Array:
        y, *states = session.run(outputs, feed)
        feed.update(zip(names, states, strict=True))
        return y

    def result() -> Array:
        feed.update({name: np.zeros(shape, np.float32) for name in names})
        return last_output(several(workload, run))

    return Runner("run", run, result)
