"""Reads onnxruntime's LSTM with 8-bit weights: as one of float32, or rounding x and h as there.

https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md specifies DynamicQuantizeLSTM. It also
rounds x and h to 8 bits, with one scale for the whole batch. In an LSTM of float32 they are not rounded, so its outputs
are closer to those of the float model.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from recurra.common.errors import ModelFormatError
from recurra.common.typing import Array
from recurra.interop.onnx import recurrent
from recurra.interop.onnx.graph import Node
from recurra.interop.onnx.ops import OWN

#: The inputs after an LSTM's own: scale and zero point of W and of R.
_SCALES = {1: (8, 9), 2: (10, 11)}


def is_quantised(node: Node) -> bool:
    """Whether the node is a DynamicQuantizeLSTM."""
    return (node.domain, node.op) == ("com.microsoft", "DynamicQuantizeLSTM")


def read(node: Node, known: dict[str, Array], rounds: bool) -> Node:
    """The node as an LSTM or, if it `rounds`, as a QuantizedLSTM of this package; its weights are added to `known`.

    Raises:
        ModelFormatError: the weights are not constant, or do not fit their scales; or no cell here has an attribute.
    """
    inputs = [*node.inputs[:8], *[""] * (8 - len(node.inputs))]
    scales = []
    for at, others in _SCALES.items():
        names = [node.inputs[one] if one < len(node.inputs) else "" for one in (at, *others)]
        if any(name not in known for name in names):
            raise ModelFormatError(
                f"{node}: got weights that are no constants, expected known ones; export the model again"
            )
        inputs[at] = f"{node.outputs[0] or node.name}/{names[0]}/float"
        whole, scale = _weights(node, *(known[name] for name in names))
        scales.append(names[1])
        known[inputs[at]] = whole if rounds else np.ascontiguousarray((whole * scale).transpose(0, 2, 1))
    made = Node("LSTM", "", node.name, inputs, node.outputs, node.attributes, node.opset)
    if not rounds:
        return made
    options, usual = (dict(recurrent.spec(one).options) for one in (made, replace(made, attributes={})))
    if options != usual or node.attributes.get("layout"):
        got = options if options != usual else "layout=1"
        raise ModelFormatError(
            f"{node}: got {got}, expected an LSTM with the usual activations, steps first; write "
            "from_onnx(..., round_activations=False)"
        )
    for at in _SCALES:
        known[inputs[at]] = _exact(known[inputs[at]])
    return Node("QuantizedLSTM", OWN, node.name, [*inputs, *scales], node.outputs, node.attributes, node.opset)


def _exact(whole: Array) -> Array:
    """Integers in the smaller float that holds all sums of products with 8-bit numbers."""
    largest = float(np.abs(whole).max(initial=1))
    return whole if whole.shape[1] * 255 * largest < 1 << 24 else whole.astype(np.float64)


def _weights(node: Node, weights: Array, scale: Array, zero: Array) -> tuple[Array, Array]:
    """The numbers (D, inputs, 4H) without their zero points, and scales that fit them."""
    if weights.ndim != 3 or scale.shape != zero.shape or scale.shape not in ((weights.shape[0],), weights.shape[::2]):
        raise ModelFormatError(
            f"{node}: got weights of shape {weights.shape} with scales {scale.shape} and zero points {zero.shape}, "
            "expected a number for a direction, or for each of its columns"
        )
    wide: Any = (slice(None), None, None) if scale.ndim == 1 else (slice(None), None)
    return weights.astype(np.float32) - zero.astype(np.float32)[wide], scale.astype(np.float32)[wide]
