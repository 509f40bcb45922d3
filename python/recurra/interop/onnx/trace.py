"""Turns a folded graph, for given input shapes, into a plan: native models, and numpy operators between them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from operator import is_
from typing import Any

import numpy as np

from recurra.common.typing import Array
from recurra.interop.onnx import evaluate, translate
from recurra.interop.onnx.graph import Graph, Node
from recurra.interop.onnx.island import Island, Step
from recurra.interop.onnx.ops import OPERATORS
from recurra.interop.onnx.rules import FLOATS
from recurra.interop.onnx.store import LayerStore
from recurra.interop.onnx.values import Turned, Value, View, labelled, settled
from recurra.layers.pooling import Pool
from recurra.layers.repeat import RepeatVector
from recurra.models.model import Model

#: Operators whose output shape depends on the values of inputs, with those inputs' indices; None for all.
_SHAPED_BY: dict[str, tuple[int, ...] | None] = {
    **dict.fromkeys(("ConstantOfShape", "NonZero", "Range", "Compress", "If", "Loop", "Scan")),
    **dict.fromkeys(("Reshape", "Expand", "Tile", "TopK", "OneHot", "Split", "Squeeze", "Unsqueeze"), (1,)),
    **dict.fromkeys((name for _domain, name in OPERATORS if name.startswith("Reduce")), (1,)),
    "Pad": (1, 3),
    "Slice": (1, 2, 3, 4),
}


#: Operators in numpy without arithmetic.
_MOVING = {
    *("Concat", "Expand", "Flatten", "Gather", "Identity", "Pad", "Reshape"),
    *("Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"),
}


def moves(node: Node) -> bool:
    """Whether the operator only moves numbers."""
    return not node.domain and node.op in _MOVING


class Plan:
    """Steps that read and write a list of arrays, the slots."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.start: list[Any] = []
        self.known: list[Array] = []
        self.outputs: list[int] = []
        #: Slots of layers' initial states.
        self.begins: list[int] = []
        #: Slots of native models' outputs, which share no memory with inputs and constants.
        self.fresh: set[int] = set()
        #: Slots of arrays that an operator in numpy has made for its output alone.
        self.own: set[int] = set()
        #: Whether that is known to leave no output in memory that something else has, too.
        self.apart = False
        #: Whether the operators in numpy only move numbers: then numpy has nothing to warn about.
        self.moves_only = False
        self.models: list[Model] = []
        self.numpy: list[Node] = []

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """The outputs, which share no memory with the inputs, the graph's constants or one another."""
        slots = list(self.start)
        slots[: len(inputs)] = inputs
        if self.moves_only:
            self._advance(slots)
        else:
            with np.errstate(all="ignore"):
                self._advance(slots)
        if self.apart:
            return [slots[at] for at in self.outputs]
        made: list[Array] = []
        for at in self.outputs:
            array = slots[at]
            shared = any(np.may_share_memory(array, one) for one in made) if made else False
            if not shared and at not in self.fresh:
                shared = _is_of(array, inputs) or _is_of(array, self.known)
            made.append(array.copy() if shared else array)
        return made

    def _advance(self, slots: list[Any]) -> None:
        for step in self.steps:
            step(slots)


def _is_of(array: Array, others: Sequence[Array]) -> bool:
    """Whether the array is one of the others, or made as a view of one."""
    if array.base is None:  # quicker, and there may be many constants
        return any(map(partial(is_, array), others))
    return any(np.may_share_memory(array, one) for one in others)


class Tracer:
    """Traces the graph's nodes; values are shapes, constants or views of symbols."""

    def __init__(
        self, graph: Graph, inputs: Sequence[tuple[tuple[int, ...], np.dtype[Any]]], store: LayerStore
    ) -> None:
        self.plan, self.store = Plan(), store
        self.values: dict[str, Value] = {name: known(array) for name, array in graph.constants.items()}
        for one, (shape, dtype) in zip(graph.inputs, inputs, strict=True):
            self.values[one.name] = Value(shape, dtype, slot=self.slot())
        self._open: Island | None = None
        self._steps: list[Step | Island] = []
        self._nodes(graph.nodes)
        self.plan.outputs = [self.place(self.values[name]) for name in graph.sources()]
        self.close()
        for step in self._steps:  # all requests for an island's values are known now
            if isinstance(step, Island):
                if not step.is_asked:
                    continue
                self.plan.fresh |= step.fresh
                self.plan.begins += step.begins
                model, step = step.finish()
                self.plan.models.append(model)
            self.plan.steps.append(step)
        self.plan.moves_only = all(map(moves, self.plan.numpy))
        self.plan.known = [one for one in self.plan.start if one is not None]
        others = [at for at in self.plan.outputs if at not in self.plan.own]
        once = len(set(self.plan.outputs)) == len(self.plan.outputs)
        self.plan.apart = once and len(others) <= 1 and self.plan.fresh.issuperset(others)

    def slot(self, start: Any = None) -> int:
        """A new slot, which starts as `start`."""
        self.plan.start.append(start)
        return len(self.plan.start) - 1

    @property
    def island(self) -> Island:
        """The open island, made if there is none."""
        if self._open is None:
            self._open = Island()
        return self._open

    def close(self) -> None:
        """Close the open island and append it to the steps."""
        if self._open is not None and self._open.inputs:
            self._open.closed = True
            self._steps.append(self._open)
        self._open = None

    def place(self, value: Value) -> int:
        """The slot of a value's array, assigned if it has none."""
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

        begin = turned.slot

        def step(slots: list[Any]) -> None:
            slots[own] = turned.array(slots[begin], shape)

        def reshape(slots: list[Any]) -> None:
            slots[own] = slots[begin].reshape(shape)

        self._steps.append(reshape if turned.axes == tuple(range(len(turned.axes))) else step)
        value.slot = own

    def source(self, value: Value) -> Turned:
        """The value's array as a transposed slot."""
        assert value.shape is not None
        return value.turned if value.turned is not None else Turned.of(self.place(value), value.shape)

    def _nodes(self, nodes: Sequence[Node]) -> None:
        """Trace all nodes; those that would close the island wait until nothing more can be added to it."""
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
        """The branch that an If takes, if its condition is known; else None."""
        condition = self.values[node.inputs[0]].known if node.op == "If" else None
        if condition is None:
            return None
        return evaluate.branch(node, condition)

    def _node(self, node: Node, force: bool) -> bool:
        """Trace a node; False if it would close the open island, which only `force` allows."""
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
            # These only need the shape: a broadcast scalar stands for the value.
            return [known(one) for one in evaluate.node(node, [np.broadcast_to(np.int8(0), inputs[0].shape)], {}, 1)]
        if node.graphs or any(one is not None and one.known is None for one in inputs):
            return None
        made = evaluate.node(node, [None if one is None else one.known for one in inputs], {}, evaluate.FOLDED)
        return [known(one) for one in made]

    def _native(self, node: Node, inputs: Sequence[Value | None]) -> list[Value] | None:
        rules = translate.RULES.get((node.domain, node.op), ())
        if any(one is not None and one.shape is None for one in inputs):
            return None
        return next((made for rule in rules if (made := rule(self, node, inputs)) is not None), None)

    def _numpy(self, node: Node, inputs: Sequence[Value | None]) -> list[Value]:
        self.plan.numpy.append(node)
        free = sorted({name for graph in node.graphs for name in graph.free()})
        reads = [None if one is None else self.place(one) for one in inputs]
        outer = [(name, self.place(self.values[name])) for name in free]
        writes = [self.slot() for _name in node.outputs]
        constants = [None if one is None else one.known for one in inputs]
        if node.op == "Concat" and not node.domain:
            self.plan.own.update(writes)
        self._steps.append(evaluate.prepared(node, constants, reads, outer, writes))
        if self._is_loose(node, inputs):
            return [Value(None, None, slot=at) for at in writes]
        dry = [None if one is None else zeros(one) for one in inputs]
        made = evaluate.node(node, dry, {}, evaluate.RUNNING)
        return [Value(one.shape, one.dtype, slot=at) for at, one in zip(writes, made, strict=False)]

    def _is_loose(self, node: Node, inputs: Sequence[Value | None]) -> bool:
        """Whether the outputs' shapes depend on values that are only known when the model runs."""
        if node.graphs or any(one is not None and one.shape is None for one in inputs):
            return True
        if node.op not in _SHAPED_BY:
            return False
        which = _SHAPED_BY[node.op]
        asked = inputs if which is None else [inputs[at] for at in which if at < len(inputs)]
        return any(one is not None and one.known is None for one in asked)

    # Views

    def seen(self, value: Value, pattern: str) -> View | None:
        """The value as a view in the open island, with the axes `pattern`; None if its axes or dtype do not fit."""
        if value.shape is None or value.dtype is None or value.dtype not in FLOATS or len(value.shape) != len(pattern):
            return None
        if 0 in value.shape[1:] or value.known is not None:
            return None
        dtype = value.dtype.name
        if value.view is not None and value.view.island is self._open:
            if "D" in pattern:
                fit = _image(value.view, value.shape, pattern)
            else:
                fit = self._fitted(settled(value.view), value.shape, pattern, dtype)
            if fit is not None:
                return fit
        source = self.source(value)  # first, as it may close the island
        return self.island.input(source, value.shape, pattern, dtype)

    def beside(self, value: Value, view: View) -> Value:
        """The value as one in the island of `view`, with the same axes, if it is an array; else the value itself."""
        if value.view is not None or value.known is not None or value.shape is None or value.dtype is None:
            return value
        if value.dtype not in FLOATS or 0 in value.shape:
            return value
        letters = iter(view.order)
        spare = iter([one for one in view.sizes if one not in view.order and (one != "D" or view.directions > 1)])
        pattern = "".join(next(letters if size != 1 else spare, "?") for size in value.shape)
        if "?" in pattern or next(letters, None) or next(spare, None):
            return value
        found = self.island.input(self.source(value), value.shape, pattern, value.dtype.name)
        return replace(value, view=found)

    def _fitted(self, view: View, shape: tuple[int, ...], pattern: str, dtype: str) -> View | None:
        """The view, if its axes fit a value of this shape and `pattern`; adds or removes a time axis of size 1."""
        order, sizes = labelled(shape, pattern)
        own = view.sizes
        if view.directions != 1 or order != view.order or own["N"] != sizes["N"] or own["F"] != sizes["F"]:
            return None
        if own.get("T", 1) != sizes.get("T", 1):
            return None
        if ("T" in own) == ("T" in sizes):
            return view
        layer: Any
        base: tuple[int, ...]
        if "T" in own:
            layer, base = self.store.plain(Pool, "last", dtype=dtype), (own["N"], own["F"])
        else:
            layer, base = self.store.plain(RepeatVector, 1, dtype=dtype), (own["N"], 1, own["F"])
        return View(view.island, layer(view.symbol), base, view.order)


def _image(view: View, shape: tuple[int, ...], pattern: str) -> View | None:
    """The view, if its axes fit images of this shape, with features of D rows each; a single row or feature fits
    both."""
    order, sizes = labelled(shape, pattern)
    if view.base != (sizes["N"], sizes["T"], sizes["D"] * sizes["F"]):
        return None
    if 1 in (sizes["D"], sizes["F"]):
        if view.order.replace("D", "F") != order.replace("D", "F"):
            return None
    elif view.order != order or view.directions != sizes["D"]:
        return None
    return View(view.island, view.symbol, view.base, order, sizes["D"])


def _named(node: Node, branch: Graph) -> list[Node]:
    """Identity nodes that give a branch's outputs the names of the If's."""
    pairs = zip(node.outputs, branch.outputs, strict=True)
    return [Node("Identity", "", node.name, [inner.name], [outer], {}, node.opset) for outer, inner in pairs]


def known(array: Array) -> Value:
    """A constant value."""
    return Value(np.shape(array), np.asarray(array).dtype, known=np.asarray(array))


def zeros(value: Value) -> Array:
    """The value's constant, or zeros of its shape, for a dry run."""
    if value.known is not None:
        return value.known
    assert value.shape is not None
    return np.zeros(value.shape, value.dtype)
