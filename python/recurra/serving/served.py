"""What a pool needs of a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from recurra.common.structure import Structure
from recurra.graph.graph import Port
from recurra.layers.layer import Layer
from recurra.serving.snapshots import Snapshots


class Served(NamedTuple):
    """ports, inputs, outputs, dtype: what a step takes and gives; stream: makes states of so many rows, with the
    methods of a `recurra.Stream` that `Rows` calls."""

    stream: Callable[[int], Any]
    ports: Sequence[Port]
    inputs: Structure
    outputs: Structure
    dtype: np.dtype[Any] | None
    snapshots: Snapshots


def served(model: Any) -> Served:
    """Of a layer, or of a graph from ONNX.

    Raises:
        TypeError: it is neither.
        ValueError: the graph has no rows that could be told apart.
    """
    if isinstance(model, Layer):
        runner = model._runner()
        dtype = model.dtype
        return Served(model.stream, model._graph().inputs, runner.inputs, runner.outputs, dtype, Snapshots.of(model))
    from recurra.interop.onnx.model import OnnxModel  # late, as few need it
    from recurra.serving import onnx

    if isinstance(model, OnnxModel):
        return onnx.served(model)
    raise TypeError(
        f"Pool: got a {type(model).__name__} as the model, expected a layer or model of recurra, or what rc.from_onnx "
        "returned"
    )
