"""The counterparts of `_core.Program` and `_core.Stream` for a layer written in Python."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from recurra.common import checks, seeds
from recurra.common.typing import Array
from recurra.running import users_arrays
from recurra.running.python_tape import PythonTape

if TYPE_CHECKING:
    from recurra.layers.python_layer import PythonLayer
    from recurra.running.stream import Rows


def _is_sequence(x: Array) -> bool:
    """Whether x has a time axis: features have one more axis than tokens."""
    return x.ndim > (2 if x.dtype.kind == "f" else 1)


class PythonProgram:
    """A user's `forward`, with its arguments and results checked and padding zeroed."""

    def __init__(self, layer: PythonLayer) -> None:
        self._layer = layer

    def run(self, x: Array, lengths: Array | None, reset: Array | None, training: bool, seed: int) -> tuple[Array, Any]:
        """The output, read-only, and what `forward` saved for backward."""
        layer = self._layer
        self._check_input(x, lengths, reset)
        result: Any = layer.forward(
            users_arrays.guarded(users_arrays.without_padding(x, lengths)),
            lengths=None if lengths is None else users_arrays.guarded(lengths),
            training=training,
            rng=seeds.generator(seed),
        )
        if not isinstance(result, tuple) or len(result) != 2:
            raise TypeError(
                f"{layer.label}.forward: got {type(result).__name__} as its result, expected the pair (y, saved); "
                "return both, with None as saved if backward needs nothing"
            )
        y, saved = result
        self._check_output(y, x)
        return users_arrays.guarded(
            users_arrays.apart(users_arrays.without_padding(y, lengths if layer.return_sequences else None))
        ), saved

    def _check_input(self, x: Array, lengths: Array | None, reset: Array | None) -> None:
        layer = self._layer
        floats = [layer.dtype.name] if layer.dtype else ["float32", "float64"]
        allowed = {"tokens": ["integers"], "features": floats, "any": [*floats, "integers"]}[layer.input_kind]
        if ("integers" if x.dtype.kind in "iu" else x.dtype.name) not in allowed:
            raise TypeError(f"{layer.label}: got x of {x.dtype}, expected {' or '.join(allowed)}; write x.astype(...)")
        if x.ndim < 2:
            raise ValueError(
                f"{layer.label}: got x of shape {x.shape}, expected (N, ...), rows first; add the batch axis, x[None]"
            )
        if layer.input_size is not None and x.dtype.kind == "f" and x.shape[-1] != layer.input_size:
            raise ValueError(
                f"{layer.label}: got {x.shape[-1]} features, expected {layer.input_size}; change x or input_size"
            )
        if lengths is not None and not _is_sequence(x):
            raise ValueError(
                f"{layer.label}: got lengths for x of shape {x.shape}, expected none without a time axis; leave "
                f"lengths out"
            )
        if lengths is not None:
            checks.lengths_within(layer.label, lengths, *x.shape[:2])
        if reset is not None and not layer.stateless:
            raise ValueError(
                f"{layer.label}: got reset, expected none, as only a layer with stateless = True supports it; set that "
                "in the class if each step of the output depends only on the same step of the input, or leave reset "
                "out"
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
                f"set return_sequences = False in the class if the output has no time axis"
            )

    def forward(
        self,
        x: Array,
        lengths: Array | None = None,
        reset: Array | None = None,
        state: Sequence[Array] | None = None,
        time_major: bool = False,
    ) -> tuple[Array, list[Array]]:
        """The output, for inference, and the state, which is empty."""
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
        first_row: int = 0,
    ) -> PythonTape:
        """The tape of a forward, recorded for backward."""
        own = seeds.derive(seed, first_row) if first_row else seed  # parts of a batch draw other numbers
        y, saved = self.run(x, lengths, reset, training, own)
        wanted = (x.shape, x.dtype) if input_grad and x.dtype.kind == "f" else None
        return PythonTape(self._layer, y, saved, lengths, wanted)

    def stream(self, batch_size: int) -> PythonStream:
        """A stream, for a stateless layer."""
        return PythonStream(self, batch_size)


class PythonStream:
    """The stream of a stateless layer."""

    def __init__(self, program: PythonProgram, batch_size: int) -> None:
        self._program, self.batch_size = program, batch_size

    def step(self, x: Array, reset: Array | None = None, out: Array | None = None, rows: Rows | None = None) -> Array:
        """One step, run as a sequence of length 1."""
        once = None if reset is None else np.asarray(reset)[:, None]
        return self.process(np.asarray(x)[:, None], once, None, rows)[:, 0]

    def process(
        self, x: Array, reset: Array | None = None, out: Array | None = None, rows: Rows | None = None
    ) -> Array:
        """A chunk, run as a whole sequence."""
        x = np.asarray(x)
        if x.shape[:1] != (expected := self.batch_size if rows is None else np.size(rows),):
            wanted = "make a stream with that batch_size" if rows is None else "one for each of `rows`"
            raise ValueError(f"stream: got x of shape {x.shape}, expected {expected} rows; {wanted}")
        y, _saved = self._program.run(x, None, reset, False, 0)
        return y

    def reset(self, rows: Rows | None = None) -> None:
        """Nothing to reset."""

    def state(self, rows: Rows | None = None) -> list[Array]:
        """Always empty."""
        return []

    def load_state(self, state: Sequence[Array], rows: Rows | None = None) -> None:
        """Nothing to load."""

    def copy_rows(self, source: Rows, target: Rows) -> None:
        """Nothing to copy."""

    def fork(self, copies: int, rows: Rows | None = None) -> PythonStream:
        """A stream of N * copies rows."""
        return PythonStream(self._program, copies * (self.batch_size if rows is None else np.size(rows)))
