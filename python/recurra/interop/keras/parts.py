"""The layers of Keras' weights by name, to compose a model by hand."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from recurra.common import checks, initialise
from recurra.common.errors import ModelFormatError
from recurra.interop.keras import read  # noqa: F401 # registers the converters
from recurra.interop.keras.build import Builder
from recurra.interop.keras.files import damage_told, open_weights
from recurra.interop.keras.source import Group, Source, Weights, refused
from recurra.interop.keras.weights import LiveWeights
from recurra.interop.torch.parts import Layers, checked_options
from recurra.layers.layer import Layer

Shapes = Sequence[tuple[int, ...]]
_GATES = {4: "LSTM", 3: "GRU", 1: "SimpleRNN"}
_OF_BOTH = ("merge_mode",)


def keras_layers(source: Any, *, options: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, Layer]:
    """The layers of a Keras model by name, with copies of their weights, to compose a model by hand.

        layers = rc.interop.keras_layers("weights.h5")
        model = rc.Sequential(layers["lstm_1"], rc.Pool("last"), layers["dense_1"])

    For files of weights only (`save_weights`), which do not say what the layers are, and for subclassed models, whose
    code is not in their files. Shapes identify recurrent layers, alone or Bidirectional, Dense, Embedding, Conv1D,
    BatchNormalization and LayerNormalization; a matrix without a bias is an Embedding if its name contains "emb".
    Arguments that shapes do not determine have Keras' defaults, those of the version that wrote the file, unless
    `options` sets them; recurrent layers return sequences. A description of the whole model beside its weights goes to
    `from_keras(path, config=...)`.

    Args:
        source: the path of a `.weights.h5`, `.h5` or `.keras` file, or a keras.Model.
        options: for a layer's name, arguments of its class in Keras, and "type" for the class, as in
            {"lstm_1": {"recurrent_activation": "sigmoid"}, "dense_1": {"activation": "relu"}}.

    Returns:
        A dict by name: a layer, or a `recurra.Model` of a layer and its activation. Layers that could not be read are
        missing; the KeyError says why.

    Raises:
        ValueError, ModelFormatError: as in `from_keras`; options for a layer that there is not.

    Example:
        >>> layers = rc.interop.keras_layers("model.keras")  # with a Dense(4), of 3 features
        >>> layers["dense"]
        Linear(in_features=3, out_features=4)
    """
    given = checked_options("keras_layers", options)
    if isinstance(source, str | os.PathLike):
        path = checks.path("keras_layers", "source", source)
        with open_weights(path) as (version, groups):
            return _layers(version, groups, given)
    if not (hasattr(source, "layers") and hasattr(source, "get_weights")):
        raise TypeError(
            f"keras_layers: got {type(source).__name__}, expected a path or a keras.Model; give the path of a file"
        )
    groups = {
        layer.name: Group([tuple(one.shape) for one in layer.get_weights()], LiveWeights(layer))
        for layer in source.layers
        if layer.get_weights()
    }
    with damage_told(str(getattr(source, "name", "model")), "keras_layers"):
        return _layers("3", groups, {**{layer.name: _own(layer) for layer in source.layers}, **given}, set(given))


def _own(layer: Any) -> dict[str, Any]:
    """The options of a live layer of Keras."""
    config = dict(layer.get_config())
    inner = config.pop("layer", None)
    own = {"type": type(layer).__name__, **config}
    return own if inner is None else {**own, **inner["config"], "type": type(layer).__name__}


def _layers(
    version: str, groups: Mapping[str, Group], options: Mapping[str, dict[str, Any]], asked: set[str] | None = None
) -> dict[str, Layer]:
    asked = set(options) if asked is None else asked
    if missing := sorted(asked - set(groups)):
        raise ValueError(
            f"keras_layers: got options for {missing[0]!r}, expected the name of a layer, one of "
            f"{', '.join(map(repr, groups))}; change it"
        )
    found: dict[str, Layer] = {}
    unknown: dict[str, str] = {}
    for name, group in groups.items():
        try:
            found[name] = _made(version, name, group, options.get(name, {}))
        except ModelFormatError as error:
            if name in asked:
                raise
            unknown[name] = str(error)
    return Layers(found, unknown, "keras_layers")


class _Alone:
    """The weights of a model with one layer."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights

    def layers(self, layers: Sequence[Mapping[str, Any]]) -> Sequence[Weights]:
        """See Weights."""
        return [self._weights] * len(layers)

    cells = layers

    def own(self, *shapes: tuple[int | None, ...]) -> Any:
        """See Weights; raises, as a model has none itself."""
        raise refused("got weights of the model itself, expected those of its layer only")

    def part(self, *names: str) -> Weights:
        """See Weights; raises, as a model has none itself."""
        raise refused("got weights of a part of the model, expected those of its layer only")


def _made(version: str, name: str, group: Group, options: Mapping[str, Any]) -> Layer:
    layer, sizes = _described(name, list(group.shapes), dict(options))
    begin = {"class_name": "InputLayer", "config": {"name": f"{name} input", "batch_input_shape": [None, *sizes]}}
    config = {"class_name": "Sequential", "config": {"name": name, "layers": [begin, layer]}}
    with initialise.drawing(False):
        model = Builder(Source(config, version, _Alone(group.weights)), False).model()
    return model.layers[0] if len(model.layers) == 1 else model


def _described(name: str, shapes: list[tuple[int, ...]], options: dict[str, Any]) -> tuple[dict[str, Any], list[Any]]:
    """The configuration of a layer with arrays of these shapes, and its input's sizes without the batch."""
    chosen = options.pop("type", None)
    if chosen == "TimeDistributed":
        chosen = None
    half = len(shapes) // 2
    if _is_both(shapes) and chosen in (None, "Bidirectional"):
        inner, sizes = _described(name, shapes[:half], {k: v for k, v in options.items() if k not in _OF_BOTH})
        outer = {key: options[key] for key in _OF_BOTH if key in options}
        return {"class_name": "Bidirectional", "config": {"name": name, "layer": inner, **outer}}, sizes
    found = _recurrent(shapes) or _plain(name, shapes)
    if found is None:
        raise refused(
            f"layer {name!r:.80}: got arrays of shapes {shapes}, which do not tell what it is, expected those of a "
            "recurrent layer, Dense, Embedding, Conv1D or a normalisation; build it by hand from the arrays"
        )
    kind, config, sizes = found
    if chosen == "Embedding" and kind == "Dense" and len(shapes) == 1:
        kind, config, sizes = _embedding(shapes[0])
    config = {"name": name, **config, **options}
    return {"class_name": chosen or kind, "config": config}, sizes


def _is_both(shapes: Shapes) -> bool:
    """Whether these are the arrays of two directions."""
    half = len(shapes) // 2
    return (
        half > 1 and len(shapes) % 2 == 0 and shapes[:half] == shapes[half:] and _recurrent(shapes[:half]) is not None
    )


def _recurrent(shapes: Shapes) -> tuple[str, dict[str, Any], list[Any]] | None:
    if len(shapes) in (9, 12) and all(len(one) == 2 for one in shapes[:2]):  # Keras 1: an array for each gate
        kind, features, units = {9: "GRU", 12: "LSTM"}[len(shapes)], shapes[0][0], shapes[1][0]
        return kind, {"units": units, "return_sequences": True}, [None, features]
    if len(shapes) not in (2, 3) or any(len(one) != 2 for one in shapes[:2]):
        return None
    (features, columns), (units, wide) = shapes[:2]
    gates = columns // units if units and columns == wide and columns % units == 0 else 0
    kind = _GATES.get(gates, "")
    if not kind:
        return None
    config: dict[str, Any] = {"units": units, "use_bias": len(shapes) == 3, "return_sequences": True}
    bias = shapes[2] if len(shapes) == 3 else (columns,)
    if bias == (2 * columns,):
        return f"CuDNN{kind}", {"units": units, "return_sequences": True}, [None, features]
    if kind == "GRU":
        config["reset_after"] = bias == (2, columns)
    return kind, config, [None, features]


def _embedding(shape: tuple[int, ...]) -> tuple[str, dict[str, Any], list[Any]]:
    return "Embedding", {"input_dim": shape[0], "output_dim": shape[1]}, [None]


def _plain(name: str, shapes: Shapes) -> tuple[str, dict[str, Any], list[Any]] | None:
    first = shapes[0]
    biased = len(shapes) == 2 and shapes[1] == first[-1:]
    if len(first) == 2 and len(shapes) == 1 and "emb" in name.lower():
        return _embedding(first)
    if len(first) == 2 and (biased or len(shapes) == 1):
        return "Dense", {"units": first[1], "use_bias": biased}, [None, first[0]]
    if len(first) == 3 and (biased or len(shapes) == 1):
        config = {"filters": first[2], "kernel_size": [first[0]], "use_bias": biased}
        return "Conv1D", config, [None, first[1]]
    if len(first) == 1 and len(shapes) in (2, 4) and all(one == first for one in shapes):
        return {2: "LayerNormalization", 4: "BatchNormalization"}[len(shapes)], {}, [None, first[0]]
    return None
