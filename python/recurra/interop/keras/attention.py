"""Converters for Keras' attention of queries to one memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from recurra.common import errors
from recurra.interop.keras.layer import Apply, KerasLayer, Kwargs, converts
from recurra.interop.keras.source import refused
from recurra.interop.keras.values import Value
from recurra.layers.attention import AdditiveAttention, MultiplicativeAttention
from recurra.layers.leaf import LeafLayer

_MOST_FEATURES = 1 << 12


@converts("Attention", "AdditiveAttention")
def convert_attention(layer: KerasLayer, args: tuple[Any, ...], kwargs: Kwargs) -> Apply:
    """To multiplicative or additive attention; the keys must be the values."""
    query, memory = _inputs(layer, args)
    if query.features != memory.features or query.features > _MOST_FEATURES:
        raise refused(
            f"got {query.features} and {memory.features} features, expected the same, at most {_MOST_FEATURES}"
        )
    attention = _made(layer, query.features)
    if layer.number("dropout", 0.0):
        errors.warn(
            f"from_keras: got layer {layer.name!r} ({layer.kind}) with dropout, which works in training only; it is "
            "left out",
            UserWarning,
        )

    def apply(args: tuple[Any, ...], kwargs: Kwargs) -> Value:
        layer.no_more(kwargs)
        if kwargs.get("mask") is not None:
            raise refused("got a mask in the call, expected those that come with the values")
        query, memory = _inputs(layer, args)
        for one in (query, memory):
            layer.skips(one, {})
        return query.now(attention((query.symbol, memory.symbol)))

    return apply


def _inputs(layer: KerasLayer, args: tuple[Any, ...]) -> tuple[Value, Value]:
    values = [layer.sequence(one) for one in layer.several(args[:1])]
    if len(values) not in (2, 3) or (len(values) == 3 and values[2].symbol is not values[1].symbol):
        raise refused("got keys that are not the values, expected [query, value]")
    return values[0], values[1]


def _made(layer: KerasLayer, features: int) -> LeafLayer:
    additive = layer.kind == "AdditiveAttention"
    scaled = layer.flag("use_scale", additive)
    if additive:
        (scale,) = layer.weights.own((features,)) if scaled else [np.ones(features)]
        return _additive(layer, np.eye(features), scale)
    mode = layer.expect("score_mode", "dot", "concat")
    arrays = layer.weights.own(*[()] * (scaled + (mode == "concat")))
    factor = float(arrays[0]) if scaled else 1.0
    if mode == "concat":
        return _additive(layer, factor * np.eye(features), np.full(features, float(arrays[-1])))
    score = "general" if scaled else "dot"
    attention = MultiplicativeAttention(features, features, score=score, dtype=layer.dtype)
    return layer.filled(attention, {"weight_memory": factor * np.eye(features)} if scaled else {})


def _additive(layer: KerasLayer, weight: Any, score: Any) -> LeafLayer:
    features = len(weight)
    attention = AdditiveAttention(features, features, features, dtype=layer.dtype)
    values = {"weight_query": weight, "weight_memory": weight, "bias_query": np.zeros(features), "weight_score": score}
    return layer.filled(attention, values)
