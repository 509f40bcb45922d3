"""A recorded forward: it owns its memory and runs backwards once."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy.typing as npt

from recurra import checks
from recurra.state import StateLayout
from recurra.typing import Array, State

if TYPE_CHECKING:
    from recurra.leaf import LeafLayer

# Backward passes through layers written in Python take turns: numpy's `grads[name] += ...` is not safe on two threads.
_turn = threading.Lock()


def _renew_turn() -> None:
    global _turn
    _turn = threading.Lock()  # a forked child must not wait for a thread that it does not have


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_turn)


class TapePiece(Protocol):
    """The tape of one run of a chain: `_core.Tape`, or its twin for a layer written in Python."""

    @property
    def y(self) -> Array: ...
    @property
    def state(self) -> list[Array]: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def closed(self) -> bool: ...
    def backward(self, dy: Array | None, dstate: Sequence[Array | None] | None) -> tuple[Array | None, list[Array]]: ...
    def close(self) -> None: ...


class Tape:
    """What `record` returns. It works once, on any thread; several may be outstanding, in any order.

    Attributes: y, the output, read-only; state, the final state, as the call returns it; nbytes, the memory held; closed,
    whether it was used or closed.
    """

    def __init__(
        self,
        owner: str,
        pieces: Sequence[tuple[TapePiece, slice]],
        layout: StateLayout,
        leaves: Sequence[tuple[str, LeafLayer]],
        versions: Sequence[int],
        *,
        all_native: bool,
    ) -> None:
        self._owner, self._pieces, self._layout = owner, pieces, layout
        self._leaves, self._versions, self._all_native = leaves, versions, all_native

    @property
    def y(self) -> Array:
        """The output, as the call returns it; read-only."""
        return self._pieces[-1][0].y

    @property
    def state(self) -> State:
        """The final state, as the call returns it."""
        return self._layout.nest([array for piece, _states in self._pieces for array in piece.state])

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the tape holds."""
        return sum(piece.nbytes for piece, _states in self._pieces)

    @property
    def closed(self) -> bool:
        """Whether the tape has run backwards or was closed."""
        return any(piece.closed for piece, _states in self._pieces)

    def close(self) -> None:
        """Give the memory back without running backwards."""
        for piece, _states in self._pieces:
            piece.close()

    def backward(self, dy: npt.ArrayLike | None, dstate: State = None) -> tuple[Array | None, State]:
        """Back-propagation through time: adds the gradients of the parameters into `grads`.

        Args:
            dy: gradient of the loss (of its sum over the batch) with respect to `y`, of its shape; None for zeros.
            dstate: gradient with respect to the final state, built like it; any array of it may be None for zeros.

        Returns:
            The gradients with respect to x (None if not asked for, or if x holds tokens) and the initial state.

        Raises:
            ValueError: wrong shapes; the tape was used or closed; parameters changed since `record`.
            TypeError: wrong dtype.
        """
        gradient = None if dy is None else checks.array(f"{self._owner}.backward", "dy", dy)
        flat = self._layout.flatten(f"{self._owner}.backward", dstate)
        if self._all_native:  # one piece, and it checks and undoes by itself
            dx, initial = self._pieces[0][0].backward(gradient, flat or None)
            return dx, self._layout.nest(initial)
        with _turn:
            self._refuse_if_stale()
            kept = [layer.parameters.grads.copy() for _prefix, layer in self._leaves]
            try:
                return self._backward_pieces(gradient, flat)
            except BaseException:  # an interrupt, too, leaves the gradients as they were
                for (_prefix, layer), grads in zip(self._leaves, kept, strict=True):
                    layer.parameters.grads[...] = grads
                self.close()
                raise

    def _backward_pieces(self, gradient: Array | None, flat: list[Array | None] | None) -> tuple[Array | None, State]:
        initial: list[Array] = []
        for piece, states in reversed(self._pieces):
            gradient, part = piece.backward(gradient, (flat[states] or None) if flat is not None else None)
            initial[:0] = part
        return gradient, self._layout.nest(initial)

    def _refuse_if_stale(self) -> None:
        if self.closed:
            raise ValueError(
                f"{self._owner}.backward: got a tape that was used or closed, expected a fresh one; call record again"
            )
        for (prefix, layer), version in zip(self._leaves, self._versions, strict=True):
            if layer.parameters.version != version:
                raise ValueError(
                    f"{self._owner}.backward: got parameters of {prefix}{layer.label} that changed since record, "
                    f"expected the same; call record again, and change parameters after backward"
                )
