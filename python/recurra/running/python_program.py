"""Runs a layer written in Python: what `_core.Program`, its tape and its stream are to native layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from recurra.common import checks, seeds
from recurra.common.typing import Array

if TYPE_CHECKING:
    from recurra.layers.python_layer import PythonLayer


def _without_padding(array: Array, lengths: Array | None) -> Array:
    """`array` with zeros past the lengths; itself if there is no padding."""
    if lengths is None or bool((lengths >= array.shape[1]).all()):
        return array
    valid = checks.steps_within(lengths, array.shape[1])
    return np.where(valid.reshape(valid.shape + (1,) * (array.ndim - 2)), array, array.dtype.type(0))


def _guarded(array: Array) -> Array:
    """A view that cannot be written, for users' code."""
    view: Array = array.view()
    view.flags.writeable = False
    return view


def _apart(array: Array) -> Array:
    """`array`, or a copy if it is a view: of what a method was given, a parameter, anything that somebody may write to."""
    return array if array.base is None else array.copy()


def _is_sequence(x: Array) -> bool:
    """Whether x has a time axis: features have one more axis than tokens."""
    return x.ndim > (2 if x.dtype.kind == "f" else 1)


def _nbytes(value: Any) -> int:
    """Bytes of the arrays in whatever a user's forward saved."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, dict):
        return sum(map(_nbytes, value.values()))
    return sum(map(_nbytes, value)) if isinstance(value, list | tuple) else 0


class PythonProgram:
    """Checks and masks around a user's `forward`."""

    def __init__(self, layer: PythonLayer) -> None:
        self._layer = layer

    def run(self, x: Array, lengths: Array | None, reset: Array | None, training: bool, seed: int) -> tuple[Array, Any]:
        """The output, read-only, and what the user saved."""
        layer = self._layer
        self._check_input(x, lengths, reset)
        result: Any = layer.forward(
            _guarded(_without_padding(x, lengths)),
            lengths=None if lengths is None else _guarded(lengths),
            training=training,
            rng=seeds.generator(seed),
        )
        if not isinstance(result, tuple) or len(result) != 2:
            raise TypeError(
                f"{layer.label}.forward: got a {type(result).__name__} back, expected the pair (y, saved); return both, "
                f"None as saved if backward needs nothing"
            )
        y, saved = result
        self._check_output(y, x)
        return _guarded(_apart(_without_padding(y, lengths if layer.return_sequences else None))), saved

    def _check_input(self, x: Array, lengths: Array | None, reset: Array | None) -> None:
        layer = self._layer
        floats = [layer.dtype.name] if layer.dtype else ["float32", "float64"]
        allowed = {"tokens": ["integers"], "features": floats, "any": [*floats, "integers"]}[layer.input_kind]
        if ("integers" if x.dtype.kind in "iu" else x.dtype.name) not in allowed:
            raise TypeError(f"{layer.label}: got x of {x.dtype}, expected {' or '.join(allowed)}; write x.astype(...)")
        if x.ndim < 2:
            raise ValueError(f"{layer.label}: got x of shape {x.shape}, expected rows first; add an axis, x[None]")
        if layer.input_size is not None and x.dtype.kind == "f" and x.shape[-1] != layer.input_size:
            raise ValueError(
                f"{layer.label}: got {x.shape[-1]} features, expected {layer.input_size}; change x or input_size"
            )
        if lengths is not None and not _is_sequence(x):
            raise ValueError(
                f"{layer.label}: got lengths for x of shape {x.shape}, expected none without a time axis; leave lengths out"
            )
        if lengths is not None:
            checks.lengths_within(layer.label, lengths, *x.shape[:2])
        if reset is not None and not layer.stateless:
            raise ValueError(
                f"{layer.label}: got reset, expected none, as only a layer with stateless = True can honour it; set that in "
                f"the class if each step of the output depends on that step of the input alone, or leave reset out"
            )

    def _check_output(self, y: Any, x: Array) -> None:
        layer = self._layer
        kept = 2 if layer.return_sequences and _is_sequence(x) else 1
        floats = [layer.dtype] if layer.dtype else [x.dtype] if x.dtype.kind == "f" else [np.float32, np.float64]
        if not isinstance(y, np.ndarray) or y.dtype not in floats:
            got = y.dtype if isinstance(y, np.ndarray) else type(y).__name__
            expected = " or ".join(np.dtype(one).name for one in floats)
            raise TypeError(
                f"{layer.label}.forward: got y of {got}, expected an array of {expected}; write y.astype(...)"
            )
        fits = y.ndim == kept + 1 and y.shape[:kept] == x.shape[:kept] and layer.output_size in (None, y.shape[-1])
        if not fits:
            wanted = ", ".join([*map(str, x.shape[:kept]), str(layer.output_size or "features")])
            raise ValueError(
                f"{layer.label}.forward: got y of shape {y.shape}, expected ({wanted}); "
                f"set return_sequences = False in the class if the time axis ends here"
            )

    def forward(
        self,
        x: Array,
        lengths: Array | None = None,
        reset: Array | None = None,
        state: Sequence[Array] | None = None,
        time_major: bool = False,
    ) -> tuple[Array, list[Array]]:
        """Inference; there is no state."""
        y, _saved = self.run(x, lengths, reset, False, 0)
        return y, []

    def record(
        self,
        x: Array,
        lengths: Array | None = None,
        reset: Array | None = None,
        state: Sequence[Array] | None = None,
        time_major: bool = False,
        training: bool = True,
        input_grad: bool = True,
        seed: int = 0,
        memory_budget: int | None = None,
        finishes: bool = True,
    ) -> PythonTape:
        """The same, remembered."""
        y, saved = self.run(x, lengths, reset, training, seed)
        wanted = (x.shape, x.dtype) if input_grad and x.dtype.kind == "f" else None
        return PythonTape(self._layer, y, saved, lengths, wanted)

    def stream(self, batch_size: int) -> PythonStream:
        """Steps, for a stateless layer."""
        return PythonStream(self, batch_size)


class PythonTape:
    """What a user's `forward` saved, for one `backward`."""

    def __init__(
        self,
        layer: PythonLayer,
        y: Array,
        saved: Any,
        lengths: Array | None,
        wanted: tuple[tuple[int, ...], np.dtype[Any]] | None,
    ) -> None:
        self._layer, self._y, self._saved, self._lengths, self._wanted = layer, y, saved, lengths, wanted
        self._closed = self._used = False

    @property
    def y(self) -> Array:
        """The output."""
        self._refuse_if_closed()
        return self._y

    @property
    def state(self) -> list[Array]:
        """Nothing is carried."""
        self._refuse_if_closed()
        return []

    @property
    def nbytes(self) -> int:
        """Bytes of the output and of the arrays in what was saved."""
        return 0 if self._closed else self._y.nbytes + _nbytes(self._saved)

    @property
    def closed(self) -> bool:
        """Whether it was used or closed."""
        return self._closed or self._used

    def close(self) -> None:
        """Drop what was saved."""
        self._closed, self._saved, self._y = True, None, self._y[:0]

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise ValueError(f"{self._layer.label}: got a tape that is closed, expected an open one; record again")

    def backward(
        self,
        dy: Array | None,
        dstate: Sequence[Array | None] | None,
        more: Sequence[Any] = (),
        commits: bool = True,
    ) -> tuple[Array | None, list[Array]]:
        """Checks and masks around a user's `backward`."""
        layer, y = self._layer, self.y
        if self._used:
            raise ValueError(f"{layer.label}.backward: got a tape that was used, expected a fresh one; record again")
        if dy is None:
            dy = np.zeros_like(y)
        if dy.shape != y.shape or dy.dtype != y.dtype:
            raise (ValueError if dy.dtype == y.dtype else TypeError)(
                f"{layer.label}.backward: got dy of shape {dy.shape} and {dy.dtype}, expected {y.shape} and {y.dtype}, as y; "
                f"reshape it or write dy.astype(...)"
            )
        saved = self._saved
        self._used, self._saved = True, None
        dx = layer.backward(_guarded(_without_padding(dy, self._lengths if layer.return_sequences else None)), saved)
        if self._wanted is None:
            return None, []
        shape, dtype = self._wanted
        if not isinstance(dx, np.ndarray) or dx.shape != shape or dx.dtype != dtype:
            got = f"an array of shape {dx.shape} and {dx.dtype}" if isinstance(dx, np.ndarray) else type(dx).__name__
            raise ValueError(
                f"{layer.label}.backward: got {got} back, expected the gradient with respect to x, of shape {shape} and "
                f"{dtype}; return dx"
            )
        return _apart(_without_padding(dx, self._lengths)), []


class PythonStream:
    """Steps through a layer that carries nothing from one to the next."""

    def __init__(self, program: PythonProgram, batch_size: int) -> None:
        self._program, self.batch_size = program, batch_size

    def step(self, x: Array, reset: Array | None = None, out: Array | None = None) -> Array:
        """One step, as a sequence of one."""
        return self.process(np.asarray(x)[:, None], None if reset is None else np.asarray(reset)[:, None])[:, 0]

    def process(self, x: Array, reset: Array | None = None, out: Array | None = None) -> Array:
        """A chunk, as a whole sequence."""
        x = np.asarray(x)
        if x.shape[:1] != (self.batch_size,):
            raise ValueError(
                f"stream: got x of shape {x.shape}, expected {self.batch_size} rows; make a stream of as many"
            )
        y, _saved = self._program.run(x, None, reset, False, 0)
        return y

    def reset(self, rows: Array | None = None) -> None:
        """Nothing to forget."""

    def state(self) -> list[Array]:
        """Nothing is carried."""
        return []

    def load_state(self, state: Sequence[Array]) -> None:
        """Nothing to take over."""

    def fork(self, copies: int) -> PythonStream:
        """More rows."""
        return PythonStream(self._program, self.batch_size * copies)
