"""Runs nodes one by one in numpy, for constant folding and for nodes that are not layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from recurra.common.errors import ModelFormatError
from recurra.common.typing import Array
from recurra.interop.onnx import recurrent
from recurra.interop.onnx.graph import Graph, Node
from recurra.interop.onnx.ops import OPERATORS, shapes
from recurra.layers.recurrent.recurrent import Recurrent

#: Bounds on the size of a node's result, in constant folding and in a run.
FOLDED, RUNNING = 1 << 24, 1 << 31
#: Bound on the steps of a Loop.
_LONGEST = 1_000_000
#: Exceptions that inconsistent models raise.
BROKEN = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, MemoryError, RecursionError)


def check_known(graph: Graph) -> None:
    """Raise for unknown operators and for attributes of cells that are not supported."""
    for node in graph.nodes:
        if not node.domain and node.op in recurrent.KINDS:
            recurrent.spec(node)
        elif (node.domain, node.op) not in OPERATORS and (node.domain or node.op not in _CONTROL):
            raise ModelFormatError(
                f"{node}: got an unsupported operator, expected one listed in docs/interop_onnx.md; remove it from "
                "the model, or do its part in Python"
            )
        for inner in node.graphs:
            check_known(inner)


def node(one: Node, inputs: list[Any], outer: Mapping[str, Any], limit: int) -> list[Array]:
    """Run a node and return its outputs.

    Args:
        one: the node.
        inputs: its inputs; None for omitted ones.
        outer: values by name, for subgraphs.
        limit: the maximum size of an output.

    Raises:
        ModelFormatError: the node cannot run on these inputs.
    """
    try:
        with np.errstate(all="ignore"):
            if not one.domain and one.op in recurrent.KINDS:
                return _cell(*_layer(one, inputs), inputs)
            if not one.domain and one.op in _CONTROL:
                return _CONTROL[one.op](one, inputs, outer, limit)
            made = [np.asarray(each) for each in OPERATORS[one.domain, one.op](one, inputs, limit)]
            if any(one.outputs[len(made) :]):
                raise ValueError(f"got the output {one.outputs[len(made)]!r}, expected {len(made)} outputs only")
            return made
    except ModelFormatError:
        raise
    except BROKEN as error:
        sizes = ", ".join("none" if one is None else str(np.shape(one)) for one in inputs)
        raise ModelFormatError(f"{one}: got inputs of shapes {sizes}, on which it cannot run ({error})") from error


def prepared(
    one: Node,
    known: Sequence[Any],
    reads: Sequence[int | None],
    outer: Sequence[tuple[str, int]],
    writes: Sequence[int],
) -> Callable[[list[Any]], None]:
    """A function that runs the node on a list of arrays, specialised for constant inputs; the caller silences numpy's
    warnings.

    Args:
        one: the node.
        known: its constant inputs; None for the others.
        reads, writes: where its inputs are and its outputs go; None for omitted inputs.
        outer: where the values are that subgraphs read, by name.
    """
    quick = _QUICK.get(one.op, _usual)(one, known) if not one.domain else None

    def usual(slots: list[Any]) -> None:
        given = [None if at is None else slots[at] for at in reads]
        made = node(one, given, {name: slots[at] for name, at in outer}, RUNNING)
        for at, array in zip(writes, made, strict=False):
            slots[at] = array

    if quick is None:
        return usual
    found = quick
    if len(writes) > 1 or None in reads:

        def step(slots: list[Any]) -> None:
            try:
                made = found([None if at is None else slots[at] for at in reads])
            except BROKEN:
                return usual(slots)  # raises an explanation
            for at, array in zip(writes, made, strict=False):
                slots[at] = array
            return None

        return step
    places, write = [at for at in reads if at is not None], writes[0]

    def short(slots: list[Any]) -> None:
        try:
            slots[write] = found([slots[at] for at in places])[0]
        except BROKEN:
            usual(slots)

    return short


def _usual(one: Node, known: Sequence[Any]) -> Callable[[list[Any]], list[Array]] | None:
    operator = OPERATORS.get(("", one.op))
    if operator is None or any(one.outputs[1:]):
        return None
    return lambda inputs: operator(one, inputs, RUNNING)


def _one_place(one: Node, known: Sequence[Any]) -> Callable[[list[Any]], list[Array]] | None:
    """Gather of a single constant index."""
    if known[1] is None or known[1].size != 1:
        return _usual(one, known)
    axis, at, axes = int(one.attributes.get("axis", 0)), int(known[1].reshape(-1)[0]), known[1].ndim
    if axis >= 0 and axes == 0:
        place = (*[slice(None)] * axis, at, ...)  # with ... a scalar is an array, too
        return lambda inputs: [inputs[0][place]]

    def run(inputs: list[Any]) -> list[Array]:
        x = inputs[0]
        begin = axis + x.ndim if axis < 0 else axis
        taken = x[(slice(None),) * begin + (at,)]
        return [taken.reshape(*x.shape[:begin], *[1] * axes, *x.shape[begin + 1 :])]

    return run


def _mirrored(one: Node, known: Sequence[Any]) -> Callable[[list[Any]], list[Array]] | None:
    """Pad by constant widths in a mode that copies values of the input."""
    mode, widths = one.attributes.get("mode", "constant"), known[1] if len(known) > 1 else None
    if mode == "constant" or widths is None or len(known) > 2 or widths.min(initial=0) < 0:
        return _usual(one, known)
    each = len(widths) // 2
    sides = [
        (axis, int(widths[axis]), int(widths[axis + each]))
        for axis in range(each)
        if widths[axis] or widths[axis + each]
    ]

    def run(inputs: list[Any]) -> list[Array]:
        x = inputs[0]
        for axis, low, high in sides:
            x = x.take(shapes.mirrored_places(x.shape[axis], low, high, mode), axis)
        return [x]

    return run


def _split(one: Node, known: Sequence[Any]) -> Callable[[list[Any]], list[Array]]:
    """Split, which counts its outputs itself."""
    operator = OPERATORS["", "Split"]
    return lambda inputs: operator(one, inputs, RUNNING)


def _joined(one: Node, known: Sequence[Any]) -> Callable[[list[Any]], list[Array]] | None:
    """Concat; its inputs, which are there, bound the size of its result."""
    axis = int(one.attributes.get("axis", 0))
    return lambda inputs: [np.concatenate(inputs, axis)]


def _known_cell(one: Node, known: Sequence[Any]) -> Callable[[list[Any]], list[Array]] | None:
    """A cell with constant weights, whose layer is made once."""
    if any(one.inputs[at] and known[at] is None for at in recurrent.WEIGHTS if at < len(one.inputs)):
        return None
    found, layer = _layer(one, known)
    return lambda inputs: _cell(found, layer, inputs)


_QUICK = {
    "Gather": _one_place,
    "Pad": _mirrored,
    "Concat": _joined,
    "Split": _split,
    **dict.fromkeys(recurrent.KINDS, _known_cell),
}


def _layer(one: Node, inputs: Sequence[Any]) -> tuple[recurrent.Spec, Recurrent]:
    found = recurrent.spec(one)
    return found, recurrent.make(one, found, [inputs[at] if at < len(inputs) else None for at in recurrent.WEIGHTS])


def _cell(found: recurrent.Spec, layer: Recurrent, inputs: list[Any]) -> list[Array]:
    given = [*inputs, *[None] * (7 - len(inputs))]
    return recurrent.run(layer, found, given[0], given[4], given[5 : 5 + found.state_count])


def graph(one: Graph, outer: Mapping[str, Any], limit: int) -> list[Array]:
    """Run a subgraph and return its outputs."""
    values = {**outer, **one.constants}
    for inner in one.nodes:
        made = node(inner, [values[name] if name else None for name in inner.inputs], values, limit)
        values.update(zip(inner.outputs, made, strict=False))
    return [values[value.name] for value in one.outputs]


def _if(one: Node, inputs: list[Any], outer: Mapping[str, Any], limit: int) -> list[Array]:
    return graph(branch(one, inputs[0]), outer, limit)


def branch(one: Node, condition: Any) -> Graph:
    """The branch that an If runs."""
    found: Graph = one.attributes["then_branch" if _truth(condition) else "else_branch"]
    return found


def _truth(value: Any) -> bool:
    return bool(np.asarray(value).reshape(-1)[0])


def _loop(one: Node, inputs: list[Any], outer: Mapping[str, Any], limit: int) -> list[Array]:
    body: Graph = one.attributes["body"]
    most = None if inputs[0] is None else int(np.asarray(inputs[0]).reshape(-1)[0])
    goes = inputs[1] is None or _truth(inputs[1])
    carried: list[Any] = list(inputs[2:])
    scanned: list[list[Array]] = [[] for _ in range(len(body.outputs) - 1 - len(carried))]
    names = [value.name for value in body.inputs]
    if goes and most is not None and most > _LONGEST and _goes_on(body):
        raise ValueError(f"got a loop of {most} steps, expected at most {_LONGEST}")
    step = 0
    while goes and (most is None or step < most):
        if step >= _LONGEST:
            raise ValueError(f"got a loop of more than {_LONGEST} steps")
        begin = [np.array(step, np.int64), np.array(goes), *carried]
        condition, *made = graph(body, {**outer, **dict(zip(names, begin, strict=True))}, limit)
        goes, carried = _truth(condition), made[: len(carried)]
        _collect(scanned, made[len(carried) :], limit)
        step += 1
    return [*carried, *(np.stack(parts) if parts else np.zeros(0, np.float32) for parts in scanned)]


def _goes_on(body: Graph) -> bool:
    """Whether a Loop's condition never changes from true."""
    name = body.outputs[0].name
    for inner in reversed(body.nodes):
        if name in inner.outputs and inner.op in ("Identity", "Cast"):
            name = inner.inputs[0]
    return name == body.inputs[1].name or (name in body.constants and _truth(body.constants[name]))


def _collect(scanned: Sequence[list[Array]], made: Sequence[Array], limit: int) -> None:
    """Append a step's outputs."""
    for parts, part in zip(scanned, made, strict=True):
        parts.append(part)
        if part.size * len(parts) > limit:
            raise ValueError(f"got a loop whose outputs have more than {limit} numbers")


def _scan(one: Node, inputs: list[Any], outer: Mapping[str, Any], limit: int) -> list[Array]:
    body: Graph = one.attributes["body"]
    count = int(one.attributes["num_scan_inputs"])
    if one.opset < 9 or not 0 < count <= len(inputs):
        raise ValueError(f"got operator set {one.opset} and {count} inputs to scan, expected 9 or later, and some")
    carried, given = list(inputs[:-count]), inputs[-count:]

    def listed(name: str, size: int) -> list[int]:
        return [int(value) for value in one.attributes.get(name, [0] * size)]

    axes, turned = listed("scan_input_axes", count), listed("scan_input_directions", count)
    rows = [np.moveaxis(x, axis, 0)[:: -1 if back else 1] for x, axis, back in zip(given, axes, turned, strict=True)]
    steps = {len(x) for x in rows}
    if len(steps) != 1 or not max(steps):
        raise ValueError(f"got inputs of {sorted(steps)} steps, expected as many in each, and at least one")
    names = [value.name for value in body.inputs]
    scanned: list[list[Array]] = [[] for _ in range(len(body.outputs) - len(carried))]
    for parts in zip(*rows, strict=True):
        made = graph(body, {**outer, **dict(zip(names, [*carried, *parts], strict=True))}, limit)
        carried = made[: len(carried)]
        _collect(scanned, made[len(carried) :], limit)
    ends = zip(
        scanned, listed("scan_output_axes", len(scanned)), listed("scan_output_directions", len(scanned)), strict=True
    )
    return [*carried, *(np.stack(parts[:: -1 if back else 1], axis) for parts, axis, back in ends)]


_CONTROL = {"If": _if, "Loop": _loop, "Scan": _scan}
