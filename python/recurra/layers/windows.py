"""The base of layers whose outputs each depend on a window of steps."""

from __future__ import annotations

import numpy as np

from recurra.common import checks
from recurra.common.typing import Array
from recurra.layers.native import NativeLayer


class Windowed(NativeLayer):
    """The base of convolution and pooling over windows of `span` steps, `stride` steps apart."""

    needs_sequences = True

    def _set_window(self, span: int, stride: int, padding: str) -> None:
        name = type(self).__name__
        self.stride = checks.integer(name, "stride", stride)
        self.padding: str = checks.choice(name, "padding", padding, ("causal", "same", "valid"))
        self._around = span - 1
        self.keeps_steps = self.stride == 1 and (self.padding != "valid" or not self._around)
        self.allows_holes = not self._around

    def output_lengths(self, lengths: Array | None) -> Array | None:
        """The valid steps of each row of the output."""
        if lengths is None:
            return None
        room = (
            checks.valid_steps(f"{type(self).__name__}.output_lengths", lengths)
            - 1
            - (self._around if self.padding == "valid" else 0)
        )
        steps: Array = np.maximum(room // self.stride + 1, 0)
        return steps

    def why_not_streamable(self) -> str | None:
        """Streams only if every input step gives an output and no later input is needed."""
        if self.stride > 1:
            return f"has stride={self.stride}, so that a step may have no output; stream a layer made with stride=1"
        if self.padding != "causal" and self._around:
            return f"has padding={self.padding!r}, which sees later steps; stream a layer made with padding='causal'"
        return None
