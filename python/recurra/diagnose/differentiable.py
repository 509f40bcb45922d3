"""Layers and losses as functions of named arrays, in float64, whose gradients can be compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from recurra.common import checks
from recurra.common.typing import Array, State
from recurra.diagnose.float64 import in_float64
from recurra.graph.graph import Graph
from recurra.layers.layer import Layer
from recurra.losses import Loss


class Checked:
    """A function of named arrays, and its gradient."""

    #: Contiguous, so that what is written to flat views of them is read by `value`.
    arrays: dict[str, Array]
    #: The sum of the absolute values of what `value` last added up, which bounds its rounding error.
    magnitude: float = 0.0

    def value(self, changed: str) -> float:
        """The function, after the array `changed` was written to."""
        raise NotImplementedError

    def gradients(self) -> Mapping[str, Array]:
        """By backward, with respect to each array."""
        raise NotImplementedError


class CheckedLayer(Checked):
    def __init__(
        self, layer: Layer, x: Any, lengths: Any, state: State, training: bool, rng: np.random.Generator
    ) -> None:
        self._layer = in_float64(layer)
        self._runner = runner = self._layer._runner(x)
        self._lengths, self._training = lengths, training
        label, inputs, layout = layer.label, runner.inputs, runner.layout
        self._labels = [inputs.label("x", index) for index in range(inputs.count or 1)]
        given = [
            np.array(checks.array(label, name, one))
            for name, one in zip(self._labels, inputs.spread(label, "x", x), strict=True)
        ]
        graph = self._layer._graph(len(given))
        self._x = [
            one.astype(np.float64, order="C") if _is_features(one, port.kind) else one
            for one, port in zip(given, graph.inputs, strict=True)
        ]
        axis = 0 if getattr(layer, "batch_first", True) else 1
        rows = self._x[0].shape[axis] if self._x[0].ndim > axis else 0
        initial = layout.fill(layout.arrays(label, state), rows) or self._zeros(rows)
        self._state = [np.array(one, np.float64, order="C") for one in initial]
        tape = self._tape()
        self._dy = [rng.standard_normal(one.shape) for one in runner.outputs.spread(label, "y", tape.y)]
        self._dstate = [rng.standard_normal(one.shape) for one in self._flat(tape.state)]
        tape.close()
        self.arrays = {name: one for name, one in zip(self._labels, self._x, strict=True) if one.dtype.kind == "f"}
        self._names = _state_names(graph)
        self.arrays |= dict(zip(self._names, self._state, strict=True))
        self.arrays |= {name: array.copy() for name, array in self._layer.params.items()}

    def _flat(self, state: State) -> list[Array]:
        flat = self._runner.layout.flatten(self._layer.label, state) or []
        return [one for one in flat if one is not None]

    def _zeros(self, rows: int) -> list[Array]:
        """The initial state; without a batch axis, if x has none."""
        zeros, self._state = self._runner.layout.zeros(rows), []
        tape = self._tape()
        final = self._flat(tape.state)
        tape.close()
        if len(final) == len(zeros) and any(one.ndim > last.ndim for one, last in zip(zeros, final, strict=True)):
            return [np.zeros_like(last) for last in final]
        return zeros

    def _tape(self) -> Any:
        runner = self._runner
        x, state = runner.inputs.join(self._x), runner.layout.nest(self._state) if self._state else None
        return self._layer.record(x, state, self._lengths, training=self._training, seed=1)

    def value(self, changed: str) -> float:
        """The sum of outputs and final states with random weights."""
        if changed in self._layer.params:
            self._layer.params[changed] = self.arrays[changed]
        tape = self._tape()
        label = self._layer.label
        results = [*self._runner.outputs.spread(label, "y", tape.y), *self._flat(tape.state)]
        terms = [one * weight for one, weight in zip(results, [*self._dy, *self._dstate], strict=True)]
        tape.close()
        self.magnitude = sum(float(np.abs(one).sum()) for one in terms)
        return sum(float(one.sum()) for one in terms)

    def gradients(self) -> Mapping[str, Array]:
        """By the tape's backward."""
        runner, label = self._runner, self._layer.label
        self._layer.zero_grad()
        dy = runner.outputs.join(self._dy)
        dx, dstate = self._tape().backward(dy, runner.layout.nest(self._dstate) if self._dstate else None)
        inputs = dict(zip(self._labels, runner.inputs.spread(label, "x", dx), strict=True))
        return {**inputs, **dict(zip(self._names, self._flat(dstate), strict=True)), **self._layer.grads}


class CheckedLoss(Checked):
    def __init__(self, operation: str, loss: Loss, x: Any, y: Any, lengths: Any, weights: Any) -> None:
        self._loss, self._given = loss, (y, lengths)
        self._weights, self._name = weights, operation
        self._x = np.array(checks.numeric(operation, "x", x), np.float64, order="C")
        self.arrays = {"predictions": self._x}

    def value(self, changed: str) -> float:
        """The sum that the loss returns."""
        found = self._loss.value(self._name, self._x, *self._given, self._weights)
        self.magnitude = abs(found.sum) + found.count
        return found.sum

    def gradients(self) -> Mapping[str, Array]:
        """As the loss returns it."""
        found = self._loss.value(self._name, self._x, *self._given, self._weights, gradient=True).gradient
        return {"predictions": np.zeros_like(self._x) if found is None else found}


def _is_features(array: Array, kind: str) -> bool:
    return kind != "tokens" and array.dtype.kind in ("fbiu" if kind == "features" else "f")


def _state_names(graph: Graph) -> list[str]:
    return [
        f"initial state {node.layer.state_names[index]}" + (f" of layer {place}" if len(graph.nodes) > 1 else "")
        for place, node in enumerate(graph.nodes)
        for index in node.own_states
    ]
