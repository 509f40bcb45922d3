"""Normalisation of each row over its own steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recurra import _core
from recurra.common import checks
from recurra.layers.native import NativeLayerOfChannels
from recurra.layers.normalisation import Norm
from recurra.saving.registry import built_in

if TYPE_CHECKING:
    import numpy.typing as npt


class RowNorm(Norm):
    """The base of GroupNorm and InstanceNorm1d: statistics of each row, over its valid steps."""

    def why_not_streamable(self) -> str | None:
        """Does not stream: its statistics are of all steps."""
        return "needs all steps of a row for their mean and variance; stream a model with LayerNorm or BatchNorm"


@built_in
class GroupNorm(NativeLayerOfChannels, RowNorm):  # type: ignore[misc] # the sizes are the first's
    """Normalises each row's groups of channels over its valid steps (Wu and He 2018), as torch.nn.GroupNorm.

    y = (x - mean) / sqrt(variance + eps) * weight + bias, with the mean and (biased) variance of num_channels /
    num_groups neighbouring channels over all valid steps of the row and, of images, all their places.

    `y, _ = norm(x)`: x and y (N, T, features) or (N, features), features a multiple of num_channels, laid out channels
    last, as Conv2d gives them.
    Parameters: weight (num_channels), bias (num_channels).

    Args:
        num_groups, num_channels: sizes; num_groups divides num_channels.
        eps: added to the variance; above 0.
        affine: whether to learn weight and bias.
        dtype: float32 or float64.

    Raises:
        ValueError: the number of features is no multiple of num_channels; a call with reset, as a row's episodes would
            be normalised together.

    Example:
        >>> norm = rc.GroupNorm(1, 2, dtype="float64")
        >>> norm(np.array([[[1.0, 2.0], [3.0, 4.0]]]))[0].round(2).tolist()
        [[[-1.34, -0.45], [0.45, 1.34]]]
    """

    _size_name = "num_channels"

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        *,
        eps: float = 1e-5,
        affine: bool = True,
        dtype: npt.DTypeLike = "float32",
    ) -> None:
        self.num_groups = checks.integer("GroupNorm", "num_groups", num_groups)
        self.num_channels = checks.integer("GroupNorm", "num_channels", num_channels)
        if self.num_channels % self.num_groups:
            raise ValueError(
                f"GroupNorm: got num_groups={num_groups} for {num_channels} channels, expected a divisor of them; "
                "change num_groups"
            )
        self.eps = checks.positive("GroupNorm", "eps", eps)
        self.affine = checks.flag("GroupNorm", "affine", affine)
        name = checks.dtype_name("GroupNorm", dtype)
        sizes = (self.num_groups, self.num_channels)
        super().__init__(_core.GroupNorm(*sizes, eps=self.eps, affine=self.affine, dtype=name), None)


@built_in
class InstanceNorm1d(RowNorm):
    """Normalises each feature of each row over the row's valid steps (Ulyanov et al. 2016), as torch.nn.InstanceNorm1d
    without running statistics.

    y = (x - mean) / sqrt(variance + eps) * weight + bias, with the mean and (biased) variance of the feature over the
    row's valid steps. A row of one step gives bias, or 0.

    `y, _ = norm(x)`: x and y (N, T, features).
    Parameters, with affine: weight (features), bias (features).

    Args:
        features: number of features.
        eps: added to the variance; above 0.
        affine: whether to learn weight and bias; unlike the other norms, not by default, as in PyTorch.
        dtype: float32 or float64.

    Raises:
        ValueError: a call with reset, as a row's episodes would be normalised together.

    Example:
        >>> y, _ = rc.InstanceNorm1d(1)(np.array([[[1.0], [3.0]]], np.float32))
        >>> y.round(3).tolist()
        [[[-1.0], [1.0]]]
    """

    def __init__(
        self, features: int, *, eps: float = 1e-5, affine: bool = False, dtype: npt.DTypeLike = "float32"
    ) -> None:
        self.features = checks.integer("InstanceNorm1d", "features", features)
        self.eps = checks.positive("InstanceNorm1d", "eps", eps)
        self.affine = checks.flag("InstanceNorm1d", "affine", affine)
        name = checks.dtype_name("InstanceNorm1d", dtype)
        sizes = (self.features, self.features)
        core = _core.GroupNorm(*sizes, eps=self.eps, affine=self.affine, instance=True, dtype=name)
        super().__init__(core, None)

    def output_features(self, features: int | None) -> int | None:
        """The features."""
        return self.features
