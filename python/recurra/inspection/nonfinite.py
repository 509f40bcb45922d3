"""The origin of the first NaN or infinity."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from recurra.common import checks
from recurra.common.structure import Structure
from recurra.common.typing import Array, State
from recurra.graph.graph import Graph, Node
from recurra.inspection.criterion import Objective
from recurra.inspection.nonfinite_text import message
from recurra.inspection.subject import Activity, Part, Subject
from recurra.running.runner import Runner
from recurra.running.tape import Tape


@dataclass(frozen=True)
class NonFinite:
    """The result of `nonfinite`; print it.

    Attributes:
        where: "input", "state", "parameter", "output", "loss" or "gradient".
        layer: the index of the layer in the model, which is the prefix of its parameters' names; None outside layers.
        name: the place in words, such as "0.LSTM l1_reverse" or "x".
        parameter: the name of a parameter or buffer, as in `params`; None if it is not one.
        rows: the rows of the batch with non-finite values, in order; empty if the values have no rows.
        step: the first such time step in order of computation: the smallest in a forward, the largest in the reverse
            direction and in a gradient; None if there is no time axis or it is not known.
        count: the number of non-finite values.
        kind: "NaN" if there is a NaN at that step, else "infinity".
        message: what happened and what to try.

    Example:
        >>> x = np.ones((4, 10, 2), np.float32)
        >>> x[1, 3] = np.nan
        >>> found = rc.diagnose.nonfinite(rc.GRU(2, 8), x)
        >>> found.where, found.kind
        ('input', 'NaN')
    """

    where: str
    layer: int | None
    name: str
    parameter: str | None
    rows: tuple[int, ...]
    step: int | None
    count: int
    kind: str
    message: str

    def __str__(self) -> str:
        return self.message


def first_nonfinite(
    subject: Subject,
    objective: Objective | None,
    state: State,
    reset: Any,
    training: bool,
    seed: int,
) -> NonFinite | None:
    """The first finding when the subject is recorded with these arguments and, given an objective, run backward; see
    `recurra.diagnose.nonfinite`."""
    record = partial(_record_all, subject, state, reset, training, seed)
    return next(_findings(subject, objective, state, record), None)


def _findings(
    subject: Subject, objective: Objective | None, state: State, record: Callable[[], Tape]
) -> Iterator[NonFinite]:
    yield from _inputs(subject, state)
    yield from _parameters(subject)
    with subject.untouched():
        tape = record()
        values = _outputs_of_nodes(subject, tape)
        yield from _outputs(subject, tape, values)
        if objective is not None:
            yield from _loss(subject, objective, values)
            yield from _gradients(subject, objective, tape, values)


def _found(
    subject: Subject,
    where: str,
    name: str,
    bad: Array,
    array: Array,
    *,
    layer: int | None = None,
    parameter: str | None = None,
    rows: tuple[int, ...] = (),
    step: int | None = None,
    label: str = "",
) -> NonFinite:
    values = array[bad] if step is None or array.ndim < 3 else array[:, step][bad[:, step]]
    kind = "NaN" if np.isnan(values).any() else "infinity"  # at that step only, as an infinity often leads to NaN later
    rows = tuple(row + subject.first_row for row in rows)
    text = message(where, name, parameter, rows, step, int(bad.sum()), kind, str(array.dtype), label)
    return NonFinite(where, layer, name, parameter, rows, step, int(bad.sum()), kind, text)


def _where_in_time(bad: Array, *, backwards: bool = False) -> tuple[tuple[int, ...], int | None]:
    """Rows and first step of bad values, (N, T, ...) with three axes or more, else (N, ...) without time."""
    rows = tuple(int(row) for row in np.flatnonzero(bad.reshape(len(bad), -1).any(1)))
    if bad.ndim < 3:
        return rows, None
    steps = np.flatnonzero(bad.any((0, 2)))
    return rows, int(steps[-1 if backwards else 0]) if len(steps) else None


def _valid(array: Array, lengths: Array | None) -> Array:
    """The mask of an array's valid steps, to be broadcast to (N, T, F) or (N, F)."""
    if lengths is None or array.ndim < 3:
        return np.ones((1,) * array.ndim, bool)
    return checks.steps_within(lengths, array.shape[1])[..., None]


def _inputs(subject: Subject, state: State) -> Iterator[NonFinite]:
    structure, valid = subject.model.structures[0], subject.valid()
    for index, array in enumerate(subject.inputs()):
        if array.dtype.kind != "f":
            continue
        bad = ~np.isfinite(array) & _valid(array, valid[index])
        if bad.any():
            rows, step = _where_in_time(bad)
            yield _found(subject, "input", structure.label("x", index), bad, array, rows=rows, step=step)
    layout = subject.model._runner().layout
    for flat in layout.flatten(subject.operation, state) or []:
        bad = np.zeros(0, bool) if flat is None else ~np.isfinite(flat)
        if flat is not None and bad.any():
            rows = tuple(int(row) for row in np.flatnonzero(bad.any((0, 2))))
            yield _found(subject, "state", "state", bad, flat, rows=rows)


def _parameters(subject: Subject) -> Iterator[NonFinite]:
    for index, layer in enumerate(subject.graph.layers):
        prefix = subject.prefix[id(layer)]
        for name, array in {**layer.params, **layer.own_buffers}.items():
            bad = ~np.isfinite(array) if array.dtype.kind == "f" else np.zeros(1, bool)
            if bad.any():
                node = next(place for place, one in enumerate(subject.graph.nodes) if one.layer is layer)
                yield _found(
                    subject, "parameter", subject.node_name(node), bad, array, layer=index, parameter=f"{prefix}{name}"
                )


def _record_all(subject: Subject, state: State, reset: Any, training: bool, seed: int) -> Tape:
    """Record as the model does, but with all layers' outputs and states as outputs. The same nodes in the same order
    draw the same masks."""
    model, graph = subject.model, subject.graph
    nodes = [(node.layer, node.inputs, node.states) for node in graph.nodes]
    every = [value for node in graph.nodes for value in range(node.output, node.output + 1 + len(node.states))]
    whole = Graph(graph.inputs, nodes, every)
    outputs = Structure(len(every))
    runner = Runner(model.label, whole, alone=False, inputs=model.structures[0], outputs=outputs)
    first = subject.first_row
    return runner.record(subject.x, state, subject.lengths, reset, training, False, seed, first_row=first)


def _outputs_of_nodes(subject: Subject, tape: Tape) -> dict[int, Array]:
    """Every node's output and final states, by value number."""
    first = len(subject.graph.inputs)
    return dict(enumerate(tape.y, first))


def _outputs(subject: Subject, tape: Tape, values: dict[int, Array]) -> Iterator[NonFinite]:
    inner: dict[int, list[Activity]] = {}
    valid = subject.valid()
    for activity in subject.activity(tape):
        inner.setdefault(activity.part.node, []).append(activity)
    for index, node in enumerate(subject.graph.nodes):
        for activity in inner.get(index, []):
            yield from _states(subject, activity)
        layer = subject.place[id(node.layer)]
        for offset in range(1 + len(node.states)):
            array = values[node.output + offset]
            bad = ~np.isfinite(array) & _valid(array, valid[node.output] if not offset else None)
            if bad.any():
                rows, step = _where_in_time(bad) if not offset else (_where_in_time(np.moveaxis(bad, 1, 0))[0], None)
                name = subject.node_name(index)
                yield _found(
                    subject, "output", name, bad, array, layer=layer, rows=rows, step=step, label=node.layer.label
                )


def _states(subject: Subject, activity: Activity) -> Iterator[NonFinite]:
    """h and c of a layer and direction, after every step."""
    part = activity.part
    for array in (activity.h, activity.c):
        bad = None if array is None else ~np.isfinite(array)
        if array is not None and bad is not None and bad.any():
            rows, step = _where_in_time(bad, backwards=part.reverse)
            yield _found(
                subject, "output", part.name, bad, array, layer=part.layer, rows=rows, step=step, label=part.label
            )


def _loss(subject: Subject, objective: Objective, values: dict[int, Array]) -> Iterator[NonFinite]:
    outputs = [values[value] for value in subject.graph.outputs]
    structure = subject.model.structures[1]
    whole = objective.values(outputs)
    for index, value in enumerate(whole):
        name = type(objective.goal.losses[index]).__name__ + structure.label("", index)
        gradient = outputs[index] if value.gradient is None else value.gradient
        bad = ~np.isfinite(gradient)
        rows, step = _where_in_time(bad)
        if not np.isfinite(value.sum):
            rows = tuple(
                row for row in range(len(outputs[index])) if not np.isfinite(objective.values(outputs, row)[index].sum)
            )
            total = np.array([value.sum])
            yield _found(subject, "loss", name, ~np.isfinite(total), total, rows=rows, step=step if bad.any() else None)
        if bad.any():
            yield _found(
                subject, "gradient", f"{name}, with respect to its predictions", bad, gradient, rows=rows, step=step
            )


def _gradients(subject: Subject, objective: Objective, tape: Tape, values: dict[int, Array]) -> Iterator[NonFinite]:
    parts: dict[int, list[Part]] = {}
    for part in subject.parts():
        parts.setdefault(part.node, []).append(part)
    for place in parts:
        subject.place_of(tape, place)[0].keep_gradient_norms()
    given, _scale = objective.gradient(objective.values([values[value] for value in subject.graph.outputs]))
    wanted = dict(zip(subject.graph.outputs, given, strict=True))
    tape.backward(tuple(wanted.get(value) for value in values))
    for index, node in reversed(list(enumerate(subject.graph.nodes))):
        own = parts.get(index, [])
        for part in sorted(own, key=lambda one: one.slot, reverse=True):
            yield from _through_time(subject, part, tape)
            yield from _of_parameters(subject, index, node, part.end, part.name)
        yield from _of_parameters(subject, index, node, "", subject.node_name(index))


def _through_time(subject: Subject, part: Part, tape: Tape) -> Iterator[NonFinite]:
    piece, place = subject.place_of(tape, part.node)
    norms = piece.gradient_norms[place]
    assert norms is not None
    bad = ~np.isfinite(norms[part.slot])[..., None]
    if bad.any():
        rows, step = _where_in_time(bad, backwards=not part.reverse)
        array = norms[part.slot][..., None]
        yield _found(
            subject, "gradient", f"{part.name}, with respect to h", bad, array, layer=part.layer, rows=rows, step=step
        )


def _of_parameters(subject: Subject, index: int, node: Node, end: str, name: str) -> Iterator[NonFinite]:
    """Gradients of the parameters whose names end with `end`."""
    for parameter, array in node.layer.grads.items():
        bad = ~np.isfinite(array)
        if parameter.endswith(end) and bad.any():
            full = f"{subject.prefix[id(node.layer)]}{parameter}"
            yield _found(subject, "gradient", name, bad, array, layer=subject.place[id(node.layer)], parameter=full)
