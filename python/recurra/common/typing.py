"""Types shared by the public API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy.typing as npt

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    #: What a model or stream gives at its output: an array, or as many as its outputs in a tuple or a dict.
    Output = TypeVar("Output", default=Any)
    #: The state of a recurrent layer.
    Carried = TypeVar("Carried", default=Any)
else:
    from typing import TypeVar

    Output, Carried = TypeVar("Output"), TypeVar("Carried")

Array: TypeAlias = npt.NDArray[Any]

#: The state carried from step to step: an array (RNN, GRU), the pair (h, c) (LSTM), None (no state) or, for a model, a
#: list with one such entry per layer. Each array is (num_layers * directions, N, H).
State: TypeAlias = Any

#: The valid steps of each row, (N,): integers in any order, zero allowed. None: every step is valid.
Lengths: TypeAlias = "Array | Sequence[int] | None"

#: One array of rows, or a list with an array for each (ragged) row.
Rows: TypeAlias = "npt.ArrayLike | Sequence[npt.ArrayLike]"
