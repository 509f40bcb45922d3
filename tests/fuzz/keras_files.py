"""Fuzzes files of Keras: whatever is done to one, `from_keras` gives a model or one clear error, in bounded memory.

python tests/fuzz/keras_files.py --seconds 600
"""

from __future__ import annotations

import io
import json
import sys
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import damage
import harness
import numpy as np

import recurra as rc

sys.path.append(str(Path(__file__).parents[1] / "helpers"))
import keras_layouts

#: Beside it a model of a megabyte has room, and one of a gigabyte, which no file here backs, has not.
MEMORY = 3 << 29


@cache
def originals() -> list[bytes]:
    return keras_layouts.originals()


def case(rng: np.random.Generator, report: Callable[[str], None]) -> str | None:
    """A damaged file, read."""
    damages = [damage.flip, damage.cut, damage.grow, _noise, _bomb, *[_edit] * 5]
    content, skip = harness.damaged(rng, report, originals(), damages), bool(rng.integers(2))
    return harness.read(content, lambda path: rc.from_keras(path, skip_padding=skip), (rc.ModelFormatError,))


def _noise(rng: np.random.Generator, content: bytes) -> bytes:
    """Bytes, anywhere."""
    changed = bytearray(content)
    for _ in range(rng.integers(1, 30)):
        changed[rng.integers(len(changed))] = [0, 255, int(rng.integers(256))][rng.integers(3)]
    return bytes(changed)


def _edit(rng: np.random.Generator, content: bytes) -> bytes:
    """Another value somewhere in the configuration, or another set of weights."""
    if content[:2] != b"PK":
        return _edited_legacy(rng, content)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    name = list(parts)[rng.integers(len(parts))] if rng.random() < 0.2 else "config.json"
    if name.endswith("json"):
        parts[name] = json.dumps(_changed(rng, json.loads(parts[name]))).encode()
    else:
        parts[name] = [damage.flip, damage.cut, _noise][rng.integers(3)](rng, parts[name])
    return _zipped(parts)


def _edited_legacy(rng: np.random.Generator, content: bytes) -> bytes:
    import h5py

    stream = io.BytesIO(content)
    with h5py.File(stream, "r+") as file:
        value = json.loads(file.attrs["model_config"])
        del file.attrs["model_config"]
        file.attrs["model_config"] = json.dumps(_changed(rng, value))
    return stream.getvalue()


def _changed(rng: np.random.Generator, value: Any) -> Any:
    for _ in range(rng.integers(1, 3)):
        value = damage.changed(rng, value)
    return value


def _zipped(parts: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
    return stream.getvalue()


def _bomb(rng: np.random.Generator, content: bytes) -> bytes:
    """Zeros that hardly take room, nested brackets, models within models."""
    return _bomb_of(int(rng.integers(4)), int(rng.choice([1000, 100_000])))


@cache
def _bomb_of(kind: int, deep: int) -> bytes:
    nested: bytes = b'{"class_name":"Sequential","config":{"layers":[' * deep + b"]}}" * deep
    parts = {"config.json": nested, "metadata.json": b"{}", "model.weights.h5": b"\x89HDF\r\n\x1a\n"}
    if kind == 0:
        parts["config.json"] = b"[" * deep + b"]" * deep
    if kind == 1:
        parts["model.weights.h5"] = bytes(100 << 20)
        parts["config.json"] = b'{"class_name":"Sequential","config":{"layers":[]}}'
    if kind == 2:
        parts["config.json"] = b" " * (100 << 20)
    return _zipped(parts, zipfile.ZIP_DEFLATED)


if __name__ == "__main__":
    sys.exit(harness.main(__file__, case, memory=MEMORY))
