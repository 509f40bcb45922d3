"""Long short-term memory."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from recurra.common import checks
from recurra.common.docstrings import with_inherited_arguments
from recurra.common.initialise import set_forget_bias
from recurra.common.typing import Array
from recurra.layers.recurrent.cell_activation import CellActivation, cell_activation, core_activation
from recurra.layers.recurrent.regularised import Regularised
from recurra.saving.registry import built_in

if TYPE_CHECKING:
    import numpy.typing as npt


@built_in
@with_inherited_arguments
class LSTM(Regularised[tuple[Array, Array]]):
    """Long short-term memory (Hochreiter and Schmidhuber 1997) with forget gates (Gers, Schmidhuber, Cummins 2000):

        i = sigmoid(W_ii x + b_ii + W_hi h + b_hi)        f = sigmoid(W_if x + b_if + W_hf h + b_hf)
        g =    tanh(W_ig x + b_ig + W_hg h + b_hg)        o = sigmoid(W_io x + b_io + W_ho h + b_ho)
        c' = f * c + i * g                                h' = o * tanh(c')

    `y, (h_n, c_n) = lstm(x)`: x (N, T, I), y (N, T, D * H), h_n and c_n (num_layers * D, N, H). With proj_size P, y is
    (N, T, D * P) and h_n (num_layers * D, N, P).

    Args:
        proj_size: 0 for none, or P < H: h' = W_hr (o * tanh(c')), of size P (Sak, Senior, Beaufays 2014; PyTorch's
            proj_size).
        peepholes: whether the gates see c (Gers, Schraudolph, Schmidhuber 2002): p_i * c and p_f * c are added inside i
            and f, p_o * c' inside o.
        zoneout_cell: zoneout of c, as `zoneout` is of h.
        cell_clip: None, or v > 0: c' is clipped to [-v, v]; clipped units pass no gradient back.
        activation: replaces tanh, of g and of c' in h': "tanh", "sigmoid", "relu", "hard_sigmoid" (clip(v / 6 + 1/2, 0,
            1), as in Keras 3 and PyTorch), "softsign" (v / (1 + abs(v))), "linear", or ("hard_sigmoid", alpha, beta)
            for clip(alpha * v + beta, 0, 1): 0.2 and 0.5 in Keras 1 and 2 and by default in ONNX.
        recurrent_activation: replaces the sigmoid of i, f and o; the same choices.
        output_activation: of c' in h' alone; None for `activation`.
        forget_bias: None, or the forget gate's initial bias (Jozefowicz, Zaremba, Sutskever 2015): its part of bias_ih
            is set to this number, its part of bias_hh to 0.

    Further parameters, for each layer and direction: with proj_size, weight_hr_lk (P, H), and weight_hh_lk is (4 * H,
    P), weight_ih_lk (4 * H, D * P) above the first layer; with peepholes, weight_peephole_lk (3 * H), in the order p_i,
    p_f, p_o; with layer_norm, the gain weight_norm_c_lk and the bias bias_norm_c_lk (H) of c's norm, initially 1 and 0.

    Example:
        >>> lstm = rc.LSTM(3, 8, num_layers=2, bidirectional=True)
        >>> y, (h_n, c_n) = lstm(np.ones((2, 5, 3), np.float32), lengths=[5, 2])
        >>> y.shape, h_n.shape, c_n.shape
        ((2, 5, 16), (4, 2, 8), (4, 2, 8))
    """

    gates = 4
    state_names = ("h", "c")

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
        proj_size: int = 0,
        peepholes: bool = False,
        zoneout_cell: float = 0.0,
        cell_clip: float | None = None,
        activation: CellActivation = "tanh",
        recurrent_activation: CellActivation = "sigmoid",
        output_activation: CellActivation | None = None,
        forget_bias: float | None = None,
        layer_norm: bool = False,
        input_dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        zoneout: float = 0.0,
        recurrent_init: str = "uniform",
        dtype: npt.DTypeLike = "float32",
        seed: int | None = None,
    ) -> None:
        self.proj_size = checks.integer("LSTM", "proj_size", proj_size, 0)
        self.peepholes = checks.flag("LSTM", "peepholes", peepholes)
        self.zoneout_cell = checks.chance("LSTM", "zoneout_cell", zoneout_cell)
        self.cell_clip = None if cell_clip is None else checks.positive("LSTM", "cell_clip", cell_clip)
        self.activation = cell_activation("LSTM", "activation", activation)
        self.recurrent_activation = cell_activation("LSTM", "recurrent_activation", recurrent_activation)
        self.output_activation = (
            None if output_activation is None else cell_activation("LSTM", "output_activation", output_activation)
        )
        self.forget_bias = None if forget_bias is None else checks.number("LSTM", "forget_bias", forget_bias, -math.inf)
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
        return "lstm"

    @property
    def state_sizes(self) -> tuple[int, ...]:
        """Sizes of h and of c."""
        return self.proj_size or self.hidden_size, self.hidden_size

    def _core_options(self) -> dict[str, Any]:
        if self.proj_size >= self.hidden_size:
            raise ValueError(
                f"LSTM: got proj_size={self.proj_size}, expected less than hidden_size={self.hidden_size}, as a "
                "projection makes h smaller; lower proj_size, or set 0 for none"
            )
        if self.forget_bias is not None and not self.bias:
            raise ValueError(
                f"LSTM: got forget_bias={self.forget_bias} with bias=False, expected bias=True, as it sets a bias; "
                "leave one of them out"
            )
        own = {name: getattr(self, name) for name in ("proj_size", "peepholes", "zoneout_cell")}
        chosen = (self.recurrent_activation, self.activation, self.output_activation or self.activation)
        activations = [core_activation(one) for one in chosen]
        return {**super()._core_options(), **own, "cell_clip": self.cell_clip or 0.0, "activations": activations}

    @classmethod
    def _output_units(cls, config: Mapping[str, Any]) -> int:
        return operator.index(config.get("proj_size", 0)) or super()._output_units(config)

    @classmethod
    def _count_option_parameters(cls, config: Mapping[str, Any]) -> int:
        projected = operator.index(config.get("proj_size", 0))
        per_unit = projected + (3 if config.get("peepholes") else 0) + (2 if config.get("layer_norm") else 0)
        return super()._count_option_parameters(config) + per_unit * operator.index(config["hidden_size"])

    def _initial(self, rng: np.random.Generator, name: str) -> Array:
        if name.startswith("bias_norm"):
            return np.zeros(self.parameters.shape(name))
        value = super()._initial(rng, name)
        if self.forget_bias is not None and name.startswith("bias"):
            set_forget_bias(value, name, self.hidden_size, self.forget_bias)
        return value
