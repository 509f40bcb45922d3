"""Reads the files of Keras: `.keras` archives, and HDF5 files of whole models."""

from __future__ import annotations

import io
import json
import os
import stat
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, BinaryIO

import numpy as np

from recurra.common.errors import ModelFormatError
from recurra.interop.keras import hdf5
from recurra.interop.keras.source import Group, Source, refused
from recurra.interop.keras.weights import Entry, GroupWeights, ListWeights, Node, TreeWeights, groups_in
from recurra.saving import foreign, whole_file

#: Bounds: bytes of a configuration, compression factor of a member, and bytes allowed beyond that factor.
LONGEST_CONFIG, _MOST_EXPANSION, _SMALL = 64 << 20, 64, 1 << 20
_WEIGHTS, _NUMBERS, _CONFIG, _ABOUT = "model.weights.h5", "model.weights.npz", "config.json", "metadata.json"


@contextmanager
def open_source(path: str, config: Mapping[str, Any] | None = None) -> Iterator[Source]:
    """The model in a file, or that of `config` with the weights in a file, which can be read until the block ends.

    Raises:
        ModelFormatError: the file is not one of Keras, or is damaged.
        OSError: the file cannot be read.
    """
    with _file(path) as (file, is_archive):
        if is_archive:
            with _archive(file) as (described, version, root):
                yield Source(_whole(config or described), version, TreeWeights(root))
            return
        with _opened(file) as opened:
            if config is None and hdf5.text(opened, "model_config") is None:
                raise refused(
                    "got an HDF5 file without model_config, as one of weights only, expected one that model.save "
                    "wrote; give its description too, from_keras(path, config=...), or take its layers by name, "
                    "rc.interop.keras_layers(path)"
                )
            if config is not None and not hdf5.texts(_weights_group(opened), "layer_names"):
                yield Source(_whole(config), "3", TreeWeights(_tree(opened)))
                return
            version, lists = _lists(opened)
            whole = config or parsed(hdf5.text(opened, "model_config") or "")
            yield Source(_whole(whole), version, GroupWeights(lists))


def _whole(config: Mapping[str, Any]) -> Mapping[str, Any]:
    if not isinstance(config.get("class_name"), str) or "config" not in config:
        raise refused("got a configuration without class_name and config, expected a model's, as model.to_json() is")
    return config


@contextmanager
def open_weights(path: str) -> Iterator[tuple[str, dict[str, Group], Mapping[str, Any]]]:
    """Keras' version, the weights in a file by the names of layers, whatever the model is, and its description, if it
    has one."""
    with _file(path, "keras_layers") as (file, is_archive):
        if is_archive:
            with _archive(file) as (config, version, root):
                yield version, dict(groups_in(root)), config
            return
        with _opened(file) as opened:
            if not hdf5.texts(_weights_group(opened), "layer_names"):
                yield "3", dict(groups_in(_tree(opened))), {}
                return
            version, lists = _lists(opened)
            text = hdf5.text(opened, "model_config")
            groups = {name: Group(one.shapes, one) for name, one in lists.items() if len(one)}
            yield version, groups, {} if text is None else parsed(text)


@contextmanager
def _file(path: str, operation: str = "from_keras") -> Iterator[tuple[BinaryIO, bool]]:
    """An open file, and whether it is an archive; its damage is told."""
    try:
        file, size = whole_file.open_regular(operation, path)
    except ValueError as error:
        raise ModelFormatError(str(error)) from error
    with file, damage_told(path, operation):
        head = file.read(8)
        file.seek(0)
        if head[:2] != b"PK" and head != foreign.HDF5:
            raise refused(
                f"got {size} bytes that are neither a zip archive nor an HDF5 file, expected a .keras or .h5 file"
            )
        yield file, head[:2] == b"PK"


@contextmanager
def _opened(file: BinaryIO) -> Iterator[Any]:
    opened = hdf5.open_file(file)
    try:
        yield opened
    finally:
        opened.close()


@contextmanager
def _archive(file: BinaryIO) -> Iterator[tuple[dict[str, Any], str, Node]]:
    """The configuration in an archive, Keras' version, and the weights."""
    with zipfile.ZipFile(file) as archive:
        parts = _parts(archive)
        if _CONFIG not in parts:
            raise refused(f"got an archive without {_CONFIG}, expected one that model.save wrote")
        config = parsed(_part(archive, parts[_CONFIG], LONGEST_CONFIG))
        about = parsed(_part(archive, parts[_ABOUT], LONGEST_CONFIG)) if _ABOUT in parts else {}
        version = str(about.get("keras_version", "3"))
        if _WEIGHTS in parts:
            with _opened(io.BytesIO(_part(archive, parts[_WEIGHTS]))) as opened:
                yield config, version, _tree(opened)
        elif _NUMBERS in parts:
            yield config, version, _numbers(_part(archive, parts[_NUMBERS]))
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


def _tree(opened: Any) -> Node:
    root = Node()
    for path, member in hdf5.Reader().walk(opened):
        parts = [one for part in path for one in part.split("\\")]  # paths written on Windows
        if "optimizer" in parts[:1]:
            continue
        if hasattr(member, "shape"):
            if len(parts) > 1 and parts[-2] == "vars":
                node = root.at(parts[:-2])
                node.arrays[parts[-1]] = hdf5.reader_of(member, "/".join(path))
                node.shapes[parts[-1]] = member.shape
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
            node = root.at([one for one in parts if one != "vars"])
            node.arrays[number], node.shapes[number] = partial(np.asarray, array), array.shape
    return root


def _weights_group(opened: Any) -> Any:
    """The group of the layers' weights in a legacy file."""
    members = dict(hdf5.Reader().members(opened))
    return members.get("model_weights", opened)


def _lists(opened: Any) -> tuple[str, dict[str, ListWeights]]:
    """Keras' version, and the lists of a legacy file by the names of layers."""
    group, reader = _weights_group(opened), hdf5.Reader()
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
    return version, lists


#: Exceptions that the libraries raise for damaged files.
DAMAGE = (
    *(ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError, EOFError, OSError),
    *(zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, NotImplementedError, AssertionError, UnicodeError),
)


@contextmanager
def damage_told(path: str | os.PathLike[str], operation: str = "from_keras") -> Iterator[None]:
    """Turns errors about a file's content into ModelFormatErrors that begin with its path."""
    try:
        yield
    except ModelFormatError as error:
        raise ModelFormatError(f"{operation}: {os.fspath(path)}: {error}") from error.__cause__
    except MemoryError as error:
        raise ModelFormatError(
            f"{operation}: {os.fspath(path)}: got a model that asks for more memory than there is, expected sizes that "
            "its weights have"
        ) from error
    except DAMAGE as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise
        raise ModelFormatError(
            f"{operation}: {os.fspath(path)}: got contents that do not make a model ({type(error).__name__}: "
            f"{error!s:.300}), expected what Keras wrote; save the model again"
        ) from error
