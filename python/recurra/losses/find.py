"""Losses by their names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from recurra.common import names
from recurra.layers.layer import Layer
from recurra.losses.ctc import CTC
from recurra.losses.custom import Function
from recurra.losses.labels import BinaryCrossEntropy, CrossEntropy
from recurra.losses.loss import Loss
from recurra.losses.numbers import L1, GaussianNLL, Huber, MeanSquaredError, Quantile

NAMES: dict[str, Callable[[], Loss]] = {
    "bce": BinaryCrossEntropy,
    "binary_cross_entropy": BinaryCrossEntropy,
    "binary_crossentropy": BinaryCrossEntropy,
    "cross_entropy": CrossEntropy,
    "crossentropy": CrossEntropy,
    "ctc": CTC,
    "gaussian_nll": GaussianNLL,
    "huber": Huber,
    "l1": L1,
    "mae": L1,
    "mean_absolute_error": L1,
    "mean_squared_error": MeanSquaredError,
    "mse": MeanSquaredError,
    "pinball": Quantile,
    "quantile": Quantile,
    "sparse_categorical_crossentropy": CrossEntropy,
}


def find(loss: str | type[Loss] | Loss | Callable[[Any, Any], Any]) -> Loss:
    """The loss that is meant.

    Args:
        loss: a loss, which is returned as it is; the name of one with its default options, such as "mse" or
            "cross_entropy"; the class of one that needs no arguments; or a function: see `Function`.

    Raises:
        ValueError: there is no such name. TypeError: it is something else.
    """
    return named("losses.find", loss)


def named(operation: str, loss: Any) -> Loss:
    """`find`, for an operation with which its errors begin."""
    if isinstance(loss, str) and loss.lower() in ("categorical_crossentropy", "categoricalcrossentropy"):
        raise ValueError(
            f"{operation}: got loss={loss!r}, expected 'cross_entropy', whose targets are integer labels instead of one-hot "
            f"vectors; write loss='cross_entropy' with y.argmax(-1)"
        )
    if callable(loss) and not isinstance(loss, Loss | Layer | type):
        try:
            return Function(loss)
        except TypeError as error:
            raise TypeError(f"{operation}: loss: {error}") from error.__cause__
    return names.found(operation, "loss", loss, Loss, "recurra.losses", NAMES)
