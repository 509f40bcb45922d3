"""Reads, within bounds, and writes protocol buffers' wire format: https://protobuf.dev/programming-guides/encoding."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recurra.common.errors import ModelFormatError
from recurra.common.typing import Array

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
#: Bound on the nesting of messages; ONNX needs about ten, and four more for each level of subgraphs.
_DEEPEST = 64


@dataclass(frozen=True)
class Field:
    """A field of a message: its name, its kind, and whether it is repeated.

    kind: "int" (int64), "float", "double", "text", "bytes", or the table of a nested message.
    """

    name: str
    kind: str | Table
    many: bool = False


Table = Mapping[int, Field]

_PACKED: dict[Any, tuple[int, str]] = {"float": (_FIXED32, "<f4"), "double": (_FIXED64, "<f8")}


class Reader:
    """Reads messages with at most `most` fields in all."""

    def __init__(self, most: int = 2_000_000) -> None:
        self._left = most

    def message(self, table: Table, data: memoryview, depth: int = 0) -> dict[str, Any]:
        """The message as a dict: lists for repeated fields, no entry for other fields that are absent."""
        if depth > _DEEPEST:
            raise ModelFormatError(f"got messages nested more than {_DEEPEST} deep, expected fewer")
        found: dict[str, Any] = {field.name: [] for field in table.values() if field.many}
        for number, wire, value in self._fields(data):
            field = table.get(number)
            if field is None:
                continue
            for one in self._values(field, wire, value, depth):
                if field.many:
                    found[field.name].append(one)
                else:
                    found[field.name] = one
        return found

    def _fields(self, data: memoryview) -> Iterator[tuple[int, int, Any]]:
        at, end = 0, len(data)
        while at < end:
            self._left -= 1
            if self._left < 0:
                raise ModelFormatError("got more fields than any model has, expected at most two million")
            key, at = _read_varint(data, at)
            number, wire = key >> 3, key & 7
            if wire == _VARINT:
                value, at = _read_varint(data, at)
                yield number, wire, value
                continue
            size = {_FIXED64: 8, _FIXED32: 4}.get(wire)
            if wire == _BYTES:
                size, at = _read_varint(data, at)
            if size is None or number == 0:
                raise ModelFormatError(
                    f"got a field {number} of wire type {wire}, expected protocol buffers; no ONNX file"
                )
            if size > end - at:
                raise ModelFormatError(f"got a field of {size} bytes where {end - at} are left; the file is cut off")
            yield number, wire, data[at : at + size]
            at += size

    def _values(self, field: Field, wire: int, value: Any, depth: int) -> Iterator[Any]:
        kind = field.kind
        if kind == "int" and wire == _VARINT:
            yield value - (1 << 64) if value >> 63 else value
        elif kind == "int" and wire == _BYTES and field.many:
            yield _varints(value)
        elif kind in ("float", "double") and field.many and wire == _BYTES:
            yield _numbers(value, _PACKED[kind][1])
        elif kind in ("float", "double") and wire == _PACKED[kind][0]:
            yield (
                np.frombuffer(value, _PACKED[kind][1])
                if field.many
                else float(np.frombuffer(value, _PACKED[kind][1])[0])
            )
        elif kind == "text" and wire == _BYTES:
            yield _text(value)
        elif kind == "bytes" and wire == _BYTES:
            yield value
        elif isinstance(kind, Mapping) and wire == _BYTES:
            yield self.message(kind, value, depth + 1)
        else:
            raise ModelFormatError(f"got {field.name} of wire type {wire}, which it cannot have; the file is damaged")


def _text(value: memoryview) -> str:
    try:
        return bytes(value).decode()
    except UnicodeDecodeError as error:
        raise ModelFormatError(f"got a name that is no UTF-8 ({error.reason}); the file is damaged") from error


def _read_varint(data: memoryview, at: int) -> tuple[int, int]:
    result = shift = 0
    while shift < 70:
        if at >= len(data):
            raise ModelFormatError("got a number that goes on beyond the end; the file is cut off")
        byte = data[at]
        at += 1
        result |= (byte & 127) << shift
        if byte < 128:
            return result & ((1 << 64) - 1), at
        shift += 7
    raise ModelFormatError("got a number of more than ten bytes; the file is damaged")


def _numbers(value: memoryview, dtype: str) -> Array:
    if len(value) % np.dtype(dtype).itemsize:
        raise ModelFormatError(f"got {len(value)} bytes of numbers of {np.dtype(dtype).itemsize} bytes each; damaged")
    return np.frombuffer(value, dtype)


def _varints(value: memoryview) -> Array:
    """Decode packed varints, vectorised."""
    raw = np.frombuffer(value, np.uint8)
    if not raw.size:
        return np.zeros(0, np.int64)
    ends = np.flatnonzero(raw < 128)
    if not ends.size or ends[-1] != raw.size - 1:
        raise ModelFormatError("got a list of numbers whose last one goes on beyond its end; the file is damaged")
    starts = np.concatenate(([0], ends[:-1] + 1))
    longest = int((ends - starts).max()) + 1
    if longest > 10:
        raise ModelFormatError("got a number of more than ten bytes; the file is damaged")
    found = np.zeros(ends.size, np.uint64)
    for place in range(longest):
        there = starts + place <= ends
        part = (raw[starts[there] + place] & np.uint8(127)).astype(np.uint64)
        found[there] |= part << np.uint64(7 * place)
    return found.view(np.int64)


def joined(parts: Sequence[Any]) -> Array:
    """The numbers of a repeated field, packed or not, in one array."""
    return np.concatenate([np.atleast_1d(one) for one in parts]) if parts else np.zeros(0, np.int64)


# Writing


def encode(table: Table, message: Mapping[str, Any]) -> list[bytes]:
    """Encode a message, in parts; absent fields are left out."""
    parts: list[bytes] = []
    for number, field in table.items():
        if field.name not in message:
            continue
        values = message[field.name]
        for value in values if field.many else [values]:
            parts += _encoded(number, field.kind, value)
    return parts


def _encoded(number: int, kind: str | Table, value: Any) -> list[bytes]:
    if kind == "int":
        return [_key(number, _VARINT), varint(int(value) & ((1 << 64) - 1))]
    if kind == "float":
        return [_key(number, _FIXED32), struct.pack("<f", value)]
    if kind == "double":
        return [_key(number, _FIXED64), struct.pack("<d", value)]
    if isinstance(kind, Mapping):
        parts = encode(kind, value)
    else:
        parts = [value.encode() if kind == "text" else value]
    return [_key(number, _BYTES), varint(sum(map(len, parts))), *parts]


def _key(number: int, wire: int) -> bytes:
    return varint(number << 3 | wire)


def varint(value: int) -> bytes:
    """Encode a number from 0 to 2^64 - 1."""
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)
