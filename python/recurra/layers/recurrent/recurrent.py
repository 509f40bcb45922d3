"""The base of recurrent layers: stacks of any number of layers, in one or both directions."""

from __future__ import annotations

import operator
from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Generic, overload

import numpy as np

from recurra import _core
from recurra.common import checks, errors
from recurra.common.initialise import uniform
from recurra.common.typing import Array, Carried
from recurra.layers.native import NativeLayer
from recurra.saving.registry import built_in_later

if TYPE_CHECKING:
    import numpy.typing as npt

    from recurra.graph.symbolic import Symbol
    from recurra.layers.layer import Symbols
    from recurra.running.tape import Tape

built_in_later("OwnCell", "recurra.layers.recurrent.own_cell")


class Recurrent(NativeLayer, Generic[Carried]):
    """The base of all recurrent layers.

    Args:
        input_size: features of x, I.
        hidden_size: units of each layer and direction, H.
        num_layers: layers, each reading the outputs of the one below.
        bias: whether to add the biases bias_ih and bias_hh.
        batch_first: whether arrays are (N, T, features); False, for (T, N, features), works only for a layer outside a
            model.
        dropout: probability, below 1, that training zeroes an output between two layers; the others are scaled by 1 /
            (1 - dropout). A single layer has none, and warns.
        bidirectional: whether each layer also reads the sequences backwards; D = 2, the directions' outputs are
            concatenated.
        return_sequences: True for all outputs, (N, T, D * H); False for each direction's last valid output, (N, D * H).
        dtype: float32 or float64.
        seed: for the parameters, drawn from U(-1/sqrt(H), 1/sqrt(H)) as in PyTorch; None for a fresh seed.

    Parameters, named as in PyTorch (k is the layer; `_reverse` is appended for the second direction), with G gates of H
    rows each in the order of the equations: weight_ih_lk (G * H, I, or D * H above the first layer), weight_hh_lk (G *
    H, H), bias_ih_lk and bias_hh_lk (G * H).
    """

    needs_sequences = True
    gates = 1
    #: Whether the gates depend on the state, through weight_hh and bias_hh.
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
                f"{name}: got dropout={dropout} with num_layers=1, which drops nothing, as dropout lies between two "
                f"layers; put Dropout({dropout}) after the layer, or raise num_layers",
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

    if TYPE_CHECKING:  # the state's type; at run time the base's call, without one more on the way

        @overload
        def __call__(
            self, x: Symbols, state: Any = None, lengths: Any = None, reset: Any = None, mask: Any = None
        ) -> Symbol: ...
        @overload
        def __call__(
            self, x: Any, state: Carried | None = None, lengths: Any = None, reset: Any = None, mask: Any = None
        ) -> tuple[Array, Carried]: ...
        def __call__(
            self, x: Any, state: Any = None, lengths: Any = None, reset: Any = None, mask: Any = None
        ) -> Any: ...

        def init_state(self, batch_size: int) -> Carried: ...

        def record(
            self,
            x: Any,
            state: Carried | None = None,
            lengths: Any = None,
            reset: Any = None,
            training: bool = True,
            input_grad: bool = True,
            seed: int | None = None,
            memory_budget: int | None = None,
            mask: Any = None,
            first_row: int = 0,
            memory: Any = None,
        ) -> Tape[Carried]: ...

    @abstractmethod
    def _cell(self) -> str:
        """The core's name of the cell."""

    def _core_options(self) -> dict[str, Any]:
        """The core's further options; raises ValueError where they exclude one another."""
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
        """Features of each state array, for one layer and direction."""
        return (self.hidden_size,) * len(self.state_names)

    @property
    def output_size(self) -> int:
        """Features of the output: the size of h for each direction."""
        return self.num_directions * self.state_sizes[0]

    def state_zeros(self, batch_size: int) -> list[Array]:
        """Zeros, (num_layers * num_directions, N, size) for each of `state_sizes`."""
        rows = checks.integer(f"{self.label}.init_state", "batch_size", batch_size, 0)
        slots = self.num_layers * self.num_directions
        return [np.zeros((slots, rows, size), self.dtype) for size in self.state_sizes]

    def why_not_streamable(self) -> str | None:
        """Streams if unidirectional, batch-first and with an output for every step."""
        if self.bidirectional:
            return (
                "is bidirectional and needs the end of a sequence first; stream a layer made with bidirectional=False"
            )
        if not self.batch_first:
            return "has batch_first=False; a stream takes (N, features), so make the layer with batch_first=True"
        if not self.return_sequences:
            return (
                "has return_sequences=False; a stream gives every step's output, so make it with return_sequences=True"
            )
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
        """Size of h."""
        return operator.index(config["hidden_size"])

    @classmethod
    def _count_option_parameters(cls, config: Mapping[str, Any]) -> int:
        """Parameters that options add to each layer and direction; older configurations may lack the options."""
        return 0

    def _draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        return uniform(rng, shape, self.hidden_size)
