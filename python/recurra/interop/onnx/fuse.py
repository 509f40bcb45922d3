"""Fuses nodes that add and multiply constants, with one another and with the products and convolutions before them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from recurra.common.typing import Array
from recurra.interop.onnx.graph import Graph, Node
from recurra.interop.onnx.ops import OWN
from recurra.interop.onnx.rules import FLOATS

#: What the names of new constants begin with.
_MADE = "recurra/fused"


def fuse(graph: Graph) -> Graph:
    """Fuse nodes with the one whose value they alone read.

    An Add of a constant vector joins a MatMul by a constant, as its third input; an Add, Sub, Mul or Div by constants,
    one or one for each channel, joins a Conv; an Add of constants and a Mul by constants become an Affine, an operator
    of this package alone.
    """
    readers = Counter(name for node in graph.nodes for name in node.reads())
    readers.update(graph.sources())
    constants = dict(graph.constants)
    if any(name.startswith(_MADE) for name in (*constants, *readers)):
        return graph
    makers: dict[str, Node] = {}
    gone: set[int] = set()
    nodes: list[Node] = []
    for node in graph.nodes:
        fused = None
        if node.op in _CHANGES and not node.domain and len(node.inputs) == 2:
            for made, other in (node.inputs, node.inputs[::-1]):
                maker = makers.get(made)
                if maker is None or readers[made] != 1 or other not in constants:
                    continue
                fused = _JOINS[maker.op](maker, node, other, constants)
                if fused is not None:
                    gone.add(id(maker))
                    break
        node = node if fused is None else replace(fused, outputs=node.outputs)
        nodes.append(node)
        if node.op in _JOINS and not node.domain:
            makers[node.outputs[0]] = node
    kept = [node for node in nodes if id(node) not in gone]
    read = {name for node in kept for name in node.reads()}.union(graph.sources())
    return replace(graph, nodes=kept, constants={name: one for name, one in constants.items() if name in read})


def _with_bias(product: Node, node: Node, other: str, constants: dict[str, Array]) -> Node | None:
    weight, vector = constants.get(product.inputs[1]), constants[other]
    if node.op != "Add" or len(product.inputs) != 2 or weight is None or weight.ndim != 2:
        return None
    if vector.shape != weight.shape[1:] or vector.dtype != weight.dtype:
        return None
    return replace(product, inputs=[*product.inputs, other])


#: For each operator, the new (weight, bias) from those of a Conv and the constant. The Conv is the first operand.
_CHANGES: dict[str, Callable[[Array, Array, Array], tuple[Array, Array]]] = {
    "Add": lambda weight, bias, by: (weight, bias + by),
    "Sub": lambda weight, bias, by: (weight, bias - by),
    "Mul": lambda weight, bias, by: (weight * by.reshape(-1, *[1] * (weight.ndim - 1)), bias * by),
    "Div": lambda weight, bias, by: (weight / by.reshape(-1, *[1] * (weight.ndim - 1)), bias / by),
}


def _with_channels(conv: Node, node: Node, other: str, constants: dict[str, Array]) -> Node | None:
    if node.op in ("Sub", "Div") and node.inputs[1] != other:
        return None
    weight = constants.get(conv.inputs[1])
    bias = None if weight is None else np.zeros(weight.shape[:1], weight.dtype)
    if len(conv.inputs) > 2 and conv.inputs[2]:
        bias = constants.get(conv.inputs[2])
    if weight is None or bias is None or weight.ndim < 3 or bias.shape != weight.shape[:1]:
        return None
    by = constants[other]
    alone = by.ndim <= weight.ndim and by.size == 1
    if not (alone or (by.ndim in (weight.ndim - 1, weight.ndim) and by.size == by.shape[1 - weight.ndim] == len(bias))):
        return None
    if by.dtype != weight.dtype:
        return None
    with np.errstate(all="ignore"):
        made = _CHANGES[node.op](weight, bias, np.broadcast_to(by.reshape(-1), bias.shape))
    names = [f"{_MADE}/{node.outputs[0]}/{what}" for what in ("weight", "bias")]
    constants.update(zip(names, (np.asarray(one, weight.dtype) for one in made), strict=True))
    return replace(conv, inputs=[conv.inputs[0], *names])


def _affine(product: Node, node: Node, other: str, constants: dict[str, Array]) -> Node | None:
    scales = [name for name in product.inputs if name in constants]
    if node.op != "Add" or len(scales) != 1 or constants[scales[0]].dtype not in FLOATS:
        return None
    given = next(name for name in product.inputs if name not in constants)
    return replace(product, domain=OWN, op="Affine", inputs=[given, scales[0], other])


_JOINS = {"MatMul": _with_bias, "Conv": _with_channels, "Mul": _affine}
