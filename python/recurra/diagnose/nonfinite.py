"""Where the first NaN or infinity comes from."""

from __future__ import annotations

from typing import Any

from recurra.common.typing import State
from recurra.diagnose.models import as_model
from recurra.inspection.nonfinite import NonFinite, first_nonfinite


def nonfinite(
    model: Any,
    x: Any,
    y: Any = None,
    lengths: Any = None,
    *,
    loss: Any = None,
    loss_weights: Any = None,
    sample_weight: Any = None,
    state: State = None,
    reset: Any = None,
    training: bool = True,
    seed: int | None = None,
) -> NonFinite | None:
    """The first value that is not finite in a step of training, in the order of computation: in the input, the state, the
    parameters, the layers' outputs, the loss, the gradients.

    The batch runs once more with all layers' outputs kept; with the arguments of a `record` that failed, masks of dropout
    included, it repeats it to the bit. Model and gradients stay as they are.

    Args:
        model: a model, or a layer alone.
        x, lengths: a batch, as `fit` takes it; padding is not looked at.
        y, loss, loss_weights, sample_weight: targets and loss, as `fit` takes them; None looks at the outputs only.
        state, reset, training, seed: as in `record`.

    Returns:
        What was found, or None if all is finite.

    Raises:
        ValueError, TypeError: data that do not fit.
    """
    return first_nonfinite(
        as_model("nonfinite", model),
        x,
        y,
        lengths,
        loss=loss,
        loss_weights=loss_weights,
        sample_weight=sample_weight,
        state=state,
        reset=reset,
        training=training,
        seed=seed,
        given=model,
    )
