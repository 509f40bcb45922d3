"""What a model of Keras is read from: its configuration, the version that wrote it, and its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from recurra.common.errors import ModelFormatError
from recurra.common.typing import Array


class Weights(Protocol):
    """The weights of a layer, or of the layers in it."""

    def own(self, *shapes: tuple[int | None, ...]) -> list[Array]:
        """The layer's own arrays, in the order in which it makes them, of these shapes; None for any size."""
        ...

    def part(self, *names: str) -> Weights:
        """Those of a layer that is an attribute of this one, the first of these names that there is."""
        ...

    def layers(self, layers: Sequence[Mapping[str, Any]]) -> Sequence[Weights]:
        """Those of a model's layers, of these configurations."""
        ...

    def cells(self, layers: Sequence[Mapping[str, Any]]) -> Sequence[Weights]:
        """Those of stacked cells, of these configurations."""
        ...


class Source(NamedTuple):
    """A model as it was written. major: of Keras' version; layers have other defaults in each."""

    config: Mapping[str, Any]
    major: int
    weights: Weights


def refused(problem: str) -> ModelFormatError:
    """What is no model, or none that this library has the layers for."""
    return ModelFormatError(problem)


def checked(arrays: Sequence[Any], shapes: Sequence[tuple[int | None, ...]], name: str) -> list[Array]:
    """Arrays of numbers of these shapes."""
    found = [np.asarray(one) for one in arrays]
    got = [one.shape for one in found]
    fits = len(got) == len(shapes) and all(
        len(one) == len(wanted) and all(want in (None, size) for size, want in zip(one, wanted, strict=True))
        for one, wanted in zip(got, shapes, strict=True)
    )
    if not fits:
        raise refused(f"got weights of shapes {got} for {name}, expected {list(shapes)}, as its configuration says")
    if any(one.dtype.kind not in "fiu" for one in found):
        raise refused(f"got weights of {[str(one.dtype) for one in found]} for {name}, expected numbers")
    return found


def class_of(layer: Mapping[str, Any]) -> str:
    """The class of a layer's configuration, without what Keras writes before it."""
    name = layer["class_name"]
    if not isinstance(name, str):
        raise refused(f"got a class named {name!r:.80}, expected a text")
    return name.rpartition(">")[2]


def name_of(layer: Mapping[str, Any]) -> str:
    """The name of a layer in its model."""
    config = layer["config"]
    name = config.get("name", layer.get("name")) if isinstance(config, Mapping) else layer.get("name")
    return name if isinstance(name, str) else class_of(layer)
