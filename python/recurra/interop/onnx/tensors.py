"""Converts TensorProto to numpy and back; external data is read only from the model's directory."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from recurra.common.errors import ModelFormatError
from recurra.common.typing import Array
from recurra.interop.onnx.wire import joined
from recurra.saving import whole_file

#: For each TensorProto.DataType, the dtype and the field that holds the numbers without raw_data.
_TYPES: dict[int, tuple[str, str]] = {
    1: ("float32", "float_data"),
    2: ("uint8", "int32_data"),
    3: ("int8", "int32_data"),
    4: ("uint16", "int32_data"),
    5: ("int16", "int32_data"),
    6: ("int32", "int32_data"),
    7: ("int64", "int64_data"),
    9: ("bool", "int32_data"),
    10: ("float16", "int32_data"),
    11: ("float64", "double_data"),
    12: ("uint32", "uint64_data"),
    13: ("uint64", "uint64_data"),
}
_NUMBERS = {name: number for number, (name, _field) in _TYPES.items()}


def dtype(number: int, what: str) -> np.dtype[Any]:
    """The dtype of a TensorProto.DataType."""
    if number not in _TYPES:
        raise ModelFormatError(f"got {what} of ONNX data type {number}, expected numbers or bool; convert it")
    return np.dtype(_TYPES[number][0])


def number_of(kind: np.dtype[Any]) -> int:
    """The TensorProto.DataType of a dtype."""
    return _NUMBERS[kind.name]


def read(tensor: Mapping[str, Any], directory: Path | None) -> Array:
    """The tensor as an array that shares no memory with the file."""
    name = tensor.get("name", "")
    dims: list[int] = joined(tensor["dims"]).tolist()
    kind = dtype(int(tensor.get("data_type", 0)), f"the tensor {name!r}")
    if len(dims) > 16 or any(one < 0 for one in dims):
        raise ModelFormatError(
            f"got the tensor {name!r} of shape {tuple(dims)[:20]}, expected sizes, at most 16 of them"
        )
    count = math.prod(dims)
    if tensor.get("data_location", 0) == 1:
        raw: Any = _external(tensor, directory, count * kind.itemsize)
    else:
        raw = tensor.get("raw_data")
    if raw is not None:
        if len(raw) != count * kind.itemsize:
            raise ModelFormatError(
                f"got the tensor {name!r} of shape {tuple(dims)} with {len(raw)} bytes, expected "
                f"{count * kind.itemsize}"
            )
        data = np.frombuffer(raw, kind.newbyteorder("<")).astype(kind)
    else:
        data = _typed(tensor[_TYPES[int(tensor["data_type"])][1]], kind)
        if data.size != count:
            raise ModelFormatError(
                f"got the tensor {name!r} of shape {tuple(dims)} with {data.size} numbers, expected {count}"
            )
    return data.reshape(dims)


def _typed(parts: list[Any], kind: np.dtype[Any]) -> Array:
    flat = joined(parts)
    if kind == np.float16:
        return flat.astype(np.uint16).view(np.float16)
    with np.errstate(all="ignore"):
        return flat.astype(kind)


def _external(tensor: Mapping[str, Any], directory: Path | None, size: int) -> bytes:
    """The data of an external tensor; raises unless its file, with links resolved, is within the model's directory."""
    about = {one.get("key"): one.get("value", "") for one in tensor["external_data"]}
    location = about.get("location", "")
    what = f"the tensor {tensor.get('name', '')!r} in the file {location!r}"
    if directory is None:
        raise ModelFormatError(f"got {what}, expected all data in the bytes; give the path of the model instead")
    home = directory.resolve()
    try:
        path = (home / location).resolve()
        inside = bool(location) and not Path(location).is_absolute() and path.is_relative_to(home)
    except (OSError, ValueError, RuntimeError):
        inside = False
    if not inside:
        raise ModelFormatError(f"got {what}, expected one in the model's directory or below; move it there")
    try:
        begin, length = int(about.get("offset", "0")), int(about.get("length", str(size)))
    except ValueError as error:
        raise ModelFormatError(f"got {what} at {about}, expected numbers as offset and length") from error
    try:
        file, room = whole_file.open_regular("from_onnx", path)
    except (ValueError, OSError) as error:
        raise ModelFormatError(f"got {what}, which cannot be read ({error}); put it beside the model") from error
    with file:
        if begin < 0 or length != size or begin + length > room:
            raise ModelFormatError(f"got {what} at {begin} with {length} bytes, expected {size} of its {room}")
        file.seek(begin, os.SEEK_SET)
        return file.read(length)


def write(name: str, array: Array) -> dict[str, Any]:
    """An array as a TensorProto."""
    plain = np.require(array, array.dtype.newbyteorder("<"), "C")
    return {"dims": plain.shape, "data_type": number_of(array.dtype), "name": name, "raw_data": plain.tobytes()}
