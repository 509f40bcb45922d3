"""The networks that serve, as layers and as ONNX graphs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from engines import Array, make_problem
from workloads import Workload

RATE = np.array(16000)  # samples a second


class Network:
    """An LSTM as a layer and as an ONNX graph. States of n rows are arrays (any, n, size)."""

    def __init__(self, features: int, hidden: int) -> None:
        workload = Workload("step", "lstm", features, hidden, 1, False, 1, 1)
        self._problem = make_problem(workload, False)
        self.name, self.features, self.outputs = f"LSTM {features}-{hidden}", features, hidden
        self.states = [np.zeros((1, hidden), np.float32)] * 2

    def model(self) -> Any:
        import recurra as rc

        layer = rc.LSTM(self.features, self._problem.workload.hidden_size)
        layer.load_state_dict(self._problem.weights)
        return layer

    def graph(self) -> bytes:
        from engines.onnx_graph import build_model

        any_batch = replace(self._problem.workload, batch="N")  # type: ignore[arg-type] # a name is a size left open
        return build_model(any_batch, self._problem.weights).SerializeToString()

    def session(self) -> Any:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        return ort.InferenceSession(self.graph(), options, providers=["CPUExecutionProvider"])

    def run(self, session: Any, x: Array, states: Sequence[Array]) -> tuple[Array, list[Array]]:
        """Of (n, features) and states, the outputs (n, ...) and the next states."""
        y, h, c = session.run(None, {"x": x[None], "h_0": states[0], "c_0": states[1]})
        return y[0, 0] if y.ndim == 4 else y[0], [h, c]


class Silero(Network):
    """The voice detector: 32 ms of sound, and the 64 samples before, to a probability."""

    def __init__(self) -> None:
        found = find_spec("silero_vad")
        if found is None or found.origin is None:
            raise SystemExit("serving: silero-vad is not installed; run pip install --no-deps silero-vad")
        self._path = Path(found.origin).parent / "data" / "silero_vad.onnx"
        self.name, self.features, self.outputs = "silero-vad", 576, 1
        self.states = [np.zeros((2, 128), np.float32)]

    def model(self) -> Any:
        import recurra as rc

        return rc.from_onnx(self._path, sr=16000)

    def graph(self) -> bytes:
        return self._path.read_bytes()

    def run(self, session: Any, x: Array, states: Sequence[Array]) -> tuple[Array, list[Array]]:
        y, state = session.run(None, {"input": x, "state": states[0], "sr": RATE})
        return y, [state]
