"""Finds the nodes that torch.onnx.export makes of a step of torch.nn.RNNCell, LSTMCell and GRUCell."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from recurra.interop.onnx.graph import Graph, Node
from recurra.interop.onnx.ops.common import integers
from recurra.interop.onnx.ranks import ranks
from recurra.interop.onnx.rules import FLOATS


@dataclass(frozen=True)
class Product:
    """x @ weight.T + bias, of a matrix x; the names of the constants, "" for no bias, and whether the file has weight.T
    instead."""

    x: str
    weight: str
    bias: str
    turned: bool

    @property
    def constants(self) -> tuple[str, str, bool]:
        return self.weight, self.bias, self.turned


@dataclass(frozen=True)
class Cell:
    """A step: its products with x and h, its states, and its nodes, of which `first` is the index of the first.

    c and next_c are "" if there is none. The products' rows are gates in PyTorch's order. activation: of an RNN.
    """

    op: str
    of_x: Product
    of_h: Product
    c: str
    next_h: str
    next_c: str
    nodes: tuple[Node, ...]
    first: int
    activation: str = ""

    @property
    def key(self) -> Any:
        """The same for the same cell in another step."""
        return self.op, self.activation, self.of_x.constants, self.of_h.constants


class Patterns:
    """A graph's nodes by what they read and make."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.places = {id(node): index for index, node in enumerate(graph.nodes)}
        self.makers = {name: node for node in graph.nodes for name in node.outputs if name}
        self._readers: dict[str, list[Node]] = defaultdict(list)
        for node in graph.nodes:
            for name in node.reads():
                self._readers[name].append(node)
        self._outputs = set(graph.sources())
        self._inputs = {one.name for one in graph.inputs}
        self._of_h: set[Any] = set()
        self._ranks = ranks(graph)

    def cells(self) -> Iterator[Cell]:
        """All steps of cells."""
        found = list(self._found())
        self._of_h = {one.of_h.constants for one in found}
        yield from self._found()
        yield from self._rnns()

    def _found(self) -> Iterator[Cell]:
        for node in self.graph.nodes:
            found = None
            if self._is(node, "Split") and len(node.outputs) == 4:
                found = self._lstm(node)
            elif self._is(node, "Sub"):
                found = self._gru(node)
            if found is not None:
                yield found

    def readers(self, name: str) -> list[Node]:
        """The nodes that read a value, once for each time."""
        return self._readers[name]

    def is_output(self, name: str) -> bool:
        return name in self._outputs

    def made(self, name: str, op: str) -> Node | None:
        """The node that makes a value, if it is of this kind."""
        node = self.makers.get(name)
        return node if node is not None and self._is(node, op) else None

    @staticmethod
    def _is(node: Node | None, op: str) -> bool:
        return node is not None and node.op == op and not node.domain

    def _only(self, name: str, op: str) -> Node | None:
        """The only reader of a value, if it is of this kind."""
        readers = self._readers[name]
        if len(readers) != 1 or name in self._outputs or not self._is(readers[0], op):
            return None
        return readers[0]

    def _inner(self, name: str, op: str) -> Node | None:
        """The node that makes a value, if it is of this kind and one node alone reads the value."""
        return self.made(name, op) if len(self._readers[name]) == 1 and name not in self._outputs else None

    def _product(self, name: str) -> Product | None:
        """A Gemm, or a MatMul of a matrix; fuse.py has given the latter its bias."""
        node = self._inner(name, "Gemm") or self._inner(name, "MatMul")
        if node is None or len(node.inputs) not in (2, 3):
            return None
        if node.op == "MatMul" and self._ranks.get(node.inputs[0]) != 2:
            return None
        given = node.attributes
        if given.get("transA") or given.get("alpha", 1.0) != 1.0 or given.get("beta", 1.0) != 1.0:
            return None
        bias_name = node.inputs[2] if len(node.inputs) > 2 else ""
        weight, bias = self.graph.constants.get(node.inputs[1]), self.graph.constants.get(bias_name)
        turned = not given.get("transB")
        if weight is None or weight.ndim != 2 or weight.dtype not in FLOATS or 0 in weight.shape:
            return None
        if bias_name and (bias is None or bias.dtype != weight.dtype or bias.shape != weight.shape[turned:][:1]):
            return None
        return Product(node.inputs[0], node.inputs[1], bias_name, turned)

    def _sizes(self, product: Product) -> tuple[int, int]:
        """Outputs and inputs."""
        shape = self.graph.constants[product.weight].shape
        return (shape[1], shape[0]) if product.turned else (shape[0], shape[1])

    def _splits_evenly(self, node: Node, rows: int) -> bool:
        """Whether it splits the columns of a matrix into parts of one size."""
        sizes = node.attributes.get("split")
        if len(node.inputs) > 1 and node.inputs[1]:
            sizes = self.graph.constants.get(node.inputs[1])
            if sizes is None:
                return False
        count = len(node.outputs)
        even = rows % count == 0 and (sizes is None or integers(sizes) == [rows // count] * count)
        return even and node.attributes.get("axis", 0) in (1, -1)

    def _lstm(self, split: Node) -> Cell | None:
        total = self._inner(split.inputs[0], "Add")
        products = [None if total is None else self._product(name) for name in (total.inputs if total else ())]
        acts = [self._only(name, op) for name, op in zip(split.outputs, _LSTM_GATES, strict=True)]
        if total is None or len(products) != 2 or None in products or None in acts:
            return None
        i, f, g, o = (one.outputs[0] for one in acts if one is not None)
        forget, write = self._only(f, "Mul"), self._only(i, "Mul")
        c_node, output = None if forget is None else self._only(forget.outputs[0], "Add"), self._only(o, "Mul")
        if forget is None or write is None or c_node is None or output is None:
            return None
        next_c, tanh = c_node.outputs[0], self._inner(_other(output, o), "Tanh")
        fits = _reads(write, i, g) and self._only(g, "Mul") is write and tanh is not None and tanh.inputs == [next_c]
        if not fits or not _reads(c_node, forget.outputs[0], write.outputs[0]):
            return None
        assert tanh is not None
        a, b = (one for one in products if one is not None)
        rows = self._sizes(a)[0]
        if self._sizes(b)[0] != rows or not self._splits_evenly(split, rows):
            return None
        c = _other(forget, f)
        of_h = self._recurrent(a, b, c, rows // 4)
        if of_h is None:
            return None
        of_x = b if of_h is a else a
        made = [self.makers[name] for name in total.inputs]
        nodes = (total, *made, split, *(one for one in acts if one), forget, write, c_node, tanh, output)
        return self._cell("LSTM", of_x, of_h, c, output.outputs[0], next_c, nodes)

    def _recurrent(self, a: Product, b: Product, c: str, hidden: int) -> Product | None:
        """Which of the products is that of h; None if either may be. In the sum they have the same part."""
        fits = [one for one in (a, b) if self._sizes(one)[1] == hidden]
        if len(fits) == 2:
            begin, roots = self._root(c), [self._root(one.x) for one in fits]
            tests = [
                [root == begin for root in roots],
                [one.constants in self._of_h for one in fits],  # as in another step
                [begin in self._inputs and root in self._inputs for root in roots],
            ]
            told = next((one for one in tests if one.count(True) == 1), [])
            fits = [one for one, is_h in zip(fits, told, strict=False) if is_h]
        return fits[0] if len(fits) == 1 else None

    def _root(self, name: str) -> Any:
        """What a state comes from: the cell of the step before, a state for all layers, zeros."""
        node = self.makers.get(name)
        for _ in range(8):
            if node is None or node.op not in ("Gather", "Squeeze", "Unsqueeze", "Slice", "Split", "Reshape"):
                break
            name = node.inputs[0]
            node = self.makers.get(name)
        if name in self.graph.constants or (node is not None and node.op in ("ConstantOfShape", "Expand")):
            return "zeros"
        if node is not None and node.op == "Mul":  # h is o times the tanh of c
            through = [self.made(one, "Tanh") for one in node.inputs]
            name = next((one.inputs[0] for one in through if one is not None), name)
        return name

    def _rnns(self) -> Iterator[Cell]:
        """Steps of plain RNNs, of which at least two are in a chain: one alone is like other sums of two products."""
        found: dict[str, tuple[Node, Node, Product, Product]] = {}
        for node in self.graph.nodes:
            if node.op not in ("Tanh", "Relu") or node.domain:
                continue
            total = self._inner(node.inputs[0], "Add")
            products = [] if total is None else [self._product(name) for name in total.inputs]
            if total is not None and len(products) == 2 and products[0] is not None and products[1] is not None:
                found[node.outputs[0]] = node, total, products[0], products[1]
        of_h = set()
        for _node, _total, *pair in found.values():
            for one in pair:
                before = found.get(one.x)
                if before is not None and {x.constants for x in pair} == {x.constants for x in before[2:]}:
                    of_h.add(one.constants)
        for node, total, *pair in found.values():
            hidden = [one for one in pair if one.constants in of_h and len(set(self._sizes(one))) == 1]
            if len(hidden) != 1:
                continue
            of_x = pair[1] if hidden[0] is pair[0] else pair[0]
            if self._sizes(of_x)[0] != self._sizes(hidden[0])[0]:
                continue
            nodes = (node, total, *(self.makers[name] for name in total.inputs))
            cell = self._cell("RNN", of_x, hidden[0], "", node.outputs[0], "", nodes)
            if cell is not None:
                yield replace(cell, activation=node.op)

    def _gru(self, sub: Node) -> Cell | None:
        h, n = sub.inputs
        tanh, product = self.made(n, "Tanh"), self._only(sub.outputs[0], "Mul")
        total = None if product is None else self._only(product.outputs[0], "Add")
        if tanh is None or product is None or total is None or self.is_output(n) or len(self.readers(n)) != 2:
            return None
        if not _reads(total, product.outputs[0], n):
            return None
        z, mixed = self._inner(_other(product, sub.outputs[0]), "Sigmoid"), self._inner(tanh.inputs[0], "Add")
        reset = (
            None if mixed is None else next((one for name in mixed.inputs if (one := self._inner(name, "Mul"))), None)
        )
        if z is None or mixed is None or reset is None:
            return None
        r = next((one for name in reset.inputs if (one := self._inner(name, "Sigmoid"))), None)
        if r is None:
            return None
        sums = [self._inner(one.inputs[0], "Add") for one in (r, z)]
        h_split = self.made(_other(reset, r.outputs[0]), "Split")
        x_split = self.made(_other(mixed, reset.outputs[0]), "Split")
        if None in sums or h_split is None or x_split is None or h_split is x_split:
            return None
        of_x, of_h = self._product(x_split.inputs[0]), self._product(h_split.inputs[0])
        if of_x is None or of_h is None or of_h.x != h or len(x_split.outputs) != 3 or len(h_split.outputs) != 3:
            return None
        rows = self._sizes(of_h)[0]
        pairs = list(zip(h_split.outputs, x_split.outputs, strict=True))
        read = [*(one.inputs for one in sums if one), [_other(reset, r.outputs[0]), _other(mixed, reset.outputs[0])]]
        alone = all(len(self._readers[name]) == 1 and not self.is_output(name) for pair in pairs for name in pair)
        fits = alone and all(sorted(one) == sorted(pair) for one, pair in zip(read, pairs, strict=True))
        fits = fits and self._sizes(of_x)[0] == rows == 3 * self._sizes(of_h)[1]
        if not fits or not all(self._splits_evenly(one, rows) for one in (h_split, x_split)):
            return None
        made = [self.makers[one.inputs[0]] for one in (x_split, h_split)]
        nodes = (*made, x_split, h_split, *(one for one in sums if one), r, z, reset, mixed, tanh, sub, product, total)
        return self._cell("GRU", of_x, of_h, "", total.outputs[0], "", nodes)

    def _cell(self, op: str, of_x: Product, of_h: Product, c: str, next_h: str, next_c: str, nodes: Any) -> Cell | None:
        kinds = {self.graph.constants[one.weight].dtype for one in (of_x, of_h)}
        first = min(self.places[id(one)] for one in nodes)
        return Cell(op, of_x, of_h, c, next_h, next_c, nodes, first) if len(kinds) == 1 else None


_LSTM_GATES = ("Sigmoid", "Sigmoid", "Tanh", "Sigmoid")


def _other(node: Node, name: str) -> str:
    """The other of a node's two inputs."""
    return node.inputs[1] if node.inputs[0] == name else node.inputs[0]


def _reads(node: Node, one: str, other: str) -> bool:
    return sorted(node.inputs) == sorted((one, other))
