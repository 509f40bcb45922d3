"""Reads the calls of a model's layers, in every Keras version's format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from recurra.interop.keras.source import refused


class Ref(NamedTuple):
    """A reference to a tensor: the layer, the number of its call, and the index of the output."""

    layer: str
    call: int
    output: int


class Call(NamedTuple):
    """The arguments of a layer's call, with Refs for tensors."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def refs(self) -> list[Ref]:
        """All Refs in the arguments."""
        return [*refs_in(self.args), *refs_in(self.kwargs)]


def calls_of(layer: Mapping[str, Any]) -> list[Call]:
    """All calls of a layer."""
    return [_call(node) for node in layer.get("inbound_nodes") or []]


def _call(node: Any) -> Call:
    if isinstance(node, Mapping):
        if "args" in node:
            return Call(tuple(_decoded(one) for one in node["args"]), _decoded(node.get("kwargs") or {}))
        return Call(({key: _old(one) for key, one in node.items()},), {})
    if not isinstance(node, list) or not node:
        raise refused(f"got {type(node).__name__} as a layer's call, expected a list of what it reads")
    if isinstance(node[0], str):  # a single tensor
        node = [node]
    refs = [_old(one) for one in node]
    kwargs = node[0][3] if len(node[0]) > 3 else {}
    if not isinstance(kwargs, Mapping):
        raise refused("got a layer's call with no names of arguments, expected them")
    return Call((refs[0] if len(refs) == 1 else refs,), {key: _maybe_old(one) for key, one in kwargs.items()})


def _old(value: Any) -> Any:
    """The Ref for a tensor in the format of Keras 1 and 2: [layer, call, output, arguments]."""
    if not isinstance(value, list) or len(value) < 3:
        raise refused(f"got {value!r:.80} as a tensor, expected [layer, call, output]")
    if value[0] == "_CONSTANT_VALUE":
        return value[2]
    return _ref(value[:3])


def _maybe_old(value: Any) -> Any:
    if _is_ref(value[:3] if isinstance(value, list) else value):
        return _old(value)
    if isinstance(value, list):
        return [_maybe_old(one) for one in value]
    return value


def _is_ref(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 3
        and isinstance(value[0], str)
        and all(type(one) is int and 0 <= one < 1 << 20 for one in value[1:])
    )


def _ref(value: Any) -> Ref:
    if not _is_ref(value):
        raise refused(f"got {value!r:.80} as a tensor, expected [layer, call, output]")
    return Ref(*value)


def _decoded(value: Any) -> Any:
    """Arguments in the format of Keras 3, with tensors and slices as objects, decoded."""
    if isinstance(value, list):
        return [_decoded(one) for one in value]
    if not isinstance(value, Mapping):
        return value
    kind = value.get("class_name")
    if kind == "__keras_tensor__":
        return _ref(value["config"]["keras_history"])
    if kind == "__slice__":
        config = value["config"]
        return slice(config.get("start"), config.get("stop"), config.get("step"))
    if kind == "__tuple__":
        return [_decoded(one) for one in value["items"]]
    if kind in ("__ellipsis__", "__ellipsis"):
        return Ellipsis
    if kind is not None:
        return value
    return {key: _decoded(one) for key, one in value.items()}


def refs_in(value: Any) -> list[Ref]:
    """All Refs in nested lists and dicts."""
    if isinstance(value, Ref):
        return [value]
    if isinstance(value, Mapping):
        return [ref for one in value.values() for ref in refs_in(one)]
    if isinstance(value, list | tuple):
        return [ref for one in value for ref in refs_in(one)]
    return []


def structure_of(value: Any) -> Any:
    """A model's inputs or outputs as Refs in lists and dicts."""
    if _is_ref(value):
        return _ref(value)
    if isinstance(value, list):
        return [structure_of(one) for one in value]
    if isinstance(value, Mapping):
        if value.get("class_name") == "__tuple__":
            return [structure_of(one) for one in value["items"]]
        return {key: structure_of(one) for key, one in value.items()}
    raise refused(f"got {value!r:.80} as an input or output, expected [layer, call, output]")


def replaced(value: Any, found: Mapping[Ref, Any]) -> Any:
    """The same structure with Refs replaced by their values in `found`."""
    if isinstance(value, Ref):
        return found[value]
    if isinstance(value, Mapping):
        return {key: replaced(one, found) for key, one in value.items()}
    if isinstance(value, list):
        return [replaced(one, found) for one in value]
    return tuple(replaced(one, found) for one in value) if isinstance(value, tuple) else value
