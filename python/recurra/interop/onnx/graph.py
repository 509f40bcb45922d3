"""An ONNX graph as plain data: named values, and nodes in order of computation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from recurra.common.errors import ModelFormatError
from recurra.common.typing import Array
from recurra.interop.onnx import schema, tensors
from recurra.interop.onnx.wire import Reader, joined

#: The oldest supported operator set.
OLDEST = 7


@dataclass
class Value:
    """An input or output. Each of `dims` is a size, a size's name, or None; dims is None if the file has no shape."""

    name: str
    dtype: np.dtype[Any] | None
    dims: tuple[int | str | None, ...] | None

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether an array of this shape fits."""
        return self.dims is None or (
            len(self.dims) == len(shape)
            and all(not isinstance(want, int) or want == size for want, size in zip(self.dims, shape, strict=True))
        )


@dataclass
class Node:
    """A node: an operator with its inputs, outputs and attributes."""

    op: str
    domain: str
    name: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any]
    opset: int

    def __str__(self) -> str:
        kind = f"{self.domain}.{self.op}" if self.domain else self.op
        called = self.name or next((one for one in self.outputs if one), "")
        return f"{kind} {called!r}"

    @property
    def graphs(self) -> list[Graph]:
        """The subgraphs of an If, a Loop or a Scan."""
        return [one for one in self.attributes.values() if isinstance(one, Graph)]

    def reads(self) -> Iterator[str]:
        """The names of all values that the node reads, including in subgraphs."""
        yield from (one for one in self.inputs if one)
        for graph in self.graphs:
            yield from graph.free()


@dataclass
class Graph:
    """A graph: inputs, outputs, nodes and constants."""

    inputs: list[Value] = field(default_factory=list)
    outputs: list[Value] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)
    #: The internal names of outputs whose value has another name.
    renamed: dict[str, str] = field(default_factory=dict)

    def sources(self) -> list[str]:
        """The internal name of each output's value."""
        return [self.renamed.get(one.name, one.name) for one in self.outputs]

    def free(self) -> Iterator[str]:
        """The names that a subgraph reads from the graphs around it."""
        own = {*self.constants, *(one.name for one in self.inputs)}
        own |= {name for node in self.nodes for name in node.outputs}
        for node in self.nodes:
            yield from (name for name in node.reads() if name not in own)
        yield from (one.name for one in self.outputs if one.name not in own)


def parse(data: bytes, directory: Path | None) -> Graph:
    """The graph of a model file."""
    model = Reader().message(schema.MODEL, memoryview(data))
    if "graph" not in model:
        raise ModelFormatError("got no graph, expected an ONNX model; export it again")
    if model["functions"]:
        raise ModelFormatError(
            "got a model with functions of its own, expected plain operators; inline them (onnx.inliner)"
        )
    opsets = {one.get("domain", ""): int(one.get("version", 0)) for one in model["opset_import"]}
    opsets[""] = opsets.get("", opsets.get("ai.onnx", 0))
    if opsets[""] < OLDEST:
        raise ModelFormatError(
            f"got operator set {opsets['']}, expected {OLDEST} or later; convert the model (onnx.version_converter)"
        )
    return _Parser(opsets[""], directory).graph(model["graph"], frozenset())


class _Parser:
    def __init__(self, opset: int, directory: Path | None) -> None:
        self._opset, self._directory = opset, directory

    def graph(self, message: Mapping[str, Any], outer: frozenset[str]) -> Graph:
        if message["sparse_initializer"]:
            raise ModelFormatError("got sparse tensors, expected dense ones; convert the model")
        constants = {one.get("name", ""): tensors.read(one, self._directory) for one in message["initializer"]}
        inputs = [_value(one) for one in message["input"]]
        given = [one for one in inputs if one.name not in constants]  # older files list initializers as inputs too
        before = outer | {*constants, *(one.name for one in inputs)}
        known = before | {name for node in message["node"] for name in node["output"] if name}
        nodes = [self._node(one, known) for one in message["node"]]
        outputs = [_value(one) for one in message["output"]]
        return Graph(given, outputs, _sorted(nodes, before, [one.name for one in outputs]), constants)

    def _node(self, message: Mapping[str, Any], known: frozenset[str]) -> Node:
        domain = message.get("domain", "")
        domain = "" if domain == "ai.onnx" else domain
        node = Node(
            message.get("op_type", ""),
            domain,
            message.get("name", ""),
            message["input"],
            message["output"],
            {},
            self._opset,
        )
        for one in message["attribute"]:
            node.attributes[one.get("name", "")] = self._attribute(node, one, known)
        return node

    def _attribute(self, node: Node, message: Mapping[str, Any], known: frozenset[str]) -> Any:
        name = message.get("name", "")
        kind = schema.ATTRIBUTE_TYPES.get(message.get("type", 0))
        if message.get("ref_attr_name") or kind is None or kind not in message:
            raise ModelFormatError(
                f"{node}: got an attribute {name!r} with an unknown kind of value; the file is damaged"
            )
        value = message[kind]
        if kind == "t":
            return tensors.read(value, self._directory)
        if kind == "g":
            return self.graph(value, known)
        if kind == "s":
            return bytes(value).decode(errors="replace")
        if kind == "strings":
            return [bytes(one).decode(errors="replace") for one in value]
        return joined(value).tolist() if kind in ("ints", "floats") else value


def _value(message: Mapping[str, Any]) -> Value:
    kind = message.get("type", {}).get("tensor_type", {})
    dtype = (
        tensors.dtype(int(kind["elem_type"]), f"the value {message.get('name', '')!r}")
        if kind.get("elem_type")
        else None
    )
    shape = kind.get("shape")
    return Value(message.get("name", ""), dtype, None if shape is None else tuple(map(_dim, shape["dim"])))


def _dim(message: Mapping[str, Any]) -> int | str | None:
    """A size, a name for it, or None for any; some exporters write -1 for any."""
    size = message.get("dim_value") or 0
    return int(size) if size > 0 else message.get("dim_param") or None


def _sorted(nodes: Sequence[Node], before: frozenset[str], wanted: Sequence[str]) -> list[Node]:
    """The nodes in topological order.

    Raises:
        ModelFormatError: a cycle, or a value that no node makes or that two make.
    """
    makers: dict[str, int] = {}
    for index, node in enumerate(nodes):
        for name in node.outputs:
            if name and (name in makers or name in before):
                raise ModelFormatError(f"{node}: got the output {name!r} a second time, expected each name once")
            if name:
                makers[name] = index
    waits: list[set[int]] = []
    for node in nodes:
        reads = set(node.reads())
        missing = next((name for name in reads if name not in makers and name not in before), None)
        if missing is not None:
            raise ModelFormatError(
                f"{node}: got the input {missing!r}, which nothing in the graph makes; the file is damaged"
            )
        waits.append({makers[name] for name in reads if name in makers})
    for name in wanted:
        if name not in makers and name not in before:
            raise ModelFormatError(f"got the output {name!r}, which nothing in the graph makes; the file is damaged")
    readers: dict[int, list[int]] = {}
    for index, needs in enumerate(waits):
        for need in needs:
            readers.setdefault(need, []).append(index)
    left = [len(needs) for needs in waits]
    import heapq  # late: keeps `import recurra` cheap

    ready = [index for index, count in enumerate(left) if not count]
    order = []
    while ready:
        index = heapq.heappop(ready)
        order.append(nodes[index])
        for reader in readers.get(index, []):
            left[reader] -= 1
            if not left[reader]:
                heapq.heappush(ready, reader)
    if len(order) < len(nodes):
        stuck = next(node for node, count in zip(nodes, left, strict=True) if count)
        raise ModelFormatError(
            f"{stuck}: got a cycle, expected nodes that read what earlier ones make; the file is damaged"
        )
    return order
