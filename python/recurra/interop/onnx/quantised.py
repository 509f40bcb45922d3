"""Converts onnxruntime's LSTM with 8-bit weights to float32.

https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md specifies DynamicQuantizeLSTM. It also
rounds x and h to 8 bits, with one scale for the whole batch; here they stay float32, so outputs are closer to the float
model's.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from recurra.common.errors import ModelFormatError
from recurra.common.typing import Array
from recurra.interop.onnx.graph import Node

#: The inputs after an LSTM's own: scale and zero point of W and of R.
_SCALES = {1: (8, 9), 2: (10, 11)}


def is_quantised(node: Node) -> bool:
    """Whether the node is a DynamicQuantizeLSTM."""
    return (node.domain, node.op) == ("com.microsoft", "DynamicQuantizeLSTM")


def plain(node: Node, known: dict[str, Array]) -> Node:
    """The node as an LSTM; its float weights are added to `known`.

    Raises:
        ModelFormatError: the weights are not constant, or do not fit their scales.
    """
    inputs = list(node.inputs[:8])
    for at, others in _SCALES.items():
        names = [node.inputs[one] if one < len(node.inputs) else "" for one in (at, *others)]
        if any(name not in known for name in names):
            raise ModelFormatError(
                f"{node}: got weights that are no constants, expected known ones; export the model again"
            )
        inputs[at] = f"{node.outputs[0] or node.name}/{names[0]}/float"
        known[inputs[at]] = _weights(node, *(known[name] for name in names))
    return Node("LSTM", "", node.name, inputs, node.outputs, node.attributes, node.opset)


def _weights(node: Node, weights: Array, scale: Array, zero: Array) -> Array:
    """Float weights (D, 4H, inputs) from 8-bit weights (D, inputs, 4H) and scales (D) or (D, 4H)."""
    if weights.ndim != 3 or scale.shape != zero.shape or scale.shape not in ((weights.shape[0],), weights.shape[::2]):
        raise ModelFormatError(
            f"{node}: got weights of shape {weights.shape} with scales {scale.shape} and zero points {zero.shape}, "
            "expected a number for a direction, or for each of its columns"
        )
    wide: Any = (slice(None), None, None) if scale.ndim == 1 else (slice(None), None)
    found = (weights.astype(np.float32) - zero.astype(np.float32)[wide]) * scale.astype(np.float32)[wide]
    return np.ascontiguousarray(found.transpose(0, 2, 1))
