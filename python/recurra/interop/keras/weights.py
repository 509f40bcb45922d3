"""Weights of layers: in a tree of attributes, in lists, or of live layers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from recurra.common.typing import Array
from recurra.interop.keras.source import Group, Weights, checked, class_of, name_of, refused


class Node:
    """A layer in a `.keras` file: its arrays by index, its name if stored, and its child nodes."""

    def __init__(self) -> None:
        self.arrays: dict[str, Callable[[], Array]] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.name: str | None = None
        self.children: dict[str, Node] = {}

    def at(self, path: Sequence[str]) -> Node:
        """The node at a path, created if missing."""
        node = self
        for part in path:
            node = node.children.setdefault(part, Node())
        return node


def groups_in(node: Node) -> Iterator[tuple[str, Group]]:
    """The layers with weights below a node of a model, by their names."""
    waiting = [("", node)]
    while waiting:
        path, one = waiting.pop()
        inner = [child for name, child in one.children.items() if name in _PARTS]
        parts = [one, *inner, *(child.children["cell"] for child in inner if "cell" in child.children)]
        found = [child for child in parts if child.arrays]
        if found and path:
            shapes = [part.shapes[key] for part in found for key in sorted(part.shapes, key=int) if key.isdigit()]
            alone = one.children["layer"] if "layer" in one.children and not one.arrays else one  # in a TimeDistributed
            yield one.name or path, Group(shapes, TreeWeights(alone, path))
            continue
        for name, child in reversed(one.children.items()):
            if name not in _NOT_LAYERS:
                at = path if name in _CONTAINERS else f"{path}/{name}" if path else name
                waiting.append((at, child))


#: Nodes of parts of a layer; of containers of layers; and of what are no layers.
_PARTS = ("cell", "forward_layer", "backward_layer", "layer")
_CONTAINERS = ("layers", "_layer_checkpoint_dependencies")
_NOT_LAYERS = ("optimizer", "seed_generator", "vars")


class TreeWeights:
    """Weights in the `.keras` format: under the attributes that hold their layers."""

    def __init__(self, node: Node, path: str = "model") -> None:
        self._node, self._path = node, path

    def own(self, *shapes: tuple[int | None, ...]) -> list[Array]:
        """See Weights."""
        found = self._node.arrays
        arrays = [found[str(index)]() for index in range(len(shapes)) if str(index) in found]
        return checked(arrays, shapes, self._path)

    def part(self, *names: str) -> Weights:
        """See Weights."""
        for name in names:
            if name in self._node.children:
                return TreeWeights(self._node.children[name], f"{self._path}/{name}")
        return TreeWeights(Node(), f"{self._path}/{names[0]}")

    def layers(self, layers: Sequence[Mapping[str, Any]]) -> Sequence[Weights]:
        """See Weights."""
        return self._inside(layers, "layers", "_layer_checkpoint_dependencies")

    def cells(self, layers: Sequence[Mapping[str, Any]]) -> Sequence[Weights]:
        """See Weights."""
        return self._inside(layers, "cells")

    def _inside(self, layers: Sequence[Mapping[str, Any]], *names: str) -> Sequence[Weights]:
        """The weights of a container's layers. Groups are numbered in each class and may store a layer's name."""
        inside: dict[str, Node] = {}
        for name in names:
            if name in self._node.children:
                inside = self._node.children[name].children
                break
        waiting: dict[str, list[Node]] = {}
        for key, node in sorted(inside.items(), key=lambda item: (len(item[0]), item[0])):
            waiting.setdefault(re.sub(r"_\d+$", "", key), []).append(node)
        found: list[Weights] = []
        for layer in layers:
            nodes = waiting.get(_snake_case(class_of(layer)), [])
            name = name_of(layer)
            named = [node for node in nodes if node.name == name]
            chosen = named[0] if named else next((node for node in nodes if node.name is None), None)
            if chosen is not None:
                nodes.remove(chosen)
            found.append(TreeWeights(chosen or Node(), f"{self._path}/{name}"))
        return found


def _snake_case(name: str) -> str:
    """A class name in Keras' form for paths."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


class Entry(NamedTuple):
    """An array in a file, read lazily."""

    name: str
    shape: tuple[int, ...]
    read: Callable[[], Array]


class ListWeights:
    """Weights in the legacy format: a list for each layer of the model, with the arrays' names."""

    def __init__(self, entries: list[Entry], name: str) -> None:
        self._entries, self._name = entries, name

    def own(self, *shapes: tuple[int | None, ...]) -> list[Array]:
        """See Weights; consumes the arrays from the front of the list."""
        given = [self._entries.pop(0).read() for _shape in shapes if self._entries]
        return checked(given, shapes, self._name)

    def next_shape(self) -> tuple[int, ...] | None:
        """The shape of the next array."""
        return self._entries[0].shape if self._entries else None

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The shapes of the arrays."""
        return [one.shape for one in self._entries]

    def __len__(self) -> int:
        return len(self._entries)

    def part(self, *names: str) -> Weights:
        """See Weights; the parts continue the same list."""
        return self

    def layers(self, layers: Sequence[Mapping[str, Any]]) -> Sequence[Weights]:
        """See Weights; by the layers' names within the arrays' names, else by order."""
        parts = [_parts(entry.name) for entry in self._entries]
        found = []
        for name in map(name_of, layers):
            own = [entry for entry, one in zip(self._entries, parts, strict=True) if name in one]
            found.append(ListWeights(own, name))
        if sum(map(len, found)) == len(self._entries):
            return found
        return self.cells(layers)

    def cells(self, layers: Sequence[Mapping[str, Any]]) -> Sequence[Weights]:
        """See Weights; the parts continue the same list."""
        return [self] * len(layers)


def _parts(name: str) -> list[str]:
    return re.sub(r":\d+$", "", name).split("/")


class GroupWeights:
    """The lists of a legacy file, by the names of the model's layers."""

    def __init__(self, lists: Mapping[str, ListWeights]) -> None:
        self._lists = dict(lists)

    def own(self, *shapes: tuple[int | None, ...]) -> list[Array]:
        """See Weights; raises, as a model has none itself."""
        raise refused("got weights of the model itself, expected those of its layers only")

    def part(self, *names: str) -> Weights:
        """See Weights; raises, as a model has none itself."""
        raise refused("got weights of a part of the model, expected those of its layers only")

    def layers(self, layers: Sequence[Mapping[str, Any]]) -> Sequence[Weights]:
        """See Weights."""
        return [self._lists.get(name_of(layer)) or ListWeights([], name_of(layer)) for layer in layers]

    def cells(self, layers: Sequence[Mapping[str, Any]]) -> Sequence[Weights]:
        """See Weights; raises, as a model has none itself."""
        raise refused("got cells in the model itself, expected layers")


class LiveWeights:
    """Weights of live layers of Keras."""

    def __init__(self, layer: Any) -> None:
        self._layer = layer

    def own(self, *shapes: tuple[int | None, ...]) -> list[Array]:
        """See Weights."""
        return checked(list(self._layer.get_weights())[: len(shapes)], shapes, str(self._layer.name))

    def part(self, *names: str) -> Weights:
        """See Weights."""
        for name in names:
            if hasattr(self._layer, name):
                return LiveWeights(getattr(self._layer, name))
        return self

    def layers(self, layers: Sequence[Mapping[str, Any]]) -> Sequence[Weights]:
        """See Weights."""
        by_name = {one.name: one for one in self._layer.layers}
        return [LiveWeights(by_name.get(name_of(layer))) for layer in layers]

    def cells(self, layers: Sequence[Mapping[str, Any]]) -> Sequence[Weights]:
        """See Weights."""
        return [LiveWeights(one) for one in self._layer.cells]
