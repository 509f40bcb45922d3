"""Conversion between a nested state and the flat list of arrays that programs take."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from typing import Any

import numpy as np

from recurra.common import checks
from recurra.common.typing import Array, State
from recurra.graph.graph import Node


class StateLayout:
    """The structure of the state of `nodes`.

    A single layer's state is None (no state), an array (RNN, GRU) or a tuple of arrays (LSTM: h and c). A model's state
    is a list with one such entry per node; states initialised from another layer's state are not part of it.
    """

    def __init__(self, owner: str, nodes: Sequence[Node], alone: bool) -> None:
        self._owner, self._nodes, self._alone = owner, nodes, alone
        self._picks = list(_picks([len(node.own_states) for node in nodes]))

    def flatten(self, operation: str, state: State) -> list[Array | None] | None:
        """The arrays in order, with None for those left out; None if all are."""
        if state is None:
            return None
        if self._alone:
            entries = [state]
        elif isinstance(state, list | tuple) and len(state) == len(self._nodes):
            entries = list(state)
        else:
            got = type(state).__name__
            if isinstance(state, list | tuple):
                got = f"{len(state)} entr{'y' if len(state) == 1 else 'ies'}"
            raise ValueError(
                f"{operation}: got a state of {got}, expected a list with one entry for each of the {len(self._nodes)} "
                f"layers; give None for a layer without state, or start from {self._owner}.init_state(batch_size)"
            )
        arrays: list[Array | None] = []
        for node, entry in zip(self._nodes, entries, strict=True):
            arrays += self._flatten_entry(operation, node, entry)
        return arrays

    def arrays(self, operation: str, state: State) -> list[Array | None] | None:
        """`flatten`, with array-likes converted to arrays."""
        flat = self.flatten(operation, state)
        return flat and [None if one is None else checks.array(operation, "a state", one) for one in flat]

    def _flatten_entry(self, operation: str, node: Node, entry: Any) -> list[Array | None]:
        layer = node.layer
        names = [layer.state_names[index] for index in node.own_states]
        if entry is None:
            return [None] * len(names)
        if not names:
            raise ValueError(
                f"{operation}: got a state for {layer.label}, expected None, as it has no entry in the state; give "
                f"None there"
            )
        if len(names) == 1 and hasattr(entry, "shape"):
            return [entry]
        if len(names) > 1 and isinstance(entry, list | tuple) and len(entry) == len(names):
            return list(entry)
        expected = f"the tuple ({', '.join(names)})" if len(names) > 1 else f"one array, {names[0]}"
        got = (
            f"{len(entry)} values in a {type(entry).__name__}"
            if isinstance(entry, list | tuple)
            else type(entry).__name__
        )
        raise ValueError(
            f"{operation}: got {got} as the state of {layer.label}, expected {expected}; "
            f"start from {layer.label if self._alone else self._owner}.init_state(batch_size)"
        )

    def fill(self, arrays: list[Array | None] | None, batch_size: int) -> list[Array] | None:
        """`arrays`, with zeros for those left out."""
        if arrays is None:
            return None
        given = [array for array in arrays if array is not None]
        if len(given) == len(arrays):  # shortcut: making zeros is noticeable in small calls
            return given
        zeros = iter(self.zeros(batch_size))
        return [zero if array is None else array for array, zero in zip(arrays, zeros, strict=True)]

    def zeros(self, batch_size: int) -> list[Array]:
        """The arrays of the zero state."""
        found = []
        for node in self._nodes:
            arrays = node.layer.state_zeros(batch_size)
            found += [arrays[index] for index in node.own_states]
        return found

    def nest(self, arrays: Sequence[Array]) -> State:
        """The flat list `arrays` as a nested state."""
        return self._picks[0](arrays) if self._alone else [pick(arrays) for pick in self._picks]


def _picks(counts: Sequence[int]) -> Iterator[Callable[[Sequence[Array]], State]]:
    """What picks each entry from the flat list; small calls notice a loop over the arrays."""
    begin = 0
    for count in counts:
        yield itemgetter(*range(begin, begin + count)) if count else lambda _arrays: None
        begin += count


def rows_of(state: State, begin: int, end: int) -> State:
    """Rows `begin` to `end` of a state."""
    if isinstance(state, list | tuple):
        return type(state)(rows_of(one, begin, end) for one in state)
    return None if state is None else state[:, begin:end]


def joined(states: Sequence[State]) -> State:
    """The state of the rows of several states, one after the other."""
    first = states[0]
    if isinstance(first, list | tuple):
        return type(first)(joined(parts) for parts in zip(*states, strict=True))
    return None if first is None else np.concatenate(states, axis=1)


def copied(state: State) -> State:
    """A copy that shares no memory with the tape or the stream it came from."""
    if isinstance(state, list | tuple):
        return type(state)(copied(one) for one in state)
    return None if state is None else state.copy()
