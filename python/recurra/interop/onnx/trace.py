"""A folded graph, for inputs of certain shapes, as steps: native models, and operators in numpy between them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np

from recurra.common.typing import Array
from recurra.interop.onnx import evaluate, translate
from recurra.interop.onnx.graph import Graph, Node
from recurra.interop.onnx.island import Island, Step
from recurra.interop.onnx.ops import OPERATORS
from recurra.interop.onnx.store import LayerStore
from recurra.interop.onnx.values import Turned, Value, View, labelled, merged

#: Operators whose output's shape follows from the numbers in some inputs: in which; None: in all.
_SHAPED_BY: dict[str, tuple[int, ...] | None] = {
    **dict.fromkeys(("ConstantOfShape", "NonZero", "Range", "Compress", "If", "Loop")),
    **dict.fromkeys(("Reshape", "Expand", "Tile", "TopK", "OneHot", "Split", "Squeeze", "Unsqueeze"), (1,)),
    **dict.fromkeys((name for _domain, name in OPERATORS if name.startswith("Reduce")), (1,)),
    "Pad": (1, 3),
    "Slice": (1, 2, 3, 4),
}


class Plan:
    """Steps over a list of arrays."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.start: list[Any] = []
        self.outputs: list[int] = []
        self.islands: list[Island] = []
        self.numpy: list[Node] = []

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """The outputs."""
        slots = list(self.start)
        slots[: len(inputs)] = inputs
        with np.errstate(all="ignore"):
            for step in self.steps:
                step(slots)
        return [slots[at] for at in self.outputs]


class Tracer:
    """Follows the graph's nodes, values being shapes, known arrays or views of symbols."""

    def __init__(
        self, graph: Graph, inputs: Sequence[tuple[tuple[int, ...], np.dtype[Any]]], store: LayerStore
    ) -> None:
        self.plan, self.store = Plan(), store
        self.values: dict[str, Value] = {name: known(array) for name, array in graph.constants.items()}
        for one, (shape, dtype) in zip(graph.inputs, inputs, strict=True):
            self.values[one.name] = Value(shape, dtype, slot=self.slot())
        self._open: Island | None = None
        self._nodes(graph.nodes)
        self.plan.outputs = [self.place(self.values[graph.renamed.get(one.name, one.name)]) for one in graph.outputs]
        self.close()
        for at, step in enumerate(self.plan.steps):
            if isinstance(step, _Unfinished):
                self.plan.steps[at] = step.island.finish()

    def slot(self, start: Any = None) -> int:
        """A place among a run's arrays."""
        self.plan.start.append(start)
        return len(self.plan.start) - 1

    @property
    def island(self) -> Island:
        """The island that is added to."""
        if self._open is None:
            self._open = Island()
            self.plan.islands.append(self._open)
        return self._open

    def close(self) -> None:
        """Give the open island its place among the steps."""
        if self._open is not None:
            if self._open.inputs:
                self._open.closed = True
                self.plan.steps.append(_Unfinished(self._open))
            else:
                self.plan.islands.remove(self._open)
            self._open = None

    def place(self, value: Value) -> int:
        """Where a run has the array."""
        if value.slot is None and value.known is not None:
            value.slot = self.slot(value.known)
        if value.view is not None and value.view.island is self._open:
            self.close()
        if value.slot is None and value.turned is not None:
            self._turn(value, value.turned)
        if value.slot is None:
            assert value.view is not None
            assert value.shape is not None
            value.slot = self.slot()
            value.view.island.output(value.view, value.shape, value.slot)
        return value.slot

    def _turn(self, value: Value, turned: Turned) -> None:
        shape, own = value.shape or (), self.slot()

        def step(slots: list[Any]) -> None:
            slots[own] = turned.array(slots[turned.slot], shape)

        self.plan.steps.append(step)
        value.slot = own

    def source(self, value: Value) -> Turned:
        """The array of a run behind a value."""
        assert value.shape is not None
        return value.turned if value.turned is not None else Turned.of(self.place(value), value.shape)

    def _nodes(self, nodes: Sequence[Node]) -> None:
        """All nodes; those that would close an island wait until nothing more can be added to it."""
        waiting = deque(nodes)
        held: list[Node] = []
        while waiting or held:
            if not waiting:
                self._node(held[0], force=True)
                waiting, held = deque(held[1:]), []
                continue
            node = waiting.popleft()
            ready = all(name in self.values for name in node.reads())
            branch = self._branch(node) if ready else None
            if branch is not None:
                self.values.update({name: known(array) for name, array in branch.constants.items()})
                waiting.extendleft(reversed([*branch.nodes, *_named(node, branch)]))
            elif not ready or not self._node(node, force=False):
                held.append(node)

    def _branch(self, node: Node) -> Graph | None:
        """The branch of an If whose condition is known."""
        condition = self.values[node.inputs[0]].known if node.op == "If" else None
        if condition is None:
            return None
        found: Graph = node.attributes["then_branch" if evaluate.truth(condition) else "else_branch"]
        return found

    def _node(self, node: Node, force: bool) -> bool:
        """Make the node's outputs; False if that would close the open island, which only `force` may."""
        inputs = [self.values[name] if name else None for name in node.inputs]
        made = self._known(node, inputs) or self._native(node, inputs)
        if made is None:
            reads = [self.values[name].view for name in node.reads()]
            if not force and any(view is not None and view.island is self._open for view in reads):
                return False
            made = self._numpy(node, inputs)
        self.values.update(zip(node.outputs, made, strict=False))
        return True

    def _known(self, node: Node, inputs: Sequence[Value | None]) -> list[Value] | None:
        if node.op in ("Shape", "Size") and inputs[0] is not None and inputs[0].shape is not None:
            # Of the shape alone: an array without memory stands for the value.
            return [known(one) for one in evaluate.node(node, [np.broadcast_to(np.int8(0), inputs[0].shape)], {}, 1)]
        if node.graphs or any(one is not None and one.known is None for one in inputs):
            return None
        made = evaluate.node(node, [None if one is None else one.known for one in inputs], {}, evaluate.FOLDED)
        return [known(one) for one in made]

    def _native(self, node: Node, inputs: Sequence[Value | None]) -> list[Value] | None:
        how = translate.RULES.get((node.domain, node.op))
        if how is None or any(one is not None and one.shape is None for one in inputs):
            return None
        return how(self, node, inputs)

    def _numpy(self, node: Node, inputs: Sequence[Value | None]) -> list[Value]:
        self.plan.numpy.append(node)
        free = sorted({name for graph in node.graphs for name in graph.free()})
        reads = [None if one is None else self.place(one) for one in inputs]
        outer = [(name, self.place(self.values[name])) for name in free]
        writes = [self.slot() for _name in node.outputs]
        run = evaluate.prepared(node, [None if one is None else one.known for one in inputs])

        def step(slots: list[Any]) -> None:
            given = [None if at is None else slots[at] for at in reads]
            made = run(given, {name: slots[at] for name, at in outer})
            for at, array in zip(writes, made, strict=False):
                slots[at] = array

        self.plan.steps.append(step)
        if self._is_loose(node, inputs):
            return [Value(None, None, slot=at) for at in writes]
        dry = [None if one is None else zeros(one) for one in inputs]
        made = evaluate.node(node, dry, {}, evaluate.RUNNING)
        return [Value(one.shape, one.dtype, slot=at) for at, one in zip(writes, made, strict=False)]

    def _is_loose(self, node: Node, inputs: Sequence[Value | None]) -> bool:
        """Whether the shapes of the outputs are known only when the model runs."""
        if node.graphs or any(one is not None and one.shape is None for one in inputs):
            return True
        if node.op not in _SHAPED_BY:
            return False
        which = _SHAPED_BY[node.op]
        asked = inputs if which is None else [inputs[at] for at in which if at < len(inputs)]
        return any(one is not None and one.known is None for one in asked)

    # Views

    def seen(self, value: Value, pattern: str) -> View | None:
        """The value as a symbol of the open island, its axes being `pattern`; None if it has other axes or no float."""
        if value.shape is None or len(value.shape) != len(pattern) or value.dtype not in (np.float32, np.float64):
            return None
        if 0 in value.shape[1:] or value.known is not None:
            return None
        if value.view is not None and value.view.island is self._open:
            fit = fitted(merged(value.view), value.shape, pattern)
            if fit is not None:
                return fit
        source = self.source(value)
        assert value.dtype is not None
        return self.island.input(source, value.shape, pattern, value.dtype.name)

    def made(self, view: View, symbol: Any, base: tuple[int, ...], shape: tuple[int, ...], pattern: str) -> Value:
        """What a layer gave, as a value whose axes are `pattern`."""
        order, _sizes = labelled(shape, pattern)
        return Value(shape, symbol_dtype(symbol), view=View(view.island, symbol, base, order))


def fitted(view: View, shape: tuple[int, ...], pattern: str) -> View | None:
    """The view, if a value of this shape has the axes `pattern`; a time axis is made or taken away where it has one place."""
    order, sizes = labelled(shape, pattern)
    own = view.sizes
    if view.directions != 1 or order != view.order or own["N"] != sizes["N"] or own["F"] != sizes["F"]:
        return None
    if own.get("T", 1) != sizes.get("T", 1):
        return None
    if ("T" in own) == ("T" in sizes):
        return view
    symbol = translate.without_time(view.symbol) if "T" in own else translate.with_time(view.symbol)
    base = (own["N"], own["F"]) if "T" in own else (own["N"], 1, own["F"])
    return View(view.island, symbol, base, view.order)


def _named(node: Node, branch: Graph) -> list[Node]:
    """What gives the values of a branch the names of the If."""
    pairs = zip(node.outputs, branch.outputs, strict=True)
    return [Node("Identity", "", node.name, [inner.name], [outer], {}, node.opset) for outer, inner in pairs]


class _Unfinished:
    """Stands among the steps for an island, until it is known what is needed of it."""

    def __init__(self, island: Island) -> None:
        self.island = island

    def __call__(self, slots: list[Any]) -> None:
        raise AssertionError


def known(array: Array) -> Value:
    """A value that is known."""
    return Value(np.shape(array), np.asarray(array).dtype, known=np.asarray(array))


def zeros(value: Value) -> Array:
    """An array like the value, for a dry run."""
    if value.known is not None:
        return value.known
    assert value.shape is not None
    return np.zeros(value.shape, value.dtype)


def symbol_dtype(symbol: Any) -> np.dtype[Any]:
    """That of the layer that gave it."""
    return np.dtype(symbol.source.layer.dtype or np.float32)
