"""Damages to a safetensors file: of its bytes, of its header, of the JSON within."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

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


def flip(rng: np.random.Generator, content: bytes) -> bytes:
    """Bits, anywhere or in the header."""
    changed = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        end = min(len(changed), 600) if rng.random() < 0.6 else len(changed)
        changed[rng.integers(end)] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def cut(rng: np.random.Generator, content: bytes) -> bytes:
    return content[: rng.integers(len(content))]


def grow(rng: np.random.Generator, content: bytes) -> bytes:
    return content + rng.bytes(int(rng.integers(1, 50)))


def relength(rng: np.random.Generator, content: bytes) -> bytes:
    """Another length of the header."""
    lengths = [0, 1, 2, 7, 8, 2**20, 2**31, 2**40, 2**63, 2**64 - 1, len(content), len(content) - 8, len(content) - 7]
    return struct.pack("<Q", lengths[rng.integers(len(lengths))]) + content[8:]


def header_length(content: bytes) -> int:
    return int(struct.unpack("<Q", content[:8])[0])


def rebuilt(content: bytes, header: dict[str, Any] | bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + header_length(content) :]


def edit(rng: np.random.Generator, content: bytes) -> bytes:
    """Another value somewhere in the header, or in the configuration within."""
    header = json.loads(content[8 : 8 + header_length(content)])
    metadata = header["__metadata__"]
    inner = [key for key, value in metadata.items() if value[:1] in "{["]
    if inner and rng.random() < 0.7:
        key = inner[rng.integers(len(inner))]
        value = json.loads(metadata[key])
        for _ in range(rng.integers(1, 3)):
            value = changed(rng, value)
        metadata[key] = json.dumps(value)
    else:
        header = changed(rng, header)
    return rebuilt(content, header)


def changed(rng: np.random.Generator, value: Any) -> Any:
    """The same but for one place, most often a number."""
    parts = list(places(value))
    weights = np.array([4.0 if type(one) in (int, float) else 1.0 for _path, one in parts])
    path, old = parts[rng.choice(len(parts), p=weights / weights.sum())]
    if path and rng.random() < 0.1:
        return put(value, path[:-1], _without(rng, value, path[:-1]))
    return put(value, path, _other(rng, old))


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every part of nested lists and dicts."""
    yield path, value
    for key, one in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(one, (*path, key))


def put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """The same with another part."""
    if not path:
        return new
    if isinstance(value, dict):
        return {**value, path[0]: put(value[path[0]], path[1:], new)}
    return [*value[: path[0]], put(value[path[0]], path[1:], new), *value[path[0] + 1 :]]


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


def bomb(rng: np.random.Generator, content: bytes) -> bytes:
    """Nested brackets, layers by the thousand, keys that come twice."""
    deep = int(rng.choice([1000, 100_000]))
    header = content[8 : 8 + header_length(content)]
    kind = rng.integers(4)
    if kind == 0:
        return rebuilt(content, b"[" * deep + b"]" * deep)
    if kind == 1:
        return rebuilt(content, b'{"__metadata__":' + b'{"a":' * deep + b"1" + b"}" * deep + b"}")
    if kind == 2:
        return rebuilt(content, header.replace(b"{", b"{" + header[1:20] + b'"a":1,', 1))
    metadata = json.loads(header)
    nested = '{"type":"Sequential","config":{"layers":[' * deep + "]}}" * deep
    metadata["__metadata__"]["config"] = nested
    return rebuilt(content, metadata)
