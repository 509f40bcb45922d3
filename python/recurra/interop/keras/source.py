"""The source of a Keras model: its configuration, the version that wrote it, and its weights."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from recurra.common.errors import ModelFormatError
from recurra.common.typing import Array


class Weights(Protocol):
    """The weights of a layer and of the layers in it."""

    def own(self, *shapes: tuple[int | None, ...]) -> list[Array]:
        """The layer's own arrays, in the order of their creation, checked against `shapes`; None is any size."""
        ...

    def part(self, *names: str) -> Weights:
        """The weights of the layer in an attribute of this one, the first of `names` that exists."""
        ...

    def layers(self, layers: Sequence[Mapping[str, Any]]) -> Sequence[Weights]:
        """The weights of a model's layers with these configurations."""
        ...

    def cells(self, layers: Sequence[Mapping[str, Any]]) -> Sequence[Weights]:
        """The weights of stacked cells with these configurations."""
        ...


class Group(NamedTuple):
    """A layer's weights, and the shapes of its arrays in order."""

    shapes: Sequence[tuple[int, ...]]
    weights: Weights


class Source(NamedTuple):
    """A model as written, and the version of Keras that wrote it, on which layers' defaults depend."""

    config: Mapping[str, Any]
    version: str
    weights: Weights

    @property
    def major(self) -> int:
        """The major version, 1, 2 or 3; tf.keras wrote Keras 2 under TensorFlow's version."""
        first = self.version.partition(".")[0]
        return int(first) if first in ("0", "1", "2", "3") else 3

    @property
    def has_hard_gates(self) -> bool:
        """Whether hard_sigmoid is the gates' default, as before 2.3, but not in TensorFlow 2."""
        numbers = [int(one) for one in re.findall(r"\d{1,9}", self.version)[:2]]
        return self.major < 3 and numbers < [2, 3] and not self.version.endswith("-tf")


def refused(problem: str) -> ModelFormatError:
    """The error for a source that is not a model or has no counterpart."""
    return ModelFormatError(problem)


def checked(arrays: Sequence[Any], shapes: Sequence[tuple[int | None, ...]], name: str) -> list[Array]:
    """The arrays, checked: numeric, of these shapes."""
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
    """The class name in a layer's configuration, without Keras' package prefix."""
    name = layer["class_name"]
    if not isinstance(name, str):
        raise refused(f"got a class named {name!r:.80}, expected a text")
    return name.rpartition(">")[2]


def name_of(layer: Mapping[str, Any]) -> str:
    """The name of a layer in its model."""
    config = layer["config"]
    name = config.get("name", layer.get("name")) if isinstance(config, Mapping) else layer.get("name")
    return name if isinstance(name, str) else class_of(layer)
