"""safetensors files with checksums: equal content gives equal bytes, and a flipped bit is detected."""

from __future__ import annotations

import io
import json
import os
import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from recurra.common.errors import ModelFormatError
from recurra.common.typing import Array
from recurra.saving import whole_file

_DTYPES = {
    "bool": "BOOL",
    "int8": "I8",
    "int16": "I16",
    "int32": "I32",
    "int64": "I64",
    "uint8": "U8",
    "uint16": "U16",
    "uint32": "U32",
    "uint64": "U64",
    "float16": "F16",
    "float32": "F32",
    "float64": "F64",
    "complex64": "C64",
}
_NAMES = {name: dtype for dtype, name in _DTYPES.items()}
#: The longest header that safetensors reads.
_LONGEST_HEADER = 100_000_000
#: Checksums of the arrays' bytes, and of the header with zeros in place of its own checksum.
_DATA, _HEADER = "data_checksum", "header_checksum"
_PREFIX = "sha256:"
_ZEROS = "0" * 64
#: Keys of the metadata of files written before there were checksums.
_WITHOUT_CHECKSUMS = {"format", "format_version", "library_version", "dtype", "config", "training"}


class DamagedFileError(ModelFormatError):
    """A file that is truncated, or whose bytes have changed since it was written."""


class Content(NamedTuple):
    """The content of a file; `whole`: whether its checksums match."""

    arrays: dict[str, Array]
    metadata: dict[str, str]
    whole: bool


def serialise(operation: str, arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> list[Any]:
    """The parts of a file in order: the header, then the arrays, sorted by item size (largest first) and name, so that
    every array is aligned."""
    plain: dict[str, Array] = {}
    for name, array in arrays.items():
        if array.dtype.name not in _DTYPES:
            raise ValueError(
                f"{operation}: got {name} of {array.dtype}, expected numbers or bool; convert it with astype(...)"
            )
        plain[name] = np.require(
            array, array.dtype.newbyteorder("<"), "C"
        )  # unlike ascontiguousarray, this keeps shape ()
    end = 0
    parts: list[Any] = []
    tensors: dict[str, Any] = {}
    for name in sorted(plain, key=lambda one: (-plain[one].itemsize, one)):
        array = plain[name]
        begin, end = end, end + array.nbytes
        tensors[name] = {"dtype": _DTYPES[array.dtype.name], "shape": array.shape, "data_offsets": [begin, end]}
        parts.append(array.reshape(-1).view(np.uint8))
    about = {**metadata, _DATA: _PREFIX + _checksum(parts), _HEADER: _PREFIX + _ZEROS}
    text = _compact({"__metadata__": {name: about[name] for name in sorted(about)}, **tensors})
    text += b" " * (-len(text) % 8)
    if len(text) > _LONGEST_HEADER:
        raise ValueError(
            f"{operation}: got a configuration and a state of {len(text)} bytes beside the arrays, expected at most "
            f"{_LONGEST_HEADER}; let config() and state_dict() return large things as arrays"
        )
    mark = f'"{_HEADER}":"{_PREFIX}'.encode()  # unique, as quotes inside strings are escaped
    head = struct.pack("<Q", len(text)) + text.replace(mark + _ZEROS.encode(), mark + _checksum([text]).encode())
    return [head, *parts]


def _compact(header: dict[str, Any], ascii_only: bool = True) -> bytes:
    return json.dumps(header, separators=(",", ":"), ensure_ascii=ascii_only).encode(errors="surrogatepass")


def _checksum(parts: list[Any]) -> str:
    import hashlib  # late, as safetensors below, to keep `import recurra` cheap

    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def read(operation: str, path: str | os.PathLike[str]) -> Content:
    """The content of a file. A file whose size contradicts its header is not read.

    A wrong checksum is reported in the result and not raised, so that a newer format can be told from a damaged file.

    Raises:
        ModelFormatError: it is not a safetensors file, is damaged, or is not a regular file.
        OSError: it cannot be read.
    """
    try:
        file, size = whole_file.open_regular(operation, path)
    except ValueError as error:
        raise ModelFormatError(str(error)) from error
    with file:
        try:
            return _parsed(_whole(file, size))
        except ModelFormatError as error:
            from recurra.saving import foreign  # late, as only errors need it

            file.seek(0)
            found = foreign.hint(os.fspath(path), file.read(9) if size else b"")  # as in _whole
            if found:
                text = f"{operation}: {os.fspath(path)}: got {found}; expected a safetensors file"
                raise type(error)(text) from error.__cause__
            raise type(error)(f"{operation}: {os.fspath(path)}: {error}") from error.__cause__
        except MemoryError as error:
            raise MemoryError(f"{operation}: {os.fspath(path)}: its {size} bytes do not fit in memory") from error


def read_bytes(operation: str, data: Any) -> Content:
    """The content of a file that lies in memory; errors are those of `read`."""
    try:
        view = memoryview(data).cast("B")
    except Exception as error:  # the object's own buffer may raise anything
        raise TypeError(f"{operation}: got {type(data).__name__}, expected bytes; read the file") from error
    try:
        return _parsed(_whole(io.BytesIO(view), len(view)))
    except ModelFormatError as error:
        raise type(error)(f"{operation}: {error}") from error.__cause__


def _damaged(what: str) -> DamagedFileError:
    return DamagedFileError(
        f"got a damaged or foreign file ({what}), expected a safetensors file; save the model again"
    )


def _whole(file: Any, size: int) -> bytes:
    """All bytes, after checking that header and size agree."""
    head = file.read(8) if size > 8 else b""  # files that claim to be empty, as those in /proc do, are not read
    (length,) = struct.unpack("<Q", head) if len(head) == 8 else (0,)
    if not 2 <= length <= min(_LONGEST_HEADER, size - 8):
        raise _damaged(f"{size} bytes with a header of {length}")
    head += file.read(length)
    try:
        header = json.loads(head[8:])
        end = max((one["data_offsets"][1] for name, one in header.items() if name != "__metadata__"), default=0)
        agrees = 8 + length + end == size
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise _damaged(f"unreadable header: {type(error).__name__}") from error
    if not agrees:
        raise _damaged(f"{size} bytes, {8 + length + end} according to its header")
    content: bytes = head + file.read(end)
    if len(content) != size:
        raise _damaged(f"{len(content)} bytes of {size}")
    return content


def _parsed(content: bytes) -> Content:
    import safetensors

    (length,) = struct.unpack("<Q", content[:8])
    text = content[8 : 8 + length]
    try:
        flat = safetensors.deserialize(content)  # type: ignore[no-untyped-call]
        header = json.loads(text, object_pairs_hook=_once)
        metadata: dict[str, str] = header.get("__metadata__", {})
    except (safetensors.SafetensorError, ValueError, TypeError, LookupError, RecursionError) as error:
        raise _damaged(f"{error}") from error
    whole = _is_whole(text, header, metadata, memoryview(content)[8 + length :])
    return Content({name: _array(name, about) for name, about in flat}, metadata, whole)


def _array(name: str, about: dict[str, Any]) -> Array:
    """One array of a file. bfloat16, the upper half of float32, becomes that."""
    dtype, array = about["dtype"], np.frombuffer(about["data"], np.uint8)
    if dtype == "BF16":
        array = (array.view("<u2").astype(np.uint32) << 16).view(np.float32)
    elif dtype in _NAMES:
        array = array.view(np.dtype(_NAMES[dtype]).newbyteorder("<"))
    else:
        raise ModelFormatError(
            f"got {name} of dtype {dtype}, expected one of {', '.join(_NAMES)} or BF16; convert it, as to float32"
        )
    result: Array = array.reshape(about["shape"])
    return result


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("duplicate name")
    return found


def _is_whole(text: bytes, header: dict[str, Any], metadata: Mapping[str, str], data: memoryview) -> bool:
    """Whether header and arrays match their checksums.

    Another program that rewrites the header, with spaces, invalidates its checksum, which is then skipped; that of the
    arrays still holds. Files written before there were checksums have none.
    """
    if _HEADER not in metadata:
        return set(metadata) <= _WITHOUT_CHECKSUMS
    zeroed = text.replace(metadata[_HEADER].encode(), (_PREFIX + _ZEROS).encode())
    compact = text.strip() in (_compact(header), _compact(header, ascii_only=False))
    if compact and metadata[_HEADER] != _PREFIX + _checksum([zeroed]):
        return False
    return metadata.get(_DATA) == _PREFIX + _checksum([data])
