"""Frameworks' orders of a cell's gates."""

from __future__ import annotations

from typing import Any

import numpy as np

from recurra.common import checks
from recurra.common.typing import Array

#: For each cell, other frameworks' letters for the gates and this library's.
_SYNONYMS = {"LSTM": {"c": "g", "z": "g", "j": "g"}, "GRU": {"u": "z", "h": "n", "c": "n", "o": "n"}}

#: The frameworks' orders, in this library's letters.
ORDERS = {
    "LSTM": {
        "recurra": "ifgo",
        "torch": "ifgo",
        "keras": "ifgo",
        "tensorflow1": "igfo",
        "onnx": "iofg",
        "openvino": "figo",
        "flax": "ifgo",
        "mlx": "ifgo",
        "cudnn": "ifgo",
        "coreml": "ifog",
        "webnn": "iofg",
        "dynet": "ifog",
    },
    "GRU": {
        "recurra": "rzn",
        "torch": "rzn",
        "keras": "zrn",
        "onnx": "zrn",
        "openvino": "zrn",
        "flax": "rzn",
        "mlx": "rzn",
        "cudnn": "rzn",
        "coreml": "rzn",
        "webnn": "zrn",
    },
}


def gates(array: Any, cell: str, source: str, target: str = "recurra", *, axis: int = 0) -> Array:
    """Reorder the gates of weights or biases from one framework's order to another's.

    docs/interop.md lists the other differences: layouts, the number of biases, the form of the GRU.

    Args:
        array: the weights or biases, with an axis that holds all gates, H values each.
        cell: "LSTM" or "GRU".
        source: the order of `array`: the name of a framework, "torch", "keras", "tensorflow1", "onnx", "openvino",
            "flax", "mlx", "cudnn", "coreml", "webnn", "dynet", or the gates as letters: "ifgo"
            (c, z and j also mean g), "rzn" (u also means z; h, c and o mean n).
        target: the order of the result, likewise.
        axis: the axis of the gates.

    Returns:
        A new array of the same shape and dtype.

    Raises:
        ValueError: an unknown order, or an axis whose size is not a multiple of the number of gates.

    Example:
        >>> kernel = np.array([[1, 2, 3]])  # Keras' GRU of one unit, (I, 3 H): z, r, h
        >>> rc.interop.gates(kernel, "GRU", "keras", axis=1)  # r, z, n
        array([[2, 1, 3]])
        >>> weight = rc.interop.gates(np.ones((32, 3)), "LSTM", "onnx")  # i o f c, to i f g o
    """
    checks.choice("gates", "cell", cell, tuple(ORDERS))
    given, wanted = (_order(cell, name, value) for name, value in (("source", source), ("target", target)))
    values = checks.array("gates", "array", array)
    axis = checks.integer("gates", "axis", axis, -values.ndim, values.ndim - 1)
    if values.shape[axis] % len(given):
        raise ValueError(
            f"gates: got {values.shape[axis]} values along axis {axis}, expected a multiple of {len(given)}, the "
            f"gates of {cell}; choose the axis that has H values for each gate"
        )
    blocks = np.split(values, len(given), axis)
    return np.concatenate([blocks[given.index(letter)] for letter in wanted], axis)


def _order(cell: str, name: str, value: Any) -> str:
    """The order that `value` names, in this library's letters."""
    known = ORDERS[cell]
    own = known["recurra"]
    if isinstance(value, str):
        letters = "".join(_SYNONYMS[cell].get(letter, letter) for letter in value.lower())
        if value.lower() in known:
            return known[value.lower()]
        if sorted(letters) == sorted(own):
            return letters
    raise ValueError(
        f"gates: got {name}={value!r}, expected one of {', '.join(known)}, or the letters of its gates, as {own!r}"
    )
