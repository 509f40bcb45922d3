"""Layers that attend to a memory: attention alone, repeated as retrieval, and at every step of a decoder."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from recurra import _core
from recurra.common import checks
from recurra.common.initialise import orthogonal_gates, set_forget_bias, uniform
from recurra.common.structure import Structure
from recurra.common.typing import Array, State
from recurra.layers.native import NativeLayer
from recurra.layers.recurrent.cell_names import cell_name
from recurra.saving.registry import built_in

if TYPE_CHECKING:
    import numpy.typing as npt

    from recurra.graph.symbolic import Symbol

_PAIR = Structure(2)


class _Attending(NativeLayer):
    """The base of layers whose second input is a memory."""

    num_inputs = 2
    memory_size: int

    def check_other(self, index: int, first: Symbol, other: Symbol) -> None:
        """Raise unless the memory is a sequence of `memory_size` features."""
        if not other.sequence or other.features not in (None, self.memory_size):
            raise ValueError(
                f"{self.label}: got a memory of shape {other.shape}, expected (None, None, {self.memory_size}); give "
                "it the outputs of an encoder with return_sequences=True, and set memory_size to their features"
            )

    def _weights(self, x: Any, state: State, lengths: Any) -> Array:
        operation = f"{self.label}.weights"
        query, memory = (checks.array(operation, "x", one) for one in _PAIR.spread(operation, "x", x))
        layout = self._runner((query, memory)).layout
        flat = layout.arrays(operation, state) or [None] * len(self.state_names)
        valid, memory_valid = (
            None if one is None else checks.lengths(operation, one)
            for one in _PAIR.spread_optional(operation, "lengths", lengths)
        )
        vectors = query.ndim == 2 and not self.needs_sequences
        rows = query[:, None] if vectors else query
        weights = _core.attention_weights(self._core, operation, rows, memory, valid, memory_valid, flat)
        return weights[:, 0] if vectors else weights

    def why_not_streamable(self) -> str:
        """Never streams: it needs a memory."""
        return "attends to a memory; generate with recurra.search, or call it on whole sequences"


class _Attention(_Attending):
    @property
    def input_size(self) -> int:
        """query_size."""
        return self.query_size

    @property
    def output_size(self) -> int:
        """memory_size."""
        return self.memory_size

    query_size: int

    def weights(self, x: Any, lengths: Any = None) -> Array:
        """The attention weights of each query over the memory's steps: (N, Tq, Tm), summing to 1 over Tm.

        Args:
            x: (query, memory), as in a call.
            lengths: the pair of both inputs' lengths, as in a call; weights past them are 0.

        Raises:
            ValueError, TypeError: as in a call.
        """
        return self._weights(x, None, lengths)

    def _draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        return uniform(rng, shape, shape[-1])


@built_in
class AdditiveAttention(_Attention):
    """Additive attention (Bahdanau, Cho, Bengio 2015): for a query q and the valid steps m_1, ..., m_n of a memory

        e_j = v . tanh(W_q q + b_q + W_m m_j)    w = softmax(e)    y = w_1 m_1 + ... + w_n m_n

    `y, _ = attention((query, memory), lengths=(query_lengths, memory_lengths))`: query (N, Tq, query_size) or (N,
    query_size), memory (N, Tm, memory_size), y (N, Tq, memory_size) or (N, memory_size); 0 for a row whose memory has
    length 0. Either of the lengths may be None. Parameters: weight_query (hidden_size, query_size), bias_query
    (hidden_size), weight_memory (hidden_size, memory_size), weight_score (hidden_size), the v above.

    Args:
        query_size, memory_size: features of the two inputs.
        hidden_size: size of v.
        dtype: float32 or float64.
        seed: for the parameters, drawn from U(-1/sqrt(n), 1/sqrt(n)) with n the size of their last axis; None for a
            fresh seed.

    Example:
        >>> attention = rc.AdditiveAttention(16, 32, 24)
        >>> query, memory = np.ones((2, 5, 16), np.float32), np.ones((2, 7, 32), np.float32)
        >>> attention((query, memory), lengths=(None, [7, 3]))[0].shape
        (2, 5, 32)
        >>> attention.weights((query, memory), lengths=(None, [7, 3])).shape
        (2, 5, 7)
    """

    def __init__(
        self,
        query_size: int,
        memory_size: int,
        hidden_size: int,
        *,
        dtype: npt.DTypeLike = "float32",
        seed: int | None = None,
    ) -> None:
        name = "AdditiveAttention"
        self.query_size = checks.integer(name, "query_size", query_size)
        self.memory_size = checks.integer(name, "memory_size", memory_size)
        self.hidden_size = checks.integer(name, "hidden_size", hidden_size)
        core = _core.Attention(
            "additive", self.query_size, self.memory_size, self.hidden_size, dtype=checks.dtype_name(name, dtype)
        )
        super().__init__(core, seed)

    @classmethod
    def count_parameters(cls, config: Mapping[str, Any]) -> int:
        """Values of W_q, b_q, W_m and v."""
        query, memory, hidden = (operator.index(config[name]) for name in ("query_size", "memory_size", "hidden_size"))
        return hidden * (query + memory + 2)


@built_in
class MultiplicativeAttention(_Attention):
    """Multiplicative attention (Luong, Pham, Manning 2015): like `AdditiveAttention`, with one of the scores

        dot          e_j = q . m_j                     query_size = memory_size
        scaled_dot   e_j = q . m_j / sqrt(query_size)  (Vaswani et al. 2017)
        general      e_j = q . (W_m m_j)

    Parameter of general: weight_memory (query_size, memory_size).

    Args:
        query_size, memory_size: features of the two inputs.
        score: "dot", "scaled_dot" or "general".
        dtype: float32 or float64.
        seed: for the parameters, drawn from U(-1/sqrt(memory_size), 1/sqrt(memory_size)); None for a fresh seed.

    Example:
        >>> attention = rc.MultiplicativeAttention(16, 16)
        >>> query, memory = np.ones((2, 5, 16), np.float32), np.ones((2, 7, 16), np.float32)
        >>> attention((query, memory))[0].shape
        (2, 5, 16)
    """

    def __init__(
        self,
        query_size: int,
        memory_size: int,
        *,
        score: str = "dot",
        dtype: npt.DTypeLike = "float32",
        seed: int | None = None,
    ) -> None:
        name = "MultiplicativeAttention"
        self.query_size = checks.integer(name, "query_size", query_size)
        self.memory_size = checks.integer(name, "memory_size", memory_size)
        self.score = checks.choice(name, "score", score, ("dot", "scaled_dot", "general"))
        _check_dot(name, "score", self.score, "query_size", self.query_size, self.memory_size)
        core = _core.Attention(self.score, self.query_size, self.memory_size, dtype=checks.dtype_name(name, dtype))
        super().__init__(core, seed)

    @classmethod
    def count_parameters(cls, config: Mapping[str, Any]) -> int:
        """Values of W_m, for the score "general"."""
        query, memory = (operator.index(config[name]) for name in ("query_size", "memory_size"))
        return query * memory if config["score"] == "general" else 0


@built_in
class Hopfield(_Attending):
    """Retrieval from a modern continuous Hopfield network (Ramsauer et al. 2021, equation 3), which is attention:

        s <- p_1 w_1 + ... + p_n w_n    w = softmax(beta (p_1 . s, ..., p_n . s))

    `y, _ = hopfield((state, patterns), lengths=(state_lengths, pattern_lengths))`: states (N, T, size) or (N, size),
    the steps of the second input (N, Tm, size) are the stored patterns p; y has the states' shape; 0 for a row without
    patterns. Each step lowers the energy -log(sum of exp(beta p . s)) / beta + s . s / 2, and mostly one is enough. One
    step is scaled dot-product attention whose keys are its values. No parameters: put `Linear` layers before it for
    projections of states and patterns (the paper's section 3), and a `LearntVector` for a state to begin with.

    Args:
        size: features of states and patterns.
        beta: inverse temperature, above 0; None for 1 / sqrt(size). The larger, the sharper: low values retrieve means
            of similar patterns.
        steps: number of steps, or the most of them.
        tolerance: a state of which no feature moves by more than this has converged, and takes no further step; 0: all
            steps are taken. The gradient is that of the steps that were taken.
        dtype: float32 or float64.

    Example:
        >>> hopfield = rc.Hopfield(4, beta=8.0)
        >>> patterns = np.eye(4, dtype=np.float32)[None]
        >>> y, _ = hopfield((np.array([[[0.9, 0.1, 0.3, 0.0]]], np.float32), patterns))
        >>> y.round(2)
        array([[[0.99, 0.  , 0.01, 0.  ]]], dtype=float32)
    """

    def __init__(
        self,
        size: int,
        *,
        beta: float | None = None,
        steps: int = 1,
        tolerance: float = 0.0,
        dtype: npt.DTypeLike = "float32",
    ) -> None:
        name = "Hopfield"
        self.size = checks.integer(name, "size", size, maximum=2**20)
        self.memory_size = self.size
        largest = 1e18 if checks.dtype_name(name, dtype) == "float32" else 1e150  # times a product it overflows
        self.beta = None if beta is None else checks.number(name, "beta", beta, math.ulp(0.0), largest)
        self.steps = checks.integer(name, "steps", steps, maximum=2**16)
        self.tolerance = checks.number(name, "tolerance", tolerance, 0.0)
        core = _core.Hopfield(
            self.size,
            beta=1 / math.sqrt(self.size) if self.beta is None else self.beta,
            steps=self.steps,
            tolerance=self.tolerance,
            dtype=checks.dtype_name(name, dtype),
        )
        super().__init__(core, None)

    @property
    def input_size(self) -> int:
        """size."""
        return self.size

    @property
    def output_size(self) -> int:
        """size."""
        return self.size

    @classmethod
    def count_parameters(cls, config: Mapping[str, Any]) -> int:
        """None."""
        return 0


@built_in
class AttentionDecoder(_Attending):
    """A recurrent layer that attends to a memory at every step; the whole loop is one native call.

    With attention="additive", the previous state queries the memory and the context is fed to the cell (Bahdanau et al.
    2015); with the others, the new state queries it, and a = tanh(W_c [c; h]) is the output (Luong et al. 2015), fed to
    the next step's cell unless input_feeding is off:

        additive                                      dot, scaled_dot, general
        c_t = attention(h_{t-1}, memory)              h_t = cell([x_t; a_{t-1}], h_{t-1})
        h_t = cell([x_t; c_t], h_{t-1})               c_t = attention(h_t, memory)
        y_t = h_t                                     y_t = a_t = tanh(W_c [c_t; h_t])

    `y, state = decoder((x, memory), state=..., lengths=(lengths, memory_lengths))`: x (N, T, input_size), memory
    (N, Tm, memory_size), y (N, T, hidden_size). The state is a tuple of h, the LSTM's c and, with input feeding, a,
    each (1, N, hidden_size), any of them None for zeros; one array if there is only h. The initial state may be an
    encoder's final state.

    Parameters: the cell's, as in `GRU`, with the input [x; c] or [x; a]: weight_ih_l0, weight_hh_l0, bias_ih_l0,
    bias_hh_l0; the attention's, as in `AdditiveAttention` or `MultiplicativeAttention` with query_size = hidden_size;
    W_c is weight_combine (hidden_size, memory_size + hidden_size).

    Args:
        input_size: features of x.
        hidden_size: units of the cell; features of y.
        memory_size: features of the memory.
        cell: "GRU", "LSTM" or "RNN", in any case.
        reset_after: of the GRU, as in `GRU`.
        nonlinearity: of the RNN, as in `RNN`.
        forget_bias: of the LSTM, as in `LSTM`.
        recurrent_init: of weight_hh_l0, as in `LSTM`.
        attention: "additive", "dot", "scaled_dot" or "general".
        attention_size: hidden_size of the additive attention; None for the cell's hidden_size.
        input_feeding: whether a is fed to the next step; if not, a plain recurrence runs first and attention follows.
            Additive attention always feeds its context.
        bias: whether the cell adds the biases bias_ih_l0 and bias_hh_l0.
        dtype: float32 or float64.
        seed: for the parameters, drawn from U(-1/sqrt(hidden_size), 1/sqrt(hidden_size)); None for a fresh seed.

    Example:
        >>> decoder = rc.AttentionDecoder(8, 16, 32)
        >>> target, memory = np.ones((2, 5, 8), np.float32), np.ones((2, 7, 32), np.float32)
        >>> y, state = decoder((target, memory), lengths=(None, [7, 3]))
        >>> y.shape
        (2, 5, 16)
    """

    needs_sequences = True

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        memory_size: int,
        *,
        cell: str = "gru",
        reset_after: bool = True,
        nonlinearity: str = "tanh",
        forget_bias: float | None = None,
        recurrent_init: str = "uniform",
        attention: str = "additive",
        attention_size: int | None = None,
        input_feeding: bool = True,
        bias: bool = True,
        dtype: npt.DTypeLike = "float32",
        seed: int | None = None,
    ) -> None:
        name = "AttentionDecoder"
        self._input_size = checks.integer(name, "input_size", input_size)
        self.hidden_size = checks.integer(name, "hidden_size", hidden_size)
        self.memory_size = checks.integer(name, "memory_size", memory_size)
        by_name, reset_after, nonlinearity = _by_core_name(cell, reset_after, nonlinearity)
        own = self._own_cell = cell_name(name, by_name, _GATES)
        self.cell = cell if cell != by_name else own  # the core's own names stay as given
        self.reset_after = checks.flag(name, "reset_after", reset_after)
        self.nonlinearity: str = checks.choice(name, "nonlinearity", nonlinearity, ("tanh", "relu", "sigmoid"))
        self.forget_bias = None if forget_bias is None else checks.number(name, "forget_bias", forget_bias, -math.inf)
        self.recurrent_init: str = checks.choice(name, "recurrent_init", recurrent_init, ("uniform", "orthogonal"))
        for option, given, usual, owner in (
            ("reset_after", self.reset_after, True, "gru"),
            ("nonlinearity", self.nonlinearity, "tanh", "rnn"),
            ("forget_bias", self.forget_bias, None, "lstm"),
        ):
            if given != usual and own != owner:
                raise ValueError(
                    f"{name}: got {option}={given!r} with cell={cell!r}, expected {usual!r}, as it is an option of "
                    f"{owner.upper()}; leave it out"
                )
        self.attention = checks.choice(name, "attention", attention, ("additive", "dot", "scaled_dot", "general"))
        self.input_feeding = checks.flag(name, "input_feeding", input_feeding)
        self.bias = checks.flag(name, "bias", bias)
        if self.forget_bias is not None and not self.bias:
            raise ValueError(
                f"{name}: got forget_bias={self.forget_bias} with bias=False, expected bias=True, as it sets a bias; "
                "leave one of them out"
            )
        additive = self.attention == "additive"
        _check_dot(name, "attention", self.attention, "hidden_size", self.hidden_size, self.memory_size)
        if additive:
            size = self.hidden_size if attention_size is None else attention_size
            self.attention_size: int | None = checks.integer(name, "attention_size", size)
        elif attention_size is not None:
            raise ValueError(
                f"{name}: got attention_size={attention_size!r} with attention={attention!r}, expected None, as only "
                f"additive attention has a size of its own; leave it out"
            )
        else:
            self.attention_size = None
        if additive and not self.input_feeding:
            raise ValueError(
                f"{name}: got input_feeding=False with attention='additive', expected True, as additive attention "
                "feeds its context to the cell; choose attention='general'"
            )
        names = ["h"]
        if own == "lstm":
            names.append("c")
        if not additive and self.input_feeding:
            names.append("a")
        self.state_names = tuple(names)
        core = _core.AttentionDecoder(
            self.core_cell,
            self._input_size,
            self.hidden_size,
            self.memory_size,
            attention=self.attention,
            attention_size=self.attention_size or 0,
            input_feeding=self.input_feeding,
            bias=self.bias,
            dtype=checks.dtype_name(name, dtype),
        )
        super().__init__(core, seed)

    @property
    def input_size(self) -> int:
        """Features of x."""
        return self._input_size

    @property
    def output_size(self) -> int:
        """hidden_size."""
        return self.hidden_size

    @property
    def core_cell(self) -> str:
        """The core's name of the cell, options included."""
        if self._own_cell == "rnn":
            return f"rnn_{self.nonlinearity}"
        return "gru_reset_before" if self._own_cell == "gru" and not self.reset_after else self._own_cell

    def state_zeros(self, batch_size: int) -> list[Array]:
        """Zeros, (1, N, hidden_size) for each array of the state."""
        rows = checks.integer(f"{self.label}.init_state", "batch_size", batch_size, 0)
        return [np.zeros((1, rows, self.hidden_size), self.dtype) for _name in self.state_names]

    def weights(self, x: Any, state: State = None, lengths: Any = None) -> Array:
        """The attention weights of each step over the memory's steps: (N, T, Tm), summing to 1 over Tm.

        Args:
            x, state, lengths: as in a call; weights past the lengths are 0.

        Raises:
            ValueError, TypeError: as in a call.
        """
        return self._weights(x, state, lengths)

    @classmethod
    def count_parameters(cls, config: Mapping[str, Any]) -> int:
        """Values of the cell's and the attention's parameters and of W_c."""
        inputs, hidden, memory = (operator.index(config[name]) for name in ("input_size", "hidden_size", "memory_size"))
        attention, rows = config["attention"], _gates(config["cell"]) * hidden
        additive = attention == "additive"
        fed = memory if additive else hidden if config["input_feeding"] else 0
        cell = rows * (inputs + fed + hidden + (2 if config["bias"] else 0))
        if additive:
            size = config["attention_size"]
            return cell + operator.index(hidden if size is None else size) * (hidden + memory + 2)
        return cell + hidden * (memory + hidden) + (hidden * memory if attention == "general" else 0)

    def _initial(self, rng: np.random.Generator, name: str) -> Array:
        shape = self.parameters.shape(name)
        if self.recurrent_init == "orthogonal" and name.startswith("weight_hh"):
            return orthogonal_gates(rng, shape, _GATES[self._own_cell])
        value = super()._initial(rng, name)
        if self.forget_bias is not None and name in ("bias_ih_l0", "bias_hh_l0"):
            set_forget_bias(value, name, self.hidden_size, self.forget_bias)
        return value

    def _draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        return uniform(rng, shape, self.hidden_size)


_GATES = {"gru": 3, "lstm": 4, "rnn": 1}


def _gates(cell: str) -> int:
    """Gates of a configuration's cell; older configurations name it as the core does."""
    return _GATES[cell_name("AttentionDecoder", _by_core_name(cell, True, "tanh")[0], _GATES)]


def _by_core_name(cell: Any, reset_after: Any, nonlinearity: Any) -> tuple[Any, Any, Any]:
    """The arguments for a cell named as in the core, such as "rnn_relu" or "gru_reset_before" in older files."""
    if cell == "gru_reset_before":
        return "gru", False, nonlinearity
    if cell in ("rnn_tanh", "rnn_relu", "rnn_sigmoid") and nonlinearity in ("tanh", cell[4:]):
        return "rnn", reset_after, cell[4:]
    return cell, reset_after, nonlinearity


def _check_dot(operation: str, argument: str, score: str, query: str, query_size: int, memory_size: int) -> None:
    if score in ("dot", "scaled_dot") and query_size != memory_size:
        raise ValueError(
            f"{operation}: got {query}={query_size} and memory_size={memory_size} with {argument}={score!r}, expected "
            f"the same number; change one, or choose {argument}='general'"
        )
