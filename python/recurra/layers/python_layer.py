"""Layers that users write in Python, to stand between native ones in a model."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from recurra import _core
from recurra.common.typing import Array
from recurra.layers.leaf import LeafLayer
from recurra.running import contributions
from recurra.running.gradients import Gradients


class PythonLayer(LeafLayer):
    """The class to derive from: `forward`, `backward`, and the constructor's arguments kept as attributes.

        class Scale(rc.PythonLayer):
            stateless = True

            def __init__(self, size):
                self.size = size
                self.add_parameter("scale", np.ones(size, np.float32))

            def forward(self, x, *, lengths, training, rng):
                return x * self.params["scale"], x

            def backward(self, dy, x):
                self.grads["scale"] += (dy * x).sum((0, 1))
                return dy * self.params["scale"]

    That is all it takes to train, save (`recurra.load(path, custom={"Scale": Scale})`), pickle and stream it. Padding
    reaches neither method (it is 0 in x and in dy), and what they put there is set to 0. x, dy and lengths are read-only.
    `forward` is called again where another thread has written the model's weights meanwhile. The dtype is that of the
    parameters. A class that draws parameters at random takes a seed or uses one of its own. Its constructor is called with
    what a file says, whatever the file's size: where files come from strangers, check the arguments there, or override the
    class method `count_parameters(config)`, which `load` asks first.

    Class attributes to set where they differ: stateless = True if every step of the output depends on that step of the
    input alone (needed by `stream` and `reset=`); return_sequences = False if the output is (N, features), without time;
    input_kind = "tokens" if x holds integers; input_size and output_size, to have neighbours checked when a model is made.
    """

    native = False
    input_kind = "any"
    stateless: bool = False
    input_size: int | None = None
    output_size: int | None = None

    @abstractmethod
    def forward(
        self, x: Array, *, lengths: Array | None, training: bool, rng: np.random.Generator
    ) -> tuple[Array, Any]:
        """The output, and whatever `backward` shall be given.

        Args:
            x: (N, T, features), or (N, features) behind a layer that ends the time axis.
            lengths: (N,) valid steps of each row, or None if all are.
            training: False in inference.
            rng: seeded from the call's seed, so that training repeats; the same in every inference.
        """

    @abstractmethod
    def backward(self, dy: Array, saved: Any) -> Array | None:
        """The gradient with respect to x (None for tokens), of its shape and dtype; adds into `self.grads[name]`.

        What it adds there is undone where the model's backward fails later. The gradients of another model that it runs
        backwards, or that threads of its own add, are its own affair: they stay.

        Args:
            dy: gradient with respect to the output.
            saved: what `forward` gave beside the output.
        """

    @property
    def allows_holes(self) -> bool:  # type: ignore[override]
        """Whether a mask may leave steps out between others: if each step is worked on by itself."""
        return self.stateless

    def add_parameter(self, name: str, array: npt.ArrayLike) -> None:
        """A parameter with this initial value, float32 or float64; for `__init__`, before the layer is used."""
        if "_parameters" in self.__dict__:
            raise ValueError(
                f"{self.label}.add_parameter: got {name!r} after the layer was used, expected all before; add it in __init__"
            )
        value = np.array(array)
        first = next(iter(self._initial.values()), value)
        if value.dtype.name not in ("float32", "float64") or value.dtype != first.dtype:
            expected = "float32 or float64" if first is value else f"{first.dtype}, as the other parameters"
            dtype = "float32" if first is value else str(first.dtype)
            raise TypeError(
                f"{self.label}.add_parameter: got {name!r} of {value.dtype}, expected {expected}; write np.asarray(array, "
                f"{dtype!r})"
            )
        self._refuse_known(name)
        self._initial[name] = value

    def add_buffer(self, name: str, array: npt.ArrayLike) -> None:
        """An array that is saved but not trained; write into `self.buffers[name]`."""
        self._refuse_known(name)
        self._buffers[name] = np.array(array)

    def _refuse_known(self, name: str) -> None:
        if not name or "." in name or name in self._initial or name in self._buffers:
            raise ValueError(
                f"{self.label}: got the name {name!r} for a parameter or buffer, expected one that is new, not empty and "
                f"without dots; choose another"
            )

    # Both live in the instance but do not ask a user's __init__ to call this class's.

    @property
    def _initial(self) -> dict[str, Array]:
        values: dict[str, Array] = self.__dict__.setdefault("_initial_values", {})
        return values

    @property
    def _buffers(self) -> dict[str, Array]:
        values: dict[str, Array] = self.__dict__.setdefault("_buffer_values", {})
        return values

    @property
    def parameters(self) -> _core.Parameters:
        """All parameters in one flat buffer, their gradients in another."""
        if "_parameters" not in self.__dict__:
            dtype = self.dtype
            parameters = _core.Parameters(
                dtype.name if dtype else "float32", [(name, value.shape) for name, value in self._initial.items()]
            )
            for name, value in self._initial.items():
                parameters.assign(name, value)
            self._parameters = parameters
        return self._parameters

    @property
    def grads(self) -> Gradients:
        """Writable views of the gradients by name; inside `backward`, of what that adds to them, which is zero at first."""
        return contributions.of(self) or super().grads

    @property
    def own_buffers(self) -> Mapping[str, Array]:
        """The arrays behind `buffers`."""
        return self._buffers

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """That of the parameters; None if there are none."""
        return next((value.dtype for value in self._initial.values()), None)

    def reset_parameters(self, seed: int | None = None) -> None:
        """Back to the initial values; a class that draws them at random may override this."""
        for name, value in self._initial.items():
            self.parameters.assign(name, value)

    def why_not_streamable(self) -> str | None:
        """It can if it says that it is stateless."""
        if self.stateless and self.return_sequences:
            return None
        return (
            "is written in Python and may look at other steps; "
            "set stateless = True in its class if each step of the output depends on that step of the input alone"
        )
