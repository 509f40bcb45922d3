"""RNN, LSTM and GRU: stacks of any number of layers, in one or both directions."""

from __future__ import annotations

import operator
from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from recurra import _core, checks
from recurra.initialise import uniform
from recurra.native import NativeLayer
from recurra.registry import built_in
from recurra.typing import Array

if TYPE_CHECKING:
    import numpy.typing as npt
    from typing_extensions import Unpack


class RecurrentOptions(TypedDict, total=False):
    """The keywords that RNN, LSTM and GRU share."""

    bias: bool
    batch_first: bool
    dropout: float
    bidirectional: bool
    return_sequences: bool
    dtype: npt.DTypeLike
    seed: int | None


class Recurrent(NativeLayer):
    """The base of RNN, LSTM and GRU.

    Args:
        input_size: features of x, I.
        hidden_size: units of each layer and direction, H.
        num_layers: layers, each reading the outputs of the one below.
        bias: whether there are the vectors bias_ih and bias_hh.
        batch_first: whether arrays are (N, T, features); False, (T, N, features), is for a layer used alone.
        dropout: chance, from 0 to 1, that training sets an output between two layers to zero; the others are scaled up.
        bidirectional: whether a second stack reads each sequence from its end; outputs are side by side, D = 2.
        return_sequences: True for outputs (N, T, D * H), False for each direction's last valid one, (N, D * H).
        dtype: float32 or float64.
        seed: of the parameters, drawn from U(-1/sqrt(H), 1/sqrt(H)) as PyTorch does; None for fresh randomness.

    Parameters, with PyTorch's names, G gates of H rows each, in the order of the equations (k: layer; second direction:
    `_reverse` at the end): weight_ih_lk (G * H, I, or D * H above the first layer), weight_hh_lk (G * H, H),
    bias_ih_lk and bias_hh_lk (G * H).
    """

    needs_sequences = True
    gates = 1
    #: Whether the gates see the state: there are weight_hh and bias_hh.
    gates_see_state = True

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        bias: bool = True,
        batch_first: bool = True,
        dropout: float = 0.0,
        bidirectional: bool = False,
        return_sequences: bool = True,
        dtype: npt.DTypeLike = "float32",
        seed: int | None = None,
    ) -> None:
        name = type(self).__name__
        self._input_size = checks.integer(name, "input_size", input_size)
        self.hidden_size = checks.integer(name, "hidden_size", hidden_size)
        self.num_layers = checks.integer(name, "num_layers", num_layers)
        self.bias = checks.flag(name, "bias", bias)
        self.batch_first = checks.flag(name, "batch_first", batch_first)
        self.dropout = checks.number(name, "dropout", dropout, 0.0, 1.0)
        self.bidirectional = checks.flag(name, "bidirectional", bidirectional)
        self.return_sequences = checks.flag(name, "return_sequences", return_sequences)
        core = _core.Recurrent(
            self._cell(),
            self._input_size,
            self.hidden_size,
            self.num_layers,
            bias=self.bias,
            bidirectional=self.bidirectional,
            dropout=self.dropout,
            return_sequences=self.return_sequences,
            dtype=checks.dtype_name(name, dtype),
        )
        super().__init__(core, seed)

    @abstractmethod
    def _cell(self) -> str:
        """The core's name of the cell."""

    @property
    def input_size(self) -> int:
        """Features of the input."""
        return self._input_size

    @property
    def num_directions(self) -> int:
        """1, or 2 if bidirectional."""
        return 2 if self.bidirectional else 1

    @property
    def output_size(self) -> int:
        """Features of the output: hidden_size for each direction."""
        return self.num_directions * self.hidden_size

    def state_zeros(self, batch_size: int) -> list[Array]:
        """Zeros, (num_layers * num_directions, N, H) for each array of the state."""
        rows = checks.integer(f"{self.label}.init_state", "batch_size", batch_size, 0)
        shape = (self.num_layers * self.num_directions, rows, self.hidden_size)
        return [np.zeros(shape, self.dtype) for _name in self.state_names]

    def why_not_streamable(self) -> str | None:
        """It can, unless it reads from the end."""
        if self.bidirectional:
            return (
                "is bidirectional and needs the end of a sequence first; stream a layer made with bidirectional=False"
            )
        if not self.batch_first:
            return "has batch_first=False; a stream takes (N, features), so make the layer with batch_first=True"
        if not self.return_sequences:
            return "has return_sequences=False; a stream gives the output of every step, so make it with return_sequences=True"
        return None

    @classmethod
    def count_parameters(cls, config: Mapping[str, Any]) -> int:
        """Weights and biases of all layers and directions."""
        inputs, hidden, layers = (operator.index(config[name]) for name in ("input_size", "hidden_size", "num_layers"))
        directions = 2 if config["bidirectional"] else 1
        sources = 2 if cls.gates_see_state else 1
        per_unit = (hidden if cls.gates_see_state else 0) + (sources if config["bias"] else 0)
        columns = inputs + per_unit + (layers - 1) * (directions * hidden + per_unit)
        return directions * cls.gates * hidden * columns

    def _draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        return uniform(rng, shape, self.hidden_size)


@built_in
class RNN(Recurrent):
    """The plain recurrent network (Elman 1990), with f tanh, relu or sigmoid:

        h' = f(W_ih x + b_ih + W_hh h + b_hh)

    `y, h_n = rnn(x)`: x (N, T, I), y (N, T, D * H), h_n (num_layers * D, N, H).

    Args:
        nonlinearity: "tanh", "relu" or "sigmoid"; all others as in `Recurrent`.
    """

    state_names = ("h",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        nonlinearity: str = "tanh",
        **options: Unpack[RecurrentOptions],
    ) -> None:
        self.nonlinearity: str = checks.choice("RNN", "nonlinearity", nonlinearity, ("tanh", "relu", "sigmoid"))
        super().__init__(input_size, hidden_size, num_layers, **options)

    def _cell(self) -> str:
        return f"rnn_{self.nonlinearity}"


@built_in
class LSTM(Recurrent):
    """Long short-term memory (Hochreiter and Schmidhuber 1997) with forget gates (Gers, Schmidhuber, Cummins 2000):

        i = sigmoid(W_ii x + b_ii + W_hi h + b_hi)        f = sigmoid(W_if x + b_if + W_hf h + b_hf)
        g =    tanh(W_ig x + b_ig + W_hg h + b_hg)        o = sigmoid(W_io x + b_io + W_ho h + b_ho)
        c' = f * c + i * g                                h' = o * tanh(c')

    `y, (h_n, c_n) = lstm(x)`: x (N, T, I), y (N, T, D * H), h_n and c_n (num_layers * D, N, H). Arguments as in
    `Recurrent`.
    """

    gates = 4
    state_names = ("h", "c")

    def _cell(self) -> str:
        return "lstm"


@built_in
class GRU(Recurrent):
    """The gated recurrent unit (Cho et al. 2014):

        r = sigmoid(W_ir x + b_ir + W_hr h + b_hr)        z = sigmoid(W_iz x + b_iz + W_hz h + b_hz)
        n = tanh(W_in x + b_in + r * (W_hn h + b_hn))     h' = (1 - z) * n + z * h

    That is the form of PyTorch and cuDNN. With reset_after=False it is the paper's: n = tanh(W_in x + b_in + W_hn (r * h)
    + b_hn). The parameters of the two have the same names and shapes but do not mean the same.

    `y, h_n = gru(x)`: x (N, T, I), y (N, T, D * H), h_n (num_layers * D, N, H).

    Args:
        reset_after: which form; all others as in `Recurrent`.
    """

    gates = 3
    state_names = ("h",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        reset_after: bool = True,
        **options: Unpack[RecurrentOptions],
    ) -> None:
        self.reset_after = checks.flag("GRU", "reset_after", reset_after)
        super().__init__(input_size, hidden_size, num_layers, **options)

    def _cell(self) -> str:
        return "gru" if self.reset_after else "gru_reset_before"
