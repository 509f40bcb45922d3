"""Where batches come from: rows in memory, or what a generator yields."""

from __future__ import annotations

import copy
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from recurra import checks
from recurra.data import order
from recurra.data.batch import Batch, Batches
from recurra.data.feed import Feed, place
from recurra.data.rows import Chosen, Rows
from recurra.data.sources import is_source, read
from recurra.training.goal import Goal
from recurra.training.pieces import Piece, Segment, check_runs_in_parts
from recurra.typing import Array

if TYPE_CHECKING:
    from recurra.training.metric_group import MetricGroup
    from recurra.training.model import TrainableModel


class Work(NamedTuple):
    """A batch, ready to be recorded; `carry`: it begins with the state in which the one before it ended."""

    whole: Segment
    carry: bool = False
    hand_on: bool = False  # whether the one after it may do so

    @property
    def piece(self) -> Piece:
        """All of it at once."""
        return Piece([self.whole], carry=self.carry, hand_on=self.hand_on)


class Source(ABC):
    """The batches of every epoch, the same for the same seed."""

    #: Batches of an epoch; None if that shows only at its end.
    steps: int | None

    @abstractmethod
    def epoch(self, number: int, seed: int, skip: int = 0) -> Iterator[Work]:
        """Those of an epoch from batch `skip` on; `seed` is the epoch's own."""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """What a run that goes on must have in common."""


class RowSource(Source):
    """Rows `begin` to `end` of data in memory."""

    def __init__(
        self,
        operation: str,
        model: TrainableModel,
        goal: Goal,
        feed: Feed,
        y: Any,
        *,
        metrics: MetricGroup | None = None,
        batch_size: int,
        sample_weight: Any = None,
        shuffle: bool = False,
        bucket: bool | int = False,
    ) -> None:
        self._model, self._feed, self._batch_size = model, feed, batch_size
        self._targets = goal.targets(operation, feed, y, sample_weight, metrics)
        self._shuffle, self._bucket = shuffle, bucket
        self._begin, self._end = 0, len(feed)
        if bucket is not False and all(part.lengths is None for part in feed.parts):
            raise ValueError(
                f"{operation}: got bucket={bucket} for rows without lengths, expected ragged ones; give a list of arrays or "
                f"lengths, or leave bucket out"
            )

    def split(self, fraction: float) -> RowSource:
        """Takes the last rows away, as Keras does, before any shuffling, and returns them."""
        own, others = order.validation_rows("fit", fraction, self._end)
        held = copy.copy(self)
        held._begin, held._shuffle, held._bucket = others.start, False, False
        self._end = own.stop
        return held

    @property
    def _max_steps(self) -> int | None:
        return None if isinstance(self._bucket, bool) else self._bucket

    @property
    def steps(self) -> int | None:  # type: ignore[override]
        """Batches of an epoch."""
        if self._max_steps is not None:
            return None
        return -(-(self._end - self._begin) // self._batch_size)

    def epoch(self, number: int, seed: int, skip: int = 0) -> Iterator[Work]:
        """In order, shuffled, or rows of like lengths together."""
        for chosen in islice(self._order(seed), skip, None):
            yield Work(self._segment(chosen))

    def _order(self, seed: int) -> Iterator[Chosen]:
        count = self._end - self._begin
        if self._bucket is not False:
            longest = np.max([part.lengths for part in self._feed.parts if part.lengths is not None], axis=0)
            lengths = longest[self._begin : self._end]
            chosen: Any = order.bucket_batches(
                lengths, self._batch_size, seed if self._shuffle else 0, max_steps=self._max_steps
            )
        else:
            chosen = order.batches(count, self._batch_size, seed if self._shuffle else None)
        for one in chosen:
            if isinstance(one, slice):
                yield slice(one.start + self._begin, one.stop + self._begin)
            else:
                yield one + self._begin

    def _segment(self, chosen: Chosen) -> Segment:
        targets, weights = self._targets.batch(chosen)
        batches = [part.batch(chosen) for part in self._feed.parts]
        x, lengths = [array for array, _valid in batches], [valid for _array, valid in batches]
        rows = np.arange(chosen.start, chosen.stop) if isinstance(chosen, slice) else chosen
        return Segment(x, lengths, [None] * len(x), targets, weights, self._targets.outputs, rows=rows)

    def config(self) -> dict[str, Any]:
        """Rows, and how they are drawn."""
        names = ("_begin", "_end", "_batch_size", "_shuffle", "_bucket", "_checksum")
        return {name[1:]: getattr(self, name) for name in names}

    @cached_property
    def _checksum(self) -> int:
        """Of some rows all over the data, so that other data of the same size are noticed; all could be more than memory
        holds."""
        some = self._segment(np.unique(np.linspace(self._begin, self._end - 1, 256).astype(int)))
        checksum = 0
        for array in (*some.x, *some.lengths, *some.targets, *some.weights):
            if array is not None:
                checksum = zlib.crc32(array.tobytes(), checksum)
        return checksum


class BatchSource(Source):
    """Batches as a generator or an iterable of the user's makes them."""

    def __init__(self, operation: str, model: TrainableModel, goal: Goal, batches: Batches) -> None:
        self._operation, self._model, self._goal, self._batches = operation, model, goal, batches
        self.steps = batches.steps

    def epoch(self, number: int, seed: int, skip: int = 0) -> Iterator[Work]:
        """What it yields, each checked."""
        for index, batch in enumerate(self._batches.epoch(number)):
            if index >= skip:
                yield self._work(f"{self._operation}: batch {index}", batch)

    def _work(self, operation: str, batch: Batch) -> Work:
        if batch.carry:
            check_runs_in_parts(operation, "carry=True", self._model)
        feed = Feed(operation, self._model, batch.x, batch.lengths)
        targets = self._goal.targets(operation, feed, batch.y, batch.sample_weight)
        inputs = self._model.structures[0]
        resets = [
            None if one is None else _reset(place(operation, inputs, "reset", index), one, part)
            for index, (one, part) in enumerate(
                zip(inputs.spread_optional(operation, "reset", batch.reset), feed.parts, strict=True)
            )
        ]
        batches = [part.batch(slice(None)) for part in feed.parts]
        x, lengths = [array for array, _valid in batches], [valid for _array, valid in batches]
        return Work(
            Segment(x, lengths, resets, *targets.batch(slice(None)), targets.outputs), batch.carry, hand_on=True
        )

    def config(self) -> dict[str, Any]:
        """How many there are, if that is known."""
        return {"steps": self.steps}


def _reset(operation: str, value: Any, rows: Rows) -> Array:
    array = checks.array(operation, "reset", value)
    if array.dtype != np.bool_:
        raise TypeError(f"{operation}: got reset of {array.dtype}, expected bool; write reset.astype(bool)")
    if not rows.has_time or array.shape != rows.shape:
        expected = str(rows.shape) if rows.has_time else "none, as x has no time axis"
        raise ValueError(
            f"{operation}: got reset of shape {array.shape}, expected {expected}; say for every step of x whether a sequence "
            f"begins there"
        )
    return array


def make_source(
    operation: str,
    model: TrainableModel,
    goal: Goal,
    x: Any,
    y: Any,
    lengths: Any,
    *,
    metrics: MetricGroup | None = None,
    batch_size: int,
    sample_weight: Any = None,
    shuffle: bool = False,
    bucket: bool | int = False,
    epochs: int = 1,
) -> Source:
    """The source for what a user gave as data."""
    pairs = isinstance(x, list) and bool(x) and isinstance(x[0], tuple)  # batches in a list; rows are arrays
    if y is None and (pairs or is_source(x)):
        for name, given in (("lengths", lengths), ("sample_weight", sample_weight)):
            if given is not None:
                raise ValueError(
                    f"{operation}: got {name} beside batches made by {type(x).__name__}, expected none, as every batch has "
                    f"its own; yield (x, y, lengths, sample_weight)"
                )
        if bucket is not False:
            raise ValueError(
                f"{operation}: got bucket={bucket} for batches made by {type(x).__name__}, expected False, as they are not "
                f"made anew; make them with data.bucket_batches, or give the rows"
            )
        return BatchSource(operation, model, goal, read(operation, x, epochs))
    feed = Feed(operation, model, x, lengths)
    if y is None:
        raise TypeError(f"{operation}: got y=None, expected targets for x of {type(x).__name__}; give y")
    if not len(feed) and operation.startswith("fit"):
        raise ValueError(f"{operation}: got x without rows, expected at least one; give some data")
    return RowSource(
        operation,
        model,
        goal,
        feed,
        y,
        metrics=metrics,
        batch_size=batch_size,
        sample_weight=sample_weight,
        shuffle=shuffle,
        bucket=bucket,
    )
