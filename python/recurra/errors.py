"""The library's own exceptions; every other bad argument is a plain ValueError or TypeError."""

from __future__ import annotations


class ModelFormatError(ValueError):
    """A file is not a model that this library can read: damaged, foreign, inconsistent or of a newer format."""
