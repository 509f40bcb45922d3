"""A number monitored from epoch to epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from recurra.common import checks

if TYPE_CHECKING:
    from recurra.training.loop import Training


class Monitor:
    """Tracks the best value of a number so far.

    Args:
        owner: the callback's name, for messages.
        name: the number's name in the logs, such as "val_loss".
        mode: "min" or "max", whichever is better; "auto": "min" for a loss, the metric's own mode for a metric.
        min_delta: the least change that counts as an improvement.
    """

    def __init__(self, owner: str, name: str, mode: str = "auto", min_delta: float = 0.0) -> None:
        if not isinstance(name, str):
            raise TypeError(f"{owner}: got monitor={name!r}, expected a name; write monitor='val_loss'")
        self.owner, self.name = owner, name
        self.mode = checks.choice(owner, "mode", mode, ("auto", "min", "max"))
        self.min_delta = checks.number(owner, "min_delta", min_delta)
        self.sign = 1.0
        self.best = math.inf  # times `sign`, so that smaller is better

    def begin(self, training: Training) -> None:
        """Start a run; refuses a name that is not in the logs."""
        known = training.log_names
        if self.name not in known:
            import difflib  # late, to keep `import recurra` cheap

            close = difflib.get_close_matches(self.name, known, 1)
            hint = f"write monitor={close[0]!r}" if close else "choose one of them"
            if self.name.startswith("val_") and self.name[4:] in known:
                hint = "give fit validation_data or validation_split"
            elif self.name.startswith("val_") or not close:
                hint += ", or add the metric to fit(metrics=[...])"
            raise ValueError(f"{self.owner}: got monitor={self.name!r}, expected one of {', '.join(known)}; {hint}")
        mode = training.mode(self.name) if self.mode == "auto" else self.mode
        if mode not in ("min", "max"):
            raise ValueError(
                f"{self.owner}: got mode='auto' for monitor={self.name!r}, expected a loss or a metric, as "
                f"this number has no known mode; write mode='min' or mode='max'"
            )
        self.sign = -1.0 if mode == "max" else 1.0
        self.best = math.inf

    def value(self, logs: Mapping[str, float]) -> float:
        """The number in the logs of an epoch."""
        if self.name not in logs:
            raise ValueError(
                f"{self.owner}: got logs without {self.name!r}, expected it from the callback that lists it in "
                f"log_names; put that callback before {self.owner} in callbacks=[...], and let it add the number in "
                f"every epoch"
            )
        return float(logs[self.name])

    def improved(self, logs: Mapping[str, float]) -> bool:
        """Whether this epoch is the best so far, and if so, remember it. NaN is never better."""
        value = self.value(logs)
        if self.better(value, self.sign * self.best):
            self.best = self.sign * value
            return True
        return False

    def better(self, value: float, than: float) -> bool:
        """Whether `value` is better than `than` by more than min_delta."""
        return self.sign * value < self.sign * than - self.min_delta

    def config(self) -> dict[str, Any]:
        """The options as plain data."""
        return {"monitor": self.name, "mode": self.mode, "min_delta": self.min_delta}
