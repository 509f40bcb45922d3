"""The origin of the first NaN or infinity."""

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
    """The first non-finite value in a training step, in order of computation: inputs, state, parameters, the layers'
    outputs, the loss, the gradients.

    Runs the batch again and keeps the outputs of all layers. Given the arguments of a `record` that failed, it repeats
    that bit for bit, dropout masks included. The model and its gradients are left unchanged.

    Args:
        model: a model, or a layer alone.
        x, lengths: a batch, as `fit` takes it; padding is ignored.
        y, loss, loss_weights, sample_weight: targets and loss, as `fit` takes them; None checks the forward only.
        state, reset, training, seed: as in `record`.

    Returns:
        The finding, or None if everything is finite.

    Raises:
        ValueError, TypeError: data that do not fit the model.

    Example:
        >>> x = np.ones((4, 10, 2), np.float32)
        >>> x[1, 3] = np.nan
        >>> found = rc.diagnose.nonfinite(rc.Sequential(rc.GRU(2, 8), rc.Linear(8, 1)), x)
        >>> found.rows, found.step
        ((1,), 3)
    """
    subject = subject_of("nonfinite", model, x, lengths)
    if (y is None) != (loss is None):
        given, missing = ("loss", "y") if y is None else ("y", "loss")
        raise ValueError(f"nonfinite: got {given} without {missing}, expected both or neither; give {missing}")
    objective = None if loss is None else Objective(subject, y, loss, loss_weights, sample_weight)
    training = checks.flag("nonfinite", "training", training)
    return first_nonfinite(subject, objective, state, reset, training, seeds.resolve("nonfinite", seed))
