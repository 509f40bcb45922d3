"""The layers of Keras' weights by name, to compose a model by hand."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from recurra.common import checks, initialise
from recurra.common.errors import ModelFormatError
from recurra.interop.keras import read  # noqa: F401 # registers the converters
from recurra.interop.keras.build import MODELS, Builder
from recurra.interop.keras.files import open_weights
from recurra.interop.keras.layer import CONVERTERS
from recurra.interop.keras.source import Group, Source, Weights, class_of, name_of, refused
from recurra.interop.keras.weights import LiveWeights
from recurra.interop.named import Layers, checked_options, read_layers
from recurra.layers.layer import Layer
from recurra.models.model import Model
from recurra.models.sequential import Sequential

Shapes = Sequence[tuple[int, ...]]
_GATES = {4: "LSTM", 3: "GRU", 1: "SimpleRNN"}
_OF_BOTH = ("merge_mode",)
#: What a configuration has of other layers.
_OF_LAYERS = {"layer", "layers", "cell", "cells", "backward_layer"}
#: Options of layers that only matter to Keras.
_INERT = re.compile(
    r"_(initializer|regularizer|constraint)$|^(name|dtype|seed|unroll|implementation|stateful|trainable)$"
)


def keras_layers(source: Any, *, options: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, Layer]:
    """The layers of a Keras model by name, with copies of their weights, to compose a model by hand.

        layers = rc.interop.keras_layers("weights.h5")
        model = rc.Sequential(layers["lstm_1"], rc.Pool("last"), layers["dense_1"])

    For files of weights only (`save_weights`), which do not say what the layers are, and for subclassed models, whose
    code is not in their files. Shapes identify recurrent layers, alone or Bidirectional, Dense, Embedding, Conv1D,
    BatchNormalization and LayerNormalization; a matrix without a bias is an Embedding if its name contains "emb".
    Arguments that shapes do not determine are those that the file or model describes for a layer of this name, else
    Keras' defaults, of the version that wrote the file, with recurrent layers that return sequences; `options` come
    before both. A description of the whole model beside its weights goes to
    `from_keras(path, config=...)`.

    Args:
        source: the path of a `.weights.h5`, `.h5` or `.keras` file, or a keras.Model.
        options: for a layer's name, arguments of its class in Keras, and "type" for the class, as in
            {"lstm_1": {"recurrent_activation": "sigmoid"}, "dense_1": {"activation": "relu"}}.

    Returns:
        A dict by name: a layer, or a model of a layer and its activation. Layers that could not be read are
        missing; the KeyError says why.

    Raises:
        ValueError, ModelFormatError: as in `from_keras`; options for a layer that there is not.

    Example:
        >>> layers = rc.interop.keras_layers(
        ...     "model.keras"
        ... )  # with a Dense(4, activation="tanh"), of 3 features
        >>> layers["dense"]
        Sequential(
          Linear(in_features=3, out_features=4),
          Activation(name='tanh'),
        )
    """
    given = checked_options("keras_layers", options)
    if isinstance(source, str | os.PathLike):
        path = checks.path("keras_layers", "source", source)
        with open_weights(path) as (version, groups, config):
            layers = _layers(version, groups, _described_in(config), given)
        return layers.answering(given)
    if not (hasattr(source, "layers") and hasattr(source, "get_weights")):
        raise TypeError(
            f"keras_layers: got {type(source).__name__}, expected a path or a keras.Model; give the path of a file"
        )
    groups = {
        layer.name: Group([tuple(one.shape) for one in layer.get_weights()], LiveWeights(layer))
        for layer in source.layers
        if layer.get_weights()
    }
    own = {
        layer.name: {"class_name": type(layer).__name__, "config": _as_in_files(layer.get_config())}
        for layer in source.layers
        if type(layer).__module__.partition(".")[0] in ("keras", "tensorflow", "tf_keras")
    }
    return _layers("3", groups, own, given).answering(given)


def _as_in_files(config: Mapping[str, Any]) -> Any:
    return json.loads(json.dumps(config, default=repr))


def _described_in(config: Any) -> dict[str, Mapping[str, Any]]:
    """The descriptions of all layers in that of a model, by name."""
    found: dict[str, Mapping[str, Any]] = {}
    waiting = [config]
    while waiting:
        one = waiting.pop()
        if isinstance(one, Mapping):
            if isinstance(one.get("class_name"), str) and isinstance(one.get("config"), Mapping):
                found.setdefault(name_of(one), one)
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
    return found


def _layers(
    version: str, groups: Mapping[str, Group], own: Mapping[str, Mapping[str, Any]], given: Mapping[str, dict[str, Any]]
) -> Layers[Layer]:
    def made(name: str, group: Group) -> Layer:
        asked = given.get(name, {})
        try:
            return _made(version, name, group, own.get(name), asked)
        except ModelFormatError:
            raise
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
            raise refused(
                f"layer {name!r:.80}: got options {asked}, with which no layer can be made ({error}), expected "
                "arguments of its class in Keras"
            ) from error

    return read_layers("keras_layers", groups, made)


class _Asked(dict[str, Any]):
    """A layer's configuration, which remembers what was looked up in it."""

    def __init__(self, config: Mapping[str, Any], looked_up: set[str]) -> None:
        super().__init__(config)
        self._looked_up = looked_up

    def __contains__(self, name: object) -> bool:
        self._looked_up.add(str(name))
        return super().__contains__(name)

    def get(self, name: str, default: Any = None) -> Any:
        """As of a dict."""
        self._looked_up.add(name)
        return super().get(name, default)


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


def _made(version: str, name: str, group: Group, own: Mapping[str, Any] | None, asked: Mapping[str, Any]) -> Layer:
    looked_up: set[str] = set()
    layer, sizes = _described(name, list(group.shapes), own, asked, looked_up)
    begin = {"class_name": "InputLayer", "config": {"name": f"{name} input", "batch_input_shape": [None, *sizes]}}
    config = {"class_name": "Sequential", "config": {"name": name, "layers": [begin, layer]}}
    with initialise.drawing(False):
        model = Builder(Source(config, version, _Alone(group.weights)), False).model()
    if unread := [one for one in asked if one not in looked_up and one != "type" and not _INERT.search(one)]:
        raise refused(
            f"layer {name!r:.80}: got the option {unread[0]!r:.80}, which a {class_of(layer)} does not have, expected "
            f"one of {', '.join(sorted(looked_up - _OF_LAYERS))}"
        )
    return _simplest(model)


def _simplest(model: Model) -> Layer:
    """A layer alone, or a Sequential, which takes vectors as well as sequences, if the model is one."""
    if not model._graph().is_chain:
        return model
    return model.layers[0] if len(model.layers) == 1 else Sequential(*model.layers)


def _described(
    name: str,
    shapes: list[tuple[int, ...]],
    own: Mapping[str, Any] | None,
    asked: Mapping[str, Any],
    looked_up: set[str],
) -> tuple[dict[str, Any], list[Any]]:
    """The description of a layer with arrays of these shapes, with the options in `asked`, and its input's sizes
    without the batch; what is looked up in the former is added to `looked_up`."""
    if own is not None and class_of(own) == "TimeDistributed":
        own = own["config"].get("layer")
    if own is not None and class_of(own) in MODELS:
        own = None
    chosen = asked.get("type", None if own is None else class_of(own))
    chosen = None if chosen == "TimeDistributed" else chosen
    if chosen is not None and chosen not in CONVERTERS:
        raise refused(
            f"layer {name!r:.80}: got class {chosen!r:.80}, which has no counterpart here, expected one of Keras; if "
            "it computes what one does, give that as the option 'type'"
        )
    both = _is_both(shapes) and chosen in (None, "Bidirectional")
    guess = _recurrent(shapes[: len(shapes) // 2] if both else shapes) or _plain(name, shapes)
    if guess is None:
        raise refused(
            f"layer {name!r:.80}: got arrays of shapes {shapes}, which do not tell what it is, expected those of a "
            "recurrent layer, Dense, Embedding, Conv1D or a normalisation; build it by hand from the arrays"
        )
    if chosen == "Embedding" and guess[0] == "Dense" and len(shapes) == 1:
        guess = _embedding(shapes[0])
    kind, config, sizes = guess
    outer = {key: asked[key] for key in _OF_BOTH if both and key in asked}
    inner = {key: value for key, value in asked.items() if key != "type" and key not in outer}
    own_config = {} if own is None else own["config"]
    if both:
        wrapped = own_config.get("layer") or {"class_name": kind, "config": {"name": name, **config}}
        layer = {**wrapped, "config": _Asked({**wrapped["config"], **inner}, looked_up)}
        return {
            "class_name": "Bidirectional",
            "config": _Asked({"name": name, **own_config, **outer, "layer": layer}, looked_up),
        }, sizes
    if own is not None:
        config.pop("return_sequences", None)
    config = {"name": name, **config, **own_config, **inner}
    return {"class_name": chosen or kind, "config": _Asked(config, looked_up)}, sizes


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
