"""Which rows to train on, which to validate with, and which form each batch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from recurra.common import checks, seeds
from recurra.common.typing import Array
from recurra.data.rows import Chosen


def validation_rows(operation: str, fraction: float, rows: int) -> tuple[slice, slice]:
    """The rows to train on, and the last `fraction` to validate with, taken before any shuffling, as in Keras."""
    fraction = checks.number(operation, "validation_split", fraction, 0.0, 1.0)
    first = int(rows * (1.0 - fraction) + 1e-9)  # 10 * (1.0 - 0.9) is less than 1
    if not 0 < first < rows:
        raise ValueError(
            f"{operation}: got validation_split={fraction:g} for {rows} rows, which leaves {first} to train on and "
            f"{rows - first} to validate with, expected at least one of each; change it, or give validation_data"
        )
    return slice(0, first), slice(first, rows)


def batches(rows: int, batch_size: int, seed: int | None) -> Iterator[Chosen]:
    """The rows of each batch: in order, or shuffled by `seed`."""
    order = None if seed is None else seeds.generator(seed).permutation(rows)
    for begin in range(0, rows, batch_size):
        chosen = slice(begin, min(begin + batch_size, rows))
        yield chosen if order is None else order[chosen]


def bucket_batches(
    lengths: npt.ArrayLike, batch_size: int, seed: int | None, *, pool: int = 64, max_steps: int | None = None
) -> list[Array]:
    """Batches of rows of similar lengths, in random order.

    The rows are shuffled and taken `pool` batches at a time; each pool is sorted by length and cut into batches, and
    the batches of all pools are shuffled. With few batches, a pool is at most half of them, so that another seed
    combines other rows.

    `fit(bucket=True)` does this in every epoch. A batch of long rows only has more steps than a mixed one; max_steps
    bounds its memory.

    Args:
        lengths: (N,) steps of each row.
        batch_size: maximum number of rows of a batch.
        seed: of the order: the same seed gives the same order. None for a fresh seed.
        pool: number of batches sorted together: more means less padding and less mixing; 1 is a plain shuffle.
        max_steps: maximum steps of a batch including padding, rows * longest, so that long rows form smaller batches.

    Returns:
        An array of row numbers for each batch; every row is in exactly one.

    Raises:
        ValueError: a row alone is longer than max_steps.

    Example:
        >>> lengths = np.arange(100)
        >>> batches = rc.data.bucket_batches(lengths, 10, seed=0)
        >>> len(batches), max(len(rows) for rows in batches)
        (10, 10)
    """
    name = "bucket_batches"
    steps = checks.lengths(name, lengths)
    steps = checks.lengths_within(name, steps, steps.size, checks.LARGEST)
    batch_size = checks.integer(name, "batch_size", batch_size)
    pool = checks.integer(name, "pool", pool)
    if max_steps is not None:
        max_steps = checks.integer(name, "max_steps", max_steps)
        if steps.max(initial=0) > max_steps:
            raise ValueError(
                f"{name}: got row {steps.argmax()} with {steps.max()} steps, expected at most max_steps={max_steps}; "
                f"raise max_steps, or cut the row"
            )
    generator = seeds.generator(seeds.resolve(name, seed))
    order = generator.permutation(len(steps))
    size = batch_size * min(pool, max(1, -(-len(steps) // batch_size) // 2))
    found: list[Array] = []
    for begin in range(0, len(order), size):
        rows = order[begin : begin + size]
        rows = rows[np.argsort(steps[rows], kind="stable")]
        found += _cut(rows, steps[rows], batch_size, max_steps)
    return [found[index] for index in generator.permutation(len(found))]


def _cut(rows: Array, steps: Array, batch_size: int, max_steps: int | None) -> Iterator[Array]:
    """Batches of rows sorted by their steps."""
    if max_steps is None:
        yield from (rows[begin : begin + batch_size] for begin in range(0, len(rows), batch_size))
        return
    begin = 0
    for end in range(1, len(rows) + 1):  # the next row would be the longest
        if end == len(rows) or end - begin == batch_size or (end + 1 - begin) * steps[end] > max_steps:
            yield rows[begin:end]
            begin = end
