"""Expressions as a graph in which equal ones are one node, and their derivatives as further nodes."""

from __future__ import annotations

from typing import Any, NamedTuple

#: Functions of one argument that become one call in the compiled file; the others are made of these.
FUNCTIONS = ("tanh", "sigmoid", "relu", "exp", "sqrt", "softsign")


class Node(NamedTuple):
    """An operation on the nodes of these numbers; a leaf has what it stands for instead.

    Leaves: const (a number), column and vector (an index), x, h, c (of the step before), and dh, dc (the gradients of
    the new state). Operations: add, sub, mul, div, neg, min, max; the names in FUNCTIONS; select (a, b, then,
    otherwise: where a < b).
    """

    kind: str
    args: tuple[Any, ...] = ()


LEAVES = frozenset(["const", "column", "vector", "x", "h", "c", "dh", "dc"])


class Expressions:
    """All nodes; arguments come before what is made of them."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self._places: dict[Node, int] = {}

    def leaf(self, kind: str, *what: Any) -> int:
        return self._place(Node(kind, what))

    def const(self, value: float) -> int:
        return self.leaf("const", float(value))

    def value(self, i: int) -> float | None:
        """The number that node i is; None: it is none."""
        node = self.nodes[i]
        return node.args[0] if node.kind == "const" else None

    def add(self, a: int, b: int) -> int:
        va, vb = self.value(a), self.value(b)
        if va == 0.0 or vb == 0.0:
            return b if va == 0.0 else a
        if va is not None and vb is not None:
            return self.const(va + vb)
        if self.nodes[b].kind == "neg":
            return self.sub(a, self.nodes[b].args[0])
        return self._place(Node("add", (a, b)))

    def sub(self, a: int, b: int) -> int:
        va, vb = self.value(a), self.value(b)
        if va is not None and vb is not None:
            return self.const(va - vb)
        if vb == 0.0 or va == 0.0:
            return a if vb == 0.0 else self.neg(b)
        return self._place(Node("sub", (a, b)))

    def neg(self, a: int) -> int:
        value = self.value(a)
        if value is not None:
            return self.const(-value)
        return self.nodes[a].args[0] if self.nodes[a].kind == "neg" else self._place(Node("neg", (a,)))

    def mul(self, a: int, b: int) -> int:
        va, vb = self.value(a), self.value(b)
        if va is not None and vb is not None:
            return self.const(va * vb)
        for one, other in ((va, b), (vb, a)):
            if one == 0.0:
                return self.const(0.0)
            if one == 1.0:
                return other
            if one == -1.0:
                return self.neg(other)
        return self._place(Node("mul", (a, b)))

    def div(self, a: int, b: int) -> int:
        return a if self.value(b) == 1.0 else self._place(Node("div", (a, b)))

    def select(self, a: int, b: int, then: int, otherwise: int) -> int:
        """`then` where a < b, else `otherwise`."""
        return then if then == otherwise else self._place(Node("select", (a, b, then, otherwise)))

    def call(self, kind: str, *args: int) -> int:
        return self._place(Node(kind, args))

    def number_columns(self, order: dict[int, int]) -> None:
        """Give the columns other numbers."""
        for i, node in enumerate(self.nodes):
            if node.kind == "column":
                self.nodes[i] = node._replace(args=(order[node.args[0]],))
        self._places = {node: i for i, node in enumerate(self.nodes)}

    def _place(self, node: Node) -> int:
        place = self._places.setdefault(node, len(self.nodes))
        if place == len(self.nodes):
            self.nodes.append(node)
        return place

    def gradients(self, seeds: list[tuple[int, int]]) -> dict[int, int]:
        """From (node, its gradient) of the results, the gradient of every node that they are made of, leaves included.

        Where a slope changes, one of the two counts: of relu the one to the left, as in PyTorch.
        """
        found: dict[int, int] = {}

        def give(to: int, amount: int) -> None:
            if self.value(to) is None:
                found[to] = self.add(found[to], amount) if to in found else amount

        for node, seed in seeds:
            give(node, seed)
        for i in range(max((node for node, _seed in seeds), default=-1), -1, -1):
            if i in found:
                for to, amount in self._local(i, found[i]):
                    give(to, amount)
        return found

    def _local(self, i: int, g: int) -> list[tuple[int, int]]:
        """What node i, of which g is the gradient, gives its arguments."""
        kind, args = self.nodes[i]
        one, zero = self.const(1.0), self.const(0.0)
        if kind in LEAVES:
            return []
        a, b = (*args, args[-1])[:2]
        if kind == "add":
            return [(a, g), (b, g)]
        if kind == "sub":
            return [(a, g), (b, self.neg(g))]
        if kind == "neg":
            return [(a, self.neg(g))]
        if kind == "mul":
            return [(a, self.mul(g, b)), (b, self.mul(g, a))]
        if kind == "div":
            of_a = self.div(g, b)
            return [(a, of_a), (b, self.neg(self.mul(of_a, i)))]
        if kind == "min":
            return [(a, self.select(a, b, g, zero)), (b, self.select(a, b, zero, g))]
        if kind == "max":
            return [(a, self.select(b, a, g, zero)), (b, self.select(b, a, zero, g))]
        if kind == "select":
            return [(args[2], self.select(a, b, g, zero)), (args[3], self.select(a, b, zero, g))]
        if kind == "relu":
            return [(a, self.select(zero, a, g, zero))]
        if kind == "tanh":
            slope = self.sub(one, self.mul(i, i))
        elif kind == "sigmoid":
            slope = self.mul(i, self.sub(one, i))
        elif kind == "exp":
            slope = i
        elif kind == "sqrt":
            slope = self.div(self.const(0.5), i)
        else:  # softsign
            left = self.sub(one, self.call("max", self.neg(i), i))
            slope = self.mul(left, left)
        return [(a, self.mul(g, slope))]
