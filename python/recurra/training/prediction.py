"""Predictions for a source of batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from recurra.common.progress import Progress
from recurra.common.structure import Structure
from recurra.common.typing import Array, State
from recurra.data import sources
from recurra.data.feed import Feed, Outputs
from recurra.data.masks import Masked
from recurra.losses import CRF, CTC, CrossEntropy, Loss
from recurra.losses.of_logits import OfLogits
from recurra.objective.pieces import check_runs_in_parts
from recurra.objective.sources import read_resets

if TYPE_CHECKING:
    from recurra.training.model import TrainableModel


class _Chunk:
    """One output for the rows of a batch and of those that continue it with carry=True: arrays (N, T, F) or (N, F)."""

    def __init__(self) -> None:
        self.parts: list[Array] = []
        self.lengths: list[Array | None] = []

    @property
    def whole(self) -> Array | None:
        """The output as one array; None if rows differ in length."""
        if any(one is not None for one in self.lengths):
            return None
        return self.parts[0] if len(self.parts) == 1 else np.concatenate(self.parts, 1)

    def rows(self) -> list[Array]:
        """For each row, an array of its valid steps."""
        found = []
        for row in range(len(self.parts[0])):
            own = [
                part[row] if valid is None else part[row, : valid[row]]
                for part, valid in zip(self.parts, self.lengths, strict=True)
            ]
            found.append(own[0] if len(own) == 1 else np.concatenate(own))
        return found


def predict_batches(model: TrainableModel, x: Any, steps: int | None, *, show: bool) -> Any:
    """The outputs for a source of batches; see `predict`."""
    inputs, outputs = model.structures
    chunks: list[list[_Chunk]] = [[] for _ in model.output_infos()]
    state: State = None
    with Progress(steps, "predict", show) as bar:
        batches = sources.inputs("predict", x, "steps" if steps is None else None)
        for index, batch in enumerate(islice(batches, steps)):
            where = f"predict: batch {index}"
            if batch.carry:
                check_runs_in_parts(where, "carry=True", model)
            masked = None
            if batch.mask is not None:
                masked = Masked(where, model, batch.x, batch.lengths, batch.mask, batch.reset)
                batch = replace(batch, x=masked.x, lengths=masked.lengths, reset=masked.reset, mask=None)
            feed = Feed(where, model, batch.x, batch.lengths)
            reset = inputs.join(read_resets(where, model, batch, feed))
            given, valid = feed.batch(slice(None))
            y, state = model(given, state=state if batch.carry else None, lengths=valid, reset=reset)
            lengths = Outputs(model, feed.parts).lengths(valid)
            if masked is not None:
                y, lengths = masked.predictions(y), [None] * len(lengths)  # with padding, as in the batch
            for found, one, own in zip(chunks, outputs.spread("predict", "y", y), lengths, strict=True):
                if not batch.carry:
                    found.append(_Chunk())
                found[-1].parts.append(one)
                found[-1].lengths.append(None if own is None else own.copy())  # the source may reuse its array
            bar.update()
    return outputs.join([_together(found) for found in chunks])


def _together(chunks: list[_Chunk]) -> Any:
    """One array if all rows have the same length, else a list."""
    whole = [one for chunk in chunks if (one := chunk.whole) is not None]
    if len(whole) == len(chunks) and len({one.shape[1:] for one in whole}) == 1:
        return np.concatenate(whole)
    return [row for chunk in chunks for row in chunk.rows()]


def probabilities(operation: str, structure: Structure, losses: Sequence[Loss], y: Any, lengths: Any) -> Any:
    """Predictions, each an array or a list of arrays, as what the losses say that they stand for; `lengths` are those
    of arrays that are padded."""
    given = structure.spread(operation, "y", y), structure.spread_optional(operation, "lengths", lengths)
    found = []
    for loss, one, valid in zip(losses, *given, strict=True):
        if isinstance(loss, CRF):
            found.append(loss.crf.marginals(one, None if isinstance(one, list) else valid))
            continue
        of = CrossEntropy() if isinstance(loss, CTC) else loss
        if not isinstance(of, OfLogits):
            raise TypeError(
                f"{operation}: got a model of the loss {type(loss).__name__}, expected CrossEntropy, "
                "BinaryCrossEntropy, CTC or CRF, of whose predictions there are probabilities; use predict"
            )
        found.append([of.probabilities(row) for row in one] if isinstance(one, list) else of.probabilities(one))
    return structure.join(found)
