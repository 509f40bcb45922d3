"""Sources of training batches: rows in memory, or an iterable of batches."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import count, islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from recurra.common import checks, seeds
from recurra.common.typing import Array
from recurra.data import order
from recurra.data.batch import Batch, Batches
from recurra.data.feed import Feed, place
from recurra.data.fingerprint import Fingerprint
from recurra.data.masks import unmasked
from recurra.data.rows import Chosen, Rows
from recurra.data.sources import is_source, read
from recurra.objective.goal import Goal
from recurra.objective.pieces import Piece, Segment, check_runs_in_parts
from recurra.objective.replay import Replay

if TYPE_CHECKING:
    from recurra.objective.metric_group import MetricGroup
    from recurra.objective.trainable import Trainable


class Work(NamedTuple):
    """A batch, ready to be recorded; with `carry` it starts from the final state of the batch before."""

    whole: Segment
    carry: bool = False
    hand_on: bool = False  # whether the next batch may carry this one's state

    @property
    def piece(self) -> Piece:
        """The whole batch as one piece."""
        return Piece([self.whole], carry=self.carry, hand_on=self.hand_on)


class Source(ABC):
    """The batches of every epoch, the same for the same seed."""

    #: Batches per epoch; None if not known in advance.
    steps: int | None

    @property
    def reuses_memory(self) -> bool:
        """Whether requesting the next batch may overwrite this one, as by a reader that reuses its buffers."""
        return False

    @abstractmethod
    def epoch(self, number: int, seed: int, skip: int = 0) -> Iterator[Work]:
        """The batches of epoch `number`, from batch `skip` on; `seed` is the same for all epochs."""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Settings that must be the same when a run is resumed."""

    def watch(self) -> None:  # noqa: B027 - not all have any
        """Start recording what `state_dict` needs."""

    def state_dict(self) -> dict[str, Any]:
        """State that a resumed run restores, or compares."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027 - not all have any
        """Restore the state from `state_dict()`."""

    def go_on(self, batch: int) -> None:  # noqa: B027 - not all have any
        """Resume at `batch` of an epoch; warn if the batches differ from the run before, or if that cannot be known."""


class RowSource(Source):
    """Batches of rows in memory."""

    def __init__(
        self,
        operation: str,
        model: Trainable,
        goal: Goal,
        feed: Feed,
        y: Any,
        *,
        metrics: MetricGroup | None = None,
        batch_size: int,
        sample_weight: Any = None,
        shuffle: bool = False,
        bucket: bool | int = False,
        drop_last: bool = False,
    ) -> None:
        self._model, self._feed, self._batch_size = model, feed, batch_size
        self._targets = goal.targets(operation, feed, y, sample_weight, metrics)
        self._shuffle, self._bucket, self._drop_last = shuffle, bucket, drop_last
        self._losses = goal.losses
        self._begin, self._end = 0, len(feed)
        if bucket is not False and all(part.lengths is None for part in feed.parts):
            raise ValueError(
                f"{operation}: got bucket={bucket} for rows without lengths, expected ragged ones; give a list of "
                "arrays or lengths, or leave bucket out"
            )
        if drop_last and self._max_steps is not None:
            raise ValueError(
                f"{operation}: got drop_last=True with bucket={bucket}, expected bucket=True, as a bound on steps "
                "makes batches of any number of rows; leave one of them out"
            )

    def split(self, fraction: float) -> RowSource:
        """Move the last `fraction` of the rows, before any shuffling as in Keras, to a new source; returns it."""
        own, others = order.validation_rows("fit", fraction, self._end)
        held = copy.copy(self)
        held._begin, held._shuffle, held._bucket, held._drop_last = others.start, False, False, False
        self._end = own.stop
        return held

    @property
    def _max_steps(self) -> int | None:
        return None if isinstance(self._bucket, bool) else self._bucket

    @property
    def steps(self) -> int | None:  # type: ignore[override]
        """Batches per epoch; None if a bound on steps makes their number depend on the shuffle."""
        if self._max_steps is not None:
            return None
        count = self._end - self._begin
        return count // self._batch_size if self._drop_last else -(-count // self._batch_size)

    def epoch(self, number: int, seed: int, skip: int = 0) -> Iterator[Work]:
        """The batches of epoch `number`: rows in order, shuffled, or bucketed by length."""
        for chosen in islice(self._order(seeds.derive(seed, number)), skip, None):
            yield Work(self._segment(chosen))

    @property
    def ragged(self) -> bool:
        """Whether any input has lengths."""
        return any(part.lengths is not None for part in self._feed.parts)

    def single_row(self, seed: int) -> Segment | None:
        """The first batch of a single row in the first epoch, or None; with shuffling, the row of the fewest steps."""
        single = next((one for one in self._order(seeds.derive(seed, 0)) if _size(one) == 1), None)
        if single is None:
            return None
        lengths = [part.lengths[self._begin : self._end] for part in self._feed.parts if part.lengths is not None]
        if self._shuffle and lengths:
            shortest = np.max(lengths, axis=0)
            row = int(np.where(shortest > 0, shortest, np.iinfo(np.int64).max).argmin()) + self._begin
            single = slice(row, row + 1)
        return self._segment(single)

    def _order(self, seed: int) -> Iterator[Chosen]:
        """The rows of each batch, given the epoch's seed."""
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
            if self._drop_last and _size(one) < self._batch_size:
                continue
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
        """The range and content of the rows, and the options that order them."""
        names = ("_begin", "_end", "_batch_size", "_shuffle", "_bucket", "_drop_last", "_content")
        return {name[1:]: getattr(self, name) for name in names}

    @cached_property
    def _content(self) -> str:
        """The fingerprint of all rows, without padding."""
        fingerprint, rows = Fingerprint(), slice(self._begin, self._end)
        for part in self._feed.parts:
            part.add_to(fingerprint, rows, part.lengths)
        valid = [part.lengths for part in self._feed.parts]
        lengths: list[Array | None] = [None] * len(self._losses)
        if any(one is not None for one in valid):
            full = [
                np.full(len(part), part.shape[1]) if one is None and part.has_time else one
                for one, part in zip(valid, self._feed.parts, strict=True)
            ]
            outputs = self._targets.outputs
            lengths = outputs.lengths(outputs.join_inputs(full))
        aligned = [None if loss.unaligned else one for loss, one in zip(self._losses, lengths, strict=True)]
        self._targets.add_to(fingerprint, rows, aligned)
        return fingerprint.text


def _size(chosen: Chosen) -> int:
    return chosen.stop - chosen.start if isinstance(chosen, slice) else len(chosen)


class BatchSource(Source):
    """Batches from the user's own iterable or generator."""

    def __init__(self, operation: str, model: Trainable, goal: Goal, batches: Batches) -> None:
        self._operation, self._model, self._goal, self._batches = operation, model, goal, batches
        self.steps = batches.steps
        self._replay = Replay(operation)

    @property
    def reuses_memory(self) -> bool:
        """Whether requesting the next batch may overwrite this one: possible unless all batches are in memory."""
        return not self._batches.stay

    def epoch(self, number: int, seed: int, skip: int = 0) -> Iterator[Work]:
        """The batches of the iterable, each checked."""
        for index, batch in enumerate(self._batches.epoch(number)):
            self._replay.see(number, index, batch)
            if index >= skip:
                yield self._work(f"{self._operation}: batch {index}", batch)
        self._replay.end(number)

    def watch(self) -> None:
        """Start fingerprinting the batches, unless their content is known in advance."""
        if self._known is None:
            self._replay.watch()

    def state_dict(self) -> dict[str, Any]:
        """The fingerprint of the batches so far, and the state of their source."""
        return {"batches": self._batches.state_dict(), "replay": self._replay.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state from `state_dict()`."""
        self._batches.load_state_dict(state["batches"])
        self._replay.load_state_dict(state["replay"])

    def go_on(self, batch: int) -> None:
        """Resume at `batch` of an epoch, comparing the batches as far as they are replayed."""
        if self._known is None:
            self._replay.begin(self._batches, batch)

    @cached_property
    def _known(self) -> dict[str, Any] | None:
        return self._batches.config()

    def _work(self, operation: str, batch: Batch) -> Work:
        if batch.carry:
            check_runs_in_parts(operation, "carry=True", self._model)
        batch = unmasked(operation, self._model, self._goal.losses, batch)
        feed = Feed(operation, self._model, batch.x, batch.lengths)
        targets = self._goal.targets(operation, feed, batch.y, batch.sample_weight)
        resets = read_resets(operation, self._model, batch, feed)
        batches = [part.batch(slice(None)) for part in feed.parts]
        x, lengths = [array for array, _valid in batches], [valid for _array, valid in batches]
        return Work(
            Segment(x, lengths, resets, *targets.batch(slice(None)), targets.outputs), batch.carry, hand_on=True
        )

    def config(self) -> dict[str, Any]:
        """The number of batches, and what identifies their content; None where unknown."""
        return {"steps": self.steps, "batches": self._known}


class Steps(Source):
    """Another source, with `steps` batches per epoch.

    Each epoch continues where the one before ended, and the source restarts when it runs out; with `anew`, every epoch
    starts at the source's first batch.
    """

    steps: int

    def __init__(self, source: Source, steps: int, *, anew: bool) -> None:
        self.source, self.steps, self._anew = source, steps, anew
        self._running: Iterator[Work] = iter(())
        self._at = -1  # index of the next batch from `_running`, over all epochs

    def epoch(self, number: int, seed: int, skip: int = 0) -> Iterator[Work]:
        """The next epoch's batches."""
        if self._anew:
            yield from islice(self.source.epoch(0, seed), skip, self.steps)
            return
        begin = number * self.steps + skip
        if self._at != begin:
            self._running, self._at = islice(self._passes(seed), begin, None), begin
        for work in islice(self._running, self.steps - skip):
            self._at += 1
            yield work

    def _passes(self, seed: int) -> Iterator[Work]:
        for number in count():
            yield from self.source.epoch(number, seed)

    @property
    def reuses_memory(self) -> bool:
        """The same as for the source within."""
        return self.source.reuses_memory

    def config(self) -> dict[str, Any]:
        """Settings that must be the same when a run is resumed."""
        return {**self.source.config(), "steps_per_epoch": self.steps}

    def watch(self) -> None:
        """Start recording the state of the source within."""
        self.source.watch()

    def state_dict(self) -> dict[str, Any]:
        """The state of the source within."""
        return self.source.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state of the source within."""
        self.source.load_state_dict(state)

    def go_on(self, batch: int) -> None:
        """Resume; `epoch` replays all earlier batches, so none needs replaying here, whatever `batch` is."""
        self.source.go_on(batch=1)


def read_resets(operation: str, model: Trainable, batch: Batch, feed: Feed) -> list[Array | None]:
    """The `reset` of a batch, one for each input."""
    inputs = model.structures[0]
    return [
        None if one is None else _reset(place(operation, inputs, "reset", index), one, part)
        for index, (one, part) in enumerate(
            zip(inputs.spread_optional(operation, "reset", batch.reset), feed.parts, strict=True)
        )
    ]


def _reset(operation: str, value: Any, rows: Rows) -> Array:
    array = checks.array(operation, "reset", value)
    if array.dtype != np.bool_:
        raise TypeError(f"{operation}: got reset of {array.dtype}, expected bool; write reset.astype(bool)")
    if not rows.has_time or array.shape != rows.shape:
        expected = str(rows.shape) if rows.has_time else "none, as x has no time axis"
        raise ValueError(
            f"{operation}: got reset of shape {array.shape}, expected {expected}; say for every step of x whether a "
            "sequence begins there"
        )
    return array


def make_source(
    operation: str,
    model: Trainable,
    goal: Goal,
    x: Any,
    y: Any,
    lengths: Any,
    *,
    metrics: MetricGroup | None = None,
    batch_size: int,
    sample_weight: Any = None,
    mask: Any = None,
    shuffle: bool = False,
    bucket: bool | int = False,
    drop_last: bool = False,
    epochs: int = 1,
    steps: tuple[str, int | None] = ("steps", None),
    endless: bool = False,
) -> Source:
    """The source for the user's data: arrays, or an iterable of batches.

    `steps` is the name and value of the argument that bounds the batches per epoch; with `endless`, an iterable need
    not end, as the caller stops by itself.
    """
    steps_name, limit = steps
    limit = None if limit is None else checks.integer(operation.partition(":")[0], steps_name, limit)
    if y is None and is_source(x):
        for name, given in (("lengths", lengths), ("sample_weight", sample_weight), ("mask", mask)):
            if given is not None:
                mend = "data.Batch(x, y, mask=mask)" if name == "mask" else "(x, y, lengths, sample_weight)"
                raise ValueError(
                    f"{operation}: got {name} beside batches made by {type(x).__name__}, expected none, as every batch "
                    f"has its own; yield {mend}"
                )
        if bucket is not False:
            raise ValueError(
                f"{operation}: got bucket={bucket} for batches made by {type(x).__name__}, expected False, as only "
                f"rows can be bucketed; make the batches with data.bucket_batches, or give the rows"
            )
        if drop_last:
            raise ValueError(
                f"{operation}: got drop_last=True for batches made by {type(x).__name__}, expected False, as their "
                f"sizes are already fixed; yield full batches only, or give the rows"
            )
        batches = read(operation, x, 1 if limit else epochs, None if limit or endless else steps_name, steps_name)
        return _limited(operation, BatchSource(operation, model, goal, batches), limit, isinstance(x, Iterator))
    data = unmasked(operation, model, goal.losses, Batch(x, y, lengths, sample_weight, mask=mask))
    feed = Feed(operation, model, data.x, data.lengths)
    if y is None:
        raise TypeError(f"{operation}: got y=None, expected targets for x of {type(x).__name__}; give y")
    if not len(feed) and operation.startswith("fit"):
        raise ValueError(f"{operation}: got x without rows, expected at least one; give some data")
    source = RowSource(
        operation,
        model,
        goal,
        feed,
        data.y,
        metrics=metrics,
        batch_size=batch_size,
        sample_weight=data.sample_weight,
        shuffle=shuffle,
        bucket=bucket,
        drop_last=drop_last,
    )
    return _limited(operation, source, limit, False)


def _limited(operation: str, source: Source, steps: int | None, once: bool) -> Source:
    """`source` with `steps` batches per epoch. In `fit`, each epoch continues where the one before ended; elsewhere
    each starts from the beginning, unless the source can be read only `once`."""
    return source if steps is None else Steps(source, steps, anew=operation != "fit" and not once)
