"""Data with masks instead of lengths: the valid steps of each row are moved to its front, as in a call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from recurra.common import checks
from recurra.common.typing import Array
from recurra.data.batch import Batch
from recurra.data.rows import is_list
from recurra.data.sources import is_source
from recurra.graph.forms import Form

if TYPE_CHECKING:
    from recurra.losses import Loss
    from recurra.objective.trainable import Trainable


class Masked:
    """Inputs with their valid steps moved to the front, and targets, weights and predictions moved likewise."""

    def __init__(self, operation: str, model: Trainable, x: Any, lengths: Any, mask: Any, reset: Any = None) -> None:
        graph, (inputs, self._outputs) = model._graph(), model.structures
        if is_source(x):
            raise ValueError(
                f"{operation}: got mask with a source of batches, expected none; give each batch its own, "
                f"data.Batch(..., mask=...)"
            )
        arrays, valid, resets, masks = [], [], [], []
        for index, (one, own, steps, episodes) in enumerate(
            zip(
                inputs.spread(operation, "x", x),
                inputs.spread_optional(operation, "lengths", lengths),
                inputs.spread_optional(operation, "mask", mask),
                inputs.spread_optional(operation, "reset", reset),
                strict=True,
            )
        ):
            if steps is not None and is_list(one):
                raise ValueError(
                    f"{operation}: got {inputs.label('mask', index)} with a list of arrays, expected none, as these "
                    "have no padding; leave mask out"
                )
            arrays.append(one if steps is None else checks.array(operation, inputs.label("x", index), one))
            valid.append(own)
            masks.append(steps)
            resets.append(None if episodes is None else np.asarray(episodes))
        self._form, self._operation, self._values = Form(operation, graph, False, False), operation, graph.outputs
        arrays, valid, resets = self._form.moved(arrays, valid, resets, masks)
        self.x, self.lengths, self.reset = (inputs.join(parts) for parts in (arrays, valid, resets))

    def targets(self, what: str, y: Any, losses: Sequence[Loss]) -> Any:
        """y or sample_weight, moved; arrays without the output's steps, such as CTC's labels, are unchanged."""
        if y is None:
            return None
        parts = self._outputs.spread(self._operation, what, y)
        return self._outputs.join(
            [
                one if loss.unaligned else self._moved(value, one)
                for value, one, loss in zip(self._values, parts, losses, strict=True)
            ]
        )

    def _moved(self, value: int, array: Any) -> Any:
        mask = self._form.mask_of(value)
        if array is None or mask is None or is_list(array) or np.shape(array)[:2] != mask.shape:
            return array
        return self._form.gradient(value, np.asarray(array))

    def predictions(self, y: Any) -> Any:
        """The outputs of all rows, or of the first ones, moved back to the places of their steps."""
        parts = self._outputs.spread(self._operation, "outputs", y)
        self._form.keep_rows(len(parts[0]))
        return self._outputs.join([self._form.out(value, one) for value, one in zip(self._values, parts, strict=True)])


def unmasked(operation: str, model: Trainable, losses: Sequence[Loss], batch: Batch) -> Batch:
    """The batch with its mask converted to lengths; without mask and lengths, inputs with a `mask_value` find one."""
    mask = batch.mask
    if mask is None and batch.lengths is None:
        mask = _found(operation, model, batch.x)
    if mask is None:
        return batch
    masked = Masked(operation, model, batch.x, batch.lengths, mask, batch.reset)
    y = masked.targets("y", batch.y, losses)
    weight = masked.targets("sample_weight", batch.sample_weight, losses)
    return Batch(masked.x, y, masked.lengths, weight, masked.reset, batch.carry)


def _found(operation: str, model: Trainable, x: Any) -> Any:
    graph, inputs = model._graph(), model.structures[0]
    if not graph.finds_masks:
        return None
    masks: list[Array | None] = []
    for index, (port, one) in enumerate(zip(graph.inputs, inputs.spread(operation, "x", x), strict=True)):
        array = None if is_list(one) else checks.array(operation, inputs.label("x", index), one)
        if array is None or array.ndim != (2 if port.kind == "tokens" else 3):  # wrong ranks are refused later
            masks.append(None)
        else:
            masks.append(port.valid_steps(array))
    return None if all(one is None for one in masks) else inputs.join(masks)
