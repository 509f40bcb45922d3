"""Options of RNN, LSTM and GRU beyond their plain equations: layer norm, dropout, zoneout, initialisation."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from recurra.common import checks
from recurra.common.initialise import orthogonal_gates
from recurra.common.typing import Array, Carried
from recurra.layers.recurrent.recurrent import Recurrent

if TYPE_CHECKING:
    import numpy.typing as npt


class Regularised(Recurrent[Carried]):
    """The base of RNN, LSTM and GRU. docs/cell_options.md has the equations; all options are off by default.

    Args:
        layer_norm: whether the products W_ih x and W_hh h are normalised, each over all its G * H values, before the
            biases are added (Ba, Kiros, Hinton 2016; epsilon 1e-5); in the LSTM also c', over its H values, before its
            activation in h'.
        input_dropout: probability, below 1, that training zeroes a feature of a layer's input for the whole sequence
            (variational dropout, Gal and Ghahramani 2016); the others are scaled by 1 / (1 - input_dropout).
        recurrent_dropout: the same for the units of h, in the recurrent products only.
        zoneout: probability, below 1, that in training a unit of h keeps its value from the previous step (Krueger et
            al. 2017); inference uses the expectation.
        recurrent_init: "uniform", or "orthogonal": each gate's block of weight_hh is an orthogonal matrix (Saxe,
            McClelland, Ganguli 2014), or has orthonormal columns if it is not square.

    Parameters of layer_norm, for each layer and direction: the gains weight_norm_ih_lk
    and weight_norm_hh_lk (G * H), initially 1. bias_ih_lk and bias_hh_lk are the norms' biases.
    """

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
        layer_norm: bool = False,
        input_dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        zoneout: float = 0.0,
        recurrent_init: str = "uniform",
        dtype: npt.DTypeLike = "float32",
        seed: int | None = None,
    ) -> None:
        name = type(self).__name__
        self.layer_norm = checks.flag(name, "layer_norm", layer_norm)
        self.input_dropout = checks.chance(name, "input_dropout", input_dropout)
        self.recurrent_dropout = checks.chance(name, "recurrent_dropout", recurrent_dropout)
        self.zoneout = checks.chance(name, "zoneout", zoneout)
        self.recurrent_init: str = checks.choice(name, "recurrent_init", recurrent_init, ("uniform", "orthogonal"))
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

    def _core_options(self) -> dict[str, Any]:
        names = ("layer_norm", "input_dropout", "recurrent_dropout", "zoneout")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def _count_option_parameters(cls, config: Mapping[str, Any]) -> int:
        gates = cls.gates * operator.index(config["hidden_size"])
        return 2 * gates if config.get("layer_norm") else 0

    def _initial(self, rng: np.random.Generator, name: str) -> Array:
        shape = self.parameters.shape(name)
        if name.startswith("weight_norm"):
            return np.ones(shape)
        if self.recurrent_init == "orthogonal" and name.startswith("weight_hh"):
            return orthogonal_gates(rng, shape, self.gates)
        return super()._initial(rng, name)
