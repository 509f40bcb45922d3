"""A plain function as a loss."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from recurra.common.typing import Array
from recurra.losses import autograd
from recurra.losses.custom import CustomLoss


class Function(CustomLoss):
    """A function as a loss; `fit(loss=function)` means this.

        def logcosh(prediction, target):
            error = prediction - target
            return np.log(np.cosh(error)).mean(), np.tanh(error) / error.size

        loss = rc.losses.Function(logcosh)

    The function is called like `CustomLoss.compute`, with the valid steps, and returns their mean and its gradient.
    Where PyTorch or JAX is installed, it may use its operations and return the mean alone, which is then
    differentiated: functions of PyTorch, and `torch.nn` modules, get tensors. The prediction comes first, as in
    PyTorch; in Keras, the target does.

    Args:
        function: (prediction, target) -> mean, gradient; or the mean alone, of PyTorch's or JAX's operations.

    Example:
        >>> def squares(prediction, target):
        ...     error = prediction - target
        ...     return (error**2).mean(), 2 * error / error.size
        >>> value = rc.losses.Function(squares)(np.zeros((2, 5, 1)), np.ones((2, 5, 1)))
        >>> value.mean
        1.0
    """

    #: Found out at the first call, so it is none of the attributes by which a resumed run knows its loss.
    __slots__ = ("_by",)

    def __init__(self, function: Callable[[Any, Any], Any]) -> None:
        if not callable(function) or inspect.isclass(function):
            raise TypeError(
                f"Function: got {function!r}, expected a function of prediction and target; give one, or an instance "
                "of a class"
            )
        with_names = [] if autograd.is_torchs(function) else _names(function)
        if _target_first(with_names):
            raise TypeError(
                f"Function: got a function of {', '.join(with_names)}, expected the prediction first, as in PyTorch; "
                f"write lambda prediction, target: {_called(function)}(target, prediction)"
            )
        self._function = function
        self._by: autograd.Differentiator | None = autograd.of_torch if autograd.is_torchs(function) else None
        #: The function's module and name, by which a resumed run recognises it.
        self.function = _called(function, whole=True)

    def compute(self, predictions: Array, targets: Array) -> tuple[float, Array]:
        """The function's mean and gradient; the gradient is PyTorch's or JAX's if the function returns none."""
        if self._by is not None:
            return self._by(self._function, self.function, predictions, targets)
        result: Any = None
        failed: Exception | None = None
        try:
            result = self._function(predictions, targets)
        except (TypeError, AttributeError, ValueError) as error:  # raised by PyTorch's and JAX's functions for arrays
            failed = error
        if failed is None and isinstance(result, tuple | list):
            return result  # type: ignore[return-value] # checked by the caller
        for by in autograd.candidates(result):
            try:
                found = by(self._function, self.function, predictions, targets)
            except Exception as error:
                if by is autograd.of_torch and autograd.shows_torch(result, failed):
                    raise error from None
                continue  # the error or result from arrays is more helpful
            self._by = by
            return found
        if failed is not None:
            raise failed
        return result  # type: ignore[no-any-return] # checked by the caller

    def __getstate__(self) -> dict[str, Any]:
        return vars(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._by = autograd.of_torch if autograd.is_torchs(self._function) else None

    _else = ", or the mean alone, of PyTorch's or JAX's operations instead of numpy's, which is then differentiated"

    @property
    def _name(self) -> str:
        return self.function


_TARGETS = {"actual", "actuals", "gold", "label", "labels", "target", "targets", "true", "truth", "y_true"}
_PREDICTIONS = {"p", "pred", "prediction", "predictions", "preds", "y_hat", "y_pred", "yhat"}


def _target_first(names: list[str]) -> bool:
    """Whether a function's arguments are in Keras' and scikit-learn's order, by their names."""
    first, second = [*names, "", ""][:2]
    return first in _TARGETS or (first in {"y", "t"} and second in _PREDICTIONS)


def _names(function: Callable[..., Any]) -> list[str]:
    try:
        return list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return []


def _called(function: Any, *, whole: bool = False) -> str:
    owner = function if hasattr(function, "__qualname__") else type(function)
    return f"{owner.__module__}.{owner.__qualname__}" if whole else str(owner.__name__)
