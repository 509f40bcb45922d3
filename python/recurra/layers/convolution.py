"""Convolution over time, and its transposition."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from recurra import _core
from recurra.common import checks
from recurra.common.initialise import uniform
from recurra.common.typing import Array
from recurra.layers.native import NativeLayer
from recurra.layers.windows import Windowed
from recurra.saving.registry import built_in

if TYPE_CHECKING:
    import numpy.typing as npt


def checked_groups(operation: str, groups: Any, in_channels: int, out_channels: int) -> int:
    """The number of groups, a divisor of both numbers of channels."""
    found = checks.integer(operation, "groups", groups)
    if in_channels % found or out_channels % found:
        raise ValueError(
            f"{operation}: got groups={found} for {in_channels} and {out_channels} channels, expected a divisor of "
            "both; change groups"
        )
    return found


class StepConvolution(NativeLayer):
    """The base of Conv1d and ConvTranspose1d: channels, and weights for each tap."""

    in_channels: int
    out_channels: int
    groups: int

    @property
    def input_size(self) -> int:
        """in_channels."""
        return self.in_channels

    @property
    def output_size(self) -> int:
        """out_channels."""
        return self.out_channels

    @classmethod
    def count_parameters(cls, config: Mapping[str, Any]) -> int:
        """Weights and biases."""
        inputs, outputs, kernel = (
            operator.index(config[name]) for name in ("in_channels", "out_channels", "kernel_size")
        )
        groups = operator.index(config.get("groups", 1))
        return outputs * (inputs // max(groups, 1) * kernel + (1 if config["bias"] else 0))


@built_in
class Conv1d(StepConvolution, Windowed):
    """A convolution over steps (a cross-correlation, as in PyTorch).

    y[t] = b + sum over j of W[:, :, j] x[t * stride + j * dilation - left], where x is zero outside the row. The
    padding determines where the window of span = (kernel_size - 1) * dilation + 1 steps lies and how many output steps
    T input steps give:

    - "causal": left = span - 1, so that y[t] depends on nothing later than x[t * stride] (van den Oord et al. 2016);
      ceil(T / stride) steps.
    - "same": left = (span - 1) // 2, the window is centred; ceil(T / stride) steps.
    - "valid": left = 0, whole windows only; (T - span) // stride + 1 steps, none where T < span.

    `y, past = conv(x)`: x (N, T, in_channels), y (N, T', out_channels). With lengths, each row is padded at its own end
    and has an output of its own length. With reset, no window crosses the start of an episode: x is zero beyond it;
    this needs an output for every input step, that is stride 1 and not "valid".
    A causal layer of stride 1 streams: its state is the last span - 1 inputs, (span - 1, N, in_channels), oldest first.
    Other layers, and those with span 1, have no state.
    Parameters: weight (out_channels, in_channels / groups, kernel_size), bias (out_channels).

    Args:
        in_channels, out_channels, kernel_size: sizes.
        stride: input steps between neighbouring outputs.
        dilation: input steps between neighbouring kernel taps.
        padding: "causal", "same" or "valid".
        groups: output channels in as many groups, each of which reads its own group of the input channels; a divisor of
            both. The product is that of one group, with zeros: groups save parameters, not time.
        bias: whether to add b.
        dtype: float32 or float64.
        seed: for the parameters, drawn from U(-k, k), k = 1/sqrt(in_channels / groups * kernel_size); None for a fresh
            seed.

    Example:
        >>> x = np.ones((2, 10, 3), np.float32)
        >>> rc.Conv1d(3, 8, kernel_size=5)(x)[0].shape
        (2, 10, 8)
        >>> rc.Conv1d(3, 8, kernel_size=5, padding="valid", stride=2)(x)[0].shape
        (2, 3, 8)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        padding: str = "causal",
        groups: int = 1,
        bias: bool = True,
        dtype: npt.DTypeLike = "float32",
        seed: int | None = None,
    ) -> None:
        self.in_channels = checks.integer("Conv1d", "in_channels", in_channels)
        self.out_channels = checks.integer("Conv1d", "out_channels", out_channels)
        self.kernel_size = checks.integer("Conv1d", "kernel_size", kernel_size)
        self.dilation = checks.integer("Conv1d", "dilation", dilation)
        self._set_named_window((self.kernel_size - 1) * self.dilation + 1, stride, padding)
        self.groups = checked_groups("Conv1d", groups, self.in_channels, self.out_channels)
        self.bias = checks.flag("Conv1d", "bias", bias)
        self.state_names = ("past",) if self._before and self.why_not_streamable() is None else ()
        core = _core.Conv1d(
            self.in_channels,
            self.out_channels,
            self.kernel_size,
            stride=self.stride,
            dilation=self.dilation,
            padding=self.padding,
            groups=self.groups,
            bias=self.bias,
            dtype=checks.dtype_name("Conv1d", dtype),
        )
        super().__init__(core, seed)

    def state_zeros(self, batch_size: int) -> list[Array]:
        """Zeros, (span - 1, N, in_channels); empty without a state."""
        rows = checks.integer("Conv1d.init_state", "batch_size", batch_size, 0)
        return [np.zeros((self._before, rows, self.in_channels), self.dtype) for _name in self.state_names]

    def _draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        return uniform(rng, shape, self.in_channels // self.groups * self.kernel_size)


@built_in
class ConvTranspose1d(StepConvolution):
    """A transposed convolution over steps, which makes more steps of few (as torch.nn.ConvTranspose1d).

    y[s] = b + the sum over t, j with t * stride + j * dilation - padding = s of W[:, :, j] transposed times x[t]: the
    gradient of a Conv1d's input, of whose output x is one. T steps give (T - 1) * stride + span + output_padding -
    2 * padding steps, with span = (kernel_size - 1) * dilation + 1, and none give none.

    `y, _ = conv(x)`: x (N, T, in_channels), y (N, T', out_channels). With lengths, each row has an output of its own
    length. It does not stream, as a step has several outputs, and does not take reset.
    Parameters: weight (in_channels, out_channels / groups, kernel_size), bias (out_channels).

    Args:
        in_channels, out_channels, kernel_size: sizes.
        stride: output steps between neighbouring inputs.
        padding: steps that are cut off both ends; less than half of span + output_padding, so that a single step leaves
            an output.
        output_padding: further steps at the end; less than stride.
        dilation: output steps between neighbouring kernel taps.
        groups: as of Conv1d.
        bias: whether to add b.
        dtype: float32 or float64.
        seed: for the parameters, drawn from U(-k, k), k = 1/sqrt(out_channels / groups * kernel_size); None for a
            fresh seed.

    Example:
        >>> x = np.ones((2, 10, 3), np.float32)
        >>> rc.ConvTranspose1d(3, 8, kernel_size=4, stride=2, padding=1)(x)[0].shape
        (2, 20, 8)
    """

    needs_sequences = True
    allows_holes = False

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        output_padding: int = 0,
        *,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        dtype: npt.DTypeLike = "float32",
        seed: int | None = None,
    ) -> None:
        self.in_channels = checks.integer("ConvTranspose1d", "in_channels", in_channels)
        self.out_channels = checks.integer("ConvTranspose1d", "out_channels", out_channels)
        self.kernel_size = checks.integer("ConvTranspose1d", "kernel_size", kernel_size)
        self.stride = checks.integer("ConvTranspose1d", "stride", stride)
        self.padding = checks.integer("ConvTranspose1d", "padding", padding, 0)
        self.output_padding = checks.integer("ConvTranspose1d", "output_padding", output_padding, 0)
        self.dilation = checks.integer("ConvTranspose1d", "dilation", dilation)
        self.groups = checked_groups("ConvTranspose1d", groups, self.in_channels, self.out_channels)
        self.bias = checks.flag("ConvTranspose1d", "bias", bias)
        self._one = (self.kernel_size - 1) * self.dilation + 1 + self.output_padding - 2 * self.padding
        self.keeps_steps = self.stride == 1 == self._one
        core = _core.ConvTranspose1d(
            self.in_channels,
            self.out_channels,
            self.kernel_size,
            stride=self.stride,
            padding=self.padding,
            output_padding=self.output_padding,
            dilation=self.dilation,
            groups=self.groups,
            bias=self.bias,
            dtype=checks.dtype_name("ConvTranspose1d", dtype),
        )
        super().__init__(core, seed)

    def output_lengths(self, lengths: Array | None) -> Array | None:
        """The valid steps of each row of the output."""
        if lengths is None:
            return None
        valid = checks.valid_steps("ConvTranspose1d.output_lengths", lengths)
        steps: Array = np.where(valid > 0, (valid - 1) * self.stride + self._one, 0)
        return steps

    def why_not_streamable(self) -> str | None:
        """Does not stream: a step has several outputs, or an output several steps."""
        return "makes outputs of several steps, and several of one; process whole sequences"

    def _draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        return uniform(rng, shape, self.out_channels // self.groups * self.kernel_size)
