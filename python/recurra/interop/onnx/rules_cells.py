"""Rules for RNN, GRU and LSTM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from recurra.graph.symbolic import Symbol
from recurra.interop.onnx import recurrent
from recurra.interop.onnx.graph import Node
from recurra.interop.onnx.rules import FLOATS, Rule, known, left_out, shape_of
from recurra.interop.onnx.values import Value, View, labelled
from recurra.layers.merge import Reverse

if TYPE_CHECKING:
    from recurra.interop.onnx.trace import Tracer


def _cell(tracer: Tracer, node: Node, inputs: Sequence[Value | None]) -> list[Value] | None:
    found = recurrent.spec(node)
    given = [*inputs, *[None] * (8 - len(inputs))]
    weights = [known(given, at) for at in recurrent.WEIGHTS]
    missing = [array is None and not left_out(given, at) for array, at in zip(weights, recurrent.WEIGHTS, strict=True)]
    x = given[0]
    if any(missing) or x is None or x.dtype not in FLOATS or len(shape_of(x)) != 3 or 0 in shape_of(x):
        return None
    layer = tracer.store.get(id(node), lambda: recurrent.make(node, found, weights))
    if layer.dtype != x.dtype or layer.input_size != shape_of(x)[2]:
        return None
    begin = given[5 : 5 + found.state_count]
    if found.batch_first and any(one is not None for one in begin):
        return None
    # Lengths apply to a whole model's call, so a layer with lengths has an island to itself.
    slots = [None if one is None else tracer.place(one) for one in begin]
    lengths = None if given[4] is None else tracer.place(given[4])
    if lengths is not None:
        tracer.place(x)
        tracer.close()
    view = tracer.seen(x, "NTF" if found.batch_first else "TNF")
    if view is None:
        return None
    island = tracer.island
    symbol = view.symbol
    turn = tracer.store.plain(Reverse, dtype=layer.dtype.name)
    y: Any = layer(turn(symbol) if found.backwards else symbol)
    island.begin(y, slots)
    island.lengths = lengths
    made = _outputs(tracer, node, found, view, y, turn(y) if found.backwards else y)
    if lengths is not None:
        for name, value in zip(node.outputs, made, strict=False):
            if name:
                tracer.place(value)
        tracer.close()
    return made


def _outputs(tracer: Tracer, node: Node, found: recurrent.Spec, view: View, y: Symbol, steps: Symbol) -> list[Value]:
    rows, count, features = view.base[0], view.base[1], y.features or 0
    directions, dtype = found.directions, y.source.layer.dtype  # type: ignore[union-attr] # a call of the layer
    hidden = features // directions
    pattern = "NTDF" if found.batch_first else "TDNF"
    sizes = {"N": rows, "T": count, "D": directions, "F": hidden}
    shape = tuple(sizes[one] for one in pattern)
    order, _sizes = labelled(shape, pattern)
    base = (rows, count, features)
    made = [Value(shape, dtype, view=_view(view, steps, base, order, directions, hidden))]
    states = y.state if isinstance(y.state, tuple) else (y.state,)
    for index, state in enumerate(states):
        if len(node.outputs) <= 1 + index or not node.outputs[1 + index]:
            made.append(Value((), None))
            continue
        pattern = "NDF" if found.batch_first else "DNF"
        shape = tuple(sizes[one] for one in pattern)
        order, _sizes = labelled(shape, pattern)
        value = Value(shape, dtype, view=_view(view, state, (rows, features), order, directions, hidden))
        if not found.batch_first:
            value.slot = tracer.slot()
            view.island.final(y, index, value.slot)
        made.append(value)
    return made


def _view(view: View, symbol: Symbol, base: tuple[int, ...], order: str, directions: int, hidden: int) -> View:
    if directions > 1 and hidden == 1:
        order, directions = order.replace("D", "F"), 1
    return View(view.island, symbol, base, order, directions)


RULES: dict[str, Rule] = dict.fromkeys(recurrent.KINDS, _cell)
