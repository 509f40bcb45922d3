"""The arguments of a call, checked and converted to the form that programs take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from recurra.common import checks
from recurra.common.structure import Structure
from recurra.common.typing import Array, State
from recurra.graph.forms import Form
from recurra.graph.graph import Graph
from recurra.running.state import StateLayout

#: Inputs, flat state, lengths and resets as programs take them, and the form to convert the results to.
Arguments: TypeAlias = "tuple[list[Array], list[Array] | None, list[Array | None], list[Array | None], Form | None]"


def converted(owner: str, graph: Graph, inputs: Structure, x: Sequence[Any], padded: bool = False) -> list[Array]:
    """Features in the dtype of the layers, as a native program converts them. If no layer has a dtype, float32 and
    float64 stay what they are."""
    dtype = next((layer.dtype for layer in graph.layers if layer.dtype is not None), None)
    found = []
    for index, one in enumerate(x):
        name = inputs.label("x", index)
        given = checks.numeric(owner, name, one)
        is_features = given.dtype.kind in ("fbiu" if graph.inputs[index].kind == "features" else "fb")
        if is_features and (dtype is not None or given.dtype not in (np.float32, np.float64)):
            given = checks.floats(owner, name, given, dtype or np.float32, padded)
        found.append(given)
    return found


class ArgumentReader:
    """Reads the arguments of the calls of one graph."""

    def __init__(self, owner: str, graph: Graph, inputs: Structure, layout: StateLayout, time_major: bool) -> None:
        self._owner, self._graph, self._inputs, self._layout = owner, graph, inputs, layout
        self._time_major = time_major
        #: Of each input: the axes of x without a batch axis; -1 where that is ambiguous, as vectors have as many.
        self._ranks = [
            {"features": 2, "tokens": 1}.get(port.kind, -1) if needs else -1
            for port, needs in zip(graph.inputs, graph.needs_sequences, strict=False)
        ]
        self._rank = self._ranks[0]
        self.finds_masks = graph.finds_masks
        #: A native program converts its inputs itself; one before a layer written in Python has them converted here.
        self._converts = not graph.all_native

    def read_masked(self, x: Any, state: State, lengths: Any, reset: Any, mask: Any) -> Arguments:
        """The arguments, with masks that are found where neither lengths nor masks are given."""
        if lengths is None and mask is None:
            owner, inputs = self._owner, self._inputs
            given = [checks.array(owner, "x", one) for one in inputs.spread(owner, "x", x)]
            masks = [port.valid_steps(one) for port, one in zip(self._graph.inputs, given, strict=True)]
            x, mask = inputs.join(given), inputs.join(masks)
        return self.read(x, state, lengths, reset, mask)

    def read(self, x: Any, state: State, lengths: Any, reset: Any, mask: Any) -> Arguments:
        """The arguments; lengths and resets against x are checked by the programs."""
        owner, inputs = self._owner, self._inputs
        if self._converts:
            padded = lengths is not None or mask is not None
            x = inputs.join(converted(owner, self._graph, inputs, inputs.spread(owner, "x", x), padded))
        if inputs.count is None:  # fast path: what follows would slow small calls down
            arrays = [x if type(x) is np.ndarray else checks.array(owner, "x", x)]
            if mask is not None or arrays[0].ndim == self._rank:
                return self._formed(arrays, state, lengths, reset, mask)
            valid = [None if lengths is None else checks.lengths(owner, lengths)]
            restart = [None if reset is None else checks.array(owner, "reset", reset)]
        else:
            arrays = [
                checks.array(owner, inputs.label("x", index), one)
                for index, one in enumerate(inputs.spread(owner, "x", x))
            ]
            if mask is not None or self._is_unbatched(arrays):
                return self._formed(arrays, state, lengths, reset, mask)
            valid, restart = self._several(lengths, reset)
        flat = None
        if state is not None:
            axis = 1 if self._time_major else 0
            rows = arrays[0].shape[axis] if arrays[0].ndim > axis else 0
            flat = self._layout.fill(self._layout.arrays(owner, state), rows)
        return arrays, flat, valid, restart, None

    def _is_unbatched(self, arrays: Sequence[Array]) -> bool:
        """Whether the inputs have no batch axis, judged by those that must be sequences."""
        return any(one.ndim == rank for one, rank in zip(arrays, self._ranks, strict=True) if rank > 0)

    def _formed(self, arrays: list[Array], state: State, lengths: Any, reset: Any, mask: Any) -> Arguments:
        """The arguments of a call without a batch axis, or with a mask."""
        owner, inputs = self._owner, self._inputs
        form = Form(owner, self._graph, self._is_unbatched(arrays), self._time_major)
        arrays = form.arrays(arrays)
        valid, restart = self._several(lengths, reset, form)
        if mask is not None:
            masks = form.resets(
                [
                    None if one is None else checks.array(owner, inputs.label("mask", index), one)
                    for index, one in enumerate(inputs.spread(owner, "mask", mask))
                ]
            )
            arrays, valid, restart = form.moved(arrays, valid, restart, masks)
        flat = form.states(owner, self._layout.arrays(owner, state))
        axis = 1 if self._time_major else 0
        return arrays, self._layout.fill(flat, arrays[0].shape[axis]), valid, restart, form

    def _several(
        self, lengths: Any, reset: Any, form: Form | None = None
    ) -> tuple[list[Array | None], list[Array | None]]:
        owner, inputs = self._owner, self._inputs
        valid = [
            None if one is None else checks.lengths(owner, one)
            for one in inputs.spread_optional(owner, "lengths", lengths)
        ]
        if form is not None:
            valid = form.lengths(valid)
        restart = [
            None if one is None else checks.array(owner, inputs.label("reset", index), one)
            for index, one in enumerate(inputs.spread_optional(owner, "reset", reset))
        ]
        if form is not None:
            restart = form.resets(restart)
        return valid, restart
