"""onnxruntime's DynamicQuantizeLSTM, with x and h rounded to 8 bits as there.

https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md specifies it. x is rounded as a whole, h at
each step, with one scale for all rows: so a row's output depends on the others. Products of integers are exact.
"""

from __future__ import annotations

import numpy as np

from recurra.common.typing import Array
from recurra.interop.onnx.graph import Node
from recurra.interop.onnx.ops.common import Arrays, given, room
from recurra.interop.onnx.ops.elementwise import sigmoid
from recurra.interop.onnx.ops.integers import rounded


def _product(x: Array, weights: Array, scale: Array) -> Array:
    """x, rounded, times weights that are integers."""
    numbers, own, zero = rounded(x)
    found: Array = ((numbers.astype(weights.dtype) - float(zero)) @ weights).astype(np.float32)
    found *= own * scale
    return found


def lstm(node: Node, inputs: Arrays, limit: int) -> list[Array]:
    """Y, Y_h and Y_c. The node has an LSTM's inputs, W and R (D, inputs, 4H) as integers, and their scales."""
    x, lengths = np.asarray(inputs[0], np.float32), given(inputs, 4)
    w, r, scales = inputs[1], inputs[2], inputs[8:]
    directions, hidden = r.shape[0], r.shape[1]
    steps, rows = x.shape[:2]
    room((steps, directions, rows, hidden), limit)
    bias = given(inputs, 3)
    bias = np.zeros((directions, 8 * hidden), np.float32) if bias is None else bias
    begin = [given(inputs, at) for at in (5, 6)]
    h0, c0 = (np.zeros((directions, rows, hidden), np.float32) if one is None else one for one in begin)
    peepholes, order = given(inputs, 7), node.attributes.get("direction", "forward")
    y = np.zeros((steps, directions, rows, hidden), np.float32)
    ends = np.zeros((2, directions, rows, hidden), np.float32)
    count = np.full(rows, steps) if lengths is None else np.asarray(lengths)
    for one in range(directions):
        reverse = order == "reverse" or one == 1
        total = bias[one, : 4 * hidden] + bias[one, 4 * hidden :]
        turned = _turned(x, count) if reverse else x
        ahead = _product(turned.reshape(-1, x.shape[2]), w[one], scales[0][one]).reshape(steps, rows, -1) + total
        p = np.zeros((3, hidden), np.float32) if peepholes is None else peepholes[one].reshape(3, hidden)
        h, c, made = h0[one], c0[one], y[:, one]
        for step in range(steps):
            i, o, f, g = np.split(ahead[step] + _product(h, r[one], scales[1][one]), 4, axis=1)
            there = (step < count)[:, None]
            next_c = sigmoid(f + p[2] * c) * c + sigmoid(i + p[0] * c) * np.tanh(g)
            next_h = sigmoid(o + p[1] * next_c) * np.tanh(next_c)
            made[step] = np.where(there, next_h, 0)
            h, c = np.where(there, next_h, h), np.where(there, next_c, c)
        if reverse:
            made[...] = _turned(made, count)
        ends[:, one] = h, c
    return [y, ends[0], ends[1]]


def _turned(x: Array, lengths: Array) -> Array:
    """Each row's valid steps in reverse order."""
    steps = np.arange(len(x))[:, None]
    places = np.where(steps < lengths, lengths - 1 - steps, steps)
    found: Array = np.take_along_axis(x, places[:, :, None], axis=0)
    return found
