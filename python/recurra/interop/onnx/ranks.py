"""How many axes values have, as far as it is known before a graph runs."""

from __future__ import annotations

from recurra.interop.onnx.graph import Graph, Node
from recurra.interop.onnx.ops.common import integers

#: Operators whose output has as many axes as their first input.
_LIKE_FIRST = {
    *("BatchNormalization", "Cast", "Clip", "Concat", "Conv", "Elu", "Identity", "LayerNormalization", "LeakyRelu"),
    *("Pad", "Relu", "Sigmoid", "Slice", "Softmax", "Split", "Tanh", "Transpose"),
}


def ranks(graph: Graph) -> dict[str, int]:
    """The number of axes of values by name; values of which it is not known are missing."""
    found = {one.name: len(one.dims) for one in graph.inputs if one.dims is not None}
    found |= {name: array.ndim for name, array in graph.constants.items()}
    sizes = {name: int(array.size) for name, array in graph.constants.items() if array.ndim == 1}
    for node in graph.nodes:
        rank = None if node.domain else _rank(graph, node, found, sizes)
        if rank is not None:
            found.update(dict.fromkeys(node.outputs, rank))
        if not node.domain and rank == 1:
            size = _size(node, found, sizes)
            if size is not None:
                sizes[node.outputs[0]] = size
    return found


def _rank(graph: Graph, node: Node, found: dict[str, int], sizes: dict[str, int]) -> int | None:
    inputs = [found.get(name) for name in node.inputs]
    first = inputs[0] if inputs else None
    if node.op == "Gemm":
        return 2
    if node.op in ("Shape", "Reshape", "Expand", "ConstantOfShape"):
        shape = None if node.op == "Shape" else sizes.get(node.inputs[0 if node.op == "ConstantOfShape" else 1])
        if node.op == "Expand" and shape is not None:
            return None if first is None else max(shape, first)
        return 1 if node.op == "Shape" else shape
    if first is None:
        return None
    if node.op in _LIKE_FIRST:
        return first
    if node.op in ("Squeeze", "Unsqueeze"):
        axes = graph.constants.get(node.inputs[1]) if len(node.inputs) > 1 else node.attributes.get("axes")
        return None if axes is None else first + len(integers(axes)) * (1 if node.op == "Unsqueeze" else -1)
    second = inputs[1] if len(inputs) > 1 else None
    if second is None:
        return None
    if node.op == "Gather":
        return first + second - 1
    if node.op == "MatMul":
        return first if second == 2 else None
    return max(first, second) if node.op in ("Add", "Sub", "Mul", "Div") else None


def _size(node: Node, found: dict[str, int], sizes: dict[str, int]) -> int | None:
    """The number of elements of a vector that the node makes."""
    if node.op == "Shape":
        rank = found.get(node.inputs[0])
        begin, end = node.attributes.get("start", 0), node.attributes.get("end")
        return None if rank is None else len(range(rank)[begin:end])
    if node.op == "Unsqueeze":
        return 1
    if node.op == "Gather":
        return sizes.get(node.inputs[1])
    if node.op == "Cast":
        return sizes.get(node.inputs[0])
    parts = [sizes.get(name) for name in node.inputs]
    return sum(one or 0 for one in parts) if node.op == "Concat" and None not in parts else None
