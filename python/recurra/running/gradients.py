"""Gradients by name: a layer's own, or separate ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from recurra import _core
from recurra.common import checks
from recurra.common.typing import Array
from recurra.running.arrays import NamedArrays, Parts


class SparseGradient(np.ndarray[Any, np.dtype[Any]]):
    """A read-only view of a sparse gradient, whose errors say how to write it; results of computations are plain
    arrays."""

    def _check(self) -> None:
        if not self.flags.writeable:
            raise ValueError(
                "grads: got a write to a view of a sparse gradient, expected an assignment of the whole array, as "
                "recurra keeps a list of its non-zero rows; write grads[name] = array, such as grads[name] = "
                "grads[name] + more"
            )

    def __setitem__(self, key: Any, value: Any) -> None:
        self._check()
        super().__setitem__(key, value)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        for array in options.get("out", ()):
            if isinstance(array, SparseGradient):
                array._check()
        if "out" in options:
            options["out"] = tuple(_plain(array) for array in options["out"])
        return getattr(ufunc, method)(*map(_plain, inputs), **options)


def _plain(array: Any) -> Any:
    return array.view(np.ndarray) if isinstance(array, SparseGradient) else array


class Gradients(NamedArrays):
    """Writable views of gradients by name: those of a layer or a model, its `grads`.

    The gradient of an Embedding with sparse=True is a read-only view; `grads[name] = array` writes it.

    Example:
        >>> layer = rc.Linear(3, 2)
        >>> layer.grads["bias"][:] = 1
        >>> layer.zero_grad()
        >>> layer.grads["bias"].tolist()
        [0.0, 0.0]
    """

    def __init__(self, parts: Parts) -> None:
        super().__init__("grads", parts, self._view, self._assign)
        self._parts = parts

    @property
    def cores(self) -> Sequence[_core.Gradient]:
        """The core's accumulators, one for each layer."""
        return [_core.Gradient(parameters) for _prefix, parameters in self._parts]

    def add(self, other: Gradients) -> None:
        """Add the gradients `other` of the same model, or of a copy of it, atomically.

        Raises:
            TypeError: `other` is not gradients.
            ValueError: gradients of other parameters, or these gradients themselves.
        """
        operation = "grads.add"
        if not isinstance(other, Gradients):
            raise TypeError(
                f"{operation}: got {type(other).__name__}, expected gradients; give new_grads() or grads of a model"
            )
        if self._layout != other._layout:
            raise ValueError(
                f"{operation}: got gradients ({', '.join(other) or 'none'}) of parameters other than these "
                f"({', '.join(self) or 'none'}), expected the same names, shapes and dtypes; make both with "
                "new_grads() of one model"
            )
        if any(mine is others for mine, others in zip(self._memory, other._memory, strict=True)):
            raise ValueError(f"{operation}: got these gradients themselves, expected others; write grads[name] *= 2")
        _core.sum_gradients(self.cores, other.cores)

    def zero(self) -> None:
        """Set all gradients to zero."""
        for core in self.cores:
            core.zero()

    def grad_rows(self, name: str) -> Array | None:
        """The rows of a sparse Embedding's weight that gradients have reached, ascending; None for dense gradients."""
        parameters, _name = self._place(name)
        return self._core_of(parameters).rows

    @property
    def _layout(self) -> list[Any]:
        return [
            (prefix, one.dtype, one.sparse, [(name, one.shape(name)) for name in one.names])
            for prefix, one in self._parts
        ]

    @property
    def _memory(self) -> Sequence[object]:
        """An object for each layer that identifies its memory, to find gradients that share it."""
        return [parameters for _prefix, parameters in self._parts]

    def _core_of(self, parameters: _core.Parameters) -> _core.Gradient:
        return next(core for core, (_prefix, one) in zip(self.cores, self._parts, strict=True) if one is parameters)

    def _flat(self, parameters: _core.Parameters, name: str) -> Array:
        return parameters.grad(name)

    def _view(self, parameters: _core.Parameters, name: str) -> Array:
        gradient = self._flat(parameters, name)
        return gradient.view(SparseGradient) if parameters.sparse else gradient

    def _assign(self, parameters: _core.Parameters, name: str, array: Array) -> None:
        if parameters.sparse:  # also updates the list of non-zero rows
            self._core_of(parameters).assign(name, array)
        else:
            self._flat(parameters, name)[...] = array  # also the last step of `grads[name] += array`


class FlatGradients(Gradients):
    """Separate gradients for `Tape.backward(dy, grads=...)`, made by `new_grads`.

    They start at zero; each backward adds to them, and leaves the model's own `grads` unchanged.

    Attributes: flat, (size,), all dense gradients in one array, in the order of the names, which have views of it:
    workers sum it in one operation. Gradients of embeddings with sparse=True are not in it: exchange their `grad_rows`.

    Example:
        >>> layer = rc.Linear(3, 2)
        >>> own = layer.new_grads()
        >>> tape = layer.record(np.ones((1, 4, 3), np.float32))
        >>> _ = tape.backward(np.ones_like(tape.y), grads=own)
        >>> own["bias"].tolist(), layer.grads["bias"].tolist()
        ([4.0, 4.0], [0.0, 0.0])
    """

    def __init__(self, operation: str, parts: Parts, flat: Any = None) -> None:
        super().__init__(parts)
        dense = [one for _prefix, one in parts if one.size and not one.sparse]
        size, dtype = sum(one.size for one in dense), next((one.dtype for _prefix, one in parts if one.size), "float32")
        self.flat: Array = np.zeros(size, dtype) if flat is None else _checked(operation, flat, size, dtype)
        self._arrays = {one: np.zeros(one.size, one.dtype) for _prefix, one in parts if one.sparse or not one.size}
        begin = 0
        for one in dense:
            self._arrays[one] = self.flat[begin : begin + one.size]
            begin += one.size
        self._cores = [_core.Gradient(one, self._arrays[one]) for _prefix, one in parts]

    @property
    def cores(self) -> Sequence[_core.Gradient]:
        """The core's accumulators, one for each layer."""
        return self._cores

    @property
    def _memory(self) -> Sequence[object]:
        return self._cores

    def _flat(self, parameters: _core.Parameters, name: str) -> Array:
        begin, end = parameters.span(name)
        view = self._arrays[parameters][begin:end].reshape(parameters.shape(name))
        view.flags.writeable = not parameters.sparse
        return view


def _checked(operation: str, flat: Any, size: int, dtype: str) -> Array:
    array = checks.array(operation, "flat", flat)
    if array.dtype != dtype:
        raise TypeError(
            f"{operation}: got flat of {array.dtype}, expected {dtype}; make it np.zeros({size}, {dtype!r})"
        )
    if array.shape != (size,) or not array.flags.carray:
        got = f"shape {array.shape}" if array.shape != (size,) else "memory that is strided, misaligned or read-only"
        raise ValueError(
            f"{operation}: got flat of {got}, expected a contiguous, writable array of shape ({size},), as many "
            f"numbers as there are parameters, those of sparse embeddings aside; make it np.zeros({size}, {dtype!r})"
        )
    return array


def cores_of(operation: str, grads: Any) -> Sequence[_core.Gradient] | None:
    """The core's accumulators for the argument `grads` of a backward; None for the layers' own gradients."""
    if grads is None:
        return None
    if not isinstance(grads, Gradients):
        raise TypeError(
            f"{operation}: got grads of {type(grads).__name__}, expected gradients of the model; make them with "
            "new_grads()"
        )
    return grads.cores
