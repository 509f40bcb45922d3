"""A tape in memory of the caller's: one array of bytes, which can be copied, kept and opened again."""

from __future__ import annotations

from typing import Any

import numpy as np

from recurra import _core
from recurra.common import checks
from recurra.common.structure import Structure, plain
from recurra.common.typing import Array
from recurra.graph.graph import Graph
from recurra.saving import registry

#: A tape's arrays begin at multiples of so many bytes, and so does the whole.
ALIGNMENT = 64


def signature(graph: Graph) -> int:
    """A number that tells graphs, versions and instruction sets apart, as a tape fits only one."""
    import hashlib  # late: few need it
    import json

    place = {id(layer): index for index, layer in enumerate(graph.layers)}
    nodes = [(place[id(node.layer)], list(node.inputs), list(node.states)) for node in graph.nodes]
    layers = [registry.describe(layer) for layer in graph.layers]
    parts = [_core.__version__, _core.isa(), layers, nodes, list(graph.outputs)]
    text = json.dumps(plain(parts), sort_keys=True, default=repr)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def refuse_python(operation: str, what: str, graph: Graph) -> None:
    """Layers written in Python keep what they like, wherever that is."""
    python = [layer.label for layer in graph.layers if not layer.native]
    if python:
        raise ValueError(
            f"{operation}: got {what} for a model with {python[0]}, which is written in Python, expected native layers "
            f"only, as only they know in advance what their tape takes; leave {what} out, or record the native part of "
            "the model with it"
        )


def to_write(operation: str, memory: Any) -> Array:
    """The caller's array for a tape to be recorded; its size and place are checked by the program."""
    array = _bytes(operation, memory)
    if not array.flags.writeable:
        raise ValueError(f"{operation}: got memory that is read-only, expected an array to write to; give a copy")
    return array


def to_read(operation: str, memory: Any) -> Array:
    """The bytes of a recorded tape; a copy if they are not aligned."""
    array = _bytes(operation, memory)
    if array.ctypes.data % ALIGNMENT == 0:
        return array
    size = max(array.size, 1)  # numpy may give an empty array any address
    copy = np.zeros(size + ALIGNMENT, np.uint8)
    begin = -copy.ctypes.data % ALIGNMENT
    copy[begin : begin + array.size] = array
    return copy[begin : begin + size]


def _bytes(operation: str, memory: Any) -> Array:
    array = checks.array(operation, "memory", memory)
    if array.dtype != np.uint8:
        raise TypeError(f"{operation}: got memory of {array.dtype}, expected uint8; write memory.view(np.uint8)")
    if array.ndim != 1 or not array.flags.c_contiguous:
        raise ValueError(
            f"{operation}: got memory of shape {array.shape} and strides {array.strides}, expected one contiguous "
            "axis; write np.ascontiguousarray(memory).ravel()"
        )
    return array


def stand_ins(operation: str, shape: Any, inputs: Structure, graph: Graph, dtype: str) -> Any:
    """Arrays of these shapes that take no memory, as inputs of a call that only asks for sizes."""
    made = []
    for index, (port, one) in enumerate(zip(graph.inputs, inputs.spread(operation, "shape", shape), strict=True)):
        label = inputs.label("shape", index)
        if not isinstance(one, tuple | list):
            raise TypeError(f"{operation}: got {label} {one!r}, expected a shape; give a tuple, such as x.shape")
        sizes = [checks.integer(operation, label, size, 0) for size in one]
        of_tokens = port.kind == "tokens"
        row = np.zeros(sizes[-1:], np.int64 if of_tokens else port.dtype or dtype)
        made.append(np.broadcast_to(row, sizes))
    return inputs.join(made)
