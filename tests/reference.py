"""The specification of recurra's recurrent layers: plain float64 numpy, written to be read.

Everything else (native code, PyTorch, finite differences) is compared with this file. One row and one step at a time,
no batching, no tricks. Shapes: N rows, T steps, I inputs, H hidden units, D directions, L layers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
State = tuple[Array, ...]  # (h,) or (h, c)


def sigmoid(v: Array) -> Array:
    return 0.5 * (1.0 + np.tanh(0.5 * v))  # 1 / (1 + exp(-v)), without overflow


# Cells: one step of one row. x (I,), state (h,) or (h, c) of (H,), W_ih (G*H, I), W_hh (G*H, H), b_ih and b_hh (G*H,).


def rnn(activation: Callable[[Array], Array]) -> Callable[..., State]:
    """Elman 1990: h' = act(W_ih x + b_ih + W_hh h + b_hh)."""

    def step(x: Array, state: State, w_ih: Array, w_hh: Array, b_ih: Array, b_hh: Array) -> State:
        (h,) = state
        return (activation(w_ih @ x + b_ih + w_hh @ h + b_hh),)

    return step


def lstm(x: Array, state: State, w_ih: Array, w_hh: Array, b_ih: Array, b_hh: Array) -> State:
    """Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000; gates i, f, g, o."""
    h, c = state
    i, f, g, o = np.split(w_ih @ x + b_ih + w_hh @ h + b_hh, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def gru(x: Array, state: State, w_ih: Array, w_hh: Array, b_ih: Array, b_hh: Array) -> State:
    """Cho et al. 2014 in PyTorch's and cuDNN's form: the reset gate acts after the recurrent product; gates r, z, n."""
    (h,) = state
    ir, iz, i_n = np.split(w_ih @ x + b_ih, 3)
    hr, hz, hn = np.split(w_hh @ h + b_hh, 3)
    r, z = sigmoid(ir + hr), sigmoid(iz + hz)
    n = np.tanh(i_n + r * hn)
    return ((1.0 - z) * n + z * h,)


def gru_reset_before(x: Array, state: State, w_ih: Array, w_hh: Array, b_ih: Array, b_hh: Array) -> State:
    """Cho et al. 2014 as first published: the reset gate acts on the state, before the recurrent product."""
    (h,) = state
    w_hr, w_hz, w_hn = np.split(w_hh, 3)
    ir, iz, i_n = np.split(w_ih @ x + b_ih + b_hh, 3)
    r, z = sigmoid(ir + w_hr @ h), sigmoid(iz + w_hz @ h)
    n = np.tanh(i_n + w_hn @ (r * h))
    return ((1.0 - z) * n + z * h,)


def positive(v: Array) -> Array:
    """g of Feng et al. 2024, appendix: continuous, growing, above 0."""
    return np.where(v >= 0.0, v + 0.5, sigmoid(v))


def min_gru(g: Callable[[Array], Array]) -> Callable[..., State]:
    """Feng et al. 2024: z = sigmoid(W_z x + b_z), h' = (1 - z) h + z g(W_n x + b_n); gates z, n."""

    def step(x: Array, state: State, w_ih: Array, b_ih: Array) -> State:
        (h,) = state
        z, n = np.split(w_ih @ x + b_ih, 2)
        return ((1.0 - sigmoid(z)) * h + sigmoid(z) * g(n),)

    return step


def min_lstm(g: Callable[[Array], Array]) -> Callable[..., State]:
    """Feng et al. 2024: h' = f / (f + i) h + i / (f + i) g(W_n x + b_n), f and i sigmoids of x; gates f, i, n."""

    def step(x: Array, state: State, w_ih: Array, b_ih: Array) -> State:
        (h,) = state
        f, i, n = np.split(w_ih @ x + b_ih, 3)
        log_ratio = np.logaddexp(0.0, -i) - np.logaddexp(0.0, -f)  # of the sigmoids, f / i
        return (sigmoid(log_ratio) * h + sigmoid(-log_ratio) * g(n),)

    return step


@dataclass(frozen=True)
class Cell:
    step: Callable[..., State]
    gates: int  # G
    parts: int  # arrays in the state
    gates_see_state: bool = True  # else there are no W_hh and b_hh


CELLS = {
    "rnn_tanh": Cell(rnn(np.tanh), 1, 1),
    "rnn_relu": Cell(rnn(lambda v: np.maximum(v, 0.0)), 1, 1),
    "rnn_sigmoid": Cell(rnn(sigmoid), 1, 1),
    "lstm": Cell(lstm, 4, 2),
    "gru": Cell(gru, 3, 1),
    "gru_reset_before": Cell(gru_reset_before, 3, 1),
    "min_gru": Cell(min_gru(lambda v: v), 2, 1, gates_see_state=False),
    "min_gru_positive": Cell(min_gru(positive), 2, 1, gates_see_state=False),
    "min_lstm": Cell(min_lstm(lambda v: v), 3, 1, gates_see_state=False),
    "min_lstm_positive": Cell(min_lstm(positive), 3, 1, gates_see_state=False),
}


def run(
    cell: str,
    params: Mapping[str, Array],
    x: Array,
    *,
    num_layers: int = 1,
    bidirectional: bool = False,
    lengths: Sequence[int] | npt.NDArray[np.int64] | None = None,
    reset: npt.NDArray[np.bool_] | None = None,
    state: State | None = None,
) -> tuple[Array, State]:
    """A stack of recurrent layers without dropout: x (N, T, I), state parts (L*D, N, H) -> y (N, T, D*H), state parts.

    Row n runs over its first lengths[n] steps only; y is 0 past them, and the final state is the one after the last of
    them (the initial one where there is none). reset[n, t] says that an episode starts at step t: no state crosses from
    t - 1 to t in the forward direction, nor from t to t - 1 in the reverse one. reset[n, 0] drops the initial state.
    """
    rows, steps, directions = x.shape[0], x.shape[1], 2 if bidirectional else 1
    spec = CELLS[cell]
    hidden = len(params["weight_ih_l0"]) // spec.gates
    sources = ("ih", "hh") if spec.gates_see_state else ("ih",)
    shape = (num_layers * directions, rows, hidden)
    final = [np.zeros(shape) if state is None else state[p].copy() for p in range(spec.parts)]
    y = np.asarray(x, np.float64)
    for layer in range(num_layers):
        x, y = y, np.zeros((rows, steps, directions * hidden))
        for direction in range(directions):
            suffix = f"_l{layer}" + ("_reverse" if direction else "")
            no_bias = np.zeros(spec.gates * hidden)
            weights = [params[f"weight_{source}{suffix}"] for source in sources]
            weights += [params.get(f"bias_{source}{suffix}", no_bias) for source in sources]
            slot, columns = layer * directions + direction, slice(direction * hidden, (direction + 1) * hidden)
            for row in range(rows):
                length = steps if lengths is None else int(lengths[row])
                s = tuple(part[slot, row] for part in final)
                for t in reversed(range(length)) if direction else range(length):
                    boundary = t + direction  # an episode starts here: the reverse direction arrives from step t + 1
                    if reset is not None and boundary < length and reset[row, boundary]:
                        s = tuple(np.zeros(hidden) for _ in s)
                    s = spec.step(x[row, t], s, *weights)
                    y[row, t, columns] = s[0]
                for part, value in zip(final, s, strict=True):
                    part[slot, row] = value
    return y, tuple(final)


def central_difference(
    f: Callable[[], float], array: Array, entries: npt.NDArray[np.intp], step: float = 1e-5
) -> Array:
    """d f() / d array.flat[entries] by central differences; f reads `array`, which is put back as it was.

    With values of order 1, truncation (step**2) and rounding (2**-52 / step) both stay near 1e-10.
    """
    flat = array.reshape(-1)  # a view: the arrays of the tests are contiguous
    result = np.empty(len(entries))
    for k, entry in enumerate(entries):
        kept = flat[entry]
        flat[entry] = kept + step
        above = f()
        flat[entry] = kept - step
        below = f()
        flat[entry] = kept
        result[k] = (above - below) / (2.0 * step)
    return result
