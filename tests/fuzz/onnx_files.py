"""Fuzzes ONNX files: damaged, cut off, spliced, with other numbers in them. Each is refused by one kind of error, or
runs.

python tests/fuzz/onnx_files.py --seconds 600
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import harness
import numpy as np
from damage import cut, flip, grow, places, put

import recurra as rc
from recurra.interop.onnx import schema, wire

sys.path.append(str(Path(__file__).parents[1] / "helpers"))
from unrolled_cells import unrolled

NUMBERS = [0, 1, 2, 127, 128, 255, 2**14, 2**31 - 1, 2**31, 2**40, 2**63 - 1, 2**63, 2**64 - 1]


@cache
def seeds() -> list[bytes]:
    """Small models of all kinds."""
    x = rc.Input(features=3)
    h = rc.GRU(3, 4, 2, seed=1)(x)
    models: list[Any] = [
        rc.Sequential(rc.LSTM(3, 4, bidirectional=True, seed=1), rc.Linear(8, 2, seed=2), rc.Activation("softmax")),
        rc.Sequential(rc.Embedding(5, 3, seed=1), rc.Conv1d(3, 4, 3, seed=2), rc.MaxPool1d(2), rc.BatchNorm(4)),
        rc.Model(x, (rc.Pool("mean")(h), rc.RNN(4, 8, seed=2)(h, state=h.state), rc.Reverse()(x))),
        rc.AttentionPool(3, 4, seed=1),
    ]
    found = [unrolled("LSTM", 2), unrolled("GRU", 2)]
    with tempfile.TemporaryDirectory() as folder:
        for index, model in enumerate(models):
            for lengths in (False, True):
                path = Path(folder) / f"{index}.onnx"
                model.to_onnx(path, lengths=lengths)
                found.append(path.read_bytes())
    return found


def number(rng: np.random.Generator, content: bytes) -> bytes:
    """Another number, in as many bytes as it takes, in place of a byte."""
    made = wire.varint(NUMBERS[rng.integers(len(NUMBERS))])
    at = int(rng.integers(len(content)))
    keeps = rng.random() < 0.5
    return content[:at] + made + content[at + (len(made) if keeps else 1) :]


def splice(rng: np.random.Generator, content: bytes) -> bytes:
    """A piece once more, or in another place."""
    begin, at = (int(rng.integers(len(content))) for _ in range(2))
    piece = content[begin : begin + int(rng.integers(1, 200))]
    return content[:at] + piece + content[at + (len(piece) if rng.random() < 0.5 else 0) :]


def rename(rng: np.random.Generator, content: bytes) -> bytes:
    """A value takes another one's name, which makes cycles and unknown operators."""
    words = [
        b"Identity",
        b"LSTM_",
        b"MatMul",
        b"Transpose",
        b"Reshape",
        b"constant_0",
        b"Where",
        b"Add_",
        b"Concat",
        b"h_in",
        b"y",
        *(b"Sigmoid_", b"Gemm_", b"Gather_", b"Mul_", b"Split_", b"Tanh_"),
    ]
    old, new = words[rng.integers(len(words))], words[rng.integers(len(words))]
    parts = content.split(old)
    if len(parts) < 2:
        return flip(rng, content)
    at = int(rng.integers(1, len(parts)))
    return old.join(parts[:at]) + new[: len(old)].ljust(len(old), b"0") + old.join(parts[at:])


def nested(rng: np.random.Generator, content: bytes) -> bytes:
    """Messages within messages."""
    body = b""
    for _ in range(int(rng.choice([5, 50, 500, 5000]))):
        field = b"\x3a" if rng.random() < 0.9 else b"\x32"
        body = field + wire.varint(len(body)) + body
    return body + (content if rng.random() < 0.5 else b"")


def edit(rng: np.random.Generator, content: bytes) -> bytes:
    """Another number, name or list somewhere in a whole file."""
    try:
        model = wire.Reader().message(schema.MODEL, memoryview(content))
    except rc.ModelFormatError:
        return flip(rng, content)
    for _ in range(rng.integers(1, 3)):
        parts = [(path, one) for path, one in places(model) if path and not isinstance(one, memoryview)]
        path, old = parts[rng.integers(len(parts))]
        names = [one for _path, one in parts if isinstance(one, str)]
        new = old
        if isinstance(old, int):
            new = (NUMBERS[rng.integers(len(NUMBERS))] if rng.random() < 0.5 else old + int(rng.integers(-2, 3))) & (
                2**64 - 1
            )
        elif isinstance(old, str) and names:
            new = names[rng.integers(len(names))]
        elif isinstance(old, list) and old:
            at = int(rng.integers(len(old)))
            new = old[:at] + old[at + 1 :] if rng.random() < 0.5 else [*old, old[at]]
        model = put(model, path, new)
    return b"".join(wire.encode(schema.MODEL, model))


DAMAGES: list[Callable[[np.random.Generator, bytes], bytes]] = [
    *[edit] * 12,
    *(flip, cut, grow, number, number, splice, rename, nested),
]


def case(rng: np.random.Generator, report: Callable[[str], None]) -> str | None:
    content = harness.damaged(rng, report, seeds(), DAMAGES, times=(1, 1, 1, 2))
    try:
        model = rc.from_onnx(content)
    except Exception as error:  # noqa: BLE001 - which kinds may come out is what is asked
        return harness.unexpected(error, (rc.ModelFormatError,))
    try:
        model.import_report()
        given = {
            one.name: np.ones(
                [size if isinstance(size, int) and size < 100 else 3 for size in one.dims or (2, 3, 3)], one.dtype
            )
            for one in model._graph.inputs
            if one.name in model.inputs
        }
        model(given)
    except Exception as error:  # noqa: BLE001
        return harness.unexpected(error, (ValueError, TypeError))
    return None


if __name__ == "__main__":
    sys.exit(harness.main(__file__, case))
