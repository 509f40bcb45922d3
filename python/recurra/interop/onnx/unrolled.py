"""Turns cells that an exporter has written out step by step back into one RNN, LSTM or GRU node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from recurra.common.typing import Array
from recurra.interop.onnx import recurrent
from recurra.interop.onnx.cell_patterns import Cell, Patterns, Product
from recurra.interop.onnx.graph import Graph, Node
from recurra.interop.onnx.ops.common import integers

#: What the names of new values begin with.
_MADE = "recurra/rolled"


@dataclass(eq=False)
class _Chain:
    """Successive steps of a cell.

    Their x are taken from `base`, a name or another chain, at places along `axis` that begin with `begin`; if it is
    None, the only step's x is a matrix of its own. total: the steps that `base` must have, 0 for any.
    """

    number: int
    cells: list[Cell]
    base: Any
    axis: int
    begin: int
    total: int
    made: list[Node] = field(default_factory=list)

    def name(self, what: str) -> str:
        return f"{_MADE}/{self.number}/{what}"


def roll(graph: Graph) -> Graph:
    """The graph with a node for each cell that was written out; the graph itself if there is none."""
    patterns = Patterns(graph)
    cells = sorted(patterns.cells(), key=lambda one: one.first)
    taken = any(
        name.startswith(_MADE) for name in (*graph.constants, *patterns.makers, *(v.name for v in graph.inputs))
    )
    if not cells or taken:
        return graph
    chains = _chains(patterns, cells)
    constants = dict(graph.constants)
    for chain in chains:
        _write(chain, constants)
    gone = {id(node) for cell in cells for node in cell.nodes}
    place = {cell.next_h: (chain, at) for chain in chains for at, cell in enumerate(chain.cells)}
    kept = [_stacked(node, patterns, place) for node in graph.nodes if id(node) not in gone]
    nodes = _ordered([*kept, *(node for chain in chains for node in chain.made)], {*constants, *_inputs(graph)})
    if nodes is None:
        return graph
    return _needed(replace(graph, nodes=nodes, constants=constants))


def _inputs(graph: Graph) -> list[str]:
    return [one.name for one in graph.inputs]


def _chains(patterns: Patterns, cells: Sequence[Cell]) -> list[_Chain]:
    """The cells in order of computation as chains, each as long as can be."""
    chains: list[_Chain] = []
    ends: dict[str, _Chain] = {}
    place: dict[str, tuple[_Chain, int]] = {}
    for cell in cells:
        source = _source(patterns, cell.of_x.x, place)
        chain = ends.get(cell.of_h.x)
        if chain is None or not _continues(patterns, chain, cell, source):
            chain = _Chain(len(chains), [], *source)
            chains.append(chain)
        chain.cells.append(cell)
        ends[cell.next_h] = chain
        place[cell.next_h] = chain, len(chain.cells) - 1
    return chains


def _continues(patterns: Patterns, chain: _Chain, cell: Cell, source: tuple[Any, int, int, int]) -> bool:
    """Whether the cell is the chain's next step, and its x is there before the first one."""
    last, first = chain.cells[-1], chain.cells[0]
    if last.next_h != cell.of_h.x or last.next_c != cell.c or last.key != cell.key:
        return False
    if source != (chain.base, chain.axis, chain.begin + len(chain.cells), chain.total) or source[0] is None:
        return False
    if cell.c and (patterns.is_output(cell.c) or len(patterns.readers(cell.c)) != 2):  # its own tanh, and this cell
        return False
    maker = None if isinstance(chain.base, _Chain) else patterns.makers.get(chain.base)
    return maker is None or patterns.places[id(maker)] < first.first


def _source(patterns: Patterns, x: str, place: dict[str, tuple[_Chain, int]]) -> tuple[Any, int, int, int]:
    """What a step's x is a part of, as in a _Chain: base, axis, place there, total."""
    if x in place:
        chain, at = place[x]
        return chain, 0, at, 0
    gather = patterns.made(x, "Gather")
    if gather is not None:
        index, axis = patterns.graph.constants.get(gather.inputs[1]), gather.attributes.get("axis", 0)
        if index is not None and index.ndim == 0 and index >= 0 and axis in (0, 1):
            return gather.inputs[0], int(axis), int(index), 0
    squeeze = patterns.made(x, "Squeeze")
    split = None if squeeze is None else patterns.made(squeeze.inputs[0], "Split")
    if squeeze is not None and split is not None:
        axes, axis = _axes(patterns.graph, squeeze), split.attributes.get("axis", 0)
        sizes = patterns.graph.constants.get(split.inputs[1]) if len(split.inputs) > 1 else None
        if axes == [axis] and axis in (0, 1) and sizes is not None and np.all(sizes == 1):
            return split.inputs[0], int(axis), split.outputs.index(squeeze.inputs[0]), len(split.outputs)
    return None, 0, 0, 0


def _axes(graph: Graph, node: Node) -> list[int] | None:
    given = graph.constants.get(node.inputs[1]) if len(node.inputs) > 1 else node.attributes.get("axes")
    return None if given is None else integers(given)


def _write(chain: _Chain, constants: dict[str, Array]) -> None:
    """Make the chain's nodes and constants."""
    first, last, count = chain.cells[0], chain.cells[-1], len(chain.cells)

    def known(what: str, value: Any) -> str:
        name = chain.name(what)
        constants[name] = np.asarray(value)
        return name

    def node(op: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        chain.made.append(Node(op, "", first.nodes[0].name, list(inputs), [output], attributes, 17))
        return output

    zero, one = known("zero", np.array([0])), known("one", np.array([1]))
    if chain.base is None:
        base, rows = first.of_x.x, zero
        x = node("Unsqueeze", [base, zero], chain.name("x"))
    else:
        base = chain.base.name("steps") if isinstance(chain.base, _Chain) else chain.base
        rows, places = (zero if chain.axis else one), known("places", chain.begin + np.arange(count))
        if chain.total:  # Split takes a sequence of so many steps only
            sizes = [0, 0, _inputs_of(first.of_x, constants)]
            sizes[chain.axis] = chain.total
            base = node("Reshape", [base, known("sizes", np.array(sizes))], chain.name("whole"))
        x = node("Gather", [base, places], chain.name("some"), axis=chain.axis)
        if chain.axis:
            x = node("Transpose", [x], chain.name("x"), perm=[1, 0, 2])
    weight, hidden, bias = _weights(first, constants)
    size = int(hidden.shape[2])
    shape = node("Shape", [base], chain.name("shape"))
    shape = node("Gather", [shape, rows], chain.name("rows"), axis=0)
    shape = node("Concat", [shape, known("size", np.array([size]))], chain.name("state shape"), axis=0)
    states: list[str] = []
    for name in (first.of_h.x, first.c)[: 2 if first.c else 1]:
        wide = node("Expand", [name, shape], chain.name(f"state {len(states)}"))
        states.append(node("Unsqueeze", [wide, zero], chain.name(f"initial {len(states)}")))
    given = [x, known("W", weight), known("R", hidden), known("B", bias), "", *states]
    outputs = [chain.name(what) for what in ("Y", "Y_h", "Y_c")[: 1 + len(states)]]
    options: dict[str, Any] = {"linear_before_reset": 1} if first.op == "GRU" else {}
    if first.activation:
        options["activations"] = [first.activation]
    cell = Node(first.op, "", first.nodes[0].name, given, outputs, {"hidden_size": size, **options}, 17)
    chain.made.append(cell)
    steps = node("Squeeze", [outputs[0], one], chain.name("steps"))
    node("Squeeze", [outputs[1], zero], last.next_h)
    if last.next_c:
        node("Squeeze", [outputs[2], zero], last.next_c)
    for at, done in enumerate(chain.cells[:-1]):
        node("Gather", [steps, known(f"at {at}", np.array(at))], done.next_h, axis=0)


def _inputs_of(product: Product, constants: dict[str, Array]) -> int:
    return int(constants[product.weight].shape[0 if product.turned else 1])


def _weights(cell: Cell, constants: dict[str, Array]) -> tuple[Array, Array, Array]:
    """W, R and B, in ONNX's layout and order of gates."""

    def matrix(product: Product) -> Array:
        array = constants[product.weight]
        return recurrent.regated(cell.op, array.T if product.turned else array, back=True)[None]

    def bias(product: Product) -> Array:
        weight = constants[product.weight]
        none = np.zeros(weight.shape[1 if product.turned else 0], weight.dtype)
        return recurrent.regated(cell.op, constants[product.bias] if product.bias else none, back=True)

    biases = [bias(cell.of_x), bias(cell.of_h)]
    return matrix(cell.of_x), matrix(cell.of_h), np.concatenate(biases)[None]


def _stacked(node: Node, patterns: Patterns, place: dict[str, tuple[_Chain, int]]) -> Node:
    """The node; if it stacks all steps' h in order, one that takes them from the chain instead."""
    if node.op != "Concat" or node.domain:
        return node
    parts = [patterns.made(name, "Unsqueeze") for name in node.inputs]
    found = [place.get(one.inputs[0]) if one is not None else None for one in parts]
    if not found or found[0] is None:
        return node
    chain, axis = found[0][0], node.attributes.get("axis", 0) % 3
    along = all(one is not None and [at % 3 for at in _axes(patterns.graph, one) or ()] == [axis] for one in parts)
    if found != [(chain, at) for at in range(len(chain.cells))] or not along or axis == 2:
        return node
    op, options = ("Transpose", {"perm": [1, 0, 2]}) if axis == 1 else ("Identity", {})
    return Node(op, "", node.name, [chain.name("steps")], node.outputs, dict(options), 17)


def _ordered(nodes: Sequence[Node], known: set[str]) -> list[Node] | None:
    """The nodes, each behind those that make what it reads; None if there is a cycle."""
    waits: dict[str, list[int]] = {}
    missing = []
    for index, node in enumerate(nodes):
        reads = {name for name in node.reads() if name not in known}
        missing.append(len(reads))
        for name in reads:
            waits.setdefault(name, []).append(index)
    ready = [index for index, count in enumerate(missing) if not count][::-1]
    ordered = []
    while ready:
        node = nodes[ready.pop()]
        ordered.append(node)
        for name in node.outputs:
            for index in waits.pop(name, ()):
                missing[index] -= 1
                if not missing[index]:
                    ready.append(index)
    return ordered if len(ordered) == len(nodes) else None


def _needed(graph: Graph) -> Graph:
    """The graph without nodes that no output needs."""
    needed, kept = set(graph.sources()), list[Node]()
    for node in reversed(graph.nodes):
        if any(name in needed for name in node.outputs):
            kept.append(node)
            needed.update(node.reads())
    constants = {name: array for name, array in graph.constants.items() if name in needed}
    return replace(graph, nodes=kept[::-1], constants=constants)
