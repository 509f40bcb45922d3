"""Losses by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from recurra.common import names
from recurra.layers.layer import Layer
from recurra.losses.ctc import CTC
from recurra.losses.function import Function
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
    """The loss for an object, a name, a class or a function.

    Args:
        loss: a loss, returned as it is; the name of one, such as "mse" or "cross_entropy", made with its default
            options; a class that can be called without arguments; or a function: see `Function`.

    Raises:
        ValueError: unknown name. TypeError: none of these.

    Example:
        >>> type(rc.losses.find("mse")).__name__
        'MeanSquaredError'
    """
    return named("losses.find", loss)


def named(operation: str, loss: Any) -> Loss:
    """`find`, with `operation` at the beginning of its error messages."""
    if isinstance(loss, str) and loss.lower() in ("categorical_crossentropy", "categoricalcrossentropy"):
        raise ValueError(
            f"{operation}: got loss={loss!r}, expected 'cross_entropy', whose targets are integer labels instead of "
            "one-hot vectors; write loss='cross_entropy' with y.argmax(-1)"
        )
    if callable(loss) and not isinstance(loss, Loss | Layer | type):
        try:
            return Function(loss)
        except TypeError as error:
            raise TypeError(f"{operation}: loss: {error}") from error.__cause__
    return names.found(operation, "loss", loss, Loss, "recurra.losses", NAMES)
