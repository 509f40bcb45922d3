"""Layers as plain data: {"type": class name, "config": constructor's arguments, "trainable": ...}, and back."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from recurra.common import initialise
from recurra.common.errors import ModelFormatError

if TYPE_CHECKING:
    from recurra.layers.layer import Layer

T = TypeVar("T", bound="Layer")

_BUILT_IN: dict[str, type[Layer]] = {}
#: The modules of those that an import does not bring.
_LATER: dict[str, str] = {}


def built_in(cls: type[T]) -> type[T]:
    """Class decorator: registers a built-in class, which is then found by its name without `custom`."""
    _BUILT_IN[cls.__name__] = cls
    cls._built_in = cls
    return cls


def built_in_later(name: str, module: str) -> None:
    """A built-in class of that name is in the module, which is imported when a file names it."""
    _LATER[name] = module


def describe(layer: Layer) -> dict[str, Any]:
    """The plain data from which `build` makes the layer, parameters aside."""
    own = type(layer)
    name = vars(own).get("described_as", own.__name__)
    if "described_as" not in vars(own) and _BUILT_IN.get(name, own) is not own:
        raise ValueError(
            f"describe: got a custom class named {name}, which is the name of a built-in layer, expected another name; "
            f"rename it"
        )
    description = {"type": name, "config": layer.config()}
    return description if layer.made_of_layers else {**description, "trainable": layer.trainable}


def find(name: Any, custom: Mapping[str, type[Layer]] | None = None) -> type[Layer]:
    """The class of that name."""
    if isinstance(name, str) and name in _LATER:
        import_module(_LATER[name])
    known = {**_BUILT_IN, **(custom or {})}
    if not isinstance(name, str) or name not in known:
        raise ModelFormatError(
            f"got a layer of type {name!r}, expected one of {', '.join(known)}; pass the class as "
            f"custom={{{name!r}: ...}}"
        )
    return known[name]


def build(description: Mapping[str, Any], custom: Mapping[str, type[Layer]]) -> Layer:
    """The layer, newly initialised. `initialise.drawing(False)` skips that for built-in classes; constructors of users'
    classes always initialise."""
    cls = find(description["type"], custom)
    with nullcontext() if cls.is_built_in() else initialise.drawing(True):
        layer = cls.from_config(description["config"], custom)
    if not cls.made_of_layers:  # a model's layers have their own flags
        layer.trainable = description["trainable"]
    return layer
