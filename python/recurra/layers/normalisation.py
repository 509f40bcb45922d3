"""Layer normalisation and batch normalisation."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from recurra import _core
from recurra.common import checks
from recurra.common.typing import Array
from recurra.layers.native import NativeLayer
from recurra.saving.registry import built_in

if TYPE_CHECKING:
    import numpy.typing as npt


class _Norm(NativeLayer):
    """What both have: sizes, a gain that begins with 1 and a shift that begins with 0."""

    features: int
    affine: bool

    @property
    def input_size(self) -> int:
        """Features."""
        return self.features

    @property
    def output_size(self) -> int:
        """Features."""
        return self.features

    @classmethod
    def count_parameters(cls, config: Mapping[str, Any]) -> int:
        """Gains and shifts."""
        return 2 * operator.index(config["features"]) if config["affine"] else 0

    def reset_parameters(self, seed: int | None = None) -> None:
        """Back to a gain of 1 and a shift of 0; nothing is drawn."""
        for name in self.parameters.names:
            value = np.full(self.parameters.shape(name), 1.0 if name == "weight" else 0.0, self.dtype)
            self.parameters.assign(name, value)


@built_in
class LayerNorm(_Norm):
    """Every step normalised over its features (Ba, Kiros and Hinton 2016), as torch.nn.LayerNorm(features).

    y = (x - mean) / sqrt(variance + eps) * weight + bias, mean and (biased) variance of the step's features.
    `y, _ = norm(x)`: x and y (N, T, features) or (N, features).
    Parameters: weight (features), bias (features).

    Args:
        features: size.
        eps: above 0.
        affine: whether weight and bias are there.
        dtype: float32 or float64.
    """

    def __init__(
        self, features: int, *, eps: float = 1e-5, affine: bool = True, dtype: npt.DTypeLike = "float32"
    ) -> None:
        self.features = checks.integer("LayerNorm", "features", features)
        self.eps = checks.positive("LayerNorm", "eps", eps)
        self.affine = checks.flag("LayerNorm", "affine", affine)
        name = checks.dtype_name("LayerNorm", dtype)
        super().__init__(_core.LayerNorm(self.features, eps=self.eps, affine=self.affine, dtype=name), None)


@built_in
class BatchNorm(_Norm):
    """Every feature normalised over the batch (Ioffe and Szegedy 2015), as torch.nn.BatchNorm1d of the valid steps.

    y = (x - mean) / sqrt(variance + eps) * weight + bias.
    `record` with training=True takes mean and (biased) variance from all valid steps of the batch; padding counts for
    nothing. It also moves the running statistics, as PyTorch does, when it runs and not when its tape runs backwards:
    running = (1 - momentum) * running + momentum * new, with the unbiased variance. Calls, streams and training=False use
    the running ones and change nothing, and so does a layer with trainable=False. Several threads may record at once; each moves them in turn.
    In training a row's output depends on the other rows, unlike that of any other layer.

    `y, _ = norm(x)`: x and y (N, T, features) or (N, features).
    Parameters: weight (features), bias (features). Buffers: running_mean (features), running_var (features).

    Args:
        features: size.
        eps: above 0.
        momentum: from 0 to 1.
        affine: whether weight and bias are there.
        dtype: float32 or float64.

    Raises:
        ValueError: a batch to train on has a single valid step, which has no variance.
    """

    def __init__(
        self,
        features: int,
        *,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        dtype: npt.DTypeLike = "float32",
    ) -> None:
        self.features = checks.integer("BatchNorm", "features", features)
        self.eps = checks.positive("BatchNorm", "eps", eps)
        self.momentum = checks.number("BatchNorm", "momentum", momentum, 0.0, 1.0)
        self.affine = checks.flag("BatchNorm", "affine", affine)
        name = checks.dtype_name("BatchNorm", dtype)
        core = _core.BatchNorm(self.features, eps=self.eps, momentum=self.momentum, affine=self.affine, dtype=name)
        self._norm, self._running = core, core.running
        super().__init__(core, None)

    @property
    def is_trainable(self) -> bool:
        """What `trainable` reads and sets. A frozen layer runs as in inference when it is recorded for training, too, and its
        running statistics stay as they are (Keras' meaning)."""
        return not self._norm.frozen

    @is_trainable.setter
    def is_trainable(self, value: bool) -> None:
        self._norm.frozen = not value

    @property
    def own_buffers(self) -> Mapping[str, Array]:
        """running_mean and running_var."""
        return {name: self._running.writable(name) for name in self._running.names}

    @property
    def all_parameters(self) -> list[_core.Parameters]:
        """The running statistics are changed with the parameters."""
        return [self.parameters, self._running]

    @classmethod
    def count_parameters(cls, config: Mapping[str, Any]) -> int:
        """Gains, shifts and running statistics."""
        return super().count_parameters(config) + 2 * operator.index(config["features"])

    def reset_parameters(self, seed: int | None = None) -> None:
        """Back to a gain of 1, a shift of 0 and running statistics of 0 and 1; nothing is drawn."""
        super().reset_parameters(seed)
        for name, array in self.own_buffers.items():
            array[...] = 1.0 if name == "running_var" else 0.0
