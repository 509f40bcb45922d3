"""Reads plain groups and arrays of untrusted HDF5 files: no links, no other files, no arrays without data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import numpy as np

from recurra.common.typing import Array
from recurra.interop.keras import heaps
from recurra.interop.keras.source import refused

#: Bounds on the number of groups and arrays, and on their depth.
_MOST_MEMBERS, _DEEPEST = 200_000, 40
#: Bounds: an array's compression factor, and bytes allowed beyond that factor.
_MOST_EXPANSION, _SMALL = 64, 1 << 16
_FILTERS = {"1", "2", "3", "4", "32000", "gzip", "shuffle", "fletcher32", "lzf", "deflate"}


def open_file(file: BinaryIO) -> Any:
    """Open a file for reading; the caller closes it.

    Raises:
        ImportError: h5py is not installed.
        ModelFormatError: the file is not an HDF5 file.
    """
    try:
        import h5py
    except ImportError as error:
        raise ImportError(
            'from_keras: h5py is not installed, which reads the HDF5 files of Keras; run pip install "recurra[keras]"'
        ) from error
    heaps.check(file)
    try:
        opened = h5py.File(file, "r")
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise refused(f"got an unreadable HDF5 file ({error}), expected one as Keras writes it") from error
    if opened.id.get_create_plist().get_sizes() != (8, 8):  # heaps are checked as having such
        opened.close()
        raise refused("got an HDF5 file with addresses or sizes other than of 8 bytes, expected one as Keras writes it")
    return opened


class Reader:
    """Walks a file and counts its groups and arrays."""

    def __init__(self) -> None:
        self._met = 0
        self._places: set[Any] = set()

    def members(self, group: Any) -> Iterator[tuple[str, Any]]:
        """The groups and arrays of a group, by name."""
        import h5py

        for name in group:
            self._met += 1
            if self._met > _MOST_MEMBERS:
                raise refused(f"got more than {_MOST_MEMBERS} groups and arrays, expected those of a model")
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise refused(f"got a link as {name!r:.80}, expected groups and arrays of this file only")
            yield name, group[name]

    def walk(self, group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
        """All groups and arrays below a group; raises if one appears twice."""
        import h5py

        if len(path) > _DEEPEST:
            raise refused(f"got groups {len(path)} deep, expected at most {_DEEPEST}")
        for name, member in self.members(group):
            place = h5py.h5o.get_info(member.id).addr
            if place in self._places:
                raise refused(f"got {name!r:.80} at two places, expected each group and array once")
            self._places.add(place)
            yield (*path, name), member
            if isinstance(member, h5py.Group):
                yield from self.walk(member, (*path, name))


def reader_of(dataset: Any, name: str) -> Callable[[], Array]:
    """A function that reads the array, after checks that it is numeric and stored in this file."""
    import h5py

    if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind not in "fiu":
        raise refused(f"got {name:.80} that is not a numeric array, expected weights")
    if dataset.external or dataset.is_virtual:
        raise refused(f"got {name:.80} with its numbers in another file, expected them in this one")
    if dataset.id.get_create_plist().get_nfilters() and not set(map(str, dataset._filters)) <= _FILTERS:
        raise refused(f"got {name:.80} with an unknown compression, expected gzip, or none")
    stored = dataset.id.get_storage_size()
    if dataset.size * dataset.dtype.itemsize > _MOST_EXPANSION * stored + _SMALL:
        raise refused(f"got {name:.80} of shape {dataset.shape} in {stored} bytes, expected the numbers to be there")
    return lambda: np.asarray(dataset[()])


def texts(group: Any, name: str) -> list[str]:
    """An attribute with a list of strings, whole or split into name0, name1, ..."""
    if name in group.attrs:
        return [_text(one) for one in np.atleast_1d(group.attrs[name]).reshape(-1)]
    found: list[str] = []
    index = 0
    while f"{name}{index}" in group.attrs:
        found += [_text(one) for one in np.atleast_1d(group.attrs[f"{name}{index}"]).reshape(-1)]
        index += 1
    return found


def text(group: Any, name: str) -> str | None:
    """An attribute that is a string; None if missing."""
    if name not in group.attrs:
        return None
    value = group.attrs[name]
    return _text(value.item() if isinstance(value, np.ndarray) and value.size == 1 else value)


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, np.bytes_ | np.str_ | str):
        return str(value)
    raise refused(f"got {type(value).__name__} in an attribute, expected a text")
