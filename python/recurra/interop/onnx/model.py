"""An imported ONNX graph."""

from __future__ import annotations

import contextlib
import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from recurra.common import checks
from recurra.common.typing import Array
from recurra.interop.onnx import evaluate, report
from recurra.interop.onnx import states as pairing
from recurra.interop.onnx.graph import Graph, Value
from recurra.interop.onnx.store import LayerStore
from recurra.interop.onnx.stream import OnnxStream
from recurra.interop.onnx.trace import Plan, Tracer, moves
from recurra.models.model import Model

#: Plans in the cache, one for each set of input shapes.
_KEPT = 32

#: Numbers of steps of example plans.
_EXAMPLES = (5, 32, 64, 160)


class OnnxModel:
    """An ONNX graph as layers, with numpy between them; returned by `recurra.from_onnx`.

        y, state = model(x)
        y, state = model(x, state)

    Arrays have the graph's shapes, time-major or batch-major as exported. States are inputs whose next values are
    outputs (`h` and `hn`), initially zeros. The first call with inputs of new shapes takes some milliseconds. Threads
    can call it concurrently.

    Attributes: inputs and outputs, their names without the states; state_names, the names of the state inputs.
    """

    def __init__(self, graph: Graph, pairs: Mapping[str, str]) -> None:
        self._graph, self._pairs = graph, dict(pairs)
        self._store = LayerStore()
        self._plumbing = pairing.plumbing(graph, self._pairs)
        self._plans: OrderedDict[tuple[Any, ...], Plan] = OrderedDict()
        values = {one.name: one for one in (*graph.inputs, *graph.outputs)}
        after = set(self._pairs.values())
        self.inputs = tuple(one.name for one in graph.inputs if one.name not in self._pairs)
        self.outputs = tuple(one.name for one in graph.outputs if one.name not in after)
        self.state_names = tuple(self._pairs)
        self._state_values = [values[name] for name in self._pairs]
        self._shown: Plan | None = None
        names = [one.name for one in graph.outputs]
        order = [*self.inputs, *self.state_names]
        self._input_at = [order.index(one.name) for one in graph.inputs]
        self._y_at = [names.index(name) for name in self.outputs]
        self._state_at = [names.index(name) for name in self._pairs.values()]

    def __repr__(self) -> str:
        state = f", state={self.state_names}" if self.state_names else ""
        return f"OnnxModel({', '.join(self.inputs)} -> {', '.join(self.outputs)}{state})"

    def __call__(self, x: Any, state: Sequence[Any] | None = None) -> tuple[Any, list[Array]]:
        """Run the graph.

        Args:
            x: the input array; for several inputs, not counting states, a tuple or a dict by name.
            state: a list with an array for each of `state_names`, as returned by a call; None for zeros.

        Returns:
            The output, a tuple of several in the graph's order, and the final state, [] without states.

        Raises:
            TypeError: an input is missing, unknown, or has another dtype.
            ValueError: the arrays' shapes do not fit.
        """
        given = self._given(x)
        if state is None:
            return self._continued(given, self.init_state(x=dict(zip(self.inputs, given, strict=True))))
        return self._continued(given, self._checked_state(state))

    def _continued(self, given: Sequence[Array], states: Sequence[Array]) -> tuple[Any, list[Array]]:
        """The outputs and final states of a run with these inputs, not counting states, and these states."""
        arrays = [*given, *states]
        made = self._run([arrays[at] for at in self._input_at])
        y = [made[at] for at in self._y_at]
        return y[0] if len(y) == 1 else tuple(y), [made[at] for at in self._state_at]

    def _given(self, x: Any) -> Sequence[Array]:
        if type(x) is np.ndarray and len(self.inputs) == 1:  # fast path: what follows would slow small calls down
            return (x,)
        if isinstance(x, Mapping):
            if set(x) != set(self.inputs):
                raise TypeError(
                    f"OnnxModel: got inputs {', '.join(x)}, expected {', '.join(self.inputs)}; give all of them"
                )
            parts = [x[name] for name in self.inputs]
        else:
            parts = list(x) if len(self.inputs) != 1 and isinstance(x, tuple | list) else [x]
        if len(parts) != len(self.inputs):
            raise TypeError(
                f"OnnxModel: got {len(parts)} inputs, expected {', '.join(self.inputs) or 'none'}; give a tuple or a "
                "dict of them"
            )
        return [checks.array("OnnxModel", name, part) for name, part in zip(self.inputs, parts, strict=True)]

    def _checked_state(self, state: Sequence[Any]) -> list[Array]:
        if not isinstance(state, list | tuple) or len(state) != len(self.state_names):
            got = f"{len(state)} arrays" if isinstance(state, list | tuple) else type(state).__name__
            raise ValueError(
                f"OnnxModel: got {got} as the state, expected a list of {len(self.state_names)}: "
                f"{', '.join(self.state_names)}"
            )
        return [checks.array("OnnxModel", name, one) for name, one in zip(self.state_names, state, strict=True)]

    def init_state(self, batch_size: int | None = None, x: Mapping[str, Array] | None = None) -> list[Array]:
        """A zero state. Sizes that the graph leaves open are those of the same name in `x`, else `batch_size`."""
        named: dict[str, int] = {}
        for one in self._graph.inputs:
            if x is not None and one.name in x:
                named |= {
                    dim: size
                    for dim, size in zip(one.dims or (), x[one.name].shape, strict=False)
                    if isinstance(dim, str)
                }
        rows = batch_size
        if rows is None and x:
            rows = next(iter(x.values())).shape[0] if next(iter(x.values())).ndim else 1
        return [
            np.zeros(self._state_shape(one, named, rows or 1), one.dtype or np.float32) for one in self._state_values
        ]

    def _state_shape(self, value: Value, named: Mapping[str, int], rows: int) -> list[int]:
        if value.dims is None:
            raise ValueError(
                f"OnnxModel: got no state, expected {value.name!r}, whose shape is not in the graph; give it"
            )
        shape = [one if isinstance(one, int) else named.get(one or "", rows) for one in value.dims]
        if math.prod(shape) > evaluate.RUNNING:
            raise ValueError(
                f"OnnxModel: got no state, expected {value.name!r} of shape {tuple(shape)}, too large to make; give it"
            )
        return shape

    def _run(self, arrays: Sequence[Array]) -> list[Array]:
        key = tuple((one.shape, one.dtype) for one in arrays)
        plan = self._plans.get(key)
        if plan is None:
            for value, array in zip(self._graph.inputs, arrays, strict=True):  # only for a new plan
                _check(value, array)
            plan = self._plan([(one.shape, one.dtype) for one in arrays], key)
        return plan.run(arrays)

    def _plan(self, shapes: Sequence[tuple[tuple[int, ...], np.dtype[Any]]], key: tuple[Any, ...]) -> Plan:
        try:
            plan = Tracer(self._graph, shapes, self._store).plan
        except evaluate.BROKEN as error:
            raise ValueError(
                f"OnnxModel: got a graph that cannot run on {shapes} ({type(error).__name__}: {error})"
            ) from error
        self._plans[key] = self._shown = plan
        while len(self._plans) > _KEPT:
            self._plans.popitem(last=False)
        return plan

    def stream(self, batch_size: int = 1) -> OnnxStream:
        """A stream of runs, each of which continues from the previous run's state.

        Raises:
            ValueError: the graph has no states.
        """
        rows = checks.integer("OnnxModel.stream", "batch_size", batch_size)
        if not self.state_names:
            raise ValueError(
                "OnnxModel.stream: got a graph without states, expected an output that is the next value of an input; "
                "name them with from_onnx(..., states={'h': 'hn'}), or export the states as inputs and outputs"
                + self._step_by_step()
            )
        return OnnxStream(self, rows)

    def _step_by_step(self) -> str:
        """What of the layers can step without the graph, as advice."""
        try:
            graph = self.as_model()._graph()
        except ValueError:
            return ""
        layers = graph.layers
        stops = [index for index, layer in enumerate(layers) if layer.why_not_streamable()]
        if not stops and not graph.why_not_streamable():
            return ", or take as_model().stream()"
        if not stops or not stops[0] or not graph.is_chain:
            return ""
        at = stops[0]
        return (
            f"; its {layers[at].label} {layers[at].why_not_streamable()}; what is before it is "
            f"recurra.Sequential(*model.as_model().layers[:{at}]).stream()"
        )

    def _example(self) -> Plan:
        """The last plan; if nothing was run yet, one for two rows of five steps, or of more if the graph needs them."""
        for steps in _EXAMPLES:
            if self._shown is not None:
                break
            named: dict[str, int] = {}
            shapes = [
                (_example_shape(value, value.name in self._pairs, named, steps), np.dtype(value.dtype or np.float32))
                for value in self._graph.inputs
            ]
            with contextlib.nullcontext() if steps == _EXAMPLES[-1] else contextlib.suppress(ValueError):
                self._plan(shapes, ("example",))
        assert self._shown is not None
        return self._shown

    def computing_nodes(self) -> list[str]:
        """The nodes of the last plan that run in numpy and do more than move numbers."""
        plan = self._example()
        return [] if plan.moves_only else [str(node) for node in plan.numpy if not moves(node)]

    def import_report(self) -> str:
        """Which nodes are layers, which run in numpy, and at what cost, for the last planned input shapes."""
        return report.text(self._example(), len(self._graph.nodes), self._pairs, self._plumbing)

    def as_model(self) -> Model:
        """The whole graph as a `recurra.Model`, which trains, saves, streams and takes lengths, with arrays
        (N, T, features). It shares its parameters with this object.

        Raises:
            ValueError: some nodes are not layers; the message names them. Or a layer begins with a constant state other
                than zero, which is no part of a `recurra.Model`.
        """
        plan = self._example()
        others = [node for node in plan.numpy if id(node) not in self._plumbing]
        if others or len(plan.models) != 1:
            what = (
                ", ".join(str(node) for node in others[:8])
                or f"{len(plan.models)} models with turned arrays between them"
            )
            raise ValueError(
                f"OnnxModel.as_model: got {what}, expected nodes that are layers only; call this model as it is"
            )
        if any(plan.start[slot] is not None and np.any(plan.start[slot]) for slot in plan.begins):
            raise ValueError(
                "OnnxModel.as_model: got a layer that begins with a constant state, expected zeros or an input; call "
                "this model as it is"
            )
        return plan.models[0]


def _example_shape(value: Value, is_state: bool, named: dict[str, int], steps: int) -> tuple[int, ...]:
    """A shape of two rows and so many steps; sizes of one name are the same everywhere."""
    dims = value.dims if value.dims is not None else (None, None, 1)
    found = []
    for at, one in enumerate(dims):
        guess = 2 if at == 0 or is_state else steps
        found.append(one if isinstance(one, int) else guess if one is None else named.setdefault(one, guess))
    return tuple(found)


def _check(value: Value, array: Array) -> None:
    if value.dtype is not None and array.dtype != value.dtype:
        raise TypeError(
            f"OnnxModel: got {value.name} of {array.dtype}, expected {value.dtype}; write "
            f"{value.name}.astype('{value.dtype}')"
        )
    if not value.fits(array.shape):
        raise ValueError(
            f"OnnxModel: got {value.name} of shape {array.shape}, expected {_shape(value.dims or ())}; reshape it"
        )


def _shape(dims: Sequence[Any]) -> str:
    return "(" + ", ".join("any" if one is None else str(one) for one in dims) + ")"
