"""The activation layer, and the parametric ReLU."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from recurra import _core
from recurra.common import checks
from recurra.common.typing import Array
from recurra.layers.native import NativeLayerOfAnySize, NativeLayerOfChannels
from recurra.saving.registry import built_in

if TYPE_CHECKING:
    import numpy.typing as npt

#: The names of the activations.
NAMES = (
    *("relu", "leaky_relu", "elu", "tanh", "sigmoid", "gelu", "silu", "softplus", "softmax"),
    *("sqrt", "square", "exp", "log", "abs"),
    *("hard_sigmoid", "hard_swish", "hard_tanh", "relu6", "selu", "softsign", "mish"),
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
        "hard_sigmoid" clip(x / 6 + 1/2, 0, 1)
        "hard_swish"   x hard_sigmoid(x) (Howard et al. 2019)
        "hard_tanh"    clip(x, -1, 1)
        "relu6"        clip(x, 0, 6)
        "selu"         1.0507 x where x > 0, else 1.7581 (e^x - 1) (Klambauer et al. 2017)
        "softsign"     x / (1 + |x|)
        "mish"         x tanh(log(1 + e^x)) (Misra 2020)

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


@built_in
class PReLU(NativeLayerOfChannels):
    """x where x > 0, else weight x, with a learnt weight (He et al. 2015), as torch.nn.PReLU.

    `y, _ = prelu(x)`: x (N, T, features) or (N, features); y of the same shape. One weight serves all features; with
    as many as features each has its own; in between, features are `num_parameters` channels of each place of an image,
    as Conv2d gives them, and each channel has its weight.
    Parameter: weight (num_parameters).

    Args:
        num_parameters: 1, or the number of features or channels.
        init: the weights' initial value.
        dtype: float32 or float64.

    Raises:
        ValueError: the number of features is no multiple of num_parameters.

    Example:
        >>> rc.PReLU()(np.array([[2.0, -2.0]], np.float32))[0].tolist()
        [[2.0, -0.5]]
    """

    _size_name = "num_parameters"

    def __init__(self, num_parameters: int = 1, init: float = 0.25, *, dtype: npt.DTypeLike = "float32") -> None:
        self.num_parameters = checks.integer("PReLU", "num_parameters", num_parameters)
        self.init = checks.number("PReLU", "init", init, -1e30, 1e30)
        super().__init__(_core.PReLU(self.num_parameters, dtype=checks.dtype_name("PReLU", dtype)), None)

    @classmethod
    def count_parameters(cls, config: Mapping[str, Any]) -> int:
        """Weights."""
        return operator.index(config["num_parameters"])

    def _draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        return np.full(shape, self.init)
