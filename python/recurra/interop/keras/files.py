"""Reads the files of Keras: `.keras` archives, and HDF5 files of whole models."""

from __future__ import annotations

import io
import json
import os
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, BinaryIO

import numpy as np

from recurra.common.errors import ModelFormatError
from recurra.interop.keras import hdf5
from recurra.interop.keras.source import Source, refused
from recurra.interop.keras.weights import Entry, GroupWeights, ListWeights, Node, TreeWeights
from recurra.saving import foreign, whole_file

#: Bounds: bytes of a configuration, compression factor of a member, and bytes allowed beyond that factor.
_LONGEST_CONFIG, _MOST_EXPANSION, _SMALL = 64 << 20, 64, 1 << 20
_WEIGHTS, _NUMBERS, _CONFIG, _ABOUT = "model.weights.h5", "model.weights.npz", "config.json", "metadata.json"


@contextmanager
def open_source(path: str) -> Iterator[Source]:
    """The model in a file; its weights can be read until the block ends.

    Raises:
        ModelFormatError: the file is not one of Keras, or is damaged.
        OSError: the file cannot be read.
    """
    try:
        file, size = whole_file.open_regular("from_keras", path)
    except ValueError as error:
        raise ModelFormatError(str(error)) from error
    with file, damage_told(path):
        head = file.read(8)
        file.seek(0)
        if head[:2] == b"PK":
            with _archive(file) as source:
                yield source
        elif head == foreign.HDF5:
            with _opened(file) as opened:
                yield _legacy(opened)
        else:
            raise refused(
                f"got {size} bytes that are neither a zip archive nor an HDF5 file, expected a .keras or .h5 file"
            )


@contextmanager
def _opened(file: BinaryIO) -> Iterator[Any]:
    opened = hdf5.open_file(file)
    try:
        yield opened
    finally:
        opened.close()


@contextmanager
def _archive(file: BinaryIO) -> Iterator[Source]:
    with zipfile.ZipFile(file) as archive:
        parts = _parts(archive)
        if _CONFIG not in parts:
            raise refused(f"got an archive without {_CONFIG}, expected one that model.save wrote")
        config = parsed(_part(archive, parts[_CONFIG], _LONGEST_CONFIG))
        about = parsed(_part(archive, parts[_ABOUT], _LONGEST_CONFIG)) if _ABOUT in parts else {}
        major = major_of(str(about.get("keras_version", "3")))
        if _WEIGHTS in parts:
            with _opened(io.BytesIO(_part(archive, parts[_WEIGHTS]))) as opened:
                yield Source(config, major, TreeWeights(_tree(opened)))
        elif _NUMBERS in parts:
            yield Source(config, major, TreeWeights(_numbers(_part(archive, parts[_NUMBERS]))))
        else:
            raise refused(f"got an archive without {_WEIGHTS} and {_NUMBERS}, expected one of them")


def _parts(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """An archive's members by name; raises unless they are plain files with unique, relative names."""
    found: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = info.filename
        if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/") or ":" in name:
            raise refused(f"got {name!r:.80} in an archive, expected relative names within it")
        if stat.S_ISLNK(info.external_attr >> 16):
            raise refused(f"got {name!r:.80}, which is a link, in an archive, expected plain files")
        if name in found:
            raise refused(f"got {name!r:.80} twice in an archive, expected each once")
        found[name] = info
    return found


def _part(archive: zipfile.ZipFile, info: zipfile.ZipInfo, longest: int | None = None) -> bytes:
    """The content of a member; raises before reading if it is too large."""
    limit = _MOST_EXPANSION * info.compress_size + _SMALL
    limit = limit if longest is None else min(limit, longest)
    if info.file_size > limit:
        raise refused(
            f"got {info.filename!r} of {info.file_size} bytes out of {info.compress_size}, expected at most {limit}"
        )
    with archive.open(info) as opened:
        content = opened.read(limit + 1)
    if len(content) != info.file_size:
        raise refused(f"got {info.filename!r} of {len(content)} bytes, expected {info.file_size}")
    return content


def parsed(content: bytes | str) -> dict[str, Any]:
    """Parse JSON that must be an object."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise refused(f"got a configuration that is not JSON ({error}), expected what Keras wrote") from error
    if not isinstance(value, dict):
        raise refused(f"got {type(value).__name__} as configuration, expected an object")
    return value


def major_of(version: str) -> int:
    """The major version, 1, 2 or 3; tf.keras wrote Keras 2 under TensorFlow's version."""
    first = version.partition(".")[0]
    return int(first) if first in ("0", "1", "2", "3") else 3


def _tree(opened: Any) -> Node:
    root = Node()
    for path, member in hdf5.Reader().walk(opened):
        parts = [one for part in path for one in part.split("\\")]  # paths written on Windows
        if "optimizer" in parts[:1]:
            continue
        if hasattr(member, "shape"):
            if len(parts) > 1 and parts[-2] == "vars":
                root.at(parts[:-2]).arrays[parts[-1]] = hdf5.reader_of(member, "/".join(path))
        elif parts[-1] == "vars":
            root.at(parts[:-1]).name = hdf5.text(member, "name")
    return root


def _numbers(content: bytes) -> Node:
    root = Node()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for name, info in _parts(archive).items():
            *parts, number = name.removesuffix(".npy").split("/")
            part = _part(archive, info)
            try:
                array = np.load(io.BytesIO(part), allow_pickle=False, max_header_size=10_000)
            except (ValueError, EOFError) as error:
                raise refused(
                    f"got {name!r:.80} that is not a plain array ({error}), expected one, as pickles could run "
                    "anything; save the model with its weights in HDF5"
                ) from error
            root.at([one for one in parts if one != "vars"]).arrays[number] = partial(np.asarray, array)
    return root


def _legacy(opened: Any) -> Source:
    config = hdf5.text(opened, "model_config")
    if config is None:
        raise refused(
            "got an HDF5 file without model_config, as one of weights only, expected one that model.save wrote"
        )
    group = opened
    reader = hdf5.Reader()
    for name, member in reader.members(opened):
        if name == "model_weights":
            group = member
    version = hdf5.text(group, "keras_version") or hdf5.text(opened, "keras_version") or "1"
    members = dict(reader.members(group))
    lists = {}
    for name in hdf5.texts(group, "layer_names"):
        if name not in members:
            raise refused(f"got no group of weights for {name!r:.80}, expected one for each of layer_names")
        arrays = {"/".join(path): member for path, member in reader.walk(members[name]) if hasattr(member, "shape")}
        entries = []
        for weight in hdf5.texts(members[name], "weight_names"):
            if weight not in arrays:
                raise refused(f"got no array {weight!r:.80} in {name!r:.80}, expected each of weight_names")
            array = hdf5.reader_of(arrays[weight], weight)
            entries.append(Entry(weight, arrays[weight].shape, array))
        lists[name] = ListWeights(entries, name)
    return Source(parsed(config), major_of(version), GroupWeights(lists))


#: Exceptions that the libraries raise for damaged files.
DAMAGE = (
    *(ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError, EOFError, OSError),
    *(zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, NotImplementedError, AssertionError, UnicodeError),
)


@contextmanager
def damage_told(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turns errors about a file's content into ModelFormatErrors that begin with its path."""
    try:
        yield
    except ModelFormatError as error:
        raise ModelFormatError(f"from_keras: {os.fspath(path)}: {error}") from error.__cause__
    except MemoryError as error:
        raise ModelFormatError(
            f"from_keras: {os.fspath(path)}: got a model that asks for more memory than there is, expected sizes that "
            "its weights have"
        ) from error
    except DAMAGE as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise
        raise ModelFormatError(
            f"from_keras: {os.fspath(path)}: got contents that do not make a model ({type(error).__name__}: "
            f"{error!s:.300}), expected what Keras wrote; save the model again"
        ) from error
