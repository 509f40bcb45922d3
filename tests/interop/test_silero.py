"""The voice detectors in the package silero-vad against onnxruntime."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

import recurra as rc

SPEC = importlib.util.find_spec("silero_vad")  # the files alone; its code runs on torch

RATE = 16000


def data(name: str) -> Path:
    assert SPEC is not None
    assert SPEC.origin is not None
    return Path(SPEC.origin).parent / "data" / f"silero_vad{name}.onnx"


def session(path: Path) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def windows() -> Any:
    """(steps, 576): 512 samples and the 64 before them, of a voice-like buzz with pauses."""
    t = np.arange(RATE) / RATE
    phase = 2 * np.pi * (140 * t + 8 * np.sin(2 * np.pi * 2.5 * t))
    buzz = sum(np.sin(k * phase) / k for k in range(1, 12)) * (np.sin(2 * np.pi * 1.5 * t) > -0.3)
    sound = (0.15 * buzz + 0.003 * np.random.default_rng(0).standard_normal(t.size)).astype(np.float32)
    return np.lib.stride_tricks.sliding_window_view(np.pad(sound, (64, 0)), 576)[::512].copy()


def close(got: Any, wanted: Any) -> None:
    """To 1e-5 of the largest value: c has values of 70."""
    assert np.abs(got - wanted).max() <= 1e-5 * max(1.0, np.abs(wanted).max())


@pytest.mark.parametrize("name", ["", "_16k_op15", "_half", "_openvino_16k", "_op18_ifless"])
def test_a_stream_is_onnxruntimes_loop(name: str) -> None:
    runtime = session(data(name))
    asks_rate = "sr" in [one.name for one in runtime.get_inputs()]
    stream = rc.from_onnx(data(name), **({"sr": RATE} if asks_rate else {})).stream()
    state = np.zeros((2, 1, 128), np.float32)
    for window in windows():
        given = {"input": window[None], "state": state, **({"sr": np.array(RATE)} if asks_rate else {})}
        wanted, state = runtime.run(None, given)
        close(stream.step(window[None]), wanted)
        close(stream.state()[0], state)


def test_a_whole_sequence_at_once() -> None:
    zeros = np.zeros((1, 1, 128), np.float32)
    wanted, h, c = session(data("_16k_sequence")).run(None, {"input": windows(), "h": zeros, "c": zeros})
    model = rc.from_onnx(data("_16k_sequence"))
    y, state = model(windows())
    for got, expected in zip((y, *state), (wanted, h, c), strict=True):
        close(got, expected)
    assert "in 1 native models" in rc.from_onnx(data("_openvino_16k")).import_report()
