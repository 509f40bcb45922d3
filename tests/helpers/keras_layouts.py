"""Files in the layouts that Keras 1, 2 and 3 write, written by h5py alone."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import h5py
import numpy as np

Array = np.ndarray[Any, Any]
Layer = dict[str, Any]


def layer(kind: str, name: str, **config: Any) -> Layer:
    """A layer's configuration."""
    return {"class_name": kind, "config": {"name": name, **config}}


def legacy(
    layers: Sequence[Layer],
    weights: Mapping[str, Sequence[tuple[str, Array]]],
    version: str | None,
    *,
    model: Any = None,
    chunked: bool = False,
    nested: bool = True,
) -> bytes:
    """An HDF5 file with a Sequential model, or with the model given: weights by the names of its layers."""
    if model is None:
        config: Any = list(layers) if version is None else {"name": "model", "layers": list(layers)}
        model = {"class_name": "Sequential", "config": config}
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file.attrs["model_config"] = json.dumps(model).encode()
        group = file.create_group("model_weights") if nested else file
        if version is not None:
            group.attrs["keras_version"] = version.encode()
            group.attrs["backend"] = b"tensorflow"
        names = [one["config"]["name"] for one in layers]
        _write_names(group, "layer_names", names, chunked)
        for name in names:
            own = group.create_group(name)
            entries = weights.get(name, [])
            _write_names(own, "weight_names", [key for key, _value in entries], False)
            for key, value in entries:
                own.create_dataset(key, data=np.asarray(value, np.float32))
    return stream.getvalue()


def _write_names(group: Any, name: str, values: list[str], chunked: bool) -> None:
    encoded = np.array([value.encode() for value in values], dtype="S") if values else np.array([])
    if not chunked:
        group.attrs[name] = encoded
        return
    for index, value in enumerate(encoded):
        group.attrs[f"{name}{index}"] = np.array([value])


def archive(
    model: Any,
    weights: Mapping[str, Sequence[Array]],
    version: str = "3.15.1",
    *,
    numbers: bool = False,
    compression: int = zipfile.ZIP_STORED,
    names: Mapping[str, str] | None = None,
) -> bytes:
    """A `.keras` file: arrays by the paths of their layers, as "layers/dense"; in HDF5, or in npz."""
    stream = io.BytesIO()
    if numbers:
        np.savez(stream, **{f"{path}/vars/{i}": one for path, own in weights.items() for i, one in enumerate(own)})
    else:
        with h5py.File(stream, "w") as file:
            for path, own in weights.items():
                group = file.create_group(f"{path}/vars")
                if names and path in names:
                    group.attrs["name"] = names[path]
                for index, one in enumerate(own):
                    group.create_dataset(str(index), data=one)
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", compression) as file:
        file.writestr("metadata.json", json.dumps({"keras_version": version, "date_saved": "2026-01-01"}))
        file.writestr("config.json", json.dumps(model))
        file.writestr("model.weights.npz" if numbers else "model.weights.h5", stream.getvalue())
    return whole.getvalue()


def originals() -> list[bytes]:
    """Small models of all layouts."""
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> Array:
        return rng.standard_normal(shape).astype(np.float32)

    embedding = layer("Embedding", "embedding", input_dim=9, output_dim=3, mask_zero=True, batch_input_shape=[None, 5])
    lstm = layer("LSTM", "lstm", units=4, return_sequences=True, activation="tanh", recurrent_activation="sigmoid")
    both = {**lstm, "config": {**lstm["config"], "name": "forward"}}
    bidirectional = layer("Bidirectional", "bidirectional", layer=both, merge_mode="sum")
    dense = layer("Dense", "dense", units=2, activation="softmax")
    layers = [embedding, lstm, bidirectional, dense]
    cell = [draw(3, 16), draw(4, 16), draw(16)]
    halves = [draw(4, 16), draw(4, 16), draw(16), draw(4, 16), draw(4, 16), draw(16)]
    table, kernel, bias = draw(9, 3), draw(4, 2), draw(2)
    lists = {
        "embedding": [("embedding/embeddings:0", table)],
        "lstm": [(f"lstm/{name}:0", one) for name, one in zip("krb", cell, strict=True)],
        "bidirectional": [(f"bidirectional/{index}:0", one) for index, one in enumerate(halves)],
        "dense": [("dense/kernel:0", kernel), ("dense/bias:0", bias)],
    }
    tree = {
        "layers/embedding": [table],
        "layers/lstm/cell": cell,
        "layers/bidirectional/forward_layer/cell": halves[:3],
        "layers/bidirectional/backward_layer/cell": halves[3:],
        "layers/dense": [kernel, bias],
    }
    first = {"class_name": "InputLayer", "config": {"name": "tokens", "batch_shape": [None, 5]}}
    model = {"class_name": "Sequential", "config": {"name": "model", "layers": [first, *layers]}}
    functional = {
        "class_name": "Functional",
        "config": {
            "name": "model",
            "layers": [
                {**first, "name": "tokens", "inbound_nodes": []},
                {**embedding, "name": "embedding", "inbound_nodes": [[["tokens", 0, 0, {}]]]},
                {**lstm, "name": "lstm", "inbound_nodes": [[["embedding", 0, 0, {}]]]},
                {**bidirectional, "name": "bidirectional", "inbound_nodes": [[["lstm", 0, 0, {}]]]},
                {**dense, "name": "dense", "inbound_nodes": [[["bidirectional", 0, 0, {}]]]},
            ],
            "input_layers": [["tokens", 0, 0]],
            "output_layers": [["dense", 0, 0]],
        },
    }
    return [
        legacy(layers, lists, "2.2.4"),
        legacy(layers, lists, "2.11.0", model=functional, chunked=True),
        archive(model, tree),
        archive(functional, tree, "2.13.1", compression=zipfile.ZIP_DEFLATED),
        archive(model, {path.replace("layers", "_layer_checkpoint_dependencies"): one for path, one in tree.items()}),
        archive(model, tree, numbers=True),
    ]
