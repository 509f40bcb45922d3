"""The tape of a layer written in Python."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from recurra.common import checks
from recurra.common.typing import Array
from recurra.running import users_arrays

if TYPE_CHECKING:
    from recurra.layers.python_layer import PythonLayer


def _nbytes(value: Any) -> int:
    """Bytes of the arrays in what a user's forward saved."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, dict):
        return sum(map(_nbytes, value.values()))
    return sum(map(_nbytes, value)) if isinstance(value, list | tuple) else 0


class PythonTape:
    """Holds what a user's `forward` saved, for one `backward`."""

    def __init__(
        self,
        layer: PythonLayer,
        y: Array,
        saved: Any,
        lengths: Array | None,
        wanted: tuple[tuple[int, ...], np.dtype[Any]] | None,
    ) -> None:
        self._layer, self._y, self._saved, self._lengths, self._wanted = layer, y, saved, lengths, wanted
        self._closed = self._used = False

    @property
    def y(self) -> Array:
        """The output."""
        self._refuse_if_closed()
        return self._y

    @property
    def state(self) -> list[Array]:
        """Always empty."""
        self._refuse_if_closed()
        return []

    @property
    def nbytes(self) -> int:
        """Bytes of the output and of the arrays in what was saved."""
        return 0 if self._closed else self._y.nbytes + _nbytes(self._saved)

    @property
    def closed(self) -> bool:
        """Whether the tape has run backward or was closed."""
        return self._closed or self._used

    def close(self) -> None:
        """Release what was saved."""
        self._closed, self._saved, self._y = True, None, self._y[:0]

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise ValueError(f"{self._layer.label}: the tape is closed; record again")

    def backward(
        self,
        dy: Array | None,
        dstate: Sequence[Array | None] | None,
        more: Sequence[Any] = (),
        commits: bool = True,
        to: Sequence[Any] | None = None,
    ) -> tuple[Array | None, list[Array]]:
        """A user's `backward`, with its arguments and results checked and padding zeroed."""
        layer, y = self._layer, self.y
        if self._used:
            raise ValueError(f"{layer.label}.backward: the tape was already used, and works once; record again")
        if dy is None:
            dy = np.zeros_like(y)
        if dy.dtype != y.dtype:
            dy = checks.floats(f"{layer.label}.backward", "dy", dy, y.dtype, padded=self._lengths is not None)
        if dy.shape != y.shape:
            raise ValueError(
                f"{layer.label}.backward: got dy of shape {dy.shape}, expected {y.shape}, as y; reshape it"
            )
        saved = self._saved
        self._used, self._saved = True, None
        dx = layer.backward(
            users_arrays.guarded(users_arrays.without_padding(dy, self._lengths if layer.return_sequences else None)),
            saved,
        )
        if self._wanted is None:
            return None, []
        shape, dtype = self._wanted
        if not isinstance(dx, np.ndarray) or dx.shape != shape or dx.dtype != dtype:
            got = f"an array of shape {dx.shape} and {dx.dtype}" if isinstance(dx, np.ndarray) else type(dx).__name__
            raise ValueError(
                f"{layer.label}.backward: got {got} as its result, expected the gradient with respect to x, of shape "
                f"{shape} and {dtype}; return dx"
            )
        return users_arrays.apart(users_arrays.without_padding(dx, self._lengths)), []
