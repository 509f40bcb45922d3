"""The order of an epoch: which rows make each batch."""

from __future__ import annotations

from collections.abc import Iterator

from recurra import seeds
from recurra.data.rows import Chosen


def batches(rows: int, batch_size: int, seed: int | None) -> Iterator[Chosen]:
    """Which rows make each batch: in order, or shuffled by `seed`."""
    order = None if seed is None else seeds.generator(seed).permutation(rows)
    for begin in range(0, rows, batch_size):
        chosen = slice(begin, min(begin + batch_size, rows))
        yield chosen if order is None else order[chosen]
