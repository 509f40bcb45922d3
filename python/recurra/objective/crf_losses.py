"""Checks that the loss of a model with a CRF trains the CRF."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from recurra import losses
from recurra.common import errors
from recurra.layers import crf

if TYPE_CHECKING:
    from recurra.layers.layer import Layer
    from recurra.losses import Loss
    from recurra.objective.trainable import Trainable


def refuse_layer(operation: str, loss: Any) -> None:
    """Refuse the layer `CRF` given as a loss."""
    if isinstance(loss, crf.CRF):
        raise TypeError(
            f"{operation}: got the layer CRF as loss, expected its loss; write loss=recurra.losses.CRF(crf), with the "
            "same layer"
        )


def warn_of_untrained(operation: str, model: Trainable, given: Sequence[Loss]) -> None:
    """Warn if no loss trains a CRF's transitions: the layer passes scores through, so only `losses.CRF` reaches them.

    No warning for a frozen CRF, or with a custom loss, which may contain `losses.CRF`.
    """
    if any(type(one).__module__.partition(".")[0] != "recurra" for one in given):
        return
    layers: Sequence[Layer] = getattr(model, "layers", ())
    trained = [one.crf for one in given if isinstance(one, losses.CRF)]
    for prefix, layer in model.leaves:
        if isinstance(layer, crf.CRF) and layer.is_trainable and not any(layer is one for one in trained):
            place = "model.layers[-1]" if layers and layer is layers[-1] else "crf"
            errors.warn(
                f"{operation}: got {' and '.join(dict.fromkeys(type(one).__name__ for one in given))} for a model with "
                f"a CRF (layer {prefix.rstrip('.')}), expected losses.CRF: the transitions will not learn; write "
                f"loss=recurra.losses.CRF({place}), or set trainable = False on the CRF to train only the scores"
            )
