"""The pieces of an epoch in order, starting anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from recurra.objective.pieces import Piece
from recurra.objective.sources import Source
from recurra.training.truncation import TruncatedBPTT


class Place(NamedTuple):
    """A piece, with the index of its batch, its index in the batch, and whether it is the last there."""

    piece: Piece
    batch: int
    window: int
    last: bool

    @property
    def following(self) -> tuple[int, int]:
        """The batch and index of the next piece."""
        return (self.batch + 1, 0) if self.last else (self.batch, self.window + 1)


def groups(
    source: Source, truncate: TruncatedBPTT | None, size: int, epoch: int, seed: int, batch: int, window: int
) -> Iterator[list[Place]]:
    """The pieces of each optimiser step, `size` of them with a loss, starting at piece `window` of `batch`."""
    group: list[Place] = []
    learning = 0
    for place in _places(source, truncate, epoch, seed, batch, window):
        group.append(place)
        learning += place.piece.learn
        if learning == size:
            yield group
            group, learning = [], 0
        elif place.last and source.reuses_memory:  # the next batch may overwrite this one
            group = [one._replace(piece=one.piece.own()) if one.batch == place.batch else one for one in group]
    if group:
        yield group


def _places(
    source: Source, truncate: TruncatedBPTT | None, epoch: int, seed: int, batch: int, window: int
) -> Iterator[Place]:
    for index, work in enumerate(source.epoch(epoch, seed, skip=batch), batch):
        pieces = [work.piece] if truncate is None else list(truncate.pieces(work.whole, work.carry))
        for place in range(window, len(pieces)):
            yield Place(pieces[place], index, place, place == len(pieces) - 1)
        window = 0
