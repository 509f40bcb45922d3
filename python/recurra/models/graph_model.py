"""GraphModel, the base of Sequential and Model: a graph of layers called, trained, saved and streamed as one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from recurra.common import checks, seeds
from recurra.common.structure import ALONE, Structure
from recurra.common.typing import Array, Output, State
from recurra.data.feed import InputInfo, OutputInfo, Outputs
from recurra.data.rows import ArrayRows, RaggedRows, ragged
from recurra.graph import symbolic
from recurra.graph.graph import Graph
from recurra.layers.native import NativeLayer
from recurra.models.copies import Remainder
from recurra.running.runner import Runner
from recurra.training.model import TrainableModel

if TYPE_CHECKING:
    from recurra.layers.layer import Symbols


class GraphModel(TrainableModel[Output]):
    """A model made of a graph of layers. Parameters are prefixed with the index of their layer: "0.weight_ih_l0"."""

    def __init__(
        self,
        graph: Graph,
        seed: int | None,
        *,
        inputs: Structure = ALONE,
        outputs: Structure = ALONE,
    ) -> None:
        self._whole = graph
        self._output_sizes = [graph.features[value] for value in graph.outputs]
        self._dtype = _check_dtypes(self.label, graph)
        if seed is not None:
            self._draw(seeds.resolve(self.label, seed), only_waiting=True)
        self._only_runner = Runner(self.label, graph, alone=False, inputs=inputs, outputs=outputs)

    def _graph(self, inputs: int = 1) -> Graph:
        return self._whole

    def _runner(self, x: Any = None) -> Runner:
        return self._only_runner

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64."""
        return self._dtype

    @property
    def structures(self) -> tuple[Structure, Structure]:
        """The structures of inputs and outputs."""
        return self._only_runner.inputs, self._only_runner.outputs

    def input_infos(self) -> list[InputInfo]:
        """The properties of each input."""
        return [
            InputInfo(port.kind, port.size, self._whole.needs_sequences[index], self._dtype)
            for index, port in enumerate(self._whole.inputs)
        ]

    def output_infos(self) -> list[OutputInfo]:
        """The properties of each output."""
        graph = self._whole

        def steps_of(value: int) -> Callable[[Array], Array | None]:
            given = [index == graph.sources[value] for index in range(len(graph.inputs))]
            return lambda lengths: graph.lengths([lengths if own else None for own in given])[value]

        return [
            OutputInfo(graph.sources[value], size, self._dtype, steps_of(value), graph.makes_time[value])
            for value, size in zip(graph.outputs, self._output_sizes, strict=True)
        ]

    def output_lengths(self, lengths: Any) -> Any:
        """The lengths of the outputs, given those of the inputs, each in the structure of a call; None where every step
        is valid or there is no time axis."""
        graph, runner = self._whole, self._only_runner
        every = graph.lengths(runner.inputs.spread_optional(self.label, "lengths", lengths))
        return runner.outputs.join([every[value] for value in graph.outputs])

    def reset_parameters(self, seed: int | None = None) -> None:
        """Reinitialise the parameters of all layers, each from its own seed derived from `seed`; None for a fresh
        seed."""
        self._draw(seeds.resolve(f"{self.label}.reset_parameters", seed), only_waiting=False)

    def _draw(self, seed: int, *, only_waiting: bool) -> None:
        for index, layer in enumerate(self._whole.layers):
            if not only_waiting or (isinstance(layer, NativeLayer) and layer.waits_for_seed):
                layer.reset_parameters(seeds.derive(seed, index))

    @abstractmethod
    def _remade(self) -> tuple[Any, ...]:
        """A function and arguments that rebuild the model from its layers, for pickle. Each layer pickles itself, so
        that no class is looked up by name."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (*self._remade(), Remainder(self))

    def __setstate__(self, state: dict[str, Array] | Remainder) -> None:
        if isinstance(state, dict) and state:  # empty after copy.copy, which shares the layers
            self.load_state_dict(state)

    @overload
    def __call__(
        self: GraphModel[Array], x: Symbols, state: Any = None, lengths: Any = None, reset: Any = None, mask: Any = None
    ) -> symbolic.Symbol: ...
    @overload
    def __call__(
        self, x: Symbols, state: Any = None, lengths: Any = None, reset: Any = None, mask: Any = None
    ) -> Any: ...
    @overload
    def __call__(
        self, x: Array, state: State = None, lengths: Any = None, reset: Any = None, mask: Any = None
    ) -> tuple[Output, list[Any]]: ...
    @overload
    def __call__(
        self, x: Any, state: State = None, lengths: Any = None, reset: Any = None, mask: Any = None
    ) -> tuple[Any, list[Any]]: ...
    def __call__(self, x: Any, state: State = None, lengths: Any = None, reset: Any = None, mask: Any = None) -> Any:
        """Inference, or a part of a larger model, as in a layer's call. With lists of ragged arrays as inputs, the
        outputs at every step are lists too; nested lists of numbers are one array."""
        if type(x) is np.ndarray:  # fast path: what follows would slow small calls down
            return self._only_runner.forward(x, state, lengths, reset, mask)
        label, (inputs, _outputs) = self.label, self.structures
        if symbolic.found(x) or not any(_has_rows(one) for one in inputs.spread(label, "x", x)):
            return super().__call__(x, state, lengths, reset, mask)
        if mask is not None:
            raise ValueError(
                f"{label}: got mask with a list of arrays, expected none, as these have no padding; leave mask out"
            )
        rows = [
            self._rows(inputs.label("x", index), one, valid)
            for index, (one, valid) in enumerate(
                zip(inputs.spread(label, "x", x), inputs.spread_optional(label, "lengths", lengths), strict=True)
            )
        ]
        batches = [one.batch(slice(None)) for one in rows]
        lengths = inputs.join([valid for _array, valid in batches])
        y, final = super().__call__(inputs.join([array for array, _valid in batches]), state, lengths, reset)
        outputs = Outputs(self, rows)
        return outputs.structure.join(outputs.split(y, lengths)), final

    def _rows(self, name: str, x: Any, lengths: Any) -> ArrayRows | RaggedRows:
        label = self.label
        if not _has_rows(x):
            valid = None if lengths is None else checks.lengths(label, lengths)
            return ArrayRows(checks.array(label, name, x), valid)
        if lengths is not None:
            raise ValueError(
                f"{label}: got lengths with a list of arrays, expected none, as each array has its own length; leave "
                f"lengths out"
            )
        return ragged(label, [checks.array(label, f"a row of {name}", row) for row in x])

    def summary(self) -> None:
        """Print a table of the layers: their inputs, output shapes and numbers of parameters."""
        rows = self._table()
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        print(self._total())

    def _repr_html_(self) -> str:
        """`summary`, for notebooks."""
        from recurra.common import html  # late: only notebooks need it

        return html.table(self._table(), caption=f"{self.label}: {self._total()}")

    def _table(self) -> list[tuple[str, ...]]:
        graph = self._whole
        place = {id(layer): prefix[:-1] for prefix, layer in self.leaves}
        met: set[str] = set()
        rows: list[tuple[str, ...]] = [("", "layer", "reads", "output", "parameters")]
        for value, port in enumerate(graph.inputs):
            rows.append((graph.names[value], f"Input ({port.kind})", "", self._shape(value), ""))
        for node in graph.nodes:
            index = place[id(node.layer)]
            count = "as above" if index in met else f"{node.layer.parameters.size:,}"
            met.add(index)
            name = f"{index}: {node.layer.label}"
            rows.append((graph.names[node.output], name, ", ".join(graph.reads(node)), self._shape(node.output), count))
        return rows

    def _total(self) -> str:
        layers = self._whole.layers
        total = sum(layer.parameters.size for layer in layers)
        frozen = sum(layer.parameters.size for layer in layers if not layer.is_trainable)
        return f"{total:,} parameters" + (f", {frozen:,} of them not trainable" if frozen else "")

    def _shape(self, value: int) -> str:
        graph = self._whole
        time = "" if graph.sources[value] is None else ", T"
        if value < len(graph.inputs) and graph.inputs[value].kind == "tokens":
            return f"(N{time})"
        features = graph.features[value]
        return f"(N{time}, {'features' if features is None else features})"


def _has_rows(x: Any) -> bool:
    """Whether x is a list with an array for each row, or with rows of different lengths, rather than one array's
    numbers."""
    if not isinstance(x, list):
        return False
    if any(isinstance(row, np.ndarray) for row in x):
        return True
    return len({len(row) for row in x if isinstance(row, list | tuple)}) > 1


def _check_dtypes(owner: str, graph: Graph) -> np.dtype[Any]:
    """The common dtype of all inputs and layers that have one; float32 if none has."""
    known = [
        (f"input {index}", np.dtype(port.dtype), "give Input and the layers the same dtype")
        for index, port in enumerate(graph.inputs)
        if port.dtype is not None
    ] + [
        (f"layer {index} ({layer.label})", layer.dtype, "give all layers the same dtype")
        for index, layer in enumerate(graph.layers)
        if layer.dtype is not None
    ]
    for what, dtype, cure in known:
        first, expected, _cure = known[0]
        if dtype != expected:
            raise ValueError(f"{owner}: got {what} of {dtype}, expected {expected}, as {first}; {cure}")
    return known[0][1] if known else np.dtype(np.float32)
