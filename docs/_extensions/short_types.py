"""numpy's annotations as people write them, `ndarray` and `ArrayLike`, instead of what
they stand for."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


class _Arrays:
    def __class_getitem__(cls, dtype: object) -> type[np.ndarray]:
        return np.ndarray


def shorten() -> None:
    """To be called before recurra is imported, which evaluates its aliases."""
    npt.NDArray = _Arrays
    for name in ("ArrayLike", "DTypeLike"):
        setattr(npt, name, type(name, (), {"__module__": "numpy.typing"}))
