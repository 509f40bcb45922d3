"""The plain recurrent network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recurra.common import checks
from recurra.layers.recurrent.regularised import CellOptions, Regularised
from recurra.saving.registry import built_in

if TYPE_CHECKING:
    from typing_extensions import Unpack


@built_in
class RNN(Regularised):
    """The plain recurrent network (Elman 1990), with f tanh, relu or sigmoid:

        h' = f(W_ih x + b_ih + W_hh h + b_hh)

    `y, h_n = rnn(x)`: x (N, T, I), y (N, T, D * H), h_n (num_layers * D, N, H).

    Args:
        nonlinearity: "tanh", "relu" or "sigmoid"; all others as in `Regularised` and `Recurrent`.
    """

    state_names = ("h",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        nonlinearity: str = "tanh",
        **options: Unpack[CellOptions],
    ) -> None:
        self.nonlinearity: str = checks.choice("RNN", "nonlinearity", nonlinearity, ("tanh", "relu", "sigmoid"))
        super().__init__(input_size, hidden_size, num_layers, **options)

    def _cell(self) -> str:
        return f"rnn_{self.nonlinearity}"
