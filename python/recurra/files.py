"""Model files: safetensors, with the configuration as JSON in the metadata; nothing in them is ever executed."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from recurra import _core, registry
from recurra.errors import ModelFormatError
from recurra.layer import Layer
from recurra.leaf import LeafLayer
from recurra.typing import Array

FORMAT_VERSION = 1


#: What the names of a training's arrays begin with, in a file that holds one beside its model.
TRAINING = "training."


def save(layer: Layer, path: str | os.PathLike[str]) -> None:
    """Write `layer` to `path`, whole or not at all."""
    replace(Path(path), content("save", layer))


def content(
    operation: str,
    layer: Layer,
    arrays: Mapping[str, Array] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """A file's: the layer, and what else is given."""
    import safetensors.numpy  # in functions only: an import of recurra need not wait for it

    try:
        config = json.dumps(registry.describe(layer), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{operation}: got a configuration that JSON cannot hold ({error}), expected plain data; let config() return "
            f"numbers, texts, lists and dicts only"
        ) from error
    about = {
        "format": "recurra",
        "format_version": str(FORMAT_VERSION),
        "library_version": _core.__version__,
        "dtype": str(layer.dtype),
        "config": config,
    }
    return safetensors.numpy.save({**layer.state_dict(), **(arrays or {})}, {**about, **(metadata or {})})


def replace(path: Path, content: bytes) -> None:
    """Write a file that is the old one or the new one at any moment, also after a crash."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if os.name == "posix":  # the new name, too, is on disk only when its directory is
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def load(path: str | os.PathLike[str], custom: Mapping[str, type[Layer]] | None = None) -> Any:
    """The layer or model that `save` wrote to `path`.

    Args:
        path: a file written by `save`.
        custom: classes of layers written in Python, by name: {"MyLayer": MyLayer}. Only these and the library's own are
            made from a file.

    Raises:
        ModelFormatError: the file is damaged, not a model, of a newer format or of unknown layers.
        OSError: it cannot be read.
    """
    custom = {} if custom is None else custom
    if not isinstance(custom, Mapping):
        raise TypeError(f"load: got custom={custom!r}, expected classes by name; write {{'MyLayer': MyLayer}}")
    for name, cls in custom.items():
        if not inspect.isclass(cls) or not issubclass(cls, Layer):
            raise TypeError(
                f"load: got custom[{name!r}]={cls!r}, expected a class of layers; write {{'MyLayer': MyLayer}}"
            )
    with _opened("load", path) as file:
        return _read(file, custom)


def read(operation: str, path: str | os.PathLike[str]) -> tuple[dict[str, Array], dict[str, str]]:
    """All arrays and the metadata of a file with a model of this library."""
    with _opened(operation, path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}, _metadata(file)  # noqa: SIM118


@contextmanager
def _opened(operation: str, path: str | os.PathLike[str]) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    with Path(path).open("rb") as file:  # what the system has to say about the path, it says here
        file.read(1)
    try:
        with safe_open(path, framework="numpy") as file:
            yield file
    except ModelFormatError as error:
        raise ModelFormatError(f"{operation}: {os.fspath(path)}: {error}") from error.__cause__
    except SafetensorError as error:
        raise ModelFormatError(
            f"{operation}: {os.fspath(path)}: got no whole safetensors file ({error}), expected one; save the model again"
        ) from error


def _metadata(file: Any) -> dict[str, str]:
    metadata: dict[str, str] = file.metadata() or {}
    if metadata.get("format") != "recurra":
        raise ModelFormatError("got a safetensors file without a recurra model, expected one written by save")
    _check_version(metadata)
    return metadata


def _read(file: Any, custom: Mapping[str, type[Layer]]) -> Layer:
    metadata = _metadata(file)
    try:
        description = json.loads(metadata["config"])
        names = [name for name in file.keys() if not name.startswith(TRAINING)]  # noqa: SIM118
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in names}
        _check_sizes(description, shapes, custom)
        layer = registry.build(description, custom)
        layer.load_state_dict({name: file.get_tensor(name) for name in shapes})
    except ModelFormatError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError) as error:
        raise ModelFormatError(
            f"got contents that do not make a model ({type(error).__name__}: {error}), expected what save wrote; save it again"
        ) from error
    return layer


def _check_version(metadata: Mapping[str, str]) -> None:
    text = metadata.get("format_version", "")
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ModelFormatError(f"got format_version {text!r}, expected a number; save the model again")
    if int(text) > FORMAT_VERSION:
        raise ModelFormatError(
            f"got format_version {int(text)}, written by recurra {metadata.get('library_version', '?')}, expected at most "
            f"{FORMAT_VERSION}, which this recurra {_core.__version__} reads; upgrade recurra"
        )


def _check_sizes(
    description: Mapping[str, Any],
    shapes: Mapping[str, tuple[int, ...]],
    custom: Mapping[str, type[Layer]],
    prefix: str = "",
) -> None:
    """Refuse a configuration that asks for more numbers than the file holds, before making anything of that size."""
    config = description["config"]
    cls = registry.find(description["type"], custom)
    if not issubclass(cls, LeafLayer):
        for index, inner in enumerate(config["layers"]):
            _check_sizes(inner, shapes, custom, f"{prefix}{index}.")
        return
    expected = cls.count_parameters(config)
    held = sum(int(np.prod(shape, dtype=object)) for name, shape in shapes.items() if name.startswith(prefix))
    if expected is not None and expected != held:
        raise ModelFormatError(
            f"got {held} numbers for {prefix}{cls.__name__}, expected {expected} by its configuration; save the model again"
        )
