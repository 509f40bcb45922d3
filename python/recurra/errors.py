"""The library's own exceptions; every other bad argument is a plain ValueError or TypeError."""

from __future__ import annotations


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
