"""The native core. Use the layers and models of `recurra`, not this module: it checks, but it does not explain."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]

__version__: str

def num_threads() -> int: ...
def set_num_threads(threads: int) -> None: ...
def isa() -> str: ...
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
    def grads(self) -> Array: ...  # flat, writable
    def value(self, name: str) -> Array: ...  # a read-only view
    def grad(self, name: str) -> Array: ...  # a writable view
    def writable(self, name: str) -> Array: ...  # call touch() after the last write
    def assign(self, name: str, array: Array) -> None: ...  # checks shape and dtype, moves the version on
    def touch(self) -> None: ...
    def zero_grad(self) -> None: ...

class Layer:
    """A native layer. Sizes are fixed, parameters are not; holds no sequence state."""

    @property
    def parameters(self) -> Parameters: ...
    @property
    def dtype(self) -> str: ...

class Recurrent(Layer):
    def __init__(
        self,
        cell: str,  # "rnn_tanh", "rnn_relu", "rnn_sigmoid", "lstm", "gru", "gru_reset_before"
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
    ) -> None: ...

class Dense(Layer):
    def __init__(self, in_features: int, out_features: int, *, bias: bool = True, dtype: str = "float32") -> None: ...

class Embedding(Layer):
    def __init__(self, num_embeddings: int, embedding_dim: int, *, dtype: str = "float32") -> None: ...

class Dropout(Layer):
    def __init__(self, p: float, *, dtype: str = "float32") -> None: ...

class Tape:
    """A recorded forward. Owns its memory; runs backwards once."""

    @property
    def y(self) -> Array: ...  # a read-only view that keeps the memory alive
    @property
    def state(self) -> list[Array]: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def closed(self) -> bool: ...
    def backward(
        self, dy: Array | None, dstate: Sequence[Array | None] | None = None
    ) -> tuple[Array | None, list[Array]]: ...
    def close(self) -> None: ...

class Stream:
    """The state of `batch_size` sequences and the buffers of a step."""

    @property
    def batch_size(self) -> int: ...
    def step(self, x: Array, reset: Array | None = None, out: Array | None = None) -> Array: ...
    def process(self, x: Array, reset: Array | None = None, out: Array | None = None) -> Array: ...
    def reset(self, rows: Array | None = None) -> None: ...
    def state(self) -> list[Array]: ...
    def load_state(self, state: Sequence[Array]) -> None: ...
    def fork(self, copies: int) -> Stream: ...  # row r becomes rows r*copies ... r*copies + copies - 1

class Program:
    """Native layers in a row, run by one call."""

    def __init__(self, layers: Sequence[Layer], name: str) -> None: ...
    @property
    def dtype(self) -> str: ...
    @property
    def input_kind(self) -> str: ...  # "tokens" or "features"
    @property
    def input_size(self) -> int: ...  # features, or the number of embeddings; 0: any
    @property
    def output_size(self) -> int: ...  # 0: as the input
    @property
    def returns_sequences(self) -> bool: ...
    @property
    def state_spec(self) -> list[tuple[int, str, int, int]]: ...  # (layer index, "h" or "c", layers * directions, size)
    @property
    def streamable(self) -> bool: ...
    def forward(
        self,
        x: Array,
        lengths: Array | None = None,
        reset: Array | None = None,
        state: Sequence[Array] | None = None,
        time_major: bool = False,
    ) -> tuple[Array, list[Array]]: ...
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
    ) -> Tape: ...
    def stream(self, batch_size: int) -> Stream: ...

# Losses: (sum over the valid elements, their count, gradient of the sum or None).
# Predictions are (N, T, F) or (N, F); lengths (N,) only with the former.

def softmax_cross_entropy(
    logits: Array, targets: npt.NDArray[np.int64], lengths: Array | None, gradient: bool
) -> tuple[float, int, Array | None]: ...
def binary_cross_entropy(
    logits: Array, targets: Array, lengths: Array | None, gradient: bool
) -> tuple[float, int, Array | None]: ...
def mean_squared_error(
    predictions: Array, targets: Array, lengths: Array | None, gradient: bool
) -> tuple[float, int, Array | None]: ...

# Optimisers: on elements [begin, end) of the flat buffers; `scale` multiplies the gradient first; each moves the version on.

def squared_norm(parameters: Parameters) -> float: ...
def sgd_step(
    parameters: Parameters,
    begin: int,
    end: int,
    velocity: Array | None,  # flat, of the parameters' size and dtype
    lr: float,
    momentum: float,
    nesterov: bool,
    weight_decay: float,
    scale: float,
) -> None: ...
def adam_step(
    parameters: Parameters,
    begin: int,
    end: int,
    m: Array,
    v: Array,
    step: int,  # 1 for the first
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    decoupled: bool,  # AdamW
    scale: float,
) -> None: ...
