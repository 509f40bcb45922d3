"""`fit`'s options, checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from recurra.common import checks

if TYPE_CHECKING:
    from recurra.training.truncation import TruncatedBPTT


@dataclass
class Settings:
    """Arguments of `TrainableModel.fit`, checked."""

    epochs: int
    clip_norm: float | None
    clip_value: float | None
    accumulate: int
    shards: int
    truncate: TruncatedBPTT | None
    memory_budget: int | None
    nan_guard: bool
    verbose: int

    def __post_init__(self) -> None:
        self.epochs = checks.integer("fit", "epochs", self.epochs, 0)
        if self.clip_norm is not None:
            self.clip_norm = checks.number("fit", "clip_norm", self.clip_norm)
        if self.clip_value is not None:
            self.clip_value = checks.number("fit", "clip_value", self.clip_value)
        self.accumulate = checks.integer("fit", "accumulate", self.accumulate)
        self.shards = checks.integer("fit", "shards", self.shards)
        self.nan_guard = checks.flag("fit", "nan_guard", self.nan_guard)
        self.verbose = checks.choice("fit", "verbose", self.verbose, (0, 1, 2))
