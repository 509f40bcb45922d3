"""Arrays of tests, and the dtypes that layers compute in."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

Array = npt.NDArray[Any]
DTYPES = ["float32", "float64"]
