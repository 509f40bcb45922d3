"""Inputs without a batch axis or with a mask, converted to padded batches with lengths and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from recurra.common import checks
from recurra.common.typing import Array
from recurra.graph.graph import Graph


class Form:
    """Converts a call's arrays to a padded batch, and the results back to the caller's form.

    Without a batch axis, x is (T, features) or (T,), states are (num_layers * directions, H). A mask (N, T) is true at
    the valid steps of an input: they are moved to the front of their row, and the results back to their places.
    """

    def __init__(self, owner: str, graph: Graph, unbatched: bool, time_major: bool) -> None:
        self._owner, self._graph, self._unbatched = owner, graph, unbatched
        self._rows = 1 if time_major else 0  # the axis of rows in arrays with a time axis
        self._masks: list[Array | None] = [None] * len(graph.inputs)

    # Arguments

    def arrays(self, arrays: Sequence[Array]) -> list[Array]:
        """The inputs with a batch axis."""
        if not self._unbatched:
            return list(arrays)
        return [np.expand_dims(one, self._rows if one.ndim > 1 else 0) for one in arrays]

    def lengths(self, lengths: Sequence[Array | None]) -> list[Array | None]:
        """The lengths with a batch axis."""
        if not self._unbatched:
            return list(lengths)
        return [None if one is None else one.reshape(one.shape or (1,)) for one in lengths]

    def resets(self, resets: Sequence[Array | None]) -> list[Array | None]:
        """Resets or masks with a batch axis."""
        if not self._unbatched:
            return list(resets)
        return [None if one is None else np.expand_dims(one, min(self._rows, one.ndim)) for one in resets]

    def states(self, operation: str, flat: Sequence[Array | None] | None) -> list[Array | None] | None:
        """A flat state with a batch axis."""
        if flat is None or not self._unbatched:
            return None if flat is None else list(flat)
        found: list[Array | None] = []
        for one in flat:
            array = None if one is None else checks.array(operation, "state", one)
            if array is not None and array.ndim != 2:
                raise ValueError(
                    f"{operation}: got a state of shape {array.shape} for x without a batch axis, expected (num_layers "
                    "* directions, H); write state[:, 0], or give x a batch axis, too, x[None]"
                )
            found.append(None if array is None else array[:, None])
        return found

    def moved(
        self, arrays: list[Array], lengths: list[Any], resets: list[Array | None], masks: Sequence[Any]
    ) -> tuple[list[Array], list[Any], list[Array | None]]:
        """Inputs, lengths and resets with the valid steps at the front of each row."""
        for index, mask in enumerate(masks):
            if mask is None:
                continue
            valid = checked(self._owner, mask, arrays[index], lengths[index], self._rows)
            lengths[index] = valid.sum(1)
            if is_suffix_padded(valid, lengths[index]):
                continue
            check_movable(self._owner, self._graph, index, valid)
            self._masks[index] = valid
            arrays[index] = self._turned(to_front(self._turned(arrays[index]), valid))
            reset = None if resets[index] is None else self._turned(resets[index])
            if reset is not None and reset.dtype == bool and reset.shape == valid.shape:  # the core refuses any other
                resets[index] = self._turned(episodes_to_front(reset, valid))
        self._check_joins()
        return arrays, lengths, resets

    def _check_joins(self) -> None:
        graph = self._graph
        for node in graph.nodes:
            if not node.layer.joins:
                continue
            sources = [graph.sources[value] for value in node.inputs]
            first, *others = [None if source is None else self._masks[source] for source in sources]
            if any((first is None) != (one is None) or not np.array_equal(first, one) for one in others):  # type: ignore[arg-type]
                raise ValueError(
                    f"{self._owner}: got inputs with different masks for {node.layer.label}, which pairs their steps, "
                    f"expected the same mask for each; give it to all of them"
                )

    def _turned(self, array: Any) -> Array:
        """Swaps between time-major and rows first."""
        turned: Array = np.swapaxes(array, 0, 1) if self._rows else np.asarray(array)
        return turned

    # Results

    def mask_of(self, value: int) -> Array | None:
        """The mask of a value, if it has the steps of an input."""
        source = self._graph.sources[value]
        return None if source is None or not self._graph.keeps_steps[value] else self._masks[source]

    def keep_rows(self, count: int) -> None:
        """Keep only the masks of the first `count` rows."""
        self._masks = [None if one is None else one[:count] for one in self._masks]

    def out(self, value: int, array: Array | None) -> Array | None:
        """An output, or an input's gradient, in the caller's form."""
        if array is None:
            return None
        valid = self.mask_of(value)
        if valid is not None:
            array = self._turned(to_places(self._turned(array), valid))
        return self._squeezed(array, self._graph.sources[value] is not None)

    def gradient(self, value: int, array: Array | None) -> Array | None:
        """The caller's gradient of an output, in the form of the batch that ran."""
        if array is None:
            return None
        if self._unbatched:
            array = np.expand_dims(array, self._rows if array.ndim > 1 else 0)
        valid = self.mask_of(value)
        return array if valid is None else self._turned(to_front(self._turned(array), valid))

    def _squeezed(self, array: Array, sequence: bool) -> Array:
        if not self._unbatched:
            return array
        return np.squeeze(array, self._rows if sequence and array.ndim > 2 else 0)

    def final(self, flat: Sequence[Array]) -> list[Array]:
        """A final state, or the gradient of an initial one, in the caller's form."""
        return [one[:, 0] for one in flat] if self._unbatched else list(flat)


def checked(owner: str, mask: Any, x: Array, lengths: Any, rows: int) -> Array:
    """The mask with rows first, (N, T), as bool."""
    valid = checks.array(owner, "mask", mask)
    if lengths is not None:
        raise ValueError(f"{owner}: got both lengths and mask, expected one of them; leave one out")
    if valid.dtype.kind in "iu" and ((valid == 0) | (valid == 1)).all():
        valid = valid.astype(bool)
    if valid.dtype != bool:
        numbers = f", from {valid.min()} to {valid.max()}" if valid.dtype.kind in "iuf" and valid.size else ""
        raise TypeError(
            f"{owner}: got mask of {valid.dtype}{numbers}, expected bool, or integers 0 and 1, true at the valid "
            "steps; write mask != 0, or mask == 0 if it marks padding"
        )
    if valid.shape != x.shape[:2] or x.ndim < 2:
        raise ValueError(
            f"{owner}: got mask of shape {valid.shape}, expected {x.shape[:2]}; give True or False for each step of "
            f"each row"
        )
    return valid.T if rows else valid


def is_suffix_padded(mask: Array, lengths: Array) -> bool:
    """Whether each row's valid steps come before its padding, so that lengths are enough."""
    return bool((mask == checks.steps_within(lengths, mask.shape[1])).all())


def check_movable(owner: str, graph: Graph, index: int, mask: Array) -> None:
    """Refuse holes, that is, padding between valid steps, before a layer that reads neighbouring steps.

    Other layers skip masked steps: recurrent ones continue from the state before them.
    """
    rises = np.diff(mask.astype(np.int8), axis=1, prepend=0) > 0
    if not (rises.sum(1) > 1).any():
        return  # the valid steps of each row are contiguous
    for node in graph.nodes:
        if graph.sources[node.inputs[0]] == index and not node.layer.allows_holes:
            row = int(np.flatnonzero(rises.sum(1) > 1)[0])
            raise ValueError(
                f"{owner}: got a mask with padding between the valid steps of row {row}, expected none before "
                f"{node.layer.label}, as it reads neighbouring steps, which those on either side of padding are not; "
                "give rows whose valid steps are contiguous"
            )


def to_front(array: Array, mask: Array) -> Array:
    """The valid steps, moved to the front of their row; zeros after them."""
    moved = np.zeros_like(array)
    moved[checks.steps_within(mask.sum(1), mask.shape[1])] = array[mask]
    return moved


def to_places(array: Array, mask: Array) -> Array:
    """The inverse: the front of a row, moved to its valid steps; zeros elsewhere."""
    moved = np.zeros_like(array)
    moved[mask] = array[checks.steps_within(mask.sum(1), mask.shape[1])]
    return moved


def episodes_to_front(reset: Array, mask: Array) -> Array:
    """Resets, moved likewise: a reset at padding moves to the next valid step."""
    count = np.cumsum(reset, axis=1)
    moved = to_front(count, mask)
    within = checks.steps_within(mask.sum(1), mask.shape[1])
    found: Array = (np.diff(moved, axis=1, prepend=0) > 0) & within
    return found
