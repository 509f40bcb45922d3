"""The library's own exceptions; every other bad argument is a plain ValueError or TypeError. And how it warns."""

from __future__ import annotations

import sys
import warnings


class ModelFormatError(ValueError):
    """A file is not a model that this library can read: damaged, foreign, inconsistent or of a newer format."""


class NonFiniteError(FloatingPointError):
    """Training met NaN or infinity, and stopped before any parameter was changed by it.

    Attributes: report, what `recurra.diagnose.nonfinite` found; None if the numbers are finite one by one, and only their
    sum is not.
    """

    def __init__(self, message: str, report: object = None) -> None:
        super().__init__(message)
        self.report = report


class ResumeWarning(UserWarning):
    """A run goes on although something differs, or cannot be compared, that may give it other bits than a run without a
    break; or from an older checkpoint, as the newest one is damaged."""


def warn(message: str, category: type[Warning] = RuntimeWarning) -> None:
    """A warning that points at the line outside this package that led to it."""
    frame, level = sys._getframe(), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "recurra":
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
