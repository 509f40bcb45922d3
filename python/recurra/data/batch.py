"""A batch, and sources of batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from recurra.common import checks


@dataclass(frozen=True, eq=False)
class Batch:
    """The rows of one optimiser step, as a source of batches yields them to `fit`.

    For a model with several inputs or outputs, x, y, lengths and reset are tuples or dicts, as in `fit`.

    Attributes:
        x: (N, T, features) or tokens (N, T); or a list of N ragged arrays.
        y: targets, as in `fit`.
        lengths: (N,) valid steps of each row of an array x; None: all of them.
        sample_weight: (N,) or (N, T), the weight of each row or step in the loss; None: 1.
        reset: (N, T) bool, true where a sequence begins: the state before that step is zero.
        carry: whether row n starts from the final state of row n of the batch before. No gradient flows back
            into that batch.
        mask: (N, T) bool or integers 0 and 1, true at the valid steps of each row of an array x, in place of lengths.

    Example:
        >>> x = np.ones((2, 5, 1), np.float32)
        >>> batch = rc.data.Batch(x, x, lengths=[5, 2])
        >>> model = rc.Sequential(rc.GRU(1, 2), rc.Linear(2, 1))
        >>> history = model.fit([batch], loss="mse", optimizer="adam", verbose=0)
    """

    x: Any
    y: Any
    lengths: Any = None
    sample_weight: Any = None
    reset: Any = None
    carry: bool = False
    mask: Any = None

    def __post_init__(self) -> None:
        checks.flag("Batch", "carry", self.carry)


class Batches(ABC):
    """A source of batches, epoch by epoch.

    Attributes: steps, the number of batches per epoch; None if not known in advance.
    """

    steps: int | None
    #: Whether `epoch(number)` can be called repeatedly, gives the same batches each time, and has no side effects.
    repeatable = False
    #: Whether the arrays of a batch stay valid once the next batch has been requested.
    stay = False

    @abstractmethod
    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of epoch `number`, from 0; the same on every call."""

    def config(self) -> dict[str, Any] | None:
        """Plain data that identifies these batches, their content and order included; None if that is unknown."""
        return None

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run takes over from the run before, beside `config`."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027 - not all sources have a state
        """Restore the state from `state_dict()`."""
