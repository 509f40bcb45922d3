"""Where the first NaN or infinity comes from."""

from __future__ import annotations

from typing import Any

from recurra.common import checks, seeds
from recurra.common.typing import State
from recurra.diagnose.models import subject_of
from recurra.inspection.criterion import Objective
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
    subject = subject_of("nonfinite", model, x, lengths)
    if (y is None) != (loss is None):
        given, missing = ("loss", "y") if y is None else ("y", "loss")
        raise ValueError(f"nonfinite: got {given} without {missing}, expected both or neither; give {missing}")
    objective = None if loss is None else Objective(subject, y, loss, loss_weights, sample_weight)
    training = checks.flag("nonfinite", "training", training)
    return first_nonfinite(subject, objective, state, reset, training, seeds.resolve("nonfinite", seed))
