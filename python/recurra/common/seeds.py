"""Seeds: fresh ones, and seeds derived from another."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from recurra.common import checks

if TYPE_CHECKING:
    import numpy as np

_WORD = (1 << 64) - 1
_SEED = (1 << 63) - 1  # what the native core takes


def resolve(operation: str, seed: int | None) -> int:
    """`seed`, checked; a fresh random one for None."""
    if seed is None:
        return int.from_bytes(os.urandom(8), "little") & _SEED
    return checks.integer(operation, "seed", seed, 0, _SEED)


def derive(seed: int, *path: int) -> int:
    """The seed derived from `seed` at `path`; distinct paths give independent seeds.

    SplitMix64's finaliser (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014) for each number.
    """
    for number in path:
        seed = (seed + (number + 1) * 0x9E3779B97F4A7C15) & _WORD
        seed = ((seed ^ (seed >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
        seed = ((seed ^ (seed >> 27)) * 0x94D049BB133111EB) & _WORD
        seed ^= seed >> 31
    return seed & _SEED


def generator(seed: int) -> np.random.Generator:
    """A counter-based numpy generator."""
    from numpy.random import (
        Generator,
        Philox,
    )  # late: numpy does not import it by itself, and `import recurra` must stay cheap

    return Generator(Philox(seed))
