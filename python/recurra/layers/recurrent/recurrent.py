"""What all recurrent layers share: stacks of any number of layers, in one or both directions."""

from __future__ import annotations

import operator
from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from recurra import _core
from recurra.common import checks, errors
from recurra.common.initialise import uniform
from recurra.common.typing import Array
from recurra.layers.native import NativeLayer

if TYPE_CHECKING:
    import numpy.typing as npt


class Recurrent(NativeLayer):
    """The base of all recurrent layers.

    Args:
        input_size: features of x, I.
        hidden_size: units of each layer and direction, H.
        num_layers: layers, each reading the outputs of the one below.
        bias: whether there are the vectors bias_ih and bias_hh.
        batch_first: whether arrays are (N, T, features); False, (T, N, features), is for a layer used alone.
        dropout: chance, below 1, that training sets an output between two layers to zero; the others are scaled up. With a
            single layer there is none, and a warning.
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
        self.dropout = checks.chance(name, "dropout", dropout)
        if self.dropout and self.num_layers == 1:
            errors.warn(
                f"{name}: got dropout={dropout} with num_layers=1, which drops nothing, as it lies between two layers; put "
                f"Dropout({dropout}) behind the layer, or raise num_layers",
                UserWarning,
            )
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
            **self._core_options(),
        )
        super().__init__(core, seed)

    @abstractmethod
    def _cell(self) -> str:
        """The core's name of the cell."""

    def _core_options(self) -> dict[str, Any]:
        """What else the core is told; a ValueError where options do not go together."""
        return {}

    @property
    def input_size(self) -> int:
        """Features of the input."""
        return self._input_size

    @property
    def num_directions(self) -> int:
        """1, or 2 if bidirectional."""
        return 2 if self.bidirectional else 1

    @property
    def state_sizes(self) -> tuple[int, ...]:
        """Values of a row in each array of the state, for each layer and direction."""
        return (self.hidden_size,) * len(self.state_names)

    @property
    def output_size(self) -> int:
        """Features of the output: the size of h for each direction."""
        return self.num_directions * self.state_sizes[0]

    def state_zeros(self, batch_size: int) -> list[Array]:
        """Zeros, (num_layers * num_directions, N, H or h's own size) for each array of the state."""
        rows = checks.integer(f"{self.label}.init_state", "batch_size", batch_size, 0)
        slots = self.num_layers * self.num_directions
        return [np.zeros((slots, rows, size), self.dtype) for size in self.state_sizes]

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
        directions, outputs = 2 if config["bidirectional"] else 1, cls._output_units(config)
        sources = 2 if cls.gates_see_state else 1
        per_unit = (outputs if cls.gates_see_state else 0) + (sources if config["bias"] else 0)
        columns = inputs + per_unit + (layers - 1) * (directions * outputs + per_unit)
        return directions * (cls.gates * hidden * columns + layers * cls._count_option_parameters(config))

    @classmethod
    def _output_units(cls, config: Mapping[str, Any]) -> int:
        """Values of h."""
        return operator.index(config["hidden_size"])

    @classmethod
    def _count_option_parameters(cls, config: Mapping[str, Any]) -> int:
        """What options add to a layer and direction; a configuration may be older than they are."""
        return 0

    def _draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        return uniform(rng, shape, self.hidden_size)
