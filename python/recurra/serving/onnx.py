"""Graphs from ONNX in pools: their rows, each with the state of a stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from recurra.common.structure import Structure
from recurra.common.typing import Array
from recurra.graph.graph import Port
from recurra.interop.onnx.graph import Graph, Value
from recurra.interop.onnx.model import OnnxModel
from recurra.serving.served import Served
from recurra.serving.snapshots import Snapshots, hashed

#: Rows of a call, up to which a batch is filled with copies of its last row: a plan is made for each number, which
#: takes milliseconds. From 8 on they are at most a quarter apart.
_SIZES = (*range(1, 8), *(quarters << k for k in range(1, 6) for quarters in (4, 5, 6, 7)), 256)


def served(model: OnnxModel) -> Served:
    """What a pool needs of the graph.

    Raises:
        ValueError: it has no states, its inputs are not (N, features), or a state has no axis of rows.
    """
    given = [value for value in model._graph.inputs if value.name in model.inputs]
    for value in given:
        if value.dims is None or len(value.dims) != 2 or isinstance(value.dims[0], int):
            raise ValueError(
                f"Pool: got a graph whose input {value.name} is {value.dims}, expected (N, features) with any N; "
                "export a step with an axis of rows, or take as_model(), if it consists of layers only"
            )
    model.stream(1)._taken(np.zeros(1, np.int64))  # raises if a state has no axis of rows, or if there is none
    inputs, outputs = (Structure(None if len(names) == 1 else len(names)) for names in (model.inputs, model.outputs))
    snapshots = Snapshots(
        list(model.state_names), lambda: model.init_state(1), hashed(_parts(model._graph)), lambda: ((), ())
    )
    return Served(lambda rows: OnnxRows(model, rows), [_port(one) for one in given], inputs, outputs, None, snapshots)


def _port(value: Value) -> Port:
    assert value.dims is not None
    size = value.dims[1] if isinstance(value.dims[1], int) else None
    return Port("any", size, "vector", value.name)


def _parts(graph: Graph) -> list[bytes]:
    """All that distinguishes a graph from others."""
    parts = [repr((graph.inputs, graph.outputs)).encode()]
    for name, array in sorted(graph.constants.items()):
        parts += [f"{name} {array.dtype} {array.shape}".encode(), array.tobytes()]
    for node in graph.nodes:
        plain = [one for one in sorted(node.attributes.items()) if not isinstance(one[1], Graph | np.ndarray)]
        parts.append(repr((node.op, node.domain, node.inputs, node.outputs, plain, node.opset)).encode())
        for value in node.attributes.values():
            if isinstance(value, Graph):
                parts += _parts(value)
            elif isinstance(value, np.ndarray):
                parts += [f"{value.dtype} {value.shape}".encode(), value.tobytes()]
    return parts


class OnnxRows:
    """States of many rows, of which some run at a time; an error leaves all as they were.

    A graph's layers compute each row by itself. What else there is runs in numpy, whose sums and functions may have
    other bits in other company: so only graphs whose other nodes move numbers are taken.
    """

    def __init__(self, model: OnnxModel, rows: int) -> None:
        self._model = model
        self._axes = model.stream(1)._axes
        like = model.init_state(1)
        self._types = [one.dtype for one in like]
        self._shapes = [one.shape for one in like]
        ends = np.cumsum([one.nbytes for one in like])
        self._spans = [slice(int(end) - one.nbytes, int(end)) for end, one in zip(ends, like, strict=True)]
        #: A row's states, side by side, so that all are written in one go.
        self._block = np.zeros((rows, int(ends[-1])), np.uint8)
        self._known: set[Any] = set()  # inputs for which the graph was looked at
        #: Features and dtype of the first of these, if there is one input of floats.
        self.learnt: tuple[int, str] | None = None

    def step(self, x: Any, _reset: None, _out: None, rows: Sequence[int]) -> Any:
        """The next run of these rows, each once."""
        y, self._block[list(rows)] = self._run(self._parts(x), self._block[list(rows)])
        return y[0] if len(y) == 1 else tuple(y)

    def process(self, x: Any, _reset: None, _lengths: None, rows: Sequence[int]) -> Any:
        """The next runs of these rows: inputs (rows, t, features) -> outputs (rows, t, ...)."""
        parts = self._parts(x)
        states = self._block[list(rows)]
        made: list[list[Array]] = []
        for at in range(parts[0].shape[1]):
            y, states = self._run([part[:, at] for part in parts], states)
            made.append(y)
        if made:
            joined = [np.stack(one, 1) for one in zip(*made, strict=True)]
        else:  # the outputs' sizes are those of a step
            zeros = [np.zeros((part.shape[0], *part.shape[2:]), part.dtype) for part in parts]
            joined = [np.stack([one], 1)[:, :0] for one in self._run(zeros, states)[0]]
        self._block[list(rows)] = states
        return joined[0] if len(joined) == 1 else tuple(joined)

    def _parts(self, x: Any) -> list[Array]:
        return [x] if len(self._model.inputs) == 1 else list(x)

    def reset(self, rows: Sequence[int]) -> None:
        """Zero the states of these rows."""
        self._block[list(rows)] = 0

    def state(self, rows: Sequence[int]) -> list[Array]:
        """Copies of the states of these rows, as a call of the graph returns them."""
        return self._unpacked(self._block[list(rows)])

    def load_state(self, state: Sequence[Array] | None, rows: Sequence[int]) -> None:
        """Set the states of these rows; None for zeros."""
        self._block[list(rows)] = 0 if state is None else self._packed(state)

    def _unpacked(self, block: Array) -> list[Array]:
        made = []
        for span, kind, shape, axis in zip(self._spans, self._types, self._shapes, self._axes, strict=True):
            others = (*shape[:axis], *shape[axis + 1 :])
            rows_first = np.ascontiguousarray(block[:, span]).view(kind).reshape(len(block), *others)
            made.append(np.ascontiguousarray(np.moveaxis(rows_first, 0, axis)))
        return made

    def _packed(self, states: Sequence[Array]) -> Array:
        rows = states[0].shape[self._axes[0]]
        parts = [
            np.ascontiguousarray(np.moveaxis(one, axis, 0)).reshape(rows, -1).view(np.uint8)
            for one, axis in zip(states, self._axes, strict=True)
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, 1)

    def _run(self, parts: Sequence[Array], states: Array) -> tuple[list[Array], Array]:
        """The outputs and next states of rows with these states, a row's numbers a row's bits."""
        key = tuple((part.shape[1:], part.dtype) for part in parts)
        if key not in self._known:
            self._look(parts, states)
            self._known.add(key)
            (features,), kind = key[0]
            if self.learnt is None and len(key) == 1 and kind.str in ("<f4", "<f8"):
                self.learnt = features, str(kind)
        pieces = []
        for begin in range(0, len(states), _SIZES[-1]):
            piece = slice(begin, begin + _SIZES[-1])
            pieces.append(self._filled([part[piece] for part in parts], states[piece]))
        if len(pieces) == 1:
            return pieces[0]
        ys = [np.concatenate(one) for one in zip(*(y for y, _ in pieces), strict=True)]
        return ys, np.concatenate([after for _, after in pieces])

    def _filled(self, parts: Sequence[Array], states: Array) -> tuple[list[Array], Array]:
        rows = len(states)
        size = next(one for one in _SIZES if one >= rows)
        if size > rows:
            which = np.minimum(np.arange(size), rows - 1)
            parts, states = [part[which] for part in parts], states[which]
        y, after = self._once(parts, states)
        return [one[:rows] for one in y], after[:rows]

    def _once(self, parts: Sequence[Array], states: Array) -> tuple[list[Array], Array]:
        model = self._model
        y, after = model._continued(parts, self._unpacked(states))
        made = [y] if len(model.outputs) == 1 else list(y)
        for name, one in zip(model.outputs, made, strict=True):
            if not one.ndim or one.shape[0] != len(states):
                raise ValueError(
                    f"Pool: got a graph whose output {name} is {one.shape} for {len(states)} rows, expected (N, ...)"
                )
        return made, self._packed(after)

    def _look(self, parts: Sequence[Array], states: Array) -> None:
        """Refuse inputs that are no vectors, and a graph in which rows are not by themselves."""
        for name, part in zip(self._model.inputs, parts, strict=True):
            if part.ndim != 2:
                raise ValueError(f"PoolStream: got {name} of shape {part.shape[1:]}, expected (features,)")
        pair = [np.concatenate([part[:1], part[:1, ::-1]]) for part in parts]
        two = np.concatenate([states[:1], np.zeros_like(states[:1])])
        together = self._once(pair, two)
        computing = self._model.computing_nodes()
        if computing:
            raise ValueError(
                f"Pool: got a graph with {', '.join(computing[:5])} in numpy, whose bits may depend on the other rows, "
                "expected layers and nodes that move numbers; take a stream() for each caller"
            )
        for row in range(2):
            alone = self._once([part[row : row + 1] for part in pair], two[row : row + 1])
            for one, other in zip((*together[0], together[1]), (*alone[0], alone[1]), strict=True):
                if one[row].tobytes() != other[0].tobytes():
                    raise ValueError(
                        "Pool: got a graph whose rows depend on one another, expected one that computes each by "
                        "itself; take a stream() for each caller"
                    )
