"""Layers as plain data: {"type": class name, "config": constructor's arguments, "trainable": ...}, and back."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

from recurra.common import initialise
from recurra.common.errors import ModelFormatError

if TYPE_CHECKING:
    from recurra.layers.layer import Layer

T = TypeVar("T", bound="Layer")

_BUILT_IN: dict[str, type[Layer]] = {}


def built_in(cls: type[T]) -> type[T]:
    """A decorator for classes that are found by their names, without `custom`."""
    _BUILT_IN[cls.__name__] = cls
    cls._built_in = cls
    return cls


def describe(layer: Layer) -> dict[str, Any]:
    """What `build` makes the layer from, parameters aside."""
    name = type(layer).__name__
    if _BUILT_IN.get(name, type(layer)) is not type(layer):
        raise ValueError(
            f"describe: got a class of its own named {name}, expected another name than a built-in one has; rename it"
        )
    description = {"type": name, "config": layer.config()}
    return description if layer.made_of_layers else {**description, "trainable": layer.trainable}


def find(name: Any, custom: Mapping[str, type[Layer]] | None = None) -> type[Layer]:
    """The class of that name."""
    known = {**_BUILT_IN, **(custom or {})}
    if not isinstance(name, str) or name not in known:
        raise ModelFormatError(
            f"got a layer of type {name!r}, expected one of {', '.join(known)}; pass the class as custom={{{name!r}: ...}}"
        )
    return known[name]


def build(description: Mapping[str, Any], custom: Mapping[str, type[Layer]]) -> Layer:
    """The layer, with parameters drawn anew unless that is turned off: never in the constructor of a user's class."""
    cls = find(description["type"], custom)
    with nullcontext() if cls.is_built_in() else initialise.drawing(True):
        layer = cls.from_config(description["config"], custom)
    if not cls.made_of_layers:  # whose layers say so themselves
        layer.trainable = description["trainable"]
    return layer
