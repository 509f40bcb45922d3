"""Files of Keras 1, 2 and 3 in every layout, and files that somebody has made up."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import keras_layouts
import recurra as rc
from keras_layouts import archive, layer, legacy

F, H, T = 3, 4, 6
Array = np.ndarray[Any, Any]


def read(content: bytes, folder: Path, **options: Any) -> Any:
    path = folder / "model"
    path.write_bytes(content)
    return rc.from_keras(path, **options)


def draw(seed: int, *shapes: tuple[int, ...]) -> list[Array]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


def test_one_model_in_every_layout(tmp_path: Path) -> None:
    x = np.array([[1, 2, 3, 0, 0], [4, 5, 6, 7, 8], [0, 0, 0, 0, 0]])
    ys = [read(content, tmp_path)(x)[0] for content in keras_layouts.originals()]
    for y in ys[1:]:
        np.testing.assert_array_equal(y, ys[0])
    model = read(keras_layouts.originals()[2], tmp_path)
    np.testing.assert_array_equal(model(x, lengths=np.array([3, 5, 0]))[0], ys[0])
    np.testing.assert_array_equal(rc_saved(model, tmp_path)(x)[0], ys[0])


def rc_saved(model: Any, folder: Path) -> Any:
    model.save(folder / "saved")
    return rc.load(folder / "saved")


@pytest.mark.parametrize("version", [None, "1.2.2"])
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_keras_1_had_a_matrix_for_each_gate(kind: str, version: str | None, tmp_path: Path) -> None:
    gates, order = ("icfo", [0, 2, 1, 3]) if kind == "LSTM" else ("zrh", [1, 0, 2])
    arrays = draw(0, *[(F, H), (H, H), (H,)] * len(gates))
    config = {"output_dim": H, "activation": "tanh", "inner_activation": "sigmoid", "return_sequences": True}
    first = layer(kind, "cell", batch_input_shape=[None, T, F], **config)
    names = [f"cell_{part}_{gate}" for gate in gates for part in "WUb"]
    content = legacy([first], {"cell": list(zip(names, arrays, strict=True))}, version, nested=version is not None)
    made = rc.LSTM(F, H) if kind == "LSTM" else rc.GRU(F, H, reset_after=False)
    w, u, b = (np.concatenate([arrays[3 * gate + part].T for gate in order]) for part in range(3))
    made.load_state_dict({"weight_ih_l0": w, "weight_hh_l0": u, "bias_ih_l0": b, "bias_hh_l0": np.zeros_like(b)})
    (x,) = draw(1, (2, T, F))
    np.testing.assert_array_equal(read(content, tmp_path)(x)[0], made(x)[0])


def test_other_names_of_keras_1(tmp_path: Path) -> None:
    kernel, bias, weight, own = draw(0, (3, 1, F, 5), (5,), (5, 2), (2,))
    layers = [
        layer(
            "Convolution1D",
            "conv",
            batch_input_shape=[None, T, F],
            nb_filter=5,
            filter_length=3,
            border_mode="same",
            subsample_length=1,
            bias=True,
            activation="relu",
        ),
        layer("MaxPooling1D", "pool", pool_length=2, stride=2, border_mode="valid"),
        layer("Dropout", "dropout", p=0.5),
        layer("TimeDistributedDense", "dense", output_dim=2, activation="linear", bias=True),
    ]
    weights = {"conv": [("W", kernel), ("b", bias)], "dense": [("dW", weight), ("db", own)]}
    conv, dense = rc.Conv1d(F, 5, 3, padding="same"), rc.Linear(5, 2)
    conv.load_state_dict({"weight": kernel[:, 0].transpose(2, 1, 0), "bias": bias})
    dense.load_state_dict({"weight": weight.T, "bias": own})
    wanted = rc.Sequential(conv, rc.Activation("relu"), rc.MaxPool1d(2), dense)
    (x,) = draw(1, (2, T, F))
    np.testing.assert_array_equal(read(legacy(layers, weights, None), tmp_path)(x)[0], wanted(x)[0])
    weights["conv"][0] = ("W", kernel.transpose(3, 2, 0, 1))  # as Theano had it
    np.testing.assert_array_equal(read(legacy(layers, weights, "1.0.1"), tmp_path)(x)[0], wanted(x)[0])


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_cudnn_layers_have_two_biases_and_turned_matrices(kind: str, tmp_path: Path) -> None:
    gates = 4 if kind == "LSTM" else 3
    kernel, recurrent, bias = draw(0, (F, gates * H), (H, gates * H), (2 * gates * H,))
    first = layer(f"CuDNN{kind}", "cell", units=H, return_sequences=True, batch_input_shape=[None, T, F])
    weights = {"cell": [("k", kernel), ("r", recurrent), ("b", bias)]}
    made = (rc.LSTM if kind == "LSTM" else rc.GRU)(F, H)
    # cuDNN's own matrices are (H, I) and (H, H) for each gate: Keras keeps their numbers in this order.
    inner = np.concatenate([_turned(one) for one in np.split(kernel, gates, 1)])
    outer = np.concatenate(np.split(recurrent, gates, 1))
    values = {
        "weight_ih_l0": inner,
        "weight_hh_l0": outer,
        "bias_ih_l0": bias[: gates * H],
        "bias_hh_l0": bias[gates * H :],
    }
    if kind == "GRU":
        values = {name: rc.interop.gates(one, "GRU", "keras") for name, one in values.items()}
    made.load_state_dict({name: np.ascontiguousarray(one) for name, one in values.items()})
    (x,) = draw(1, (2, T, F))
    np.testing.assert_allclose(read(legacy([first], weights, "2.2.4"), tmp_path)(x)[0], made(x)[0], atol=1e-6)


def _turned(block: Array) -> Array:
    """(F, H) as Keras has it, to cuDNN's (H, F): the numbers in their order."""
    return np.ascontiguousarray(block).reshape(H, F)


def test_groups_of_one_class_are_found_by_name_or_by_number(tmp_path: Path) -> None:
    weights = draw(0, *[(2, 2), (2,)] * 11)
    names = [f"dense_{index}" for index in range(11)]
    layers = [layer("Dense", name, units=2, activation="tanh") for name in names]
    first = layer("InputLayer", "x", batch_shape=[None, 2])
    model = {"class_name": "Sequential", "config": {"name": "m", "layers": [first, *layers]}}
    paths = ["layers/dense", *(f"layers/dense_{index}" for index in range(1, 11))]
    tree = {path: weights[2 * index : 2 * index + 2] for index, path in enumerate(paths)}
    (x,) = draw(1, (3, 2))
    wanted = x
    for index in range(11):
        wanted = np.tanh(wanted @ weights[2 * index] + weights[2 * index + 1])
    np.testing.assert_allclose(read(archive(model, tree), tmp_path)(x)[0], wanted, atol=1e-6)
    shuffled = dict(zip(paths, names[::-1], strict=True))
    turned = {path: tree[paths[10 - index]] for index, path in enumerate(paths)}
    np.testing.assert_allclose(read(archive(model, turned, names=shuffled), tmp_path)(x)[0], wanted, atol=1e-6)


# What is refused, with its name.


def sequential(*layers: Any) -> Any:
    first = layer("InputLayer", "x", batch_shape=[None, T, F])
    return {"class_name": "Sequential", "config": {"name": "m", "layers": [first, *layers]}}


def functional(**edits: Any) -> Any:
    layers = [
        {**layer("InputLayer", "x", batch_shape=[None, F]), "name": "x", "inbound_nodes": []},
        {**layer("Add", "a"), "name": "a", "inbound_nodes": [[["x", 0, 0, {}], ["b", 0, 0, {}]]]},
        {**layer("Activation", "b", activation="relu"), "name": "b", "inbound_nodes": [[["a", 0, 0, {}]]]},
    ]
    config = {"name": "m", "layers": layers, "input_layers": [["x", 0, 0]], "output_layers": [["b", 0, 0]]}
    return {"class_name": "Functional", "config": config | edits}


def doubled(depth: int) -> Any:
    """Models in which each calls the one within twice."""
    inner = layer("Activation", "a", activation="relu")
    for _ in range(depth):
        nodes = [[["x", 0, 0, {}]], [["i", 0, 0, {}]]]
        layers = [
            {**layer("InputLayer", "x", batch_shape=[None, F]), "inbound_nodes": []},
            {**inner, "config": {**inner["config"], "name": "i"}, "inbound_nodes": nodes},
        ]
        config = {"name": "i", "layers": layers, "input_layers": [["x", 0, 0]], "output_layers": [["i", 1, 0]]}
        inner = {"class_name": "Functional", "config": config}
    return inner


MODELS: dict[str, Any] = {
    "Lambda": sequential(layer("Lambda", "code", function=["YQ==", None, None])),
    "Conv2D": sequential(layer("Conv2D", "image", filters=2)),
    "Mine": {"class_name": "Mine", "config": {}},
    "a cycle of layers": functional(),
    "calls of layers": doubled(30),
    "tensor of layer 'nobody'": functional(output_layers=[["nobody", 0, 0]]),
    "expected sizes": {"class_name": "Sequential", "config": {"layers": [layer("Dense", "d", units=2)]}},
    "weights of shapes": sequential(layer("Dense", "d", units=10**9)),
    "squareplus": sequential(layer("Activation", "a", activation="squareplus")),
    "axis=1": sequential(layer("BatchNormalization", "n", axis=1)),
    "target_shape": sequential(layer("Reshape", "r", target_shape=[F, T])),
    "mode": sequential(layer("Merge", "m", mode="dot")),
    "expected a Dense": sequential(layer("Flatten", "f")),
    "no list of layers": {"class_name": "Sequential", "config": {"layers": 3}},
}


@pytest.mark.parametrize("what", MODELS)
def test_models_that_cannot_be_read(what: str, tmp_path: Path) -> None:
    with pytest.raises(rc.ModelFormatError, match=rf"^from_keras: .*model: .*{what}"):
        read(archive(MODELS[what], {}), tmp_path)


def zipped(*members: tuple[str, bytes], links: tuple[str, ...] = (), compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as file:
        for name, part in members:
            info = zipfile.ZipInfo(name)
            info.compress_type = compression
            info.external_attr = (0o120777 if name in links else 0o100644) << 16
            file.writestr(info, part)
    return stream.getvalue()


def hdf5(write: Callable[[Any], None]) -> bytes:
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file.attrs["model_config"] = json.dumps(sequential(layer("Dense", "d", units=2)))
        write(file)
    return stream.getvalue()


def names(group: Any, *entries: str) -> Any:
    group.attrs["layer_names"] = [b"d"]
    own = group.create_group("d")
    own.attrs["weight_names"] = [one.encode() for one in entries]
    return own


def _soft(file: Any) -> None:
    names(file, "k")["k"] = h5py.SoftLink("/elsewhere")


def _outside(file: Any) -> None:
    names(file, "k")["k"] = h5py.ExternalLink("/etc/passwd", "/")


def _stored_outside(file: Any) -> None:
    names(file, "k").create_dataset("k", (F, 2), "f4", external=[("/etc/passwd", 0, 24)])


def _empty(file: Any) -> None:
    names(file, "k").create_dataset("k", (1 << 20, 1 << 12), "f4", chunks=(1, 1 << 12))


def _cycle(file: Any) -> None:
    own = names(file, "k")
    own["again"] = own


def _objects(file: Any) -> None:
    names(file, "k").create_dataset("k", data=["text"])


PICKLED = io.BytesIO()
np.savez(PICKLED, **{"layers/dense/vars": np.array([{"0": np.zeros(3)}], dtype=object)})
CONFIG = json.dumps(sequential()).encode()

FILES: dict[str, bytes] = {
    "neither a zip archive nor an HDF5": b"something else",
    "without config.json": zipped(("metadata.json", b"{}")),
    "without model.weights.h5": zipped(("config.json", CONFIG)),
    "relative names": zipped(("../config.json", CONFIG)),
    "a link": zipped(("config.json", CONFIG), links=("config.json",)),
    "is not JSON": zipped(("config.json", b"{"), ("model.weights.h5", b"")),
    "100000000 bytes": zipped(("config.json", CONFIG), ("model.weights.h5", bytes(100_000_000))),
    "unreadable HDF5 file": zipped(("config.json", CONFIG), ("model.weights.h5", b"nothing")),
    "not a plain array": zipped(("config.json", CONFIG), ("model.weights.npz", PICKLED.getvalue())),
    "link as 'k'": hdf5(_soft),
    "link as 'k' ": hdf5(_outside),
    "in another file": hdf5(_stored_outside),
    "numbers to be there": hdf5(_empty),
    "at two places": hdf5(_cycle),
    "not a numeric array": hdf5(_objects),
    "no group of weights": hdf5(lambda file: file.attrs.update(layer_names=[b"e"])),
    "each of weight_names": hdf5(lambda file: names(file, "k") and None),
}


@pytest.mark.parametrize("what", FILES)
def test_files_that_are_refused(what: str, tmp_path: Path) -> None:
    with pytest.raises(rc.ModelFormatError, match=rf"^from_keras: .*model: .*{what.strip()}"):
        read(FILES[what], tmp_path)


def test_names_twice_in_an_archive(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate"):
        content = zipped(("config.json", CONFIG), ("config.json", CONFIG))
    with pytest.raises(rc.ModelFormatError, match="twice"):
        read(content, tmp_path)


@pytest.mark.parametrize("index", range(6))
def test_files_cut_off(index: int, tmp_path: Path) -> None:
    content = keras_layouts.originals()[index]
    for end in np.linspace(0, len(content) - 1, 40).astype(int):
        with pytest.raises(rc.ModelFormatError, match=r"^from_keras: "):
            read(content[:end], tmp_path)


def _numbers_of_heaps(content: bytes) -> list[tuple[int, bool]]:
    """Where sizes stand in the file's heaps of texts, each of 8 bytes; whether it is that of an object with a text."""
    found, begin = [], content.find(b"GCOL\x01")
    while begin >= 0:
        found.append((begin + 8, False))
        end, at = begin + int.from_bytes(content[begin + 8 : begin + 16], "little"), begin + 16
        while at + 16 <= end:
            number, size = content[at], int.from_bytes(content[at + 8 : at + 16], "little")
            found.append((at + 8, number != 0))
            at += 16 + (size + 7) // 8 * 8 if number else size
        begin = content.find(b"GCOL\x01", begin + 1)
    return found


def test_sizes_in_heaps_of_texts_keep_no_one_waiting(tmp_path: Path) -> None:
    """With some of them, HDF5's library goes round in a circle."""
    content = next(one for one in keras_layouts.originals() if b"GCOL\x01" in one)
    read(content, tmp_path)
    numbers = _numbers_of_heaps(content)
    assert len(numbers) >= 3
    for at, is_text in numbers:
        size = int.from_bytes(content[at : at + 8], "little")
        free = [] if is_text else [0, 8, size + 188]
        for new in [*free, size + (1 << 20), 1 << 63, (1 << 64) - 16, (1 << 64) - 1]:
            with pytest.raises(rc.ModelFormatError, match=r"^from_keras: "):
                read(content[:at] + new.to_bytes(8, "little") + content[at + 8 :], tmp_path)


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        rc.from_keras(tmp_path / "missing.keras")
    with pytest.raises(IsADirectoryError):
        rc.from_keras(tmp_path)
    for other in (None, 3, b"model.keras", object()):
        with pytest.raises(TypeError, match=r"^from_keras: got"):
            rc.from_keras(other)


def test_without_h5py(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r"recurra\[keras\]"):
        read(FILES["link as 'k'"], tmp_path)
