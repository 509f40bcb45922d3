"""The gradient of a loss with parameters: the predictions' gradient carries that of the parameters."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from recurra import _core
from recurra.common.typing import Array

#: A layer's parameters and their flat gradient.
ParameterGradient: TypeAlias = "tuple[_core.Parameters, Array]"


class ScoreGradient(np.ndarray[Any, Any]):
    """A gradient with respect to predictions that carries the gradient of a layer's parameters to `Tape.backward`.

    Multiplying or dividing by a number scales both parts. The result of any other operation has lost the parameters'
    part, and `backward` refuses it; `np.asarray(gradient)` is the predictions' part alone.
    """

    parameters: ParameterGradient | None

    @classmethod
    def of(cls, gradient: Array, parameters: _core.Parameters, own: Array) -> ScoreGradient:
        """The gradient with both parts."""
        made = gradient.view(cls)
        made.parameters = (parameters, own)
        return made

    def __array_finalize__(self, source: Any) -> None:
        self.parameters = None

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, **keywords: Any) -> Any:
        plain = [np.asarray(one) if isinstance(one, ScoreGradient) else one for one in inputs]
        if out is not None:
            keywords["out"] = tuple(np.asarray(one) if isinstance(one, ScoreGradient) else one for one in out)
        result = getattr(ufunc, method)(*plain, **keywords)
        if not isinstance(result, np.ndarray) or result.shape != self.shape or result.dtype.kind != "f":
            return result
        made = out[0] if out is not None and isinstance(out[0], ScoreGradient) else result.view(ScoreGradient)
        made.parameters = self._scaled(ufunc, method, inputs)
        return made

    def _scaled(self, ufunc: np.ufunc, method: str, inputs: tuple[Any, ...]) -> ParameterGradient | None:
        """The parameters' part of a product with a number, or a quotient; None for other operations."""
        scales = method == "__call__" and ufunc in (np.multiply, np.divide, np.negative)
        if not scales or self.parameters is None:
            return None
        parameters, own = self.parameters
        others = [one for one in inputs if one is not self]
        swapped = ufunc is np.divide and inputs[0] is not self
        if swapped or len(others) != len(inputs) - 1 or any(np.ndim(one) for one in others):
            return None
        return parameters, np.asarray(ufunc(*(own if one is self else own.dtype.type(one) for one in inputs)))


def parameter_gradients(operation: str, gradients: list[Any]) -> list[ParameterGradient]:
    """The parameters' parts of the gradients given to a backward."""
    found = []
    for one in gradients:
        if type(one) is not ScoreGradient:
            continue
        if one.parameters is None:
            raise ValueError(
                f"{operation}: got a gradient computed from that of losses.CRF, which has lost the gradient of the "
                "transitions, expected it as the loss returned it, or times a number; give value.gradient, or "
                "np.asarray(...) of it for no gradient of the transitions"
            )
        found.append(one.parameters)
    return found
