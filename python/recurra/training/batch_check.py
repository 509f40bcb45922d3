"""Finds batches that a model cannot learn from before training starts, not at the end of the first epoch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from recurra.layers.normalisation import StatisticsNorm
from recurra.objective.pieces import Segment
from recurra.objective.sources import RowSource, Source, Steps
from recurra.training.truncation import TruncatedBPTT

if TYPE_CHECKING:
    from recurra.training.model import TrainableModel


def check_batches(
    operation: str, model: TrainableModel, source: Source, truncate: TruncatedBPTT | None, seed: int
) -> None:
    """Refuse a batch, or a window of one, with a single valid step, which batch norm cannot normalise. The batch is run
    to see; the model is left unchanged."""
    source = source.source if isinstance(source, Steps) else source
    if not isinstance(source, RowSource):
        return
    if source.steps == 0:
        raise ValueError(
            f"{operation}: got drop_last=True with fewer rows than batch_size, which leaves no batch, expected at "
            "least one; lower batch_size"
        )
    if not any(isinstance(leaf, StatisticsNorm) for _prefix, leaf in model.leaves):
        return
    single = source.single_row(seed)
    for suspect in _windows(single, truncate) if single is not None else ():
        _try(
            operation,
            model,
            suspect,
            "got a last batch of one row, expected two or more, as batch norm needs a variance; give "
            "drop_last=True, or another batch_size",
        )
    if truncate is None and not source.ragged:
        return
    for work in source.epoch(0, seed):
        for suspect in _windows(work.whole, truncate):
            if suspect.valid_steps == 1:
                _try(
                    operation,
                    model,
                    suspect,
                    "got rows so short that a batch, or a window of truncate, has one valid step, expected two or "
                    "more, as "
                    "batch norm needs a variance; leave such rows out, or give another batch_size, bucket or truncate",
                )


def _windows(batch: Segment, truncate: TruncatedBPTT | None) -> Iterator[Segment]:
    """The segments of a batch that are recorded for learning."""
    if truncate is None:
        yield batch
        return
    for piece in truncate.pieces(batch, carry=False):
        if piece.learn:
            yield from piece.segments


def _try(operation: str, model: TrainableModel, batch: Segment, problem: str) -> None:
    inputs, kept = model.structures[0], {name: array.copy() for name, array in model.buffers.items()}
    try:
        model.record(inputs.join(batch.x), lengths=inputs.join(batch.lengths), input_grad=False, seed=0)
    except ValueError as error:
        raise ValueError(f"{operation}: {problem} ({error})") from error
    finally:
        for name, array in model.buffers.items():
            array[...] = kept[name]
