"""OpenVINO's CPU plugin: the graph of `onnx_graph` in 32 bits, on tensors that stay. It does not train."""

from __future__ import annotations

from itertools import cycle

import numpy as np
import openvino as ov

from engines import Array, Problem, Runner, several
from engines.onnx_graph import build_model, last_output, state_names, state_shape


class OpenVinoEngine:
    name = "openvino"
    version = ov.__version__.partition("-")[0]
    kinds = ("step", "sequence")

    def __init__(self) -> None:
        self._core = ov.Core()

    def set_num_threads(self, threads: int) -> None:
        settings = {
            "INFERENCE_PRECISION_HINT": "f32",  # the default may be bfloat16
            "INFERENCE_NUM_THREADS": str(threads),
            "NUM_STREAMS": "1",
            "ENABLE_CPU_PINNING": "NO",  # the process is pinned as a whole
        }
        self._core.set_property("CPU", settings)

    def runners(self, problem: Problem) -> list[Runner]:
        workload = problem.workload
        model = self._core.read_model(build_model(workload, problem.weights).SerializeToString())
        compiled = self._core.compile_model(model, "CPU")
        names, shape = state_names(workload), state_shape(workload)
        # Copies that OpenVINO owns; over an array's own memory a tensor would not keep the array alive.
        x = ov.Tensor(np.ascontiguousarray(problem.x.transpose(1, 0, 2)))
        y = ov.Tensor(np.zeros((workload.steps, *shape), np.float32))
        memory = [{name: ov.Tensor(np.zeros(shape, np.float32)) for name in names} for _ in range(2)]

        def request(old: dict[str, ov.Tensor], new: dict[str, ov.Tensor]) -> ov.InferRequest:
            made = compiled.create_infer_request()
            made.set_tensor("x", x)
            made.set_tensor("y", y)
            for name in names:
                made.set_tensor(name, old[name])
                made.set_tensor(f"{name}_next", new[name])
            return made

        # States go to and fro between two sets of memory.
        requests = [request(memory[0], memory[1]), request(memory[1], memory[0])] if names else [request({}, {})]
        turns = cycle(requests)

        def run() -> None:
            next(turns).infer(share_outputs=True)

        def result() -> Array:
            nonlocal turns
            turns = cycle(requests)
            for state in memory[0].values():
                state.data[:] = 0
            several(workload, run)
            return last_output(y.data).copy()

        return [Runner("infer request", run, result)]
