"""The specification of recurra's recurrent layers: plain float64 numpy, written to be read.

Everything else (native code, PyTorch, finite differences) is compared with this file. One row and one step at a time,
no batching, no tricks. Shapes: N rows, T steps, I inputs, H hidden units, P of h where it is projected, D directions,
L layers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

import masks

Array = npt.NDArray[np.float64]
State = tuple[Array, ...]  # (h,) or (h, c)


def sigmoid(v: Array) -> Array:
    return 0.5 * (1.0 + np.tanh(0.5 * v))  # 1 / (1 + exp(-v)), without overflow


def hard_sigmoid(alpha: float, beta: float) -> Callable[[Array], Array]:
    return lambda v: np.clip(alpha * v + beta, 0.0, 1.0)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "relu": lambda v: np.maximum(v, 0.0),
    "hard_sigmoid": hard_sigmoid(1.0 / 6.0, 0.5),  # of Keras 3 and PyTorch
    "softsign": lambda v: np.where(np.isinf(v), np.sign(v), v / (1.0 + np.abs(v))),  # its limits at the ends
    "linear": lambda v: v,
}
Name = str | tuple[str, float, float]  # or a hard sigmoid's alpha and beta: 0.2, 0.5 in Keras 1 and 2, and in ONNX


def activation(name: Name) -> Callable[[Array], Array]:
    return ACTIVATIONS[name] if isinstance(name, str) else hard_sigmoid(name[1], name[2])


def norm(v: Array) -> Array:
    """Ba, Kiros, Hinton 2016, before gain and bias."""
    return (v - v.mean()) / np.sqrt(v.var() + 1e-5)


@dataclass(frozen=True)
class Options:
    """Options without parameters. Other options are on if a layer has their parameters, see Weights."""

    dropout: float = 0.0  # chances: between layers,
    input_dropout: float = 0.0  # of a layer's input,
    recurrent_dropout: float = 0.0  # of h as the products see it (these two: Gal and Ghahramani 2016),
    zoneout: float = 0.0  # of h to stay as it was,
    zoneout_cell: float = 0.0  # of c (these two: Krueger et al. 2017)
    cell_clip: float = np.inf
    recurrent_activation: Name = "sigmoid"  # of the gates
    activation: Name = "tanh"  # of the candidate, and of the LSTM's c on its way to h
    output_activation: Name | None = None  # of the latter, where it is another one
    nonlinearity: Name | None = None  # of the plain RNN, where it is not its cell's


@dataclass(frozen=True)
class Weights:
    """The parameters of one layer and direction, by their names without suffixes, and the options, as a step uses
    them."""

    params: Mapping[str, Array]
    options: Options = Options()

    @staticmethod
    def of(params: Mapping[str, Array], end: str, options: Options = Options()) -> Weights:
        """Those of `params` with the suffix `end`, such as _l0_reverse."""
        own = {name.removesuffix(end): value for name, value in params.items() if name.endswith(end)}
        return Weights(own, options)

    def gate(self, v: Array) -> Array:
        return activation(self.options.recurrent_activation)(v)

    def candidate(self, v: Array) -> Array:
        return activation(self.options.activation)(v)

    def product(self, source: str, v: Array) -> Array:
        """W v + b, all gates, of source "ih" or "hh"; with layer norm gain norm(W v) + b."""
        a = self.params[f"weight_{source}"] @ v
        if f"weight_norm_{source}" in self.params:
            a = self.params[f"weight_norm_{source}"] * norm(a)
        return a + self.params.get(f"bias_{source}", 0.0)

    def peepholes(self) -> list[Array]:
        """Gers, Schraudolph, Schmidhuber 2002: the weights with which i, f and o see c."""
        return np.split(self.params.get("weight_peephole", np.zeros(3)), 3)

    def output(self, o: Array, c: Array) -> Array:
        """h of the LSTM: o tanh(c), or another activation's value; with layer norm of the normalised c, projected where
        there is a projection (Sak, Senior, Beaufays 2014)."""
        if "weight_norm_c" in self.params:
            c = self.params["weight_norm_c"] * norm(c) + self.params["bias_norm_c"]
        h = o * activation(self.options.output_activation or self.options.activation)(c)
        return self.params["weight_hr"] @ h if "weight_hr" in self.params else h


# Cells: one step of one row. x (I,) and seen, h (P or H,), as the products see them; the state, (h,) or (h, c).


def rnn(own: Name) -> Callable[..., State]:
    """Elman 1990: h' = act(W_ih x + b_ih + W_hh h + b_hh)."""

    def step(x: Array, seen: Array, state: State, w: Weights) -> State:
        act = activation(w.options.nonlinearity or own)
        return (act(w.product("ih", x) + w.product("hh", seen)),)

    return step


def lstm(x: Array, seen: Array, state: State, w: Weights) -> State:
    """Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000; gates i, f, g, o."""
    _, c = state
    i, f, g, o = np.split(w.product("ih", x) + w.product("hh", seen), 4)
    p_i, p_f, p_o = w.peepholes()
    c = w.gate(f + p_f * c) * c + w.gate(i + p_i * c) * w.candidate(g)
    c = np.clip(c, -w.options.cell_clip, w.options.cell_clip)
    return w.output(w.gate(o + p_o * c), c), c


def gru(x: Array, seen: Array, state: State, w: Weights) -> State:
    """Cho et al. 2014 in PyTorch's and cuDNN's form: the reset gate acts after the recurrent product; gates r, z, n."""
    (h,) = state
    ir, iz, i_n = np.split(w.product("ih", x), 3)
    hr, hz, hn = np.split(w.product("hh", seen), 3)
    r, z = w.gate(ir + hr), w.gate(iz + hz)
    n = w.candidate(i_n + r * hn)
    return ((1.0 - z) * n + z * h,)


def gru_reset_before(x: Array, seen: Array, state: State, w: Weights) -> State:
    """Cho et al. 2014 as first published: the reset gate acts on the state, before the recurrent product."""
    (h,) = state
    w_hr, w_hz, w_hn = np.split(w.params["weight_hh"], 3)
    ir, iz, i_n = np.split(w.product("ih", x) + w.params.get("bias_hh", 0.0), 3)
    r, z = w.gate(ir + w_hr @ seen), w.gate(iz + w_hz @ seen)
    n = w.candidate(i_n + w_hn @ (r * seen))
    return ((1.0 - z) * n + z * h,)


def positive(v: Array) -> Array:
    """g of Feng et al. 2024, appendix: continuous, growing, above 0."""
    return np.where(v >= 0.0, v + 0.5, sigmoid(v))


def min_gru(g: Callable[[Array], Array]) -> Callable[..., State]:
    """Feng et al. 2024: z = sigmoid(W_z x + b_z), h' = (1 - z) h + z g(W_n x + b_n); gates z, n."""

    def step(x: Array, seen: Array, state: State, w: Weights) -> State:
        (h,) = state
        z, n = np.split(w.product("ih", x), 2)
        return ((1.0 - sigmoid(z)) * h + sigmoid(z) * g(n),)

    return step


def min_lstm(g: Callable[[Array], Array]) -> Callable[..., State]:
    """Feng et al. 2024: h' = f / (f + i) h + i / (f + i) g(W_n x + b_n), f and i sigmoids of x; gates f, i, n."""

    def step(x: Array, seen: Array, state: State, w: Weights) -> State:
        (h,) = state
        f, i, n = np.split(w.product("ih", x), 3)
        log_ratio = np.logaddexp(0.0, -i) - np.logaddexp(0.0, -f)  # of the sigmoids, f / i
        return (sigmoid(log_ratio) * h + sigmoid(-log_ratio) * g(n),)

    return step


def zone_out(new: Array, old: Array, share: Array) -> Array:
    return np.where(share == 0.0, new, new + share * (old - new))  # a new value that is infinite stays so


@dataclass(frozen=True)
class Cell:
    step: Callable[..., State]
    gates: int  # G
    parts: int  # arrays in the state
    gates_see_state: bool = True  # else there are no W_hh and b_hh


CELLS = {
    "rnn_tanh": Cell(rnn("tanh"), 1, 1),
    "rnn_relu": Cell(rnn("relu"), 1, 1),
    "rnn_sigmoid": Cell(rnn("sigmoid"), 1, 1),
    "lstm": Cell(lstm, 4, 2),
    "gru": Cell(gru, 3, 1),
    "gru_reset_before": Cell(gru_reset_before, 3, 1),
    "min_gru": Cell(min_gru(lambda v: v), 2, 1, gates_see_state=False),
    "min_gru_positive": Cell(min_gru(positive), 2, 1, gates_see_state=False),
    "min_lstm": Cell(min_lstm(lambda v: v), 3, 1, gates_see_state=False),
    "min_lstm_positive": Cell(min_lstm(positive), 3, 1, gates_see_state=False),
}


def run(
    cell: str | Cell,
    params: Mapping[str, Array],
    x: Array,
    *,
    num_layers: int = 1,
    bidirectional: bool = False,
    lengths: Sequence[int] | npt.NDArray[np.int64] | None = None,
    reset: npt.NDArray[np.bool_] | None = None,
    state: State | None = None,
    options: Options = Options(),
    seed: int | None = None,
) -> tuple[Array, State]:
    """A stack of recurrent layers: x (N, T, I), state (L*D, N, P or H) and (L*D, N, H) -> y (N, T, D * (P or H)),
    state.

    Row n runs over its first lengths[n] steps only; y is 0 past them, and the final state is the one after the last of
    them (the initial one where there is none). reset[n, t] says that an episode starts at step t: no state crosses from
    t - 1 to t in the forward direction, nor from t to t - 1 in the reverse one. reset[n, 0] drops the initial state.
    A seed means training, with masks drawn from it; None is inference.
    """
    rows, steps, directions = x.shape[0], x.shape[1], 2 if bidirectional else 1
    spec = CELLS[cell] if isinstance(cell, str) else cell
    hidden = len(next(iter(params.values()))) // spec.gates  # weight_ih_l0
    units = len(params["weight_hr_l0"]) if "weight_hr_l0" in params else hidden  # of h
    sizes, slots = (units, hidden)[: spec.parts], num_layers * directions
    final = [np.zeros((slots, rows, n)) if state is None else state[p].copy() for p, n in enumerate(sizes)]
    zones = ((masks.ZONEOUT, options.zoneout), (masks.ZONEOUT_CELL, options.zoneout_cell))
    y = np.asarray(x, np.float64)
    for layer in range(num_layers):
        x, y = y, np.zeros((rows, steps, directions * units))
        if layer:
            every_row, every_step = np.arange(rows)[:, None], np.arange(steps)
            x = x * masks.dropout(seed, layer - 1, every_row, every_step, x.shape[2], options.dropout)
        x_stream = masks.INPUT << 20 | layer * directions
        for direction in range(directions):
            end, slot = f"_l{layer}" + ("_reverse" if direction else ""), layer * directions + direction
            w, columns = Weights.of(params, end, options), slice(direction * units, (direction + 1) * units)
            for row in range(rows):
                x_mask = masks.dropout(seed, x_stream, row, 0, x.shape[2], options.input_dropout)
                h_mask = masks.dropout(seed, masks.RECURRENT << 20 | slot, row, 0, units, options.recurrent_dropout)
                shares = [
                    masks.zoneout(seed, kind << 20 | slot, row, np.arange(steps), n, p)
                    for n, (kind, p) in zip(sizes, zones, strict=False)
                ]
                length = steps if lengths is None else int(lengths[row])
                s = tuple(part[slot, row] for part in final)
                for t in reversed(range(length)) if direction else range(length):
                    boundary = t + direction  # an episode starts here: the reverse direction arrives from step t + 1
                    if reset is not None and boundary < length and reset[row, boundary]:
                        s = tuple(np.zeros(n) for n in sizes)
                    new = spec.step(x[row, t] * x_mask, s[0] * h_mask, s, w)
                    s = tuple(zone_out(a, b, share[t]) for a, b, share in zip(new, s, shares, strict=True))
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
