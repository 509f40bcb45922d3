"""Collects neighbouring layers of a graph into one native model, called once per run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

from recurra.graph.graph import pack
from recurra.graph.symbolic import Call, Input, Symbol
from recurra.interop.onnx.values import Arrangement, Turned, View, labelled
from recurra.models.model import Model, behind

Step = Callable[[list[Any]], None]


class Island:
    """A group of layers. Stays open until a value is needed outside; then it becomes one step of a plan."""

    def __init__(self) -> None:
        self.closed = False
        self.inputs: list[tuple[Symbol, int, Arrangement]] = []
        self._states: dict[int, tuple[Call, list[int | None]]] = {}
        self._outputs: dict[tuple[int, int], tuple[Symbol, list[tuple[int, Arrangement]]]] = {}
        self._finals: list[tuple[Call, int, int]] = []
        self._seen: dict[tuple[int, str, str, int], View] = {}
        self.lengths: int | None = None

    def input(self, source: Turned, shape: tuple[int, ...], pattern: str, dtype: str) -> View:
        """Add an input: an array with the axes `pattern`, (N, T, F) or (N, F) in some order, F of
        them in each of D."""
        order, sizes = labelled(shape, pattern)
        own = "".join(order[source.axes.index(at)] for at in range(len(order)))
        key = source.slot, own, order, len(shape)
        if key in self._seen:
            return self._seen[key]
        directions = sizes.get("D", 1)
        features = directions * sizes["F"]
        base = (sizes["N"], *((sizes["T"],) if "T" in pattern else ()), features)
        symbol = Input(features=features, sequence="T" in pattern, dtype=dtype)
        self.inputs.append((symbol, source.slot, Arrangement(shape, base, own, directions)))
        self._seen[key] = found = View(self, symbol, base, order, directions)
        return found

    def tokens(self, slot: int, shape: tuple[int, ...], size: int) -> View:
        """Add an input of tokens, (N, T)."""
        symbol = Input(tokens=size)
        self.inputs.append((symbol, slot, Arrangement(shape, (*shape, 1), labelled((*shape, 1), "NTF")[0], 1)))
        return View(self, symbol, (*shape, 1), self.inputs[-1][2].order)

    def begin(self, symbol: Symbol, states: Sequence[int | None]) -> None:
        """Set a recurrent layer's initial states to the slots `states`."""
        assert isinstance(symbol.source, Call)
        if any(one is not None for one in states):
            self._states[id(symbol.source)] = symbol.source, list(states)

    def output(self, view: View, shape: tuple[int, ...], slot: int) -> None:
        """Request a value, to be written into `slot`."""
        key = id(view.symbol.source), view.symbol.which
        _symbol, wanted = self._outputs.setdefault(key, (view.symbol, []))
        wanted.append((slot, Arrangement(shape, view.base, view.order, view.directions)))

    def final(self, symbol: Symbol, which: int, slot: int) -> None:
        """Request a layer's final state, (D, N, H), to be written into `slot`."""
        assert isinstance(symbol.source, Call)
        self._finals.append((symbol.source, which, slot))

    @property
    def begins(self) -> list[int]:
        """The slots of initial states."""
        return [slot for _call, slots in self._states.values() for slot in slots if slot is not None]

    @property
    def fresh(self) -> set[int]:
        """The slots of what a layer has computed, which shares memory with nothing outside."""
        outputs = [
            slot
            for symbol, wanted in self._outputs.values()
            if isinstance(symbol.source, Call)
            for slot, _one in wanted
        ]
        return {*outputs, *(slot for _call, _which, slot in self._finals)}

    @property
    def is_asked(self) -> bool:
        """Whether any value was requested; of some layers, only the output's shape is used."""
        return bool(self._outputs or self._finals)

    def finish(self) -> tuple[Model, Step]:
        """The model and the step that runs it."""
        symbols = [symbol for symbol, _wanted in self._outputs.values()]
        wanted = [list(one) for _symbol, one in self._outputs.values()]
        reached = _reached(symbols)
        for call, _which, _slot in self._finals:
            if id(call) not in reached:  # only its states are requested
                symbols.append(Symbol(call, 0, call.layer.output_size, True))
                wanted.append([])
                reached = _reached(symbols)
        inputs = [one for one in self.inputs if id(one[0].source) in reached]
        model = Model(pack([one[0] for one in inputs]), pack(symbols))
        nodes = model._graph().nodes
        runner = model._runner()
        places = accumulate((len(node.own_states) for node in nodes), initial=0)
        begin = {id(node.layer): at for node, at in zip(nodes, places, strict=False) if node.layer.state_names}
        starts = [
            (begin[id(call.layer)] + index, slot)
            for call, slots in self._states.values()
            if id(call.layer) in begin
            for index, slot in enumerate(slots)
            if slot is not None
        ]
        ends = [(begin[id(call.layer)] + which, slot) for call, which, slot in self._finals]
        outputs = [(at, slot, one.from_base) for at, targets in enumerate(wanted) for slot, one in targets]
        reads = [(slot, arrangement.to_base, symbol.tokens) for symbol, slot, arrangement in inputs]
        lengths, dtype = self.lengths, model.dtype
        zeros = runner.layout.zeros(inputs[0][2].base[0]) if starts else []

        def step(slots: list[Any]) -> None:
            x = [slots[slot] if tokens else change(slots[slot]) for slot, change, tokens in reads]
            state = None
            if starts:
                state = zeros.copy()
                for at, slot in starts:
                    state[at] = slots[slot].astype(dtype, copy=False)
            y, final = runner.forward_flat(x, state, None if lengths is None else slots[lengths])
            for at, slot, change in outputs:
                slots[slot] = change(y[at])
            for at, slot in ends:
                slots[slot] = final[at]

        return model, step


def _reached(symbols: Sequence[Symbol]) -> set[int]:
    """The ids of all sources that the symbols depend on."""
    return {id(one) for part in behind([one.source for one in symbols]) for one in part}
