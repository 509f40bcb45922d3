"""Batches for models with any number of inputs, and their outputs put together again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from recurra.common.structure import Structure
from recurra.common.typing import Array
from recurra.data import convert
from recurra.data.rows import Chosen, Rows

if TYPE_CHECKING:
    from recurra.objective.trainable import Trainable


class InputInfo(NamedTuple):
    """An input's properties; see `Layer` for the names."""

    input_kind: str
    input_size: int | None
    needs_sequences: bool
    dtype: np.dtype[Any]


class OutputInfo(NamedTuple):
    """An output's properties.

    `source` is the input that its time axis comes from, None for a vector; `output_lengths` maps that input's lengths
    to the output's. `makes_time`: a layer made the time axis from vectors, independent of the input's.
    """

    source: int | None
    output_size: int | None
    dtype: np.dtype[Any]
    output_lengths: Callable[[Array], Array | None]
    makes_time: bool = False

    def has_steps(self, rows: Rows) -> bool:
        """Whether there is an output at every step, given the rows of its source."""
        return self.return_sequences and (self.makes_time or rows.has_time)

    @property
    def return_sequences(self) -> bool:
        """Whether there is an output at every step."""
        return self.source is not None


class Feed:
    """The rows of all inputs."""

    def __init__(self, operation: str, model: Trainable, x: Any, lengths: Any) -> None:
        self._structure = structure = model.structures[0]
        self.parts: list[Rows] = []
        for index, (info, one, valid) in enumerate(
            zip(
                model.input_infos(),
                structure.spread(operation, "x", x),
                structure.spread_optional(operation, "lengths", lengths),
                strict=True,
            )
        ):
            self.parts.append(convert.inputs(place(operation, structure, "x", index), info, one, valid))
            if len(self.parts[-1]) != len(self.parts[0]):
                raise ValueError(
                    f"{operation}: got {len(self.parts[-1])} rows in {structure.label('x', index)}, expected "
                    f"{len(self.parts[0])}, as in {structure.label('x', 0)}; give all inputs the same number of rows"
                )

    def __len__(self) -> int:
        return len(self.parts[0])

    def batch(self, chosen: Chosen) -> tuple[Any, Any]:
        """These rows and their lengths, as a call takes them."""
        batches = [part.batch(chosen) for part in self.parts]
        return tuple(self._structure.join(parts) for parts in zip(*batches, strict=True))


class Outputs:
    """The outputs for a feed: which of them have a time axis, and how their batches are joined."""

    def __init__(self, model: Trainable, inputs: Sequence[Rows]) -> None:
        self.infos, self.structure, self._model = model.output_infos(), model.structures[1], model
        self.inputs = inputs
        self.rows = [inputs[info.source or 0] for info in self.infos]
        self.sequences = [info.has_steps(rows) for info, rows in zip(self.infos, self.rows, strict=True)]

    def lengths(self, lengths: Any) -> list[Array | None]:
        """The lengths of each output, given those of the inputs; None without a time axis."""
        found = self.structure.spread_optional("lengths", "lengths", self._model.output_lengths(lengths))
        return [one if sequence else None for one, sequence in zip(found, self.sequences, strict=True)]

    def join_inputs(self, parts: Sequence[Any]) -> Any:
        """One item per input, in the structure of the model's inputs."""
        return self._model.structures[0].join(parts)

    def shapes(self, x: Sequence[Array]) -> list[tuple[int, ...]]:
        """The shapes of the outputs for inputs x."""
        count = len(x[0])
        full = [
            np.full(count, one.shape[1]) if rows.has_time else None for one, rows in zip(x, self.inputs, strict=True)
        ]
        found: list[tuple[int, ...]] = []
        for info, valid in zip(self.infos, self.lengths(self.join_inputs(full)), strict=True):
            if info.output_size is None:
                raise ValueError(
                    "fit: got accumulate with several outputs, one of whose number of features is known only at run "
                    "time, expected known numbers; put a Linear layer last"
                )
            if valid is None and info.makes_time:
                valid = info.output_lengths(np.zeros(1, np.int64))
            steps = () if valid is None else (int(valid.max(initial=0)),)
            found.append((count, *steps, info.output_size))
        return found

    def split(self, y: Any, lengths: Any) -> list[Any]:
        """Each output of a batch, in the form of the input: an array, or a list of ragged arrays."""
        return [
            rows.split(one, valid, sequence)
            for one, rows, valid, sequence in zip(
                self.structure.spread("outputs", "y", y), self.rows, self.lengths(lengths), self.sequences, strict=True
            )
        ]

    def join(self, batches: Sequence[list[Any]]) -> Any:
        """All batches of each output, joined."""
        return self.structure.join(
            [rows.join(list(parts)) for rows, parts in zip(self.rows, zip(*batches, strict=True), strict=True)]
        )


def place(operation: str, structure: Structure, what: str, index: int) -> str:
    """The beginning of messages about one of several inputs or outputs."""
    return operation if structure.count is None else f"{operation}: {structure.label(what, index)}"
