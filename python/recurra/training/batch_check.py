"""Batches that a model cannot learn from are found before training, not at the end of the first epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recurra.layers.normalisation import BatchNorm
from recurra.objective.sources import RowSource, Source, Steps

if TYPE_CHECKING:
    from recurra.training.model import TrainableModel


def check_batches(operation: str, model: TrainableModel, source: Source, seed: int) -> None:
    """Refuse a batch of a single row that batch norm cannot normalise; it is tried, and nothing of the model moves."""
    source = source.source if isinstance(source, Steps) else source
    if not isinstance(source, RowSource):
        return
    if source.steps == 0:
        raise ValueError(
            f"{operation}: got drop_last=True for fewer rows than a batch has, which leaves none, expected some; lower "
            f"batch_size"
        )
    if not any(isinstance(leaf, BatchNorm) for _prefix, leaf in model.leaves):
        return
    single = source.single_row(seed)
    if single is None:
        return
    inputs, kept = model.structures[0], {name: array.copy() for name, array in model.buffers.items()}
    try:
        model.record(inputs.join(single.x), lengths=inputs.join(single.lengths), input_grad=False, seed=0)
    except ValueError as error:
        raise ValueError(
            f"{operation}: got rows that leave one for the last batch, expected two or more, as batch norm has no variance of "
            f"one; give drop_last=True, or another batch_size ({error})"
        ) from error
    finally:
        for name, array in model.buffers.items():
            array[...] = kept[name]
