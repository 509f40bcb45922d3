"""ncnn: a network of LSTM, GRU or RNN layers in 32 bits, batch 1, one step; states are put in and taken out again."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import ncnn
import numpy as np

from engines import Array, KeepsThreads, Problem, Runner, reorder_gates, several
from workloads import Workload

MAGIC = "7767517"  # the first line of every network's text
AS_FLOATS = b"\0\0\0\0"  # before an array that is stored in 32 bits
GATE_ORDER = {"rnn": [0], "lstm": [0, 1, 3, 2], "gru": [0, 1, 2]}  # ncnn's ifog from ifgo; rzn
REDUCED = ["fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_packed", "bf16_storage", "int8_inference"]


class NcnnEngine(KeepsThreads):
    name = "ncnn"
    version = ncnn.__version__
    kinds = ("step",)

    def runners(self, problem: Problem) -> list[Runner]:
        workload = problem.workload
        if workload.batch > 1:
            return []
        network = self._load(workload, problem.weights)
        x = ncnn.Mat(problem.x[0]).clone()  # the first only looks at the array, and does not keep it alive
        top = f"y_{workload.num_layers - 1}"
        states = {name: ncnn.Mat(w=workload.hidden_size, h=1) for name in _state_names(workload)}
        outputs = [(name, f"{name}_next") for name in states]

        def run() -> ncnn.Mat:
            extractor = network.create_extractor()
            extractor.input("x", x)
            for name, state in states.items():
                extractor.input(name, state)
            y = extractor.extract(top)[1]
            for name, new in outputs:
                states[name] = extractor.extract(new)[1]
            return y

        def result() -> Array:
            for state in states.values():
                state.fill(0.0)
            return np.array(several(workload, run)).reshape(1, -1)

        return [Runner("extractor", run, result)]

    def _load(self, workload: Workload, weights: dict[str, Array]) -> ncnn.Net:
        network = ncnn.Net()
        for kind in REDUCED:
            setattr(network.opt, f"use_{kind}", False)
        network.opt.num_threads = self._threads
        if network.load_param_mem(_layers(workload)) != 0:
            raise RuntimeError("ncnn does not take the layers")
        with TemporaryDirectory() as folder:
            path = Path(folder) / "weights.bin"
            path.write_bytes(b"".join(AS_FLOATS + array.tobytes() for array in _arrays(workload, weights)))
            if network.load_model(str(path)) != 0:
                raise RuntimeError("ncnn does not take the weights")
        return network


def _state_names(workload: Workload) -> list[str]:
    return [name for layer in range(workload.num_layers) for name in _layer_states(workload, layer)]


def _layer_states(workload: Workload, layer: int) -> list[str]:
    return [f"{kind}_{layer}" for kind in ("hc" if workload.cell == "lstm" else "h")]


def _layers(workload: Workload) -> str:
    """A line for each layer: type, name, numbers of inputs and outputs, their names, parameters."""
    names = ["x", *_state_names(workload)]
    lines = [f"Input {name} 0 1 {name}" for name in names]
    below = "x"
    for layer, features in enumerate(workload.layer_input_sizes):
        states = _layer_states(workload, layer)
        inputs, outputs = [below, *states], [f"y_{layer}", *(f"{name}_next" for name in states)]
        size = len(GATE_ORDER[workload.cell]) * workload.hidden_size * features
        parameters = f"0={workload.hidden_size} 1={size}"
        blobs = " ".join(inputs + outputs)
        lines.append(f"{workload.cell.upper()} layer_{layer} {len(inputs)} {len(outputs)} {blobs} {parameters}")
        names += outputs
        below = f"y_{layer}"
    return "\n".join([MAGIC, f"{len(lines)} {len(names)}", *lines, ""])


def _arrays(workload: Workload, weights: dict[str, Array]) -> list[Array]:
    """Of each layer the input's weights, the biases, the recurrent weights.

    The two biases are one, except those of the reset-after GRU's candidate.
    """
    order = GATE_ORDER[workload.cell]
    arrays = []
    for layer in range(workload.num_layers):
        w, r, bias, recurrent_bias = (
            reorder_gates(weights[f"{name}_l{layer}"], order)
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        both = bias + recurrent_bias
        if workload.cell == "gru":
            candidate = slice(2 * workload.hidden_size, None)
            both = np.concatenate([both[: candidate.start], bias[candidate], recurrent_bias[candidate]])
        arrays += [w, both, r]
    return arrays
