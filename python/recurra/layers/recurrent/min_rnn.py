"""minGRU and minLSTM: gates that do not see the state, so that a whole sequence trains in parallel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recurra.common import checks
from recurra.common.docstrings import with_inherited_arguments
from recurra.common.typing import Array
from recurra.layers.recurrent.recurrent import Recurrent
from recurra.saving.registry import built_in

if TYPE_CHECKING:
    import numpy.typing as npt


class MinRNN(Recurrent[Array]):
    """The base of MinGRU and MinLSTM.

    Args:
        positive: whether the candidate is g(W_h x + b_h), g(v) = v + 1/2 for v >= 0, else sigmoid(v), which keeps h
            positive: the form of the paper's appendix, and of implementations in log space. Otherwise g(v) = v.

    These layers have neither weight_hh nor bias_hh.
    """

    state_names = ("h",)
    gates_see_state = False
    core_name: str

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
        positive: bool = False,
        dtype: npt.DTypeLike = "float32",
        seed: int | None = None,
    ) -> None:
        self.positive = checks.flag(type(self).__name__, "positive", positive)
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias=bias,
            batch_first=batch_first,
            dropout=dropout,
            bidirectional=bidirectional,
            return_sequences=return_sequences,
            dtype=dtype,
            seed=seed,
        )

    def _cell(self) -> str:
        return self.core_name + ("_positive" if self.positive else "")


@built_in
@with_inherited_arguments
class MinGRU(MinRNN):
    """minGRU (Feng, Tung, Ahmed, Bengio, Hajimirsadeghi 2024, "Were RNNs All We Needed?", section 3.1):

        z = sigmoid(W_z x + b_z)        n = g(W_n x + b_n)
        h' = (1 - z) * h + z * n

    `y, h_n = min_gru(x)`: x (N, T, I), y (N, T, D * H), h_n (num_layers * D, N, H). The rows of weight_ih_lk
    (2 * H, I, or D * H above the first layer) and bias_ih_lk (2 * H) are those of z, then n.

    Example:
        >>> y, h_n = rc.MinGRU(3, 8)(np.ones((2, 1000, 3), np.float32))
        >>> y.shape, h_n.shape
        ((2, 1000, 8), (1, 2, 8))
    """

    gates = 2
    core_name = "min_gru"


@built_in
@with_inherited_arguments
class MinLSTM(MinRNN):
    """minLSTM (Feng, Tung, Ahmed, Bengio, Hajimirsadeghi 2024, "Were RNNs All We Needed?", section 3.2), with
    normalised gates, so that the state's scale does not depend on the length:

        f = sigmoid(W_f x + b_f)        i = sigmoid(W_i x + b_i)        n = g(W_n x + b_n)
        h' = f / (f + i) * h + i / (f + i) * n

    `y, h_n = min_lstm(x)`: x (N, T, I), y (N, T, D * H), h_n (num_layers * D, N, H). The rows of weight_ih_lk
    (3 * H, I, or D * H above the first layer) and bias_ih_lk (3 * H) are those of f, i, then n.

    Example:
        >>> y, h_n = rc.MinLSTM(3, 8, positive=True)(np.ones((2, 1000, 3), np.float32))
        >>> y.shape, h_n.shape
        ((2, 1000, 8), (1, 2, 8))
    """

    gates = 3
    core_name = "min_lstm"
