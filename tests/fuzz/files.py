"""Fuzzes files: whatever is done to a model's file or a checkpoint, `load` gives one clear error, in bounded memory.

python tests/fuzz/files.py --seconds 600
"""

from __future__ import annotations

import json
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import harness
import models
import numpy as np

import recurra as rc

#: Beside it a model of a megabyte has room, and one of a gigabyte, which no file here backs, has not.
MEMORY = 3 << 29

NUMBERS = [
    0,
    1,
    -1,
    2**31 - 1,
    2**31,
    2**40,
    2**63 - 1,
    2**64,
    -(2**63),
    10**400,
    1e308,
    -0.5,
    True,
    None,
    "",
    "x" * 99,
]


@cache
def originals() -> list[bytes]:
    """Files as the library writes them: models of all kinds, and a checkpoint."""
    rng = np.random.default_rng(0)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        for _ in range(12):
            models.draw(rng)[0].save(path)
            found.append(path.read_bytes())
    return found + [content for name, content in _run().items() if "backup" in name]


def _train(folder: Path, epochs: int, model: Any = None) -> None:
    x, y = np.ones((4, 3, 2), np.float32), np.zeros((4, 3), np.int64)
    model = model or _model()
    saving = rc.callbacks.ModelCheckpoint(folder / "best-{epoch}.safetensors", keep=1)
    stopping = rc.callbacks.EarlyStopping("loss", restore_best_weights=True, patience=9)
    told = [saving, stopping, rc.callbacks.BackupAndRestore(folder / "backup")]
    loss, optimizer = rc.losses.CrossEntropy(), rc.optim.Adam(0.01)
    options: Any = {"batch_size": 2, "callbacks": told, "metrics": ["accuracy", "f1"], "seed": 0, "verbose": 0}
    model.fit(x, y, loss=loss, optimizer=optimizer, epochs=epochs, **options)


def _model() -> Any:
    return rc.Sequential(rc.GRU(2, 3), rc.Linear(3, 2), seed=0)


@cache
def _run() -> dict[str, bytes]:
    """The files of a run of two epochs."""
    with tempfile.TemporaryDirectory() as folder:
        _train(Path(folder), 2)
        return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def case(rng: np.random.Generator, report: Callable[[str], None]) -> str | None:
    """A damaged file, loaded, or found by a run that wants to go on."""
    if rng.random() < 0.25:
        return _resumed(rng, report)
    original = originals()[rng.integers(len(originals()))]
    damages = (_flip, _cut, _grow, _length, _edit, _edit, _edit, _bomb, _splice)
    damage = damages[rng.integers(len(damages))]
    content = damage(rng, original)
    report(f"{damage.__name__} of a file of {len(original)} bytes")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        path.write_bytes(content)
        try:
            model = rc.load(path, custom={"Doubled": models.Doubled})
            if content != original and damage is not _edit:
                return None if model is not None else "nothing was loaded"
        except BaseException as error:  # noqa: BLE001 - whatever comes out is looked at
            return harness.unexpected(error, (rc.ModelFormatError,))
    return None


def _resumed(rng: np.random.Generator, report: Callable[[str], None]) -> str | None:
    """A run that is to go on from damaged files: it does, or it says why not and leaves the model and other files alone."""
    with tempfile.TemporaryDirectory() as place:
        folder, elsewhere = Path(place) / "run", Path(place) / "elsewhere.safetensors"
        elsewhere.write_bytes(b"precious")
        damaged = []
        for name, content in _run().items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            if rng.random() < 0.7:
                damage = (_flip, _cut, _edit, _edit, _edit, _bomb)[rng.integers(6)]
                content = damage(rng, content)
                if rng.random() < 0.5:
                    content = _redirected(content, elsewhere)
                damaged.append(f"{damage.__name__} {name}")
            (folder / name).write_bytes(content)
        report(f"a run with {damaged}")
        model = _model()
        before = model.state_dict()
        try:
            _train(folder, 3, model)
        except BaseException as error:  # noqa: BLE001 - whatever comes out is looked at
            if found := harness.unexpected(error, (ValueError, TypeError, OSError)):
                return found
            if any(not np.array_equal(one, before[name]) for name, one in model.state_dict().items()):
                return f"the model is half restored after {error}"
        if not elsewhere.exists() or elsewhere.read_bytes() != b"precious":
            return "a file outside the run's directory was touched"
    return None


def _redirected(content: bytes, path: Path) -> bytes:
    """Names of files within replaced by another."""
    try:
        header = json.loads(content[8 : 8 + _header_length(content)])
        training = header["__metadata__"]["training"]
        parts = list(_places(json.loads(training)))
    except (KeyError, ValueError, TypeError, RecursionError, struct.error):
        return content
    for _place, value in parts:
        if isinstance(value, str) and value.endswith(".safetensors"):
            training = training.replace(json.dumps(value), json.dumps(str(path)))
    header["__metadata__"]["training"] = training
    return _rebuilt(content, header)


def _flip(rng: np.random.Generator, content: bytes) -> bytes:
    """Bits, anywhere or in the header."""
    changed = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        end = min(len(changed), 600) if rng.random() < 0.6 else len(changed)
        changed[rng.integers(end)] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def _cut(rng: np.random.Generator, content: bytes) -> bytes:
    return content[: rng.integers(len(content))]


def _grow(rng: np.random.Generator, content: bytes) -> bytes:
    return content + rng.bytes(int(rng.integers(1, 50)))


def _length(rng: np.random.Generator, content: bytes) -> bytes:
    """Another length of the header."""
    lengths = [0, 1, 2, 7, 8, 2**20, 2**31, 2**40, 2**63, 2**64 - 1, len(content), len(content) - 8, len(content) - 7]
    return struct.pack("<Q", lengths[rng.integers(len(lengths))]) + content[8:]


def _splice(rng: np.random.Generator, content: bytes) -> bytes:
    """The header of one file, the arrays of another."""
    other = originals()[rng.integers(len(originals()))]
    return content[: 8 + _header_length(content)] + other[8 + _header_length(other) :]


def _header_length(content: bytes) -> int:
    return int(struct.unpack("<Q", content[:8])[0])


def _rebuilt(content: bytes, header: dict[str, Any] | bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + _header_length(content) :]


def _edit(rng: np.random.Generator, content: bytes) -> bytes:
    """Another value somewhere in the header, or in the configuration within."""
    header = json.loads(content[8 : 8 + _header_length(content)])
    metadata = header["__metadata__"]
    inner = [key for key, value in metadata.items() if value[:1] in "{["]
    if inner and rng.random() < 0.7:
        key = inner[rng.integers(len(inner))]
        value = json.loads(metadata[key])
        for _ in range(rng.integers(1, 3)):
            value = _changed(rng, value)
        metadata[key] = json.dumps(value)
    else:
        header = _changed(rng, header)
    return _rebuilt(content, header)


def _changed(rng: np.random.Generator, value: Any) -> Any:
    """The same but for one place, most often a number."""
    places = list(_places(value))
    weights = np.array([4.0 if type(one) in (int, float) else 1.0 for _path, one in places])
    path, old = places[rng.choice(len(places), p=weights / weights.sum())]
    if path and rng.random() < 0.1:
        return _put(value, path[:-1], _without(rng, value, path[:-1]))
    return _put(value, path, _other(rng, old))


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every part of nested lists and dicts."""
    yield path, value
    for key, one in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from _places(one, (*path, key))


def _put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    if isinstance(value, dict):
        return {**value, path[0]: _put(value[path[0]], path[1:], new)}
    return [*value[: path[0]], _put(value[path[0]], path[1:], new), *value[path[0] + 1 :]]


def _without(rng: np.random.Generator, value: Any, path: tuple[Any, ...]) -> Any:
    """A list or dict less one of its parts, or with one that nobody knows."""
    for key in path:
        value = value[key]
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    gone = keys[rng.integers(len(keys))]
    if isinstance(value, list):
        return [one for index, one in enumerate(value) if index != gone]
    return {**value, "unknown": 1} if rng.random() < 0.3 else {key: one for key, one in value.items() if key != gone}


def _other(rng: np.random.Generator, value: Any) -> Any:
    if isinstance(value, int) and rng.random() < 0.5:
        return value * int(rng.choice([2, 1000, 10**6, 10**9])) + int(rng.integers(-2, 3))
    if rng.random() < 0.15:
        return [value] * int(rng.choice([2, 100, 2000]))
    if rng.random() < 0.15:
        return {
            "type": "Linear",
            "config": {"in_features": 10**5, "out_features": 10**5, "bias": True},
            "trainable": True,
        }
    return NUMBERS[rng.integers(len(NUMBERS))]


def _bomb(rng: np.random.Generator, content: bytes) -> bytes:
    """Nested brackets, layers by the thousand, keys that come twice."""
    deep = int(rng.choice([1000, 100_000]))
    header = content[8 : 8 + _header_length(content)]
    kind = rng.integers(4)
    if kind == 0:
        return _rebuilt(content, b"[" * deep + b"]" * deep)
    if kind == 1:
        return _rebuilt(content, b'{"__metadata__":' + b'{"a":' * deep + b"1" + b"}" * deep + b"}")
    if kind == 2:
        return _rebuilt(content, header.replace(b"{", b"{" + header[1:20] + b'"a":1,', 1))
    metadata = json.loads(header)
    nested = '{"type":"Sequential","config":{"layers":[' * deep + "]}}" * deep
    metadata["__metadata__"]["config"] = nested
    return _rebuilt(content, metadata)


if __name__ == "__main__":
    sys.exit(harness.main(__file__, case, memory=MEMORY))
