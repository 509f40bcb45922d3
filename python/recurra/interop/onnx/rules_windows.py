"""Rules for convolution and pooling over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from recurra.common.typing import Array
from recurra.interop.onnx.graph import Node
from recurra.interop.onnx.ops import reduce, windows
from recurra.interop.onnx.rules import Rule, arrays, dtype_of, known, left_out, open_view, place_of, shape_of
from recurra.interop.onnx.store import filled
from recurra.interop.onnx.values import Value, View, labelled, wide
from recurra.layers.convolution import Conv1d
from recurra.layers.pooling import Pool
from recurra.layers.window_pooling import AvgPool1d, MaxPool1d

if TYPE_CHECKING:
    from recurra.interop.onnx.trace import Tracer


#: Bound on the weights of a convolution of groups, with the zeros between them.
_MOST_WEIGHTS = 1 << 20


def padding_of(span: int, stride: int, pads: Sequence[int], steps: int) -> str | None:
    """Conv1d's name for `pads` steps of padding before and after; None if it has no equivalent."""
    before, after = pads
    made = (steps + before + after - span) // stride + 1
    if before == 0 and (after == 0 or made == (steps - span) // stride + 1) and steps >= span:
        return "valid"
    if made != -(-steps // stride):
        return None
    return {span - 1: "causal", (span - 1) // 2: "same"}.get(before)


def _steps(value: Value, made: View, symbol: Any, channels: int, steps: int) -> Value:
    shape = (shape_of(value)[0], channels, steps)
    order, _sizes = labelled(shape, "NFT")
    return Value(shape, value.dtype, view=View(made.island, symbol, (shape[0], steps, channels), order))


def convolved(node: Node, inputs: Sequence[Value | None], axes: int) -> tuple[Value, dict[str, Array]] | None:
    """The input and the parameters of a Conv over so many axes; None of another, or of computed weights.

    Also None of groups of so many channels that the product with zeros between them would take longer than numpy.
    """
    value, weight, bias = inputs[0], known(inputs, 1), known(inputs, 2)
    if value is None or weight is None or weight.ndim != 2 + axes or (bias is None and not left_out(inputs, 2)):
        return None
    shape = shape_of(value)
    groups = node.attributes.get("group", 1)
    if len(shape) != 2 + axes or groups < 1 or shape[1] != weight.shape[1] * groups or 0 in shape or 0 in weight.shape:
        return None
    if groups > 1 and (weight.shape[0] % groups or weight.size * groups > _MOST_WEIGHTS):
        return None
    return value, {"weight": weight} if bias is None else {"weight": weight, "bias": bias}


def _conv(tracer: Tracer, node: Node, inputs: Sequence[Value | None]) -> list[Value] | None:
    found = convolved(node, inputs, 1)
    if found is None:
        return None
    value, given = found
    shape, weight = shape_of(value), given["weight"]
    (stride,), (dilation,), pads = windows.window_of(node, shape[2:], weight.shape[2:])
    span = (weight.shape[2] - 1) * dilation + 1
    padding = padding_of(span, stride, pads, shape[2])
    view = None if padding is None or min(pads) < 0 else tracer.seen(value, "NFT")
    if view is None or padding is None:
        return None

    def make() -> Conv1d:
        sizes = (shape[1], weight.shape[0], weight.shape[2])
        options: dict[str, Any] = {"stride": stride, "dilation": dilation, "padding": padding, "bias": "bias" in given}
        options["groups"] = shape[1] // weight.shape[1]
        return filled(Conv1d, given, *sizes, **options, dtype=dtype_of(value))

    layer = tracer.store.get((id(node), padding), make)
    steps = (shape[2] + sum(pads) - span) // stride + 1
    return [_steps(value, view, layer(view.symbol), weight.shape[0], steps)]


_POOLS = {"MaxPool": MaxPool1d, "AveragePool": AvgPool1d}


def _pool(tracer: Tracer, node: Node, inputs: Sequence[Value | None]) -> list[Value] | None:
    value, kernel = inputs[0], list(node.attributes["kernel_shape"])
    if value is None or len(kernel) != 1 or len(shape_of(value)) != 3 or any(node.outputs[1:]) or 0 in shape_of(value):
        return None
    shape = shape_of(value)
    (stride,), (dilation,), pads = windows.window_of(node, shape[2:], kernel)
    padding = padding_of(kernel[0], stride, pads, shape[2])
    counts_padding = node.op == "AveragePool" and node.attributes.get("count_include_pad", 0) and any(pads)
    if dilation != 1 or padding is None or counts_padding or node.attributes.get("ceil_mode", 0):
        return None
    view = tracer.seen(value, "NFT")
    if view is None:
        return None
    layer = tracer.store.plain(_POOLS[node.op], kernel[0], stride, padding, features=shape[1], dtype=dtype_of(value))
    steps = (shape[2] + sum(pads) - kernel[0]) // stride + 1
    return [_steps(value, view, layer(view.symbol), shape[1], steps)]


_REDUCTIONS = {"ReduceMean": "mean", "ReduceMax": "max", "GlobalAveragePool": "mean", "GlobalMaxPool": "max"}


def _over_time(tracer: Tracer, node: Node, inputs: Sequence[Value | None]) -> list[Value] | None:
    """To a Pool: a mean or maximum over all steps; over a single step, the value itself."""
    value = inputs[0]
    if value is None or value.known is not None or (len(inputs) > 1 and known(inputs, 1) is None):
        return None
    shape, everywhere = shape_of(value), node.op.startswith("Global")
    axes = tuple(range(2, len(shape))) if everywhere else reduce.reduced_axes(node, arrays(inputs), len(shape))
    keeps = everywhere or node.attributes.get("keepdims", 1)
    made = tuple(1 if at in axes else size for at, size in enumerate(shape) if keeps or at not in axes)
    view = open_view(value)
    if wide(made) == wide(shape):
        return [Value(made, value.dtype, view=view, turned=None if view is not None else tracer.source(value))]
    gone = [at for at in axes if shape[at] != 1]
    if view is None or view.directions != 1 or gone != [place_of(view, shape, "T")]:
        return None
    layer = tracer.store.plain(Pool, _REDUCTIONS[node.op], dtype=dtype_of(value))
    pooled = View(view.island, layer(view.symbol), (view.base[0], view.base[-1]), view.order.replace("T", ""))
    return [Value(made, value.dtype, view=pooled)]


RULES: dict[str, Rule] = {
    **dict.fromkeys(_POOLS, _pool),
    **dict.fromkeys(_REDUCTIONS, _over_time),
    "Conv": _conv,
}
