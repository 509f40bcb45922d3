"""MNN: a session over the converted graph of `onnx_graph`, batch 1 and one step.

A session uses the memory of its inputs and outputs for other things while it runs, so all are copied in and out. (Its
modules, which hand arrays on instead, take some 2 µs longer a step.)

The converter is called as MNN's own command calls it, but not through that command's module: importing that installs a
package and reports what is converted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from engines import Array, KeepsThreads, Problem, Runner, several
from engines.onnx_graph import build_model, last_output, state_names, state_shape


@contextmanager
def _silence() -> Iterator[None]:
    """MNN talks on standard output, below Python."""
    sys.stdout.flush()
    kept = os.dup(1)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


with _silence():
    import MNN

    converter = import_module("_tools")  # MNN's, in spite of its name; it needs the other first


class MnnEngine(KeepsThreads):
    name = "MNN"
    version = MNN.version()
    kinds = ("step",)

    def runners(self, problem: Problem) -> list[Runner]:
        workload = problem.workload
        if workload.batch > 1 or workload.cell == "rnn":
            return []
        runners = [self._runner("session", problem, [])]
        if workload.cell == "gru":  # unrolled into products unless told otherwise, which is the faster for large ones
            runners.append(self._runner("session, one operator", problem, ["--useOriginRNNImpl"]))
        return runners

    def _runner(self, label: str, problem: Problem, options: list[str]) -> Runner:
        workload = problem.workload
        with _silence():
            interpreter = _convert(build_model(workload, problem.weights).SerializeToString(), options)
            settings = {"backend": "CPU", "numThread": self._threads, "precision": "high"}
            session = interpreter.createSession(settings)
        inputs, outputs = interpreter.getSessionInputAll(session), interpreter.getSessionOutputAll(session)
        shape = state_shape(workload)
        states = {name: _tensor(np.zeros(shape, np.float32)) for name in state_names(workload)}
        x, y = _tensor(problem.x.transpose(1, 0, 2)), _tensor(np.empty((workload.steps, *shape), np.float32))
        before = [(inputs[name].copyFrom, given) for name, given in [("x", x), *states.items()]]
        after = [(outputs["y"].copyToHostTensor, y)]
        after += [(outputs[f"{name}_next"].copyToHostTensor, state) for name, state in states.items()]

        def run() -> None:
            for copy, tensor in before:
                copy(tensor)
            interpreter.runSession(session)
            for copy, tensor in after:
                copy(tensor)

        def result() -> Array:
            for state in states.values():
                state.getNumpyData()[:] = 0
            several(workload, run)
            return last_output(y.getNumpyData()).copy()

        return Runner(label, run, result)


def _tensor(values: Array) -> MNN.Tensor:
    return MNN.Tensor(values.shape, MNN.Halide_Type_Float, np.ascontiguousarray(values), MNN.Tensor_DimensionType_Caffe)


def _convert(model: bytes, options: list[str]) -> MNN.Interpreter:
    with TemporaryDirectory() as folder:
        before, after = Path(folder) / "graph.onnx", Path(folder) / "graph.mnn"
        before.write_bytes(model)
        arguments = ["-f", "ONNX", "--modelFile", str(before), "--MNNModel", str(after), "--bizCode", "benchmark"]
        if not converter.mnnconvert(["mnnconvert", *arguments, *options]):
            raise RuntimeError("MNN could not convert the graph")
        return MNN.Interpreter(str(after))
