"""The base of layers that users write in Python, alone or in models with native ones."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from recurra import _core
from recurra.common.typing import Array
from recurra.layers.leaf import LeafLayer
from recurra.running.gradients import Gradients


class PythonLayer(LeafLayer):
    """The class to derive from: define `forward` and `backward`, and keep the constructor's arguments as attributes.

        >>> class Scale(rc.PythonLayer):
        ...     stateless = True
        ...
        ...     def __init__(self, size):
        ...         self.size = size
        ...         self.add_parameter("scale", np.full(size, 2, np.float32))
        ...
        ...     def forward(self, x, *, lengths, training, rng):
        ...         return x * self.params["scale"], x
        ...
        ...     def backward(self, dy, x):
        ...         self.grads["scale"] += (dy * x).sum((0, 1))
        ...         return dy * self.params["scale"]
        >>> model = rc.Sequential(rc.GRU(3, 8), Scale(8), rc.Linear(8, 2))
        >>> model(np.ones((2, 5, 3), np.float32))[0].shape
        (2, 5, 2)

    Such a class trains, saves (`recurra.load(path, custom={"Scale": Scale})`), pickles and streams. Neither method sees
    padding (x and dy are 0 there), and what they write there is set to 0. x, dy and lengths are read-only. `forward`
    runs again if another thread has written the model's parameters meanwhile. The layer's dtype is that of its
    parameters. A class with random initial values takes a seed or has a fixed one. `load` calls the constructor with a
    file's values, whatever the file's size: for untrusted files, check the arguments there, or override the class
    method `count_parameters(config)`, which `load` calls first.

    Class attributes to set where the default is wrong: stateless = True if each output step depends on that input step
    alone (needed by `stream` and `reset=`); return_sequences = False if the output is (N, features), without a time
    axis; input_kind = "tokens" if x holds integers; input_size and output_size, for checks against neighbouring layers.
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
        """The output, and any object for `backward`.

        Args:
            x: (N, T, features), or (N, features) after a layer that removes the time axis.
            lengths: (N,) valid steps of each row; None if all are valid.
            training: whether a tape records in training mode; False in inference.
            rng: derived from the call's seed, so that runs are reproducible; the same in every inference.
        """

    @abstractmethod
    def backward(self, dy: Array, saved: Any) -> Array | None:
        """The gradient with respect to x, of its shape and dtype (None for tokens).

        Adds the parameters' gradients to `self.grads[name]`; they are rolled back if the model's backward fails later.
        Gradients that it adds elsewhere, by another model's backward or on threads of its own, are not.

        Args:
            dy: the gradient with respect to the output.
            saved: the object that `forward` returned with the output.
        """

    @property
    def allows_holes(self) -> bool:  # type: ignore[override]
        """Whether a mask may leave out steps between valid ones: only if the layer is stateless."""
        return self.stateless

    def add_parameter(self, name: str, array: npt.ArrayLike) -> None:
        """Add a parameter with the initial value `array`, float32 or float64; call it in `__init__`."""
        if "_parameters" in self.__dict__:
            raise ValueError(
                f"{self.label}.add_parameter: got {name!r} after the layer was used, expected all before; add it in "
                "__init__"
            )
        value = np.array(array)
        first = next(iter(self._initial.values()), value)
        if value.dtype.name not in ("float32", "float64") or value.dtype != first.dtype:
            expected = "float32 or float64" if first is value else f"{first.dtype}, as the other parameters"
            dtype = "float32" if first is value else str(first.dtype)
            raise TypeError(
                f"{self.label}.add_parameter: got {name!r} of {value.dtype}, expected {expected}; write "
                f"np.asarray(array, {dtype!r})"
            )
        self._refuse_known(name)
        self._initial[name] = value

    def add_buffer(self, name: str, array: npt.ArrayLike) -> None:
        """Add an array that is saved but not trained; write to it as `self.buffers[name]`."""
        self._refuse_known(name)
        self._buffers[name] = np.array(array)

    def _refuse_known(self, name: str) -> None:
        if not name or "." in name or name in self._initial or name in self._buffers:
            raise ValueError(
                f"{self.label}: got the name {name!r} for a parameter or buffer, expected a new one, not empty and "
                "without dots; choose another"
            )

    # Made on first access, so that a user's __init__ need not call super().__init__().

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
        """Writable views of the gradients by name; inside `backward`, of this call's contribution alone."""
        from recurra.running import contributions  # late: few programs have layers written in Python

        return contributions.of(self) or super().grads

    @property
    def own_buffers(self) -> Mapping[str, Array]:
        """The arrays behind `buffers`."""
        return self._buffers

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """The parameters' dtype; None without parameters."""
        return next((value.dtype for value in self._initial.values()), None)

    def reset_parameters(self, seed: int | None = None) -> None:
        """Restore the initial values; a class with random ones may override this."""
        for name, value in self._initial.items():
            self.parameters.assign(name, value)

    def why_not_streamable(self) -> str | None:
        """Streams if declared stateless."""
        if self.stateless and self.return_sequences:
            return None
        return (
            "is written in Python and may look at other steps; "
            "set stateless = True in its class if each step of the output depends on that step of the input alone"
        )
