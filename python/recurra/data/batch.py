"""A batch, and what gives the batches of each epoch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from recurra.common import checks


@dataclass(frozen=True, eq=False)
class Batch:
    """The rows between two steps of an optimiser: what a source of batches yields to `fit`.

    A model with several inputs or outputs takes x, y, lengths and reset as it does in `fit`: in a tuple or a dict.

    Attributes:
        x: (N, T, features) or tokens (N, T); or a list of N ragged arrays.
        y: targets, as in `fit`.
        lengths: (N,) valid steps of each row of an array x; None: all of them.
        sample_weight: (N,) or (N, T), what each row or step counts in the loss; None: 1.
        reset: (N, T) bool, true where a sequence begins: the state before that step is zero.
        carry: whether row n goes on from the state in which row n of the batch before ended. No gradient goes
            back there.
        mask: (N, T) bool or integers 0 and 1, true at the valid steps of each row of an array x, in place of lengths.
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
    """Batches, epoch by epoch.

    Attributes: steps, the batches of an epoch; None if nobody knows before they are over.
    """

    steps: int | None
    #: Whether `epoch` gives the same each time that it is asked for a number, and changes nothing by being asked.
    repeatable = False
    #: Whether the arrays of a batch stay as they are when the next one is asked for.
    stay = False

    @abstractmethod
    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of epoch `number`, from 0: the same each time that it is asked for."""

    def config(self) -> dict[str, Any] | None:
        """What tells these batches apart from others, their content and order included; None where nobody can know."""
        return None

    def state_dict(self) -> dict[str, Any]:
        """What a run that goes on takes over from the one before, beside `config`."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027 - not all have any
        """Take it over."""
