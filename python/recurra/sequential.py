"""Layers one after another, as one model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from recurra import checks, data, registry, seeds
from recurra.chain import Chain
from recurra.layer import Layer
from recurra.leaf import LeafLayer
from recurra.native import NativeLayer
from recurra.training import TrainableModel
from recurra.typing import Array, Lengths, State

if TYPE_CHECKING:
    from typing_extensions import Self


@registry.built_in
class Sequential(TrainableModel):
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
        self.layers: tuple[LeafLayer, ...] = layers
        self._dtype = _check_dtypes(layers)
        self._output_size = _check_neighbours(layers)
        self.return_sequences = all(layer.return_sequences for layer in layers)
        self.input_kind = layers[0].input_kind
        if seed is not None:
            self._draw(seeds.resolve("Sequential", seed), only_waiting=True)
        self._whole = Chain("Sequential", self.leaves, alone=False)

    @property
    def leaves(self) -> Sequence[tuple[str, LeafLayer]]:
        """The layers, and what stands before their parameters' names."""
        return [(f"{index}.", layer) for index, layer in enumerate(self.layers)]

    @property
    def _chain(self) -> Chain:
        return self._whole

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64."""
        return self._dtype

    @property
    def input_size(self) -> int | None:
        """That of the first layer."""
        return self.layers[0].input_size

    @property
    def output_size(self) -> int | None:
        """Features of the output; None where they are known only when it runs."""
        return self._output_size

    @property
    def needs_sequences(self) -> bool:
        """Whether the input must have a time axis."""
        return self.layers[0].needs_sequences

    def output_lengths(self, lengths: Array | None) -> Array | None:
        """The valid steps of each row of the output; None where every step is valid or none is left."""
        for layer in self.layers:
            lengths = layer.output_lengths(lengths)
        return lengths

    def reset_parameters(self, seed: int | None = None) -> None:
        """Draw the parameters of all layers anew, each from a seed of its own; None is fresh randomness."""
        self._draw(seeds.resolve("Sequential.reset_parameters", seed), only_waiting=False)

    def _draw(self, seed: int, *, only_waiting: bool) -> None:
        for index, layer in enumerate(self.layers):
            if not only_waiting or (isinstance(layer, NativeLayer) and layer.waits_for_seed):
                layer.reset_parameters(seeds.derive(seed, index))

    def __call__(
        self, x: Any, state: State = None, lengths: Lengths = None, reset: npt.ArrayLike | None = None
    ) -> tuple[Any, State]:
        """Inference: as any layer's call; with a list of ragged arrays as x, the output is a list too."""
        if not isinstance(x, list):
            return super().__call__(x, state, lengths, reset)
        if lengths is not None:
            raise ValueError(
                "Sequential: got lengths beside a list, expected none, as its rows have their own; leave lengths out"
            )
        rows = data.ragged("Sequential", [checks.array("Sequential", "a row of x", row) for row in x])
        padded, own = rows.batch(slice(None))
        y, final = super().__call__(padded, state, own, reset)
        return rows.split(y, self.output_lengths(own), self.return_sequences), final

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


def _check_dtypes(layers: Sequence[LeafLayer]) -> np.dtype[Any]:
    known = [(index, layer, layer.dtype) for index, layer in enumerate(layers) if layer.dtype is not None]
    for index, layer, dtype in known:
        first, other, expected = known[0]
        if dtype != expected:
            raise ValueError(
                f"Sequential: got layer {index} ({layer.label}) of {dtype}, expected {expected}, as layer {first} "
                f"({other.label}); make all layers with the same dtype"
            )
    return known[0][2] if known else np.dtype(np.float32)


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
