"""rc.cell: the notation, its errors, the classes that it makes, files and the compiler."""

from __future__ import annotations

import pickle
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recurra as rc
from fresh_python import run_python
from own_cells import made

X = np.random.default_rng(0).standard_normal((4, 7, 6)).astype(np.float32)


def same_as(layer: Any, text: str, names: dict[str, Any]) -> None:
    """The built-in layer and the text give the same output and gradient; `names`: the text's parameters."""
    own = rc.cell("Same", text)(6, 6, dtype="float64")
    for name, value in names.items():
        own.params[f"{name}_l0"] = value
    x = X.astype(np.float64)
    outputs = []
    for one in (layer, own):
        tape = one.record(x)
        outputs.append((np.array(tape.y), tape.backward(np.ones_like(tape.y))[0]))
    for one, other in zip(*outputs, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-13)


def test_the_text_of_a_built_in_cell_is_that_cell() -> None:
    layer: Any = rc.MinGRU(6, 6, dtype="float64", seed=0)
    (w_z, w_n), (b_z, b_n) = (np.split(layer.params[name], 2) for name in ("weight_ih_l0", "bias_ih_l0"))
    text = "z = sigmoid(W_z @ x + b_z); h = (1 - z) * h + z * (W_n @ x + b_n)"
    same_as(layer, text, {"W_z": w_z, "W_n": w_n, "b_z": b_z, "b_n": b_n})
    layer = rc.RNN(6, 6, dtype="float64", seed=0)
    p = layer.params
    bias = p["bias_ih_l0"] + p["bias_hh_l0"]
    same_as(layer, "h = tanh(b + U @ h + W @ x)", {"W": p["weight_ih_l0"], "U": p["weight_hh_l0"], "b": bias})


@pytest.mark.parametrize(
    "text",
    [
        "h = hard_sigmoid(W @ x) * softsign(u * h) - abs(u)",
        "h = clip(W @ x + U @ h, -0.5, 0.5) + maximum(q, h) * 0.1",
        "h = where(h < W @ x, silu(h), minimum(h, 0.5)) ** 2",
        "a = W @ x; h = exp(-a ** 2) + a / (2 + h ** 4) - U @ h",
        "g = V @ x + b; n = sqrt(1 + g ** 3 * g); h = n * 0.1 - +h",
        "h = c - W @ x; c = 0.5 * h",
        "c = h; h = tanh(W @ x) * c",
        "h = W @ x + x * h",
        "h = 1.0 + 0 * (W @ x)",
    ],
)
def test_definition_checks_values_and_gradients(text: str) -> None:
    assert rc.cell("Checked", text)(6, 6)(X)[0].shape == (4, 7, 6)


@pytest.mark.parametrize(
    ("text", "message", "column"),
    [
        ("h = tanh(W @ x", "never closed", 8),
        ("h = tanh(W @ x) + tahn(h)", "a call of tahn", 18),
        ("h = tanh(W @ x, 2)", "2 arguments for tanh", 4),
        ("r = h; h = tanh(W @ x + U @ (r * h))", "expected x or h", 29),
        ("h = (W + 1) @ x", "a matrix, a parameter", 5),
        ("h = W @ x + W", "W", 12),
        ("h = W @ x + W @ h", "the parameter W again", 12),
        ("h = W @ x; g = U @ h; h = h + g", "the new h after @", 19),
        ("h += W @ x", "no equation", 0),
        ("import os", "no equation", 0),
        ("h = x.T + W @ x", "something else", 4),
        ("h = __import__('os').system('id')", "a call of", 4),
        ("h = (lambda: x)() + W @ x", "a call of", 4),
        ("h = [W @ x for x in x]", "something else", 4),
        ("h = W @ x + 1j", "something else", 12),
        ("h = W @ x + True", "something else", 12),
        ("h = W @ x + 1e999", "beyond 1e30", 12),
        ("x = W @ x; h = x", "an equation for x", 0),
        ("h = W @ x + h ** 2.5", "this power", 17),
        ("h = tanh + W @ x", "without an argument", 4),
        ("h = W @ x + c * d; c = h; d = h", "a third state", 16),
        ("h = \u03c3(W @ x)", "ASCII", 4),
        ("h = where(h == x, W @ x, h)", "this condition", 10),
        ("h = A@x * (B@x) * (C@x) * (D@x) * (E@x)", "more than 4 sums", 35),
    ],
)
def test_errors_show_the_place(text: str, message: str, column: int) -> None:
    with pytest.raises(ValueError, match=r"^cell: got ") as error:
        rc.cell("Wrong", text)
    head, _line, caret = str(error.value).rsplit("\n", 2)
    assert message in head
    assert caret.index("^") - 4 == column


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no equations"),
        ("g = W @ x", "no equation for h"),
        ("h = 0.5 * h", "no product with x"),
        ("h = " + "tanh(" * 400 + "W @ x" + ")" * 400, "deep|Python cannot read|too many"),
        ("h = " + "+ ".join(["W @ x"] * 2000), "characters"),
        ("h = A@x * (B@x) * (C@x) * (D@x + U@h)", "four products"),
        ("h = W @ x + " + " * ".join(f"(a{i} + h)" for i in range(13)), "more than 12 vectors"),
    ],
)
def test_errors_about_the_whole(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rc.cell("Wrong", text)


def test_arguments() -> None:
    with pytest.raises(TypeError, match="expected a string"):
        rc.cell("Name", 3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected one for a class"):
        rc.cell("no name", "h = W @ x")
    with pytest.raises(ValueError, match="init of 'q', expected a parameter"):
        rc.cell("Name", "h = W @ x", init={"q": 1.0})
    with pytest.raises(TypeError, match="init"):
        rc.cell("Name", "h = W @ x", init={"W": "zeros"})
    with pytest.raises(ValueError, match=r"^cell: got init\['W'\]=\(1, 0\), expected the lower end first"):
        rc.cell("Name", "h = W @ x", init={"W": (1.0, 0.0)})
    with pytest.raises(ValueError, match="hidden_size features"):
        made("SRU")(3, 5)
    with pytest.raises(ValueError, match="bidirectional layer"):
        made("SRU")(5, 5, num_layers=2, bidirectional=True)
    with pytest.raises(TypeError, match=r"rc\.cell"):
        rc.OwnCell(3, 5)


def test_initial_values() -> None:
    cell = rc.cell("Started", "h = W @ x + u * h + q", init={"u": (0.9, 1.0), "q": -2})
    layer: Any = cell(3, 50, 2, bidirectional=True, seed=0)
    for end in ("_l0", "_l1_reverse"):
        assert (layer.params["q" + end] == -2).all()
        assert 0.9 <= layer.params["u" + end].min() < layer.params["u" + end].max() <= 1.0
        assert np.abs(layer.params["W" + end]).max() <= 1 / np.sqrt(50)
    assert repr(layer) == "Started(input_size=3, hidden_size=50, num_layers=2, bidirectional=True)"


def test_files_and_pickles_hold_the_text(tmp_path: Path) -> None:
    cell = rc.cell("Kept", "c = 0.5 * c + W @ x; h = tanh(c + U @ h)", init={"U": 0.1})
    model = rc.Sequential(cell(6, 4, 2, bidirectional=True), rc.Linear(8, 2))
    expected = model(X)[0]
    model.save(tmp_path / "model.safetensors")
    pickled = pickle.loads(pickle.dumps(model))
    loaded = rc.load(tmp_path / "model.safetensors")
    for one in (pickled, loaded):
        assert type(one.layers[0]) is cell
        assert (one(X)[0] == expected).all()
    printed = run_python(
        f"""
import numpy as np, recurra as rc
model = rc.load({str(tmp_path / "model.safetensors")!r})
print(model.layers[0], float(np.abs(model(np.ones((1, 2, 6), np.float32))[0]).sum()))
"""
    )
    assert printed.startswith("Kept(input_size=6, hidden_size=4, num_layers=2, bidirectional=True) ")
    state = model.layers[0].init_state(3)
    assert [part.shape for part in state] == [(4, 3, 4), (4, 3, 4)]


@pytest.mark.parametrize("change", [{"cell": ["Kept", "h = W @ x + V @ h", {}]}, {"cell": ["K", "import os", {}]}, {}])
def test_a_file_s_text_is_checked_before_anything_is_made(change: dict[str, Any]) -> None:
    config = {**rc.cell("Kept", "h = W @ x")(3, 5).config(), **change}
    if change.get("cell", [""])[0] == "K":
        with pytest.raises(ValueError, match="no equation"):
            rc.OwnCell.count_parameters(config)
    else:
        assert rc.OwnCell.count_parameters(config) == (15 if not change else 40)


def test_it_trains() -> None:
    model = rc.Sequential(made("IndRNN")(6, 16, 2), rc.Linear(16, 1))
    y = np.cumsum(X[:, :, :1], axis=1)
    history = model.fit(X, y, loss="mse", optimizer=rc.optim.Adam(1e-2), epochs=40, verbose=0)
    losses = history.history["loss"]
    assert losses[-1] < losses[0] / 3


def test_one_class_for_one_text() -> None:
    with ThreadPoolExecutor(4) as pool:
        cells = list(pool.map(lambda _i: rc.cell("Once", "h = tanh(W @ x) + 0.25 * h"), range(8)))
    assert len(set(cells)) == 1
    assert rc.cell("Twice", "h = tanh(W @ x) + 0.25 * h") is not cells[0]


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(RuntimeError, match="CXX=no-such-compiler, which is not there, expected GCC or Clang"):
        rc.cell("Uncompiled", "h = W @ x + 0.125")
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match=r"no C\+\+ compiler.*install one .*apt install g\+\+"):
        rc.cell("Uncompiled", "h = W @ x + 0.125")
    monkeypatch.undo()
    monkeypatch.setenv("CXX", "false")
    with pytest.raises(RuntimeError, match="expected a compiler"):
        rc.cell("Uncompiled", "h = W @ x + 0.125")


def test_the_folder_of_compiled_cells_is_private(tmp_path: Path) -> None:
    program = "import recurra as rc; rc.cell('Private', 'h = tanh(W @ x) * 0.75 + h')"
    for _run in range(2):
        run_python(program, XDG_CACHE_HOME=str(tmp_path))
        folder = tmp_path / "recurra" / "cells"
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert [one.suffix for one in folder.iterdir()] == [".so"]
    (only,) = folder.iterdir()
    only.write_bytes(b"spoilt")
    run_python(program, XDG_CACHE_HOME=str(tmp_path))
    assert only.stat().st_size > 1000
    folder.chmod(0o777)  # anybody may have put something there
    only.write_bytes(b"spoilt")
    run_python(program, XDG_CACHE_HOME=str(tmp_path))
    assert only.stat().st_size == 6


def test_what_others_have_no_word_for_is_refused_by_name(tmp_path: Path) -> None:
    layer = rc.cell("Wordless", "h = tanh(W @ x + u * h)")(3, 4)
    for convert in (layer.to_torch, lambda: layer.to_onnx(tmp_path / "model.onnx")):
        with pytest.raises(ValueError, match="Wordless"):
            convert()
    (found,) = rc.diagnose.saturation(layer, np.ones((2, 5, 3), np.float32)).layers
    assert found.gates == ()
