"""A layer or model again, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np

from recurra.layers.layer import Layer
from recurra.layers.leaf import LeafLayer
from recurra.layers.python_layer import PythonLayer
from recurra.models.graph_model import GraphModel


def in_float64(layer: Layer) -> Layer:
    """A copy that computes in float64, with the same values of parameters and buffers."""
    made = _twin(layer, {})
    state = {name: _wide(array) for name, array in layer.state_dict().items()}
    made.load_state_dict(state)
    return made


def _twin(layer: Layer, known: dict[int, Layer]) -> Layer:
    """A layer or model of the same configuration; `known` are those of layers met before, which may be shared."""
    if id(layer) not in known:
        if isinstance(layer, GraphModel):
            make, arguments = layer._remade()
            known[id(layer)] = make(*_replaced(arguments, known))
        else:
            known[id(layer)] = _leaf(layer)
    return known[id(layer)]


def _leaf(layer: Layer) -> LeafLayer:
    made: Any = type(layer).from_config(_replaced(layer.config(), {}))
    if isinstance(made, PythonLayer):  # its dtype is that of the values its constructor gave
        for values in (made._initial, made._buffers):
            values.update({name: _wide(value) for name, value in values.items()})
        vars(made).pop("_parameters", None)
    result: LeafLayer = made
    return result


def _replaced(value: Any, known: dict[int, Layer]) -> Any:
    """Arguments of a constructor, with layers and dtypes replaced."""
    if isinstance(value, Layer):
        return _twin(value, known)
    if isinstance(value, tuple | list):
        return type(value)(_replaced(one, known) for one in value)
    if isinstance(value, dict):
        return {
            name: "float64" if name == "dtype" and one == "float32" else _replaced(one, known)
            for name, one in value.items()
        }
    return value


def _wide(array: Any) -> Any:
    return array.astype(np.float64) if array.dtype.kind == "f" else array
