"""Data for models of any number of inputs and outputs: batches of all inputs together, the losses of all outputs together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from recurra import checks
from recurra.data import convert
from recurra.data.rows import ArrayRows, Chosen, RaggedRows
from recurra.losses import Loss, LossValue
from recurra.structure import Structure
from recurra.typing import Array

if TYPE_CHECKING:
    from recurra.training import TrainableModel

#: The rows of one input or target.
Rows: TypeAlias = "ArrayRows | RaggedRows"

#: A loss, or one for each output, written as the outputs are; the same for weights.
Losses: TypeAlias = "Loss | Sequence[Loss] | Mapping[str, Loss]"
Weights: TypeAlias = "float | Sequence[float] | Mapping[str, float] | None"


class InputInfo(NamedTuple):
    """What an input takes: see `Layer` for the words."""

    input_kind: str
    input_size: int | None
    needs_sequences: bool
    dtype: np.dtype[Any]


class OutputInfo(NamedTuple):
    """What an output is.

    `source` is the input whose time axis it has or comes from, None if it has none; `output_lengths` gives the steps of the
    output for those of that input.
    """

    source: int | None
    output_size: int | None
    dtype: np.dtype[Any]
    output_lengths: Callable[[Array], Array | None]

    @property
    def return_sequences(self) -> bool:
        """Whether there is an output at every step."""
        return self.source is not None


class Feed:
    """The rows of all inputs."""

    def __init__(self, operation: str, model: TrainableModel, x: Any, lengths: Any) -> None:
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
            self.parts.append(convert.inputs(_place(operation, structure, "x", index), info, one, valid))
            if len(self.parts[-1]) != len(self.parts[0]):
                raise ValueError(
                    f"{operation}: got {len(self.parts[-1])} rows in {structure.label('x', index)}, expected "
                    f"{len(self.parts[0])}, as in {structure.label('x', 0)}; give each input as many rows"
                )

    def __len__(self) -> int:
        return len(self.parts[0])

    def batch(self, chosen: Chosen) -> tuple[Any, Any]:
        """These rows and their lengths, as a call takes them."""
        batches = [part.batch(chosen) for part in self.parts]
        return tuple(self._structure.join(parts) for parts in zip(*batches, strict=True))


class Outputs:
    """The outputs for a feed: which have a time axis, and how their batches make a whole."""

    def __init__(self, model: TrainableModel, inputs: Sequence[Rows]) -> None:
        self.infos, self.structure, self._model = model.output_infos(), model.structures[1], model
        self.rows = [inputs[info.source or 0] for info in self.infos]
        self.sequences = [
            info.return_sequences and rows.has_time for info, rows in zip(self.infos, self.rows, strict=True)
        ]

    def lengths(self, lengths: Any) -> list[Array | None]:
        """The valid steps of each output, given the inputs'; None where there is no time."""
        found = self.structure.spread_optional("lengths", "lengths", self._model.output_lengths(lengths))
        return [one if sequence else None for one, sequence in zip(found, self.sequences, strict=True)]

    def split(self, y: Any, lengths: Any) -> list[Any]:
        """A batch of each output, as people expect it."""
        return [
            rows.split(one, valid, sequence)
            for one, rows, valid, sequence in zip(
                self.structure.spread("outputs", "y", y), self.rows, self.lengths(lengths), self.sequences, strict=True
            )
        ]

    def join(self, batches: Sequence[list[Any]]) -> Any:
        """All batches of each."""
        return self.structure.join(
            [rows.join(list(parts)) for rows, parts in zip(self.rows, zip(*batches, strict=True), strict=True)]
        )


class Goal:
    """What training makes small: the sum over the outputs of weight times mean loss."""

    def __init__(
        self, operation: str, model: TrainableModel, feed: Feed, y: Any, loss: Losses, loss_weights: Weights
    ) -> None:
        self._outputs = outputs = Outputs(model, feed.parts)
        structure = outputs.structure
        count = len(outputs.infos)
        self._losses = [loss] * count if isinstance(loss, Loss) else structure.spread(operation, "loss", loss)
        for one in self._losses:
            checks.kind(operation, "loss", one, Loss, "losses.CrossEntropy")
        weights = [1.0] * count if loss_weights is None else structure.spread(operation, "loss_weights", loss_weights)
        self._weights = [checks.number(operation, "loss_weights", weight) for weight in weights]
        self._targets = [
            convert.targets(_place(operation, structure, "y", index), info, rows, one, own)
            for index, (info, rows, one, own) in enumerate(
                zip(outputs.infos, outputs.rows, structure.spread(operation, "y", y), self._losses, strict=True)
            )
        ]

    def values(self, y: Any, chosen: Chosen, lengths: Any, *, gradient: bool = True) -> list[LossValue]:
        """The loss of each output over a batch."""
        outputs = self._outputs
        return [
            loss(one, targets.batch(chosen)[0], valid, gradient=gradient)
            for loss, one, targets, valid in zip(
                self._losses,
                outputs.structure.spread("loss", "y", y),
                self._targets,
                outputs.lengths(lengths),
                strict=True,
            )
        ]

    def gradient(self, values: Sequence[LossValue]) -> tuple[Any, float]:
        """dy for `backward`, and what its gradients are to be multiplied by."""
        if len(values) == 1:
            return self._outputs.structure.join([values[0].gradient]), self._weights[0] / values[0].count
        scaled = [
            value.gradient * value.gradient.dtype.type(weight / value.count)
            if value.count and value.gradient is not None
            else None
            for value, weight in zip(values, self._weights, strict=True)
        ]
        return self._outputs.structure.join(scaled), 1.0

    def mean(self) -> Mean:
        """To add batches to."""
        return Mean(self._weights)


class Mean:
    """The weighted sum over outputs of the mean over all elements of several batches."""

    def __init__(self, weights: Sequence[float]) -> None:
        self._weights = weights
        self._sums, self._counts = [0.0] * len(weights), [0.0] * len(weights)

    def add(self, batch: Sequence[LossValue]) -> float:
        """The mean so far."""
        for index, value in enumerate(batch):
            self._sums[index] += value.sum
            self._counts[index] += value.count
        return self.value

    @property
    def value(self) -> float:
        """0 if there was nothing to count."""
        return sum(
            weight * (own / count if count else 0.0)
            for weight, own, count in zip(self._weights, self._sums, self._counts, strict=True)
        )


def _place(operation: str, structure: Structure, what: str, index: int) -> str:
    return operation if structure.count is None else f"{operation}: {structure.label(what, index)}"
