"""Rebuilds a Keras model's graph with layers of this library."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from recurra.interop.keras.calls import Call, Ref, calls_of, refs_in, replaced, structure_of
from recurra.interop.keras.layer import KerasLayer, Kwargs, converts
from recurra.interop.keras.source import Source, Weights, class_of, name_of, refused
from recurra.interop.keras.values import Port, Value
from recurra.layers.basic import Dropout
from recurra.models.model import Model

#: Bound on calls of layers; short files of nested models could ask for exponentially many.
_MOST_CALLS = 5_000
#: The classes of models, which are layers, too.
MODELS = ("Sequential", "Functional", "Model")


class Builder:
    """The context of all layers of a model: Keras' version and the dtype."""

    def __init__(self, source: Source, skip_padding: bool) -> None:
        self.major, self.has_hard_gates = source.major, source.has_hard_gates
        self._source, self._skip_padding = source, skip_padding
        self.dtype = _dtype_of(source.config)
        self._calls = self._stepwise = 0

    def count(self) -> None:
        """Count a call of a layer; raises if there are too many."""
        self._calls += 1
        if self._calls > _MOST_CALLS:
            raise refused(f"got more than {_MOST_CALLS} calls of layers, expected a model's")

    @contextmanager
    def stepwise(self) -> Iterator[None]:
        """Within the block, layers are called on each step (TimeDistributed)."""
        self._stepwise += 1
        try:
            yield
        finally:
            self._stepwise -= 1

    @property
    def is_stepwise(self) -> bool:
        """Whether layers are being called on each step (TimeDistributed)."""
        return self._stepwise > 0

    def check_not_stepwise(self, value: Value) -> None:
        """Raise for a layer that reads several steps in a TimeDistributed."""
        if self._stepwise and value.sequence:
            raise refused(
                "got it in a TimeDistributed, where it would work on sequences of sequences, expected (N, T, features)"
            )

    def model(self) -> Model:
        """The whole model."""
        config = self._source.config
        if class_of(config) not in MODELS:
            raise refused(
                f"got a model of class {class_of(config)!r:.80}, whose code is not in the file, expected Sequential "
                "or a functional model; build it here by hand, with the weights of its layers"
            )
        graph = KerasGraph(self, config, self._source.weights, True)
        ports, given = graph.ports()
        outputs = graph([Value.of(port) for port in ports])
        return self._masked(Model(given(), self._symbols(outputs, [])), ports)

    def _symbols(self, value: Any, met: list[Any]) -> Any:
        """Symbols for Values; an input, or a symbol in `met`, gets an identity layer, so that outputs are distinct."""
        if isinstance(value, Mapping):
            return {key: self._symbols(one, met) for key, one in value.items()}
        if not isinstance(value, Value):
            return tuple(self._symbols(one, met) for one in value)
        if value.flat:
            raise refused("got a Flatten of a sequence as output, expected a Dense behind it")
        symbol = value.symbol
        if value.given is None or any(symbol is one for one in met):
            symbol = Dropout(0.0, dtype=self.dtype)(symbol)
        met.append(symbol)
        return symbol

    def _masked(self, model: Model, ports: Sequence[Port]) -> Model:
        """The model with mask values at the inputs whose padding a layer skips."""
        config = model.config()
        for port, entry in zip(ports, config["inputs"], strict=True):
            if not port.skipping:
                continue
            if port.reading and not self._skip_padding:
                raise refused(
                    f"layer {port.skipping!r} leaves out the masked steps of input {port.name!r} and layer "
                    f"{port.reading!r} reads them, as it does in Keras, expected one or the other, as padding is "
                    "never read here; write from_keras(..., skip_padding=True) for a model in which both leave it out"
                )
            entry["mask_value"] = port.mask_value
        if all(entry.get("mask_value") is None for entry in config["inputs"]):
            return model
        return Model._from_layers(config, model.layers)


class KerasGraph:
    """A Sequential or functional model, at the top or as a layer of another."""

    def __init__(self, builder: Builder, model: Mapping[str, Any], weights: Weights, trainable: bool) -> None:
        config = model["config"]
        self._builder, self.name = builder, name_of(model)
        if isinstance(config, list):  # a Sequential of Keras 1
            config = {"layers": config}
        listed = config.get("layers") if isinstance(config, Mapping) else None
        if not isinstance(listed, list) or not all(isinstance(one, Mapping) and "config" in one for one in listed):
            raise refused(f"got no list of layers in {self.name!r:.80}, expected one")
        trainable = trainable and bool(config.get("trainable", True))
        self._config: Mapping[str, Any] = config
        self._chain = class_of(model) == "Sequential"
        found = weights.layers(listed)
        self._layers = [KerasLayer(builder, layer, one, trainable) for layer, one in zip(listed, found, strict=True)]
        self._inputs = None if self._chain else structure_of(config.get("input_layers"))
        self._outputs = None if self._chain else structure_of(config.get("output_layers"))
        self._by_name = {layer.name: layer for layer in self._layers}
        self._calls = {} if self._chain else {layer.name: calls_of(layer.layer) for layer in self._layers}

    def ports(self) -> tuple[list[Port], Callable[[], Any]]:
        """The inputs, and a function that arranges their symbols in the model's structure."""
        if self._chain:
            first = self._layers[0] if self._layers else None
            if first is None:
                raise refused("got a model without layers, expected at least one")
            port = _port(first, self._config.get("build_input_shape"))
            return [port], lambda: _used(port)
        refs = refs_in(self._inputs)
        ports = {ref: _port(self._by_name[ref.layer], None) for ref in refs}
        structure = _plain(self._inputs)
        return [ports[ref] for ref in refs], lambda: replaced(
            structure, {ref: _used(port) for ref, port in ports.items()}
        )

    def __call__(self, inputs: Sequence[Any]) -> Any:
        """The outputs for `inputs`, in the structure of the model's outputs."""
        if self._chain:
            value: Any = inputs[0] if len(inputs) == 1 else list(inputs)
            for layer in self._layers:
                if layer.kind != "InputLayer":
                    value = layer((value,), {})
            return value
        refs = refs_in(self._inputs)
        if len(refs) != len(inputs):
            raise refused(f"got {len(inputs)} tensors for {self.name!r:.80}, expected {len(refs)}, one for each input")
        found = self._run(dict(zip(refs, inputs, strict=True)), refs_in(self._outputs))
        return replaced(_plain(self._outputs), found)

    def _run(self, found: dict[Ref, Any], wanted: Sequence[Ref]) -> dict[Ref, Any]:
        """The values of all `wanted` Refs, computed in order of dependence; `found` holds the inputs' values."""
        begun: set[tuple[str, int]] = set()
        waiting = list(reversed(wanted))
        while waiting:
            ref = waiting[-1]
            if ref in found:
                waiting.pop()
                continue
            layer = self._by_name.get(ref.layer)
            if layer is None:
                raise refused(f"got a tensor of layer {ref.layer!r:.80}, expected one in the model")
            place, call = _call_at(self._calls, ref)
            missing = [one for one in call.refs() if one not in found]
            if missing:
                if place in begun:
                    raise refused(f"got a cycle of layers through {ref.layer!r:.80}")
                begun.add(place)
                waiting += missing
                continue
            result = layer(tuple(replaced(one, found) for one in call.args), replaced(call.kwargs, found))
            values = result if isinstance(result, list | tuple) else [result]
            for index, value in enumerate(values):
                found[Ref(ref.layer, ref.call, index)] = value
            if ref not in found:
                raise refused(f"got output {ref.output} of layer {ref.layer!r:.80}, expected one of its {len(values)}")
        return found


def _call_at(calls: Mapping[str, list[Call]], ref: Ref) -> tuple[tuple[str, int], Call]:
    """The call with a Ref's number, or its layer's only call, as a model's numbers may count its construction."""
    own = calls.get(ref.layer, [])
    index = 0 if len(own) == 1 else ref.call
    if index >= len(own):
        raise refused(f"got call {ref.call} of layer {ref.layer!r:.80}, expected one of its {len(own)}")
    return (ref.layer, index), own[index]


def _plain(structure: Any) -> Any:
    """The structure of inputs or outputs here: a single Ref, a tuple, or a dict."""
    if isinstance(structure, list):
        flat = refs_in(structure)
        return flat[0] if len(flat) == 1 else tuple(flat)
    return structure


def _used(port: Port) -> Any:
    return port.symbol if port.symbol is not None else port.numbers()


def _port(layer: KerasLayer, built: Any) -> Port:
    """The input described by an InputLayer or by a Sequential's first layer."""
    shape = layer.get("batch_shape", layer.get("batch_input_shape", None)) or built
    if shape is None and isinstance(layer.layer.get("build_config"), Mapping):
        shape = layer.layer["build_config"].get("input_shape")
    if shape is None and "input_length" in layer.config:
        shape = [None, layer.config["input_length"]]
    if shape is None and layer.kind in ("Embedding", "Bidirectional", "TimeDistributed"):
        shape = [None, None]
    if isinstance(shape, Mapping):
        shape = shape.get("items")
    sizes = shape[1:] if isinstance(shape, list) and shape else None
    if sizes is None or not all(one is None or (type(one) is int and 0 < one < 1 << 31) for one in sizes):
        raise refused(
            f"got an input of shape {shape!r:.80} at {layer.name!r:.80}, expected sizes; build the model first"
        )
    return Port(layer.name, sizes, layer.dtype)


def _dtype_of(model: Any) -> str:
    """float64 if the first dtype in a layer's configuration is, else float32."""
    waiting: list[Any] = [model]
    while waiting:
        one = waiting.pop(0)
        config = one.get("config") if isinstance(one, Mapping) else None
        layers = config.get("layers") if isinstance(config, Mapping) else config
        if isinstance(layers, list):
            waiting = [*layers, *waiting]
        elif isinstance(config, Mapping) and class_of(one) != "InputLayer" and config.get("dtype") is not None:
            policy = config["dtype"]
            if isinstance(policy, Mapping):
                policy = policy["config"].get("name")
            return "float64" if policy == "float64" else "float32"
    return "float32"


@converts(*MODELS)
def convert_model(layer: KerasLayer, args: tuple[Any, ...], kwargs: Kwargs) -> Any:
    """To the layers of a nested model."""
    graph = KerasGraph(layer.builder, layer.layer, layer.weights, layer.trainable)

    def apply(args: tuple[Any, ...], kwargs: Kwargs) -> Any:
        given = args[0] if args else []
        inputs = list(given) if isinstance(given, list | tuple) else [given]
        if isinstance(given, Mapping):
            inputs = list(given.values())
        outputs = graph(inputs)
        return list(outputs.values()) if isinstance(outputs, Mapping) else outputs

    return apply
