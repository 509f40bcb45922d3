"""Files with trained weights in packages that are installed; their code is not run."""

from __future__ import annotations

import importlib.util
from pathlib import Path


def packaged(package: str, name: str) -> Path | None:
    """The path of a package's file; None if the package is not installed."""
    spec = importlib.util.find_spec(package)
    return None if spec is None or spec.origin is None else Path(spec.origin).parent / name
