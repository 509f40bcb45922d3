"""The gated recurrent unit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from recurra.common import checks
from recurra.common.docstrings import with_inherited_arguments
from recurra.common.typing import Array
from recurra.layers.recurrent.cell_activation import CellActivation, cell_activation, core_activation
from recurra.layers.recurrent.regularised import Regularised
from recurra.saving.registry import built_in

if TYPE_CHECKING:
    import numpy.typing as npt


@built_in
@with_inherited_arguments
class GRU(Regularised[Array]):
    """The gated recurrent unit (Cho et al. 2014):

        r = sigmoid(W_ir x + b_ir + W_hr h + b_hr)        z = sigmoid(W_iz x + b_iz + W_hz h + b_hz)
        n = tanh(W_in x + b_in + r * (W_hn h + b_hn))     h' = (1 - z) * n + z * h

    This is the form of PyTorch and cuDNN. With reset_after=False it is the paper's: n = tanh(W_in x + b_in + W_hn (r *
    h) + b_hn). Both forms have parameters of the same names and shapes, but they are not interchangeable.

    `y, h_n = gru(x)`: x (N, T, I), y (N, T, D * H), h_n (num_layers * D, N, H).

    Args:
        reset_after: True for the form of PyTorch and cuDNN, False for the paper's.
        activation: replaces the tanh of n: "tanh", "sigmoid", "relu", "hard_sigmoid" (clip(v / 6 + 1/2, 0, 1), as in
            Keras 3 and PyTorch), "softsign" (v / (1 + abs(v))), "linear", or ("hard_sigmoid", alpha, beta) for
            clip(alpha * v + beta, 0, 1): 0.2 and 0.5 in Keras 1 and 2 and by default in ONNX.
        recurrent_activation: replaces the sigmoid of r and z; the same choices.

    Example:
        >>> y, h_n = rc.GRU(3, 8, return_sequences=False)(np.ones((2, 5, 3), np.float32))
        >>> y.shape, h_n.shape
        ((2, 8), (1, 2, 8))
    """

    gates = 3
    state_names = ("h",)

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
        reset_after: bool = True,
        activation: CellActivation = "tanh",
        recurrent_activation: CellActivation = "sigmoid",
        layer_norm: bool = False,
        input_dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        zoneout: float = 0.0,
        recurrent_init: str = "uniform",
        dtype: npt.DTypeLike = "float32",
        seed: int | None = None,
    ) -> None:
        self.reset_after = checks.flag("GRU", "reset_after", reset_after)
        self.activation = cell_activation("GRU", "activation", activation)
        self.recurrent_activation = cell_activation("GRU", "recurrent_activation", recurrent_activation)
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias=bias,
            batch_first=batch_first,
            dropout=dropout,
            bidirectional=bidirectional,
            return_sequences=return_sequences,
            layer_norm=layer_norm,
            input_dropout=input_dropout,
            recurrent_dropout=recurrent_dropout,
            zoneout=zoneout,
            recurrent_init=recurrent_init,
            dtype=dtype,
            seed=seed,
        )

    def _cell(self) -> str:
        return "gru" if self.reset_after else "gru_reset_before"

    def _core_options(self) -> dict[str, Any]:
        if self.layer_norm and not self.reset_after:
            raise ValueError(
                "GRU: got layer_norm=True with reset_after=False, expected reset_after=True, as the norm needs W_hh h "
                "of all gates, which the other form never computes; leave one of them out"
            )
        activations = [core_activation(one) for one in (self.recurrent_activation, self.activation, None)]
        return {**super()._core_options(), "activations": activations}
