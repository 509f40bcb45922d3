"""Cells that users define by their equations."""

from __future__ import annotations

import json
import operator
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from recurra import _core
from recurra.common import checks
from recurra.common.initialise import drawing
from recurra.common.typing import Array, State
from recurra.layers.layer import rebuild
from recurra.layers.recurrent.recurrent import Recurrent
from recurra.saving.registry import built_in

if TYPE_CHECKING:
    import numpy.typing as npt
    from typing_extensions import Self

    from recurra.layers.layer import Layer
    from recurra.layers.own.equations import Equations

#: By name, text and initial values: the same call gives the same class.
_MADE: dict[tuple[str, str, str], type[OwnCell]] = {}


def cell(name: str, equations: str, init: Mapping[str, Any] | None = None) -> type[OwnCell]:
    """A class of recurrent layers from the equations of one step, to be used as `recurra.GRU` is.

    The equations are compiled by the C++ compiler that is installed, once for each text, and run at the speed of the
    built-in cells. Their derivative is found from the text. Values and gradients are checked here, in float64, against
    the text as numpy runs it and against central differences.

    Args:
        name: of the class.
        equations: assignments, one a line or separated by semicolons: the body of the loop over time, as Python would
            run it on numpy arrays. `x` is the input of the step, (I,), and `h` the output, (H,), which must be
            assigned. A name that is read before its assignment has its value of the step before: it is a state. Beside
            h there may be one more, such as c. Other names that are assigned are intermediate values. Names that are
            not assigned are parameters: matrices where they stand before @, else vectors, (H,).

            `W @ x` and `U @ h`, with h of the step before, are the matrix products that there may be: at most four sums
            of them. Everything else is elementwise: + - * /, ** 2 to 4, numbers, and the functions tanh, sigmoid, relu,
            exp, sqrt, softsign, hard_sigmoid, silu, abs(a), minimum(a, b), maximum(a, b), clip(a, low, high),
            where(a < b, then, otherwise). x itself may stand elementwise if it has H features in all layers.
        init: initial values of parameters, by name: a number, or a pair (low, high) of a uniform distribution. The
            others are drawn from U(-1/sqrt(H), 1/sqrt(H)).

    Raises:
        ValueError: equations that are none, or beyond the above; the message shows the place.
        RuntimeError: there is no C++ compiler; the message says what to install.

    Example:
        >>> IndRNN = rc.cell("IndRNN", "h = relu(W @ x + u * h + b)")
        >>> layer = IndRNN(3, 8, num_layers=2)
        >>> y, h_n = layer(np.ones((2, 5, 3), np.float32))
        >>> y.shape, h_n.shape, layer.params["u_l0"].shape
        ((2, 5, 8), (2, 2, 8), (8,))
    """
    for what, value in (("name", name), ("equations", equations)):
        if not isinstance(value, str):
            raise TypeError(f"cell: got {what}={value!r} of type {type(value).__name__}, expected a string; quote it")
    if not name.isidentifier() or not name.isascii():
        raise ValueError(f"cell: got name={name!r}, expected one for a class; write letters, digits and underscores")
    starts = _initial_values({} if init is None else init)
    key = (name, equations, json.dumps(starts, sort_keys=True))
    made = _MADE.get(key)
    if made is None:
        made = _MADE.setdefault(key, _make(name, equations, starts))
    return made


def _initial_values(init: Any) -> dict[str, Any]:
    """`init` as plain data."""
    if not isinstance(init, Mapping):
        raise TypeError(f"cell: got init={init!r}, expected values by parameter; write {{'u': 1.0}}")
    plain: dict[str, Any] = {}
    for name, value in init.items():
        if isinstance(value, tuple | list) and len(value) == 2:
            low, high = (checks.number("cell", f"init[{name!r}]", one, -1e30, 1e30) for one in value)
            if low > high:
                raise ValueError(
                    f"cell: got init[{name!r}]=({low:g}, {high:g}), expected the lower end first; write "
                    f"({high:g}, {low:g})"
                )
            plain[name] = [low, high]
        else:
            plain[name] = checks.number("cell", f"init[{name!r}]", value, -1e30, 1e30)
    return plain


def _make(name: str, text: str, starts: dict[str, Any]) -> type[OwnCell]:
    from recurra.layers.own import check, compiler, native  # late: few need them

    equations = _read(text)
    unknown = [one for one in starts if one not in native.parameters_of(equations)]
    if unknown:
        names = ", ".join(native.parameters_of(equations))
        raise ValueError(f"cell: got init of {unknown[0]!r}, expected a parameter of the equations; there are: {names}")
    source = native.source_of("cell", equations)
    addresses = compiler.compile_cell("cell", source.text)
    made: type[OwnCell] = type(name, (OwnCell,), {"__doc__": f"{name}, defined by rc.cell:\n\n{text}"})
    made.equations, made.init = equations.text, starts
    made._native = native.native_cell(name, equations, source, addresses)
    made.state_names = ("h",) if equations.state is None else ("h", equations.state)
    made._built_in = made
    made.described_as = OwnCell.__name__
    with drawing(True):
        size = 5
        layer = made(size if equations.reads_input else 3, size, dtype="float64", seed=1)
    check.check_cell("cell", equations, layer)
    return made


def _read(text: str) -> Equations:
    from recurra.layers.own.equations import Equations

    return Equations("cell", text)


@built_in
class OwnCell(Recurrent[State]):
    """The base of the classes that `recurra.cell` makes.

    Args:
        input_size, hidden_size, num_layers, batch_first, dropout, bidirectional, return_sequences, dtype, seed: as of
            `recurra.GRU`.

    Parameters have the names of the equations with `_lk` for layer k, and `_reverse` for the second direction: matrices
    (H, I) or (H, D * H) above the first layer, and (H, H); biases and vectors (H).

    Example:
        >>> Leaky = rc.cell(
        ...     "Leaky", "h = a * h + (1 - a) * tanh(W @ x + U @ h + b)", init={"a": 0.9}
        ... )
        >>> issubclass(Leaky, rc.OwnCell), list(Leaky(3, 8).params)
        (True, ['W_l0', 'U_l0', 'b_l0', 'a_l0'])
    """

    #: The text, and the initial values, of a class made by `cell`.
    equations: ClassVar[str] = ""
    init: ClassVar[dict[str, Any]] = {}
    _native: ClassVar[_core.OwnCell | None] = None

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        batch_first: bool = True,
        dropout: float = 0.0,
        bidirectional: bool = False,
        return_sequences: bool = True,
        dtype: npt.DTypeLike = "float32",
        seed: int | None = None,
    ) -> None:
        if self._native is None:
            raise TypeError("OwnCell: got a call of the base class, expected one made by rc.cell; write rc.cell(...)")
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            batch_first=batch_first,
            dropout=dropout,
            bidirectional=bidirectional,
            return_sequences=return_sequences,
            dtype=dtype,
            seed=seed,
        )

    def _cell(self) -> str:
        return ""

    def _core_options(self) -> dict[str, Any]:
        return {"own": self._native}

    def config(self) -> dict[str, Any]:
        """The constructor's arguments, and what `recurra.cell` was given."""
        return {"cell": [type(self).__name__, self.equations, self.init], **super().config()}

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom: Mapping[str, type[Layer]] | None = None) -> Self:
        """A new layer of the class that `config` describes."""
        arguments = dict(config)
        made: Any = cell(*arguments.pop("cell"))
        return made(**arguments)  # type: ignore[no-any-return]

    @classmethod
    def count_parameters(cls, config: Mapping[str, Any]) -> int:
        """Matrices, biases and vectors of all layers and directions."""
        equations = _read(config["cell"][1])
        inputs, hidden, layers = (operator.index(config[name]) for name in ("input_size", "hidden_size", "num_layers"))
        directions = 2 if config["bidirectional"] else 1
        of_x = sum(1 for column in equations.columns if column.input_matrix)
        of_h = sum(1 for column in equations.columns if column.hidden_matrix)
        vectors = len(equations.vectors) + sum(1 for column in equations.columns if column.bias)
        columns = of_x * (inputs + (layers - 1) * directions * hidden) + layers * (of_h * hidden + vectors)
        return directions * hidden * columns

    def _initial(self, rng: np.random.Generator, name: str) -> Array:
        shape = self.parameters.shape(name)
        start = self.init.get(name.removesuffix("_reverse").rpartition("_l")[0])
        if start is None:
            return self._draw(rng, shape)
        if not isinstance(start, list):
            return np.full(shape, start)
        low, high = start
        return rng.uniform(low, high, shape)

    def _shown(self) -> dict[str, Any]:
        return super().config()

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuild, (OwnCell, self.config(), self.state_dict(), self.trainable)
