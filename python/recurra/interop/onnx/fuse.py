"""Fuses products with the nodes that add their biases."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from recurra.interop.onnx.graph import Graph, Node


def fuse(graph: Graph) -> Graph:
    """Fuse a MatMul by a constant with an Add of a constant vector, its only reader, into a MatMul of three inputs."""
    readers = Counter(name for node in graph.nodes for name in node.reads())
    readers.update(graph.sources())
    makers = {node.outputs[0]: node for node in graph.nodes if node.op == "MatMul" and not node.domain}
    gone: set[int] = set()
    nodes: list[Node] = []
    for node in graph.nodes:
        pair = _bias(graph, node, makers, readers) if node.op == "Add" and not node.domain else None
        if pair is None:
            nodes.append(node)
            continue
        product, bias = pair
        gone.add(id(product))
        nodes.append(replace(product, inputs=[*product.inputs, bias], outputs=node.outputs))
    kept = [node for node in nodes if id(node) not in gone]
    return replace(graph, nodes=kept)


def _bias(graph: Graph, node: Node, makers: dict[str, Node], readers: Counter[str]) -> tuple[Node, str] | None:
    if len(node.inputs) != 2:
        return None
    for product, bias in (node.inputs, node.inputs[::-1]):
        made, vector = makers.get(product), graph.constants.get(bias)
        if made is None or vector is None or readers[product] != 1 or len(made.inputs) != 2:
            continue
        weight = graph.constants.get(made.inputs[1])
        if (
            weight is not None
            and weight.ndim == 2
            and vector.shape == weight.shape[1:]
            and vector.dtype == weight.dtype
        ):
            return made, bias
    return None
