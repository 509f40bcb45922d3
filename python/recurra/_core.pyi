"""The native core. Use the layers and models of `recurra`, not this module: it checks, but it does not explain."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
_Result = TypeVar("_Result")

__version__: str

def num_threads() -> int: ...
def set_num_threads(threads: int) -> None: ...
def set_patient(patient: bool) -> None: ...
def set_caches(l1: int, l2: int) -> None: ...  # plans for caches of so many bytes; 0: those of this machine
def caches() -> tuple[int, int]: ...

# For tests: that poll of native calls finds a SIGINT pending; 0: none does. -> how many were left until the last one.
def interrupt_at(poll: int) -> int: ...
def set_eager(eager: bool) -> None: ...
def isa() -> str: ...

isa_flags: str  # of the compiler: "avx512 -mavx512f ...|avx2 ...|"

def build_info() -> dict[str, Any]: ...
def measure_peak() -> dict[str, float]: ...  # fma_gflops, l2_gbs, l3_gbs, dram_gbs: of one thread; takes a second

class Parameters:
    """Named arrays in one flat buffer, their gradients in another of the same layout, and a version."""

    def __init__(self, dtype: str, specs: Sequence[tuple[str, Sequence[int]]]) -> None: ...
    @property
    def dtype(self) -> str: ...
    @property
    def names(self) -> list[str]: ...
    @property
    def size(self) -> int: ...
    @property
    def version(self) -> int: ...
    def shape(self, name: str) -> tuple[int, ...]: ...
    def span(self, name: str) -> tuple[int, int]: ...
    @property
    def values(self) -> Array: ...  # flat, read-only
    @property
    def grads(self) -> Array: ...  # flat, writable unless sparse
    @property
    def sparse(self) -> bool: ...
    def value(self, name: str) -> Array: ...  # a read-only view
    def grad(self, name: str) -> Array: ...  # a view, writable unless sparse
    def writable(self, name: str) -> Array: ...  # call touch() after the last write
    def assign(self, name: str, array: Array) -> None: ...  # checks shape and dtype, moves the version on
    def touch(self) -> None: ...
    def zero_grad(self) -> None: ...

class Gradient:
    """The gradient of `parameters`: their own, or in a flat array, used in place."""

    def __init__(self, parameters: Parameters, array: Array | None = None) -> None: ...
    @property
    def rows(self) -> Array | None: ...  # of a sparse gradient, those that are not zero
    def assign(self, name: str, array: Array) -> None: ...  # finds the rows of a sparse one
    def zero(self) -> None: ...

# All or none, in one instruction; `buffers`: where to, what.
def assign(arrays: Sequence[tuple[Parameters, str, Array]], buffers: Sequence[tuple[Array, Array]] = ...) -> None: ...

class Layer:
    """A native layer. Sizes are fixed, parameters are not; holds no sequence state."""

    @property
    def parameters(self) -> Parameters: ...
    @property
    def dtype(self) -> str: ...

class OwnCell:
    def __init__(
        self,
        name: str,
        columns: int,
        input: tuple[int, int],  # the first column that x feeds, and how many
        recurrent: tuple[int, int],
        input_gate: Sequence[int],  # four: which matrix feeds a column; -1: none
        recurrent_gate: Sequence[int],
        saved: int,
        reads_input: bool,
        state: str,  # the second state; "": none
        parameters: Sequence[Sequence[str]],  # matrices of x, of h, biases, vectors
        equations: Sequence[int],  # addresses: forward and backward of float32, of float64
    ) -> None: ...

class Recurrent(Layer):
    def __init__(
        self,
        cell: str,  # "rnn_tanh", "rnn_relu", "rnn_sigmoid", "lstm", "gru", "gru_reset_before",
        # "min_gru", "min_gru_positive", "min_lstm", "min_lstm_positive"
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        bias: bool = True,
        bidirectional: bool = False,
        dropout: float = 0.0,
        return_sequences: bool = True,
        dtype: str = "float32",
        proj_size: int = 0,  # of the LSTM, like peepholes, zoneout_cell and cell_clip
        peepholes: bool = False,
        layer_norm: bool = False,
        input_dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        zoneout: float = 0.0,
        zoneout_cell: float = 0.0,
        cell_clip: float = 0.0,  # 0: none
        # of the gates, the candidate and the LSTM's output: name, alpha, beta; "" is the cell's own
        activations: Sequence[tuple[str, float, float]] = ...,
        own: OwnCell | None = None,  # instead of `cell`
    ) -> None: ...

class Dense(Layer):
    def __init__(self, in_features: int, out_features: int, *, bias: bool = True, dtype: str = "float32") -> None: ...

class Embedding(Layer):
    def __init__(
        self, num_embeddings: int, embedding_dim: int, *, sparse: bool = False, dtype: str = "float32"
    ) -> None: ...

class Dropout(Layer):
    def __init__(self, p: float, *, dtype: str = "float32") -> None: ...

class Attention(Layer):  # of two inputs: queries and memory
    def __init__(
        self,
        score: str,  # "additive", "dot", "scaled_dot", "general"
        query_size: int,
        memory_size: int,
        hidden_size: int = 0,  # of additive scores
        *,
        dtype: str = "float32",
    ) -> None: ...

class Hopfield(Layer):  # of two inputs: states and patterns
    def __init__(self, size: int, *, beta: float, steps: int, tolerance: float, dtype: str = "float32") -> None: ...

class AttentionDecoder(Layer):  # of two inputs: features and memory
    def __init__(
        self,
        cell: str,
        input_size: int,
        hidden_size: int,
        memory_size: int,
        *,
        attention: str,
        attention_size: int = 0,
        input_feeding: bool = True,
        bias: bool = True,
        dtype: str = "float32",
    ) -> None: ...

class Subtract(Layer):  # of two inputs, as Dot
    def __init__(self, *, dtype: str = "float32") -> None: ...

class Dot(Layer):
    def __init__(self, *, dtype: str = "float32") -> None: ...

class Average(Layer):  # of any number of inputs, as the next ones
    def __init__(self, *, dtype: str = "float32") -> None: ...

class Maximum(Layer):
    def __init__(self, *, dtype: str = "float32") -> None: ...

class Minimum(Layer):
    def __init__(self, *, dtype: str = "float32") -> None: ...

class Add(Layer):
    def __init__(self, *, dtype: str = "float32") -> None: ...

class Multiply(Layer):
    def __init__(self, *, dtype: str = "float32") -> None: ...

class Concatenate(Layer):
    def __init__(self, *, dtype: str = "float32") -> None: ...

class Reverse(Layer):
    def __init__(self, *, dtype: str = "float32") -> None: ...

class Slice(Layer):
    def __init__(self, start: int, stop: int, step: int = 1, *, dtype: str = "float32") -> None: ...

class RepeatVector(Layer):
    def __init__(self, n: int, *, dtype: str = "float32") -> None: ...

class LearntVector(Layer):
    def __init__(self, features: int, *, dtype: str = "float32") -> None: ...

# Of a program with one input, what belongs to the inputs is given as it is; of one with several, in a tuple. The same
# for what belongs to the outputs.
Arrays: TypeAlias = Any

class Conv1d(Layer):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        padding: str = "causal",  # "causal", "same", "valid"
        groups: int = 1,
        bias: bool = True,
        dtype: str = "float32",
    ) -> None: ...

class Conv2d(Layer):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple[int, int],  # height and width, as below
        *,
        height: int,
        width: int = 0,  # 0: the steps are the columns
        stride: tuple[int, int] = (1, 1),
        dilation: tuple[int, int] = (1, 1),
        padding: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0)),  # before and after
        groups: int = 1,
        bias: bool = True,
        dtype: str = "float32",
    ) -> None: ...

class WindowPool2d(Layer):
    def __init__(
        self,
        mode: str,  # "max", "mean"
        kernel_size: tuple[int, int],
        *,
        channels: int,
        height: int,
        width: int = 0,
        stride: tuple[int, int] = (1, 1),
        padding: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0)),
        dtype: str = "float32",
    ) -> None: ...

class ConvTranspose1d(Layer):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        output_padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        dtype: str = "float32",
    ) -> None: ...

class Pool(Layer):
    def __init__(self, mode: str, *, dtype: str = "float32") -> None: ...  # "last", "mean", "max"

class WindowPool1d(Layer):
    def __init__(
        self,
        mode: str,  # "max", "mean"
        kernel_size: int,
        *,
        stride: int = 1,
        padding: str = "valid",  # as of Conv1d
        features: int = 0,  # 0: any, and no state
        dtype: str = "float32",
    ) -> None: ...

class AttentionPool(Layer):
    def __init__(self, features: int, hidden_size: int, *, dtype: str = "float32") -> None: ...
    def weights(self, x: Array, lengths: Array | None = None) -> Array: ...

class LayerNorm(Layer):
    def __init__(self, features: int, *, eps: float = 1e-5, affine: bool = True, dtype: str = "float32") -> None: ...

class GroupNorm(Layer):
    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        *,
        eps: float = 1e-5,
        affine: bool = True,
        instance: bool = False,
        dtype: str = "float32",
    ) -> None: ...

class BatchNorm(Layer):
    def __init__(
        self,
        features: int,
        *,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        images: bool = False,  # any number of positions, each with so many channels
        dtype: str = "float32",
    ) -> None: ...
    @property
    def running(self) -> Parameters: ...  # running_mean, running_var
    frozen: bool

class Activation(Layer):
    def __init__(self, name: str, *, dtype: str = "float32") -> None: ...

class Permute(Layer):
    def __init__(self, shape: Sequence[int], dims: Sequence[int], *, dtype: str = "float32") -> None: ...

class PReLU(Layer):
    def __init__(self, num_parameters: int, *, dtype: str = "float32") -> None: ...

class CRF(Layer):
    def __init__(self, num_tags: int, *, dtype: str = "float32") -> None: ...

class Tape:
    """A recorded forward. Owns its memory; runs backwards once."""

    @property
    def y(self) -> Arrays: ...  # read-only views that keep the memory alive
    @property
    def state(self) -> list[Array]: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def closed(self) -> bool: ...
    def backward(
        self,
        dy: Arrays | None,
        dstate: Sequence[Array | None] | None = None,
        more: Sequence[tuple[Parameters, Array]] = ...,  # what else to add to gradients of parameters, flat
        commits: bool = ...,  # False: the gradients wait for add_gradients()
        to: Sequence[Gradient] | None = ...,  # where to add the gradients; None: to the parameters' own
    ) -> tuple[Arrays | None, list[Array]]: ...
    def activity(self, node: int) -> list[tuple[Array, Array, Array | None]]: ...
    def keep_gradient_norms(self) -> None: ...
    @property
    def gradient_norms(self) -> list[Array | None]: ...
    def close(self) -> None: ...

# What records change in their layers, once all of them are done.
def finish_records(tapes: Sequence[Tape]) -> None: ...

# The gradients that wait in tapes, and flat ones; all or none, in one instruction.
def add_gradients(
    tapes: Sequence[Tape], own: Sequence[tuple[Parameters, Array]], to: Sequence[Gradient] | None = ...
) -> None: ...

# Adds each to its counterpart, in one instruction.
def sum_gradients(to: Sequence[Gradient], more: Sequence[Gradient]) -> None: ...

class Stream:
    """The state of `batch_size` sequences and the buffers of a step."""

    @property
    def batch_size(self) -> int: ...
    # rows: an index, indices or a bool for every row; None for all.
    def step(
        self,
        x: Arrays,
        reset: npt.ArrayLike | None = None,
        out: Arrays | None = None,
        rows: npt.ArrayLike | None = None,
    ) -> Arrays: ...
    def process(
        self,
        x: Arrays,
        reset: npt.ArrayLike | None = None,
        out: Arrays | None = None,
        rows: npt.ArrayLike | None = None,
    ) -> Arrays: ...
    def reset(self, rows: npt.ArrayLike | None = None) -> None: ...
    def state(self, rows: npt.ArrayLike | None = None) -> list[Array]: ...
    def load_state(self, state: Sequence[Array], rows: npt.ArrayLike | None = None) -> None: ...
    def copy_rows(self, source: npt.ArrayLike, target: npt.ArrayLike) -> None: ...
    # Row r becomes rows r*copies ... r*copies + copies - 1.
    def fork(self, copies: int, rows: npt.ArrayLike | None = None) -> Stream: ...

# The numbers of a stream's rows. once: none may be there twice.
def listed_rows(owner: str, rows: npt.ArrayLike, batch_size: int, once: bool) -> Array: ...
def read_whole(
    weights: Sequence[Parameters], owner: str, function: Callable[..., _Result], *args: object
) -> _Result: ...  # again, until no other thread has written meanwhile; ValueError after some tries
def write_whole(weights: Sequence[Parameters], function: Callable[..., _Result], *args: object) -> _Result: ...

class Together:
    """Calls a function that moves streams on, each once: all of them, or, where it raises, none. For one thread at a
    time."""

    def __init__(self, owner: str, streams: Sequence[Stream], weights: Sequence[Parameters]) -> None: ...
    def __call__(self, function: Callable[..., _Result], *args: object) -> _Result: ...

class Program:
    """A graph of native layers, run by one call.

    Values are numbered: the inputs, then for each node its output and its final states, which are vectors, (N, layers *
    directions * H).
    """

    def __init__(
        self,
        name: str,
        inputs: Sequence[tuple[str, int]],  # "sequence", "vector" or "either"; features, 0: what the layers say, or any
        nodes: Sequence[
            tuple[Layer, Sequence[int], Sequence[int]]
        ],  # layer, values it reads, values its states begin as
        outputs: Sequence[int],  # -1 among a node's states: the program's own state; no states: all are
    ) -> None: ...
    @property
    def dtype(self) -> str: ...
    def forward(
        self,
        x: Arrays,
        lengths: Arrays | None = None,
        reset: Arrays | None = None,
        state: Sequence[Array] | None = None,
        time_major: bool = False,
    ) -> tuple[Arrays, list[Array]]: ...
    def record(
        self,
        x: Arrays,
        lengths: Arrays | None = None,
        reset: Arrays | None = None,
        state: Sequence[Array] | None = None,
        time_major: bool = False,
        training: bool = True,
        input_grad: bool | Sequence[bool] = True,
        seed: int = 0,
        memory_budget: int | None = None,
        finishes: bool = True,  # False: what it changes in layers waits for finish_records()
        first_row: int = 0,  # the number of the first row, as random masks see it
        block: tuple[Array, int] | None = None,  # bytes for the whole tape, and the model's signature
    ) -> Tape: ...
    def tape_bytes(
        self,
        x: Arrays,  # of which only the shapes count
        lengths: Arrays | None,
        reset: bool,
        state: bool,
        time_major: bool,
        training: bool,
        memory_budget: int | None,
    ) -> int: ...
    def open_tape(self, memory: Array, signature: int) -> Tape: ...
    def stream(self, batch_size: int) -> Stream: ...

# Losses: (weighted sum over the valid steps, gradient of the sum or None).
# Predictions are (N, T, F) or (N, F); lengths (N,) only with the former; weights float64, (N,) or (N, T).

def softmax_cross_entropy(
    logits: Array,
    targets: npt.NDArray[np.int64],
    lengths: Array | None,
    weights: Array | None,
    gradient: bool,
    class_weights: Array | None = None,
    smoothing: float = 0.0,
    ignored: int | None = None,
) -> tuple[float, Array | None]: ...
def binary_cross_entropy(
    predictions: Array, targets: Array, lengths: Array | None, weights: Array | None, gradient: bool
) -> tuple[float, Array | None]: ...
def mean_squared_error(
    predictions: Array, targets: Array, lengths: Array | None, weights: Array | None, gradient: bool
) -> tuple[float, Array | None]: ...
def absolute_error(
    predictions: Array, targets: Array, lengths: Array | None, weights: Array | None, gradient: bool
) -> tuple[float, Array | None]: ...
def huber(
    predictions: Array, targets: Array, lengths: Array | None, weights: Array | None, gradient: bool, delta: float
) -> tuple[float, Array | None]: ...
def quantile_loss(
    predictions: Array,
    targets: Array,
    lengths: Array | None,
    weights: Array | None,
    gradient: bool,
    quantiles: Sequence[float],
) -> tuple[float, Array | None]: ...  # predictions (..., F * Q), targets (..., F)
def gaussian_nll(
    predictions: Array, targets: Array, lengths: Array | None, weights: Array | None, gradient: bool, eps: float
) -> tuple[float, Array | None]: ...  # predictions (..., 2 F), targets (..., F)
def mixture_density(
    predictions: Array,
    targets: Array,
    lengths: Array | None,
    weights: Array | None,
    gradient: bool,
    components: int,
    features: int,
    correlated: bool,
    binary: bool,
    eps: float,
) -> tuple[float, Array | None]: ...
def policy_loss(
    predictions: Array,
    targets: Array,
    lengths: Array | None,
    weights: Array | None,
    gradient: bool,
    gaussian: bool,
    clip: float | None,
    entropy: float,
    eps: float,
) -> tuple[float, Array | None]: ...  # targets: action, advantage and, if clipped, old log-probability
def value_loss(
    predictions: Array, targets: Array, lengths: Array | None, weights: Array | None, gradient: bool, clip: float
) -> tuple[float, Array | None]: ...  # targets (..., 2 F): returns, then old values

# `allowed`: flat, of the parameters' layout: which transitions, first and last tags are; None: all.

def crf(
    scores: Array,
    targets: npt.NDArray[np.int64],
    lengths: Array | None,
    weights: Array | None,
    gradient: bool,
    parameters: Parameters,
    allowed: npt.NDArray[np.bool_] | None,
    ignored: int | None,
) -> tuple[float, Array | None, Array | None]: ...  # gradients of the scores and, flat, of the parameters
def crf_viterbi(
    scores: Array, lengths: Array | None, parameters: Parameters, allowed: npt.NDArray[np.bool_] | None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]: ...  # (N, T) tags, (N,) scores
def crf_marginals(
    scores: Array, lengths: Array | None, parameters: Parameters, allowed: npt.NDArray[np.bool_] | None
) -> Array: ...
def ctc(
    logits: Array,
    targets: npt.NDArray[np.int64],  # (N, S): a row's labels end where a negative number does
    lengths: Array | None,
    weights: Array | None,
    gradient: bool,
    blank: int,
) -> tuple[float, Array | None, npt.NDArray[np.bool_]]: ...  # the last: the feasible rows
def ctc_greedy(
    logits: Array, lengths: Array | None, blank: int
) -> list[tuple[npt.NDArray[np.int64], float]]: ...  # labels, log-probability
def ctc_beam_search(
    logits: Array, lengths: Array | None, blank: int, beam_size: int, best: int
) -> list[list[tuple[npt.NDArray[np.int64], float]]]: ...

# Optimisers: on elements [begin, end) of the flat buffers, moments flat arrays of their size and dtype; each moves the
# version on. A rule is (lr, weight_decay, scale, limit, factor): steps see clamp(scale * gradient, -limit, limit) *
# factor.

# The squared norm of clamp(scale * gradient, -limit, limit) is the first number times 4 to the second; the third says
# how many elements were cut.
def gradient_norm(parameters: Parameters, scale: float, limit: float) -> tuple[float, int, int]: ...

# Puts handlers back where `holder` is still installed, then has those called whose signals came; whatever they raise.
def release_signals(
    holder: Callable[..., None], handlers: dict[int, Callable[..., Any]], came: Sequence[int]
) -> None: ...

class Turns:
    """Calls functions one at a time: threads wait for each other; a call inside another on the same thread is
    refused."""

    def __init__(self) -> None: ...
    def __call__(self, operation: str, function: Callable[..., _Result], *args: object) -> _Result: ...
    def read(self, function: Callable[..., _Result], *args: object) -> _Result: ...  # inside another, too
    # NotImplemented while another call is under way
    def attempt(self, function: Callable[..., _Result], *args: object) -> _Result: ...
    @property
    def inside(self) -> bool: ...  # whether this thread is in such a call

class StepGroup:
    """Steps of different streams that coroutines of one event loop ask for: gathered as they come, then scattered."""

    def __init__(
        self,
        dtype: str,
        features: int,
        owner: object,
        new_future: Callable[[], asyncio.Future[Any]],
        inbox: deque[Any],
    ) -> None: ...
    # None if the step is to take another way; the first one puts the group into the inbox
    def add(self, stream: object, x: Any, /) -> asyncio.Future[Any] | None: ...
    # x, slots, how many were cancelled, the seconds waited in all, (length in bits of the microseconds, how many); None
    # if a stream has no slot
    def take(self, now: float) -> tuple[npt.NDArray[Any], list[int], int, float, list[tuple[int, int]]] | None: ...
    def finish(self, y: npt.NDArray[Any], now: float) -> None: ...  # row i to the i-th that was taken
    def spread(
        self,
    ) -> list[tuple[Any, npt.NDArray[Any], asyncio.Future[Any], float]]: ...  # stream, x, future, since when
    def abandon(self) -> None: ...  # cancels those that were taken
    def clear(self) -> None: ...
    def __len__(self) -> int: ...  # those that wait
    @property
    def owner(self) -> Any: ...

class Update:
    """One optimiser's update of one layer, checked and ready to run; what the functions below return."""

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

def sgd_update(
    parameters: Parameters,
    begin: int,
    end: int,
    rule: tuple[float, float, float, float, float],  # lr, weight decay, scale, limit, factor
    velocity: Array | None,
    momentum: float,
    nesterov: bool,
) -> Update: ...
def adam_update(
    parameters: Parameters,
    begin: int,
    end: int,
    rule: tuple[float, float, float, float, float],  # lr, weight decay, scale, limit, factor
    m: Array,
    v: Array,
    step: int,  # 1 for the first
    beta1: float,
    beta2: float,
    eps: float,
    bare_eps: bool,  # SparseAdam
    decoupled: bool,  # AdamW
) -> Update: ...
def rmsprop_update(
    parameters: Parameters,
    begin: int,
    end: int,
    rule: tuple[float, float, float, float, float],  # lr, weight decay, scale, limit, factor
    square: Array,
    mean: Array | None,  # of a centred one
    velocity: Array | None,
    alpha: float,
    eps: float,
    momentum: float,
) -> Update: ...
def adagrad_update(
    parameters: Parameters,
    begin: int,
    end: int,
    rule: tuple[float, float, float, float, float],  # lr, weight decay, scale, limit, factor
    square: Array,
    eps: float,
) -> Update: ...

# All of them, then owner.update(attributes): one instruction, so that nothing can come between.
def run_updates(updates: Sequence[Update], owner: dict[str, Any], attributes: dict[str, Any]) -> None: ...

# Tokens, lengths, scores, log-probabilities and, with a memory, weights of the best hypotheses of each row.
def search(
    layers: Sequence[Layer],
    rows: int,
    state: Sequence[Array | None],
    memory: Array | None,
    memory_lengths: Array | None,
    start: int,
    end: int,  # below 0: none
    max_steps: int,
    beam_size: int,
    n_best: int,
    length_penalty: float,
) -> tuple[Array, Array, Array, Array, Array | None]: ...

# A program whose inputs are its own samples: see src/search/generation.h.
class Generation:
    def __init__(
        self,
        program: Program,
        x: Any,
        lengths: Any,
        feeds: Sequence[int],  # the output that feeds an input, -1 if it is given, -2 if it is a memory
        state: Sequence[Array] | None,
        heads: Sequence[dict[str, Any]],
        steps: int,
        seed: int,
        row_ids: Sequence[int],
        first_step: int,
    ) -> None: ...
    def run(self, steps: int) -> int: ...  # steps that are left
    def open_rows(self) -> Array: ...
    def end(self, row: int) -> None: ...
    # Samples and log-probabilities of each output, lengths and weights, from a step on.
    def generated(self, from_step: int = 0) -> tuple[list[Array], Array, list[Array], Array | None]: ...
    def state(self) -> list[Array]: ...

# (N, Tq, Tm), of an Attention or AttentionDecoder.
def attention_weights(
    layer: Layer,
    name: str,
    query: Array,
    memory: Array,
    lengths: Array | None,
    memory_lengths: Array | None,
    state: Sequence[Array | None],
) -> Array: ...
