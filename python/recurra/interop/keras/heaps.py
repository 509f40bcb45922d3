"""Checks the global heaps of untrusted HDF5 files, which hold their texts: HDF5's library can loop forever on a damaged
one."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

from recurra.interop.keras.source import refused

#: The beginning of a heap: its signature, version 1 and zeros; its size in bytes follows.
_BEGIN = b"GCOL\x01\0\0\0"
_HEAD = struct.Struct("<8sQ")
#: An object's number, references and size. Object 0 is the free space, whose size includes these 16 bytes.
_OBJECT = struct.Struct("<HHIQ")
#: Bounds: a file's objects, and the bytes that are read at a time to find heaps.
_MOST_OBJECTS, _CHUNK = 1_000_000, 1 << 20


def check(file: BinaryIO) -> None:
    """Raise unless the objects of every global heap lie one behind the other and within it. Keeps the file's position.

    Raises:
        ModelFormatError: they do not, or there are too many.
    """
    place, left = file.tell(), _MOST_OBJECTS
    for begin in list(_found(file, left)):
        file.seek(begin)
        _signature, size = _HEAD.unpack(file.read(_HEAD.size).ljust(_HEAD.size, b"\0"))
        at, end = begin + _HEAD.size, begin + size
        while at + _OBJECT.size <= end:
            file.seek(at)
            content = file.read(_OBJECT.size)
            number, _references, _reserved, length = _OBJECT.unpack(content.ljust(_OBJECT.size, b"\0"))
            taken = length if number == 0 else _OBJECT.size + (length + 7) // 8 * 8
            left -= 1
            if len(content) < _OBJECT.size or not _OBJECT.size <= taken <= end - at or left < 0:
                raise refused("got an HDF5 file with a damaged heap of texts, expected one as Keras writes it")
            at += taken
    file.seek(place)


def _found(file: BinaryIO, most: int) -> Iterator[int]:
    """Where heaps begin."""
    file.seek(0)
    begin, rest = 0, b""
    while chunk := file.read(_CHUNK):
        content = rest + chunk
        at = content.find(_BEGIN)
        while at >= 0 and most > 0:
            yield begin + at
            most -= 1
            at = content.find(_BEGIN, at + len(_BEGIN))
        rest = content[-len(_BEGIN) + 1 :]
        begin += len(content) - len(rest)
