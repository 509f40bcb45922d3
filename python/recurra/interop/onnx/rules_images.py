"""Rules for operators on images, (N, C, H, W): their columns become steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from recurra.interop.onnx.graph import Node
from recurra.interop.onnx.ops import windows
from recurra.interop.onnx.rules import Rule, arrays, dtype_of, known, open_view, shape_of
from recurra.interop.onnx.rules_windows import convolved
from recurra.interop.onnx.store import filled
from recurra.interop.onnx.values import Value, View, labelled
from recurra.layers.activation import PReLU
from recurra.layers.convolution2d import Conv2d
from recurra.layers.image_pooling import AvgPool2d, MaxPool2d
from recurra.layers.images import ImageLayer
from recurra.layers.normalisation import BatchNorm2d

if TYPE_CHECKING:
    from recurra.interop.onnx.trace import Tracer

#: The axes of images: channels are the features of D rows.
IMAGES = "NFDT"


def _padding(pads: Sequence[int], spans: Sequence[int]) -> tuple[Any, Any] | None:
    """The layer's padding for (top, left, bottom, right); None if it has no equivalent."""
    found: list[Any] = []
    for axis, span in enumerate(spans):
        before, after = pads[axis], pads[axis + 2]
        if before < 0 or after < 0:
            return None
        if before == after:
            found.append(before)
        elif (before, after) == ((span - 1) // 2, span - 1 - (span - 1) // 2):
            found.append("same")
        elif axis == 1 and (before, after) == (span - 1, 0):
            found.append("causal")
        else:
            return None
    return found[0], found[1]


def _made(value: Value, view: View, symbol: Any, channels: int, layer: ImageLayer) -> list[Value]:
    rows, _channels, _height, width = shape_of(value)
    steps = (width + layer._before + layer._after - layer._span) // layer._step_stride + 1
    shape = (rows, channels, layer.output_height, steps)
    order, _sizes = labelled(shape, IMAGES)
    base = (rows, steps, layer.output_height * channels)
    return [Value(shape, value.dtype, view=View(view.island, symbol, base, order, layer.output_height))]


def _conv(tracer: Tracer, node: Node, inputs: Sequence[Value | None]) -> list[Value] | None:
    found = convolved(node, inputs, 2)
    if found is None:
        return None
    value, given = found
    shape, weight = shape_of(value), given["weight"]
    strides, dilations, pads = windows.window_of(node, shape[2:], weight.shape[2:])
    spans = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilations, strict=True)]
    padding = _padding(pads, spans)
    if padding is None or any(shape[2 + at] + pads[at] + pads[at + 2] < spans[at] for at in (0, 1)):
        return None
    view = tracer.seen(value, IMAGES)
    if view is None:
        return None

    def make() -> Conv2d:
        window = (tuple(weight.shape[2:]), tuple(strides), padding, tuple(dilations))
        options: dict[str, Any] = {"height": shape[2], "groups": shape[1] // weight.shape[1], "bias": "bias" in given}
        return filled(Conv2d, given, shape[1], weight.shape[0], *window, **options, dtype=dtype_of(value))

    layer = tracer.store.get((id(node), padding, shape[2]), make)
    return _made(value, view, layer(view.symbol), weight.shape[0], layer)


def _pool(tracer: Tracer, node: Node, inputs: Sequence[Value | None]) -> list[Value] | None:
    value, kernel = inputs[0], tuple(node.attributes["kernel_shape"])
    if value is None or len(kernel) != 2 or len(shape_of(value)) != 4 or any(node.outputs[1:]) or 0 in shape_of(value):
        return None
    shape = shape_of(value)
    strides, dilations, pads = windows.window_of(node, shape[2:], kernel)
    padding = _padding(pads, kernel)
    counts_padding = node.op == "AveragePool" and node.attributes.get("count_include_pad", 0) and any(pads)
    if dilations != [1, 1] or padding is None or counts_padding or node.attributes.get("ceil_mode", 0):
        return None
    fits = all(shape[2 + at] + pads[at] + pads[at + 2] >= kernel[at] > max(pads[at], pads[at + 2]) for at in (0, 1))
    view = tracer.seen(value, IMAGES) if fits else None
    if view is None:
        return None
    cls = MaxPool2d if node.op == "MaxPool" else AvgPool2d
    options: dict[str, Any] = {"channels": shape[1], "height": shape[2], "dtype": dtype_of(value)}
    layer = tracer.store.plain(cls, kernel, tuple(strides), padding, **options)
    return _made(value, view, layer(view.symbol), shape[1], layer)


def _batch_norm(tracer: Tracer, node: Node, inputs: Sequence[Value | None]) -> list[Value] | None:
    value, numbers = inputs[0], arrays(inputs)[1:5]
    if value is None or len(shape_of(value)) != 4 or any(one is None for one in numbers):
        return None
    if node.attributes.get("training_mode") or any(node.outputs[1:]) or not node.attributes.get("epsilon", 1e-5) > 0:
        return None
    view = tracer.seen(value, IMAGES)
    if view is None:
        return None

    def make() -> BatchNorm2d:
        given = dict(zip(("weight", "bias", "running_mean", "running_var"), numbers, strict=True))
        eps = node.attributes.get("epsilon", 1e-5)
        return filled(BatchNorm2d, given, shape_of(value)[1], eps=eps, dtype=dtype_of(value))

    symbol = tracer.store.get(id(node), make)(view.symbol)
    return [replace(value, slot=None, view=replace(view, symbol=symbol))]


def _prelu(tracer: Tracer, node: Node, inputs: Sequence[Value | None]) -> list[Value] | None:
    """To a PReLU: one slope, or one for each channel or feature."""
    value, slope = inputs[0], known(inputs, 1)
    if value is None or slope is None or slope.ndim > len(shape_of(value)):
        return None
    shape = shape_of(value)
    view = open_view(value)
    if slope.size > 1:
        wide = [at for at, size in enumerate((1,) * (len(shape) - slope.ndim) + slope.shape) if size != 1]
        if wide != [1] or len(shape) not in (2, 3, 4) or slope.size != shape[1]:
            return None
        view = tracer.seen(value, {2: "NF", 3: "NFT", 4: IMAGES}[len(shape)])
    if view is None:
        return None

    def make() -> PReLU:
        return filled(PReLU, {"weight": slope.reshape(-1)}, slope.size, dtype=dtype_of(value))

    symbol = tracer.store.get(id(node), make)(view.symbol)
    return [replace(value, slot=None, view=replace(view, symbol=symbol))]


RULES: dict[str, Rule] = {
    "Conv": _conv,
    "MaxPool": _pool,
    "AveragePool": _pool,
    "BatchNormalization": _batch_norm,
    "PRelu": _prelu,
}
