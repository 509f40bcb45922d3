"""A cell's numbers as the core wants them."""

from __future__ import annotations

from recurra import _core
from recurra.layers.own.equations import MOST_COLUMNS, Equations
from recurra.layers.own.source import Source, source_of

__all__ = ["native_cell", "parameters_of", "source_of"]


def _matrices(equations: Equations) -> tuple[list[str], list[str], list[str]]:
    """The matrices of x, those with a bias first, those of h, and the biases."""
    of_x = [column for column in equations.columns if column.input_matrix is not None]
    of_x.sort(key=lambda column: column.bias is None)
    return (
        [column.input_matrix or "" for column in of_x],
        [column.hidden_matrix for column in equations.columns if column.hidden_matrix is not None],
        [column.bias for column in of_x if column.bias is not None],
    )


def parameters_of(equations: Equations) -> list[str]:
    """The names of all parameters, in the core's order."""
    of_x, of_h, biases = _matrices(equations)
    return [*of_x, *of_h, *biases, *equations.vectors]


def native_cell(name: str, equations: Equations, source: Source, addresses: list[int]) -> _core.OwnCell:
    """The core's description of a compiled cell."""
    of_x, of_h, biases = _matrices(equations)
    columns = equations.columns
    empty = [-1] * (MOST_COLUMNS - len(columns))
    with_h = [i for i, column in enumerate(columns) if column.hidden_matrix is not None]
    return _core.OwnCell(
        name=name,
        columns=len(columns),
        input=(0, len(of_x)),
        recurrent=(with_h[0] if with_h else 0, len(with_h)),
        input_gate=[-1 if c.input_matrix is None else of_x.index(c.input_matrix) for c in columns] + empty,
        recurrent_gate=[-1 if c.hidden_matrix is None else of_h.index(c.hidden_matrix) for c in columns] + empty,
        saved=source.saved,
        reads_input=equations.reads_input,
        state=equations.state or "",
        parameters=[of_x, of_h, biases, equations.vectors],
        equations=addresses,
    )
