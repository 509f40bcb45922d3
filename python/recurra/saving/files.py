"""Model files: safetensors with the configuration as JSON in the metadata. Nothing in them is ever executed."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

from recurra import _core
from recurra.common import errors, initialise
from recurra.common.errors import ModelFormatError
from recurra.common.typing import Array
from recurra.saving import container, foreign, registry, sizes, whole_file

if TYPE_CHECKING:
    from recurra.layers.layer import Layer

FORMAT_VERSION = 1

L = TypeVar("L", bound="Layer")


#: Prefix of the arrays of a training, in a checkpoint, which holds them beside the model.
TRAINING = "training."


def save(layer: Layer, path: str | os.PathLike[str]) -> None:
    """Write `layer` to `path` atomically."""
    whole_file.write("save", path, content("save", layer))
    written = Path(os.fsdecode(path))
    if whose := foreign.owner(written.name):
        errors.warn(
            f"save: {written} now holds safetensors, which rc.load reads, although files of {whose} are called so; "
            f"call it {written.stem}.safetensors",
            UserWarning,
        )


def content(
    operation: str,
    layer: Layer,
    arrays: Mapping[str, Array] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> list[Any]:
    """The parts of a file: the layer, and further `arrays` and `metadata`."""
    try:
        config = json.dumps(registry.describe(layer), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{operation}: got a configuration that JSON cannot hold ({error}), expected plain data; let config() "
            "return only numbers, strings, lists and dicts"
        ) from error
    about = {
        "format": "recurra",
        "format_version": str(FORMAT_VERSION),
        "library_version": _core.__version__,
        "dtype": str(layer.dtype),
        "config": config,
    }
    return container.serialise(operation, {**layer.state_dict(), **(arrays or {})}, {**about, **(metadata or {})})


@overload
def load(path: str | os.PathLike[str], custom: Mapping[str, type[Layer]] | None = None, *, kind: type[L]) -> L: ...
@overload
def load(path: str | os.PathLike[str], custom: Mapping[str, type[Layer]] | None = None) -> Any: ...
def load(
    path: str | os.PathLike[str], custom: Mapping[str, type[Layer]] | None = None, *, kind: type[Layer] | None = None
) -> Any:
    """The layer or model that `save` wrote to `path`.

    Args:
        path: a file written by `save`.
        custom: classes of layers written in Python, by name: {"MyLayer": MyLayer}. Only these and the library's own
            classes are instantiated from a file.
        kind: the class that the result must be of, such as `recurra.Sequential`, for a clear error here, and for
            editors and type checkers, which then know its methods. None for any.

    Raises:
        ModelFormatError: the file is damaged, not a model, of a newer format or of unknown layers.
        OSError: it cannot be read.
        TypeError: it is not of this `kind`.

    Example:
        >>> rc.Sequential(rc.GRU(3, 8), rc.Linear(8, 2)).save("model.safetensors")
        >>> rc.load("model.safetensors")
        Sequential(
          GRU(input_size=3, hidden_size=8),
          Linear(in_features=8, out_features=2),
        )
    """
    if kind is not None and (not inspect.isclass(kind) or not hasattr(kind, "made_of_layers")):
        raise TypeError(f"load: got kind={kind!r}, expected a class of layers or models; write kind=recurra.Sequential")
    custom = {} if custom is None else custom
    if not isinstance(custom, Mapping):
        raise TypeError(f"load: got custom={custom!r}, expected classes by name; write {{'MyLayer': MyLayer}}")
    for name, cls in custom.items():
        if not inspect.isclass(cls) or not hasattr(cls, "made_of_layers"):  # an attribute of recurra's layers only
            raise TypeError(
                f"load: got custom[{name!r}]={cls!r}, expected a class of layers; write {{'MyLayer': MyLayer}}"
            )
    found = read("load", path)
    try:
        layer = _build(found.arrays, found.metadata, custom)
    except ModelFormatError as error:
        raise type(error)(f"load: {os.fspath(path)}: {error}") from error.__cause__
    if kind is not None and not isinstance(layer, kind):
        raise TypeError(
            f"load: {os.fspath(path)}: got a {layer.label}, expected a {kind.__name__}; leave kind out, or name its "
            "class"
        )
    return layer


def read(operation: str, path: str | os.PathLike[str]) -> container.Content:
    """All arrays and the metadata of a file with a model of this library."""
    found = container.read(operation, path)
    try:
        if found.metadata.get("format") != "recurra":
            raise ModelFormatError("got a safetensors file without a recurra model, expected one written by save")
        _check_version(found.metadata)
        if not found.whole:
            raise container.DamagedFileError(
                "got a file that does not match its checksums, expected it as it was written; it was damaged or "
                "edited: save the model again, or restore a copy"
            )
    except ModelFormatError as error:
        kind = type(error) if found.whole else container.DamagedFileError
        raise kind(f"{operation}: {os.fspath(path)}: {error}") from error.__cause__
    return found


def _build(arrays: Mapping[str, Array], metadata: Mapping[str, str], custom: Mapping[str, type[Layer]]) -> Layer:
    try:
        description = json.loads(metadata["config"])
        own = {name: array for name, array in arrays.items() if not name.startswith(TRAINING)}
        sizes.check(description, own, custom)
        with initialise.drawing(False):
            layer = registry.build(description, custom)
        layer.load_state_dict(own)
    except ModelFormatError:
        raise
    except MemoryError as error:
        raise ModelFormatError(
            f"got a configuration that needs more memory than there is ({error}), expected the sizes of the file's "
            f"arrays; save the model again"
        ) from error
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError) as error:
        raise ModelFormatError(
            f"got contents that are not a model ({type(error).__name__}: {error}), expected what save wrote; save it "
            f"again"
        ) from error
    return layer


def _check_version(metadata: Mapping[str, str]) -> None:
    text = metadata.get("format_version", "")
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ModelFormatError(f"got format_version {text!r}, expected a number; save the model again")
    if int(text) > FORMAT_VERSION:
        raise ModelFormatError(
            f"got format_version {int(text)}, written by recurra {metadata.get('library_version', '?')}, expected at "
            f"most {FORMAT_VERSION}, which this recurra {_core.__version__} reads; upgrade recurra"
        )
