"""How parameters are drawn: in double precision, so that a seed means the same values in either dtype."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from recurra.typing import Array

if TYPE_CHECKING:
    import numpy as np


def uniform(rng: np.random.Generator, shape: tuple[int, ...], fan: int) -> Array:
    """U(-1/sqrt(fan), 1/sqrt(fan)), as PyTorch draws recurrent and linear layers."""
    bound = 1.0 / math.sqrt(fan)
    return rng.uniform(-bound, bound, shape)


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """N(0, 1), as PyTorch draws embeddings."""
    return rng.standard_normal(shape)
