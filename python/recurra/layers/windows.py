"""The base of layers whose outputs each depend on a window of steps."""

from __future__ import annotations

from typing import Any

import numpy as np

from recurra.common import checks
from recurra.common.typing import Array
from recurra.layers.native import NativeLayer


class Windowed(NativeLayer):
    """The base of convolution and pooling over windows of `span` steps, `stride` steps apart."""

    needs_sequences = True
    padding: Any
    stride: Any

    def _set_window(self, span: int, stride: int, before: int, after: int) -> None:
        self._span, self._step_stride, self._before, self._after = span, stride, before, after
        self.keeps_steps = stride == 1 and before + after == span - 1
        self.allows_holes = span == 1 and self.keeps_steps

    def _set_named_window(self, span: int, stride: int, padding: str) -> None:
        name = type(self).__name__
        self.stride = checks.integer(name, "stride", stride)
        self.padding = checks.choice(name, "padding", padding, ("causal", "same", "valid"))
        self._set_window(span, self.stride, *sides(span, padding))

    def output_lengths(self, lengths: Array | None) -> Array | None:
        """The valid steps of each row of the output."""
        if lengths is None:
            return None
        valid = checks.valid_steps(f"{type(self).__name__}.output_lengths", lengths)
        room = valid + self._before + self._after - self._span
        steps: Array = np.where(valid > 0, np.maximum(room // self._step_stride + 1, 0), 0)
        return steps

    def why_not_streamable(self) -> str | None:
        """Streams only if every input step gives an output and no later input is needed."""
        if self._step_stride > 1:
            return (
                f"has stride={self._step_stride}, so that a step may have no output; stream a layer made with stride=1"
            )
        if self._after or self._before != self._span - 1:
            return f"has padding={self.padding!r}, which sees later steps; stream a layer made with padding='causal'"
        return None


def sides(span: int, padding: str) -> tuple[int, int]:
    """The zeros before and after a row, for windows of `span` steps."""
    before = {"causal": span - 1, "same": (span - 1) // 2, "valid": 0}[padding]
    return before, span - 1 - before if padding == "same" else 0
