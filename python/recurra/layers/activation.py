"""The activation layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recurra import _core
from recurra.common import checks
from recurra.layers.native import NativeLayerOfAnySize
from recurra.saving.registry import built_in

if TYPE_CHECKING:
    import numpy.typing as npt

#: The names of the activations.
NAMES = (
    *("relu", "leaky_relu", "elu", "tanh", "sigmoid", "gelu", "silu", "softplus", "softmax"),
    *("sqrt", "square", "exp", "log", "abs"),
)


@built_in
class Activation(NativeLayerOfAnySize):
    """Applies a function to every value, or the softmax to each step's features, with PyTorch's defaults.

        name           y
        "relu"         max(x, 0)
        "leaky_relu"   x where x > 0, else 0.01 x
        "elu"          x where x > 0, else e^x - 1 (Clevert et al. 2016)
        "tanh"         tanh x
        "sigmoid"      1 / (1 + e^-x)
        "gelu"         x Phi(x), Phi the normal distribution, exact (Hendrycks and Gimpel 2016)
        "silu"         x sigmoid(x) (Elfwing et al. 2018)
        "softplus"     log(1 + e^x)
        "softmax"      e^x / sum of e^x over the features
        "sqrt"         the square root; NaN below 0
        "square"       x^2
        "exp"          e^x
        "log"          the natural logarithm; NaN below 0
        "abs"          |x|

    `y, _ = activation(x)`: x (N, T, features) or (N, features), any number of features; y of the same shape.

    Args:
        name: one of the above.
        dtype: float32 or float64.

    Example:
        >>> rc.Activation("relu")(np.array([[[-1.0], [2.0]]], np.float32))[0].tolist()
        [[[0.0], [2.0]]]
    """

    def __init__(self, name: str, *, dtype: npt.DTypeLike = "float32") -> None:
        self.name: str = checks.choice("Activation", "name", name, NAMES)
        super().__init__(_core.Activation(self.name, dtype=checks.dtype_name("Activation", dtype)), None)
