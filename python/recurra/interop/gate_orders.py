"""The orders in which frameworks keep the gates of a cell."""

from __future__ import annotations

from typing import Any

import numpy as np

from recurra.common import checks
from recurra.common.typing import Array

#: What others call the gates: for each cell their letters, and those that they have here.
_SYNONYMS = {"LSTM": {"c": "g", "z": "g", "j": "g"}, "GRU": {"u": "z", "h": "n", "c": "n", "o": "n"}}

#: The orders of frameworks, in the letters that gates have here.
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
    """Weights or biases whose gates are in the order of one framework, in that of another.

        weight_ih = rc.interop.gates(kernel, "GRU", "keras", axis=1).T  # (I, 3 H), z r h, to (3 H, I), r z n
        weight_hh = rc.interop.gates(r, "LSTM", "onnx")                 # (4 H, H), i o f c, to i f g o

    docs/interop.md says what else differs: which axis is which, how many biases there are, which form of GRU it is.

    Args:
        array: with an axis of all gates, H values each.
        cell: "LSTM" or "GRU".
        source: the order that the array has: the name of a framework, "torch", "keras", "tensorflow1", "onnx", "openvino",
            "flax", "mlx", "cudnn", "coreml", "webnn", "dynet", or its gates as letters: "ifgo" (c, z and j mean g, too), "rzn"
            (u means z; h, c and o mean n).
        target: the order wanted, likewise.
        axis: the one of the gates.

    Returns:
        A new array of the same shape and dtype.

    Raises:
        ValueError: an unknown order, or an axis that is not as long as the gates need.
    """
    checks.choice("gates", "cell", cell, tuple(ORDERS))
    given, wanted = (_order(cell, name, value) for name, value in (("source", source), ("target", target)))
    values = checks.array("gates", "array", array)
    axis = checks.integer("gates", "axis", axis, -values.ndim, values.ndim - 1)
    if values.shape[axis] % len(given):
        raise ValueError(
            f"gates: got {values.shape[axis]} values along axis {axis}, expected a multiple of {len(given)}, the gates of "
            f"{cell}; choose the axis that has H values for each gate"
        )
    blocks = np.split(values, len(given), axis)
    return np.concatenate([blocks[given.index(letter)] for letter in wanted], axis)


def _order(cell: str, name: str, value: Any) -> str:
    """An order in this library's letters."""
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
