"""Layers of Keras by name, from files of weights only; and such files with a model's description beside them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import keras_layouts
import recurra as rc
from keras_layouts import layer

TOKENS = np.array([[1, 2, 3, 4, 0], [4, 5, 6, 7, 8]])


def weights_only(content: bytes) -> tuple[bytes, Any]:
    """What save_weights writes for the model in a file, and the model's description."""
    stream = io.BytesIO(content)
    with h5py.File(stream, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        del file.attrs["model_config"]
    return stream.getvalue(), config


@pytest.mark.parametrize("which", range(len(keras_layouts.originals())))
def test_layers_by_name_in_every_layout(which: int, tmp_path: Path) -> None:
    content, path = keras_layouts.originals()[which], tmp_path / "model"
    path.write_bytes(content)
    whole = rc.from_keras(path)
    if content[:2] != b"PK":
        path.write_bytes(weights_only(content)[0])
    options = {"bidirectional": {"merge_mode": "sum"}, "dense": {"activation": "softmax"}}
    sigmoid = {"recurrent_activation": "sigmoid", "activation": "tanh"}  # Keras 1 has others by default
    options = {**options, "lstm": sigmoid, "bidirectional": {**options["bidirectional"], **sigmoid}}
    layers = rc.interop.keras_layers(path, options=options)
    assert sorted(layers) == ["bidirectional", "dense", "embedding", "lstm"]
    made = rc.Sequential(*(layers[name] for name in ("embedding", "lstm", "bidirectional", "dense")))
    lengths = np.array([4, 5])
    np.testing.assert_array_equal(made(TOKENS, lengths=lengths)[0], whole(TOKENS, lengths=lengths)[0])


@pytest.mark.parametrize("form", ["path", "text", "dict"])
@pytest.mark.parametrize("which", [at for at, one in enumerate(keras_layouts.originals()) if one[:2] != b"PK"])
def test_weights_and_a_description_beside_them(which: int, form: str, tmp_path: Path) -> None:
    content, path = keras_layouts.originals()[which], tmp_path / "model"
    path.write_bytes(content)
    whole = rc.from_keras(path)
    weights, config = weights_only(content)
    path.write_bytes(weights)
    with pytest.raises(rc.ModelFormatError, match="config="):
        rc.from_keras(path)
    given: Any = config
    if form != "dict":
        given = json.dumps(config)
    if form == "path":
        given = tmp_path / "model.json"
        given.write_text(json.dumps(config))
    np.testing.assert_array_equal(rc.from_keras(path, config=given)(TOKENS)[0], whole(TOKENS)[0])


def of_keras_3(path: Path, arrays: dict[str, list[Any]]) -> None:
    with h5py.File(path, "w") as file:
        for name, own in arrays.items():
            for index, one in enumerate(own):
                file.create_dataset(f"{name}/vars/{index}", data=np.asarray(one, np.float32))


def test_weights_of_a_subclassed_model_of_keras_3(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    draw = rng.standard_normal
    shapes = {
        "encoder/cell": [(3, 12), (4, 12), (2, 12)],
        "heads/layers/dense": [(4, 2), (2,)],
        "heads/layers/dense_1": [(4, 5)],
        "norm": [(4,), (4,)],
        "seen": [(4,)] * 4,
        "convolution": [(3, 4, 6), (6,)],
        "each/layer": [(4, 3), (3,)],
        "char_emb": [(7, 3)],
        "odd": [(2, 2, 2, 2, 2)],
    }
    of_keras_3(tmp_path / "m.weights.h5", {name: [draw(one) for one in own] for name, own in shapes.items()})
    layers = rc.interop.keras_layers(tmp_path / "m.weights.h5", options={"encoder": {"return_sequences": False}})
    kinds = {name: type(one).__name__ for name, one in layers.items()}
    assert kinds == {
        "encoder": "GRU",
        "heads/dense": "Linear",
        "heads/dense_1": "Linear",
        "norm": "LayerNorm",
        "seen": "BatchNorm",
        "convolution": "Conv1d",
        "each": "Linear",
        "char_emb": "Embedding",
    }
    assert layers["encoder"].reset_after
    assert not layers["encoder"].return_sequences
    with pytest.raises(KeyError, match="do not tell what it is"):
        layers["odd"]
    with pytest.raises(ValueError, match="'nobody'"):
        rc.interop.keras_layers(tmp_path / "m.weights.h5", options={"nobody": {}})


def test_a_cell_is_that_of_the_version_that_wrote_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = [(name, rng.standard_normal(shape)) for name, shape in (("k", (3, 16)), ("r", (4, 16)), ("b", (16,)))]
    for version, expected in (("2.2.0", True), ("2.4.0", False), ("3.1.0", False)):
        content = keras_layouts.legacy([layer("LSTM", "cell")], {"cell": arrays}, version)
        (tmp_path / "w.h5").write_bytes(content)
        found = rc.interop.keras_layers(tmp_path / "w.h5")["cell"]
        assert ("hard_sigmoid" in repr(found)) is expected


@pytest.mark.parametrize("config", ["{", "[]", "{}", '{"class_name": "Sequential"}', "/nowhere/at/all.json", 3])
def test_what_is_no_description_is_refused(config: Any, tmp_path: Path) -> None:
    of_keras_3(tmp_path / "w.weights.h5", {"layers/dense": [np.ones((3, 2)), np.ones(2)]})
    with pytest.raises((rc.ModelFormatError, OSError, TypeError)):
        rc.from_keras(tmp_path / "w.weights.h5", config=config)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of numpy, within Keras
def test_layers_of_a_live_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    import keras

    inputs = keras.Input((None, 3))
    hidden = keras.layers.Bidirectional(keras.layers.GRU(4, reset_after=False, return_sequences=True), name="both")
    dense = keras.layers.Dense(2, activation="tanh", name="out")
    model = keras.Model(inputs, keras.layers.TimeDistributed(dense, name="each")(hidden(inputs)))
    layers = rc.interop.keras_layers(model)
    x = np.random.default_rng(0).standard_normal((2, 5, 3)).astype(np.float32)
    y, _state = rc.Sequential(layers["both"], layers["each"])(x)
    np.testing.assert_allclose(y, model.predict(x, verbose=0), atol=2e-6)


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, list[Any]]:
    """A model of Keras with options of all kinds, and where it is: alive, and in files that describe it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BACKEND", "torch")
        import keras

        keras.utils.set_random_seed(0)
        made = keras.layers
        dense = made.TimeDistributed(made.Dense(4, activation="tanh"), name="each")
        model = keras.Sequential(
            [
                keras.Input((7, 3)),
                made.Bidirectional(made.LSTM(4, return_sequences=True, activation="relu"), "sum", name="both"),
                made.Conv1D(5, 3, padding="causal", activation="elu", name="windows"),
                made.BatchNormalization(epsilon=1e-2, name="norm"),
                made.GRU(4, return_sequences=True, go_backwards=True, name="back"),
                dense,
                made.SimpleRNN(3, activation="relu", name="last"),
                made.Dense(2, activation="softmax", name="out"),
            ]
        )
    directory = tmp_path_factory.mktemp("described")
    paths = [directory / "m.keras", directory / "m.h5"]
    for path in paths:
        model.save(path)
    return model, [model, *paths]


def at_fault(source: Any, options: Any) -> str:
    with pytest.raises((ValueError, TypeError)) as caught:
        rc.interop.keras_layers(source, options=options)
    assert not isinstance(caught.value, rc.ModelFormatError)
    return str(caught.value)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:You are saving")
@pytest.mark.parametrize("which", range(3))
def test_layers_have_the_options_that_their_source_describes(described: Any, which: int) -> None:
    model, sources = described
    layers = rc.interop.keras_layers(sources[which])
    names = ("both", "windows", "norm", "back", "each", "last", "out")
    x = np.random.default_rng(0).standard_normal((2, 7, 3)).astype(np.float32)
    y, _state = rc.Sequential(*(layers[name] for name in names))(x)
    np.testing.assert_allclose(y, model.predict(x, verbose=0), atol=2e-6)
    changed = rc.interop.keras_layers(sources[which], options={"last": {"return_sequences": True}})["last"]
    assert "relu" in repr(changed)
    assert changed.return_sequences


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:You are saving")
@pytest.mark.parametrize("which", range(3))
def test_options_at_fault_are_named_and_no_file_is_blamed(described: Any, which: int) -> None:
    source = described[1][which]
    for name in ("both", "windows", "norm", "back", "each", "last", "out"):
        for option in ("no_such_option", "merge_mod", "activaton"):
            told = at_fault(source, {name: {option: "relu"}})
            assert name in told
            assert option in told
            assert "file" not in told
            assert "save the model" not in told
        for bad in ("no_such_function", 3, {"a": 1}, [1]):
            if name != "norm":
                told = at_fault(source, {name: {"activation": bad}})
                assert "save the model" not in told
        told = at_fault(source, {name: {"type": "Mystery"}})
        assert "Mystery" in told
        assert "save the model" not in told
        rc.interop.keras_layers(source, options={name: {"name": "other", "gamma_initializer": "ones"}})
    assert "'nobody'" in at_fault(source, {"nobody": {}})
    at_fault(source, {"both": {3: 4}})
