"""The weights of layers, and a layer whose gradients are whole."""

from __future__ import annotations

from typing import Any

import numpy as np

import recurra as rc
from array_types import Array


def weights_of(model: Any) -> Array:
    """All parameters, flat."""
    return np.concatenate([array.ravel() for array in model.params.values()])


def layer_with_whole_gradients() -> tuple[Any, Array, Array]:
    """A layer, x and dy, whose gradients are small integers: they add up exactly in any order."""
    layer = rc.RNN(4, 8, nonlinearity="relu", dtype="float64")
    with layer.edit() as params:
        for name in params:
            params[name][...] = 0.0
        params["bias_ih_l0"][...] = 1.0
    return layer, np.ones((16, 1, 4)), np.ones((16, 1, 8))
