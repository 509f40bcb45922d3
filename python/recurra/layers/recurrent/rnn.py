"""The plain (Elman) recurrent network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from recurra.common.docstrings import with_inherited_arguments
from recurra.common.typing import Array
from recurra.layers.recurrent.cell_activation import CellActivation, cell_activation, core_activation
from recurra.layers.recurrent.regularised import Regularised
from recurra.saving.registry import built_in

if TYPE_CHECKING:
    import numpy.typing as npt


@built_in
@with_inherited_arguments
class RNN(Regularised[Array]):
    """The plain recurrent network (Elman 1990), with f = tanh by default:

        h' = f(W_ih x + b_ih + W_hh h + b_hh)

    `y, h_n = rnn(x)`: x (N, T, I), y (N, T, D * H), h_n (num_layers * D, N, H).

    Args:
        nonlinearity: f: "tanh", "relu", "sigmoid", "hard_sigmoid" (clip(v / 6 + 1/2, 0, 1), as in Keras 3 and PyTorch),
            "softsign" (v / (1 + abs(v))), "linear", or ("hard_sigmoid", alpha, beta) for clip(alpha * v + beta, 0, 1):
            0.2 and 0.5 in Keras 1 and 2 and by default in ONNX.

    Example:
        >>> y, h_n = rc.RNN(3, 8)(np.ones((2, 5, 3), np.float32))
        >>> y.shape, h_n.shape
        ((2, 5, 8), (1, 2, 8))
    """

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
        nonlinearity: CellActivation = "tanh",
        layer_norm: bool = False,
        input_dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        zoneout: float = 0.0,
        recurrent_init: str = "uniform",
        dtype: npt.DTypeLike = "float32",
        seed: int | None = None,
    ) -> None:
        self.nonlinearity = cell_activation("RNN", "nonlinearity", nonlinearity)
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
        return f"rnn_{self.nonlinearity}" if self.nonlinearity in ("tanh", "relu", "sigmoid") else "rnn_tanh"

    def _core_options(self) -> dict[str, Any]:
        activations = [core_activation(one) for one in (None, self.nonlinearity, None)]
        return {**super()._core_options(), "activations": activations}
