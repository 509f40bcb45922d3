"""Models of other frameworks, as `from_onnx` reads them, against ONNX Runtime on the same files.

    python benchmarks/interop.py                       # a minute
    python benchmarks/interop.py --only silero --json interop.json

Both run in one process, in turns, on one thread. silero-vad is the voice detector's own file for 16,000 samples a
second: one stream, 32 ms a step, its state fed back; ONNX Runtime with memory bound once, and plainly, of which the
faster counts. The CRNN reads text in images of 32 x 128: seven convolutions, two bidirectional LSTMs of 256 units, a
linear layer. Results are compared first. The ratio is the median over the rounds of ONNX Runtime's time to ours; beside
it is the goal.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from engines import Array, Runner
from measure import FULL, SHORT, Effort, interleave, pin
from report import format_seconds

RATE, PIECE = 16000, 576  # samples a second; of a step, 64 of them for the second time
HEIGHT, WIDTH, LETTERS = 32, 128, 37
CLOSE = 1e-4  # of the largest number


@dataclass(frozen=True)
class Case:
    name: str
    goal: float
    runners: Callable[[], list[Runner]]  # ours, then ONNX Runtime's


def session(path: Path) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def voice() -> list[Runner]:
    """Results are after a second step from the same state."""
    import onnxruntime as ort

    import recurra as rc

    found = importlib.util.find_spec("silero_vad")
    if found is None or found.origin is None:
        raise SystemExit("interop.py: silero-vad is not installed: pip install --no-deps silero-vad")
    path = Path(found.origin).parent / "data" / "silero_vad.onnx"
    x = 0.1 * np.random.default_rng(0).standard_normal((1, PIECE), np.float32)
    stream, theirs = rc.from_onnx(path, sr=RATE).stream(), session(path)
    zeros, rate = np.zeros((2, 1, 128), np.float32), np.array(RATE)
    feed = {"input": x, "state": zeros, "sr": rate}

    def value(array: Array) -> Any:
        made = ort.OrtValue.ortvalue_from_shape_and_type(array.shape, array.dtype.type)
        made.update_inplace(array)
        return made

    memory, y = [value(zeros), value(zeros)], value(np.zeros((1, 1), np.float32))
    bindings = []
    for old, new in (memory, memory[::-1]):
        binding = theirs.io_binding()
        binding.bind_ortvalue_input("input", value(x))
        binding.bind_ortvalue_input("sr", value(rate))
        binding.bind_ortvalue_input("state", old)
        binding.bind_ortvalue_output("output", y)
        binding.bind_ortvalue_output("stateN", new)
        bindings.append(binding)
    turns = cycle(bindings)

    def plain() -> Array:
        made, feed["state"] = theirs.run(None, feed)
        return np.asarray(made)

    def bound() -> Array:
        theirs.run_with_iobinding(next(turns))
        return np.asarray(y.numpy())

    def twice(run: Callable[[], Array]) -> Callable[[], Array]:
        return lambda: [run(), run()][1].copy()

    return [
        Runner("recurra", lambda: stream.step(x), twice(lambda: np.asarray(stream.step(x)))),
        Runner("bound run", lambda: theirs.run_with_iobinding(next(turns)), twice(bound)),
        Runner("run", plain, twice(plain)),
    ]


def crnn(batch: int) -> list[Runner]:
    import torch
    from torch import nn

    import recurra as rc

    def block(before: int, after: int, size: int = 3, normal: bool = False) -> list[nn.Module]:
        norm = [nn.BatchNorm2d(after)] if normal else []
        return [nn.Conv2d(before, after, size, padding=size // 2 if size == 3 else 0), *norm, nn.ReLU()]

    torch.manual_seed(0)
    images = nn.Sequential(
        *[*block(1, 64), nn.MaxPool2d(2), *block(64, 128), nn.MaxPool2d(2)],
        *[*block(128, 256, normal=True), *block(256, 256), nn.MaxPool2d(2, (2, 1), (0, 1))],
        *[*block(256, 512, normal=True), *block(512, 512), nn.MaxPool2d(2, (2, 1), (0, 1))],
        *[*block(512, 512, 2, normal=True), nn.Flatten(1, 2)],
    )
    layers = [rc.LSTM(512, 256, 2, bidirectional=True, seed=1), rc.Linear(512, LETTERS, seed=2)]
    made = rc.Sequential(rc.from_torch(images.eval(), height=HEIGHT), *layers)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "crnn.onnx"
        made.to_onnx(path)
        model, theirs = rc.from_onnx(path), session(path)
    x = np.random.default_rng(0).standard_normal((batch, WIDTH, HEIGHT), np.float32)
    feed = {"x": x, **{name: np.zeros((4, batch, 256), np.float32) for name in model.state_names}}

    def run() -> Any:
        return model(x)[0]

    def their_run() -> Any:
        return theirs.run(["y"], feed)[0]

    return [Runner("recurra", run, run), Runner("run", their_run, their_run)]


CASES = [
    Case("silero-vad, 16 kHz, a step of 32 ms", 2.5, voice),
    Case("CRNN, 32 x 128, batch 1", 1.0, lambda: crnn(1)),
    Case("CRNN, 32 x 128, batch 16", 1.0, lambda: crnn(16)),
]


def measure(case: Case, effort: Effort) -> dict[str, Any]:
    runners = case.runners()
    first, *others = [runner.result() for runner in runners]
    for one in others:
        if not np.abs(one - first).max() <= CLOSE * max(1e-3, np.abs(first).max()):
            raise SystemExit(f"interop.py: {case.name}: results differ by {np.abs(one - first).max():.3g}")
    times = interleave(runners, effort, 0.0)
    seconds = np.median(times, axis=0)
    return {
        "name": case.name,
        "seconds": {runner.label: float(one) for runner, one in zip(runners, seconds, strict=True)},
        "ratio": float(np.median(times[:, 1:].min(axis=1) / times[:, 0])),
        "goal": case.goal,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure imported models against ONNX Runtime.")
    parser.add_argument("--only", default="", help='cases whose name contains this, such as "CRNN"')
    parser.add_argument("--short", action="store_true", help="a few seconds")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    arguments = parser.parse_args()
    chosen = [case for case in CASES if arguments.only in case.name]
    if not chosen:
        raise SystemExit(f"interop.py: no case's name contains {arguments.only!r}")

    pin(1)
    import onnxruntime
    import torch

    import recurra as rc

    rc.set_num_threads(1)
    torch.set_num_threads(1)
    print(f"recurra {rc.__version__} ({rc.isa()}), onnxruntime {onnxruntime.__version__}, one thread\n")
    print("| | recurra | onnxruntime | ratio | at least | |\n|---|---:|---:|---:|---:|---|")
    results = []
    for case in chosen:
        results.append(measure(case, SHORT if arguments.short else FULL))
        ours, *theirs = results[-1]["seconds"].values()
        mark = "ok" if results[-1]["ratio"] >= case.goal else "**below**"
        times = f"{format_seconds(ours)} | {format_seconds(min(theirs))}"
        print(f"| {case.name} | {times} | {results[-1]['ratio']:.2f} | {case.goal:g} | {mark} |", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
