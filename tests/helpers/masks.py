"""The random masks of training as the native core draws them, in numpy: a function of seed, stream, row and step
alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint32]

WORD, LONG = (1 << 32) - 1, (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15

#: Kinds of masks. A mask's stream is kind << 20 | slot, slot = layer * directions + direction; for the dropout between
#: layers it is the number of the layer below. Both directions read one masked input, of the first one's slot.
INPUT, RECURRENT, ZONEOUT, ZONEOUT_CELL = 1, 2, 3, 4


def philox(key: int, high: Any, low: Any) -> tuple[Words, ...]:
    """Philox4x32-10 (Salmon, Moraes, Dror, Shaw 2011): the four words of each counter, high << 64 | low."""
    high, low = np.broadcast_arrays(np.asarray(high, np.uint64), np.asarray(low, np.uint64))
    k0, k1 = key & WORD, key >> 32
    c = [low & WORD, low >> 32, high & WORD, high >> 32]
    for _ in range(10):
        p0, p1 = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [(p1 >> 32) ^ c[1] ^ k0, p1 & WORD, (p0 >> 32) ^ c[3] ^ k1, p0 & WORD]
        k0, k1 = (k0 + 0x9E3779B9) & WORD, (k1 + 0xBB67AE85) & WORD
    return tuple(word.astype(np.uint32) for word in c)


def hit(seed: int, stream: int, row: Any, step: Any, units: int, p: float) -> npt.NDArray[np.bool_]:
    """Which units are dropped or zoned out; row and step are numbers or arrays, the units are a further last axis."""
    row, step = (np.asarray(value, np.uint64)[..., None] for value in (row, step))
    unit = np.arange(units, dtype=np.uint64)
    words = philox(seed ^ ((stream + 1) * GOLDEN & LONG), row << 32 | step, unit // 64 * 16 + unit % 16)
    drawn: npt.NDArray[np.bool_] = np.choose((unit // 16 % 4).astype(np.intp), words) < p * 2.0**32
    return drawn


def dropout(seed: int | None, stream: int, row: Any, step: Any, units: int, p: float) -> npt.NDArray[np.float64]:
    """0 or 1 / (1 - p); 1 in inference, where seed is None."""
    if seed is None or p == 0.0:
        return np.ones((*np.broadcast(row, step).shape, units))
    return np.where(hit(seed, stream, row, step, units, p), 0.0, 1.0 / (1.0 - p))


def zoneout(seed: int | None, stream: int, row: Any, step: Any, units: int, p: float) -> npt.NDArray[np.float64]:
    """The share of the previous value: 0 or 1, or its mean p in inference."""
    if seed is None or p == 0.0:
        return np.full((*np.broadcast(row, step).shape, units), p)
    return hit(seed, stream, row, step, units, p).astype(np.float64)
