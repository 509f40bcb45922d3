"""Functional models: several inputs and outputs, branches, shared layers, states passed between layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

from recurra.common.structure import Structure
from recurra.common.typing import Array, Output
from recurra.graph.graph import Graph, Port
from recurra.graph.symbolic import Call, Input, Symbol, state_sizes
from recurra.layers.layer import Layer
from recurra.layers.leaf import LeafLayer
from recurra.models.graph_model import GraphModel
from recurra.saving import registry

if TYPE_CHECKING:
    from typing_extensions import Self

    from recurra.running.stream import Stream


@registry.built_in
class Model(GraphModel[Output]):
    """The model between symbolic inputs and outputs, as in Keras' functional API.

        x = rc.Input(features=8)
        h = rc.LSTM(8, 32)(x)
        model = rc.Model(x, rc.Linear(32, 4)(h) + rc.Linear(8, 4)(x))
        y, states = model(array)

    A model can be called like a layer: its layers become layers of this model, and share their parameters. A layer can
    be called several times: its parameters are shared, and their gradients add up. `h.state` is its final state, which
    can be another layer's initial state: `rc.LSTM(8, 32)(z, state=h.state)`. Calls, `fit`, `stream` and `save` are as
    for `Sequential`; with several inputs or outputs, x and lengths, y and loss have the structure of `inputs` and
    `outputs` here.

    The state is a list with one entry per call of a layer, in the order of the calls; None for calls without a state of
    the model. Parameters are prefixed with the index of their layer: "0.weight_ih_l0".

    Args:
        inputs: the symbol of a `recurra.Input`, or several in a tuple or a dict.
        outputs: the outputs of layers called on them, likewise.
        seed: initialises the parameters of layers that were given no seed and have not been written since, each from
            its own derived seed. None leaves them unchanged.

    Raises:
        ValueError, TypeError: the graph is incomplete; the message says what is missing.

    Example:
        >>> x = rc.Input(features=3)
        >>> h = rc.GRU(3, 8)(x)
        >>> model = rc.Model(
        ...     x, {"steps": rc.Linear(8, 2)(h), "whole": rc.Linear(8, 1)(h.state)}, seed=0
        ... )
        >>> y, _ = model(np.ones((2, 5, 3), np.float32))
        >>> y["steps"].shape, y["whole"].shape
        ((2, 5, 2), (2, 1))
    """

    @overload
    def __init__(self: Model[Array], inputs: Any, outputs: Symbol, *, seed: int | None = None) -> None: ...
    @overload
    def __init__(
        self: Model[tuple[Array, ...]], inputs: Any, outputs: tuple[Symbol, ...], *, seed: int | None = None
    ) -> None: ...
    @overload
    def __init__(
        self: Model[dict[str, Array]], inputs: Any, outputs: Mapping[str, Symbol], *, seed: int | None = None
    ) -> None: ...
    @overload
    def __init__(self, inputs: Any, outputs: Any, *, seed: int | None = None) -> None: ...
    def __init__(self, inputs: Any, outputs: Any, *, seed: int | None = None) -> None:
        given, wanted = Structure.of(inputs), Structure.of(outputs)
        sources = _ports(given, given.spread("Model", "inputs", inputs))
        symbols = wanted.spread("Model", "outputs", outputs)
        graph = _graph_between(given, sources, wanted, symbols)
        super().__init__(graph, seed, inputs=given, outputs=wanted)
        self.return_sequences = graph.sources[graph.outputs[0]] is not None
        self.input_kind = graph.inputs[0].kind

    @property
    def layers(self) -> tuple[LeafLayer, ...]:
        """Each layer once, in the order of first use, including the layers of models."""
        return self._whole.layers

    @property
    def leaves(self) -> Sequence[tuple[str, LeafLayer]]:
        """The layers, each with the prefix of its parameters' names."""
        return [(f"{index}.", layer) for index, layer in enumerate(self.layers)]

    @property
    def input_size(self) -> int | None:
        """Number of features of the (first) input, or of distinct tokens."""
        return self._whole.inputs[0].size

    @property
    def output_size(self) -> int | None:
        """Number of features of the (first) output; None if known only at run time."""
        return self._output_sizes[0]

    if TYPE_CHECKING:

        def stream(self, batch_size: int = 1) -> Stream[Output]: ...  # type: ignore[override] # not of one array alone

    def config(self) -> dict[str, Any]:
        """The graph as plain data: values are numbered as in `Graph`."""
        graph, (inputs, outputs) = self._whole, self.structures
        place = {id(layer): index for index, layer in enumerate(self.layers)}
        return {
            "inputs": [
                {name: value for name, value in one._asdict().items() if name != "mask_value" or value is not None}
                for one in graph.inputs
            ],
            "layers": [registry.describe(layer) for layer in self.layers],
            "nodes": [[place[id(node.layer)], list(node.inputs), list(node.states)] for node in graph.nodes],
            "outputs": list(graph.outputs),
            "structure": [inputs.config(), outputs.config()],
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom: Mapping[str, type[Layer]] | None = None) -> Self:
        """A new model from what `config()` returned, newly initialised."""
        return cls._from_layers(config, [registry.build(one, custom or {}) for one in config["layers"]])

    @classmethod
    def _from_layers(cls, config: Mapping[str, Any], layers: Sequence[Layer]) -> Self:
        """Built by calling the layers again, so that every check is repeated."""
        values: list[Symbol] = [_input(port) for port in config["inputs"]]
        count = len(values)
        for place, reads, states in config["nodes"]:
            layer = layers[place]
            if not isinstance(layer, LeafLayer):
                raise TypeError(f"Model: got a {layer.label} in a configuration, expected layers that are no models")
            read = tuple(values[value] for value in reads)
            begin = [None if value is None else values[value] for value in states]
            symbol = layer(
                read[0] if len(read) == 1 else read,
                state=None if not begin else begin[0] if len(begin) == 1 else tuple(begin),
            )
            values.append(symbol)
            values += [
                Symbol(symbol.source, 1 + index, size, sequence=False) for index, size in enumerate(state_sizes(layer))
            ]
        inputs, outputs = (Structure.from_config(one) for one in config["structure"])
        return cls(inputs.join(values[:count]), outputs.join([values[value] for value in config["outputs"]]))

    def _remade(self) -> tuple[Any, ...]:
        config = {name: value for name, value in self.config().items() if name != "layers"}
        return _rebuild, (type(self), config, self.layers)

    def __repr__(self) -> str:
        graph = self._whole
        place = {id(layer): index for index, layer in enumerate(self.layers)}
        lines = [
            f"  {graph.names[node.output]} = {place[id(node.layer)]}: {node.layer!r} "
            f"({', '.join(graph.reads(node))}),\n"
            for node in graph.nodes
        ]
        return f"Model(\n{''.join(lines)}  -> {', '.join(graph.names[value] for value in graph.outputs)}\n)"


def _rebuild(cls: type[Model], config: dict[str, Any], layers: Sequence[Layer]) -> Model:
    """Rebuild a pickled or copied model. Each layer pickles itself, so that no class is looked up by name."""
    return cls._from_layers(config, layers)


def _input(port: Mapping[str, Any]) -> Symbol:
    sizes = {port["kind"]: port["size"]}
    return Input(
        features=sizes.get("features"),
        tokens=sizes.get("tokens"),
        sequence=port["axis"] == "sequence",
        name=port["name"],
        dtype=port.get("dtype"),
        mask_value=port.get("mask_value"),
    )


def _ports(structure: Structure, inputs: Sequence[Any]) -> list[Port]:
    ports: list[Port] = []
    for index, one in enumerate(inputs):
        label = structure.label("inputs", index)
        if not isinstance(one, Symbol) or not isinstance(one.source, Port):
            got = "the output of a layer" if isinstance(one, Symbol) else type(one).__name__
            raise TypeError(
                f"Model: got {got} as {label}, expected the symbol of a recurra.Input; start with Input(features=...)"
            )
        if any(one.source is port for port in ports):
            raise ValueError(f"Model: got the same Input twice in inputs ({label}), expected each once; leave one out")
        ports.append(one.source)
    if not ports:
        raise ValueError("Model: got no inputs, expected at least one; start with Input(features=...)")
    return ports


def _graph_between(given: Structure, ports: Sequence[Port], wanted: Structure, outputs: Sequence[Any]) -> Graph:
    for index, one in enumerate(outputs):
        label = wanted.label("outputs", index)
        if not isinstance(one, Symbol):
            raise TypeError(
                f"Model: got {type(one).__name__} as {label}, expected the output of a layer called on an Input; "
                f"write layer(x) with x = recurra.Input(...)"
            )
        if not isinstance(one.source, Call):
            raise TypeError(f"Model: got an Input as {label}, expected the output of a layer; call a layer on it first")
        if any(one.source is other.source and one.which == other.which for other in outputs[:index]):
            raise ValueError(
                f"Model: got the same output twice in outputs ({label}), expected each once; leave one out"
            )
    if not outputs:
        raise ValueError("Model: got no outputs, expected at least one; give the output of the last layer")
    calls, reached = behind([one.source for one in outputs])
    for port in reached:
        if not any(port is known for known in ports):
            name = f" named {port.name!r}" if port.name else ""
            raise ValueError(
                f"Model: got outputs that depend on an Input{name} that is not in inputs, expected all of them there; "
                f"add it to inputs"
            )
    for index, port in enumerate(ports):
        if not any(port is one for one in reached):
            raise ValueError(
                f"Model: got {given.label('inputs', index)}, which no output depends on, expected all inputs to be "
                "used; leave it out, or call a layer on it"
            )
    first: dict[int, int] = {id(port): index for index, port in enumerate(ports)}
    following = len(ports)
    nodes = []
    for call in calls:
        reads = [first[id(one.source)] + one.which for one in call.inputs]
        begin = [None if one is None else first[id(one.source)] + one.which for one in call.states]
        nodes.append((call.layer, reads, begin))
        first[id(call)] = following
        following += 1 + len(call.layer.state_names)
    return Graph(ports, nodes, [first[id(one.source)] + one.which for one in outputs])


def behind(sources: Sequence[Port | Call]) -> tuple[list[Call], list[Port]]:
    """All calls that `sources` depend on, in the order in which they were made, and all inputs."""
    found: dict[int, Port | Call] = {}
    waiting = list(sources)
    while waiting:
        source = waiting.pop()
        if id(source) in found:
            continue
        found[id(source)] = source
        if isinstance(source, Call):
            waiting += [one.source for one in (*source.inputs, *source.states) if one is not None]
    calls = [source for source in found.values() if isinstance(source, Call)]
    return sorted(calls, key=lambda call: call.serial), [one for one in found.values() if isinstance(one, Port)]
