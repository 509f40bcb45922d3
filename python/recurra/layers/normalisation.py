"""Layer normalisation and batch normalisation."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from recurra import _core
from recurra.common import checks
from recurra.common.typing import Array
from recurra.layers.native import NativeLayer, NativeLayerOfChannels
from recurra.saving.registry import built_in

if TYPE_CHECKING:
    import numpy.typing as npt


class Norm(NativeLayer):
    """The base of all norms: sizes, a gain initialised to 1 and a shift initialised to 0."""

    features: int
    affine: bool
    #: The argument that is the number of gains.
    _size_name = "features"

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
        return 2 * operator.index(config[cls._size_name]) if config["affine"] else 0

    def reset_parameters(self, seed: int | None = None) -> None:
        """Reset the gain to 1 and the shift to 0; `seed` is unused."""
        for name in self.parameters.names:
            value = np.full(self.parameters.shape(name), 1.0 if name == "weight" else 0.0, self.dtype)
            self.parameters.assign(name, value)


@built_in
class LayerNorm(Norm):
    """Normalises each step over its features (Ba, Kiros and Hinton 2016), as torch.nn.LayerNorm(features).

    y = (x - mean) / sqrt(variance + eps) * weight + bias, with the mean and (biased) variance of the step's features.
    `y, _ = norm(x)`: x and y (N, T, features) or (N, features).
    Parameters: weight (features), bias (features).

    Args:
        features: number of features.
        eps: added to the variance; above 0.
        affine: whether to learn weight and bias.
        dtype: float32 or float64.

    Example:
        >>> y, _ = rc.LayerNorm(2)(np.array([[[1.0, 3.0]]], np.float32))
        >>> y.round(3).tolist()
        [[[-1.0, 1.0]]]
    """

    def __init__(
        self, features: int, *, eps: float = 1e-5, affine: bool = True, dtype: npt.DTypeLike = "float32"
    ) -> None:
        self.features = checks.integer("LayerNorm", "features", features)
        self.eps = checks.positive("LayerNorm", "eps", eps)
        self.affine = checks.flag("LayerNorm", "affine", affine)
        name = checks.dtype_name("LayerNorm", dtype)
        super().__init__(_core.LayerNorm(self.features, eps=self.eps, affine=self.affine, dtype=name), None)


class StatisticsNorm(Norm):
    """The base of BatchNorm and BatchNorm2d: statistics of the batch in training, running ones otherwise."""

    def __init__(self, core: _core.BatchNorm) -> None:
        self._norm, self._running = core, core.running
        super().__init__(core, None)

    @property
    def is_trainable(self) -> bool:
        """The value behind `trainable`.

        As in Keras, a frozen layer runs as in inference even when recorded for training, and its running statistics do
        not change.
        """
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
        """The parameters and the running statistics, which are written together."""
        return [self.parameters, self._running]

    @classmethod
    def count_parameters(cls, config: Mapping[str, Any]) -> int:
        """Gains, shifts and running statistics."""
        return super().count_parameters(config) + 2 * operator.index(config[cls._size_name])

    def reset_parameters(self, seed: int | None = None) -> None:
        """Reset the gain to 1, the shift to 0, the running mean to 0 and variance to 1; `seed` is unused."""
        super().reset_parameters(seed)
        for name, array in self.own_buffers.items():
            array[...] = 1.0 if name == "running_var" else 0.0


@built_in
class BatchNorm(StatisticsNorm):
    """Normalises each feature over the batch (Ioffe and Szegedy 2015), as torch.nn.BatchNorm1d on the valid steps.

    y = (x - mean) / sqrt(variance + eps) * weight + bias.
    `record` with training=True uses the mean and (biased) variance of all valid steps of the batch, without padding.
    Its forward, not its backward, also updates the running statistics, as in PyTorch: running = (1 - momentum) *
    running + momentum * new, with the unbiased variance. Calls, streams, training=False and layers with trainable=False
    use the running statistics and leave them unchanged. If several threads record at once, their updates take turns. In
    training, unlike with any other layer, a row's output depends on the other rows.

    `y, _ = norm(x)`: x and y (N, T, features) or (N, features).
    Parameters: weight (features), bias (features). Buffers: running_mean (features), running_var (features).

    Args:
        features: number of features.
        eps: added to the variance; above 0.
        momentum: weight of the new statistics, from 0 to 1.
        affine: whether to learn weight and bias.
        dtype: float32 or float64.

    Raises:
        ValueError: a training batch has a single valid step, which has no variance.

    Example:
        >>> model = rc.Sequential(rc.Conv1d(3, 8, 5), rc.BatchNorm(8), rc.Activation("relu"))
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
        super().__init__(core)


@built_in
class BatchNorm2d(NativeLayerOfChannels, StatisticsNorm):  # type: ignore[misc] # the sizes are the first's
    """Normalises each channel of images over the batch, as torch.nn.BatchNorm2d on the valid steps.

    As BatchNorm, with the mean and variance of a channel over all places of all valid steps.

    `y, _ = norm(x)`: x and y (N, T, features) or (N, features), features a multiple of channels, laid out channels
    last, as Conv2d gives them.
    Parameters: weight (channels), bias (channels). Buffers: running_mean (channels), running_var (channels).

    Args:
        channels: number of channels.
        eps: added to the variance; above 0.
        momentum: weight of the new statistics, from 0 to 1.
        affine: whether to learn weight and bias.
        dtype: float32 or float64.

    Raises:
        ValueError: the number of features is no multiple of channels; a training batch has a single place, which has no
            variance.

    Example:
        >>> height = 16
        >>> model = rc.Sequential(
        ...     rc.Conv2d(1, 8, 3, height=height), rc.BatchNorm2d(8), rc.Activation("relu")
        ... )
        >>> model(np.ones((2, 20, height), np.float32))[0].shape
        (2, 18, 112)
    """

    _size_name = "channels"

    def __init__(
        self,
        channels: int,
        *,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        dtype: npt.DTypeLike = "float32",
    ) -> None:
        self.channels = checks.integer("BatchNorm2d", "channels", channels)
        self.eps = checks.positive("BatchNorm2d", "eps", eps)
        self.momentum = checks.number("BatchNorm2d", "momentum", momentum, 0.0, 1.0)
        self.affine = checks.flag("BatchNorm2d", "affine", affine)
        name = checks.dtype_name("BatchNorm2d", dtype)
        options: dict[str, Any] = {"eps": self.eps, "momentum": self.momentum, "affine": self.affine}
        super().__init__(_core.BatchNorm(self.channels, **options, images=True, dtype=name))
