"""Sequential: a model of layers in sequence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast, overload

from recurra.common.structure import ALONE
from recurra.common.typing import Array
from recurra.graph.graph import Graph, Port
from recurra.layers.layer import Layer
from recurra.layers.leaf import LeafLayer
from recurra.models.graph_model import GraphModel
from recurra.saving import registry

if TYPE_CHECKING:
    from typing_extensions import Self


@registry.built_in
class Sequential(GraphModel[Array]):
    """A model of layers in sequence. Adjacent native layers run as one native call; lengths are passed along.

    `y, states = model(x)`; the state is a list with one entry per layer, None for a layer without state. Parameters are
    prefixed with the index of their layer: "0.weight_ih_l0".

    Models can be used as layers: `Sequential(Bidirectional(GRU(3, 4), LSTM(3, 4)), Linear(8, 2))`. They run in the same
    native call, and remain usable by themselves, sharing their parameters with this model. Each of their layers has an
    entry in the state, and names are as in PyTorch: "0.2.weight_ih_l0" belongs to layer 2 of the model at index 0. The
    first model may have several inputs and the last several outputs; in between, a layer takes as many inputs as the
    one before has outputs.

    Args:
        layers: layers and models, in order; or one list of them, as in Keras.
        seed: initialises the parameters of layers that were given no seed and have not been written since, each from
            its own derived seed. None leaves them unchanged.

    Raises:
        ValueError: adjacent layers do not fit; the message says which.

    Example:
        >>> model = rc.Sequential(
        ...     rc.Embedding(50, 8), rc.LSTM(8, 16), rc.Linear(16, 50), seed=0
        ... )
        >>> tokens = np.random.default_rng(0).integers(0, 50, (4, 20))
        >>> history = model.fit(
        ...     tokens, tokens, loss="cross_entropy", optimizer="adam", verbose=0
        ... )
        >>> model.predict(tokens).shape
        (4, 20, 50)
    """

    def __init__(self, *layers: Layer | Sequence[Layer], seed: int | None = None) -> None:
        if len(layers) == 1 and isinstance(layers[0], list | tuple):
            layers = tuple(layers[0])
        for index, layer in enumerate(layers):
            if not isinstance(layer, LeafLayer | GraphModel):
                raise TypeError(
                    f"Sequential: got {type(layer).__name__} as layer {index}, expected a layer; write Sequential(a, "
                    f"b, ...)"
                )
        self.layers: tuple[Layer, ...] = cast("tuple[Layer, ...]", layers)
        graph = _joined(self.layers)
        first, last = self.layers[0], self.layers[-1]
        self.return_sequences = graph.sources[graph.outputs[0]] is not None
        self.input_kind = first.input_kind
        super().__init__(
            graph,
            seed,
            inputs=first.structures[0] if isinstance(first, GraphModel) else ALONE,
            outputs=last.structures[1] if isinstance(last, GraphModel) else ALONE,
        )

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    @overload
    def __getitem__(self, index: int) -> Layer: ...
    @overload
    def __getitem__(self, index: slice) -> Sequential: ...
    def __getitem__(self, index: int | slice) -> Layer | Sequential:
        """A layer, or for a slice a model of these layers, which shares their parameters."""
        if isinstance(index, slice):
            return Sequential(*self.layers[index])
        return self.layers[index]

    @property
    def leaves(self) -> Sequence[tuple[str, LeafLayer]]:
        """The layers, including those of models, each with the prefix of its parameters' names."""
        return [(f"{place}.{inner}", leaf) for place, one in enumerate(self.layers) for inner, leaf in one.leaves]

    @property
    def input_size(self) -> int | None:
        """The input size of the first layer."""
        return self.layers[0].input_size

    @property
    def output_size(self) -> int | None:
        """Number of features of the (first) output; None if known only at run time."""
        return self._output_sizes[0]

    def config(self) -> dict[str, Any]:
        """The layers as plain data."""
        return {"layers": [registry.describe(layer) for layer in self.layers]}

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom: Mapping[str, type[Layer]] | None = None) -> Self:
        """A new model from what `config()` returned, newly initialised."""
        layers: list[Any] = [registry.build(description, custom or {}) for description in config["layers"]]
        return cls(*layers)

    def _remade(self) -> tuple[Any, ...]:
        return type(self), self.layers

    def __repr__(self) -> str:
        inner = "".join(f"  {layer!r},\n" for layer in self.layers)
        return f"Sequential(\n{inner})"


def _joined(layers: Sequence[Layer]) -> Graph:
    """The graph of the layers in sequence; refuses adjacent layers that do not fit."""
    if not layers:
        raise ValueError("Sequential: got no layers, expected at least one; write Sequential(a, b, ...)")
    _check_shared(layers)
    graphs: list[Graph] = []
    features: list[int | None] = []
    axes: list[str] = []
    ends_time = ""  # the last layer whose output has no time axis
    for index, layer in enumerate(layers):
        place = f"layer {index} ({layer.label})"
        before = f"layer {index - 1} ({layers[index - 1].label})" if index else ""
        if isinstance(layer, LeafLayer):
            _check_leaf(place, layer)
        graph = layer._graph()
        if not index:
            features = [None if port.kind == "tokens" else port.size for port in graph.inputs]
            axes = [port.axis for port in graph.inputs]
        elif len(graph.inputs) != len(features):
            raise ValueError(
                f"Sequential: got {place}, which takes {len(graph.inputs)} inputs, after {before} with {len(features)} "
                f"outputs, expected the same number; make a Model of them"
            )
        for number, port in enumerate(graph.inputs):
            if index:
                _check_port(place, before, port, features[number], graphs[-1].nodes[-1].layer.native)
            if graph.needs_sequences[number]:
                axes[number] = _as_sequence(place, ends_time or before, axes[number])
            elif port.axis == "vector":
                axes[number] = _as_vector(place, before, axes[number])
        made = graph.features_from(features)
        features = [made[value] for value in graph.outputs]
        after = graph.axes(axes)
        if "vector" in after and "vector" not in axes:
            ends_time = place
        axes = after
        graphs.append(graph)
    return _with_known_axes(Graph.chain(graphs))


def _as_sequence(place: str, before: str, axis: str) -> str:
    if axis == "vector":
        raise ValueError(
            f"Sequential: got {place} after {before}, which gives only the last output, expected "
            f"sequences; make that one with return_sequences=True"
        )
    return "sequence"


def _as_vector(place: str, before: str, axis: str) -> str:
    if axis == "sequence":
        raise ValueError(
            f"Sequential: got {place}, which takes vectors (N, features), after {before}, which gives "
            f"sequences, expected one vector for each row; make that one with return_sequences=False"
        )
    return "vector"


def _with_known_axes(graph: Graph) -> Graph:
    """The graph, with inputs declared vectors where the layers accept nothing else."""
    wanted = {value for node in graph.nodes if node.layer.made_steps is not None for value in node.inputs}
    axes = ["vector" if value in wanted else port.axis for value, port in enumerate(graph.inputs)]
    ports = [port._replace(axis=axis) for port, axis in zip(graph.inputs, axes, strict=True)]
    return Graph(ports, [(node.layer, node.inputs, node.states) for node in graph.nodes], graph.outputs)


def _check_leaf(place: str, layer: LeafLayer) -> None:
    if layer.num_inputs != 1:
        raise ValueError(
            f"Sequential: got {place}, which takes several inputs, expected layers with one input; make a Model of it"
        )
    if not getattr(layer, "batch_first", True):
        raise ValueError(
            f"Sequential: got {place} with batch_first=False, expected (N, T, features) throughout; "
            f"make it with batch_first=True and give x.swapaxes(0, 1)"
        )


def _check_port(place: str, before: str, port: Port, features: int | None, native: bool) -> None:
    """Refuse an output of the layer `before` that does not fit the input `port`; `native` is whether that layer is
    native."""
    if port.kind == "tokens" and native:
        raise ValueError(f"Sequential: got {place} after {before}, expected tokens as its input; put it first")
    if port.kind != "tokens" and None not in (features, port.size) and features != port.size:
        raise ValueError(
            f"Sequential: got {before} with {features} output features before {place} with an input size of "
            f"{port.size}, expected the same number; change one of the two"
        )


def _check_shared(layers: Sequence[Layer]) -> None:
    """Refuse a layer used twice, whose parameters would have two names."""
    seen: dict[int, int] = {}
    for index, layer in enumerate(layers):
        for _prefix, leaf in layer.leaves:
            twin = seen.setdefault(id(leaf), index)
            if twin != index:
                whole = layers[twin] is layer
                raise ValueError(
                    f"Sequential: got one layer {'as' if whole else f'({leaf.label}) in'} layer {twin} and layer "
                    f"{index} ({layer.label}), expected each once; use copy.deepcopy for a second one, or call it "
                    "twice in a Model"
                )
