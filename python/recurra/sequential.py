"""Layers one after another, as one model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from recurra import registry
from recurra.graph import Graph
from recurra.graph_model import GraphModel
from recurra.layer import Layer
from recurra.leaf import LeafLayer

if TYPE_CHECKING:
    from typing_extensions import Self


@registry.built_in
class Sequential(GraphModel):
    """A model of layers in a row: native neighbours run as one native call, lengths travel along.

    `y, states = model(x)`; a state is a list with one entry per layer, None for a layer without. Parameters are named by
    the layer's place: "0.weight_ih_l0".

    Args:
        layers: in the order in which data passes through them.
        seed: draws the parameters of layers that were given no seed and not written since; each gets a seed of its own.
            None leaves them as they are.

    Raises:
        ValueError: neighbours do not fit; the message says which.
    """

    def __init__(self, *layers: LeafLayer, seed: int | None = None) -> None:
        for index, layer in enumerate(layers):
            if isinstance(layer, Sequential):
                raise TypeError(
                    f"Sequential: got a Sequential as layer {index}, expected plain layers; write *model.layers"
                )
            if not isinstance(layer, LeafLayer):
                raise TypeError(
                    f"Sequential: got {type(layer).__name__} as layer {index}, expected a layer; write Sequential(a, b, ...)"
                )
        self._output_size = _check_neighbours(layers)
        self.return_sequences = all(layer.return_sequences for layer in layers)
        self.input_kind = layers[0].input_kind
        super().__init__(Graph.chain(layers), seed)

    @property
    def input_size(self) -> int | None:
        """That of the first layer."""
        return self.layers[0].input_size

    @property
    def output_size(self) -> int | None:
        """Features of the output; None where they are known only when it runs."""
        return self._output_size

    def _needs_sequences(self, index: int) -> bool:
        return self.layers[0].needs_sequences

    def config(self) -> dict[str, Any]:
        """The layers as plain data."""
        return {"layers": [registry.describe(layer) for layer in self.layers]}

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom: Mapping[str, type[Layer]] | None = None) -> Self:
        """A new model from what `config()` returned; its parameters are drawn anew."""
        layers: list[Any] = [registry.build(description, custom or {}) for description in config["layers"]]
        return cls(*layers)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.layers  # each layer carries itself, so that no class need be found by its name

    def __repr__(self) -> str:
        inner = "".join(f"  {layer!r},\n" for layer in self.layers)
        return f"Sequential(\n{inner})"


def _check_neighbours(layers: Sequence[LeafLayer]) -> int | None:
    """The number of output features, if every layer fits behind the one before it."""
    if not layers:
        raise ValueError("Sequential: got no layers, expected at least one; write Sequential(a, b, ...)")
    features: int | None = None
    ends_time: str | None = None
    for index, layer in enumerate(layers):
        place = f"layer {index} ({layer.label})"
        before = f"layer {index - 1} ({layers[index - 1].label})" if index else ""
        twin = next((other for other in range(index) if layers[other] is layer), None)
        if twin is not None:
            raise ValueError(
                f"Sequential: got one layer as layer {twin} and {place}, expected each once; use copy.deepcopy for another"
            )
        if layer.num_inputs != 1:
            raise ValueError(
                f"Sequential: got {place}, which takes several inputs, expected layers of one; make a Model of it"
            )
        if not getattr(layer, "batch_first", True):
            raise ValueError(
                f"Sequential: got {place} with batch_first=False, expected (N, T, features) throughout; "
                f"make it with batch_first=True and give x.swapaxes(0, 1)"
            )
        if layer.input_kind == "tokens" and index and layers[index - 1].native:
            raise ValueError(f"Sequential: got {place} behind {before}, expected tokens there; put it first")
        if index and None not in (features, layer.input_size) and features != layer.input_size:
            raise ValueError(
                f"Sequential: got {before} with {features} output features before {place} with an input size of "
                f"{layer.input_size}, expected the same number; change one of the two"
            )
        if layer.needs_sequences and ends_time:
            raise ValueError(
                f"Sequential: got {place} behind {ends_time}, which gives only the last output, expected sequences; "
                f"make that one with return_sequences=True"
            )
        if not layer.return_sequences:
            ends_time = place
        features = layer.output_features(features)
    return features
