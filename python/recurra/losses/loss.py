"""The base class of losses, and their value: sum over the valid elements, count and gradient of the sum."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from recurra.common import checks, keywords
from recurra.common.typing import Array, Lengths, Rows
from recurra.data.rows import one_array

if TYPE_CHECKING:
    from recurra.layers.layer import Layer


@dataclass(frozen=True)
class LossValue:
    """The loss of a batch.

    Attributes: sum, over the valid elements; count, their number or, with weights, the sum of their weights; gradient,
    of the sum with respect to the predictions, in their shape, 0 past the lengths (None if not requested); left_out,
    the number of rows of positive weight that the loss cannot count, such as infeasible rows of CTC.

    Example:
        >>> value = rc.losses.L1()(np.zeros((1, 4, 1)), np.ones((1, 4, 1)))
        >>> value.sum, value.count, value.mean, value.gradient.shape
        (4.0, 4, 1.0, (1, 4, 1))
    """

    sum: float
    count: float
    gradient: Array | None
    left_out: int = 0

    @property
    def mean(self) -> float:
        """sum / count; NaN if the count is 0."""
        return self.sum / self.count if self.count else math.nan


class Checked(NamedTuple):
    """Checked arguments of a loss: targets in the dtype that the loss reads, weights in float64."""

    predictions: Array
    targets: Array
    lengths: Array | None
    weights: Array | None


class Loss(ABC):
    """`loss(predictions, targets, lengths=None)`, with predictions (N, T, F), or (N, F) without a time axis.

    Example:
        >>> loss = rc.losses.MeanSquaredError()
        >>> value = loss(np.zeros((2, 5, 1)), np.ones((2, 5, 1)), lengths=[5, 2])
        >>> value.sum, value.count, value.mean
        (7.0, 7, 1.0)
    """

    #: Whether the loss is per row: then weights are per row too, and rows cannot be cut into windows.
    whole_rows: ClassVar[bool] = False
    #: Whether a row's targets are independent of its steps; lists of such targets are padded with `padding`.
    unaligned: ClassVar[bool] = False
    padding: ClassVar[int] = 0

    @keywords.explained_method
    def __call__(
        self,
        predictions: Array | Sequence[Array],
        targets: Rows,
        lengths: Lengths = None,
        *,
        weights: npt.ArrayLike | None = None,
        gradient: bool = True,
    ) -> LossValue:
        """The loss of a batch.

        Args:
            predictions: (N, T, F) or (N, F), float32 or float64; or a list of arrays (T_n, F), as `predict` returns
                them. The gradient is then that of the array padded with zeros.
            targets: see the class; for a list of predictions, a list likewise.
            lengths: (N,) valid steps of each row; steps past them do not count. Only with a time axis.
            weights: (N,), or (N, T) with a target at every step, finite and at least 0: each multiplies the terms of
                its row or step, their gradient and their count, as if the row or step were repeated. Targets of weight
                0 are not read, and may be missing (NaN).
            gradient: whether to compute the gradient.

        Raises:
            ValueError, TypeError: targets, lengths or weights that do not fit the predictions.
        """
        return self.value(type(self).__name__, predictions, targets, lengths, weights, gradient)

    def value(
        self,
        operation: str,
        predictions: Array | Sequence[Array],
        targets: Rows,
        lengths: Lengths = None,
        weights: npt.ArrayLike | None = None,
        gradient: bool = False,
    ) -> LossValue:
        """The loss of a batch, with `operation` at the beginning of error messages."""
        return self._compute(operation, self.read(operation, predictions, targets, lengths, weights), gradient)

    def count(
        self, targets: Rows, shape: tuple[int, ...], lengths: Lengths = None, weights: npt.ArrayLike | None = None
    ) -> float:
        """The count that a call would return, given the predictions' shape instead of the predictions.

        It gives the scale of gradients that are accumulated over several batches in advance. Only CTC targets that are
        infeasible because of a logit of -infinity are counted here, and not in a call.
        """
        operation = f"{type(self).__name__}.count"
        if not isinstance(shape, tuple | list):
            raise TypeError(
                f"{operation}: got shape={shape!r}, expected that of the predictions, a tuple; write predictions.shape"
            )
        shape = tuple(checks.integer(operation, "shape", size, 0) for size in shape)
        return self._count(operation, shape, *self._checked(operation, shape, None, targets, lengths, weights))

    def read(
        self,
        operation: str,
        predictions: Array | Sequence[Array],
        targets: Rows,
        lengths: Lengths = None,
        weights: npt.ArrayLike | None = None,
    ) -> Checked:
        """The arguments of a call, checked and converted; error messages begin with `operation`."""
        predictions, targets, lengths, weights = one_array(
            operation, predictions, targets, lengths, weights, self.unaligned
        )
        predictions = checks.array(operation, "predictions", predictions)
        if predictions.dtype not in (np.float32, np.float64):
            raise TypeError(
                f"{operation}: got predictions of {predictions.dtype}, expected float32 or float64; "
                f"write predictions.astype(np.float32)"
            )
        shape, dtype = predictions.shape, predictions.dtype
        return Checked(predictions, *self._checked(operation, shape, dtype, targets, lengths, weights))

    def _checked(
        self,
        operation: str,
        shape: tuple[int, ...],
        dtype: np.dtype[Any] | None,
        targets: Rows,
        lengths: Lengths,
        weights: npt.ArrayLike | None,
    ) -> tuple[Array, Array | None, Array | None]:
        """Targets, lengths and weights, checked against predictions of this shape and dtype (None: float64)."""
        if len(shape) not in (2, 3) or (lengths is not None and len(shape) == 2):
            raise ValueError(
                f"{operation}: got predictions of shape {shape}{'' if lengths is None else ' and lengths'}, expected "
                f"(N, T, F), or (N, F) without lengths; reshape the predictions or leave lengths out"
            )
        valid = None if lengths is None else checks.lengths_within(operation, lengths, *shape[:2])
        scales = None
        if weights is not None:
            scales = checks.weights(operation, weights, shape[: 1 if self.whole_rows else -1], valid)
        array = self._read(operation, "targets", targets, np.dtype(np.float64) if dtype is None else dtype)
        self.check(operation, "targets", shape, array, valid, scales)
        return array, valid, scales

    def _read(self, operation: str, name: str, targets: Rows, dtype: np.dtype[Any]) -> Array:
        return self.convert(operation, name, checks.numeric(operation, name, targets), dtype)

    def check_model(self, operation: str, model: Layer) -> None:  # noqa: B027 - most have nothing to ask for
        """Refuse a model that the loss cannot train."""

    @abstractmethod
    def convert(self, operation: str, name: str, targets: Array, dtype: np.dtype[Any]) -> Array:
        """Targets in the dtype that the loss reads; `dtype` is the predictions' dtype."""

    @abstractmethod
    def check(
        self,
        operation: str,
        name: str,
        shape: tuple[int, ...],
        targets: Array,
        lengths: Array | None = None,
        weights: Array | None = None,
    ) -> None:
        """Refuse converted targets that do not fit predictions of `shape`, unless they do not count."""

    @abstractmethod
    def _compute(self, operation: str, batch: Checked, gradient: bool) -> LossValue:
        """The loss of a checked batch."""

    @abstractmethod
    def _count(
        self, operation: str, shape: tuple[int, ...], targets: Array, lengths: Array | None, weights: Array | None
    ) -> float:
        """The count, by which the mean divides the sum, for predictions of `shape`."""
