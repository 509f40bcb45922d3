"""Types shared by the public API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]

#: The state carried from step to step: an array (RNN, GRU), the pair (h, c) (LSTM), None (no state) or, for a model, a
#: list with one such entry per layer. Each array is (num_layers * directions, N, H).
State: TypeAlias = Any

#: The valid steps of each row, (N,): integers in any order, zero allowed. None: every step is valid.
Lengths: TypeAlias = "Array | Sequence[int] | None"

#: One array of rows, or a list with an array for each (ragged) row.
Rows: TypeAlias = "npt.ArrayLike | Sequence[npt.ArrayLike]"
