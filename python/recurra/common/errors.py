"""Exceptions and warnings of the library; any other bad argument is a plain ValueError or TypeError."""

from __future__ import annotations

import sys
import warnings


class ModelFormatError(ValueError):
    """A file that this library cannot read as a model: damaged, foreign, inconsistent or of a newer format.

    Example:
        >>> with open("model.safetensors", "wb") as file:
        ...     _ = file.write(b"something else")
        >>> try:
        ...     rc.load("model.safetensors")
        ... except rc.ModelFormatError:
        ...     print("no model")
        no model
    """


class NonFiniteError(FloatingPointError):
    """Training met NaN or infinity and stopped before it changed any parameter.

    Attributes: report, the result of `recurra.diagnose.nonfinite`; None if each number is finite and only their sum is
    not.

    Example:
        >>> model = rc.Sequential(rc.GRU(1, 2), rc.Linear(2, 1))
        >>> x = np.ones((4, 5, 1), np.float32)
        >>> model.params["1.bias"] = np.array([np.inf], np.float32)
        >>> try:
        ...     model.fit(x, x, loss="mse", optimizer="adam", verbose=0)
        ... except rc.NonFiniteError as error:
        ...     print(error.report.layer, error.report.kind)
        1 infinity
    """

    def __init__(self, message: str, report: object = None) -> None:
        super().__init__(message)
        self.report = report


class ResumeWarning(UserWarning):
    """A run resumes although something differs or cannot be compared, so that its results may differ from those of an
    uninterrupted run; or it resumes from an older checkpoint, as the newest is damaged.

    Example:
        >>> import warnings
        >>> warnings.simplefilter("error", rc.ResumeWarning)  # stop rather than resume
    """


def warn(message: str, category: type[Warning] = RuntimeWarning) -> None:
    """Warn, attributing the warning to the caller's line outside this package."""
    frame, level = sys._getframe(), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "recurra":
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
