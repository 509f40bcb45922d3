"""Model files: what was saved comes back, what is damaged is refused, and nothing in a file is ever run."""

from __future__ import annotations

import json
import os
import re
import stat
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import recurra as rc
from agreement import assert_same_bits
from user_layers import Scale

X = np.random.default_rng(0).standard_normal((4, 7, 3)).astype(np.float32)
TOKENS = np.arange(28).reshape(4, 7) % 5
MODELS: dict[str, tuple[Callable[[], Any], Any]] = {
    "RNN": (lambda: rc.RNN(3, 5, 2, nonlinearity="sigmoid", bias=False, seed=0), X),
    "LSTM": (lambda: rc.LSTM(3, 5, 2, bidirectional=True, dropout=0.25, seed=0), X),
    "GRU": (lambda: rc.GRU(3, 5, reset_after=False, return_sequences=False, seed=0), X),
    "RNN with options": (lambda: rc.RNN(3, 5, 2, layer_norm=True, zoneout=0.2, recurrent_init="orthogonal", seed=0), X),
    "projected LSTM": (lambda: rc.LSTM(3, 5, 3, proj_size=2, bidirectional=True, bias=False, seed=0), X),
    "LSTM with options": (
        lambda: rc.LSTM(
            *(3, 5, 2),
            proj_size=2,
            peepholes=True,
            layer_norm=True,
            zoneout_cell=0.1,
            cell_clip=3,
            forget_bias=1,
            activation="softsign",
            recurrent_activation=("hard_sigmoid", 0.2, 0.5),
            output_activation="linear",
            seed=0,
        ),
        X,
    ),
    "GRU with options": (
        lambda: rc.GRU(3, 5, 2, bidirectional=True, layer_norm=True, input_dropout=0.1, recurrent_dropout=0.2, seed=0),
        X,
    ),
    "GRU with activations": (lambda: rc.GRU(3, 5, activation="relu", recurrent_activation="hard_sigmoid", seed=0), X),
    "RNN with a hard sigmoid": (lambda: rc.RNN(3, 5, nonlinearity=("hard_sigmoid", 0.5, 0.25), seed=0), X),
    "MinGRU": (lambda: rc.MinGRU(3, 5, 2, positive=True, bidirectional=True, seed=0), X),
    "MinLSTM": (lambda: rc.MinLSTM(3, 5, bias=False, return_sequences=False, seed=0), X),
    "time first": (lambda: rc.GRU(3, 5, batch_first=False, seed=0), X),
    "float64": (lambda: rc.LSTM(3, 5, dtype="float64", seed=0), X.astype(np.float64)),
    "Linear": (lambda: rc.Linear(3, 5, seed=0), X),
    "Embedding": (lambda: rc.Embedding(5, 3, seed=0), TOKENS),
    "Sequential": (
        lambda: rc.Sequential(
            rc.Embedding(5, 4), rc.LSTM(4, 6), rc.Dropout(0.5), rc.GRU(6, 3), rc.Linear(3, 5), seed=0
        ),
        TOKENS,
    ),
}


def saved(model: Any, tmp_path: Path) -> bytes:
    model.save(tmp_path / "model.safetensors")
    return (tmp_path / "model.safetensors").read_bytes()


def load(content: bytes, tmp_path: Path, **options: Any) -> Any:
    (tmp_path / "other.safetensors").write_bytes(content)
    return rc.load(tmp_path / "other.safetensors", **options)


def edited(content: bytes, change: Callable[[dict[str, Any]], Any]) -> bytes:
    """The same file with another header."""
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    change(header)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + size :]


def reconfigured(content: bytes, change: Callable[[dict[str, Any]], Any]) -> bytes:
    """The same file with another configuration."""

    def rewrite(header: dict[str, Any]) -> None:
        config = json.loads(header["__metadata__"]["config"])
        change(config)
        header["__metadata__"]["config"] = json.dumps(config)

    return edited(content, rewrite)


@pytest.mark.parametrize(("make", "x"), MODELS.values(), ids=MODELS)
def test_round_trip(make: Callable[[], Any], x: Any, tmp_path: Path) -> None:
    model = make()
    twin = load(saved(model, tmp_path), tmp_path)
    assert type(twin) is type(model)
    assert twin.config() == model.config()
    assert twin.dtype == model.dtype
    for name in model.params:
        assert_same_bits(twin.params[name], model.params[name], name)
    assert_same_bits(twin(x)[0], model(x)[0])


def test_a_file_older_than_the_options(tmp_path: Path) -> None:
    """Its configuration does not name them: none is on."""
    model = rc.LSTM(3, 5, 2, seed=0)
    options = ["proj_size", "peepholes", "layer_norm", "zoneout_cell", "cell_clip", "forget_bias"]
    options += ["input_dropout", "recurrent_dropout", "zoneout", "recurrent_init"]
    options += ["activation", "recurrent_activation", "output_activation"]
    content = reconfigured(saved(model, tmp_path), lambda c: [c["config"].pop(name) for name in options])
    assert load(content, tmp_path).config() == model.config()


def test_the_metadata_say_what_it_is(tmp_path: Path) -> None:
    content = saved(MODELS["GRU"][0](), tmp_path)
    (size,) = struct.unpack("<Q", content[:8])
    metadata = json.loads(content[8 : 8 + size])["__metadata__"]
    assert metadata["format"] == "recurra"
    assert metadata["format_version"] == "1"
    assert metadata["library_version"] == rc.__version__
    assert metadata["dtype"] == "float32"
    assert json.loads(metadata["config"])["config"]["reset_after"] is False, "the GRU's form"


def test_the_tensors_are_plain_safetensors(tmp_path: Path) -> None:
    model = MODELS["Sequential"][0]()
    tensors = safetensors.numpy.load(saved(model, tmp_path))
    assert set(tensors) == set(model.params)
    for name, tensor in tensors.items():
        assert_same_bits(tensor, model.params[name])


def test_bfloat16_is_read_and_float8_is_named(tmp_path: Path) -> None:
    """Files of others may have dtypes that numpy lacks; those of half the digits are read as float32."""
    cell, path = torch.nn.LSTM(3, 5, dtype=torch.bfloat16), tmp_path / "cell.safetensors"
    safetensors.torch.save_file(cell.state_dict(), path)
    layer = rc.from_torch(path)
    for name, tensor in cell.float().named_parameters():
        assert_same_bits(layer.params[name], tensor.detach().numpy())
    safetensors.torch.save_file({"w": torch.zeros(2, dtype=torch.float8_e4m3fn)}, path)
    for read in (rc.load, rc.from_torch):
        with pytest.raises(
            rc.ModelFormatError, match=r"got w of dtype F8_E4M3, expected one of BOOL, .* or BF16; convert"
        ):
            read(path)


def test_frozen_layers_stay_frozen(tmp_path: Path) -> None:
    model = MODELS["Sequential"][0]()
    model.layers[1].trainable = False
    twin = load(saved(model, tmp_path), tmp_path)
    assert [layer.trainable for layer in twin.layers] == [layer.trainable for layer in model.layers]


def test_a_users_layer(tmp_path: Path) -> None:
    model = rc.Sequential(rc.GRU(3, 5), Scale(5), seed=0)
    content = saved(model, tmp_path)
    assert_same_bits(load(content, tmp_path, custom={"Scale": Scale})(X)[0], model(X)[0])
    with pytest.raises(rc.ModelFormatError, match=r"Scale.*custom"):
        load(content, tmp_path)
    with pytest.raises(TypeError, match="custom"):
        load(content, tmp_path, custom={"Scale": "Scale"})
    foreign = type("Scale", (), {"from_config": classmethod(lambda cls, config: cls())})  # as Keras' layers have it
    with pytest.raises(TypeError, match="custom"):
        load(content, tmp_path, custom={"Scale": foreign})


@pytest.mark.parametrize("name", ["GRU", "Sequential"])
def test_truncated_at_every_byte(name: str, tmp_path: Path) -> None:
    content = saved(MODELS[name][0](), tmp_path)
    for size in range(len(content)):
        with pytest.raises(rc.ModelFormatError, match=r"^load: "):
            load(content[:size], tmp_path)
    with pytest.raises(rc.ModelFormatError, match=r"^load: "):
        load(content + b"\0", tmp_path)


@settings(
    max_examples=500, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_damaged_bytes(data: Any, tmp_path: Path) -> None:
    """A changed header is refused, or makes a model all the same; nothing else happens."""
    content = bytearray(saved(MODELS["Sequential"][0](), tmp_path))
    (size,) = struct.unpack("<Q", content[:8])
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, 8 + size - 1))] = data.draw(st.integers(0, 255))
    try:
        model = load(bytes(content), tmp_path)
    except rc.ModelFormatError:
        pass
    else:
        assert isinstance(model, rc.Layer)


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    content = saved(MODELS["GRU"][0](), tmp_path)
    newer = edited(content, lambda header: header["__metadata__"].update(format_version="2", library_version="9.9.9"))
    with pytest.raises(rc.ModelFormatError, match=r"format_version 2.*9\.9\.9.*upgrade"):
        load(newer, tmp_path)
    for wrong in ("", "one", "-1", "1e9", "9" * 5000):
        with pytest.raises(rc.ModelFormatError, match="format_version"):
            load(edited(content, lambda header, w=wrong: header["__metadata__"].update(format_version=w)), tmp_path)


CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "unknown layer": lambda c: c.update(type="Perceptron"),
    "a class of the library that is no layer": lambda c: c.update(type="Stream"),
    "a class of Python": lambda c: c.update(type="builtins.eval"),
    "no type": lambda c: c.pop("type"),
    "no config": lambda c: c.pop("config"),
    "config of another kind": lambda c: c.update(config=[1, 2, 3]),
    "unknown option": lambda c: c["config"].update(colour="red"),
    "missing option": lambda c: c["config"].pop("hidden_size"),
    "other size": lambda c: c["config"].update(hidden_size=6),
    "enormous size": lambda c: c["config"].update(hidden_size=2**31),
    "size beyond any": lambda c: c["config"].update(hidden_size=10**40),
    "size of another kind": lambda c: c["config"].update(hidden_size="5"),
    "infinite dropout": lambda c: c["config"].update(dropout=float("inf")),
    "other dtype": lambda c: c["config"].update(dtype="float64"),
    "no dtype": lambda c: c["config"].update(dtype="int8"),
    "more layers": lambda c: c["config"].update(num_layers=2),
    "an option's parameters missing": lambda c: c["config"].update(layer_norm=True),
    "options that do not go together": lambda c: c["config"].update(forget_bias=1.0, bias=False),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_wrong_configuration(change: Callable[[dict[str, Any]], Any], tmp_path: Path) -> None:
    content = saved(rc.LSTM(3, 5, seed=0), tmp_path)
    with pytest.raises(rc.ModelFormatError, match=r"^load: "):
        load(reconfigured(content, change), tmp_path)


HEADERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no metadata": lambda h: h.pop("__metadata__"),
    "no configuration": lambda h: h["__metadata__"].pop("config"),
    "no JSON": lambda h: h["__metadata__"].update(config="{"),
    "endless JSON": lambda h: h["__metadata__"].update(config="[" * 100_000),
    "a number": lambda h: h["__metadata__"].update(config="7"),
    "another format": lambda h: h["__metadata__"].update(format="keras"),
    "renamed tensor": lambda h: h.update(bias=h.pop("bias_hh_l0")),
    "other shape": lambda h: h["bias_hh_l0"].update(shape=[4, 5]),
    "other type": lambda h: h["bias_hh_l0"].update(dtype="I32"),
}


@pytest.mark.parametrize("change", HEADERS.values(), ids=HEADERS)
def test_a_wrong_header(change: Callable[[dict[str, Any]], Any], tmp_path: Path) -> None:
    content = saved(rc.LSTM(3, 5, seed=0), tmp_path)
    with pytest.raises(rc.ModelFormatError, match=r"^load: "):
        load(edited(content, change), tmp_path)


@pytest.mark.parametrize("content", [b"", b"\x80\x04K\x07.", b"PK\x03\x04" + bytes(100), b"\xff" * 100])
def test_files_of_other_kinds(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(rc.ModelFormatError, match=r"^load: "):
        load(content, tmp_path)


def test_paths(tmp_path: Path) -> None:
    model = MODELS["Linear"][0]()
    model.save(str(tmp_path / "text"))
    assert_same_bits(rc.load(str(tmp_path / "text"))(X)[0], model(X)[0])
    with pytest.raises(FileNotFoundError):
        rc.load(tmp_path / "nowhere")
    with pytest.raises(OSError, match="nowhere"):
        model.save(tmp_path / "nowhere" / "model")
    with pytest.raises(OSError, match=str(tmp_path)):
        rc.load(tmp_path)


def test_an_old_file_is_replaced_whole(tmp_path: Path) -> None:
    """A file of that name stays until the new one is complete; nothing else is left behind."""
    path = tmp_path / "model.safetensors"
    rc.LSTM(3, 5, seed=0).save(path)
    old = path.read_bytes()

    class Unwritable(rc.PythonLayer):
        def config(self) -> dict[str, Any]:
            return {"what": object()}

        def forward(self, x: Any, **_: Any) -> Any:
            return x, None

        def backward(self, dy: Any, saved: Any) -> Any:
            return dy

    with pytest.raises(ValueError, match="plain data"):
        Unwritable().save(path)
    assert path.read_bytes() == old
    rc.GRU(3, 5, seed=0).save(path)
    assert isinstance(rc.load(path), rc.GRU)
    assert os.listdir(tmp_path) == ["model.safetensors"]  # noqa: PTH208
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask, "readable as any file one writes"


def test_a_file_is_no_larger_than_its_numbers(tmp_path: Path) -> None:
    model = rc.LSTM(32, 64, 2, seed=0)
    numbers = sum(model.params[name].nbytes for name in model.params)
    assert numbers < len(saved(model, tmp_path)) < numbers + 4096


def test_training_goes_on_after_loading(tmp_path: Path) -> None:
    """Model and optimiser saved and loaded between two fits: the bits of one run without a break."""
    y = TOKENS.copy()
    options: dict[str, Any] = {"loss": rc.losses.CrossEntropy(), "verbose": 0, "epochs": 2}
    whole = rc.Sequential(rc.Embedding(5, 4), rc.GRU(4, 6), rc.Linear(6, 5), seed=0)
    part = rc.Sequential(rc.Embedding(5, 4), rc.GRU(4, 6), rc.Linear(6, 5), seed=0)
    optimizer, first = rc.optim.Adam(0.01), rc.optim.Adam(0.01)
    for seed in (1, 2):
        whole.fit(TOKENS, y, optimizer=optimizer, seed=seed, **options)
    part.fit(TOKENS, y, optimizer=first, seed=1, **options)
    second = rc.optim.Adam(0.01)
    second.load_state_dict(first.state_dict())
    part = load(saved(part, tmp_path), tmp_path)
    part.fit(TOKENS, y, optimizer=second, seed=2, **options)
    for name in whole.params:
        assert_same_bits(part.params[name], whole.params[name], name)


@pytest.mark.parametrize(
    ("name", "content", "reader"),
    [
        ("model.keras", b"PK\x03\x04" + bytes(60), "rc.from_keras(path)"),
        ("model.h5", b"\x89HDF\r\n\x1a\n" + bytes(60), "rc.from_keras(path)"),
        ("model", b"\x89HDF\r\n\x1a\n" + bytes(60), "rc.from_keras(path)"),
        ("model.onnx", b"\x08\x0a\x12\x04" + bytes(60), "rc.from_onnx(path)"),
        (
            "model.pt",
            b"PK\x03\x04" + bytes(60),
            "rc.from_torch(torch.load(path, map_location='cpu', weights_only=True))",
        ),
        (
            "model.PTH",
            b"\x80\x02" + bytes(60),
            "rc.from_torch(torch.load(path, map_location='cpu', weights_only=True))",
        ),
        ("model.zip", b"PK\x03\x04" + bytes(60), "one of PyTorch by rc.from_torch"),
    ],
)
def test_files_of_other_frameworks_are_told_their_reader(
    tmp_path: Path, name: str, content: bytes, reader: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(rc.ModelFormatError, match=rf"^load: .*{re.escape(reader)}.*expected a safetensors file$"):
        rc.load(path)
    rc.Linear(2, 3).save(tmp_path / "own")  # one of this library's own, however it is called
    path.write_bytes((tmp_path / "own").read_bytes()[:-1])
    with pytest.raises(rc.ModelFormatError, match="damaged"):
        rc.load(path)


def test_the_kind_that_is_expected(tmp_path: Path) -> None:
    path = tmp_path / "model"
    rc.Sequential(rc.Linear(2, 3)).save(path)
    assert isinstance(rc.load(path, kind=rc.Sequential), rc.Sequential)
    assert isinstance(rc.load(path, kind=rc.Layer), rc.Sequential)
    with pytest.raises(TypeError, match=r"^load: .*model: got a Sequential, expected a Model; leave kind out"):
        rc.load(path, kind=rc.Model)
    for wrong in ("Sequential", rc.optim.Adam, rc.Linear(1, 1)):
        with pytest.raises(TypeError, match=r"^load: got kind=.*, expected a class of layers or models; write"):
            rc.load(path, kind=wrong)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("name", "whose"), [("m.keras", "Keras"), ("m.H5", "Keras"), ("m.onnx", "ONNX"), ("m.pt", "PyTorch")]
)
def test_a_name_that_files_of_others_have_warns(name: str, whose: str, tmp_path: Path) -> None:
    model = rc.GRU(2, 3, seed=0)
    with pytest.warns(UserWarning, match=rf"holds safetensors.*files of {whose} are called so; call it m\.safetensors"):
        model.save(tmp_path / name)
    assert_same_bits(rc.load(tmp_path / name).params["weight_ih_l0"], model.params["weight_ih_l0"])
