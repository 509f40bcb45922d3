"""Constant folding: binds inputs, runs nodes of constant inputs, resolves If nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from recurra.common.errors import ModelFormatError
from recurra.common.typing import Array
from recurra.interop.onnx import evaluate, quantised
from recurra.interop.onnx.graph import Graph, Node

#: Bound on the total size of folded results.
_ALL = 1 << 26


def bind(graph: Graph, given: Mapping[str, Any]) -> Graph:
    """The graph with some inputs bound to constants.

    Raises:
        TypeError, ValueError: there is no such input, or the array does not fit it.
    """
    known = {one.name: one for one in graph.inputs}
    constants = dict(graph.constants)
    for name, value in given.items():
        if name not in known:
            raise TypeError(
                f"from_onnx: got {name}=, expected inputs of the graph: {', '.join(known)}; change the name"
            )
        array = np.asarray(value)
        kind = known[name].dtype
        if array.dtype.kind not in "fiub":
            raise TypeError(f"from_onnx: got {name} of {array.dtype}, expected numbers; convert it")
        if not known[name].fits(array.shape):
            raise ValueError(f"from_onnx: got {name} of shape {array.shape}, expected {known[name].dims}; reshape it")
        constants[name] = array if kind is None else array.astype(kind)
    return Graph([one for one in graph.inputs if one.name not in given], graph.outputs, graph.nodes, constants)


class _Folding:
    def __init__(self, constants: Mapping[str, Array], rounds: bool) -> None:
        self.known, self.nodes, self._rounds = dict(constants), list[Node](), rounds
        self._same: dict[str, str] = {}
        self._size = 0

    def name(self, name: str) -> str:
        return self._same.get(name, name)

    def add(self, node: Node) -> None:
        inputs = [self.name(one) for one in node.inputs]
        if quantised.is_quantised(node):
            node = quantised.read(replace(node, inputs=inputs), self.known, self._rounds)
            inputs = node.inputs
        if node.op == "If" and inputs[0] in self.known:
            self._inline(node, evaluate.branch(node, self.known[inputs[0]]))
            return
        if node.op in ("Identity", "Dropout") and inputs[0] and not any(node.outputs[1:]):
            self._same[node.outputs[0]] = inputs[0]
            return
        if node.op in ("Add", "Sub") and self._adds_nothing(node.op, inputs):
            kept = inputs[0] if inputs[1] in self.known else inputs[1]
            self._same[node.outputs[0]] = kept
            return
        folded = replace(node, inputs=inputs, attributes=self._renamed(node))
        if node.graphs or any(one and one not in self.known for one in inputs):
            self.nodes.append(folded)
            return
        made = evaluate.node(folded, [self.known.get(one) for one in inputs], {}, evaluate.FOLDED)
        self._size += sum(one.size for one in made)
        if self._size > _ALL:
            raise ModelFormatError(
                f"{node}: got constants of more than {_ALL} numbers in all, expected fewer; simplify the model"
            )
        self.known.update(zip(node.outputs, made, strict=False))

    def _adds_nothing(self, op: str, inputs: list[str]) -> bool:
        """Whether an Add or Sub only adds a constant float scalar 0, so that dtype and shape stay the same."""
        zeros = [
            one in self.known
            and self.known[one].ndim == 0
            and self.known[one].dtype.kind == "f"
            and not self.known[one]
            for one in inputs
        ]
        return len(zeros) == 2 and zeros.count(True) == 1 and (op == "Add" or zeros[1])

    def _inline(self, node: Node, branch: Graph) -> None:
        self.known.update(branch.constants)
        for one in branch.nodes:
            self.add(one)
        for outer, inner in zip(node.outputs, branch.outputs, strict=True):
            self._same[outer] = self.name(inner.name)

    def _renamed(self, node: Node) -> dict[str, Any]:
        """The attributes, with names in subgraphs replaced as in the folding."""
        return {
            name: self._subgraph(value) if isinstance(value, Graph) else value
            for name, value in node.attributes.items()
        }

    def _subgraph(self, graph: Graph) -> Graph:
        nodes = [
            replace(one, inputs=[self.name(i) for i in one.inputs], attributes=self._renamed(one))
            for one in graph.nodes
        ]
        outputs = [replace(one, name=self.name(one.name)) for one in graph.outputs]
        return Graph(graph.inputs, outputs, nodes, graph.constants)


def fold(graph: Graph, rounds: bool) -> Graph:
    """The graph without constant nodes and without nodes that no output needs; a DynamicQuantizeLSTM `rounds` or not.

    Raises:
        ModelFormatError: a constant node cannot run, or an operator is unknown.
    """
    folding = _Folding(graph.constants, rounds)
    for node in graph.nodes:
        _check(node)
        folding.add(node)
    renamed = {one.name: folding.name(one.name) for one in graph.outputs}
    needed = set(renamed.values())
    kept: list[Node] = []
    for node in reversed(folding.nodes):
        if any(name in needed for name in node.outputs):
            kept.append(node)
            needed.update(node.reads())
    constants = {name: array for name, array in folding.known.items() if name in needed}
    whole = Graph(graph.inputs, graph.outputs, kept[::-1], constants, renamed)
    evaluate.check_known(whole)
    return whole


def _check(node: Node) -> None:
    """Raise for an unknown operator, except within an If, whose branch may never be taken."""
    if not node.graphs and not quantised.is_quantised(node):
        evaluate.check_known(Graph(nodes=[node]))
