"""Text files of DyNet, and the taggers of the package nagisa, against DyNet's equations in f64.

Where nagisa is not installed, its file has the same names and smaller shapes, with random weights.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recurra as rc
from packages import packaged
from reference import Array, sigmoid

CELLS = {"vanilla-lstm": (3, 4), "compact-vanilla-lstm": (3, 4), "simple-rnn": (3, 1), "gru": (9, 1)}
RNG = np.random.default_rng(0)


def section(name: str, value: Array, kind: str = "Parameter", gradient: bool = False) -> str:
    """A parameter as DyNet writes it: column by column, and its gradient behind it unless that is zero."""
    line = "".join(f"{one:+.8e} " for one in value.reshape(-1, order="F")) + "\n"
    text = line + (line.replace("+", "-") if gradient else "")
    shape = ",".join(str(size) for size in value.shape)
    return f"#{kind}# {name} {{{shape}}} {len(text)} {'FULL' if gradient else 'ZERO'}_GRAD\n{text}"


def builder(name: str, inputs: int, hidden: int, layers: int = 1) -> dict[str, Array]:
    """The random parameters of a builder by name."""
    kind = re.sub(r"-builder(_\d+)?$", "", name.rpartition("/")[2])
    per, gates = CELLS[kind]
    made: dict[str, Array] = {}
    for layer in range(layers):
        width = hidden if layer else inputs
        for part in range(per):
            shape = [(gates * hidden, width), (gates * hidden, hidden), (gates * hidden,)][part % 3]
            made[f"{name}/_{per * layer + part}"] = RNG.normal(0, 0.4, shape).astype(np.float32)
    return made


def saved(path: Path, parameters: Mapping[str, Array]) -> Path:
    path.write_text("".join(section(*one) for one in parameters.items()))
    return path


def run(kind: str, values: list[Array], x: Array) -> Array:
    """One layer and direction over x (T, features), by the equations of DyNet's builders."""
    values = [one.astype(float) for one in values]
    hidden = values[1].shape[1]
    h, c, steps = np.zeros(hidden), np.zeros(hidden), []
    for now in x:
        if kind == "gru":
            w_z, u_z, b_z, w_r, u_r, b_r, w_h, u_h, b_h = values
            z, r = sigmoid(w_z @ now + u_z @ h + b_z), sigmoid(w_r @ now + u_r @ h + b_r)
            h = (1 - z) * h + z * np.tanh(w_h @ now + u_h @ (r * h) + b_h)
        elif kind == "simple-rnn":
            h = np.tanh(values[0] @ now + values[1] @ h + values[2])
        else:
            i, f, o, g = np.split(values[0] @ now + values[1] @ h + values[2], 4)
            c = sigmoid(f + 1) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
        steps.append(h)
    return np.array(steps)


def both(kind: str, first: list[Array], second: list[Array], x: Array) -> Array:
    return np.concatenate([run(kind, first, x), run(kind, second, x[::-1])[::-1]], 1)


def values_of(parameters: Mapping[str, Array], name: str) -> list[Array]:
    return [value for own, value in parameters.items() if own.startswith(name + "/")]


def close(got: Any, wanted: Any) -> None:
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5 * max(1.0, np.abs(wanted).max()))


@pytest.mark.parametrize("kind", CELLS)
def test_a_builder_of_two_layers_and_a_pair_of_directions(tmp_path: Path, kind: str) -> None:
    stack, tree = f"/{kind}-builder", "/tagger/birnn_1"
    twelve = [f"{tree}/{kind}-builder{'_' * (i > 0)}{i or ''}" for i in range(12)]  # six layers: _10 comes behind _9
    parameters = builder(stack, 3, 4, 2)
    for place, name in enumerate(twelve):
        parameters |= builder(name, 8 if place > 1 else 3, 4)
    layers = rc.interop.dynet_layers(saved(tmp_path / "model", parameters))
    assert list(layers) == [stack, tree]
    x = RNG.standard_normal((7, 3)).astype(np.float32)
    per = CELLS[kind][0]
    own = values_of(parameters, stack)
    close(layers[stack](x[None])[0][0], run(kind, own[per:], run(kind, own[:per], x)))
    wanted: Array = x
    for first, second in zip(twelve[::2], twelve[1::2], strict=True):
        wanted = both(kind, values_of(parameters, first), values_of(parameters, second), wanted)
    close(layers[tree](x[None])[0][0], wanted)


def test_parameters_of_every_shape(tmp_path: Path) -> None:
    plain = {f"/_{axes}": RNG.standard_normal((2, 3, 4)[:axes]).astype(np.float32) for axes in (1, 2, 3)}
    table = RNG.standard_normal((5, 3)).astype(np.float32)
    text = "".join(section(*one, gradient=True) for one in plain.items())
    (tmp_path / "model").write_text(text + section("/table", table.T, "LookupParameter", gradient=True))
    found = rc.interop.dynet_parameters(tmp_path / "model")
    assert list(found) == [*plain, "/table"]
    for name, value in {**plain, "/table": table}.items():
        np.testing.assert_array_equal(found[name], value)
        assert found[name].dtype == np.float32
    assert rc.interop.dynet_layers(found) == {}


def test_what_is_no_builder_here_is_named() -> None:
    parameters = builder("/vanilla-lstm-builder", 3, 4) | {
        f"/lstm-builder/_{i}": np.ones((4, 4), "f") for i in range(11)
    }
    parameters |= dict(list(builder("/gru-builder", 3, 4).items())[:7])
    wrong = builder("/simple-rnn-builder", 3, 4)
    parameters |= wrong | {"/simple-rnn-builder/_1": np.ones((5, 4), "f")}
    layers = rc.interop.dynet_layers(parameters)
    assert list(layers) == ["/vanilla-lstm-builder"]
    for name, why in (("/lstm", "a lstm builder, which has no"), ("/gru", "_6"), ("/simple-rnn", r"\(5, 4\)")):
        with pytest.raises(KeyError, match=f"dynet_layers: .*{why}"):
            layers[f"{name}-builder"]


def test_damaged_files_are_refused_by_one_error(tmp_path: Path) -> None:
    whole = saved(
        tmp_path / "model", builder("/vanilla-lstm-builder", 2, 3) | builder("/gru-builder", 2, 3)
    ).read_bytes()
    rng = np.random.default_rng(1)
    refused: list[str] = []
    for _ in range(600):
        broken = bytearray(whole)
        at = int(rng.integers(len(whole)))
        match rng.integers(5):
            case 0:
                del broken[at:]
            case 1:
                broken[at] = int(rng.integers(256))
            case 2:
                broken[at:at] = rng.bytes(int(rng.integers(1, 9)))
            case 3:
                begin = [match.end() for match in re.finditer(rb"[{,} ](?=\d)", whole)]
                at = int(rng.choice(begin))
                broken[at:at] = b"9" * int(rng.integers(1, 20))
            case _:
                broken[at:at] = broken[at : at + int(rng.integers(1, 500))]
        (tmp_path / "broken").write_bytes(broken)
        try:
            rc.interop.dynet_layers(tmp_path / "broken")
        except rc.ModelFormatError as error:
            refused.append(str(error))
    assert len(refused) > 300
    said = rf"dynet_parameters: {tmp_path}/broken: got an? .*; save the model again"
    assert all(re.fullmatch(said, one, re.DOTALL) for one in refused)
    for content in (
        b"",
        b"\n",
        whole + section("/gru-builder/_0", np.ones(1)).encode(),
        whole.replace(b"/_0 ", b"/\xff "),
    ):
        (tmp_path / "broken").write_bytes(content)
        with pytest.raises(rc.ModelFormatError, match=r"save the model again$"):
            rc.interop.dynet_parameters(tmp_path / "broken")


def nagisa_file(folder: Path) -> Path:
    if found := packaged("nagisa", "data/nagisa_v001.model"):
        return found
    made: dict[str, Array] = {}
    for name, inputs, hidden in (("/birnn", 20, 6), ("/birnn_1", 14, 6), ("/birnn_2", 4, 2)):
        made |= builder(f"{name}/vanilla-lstm-builder", inputs, hidden)
        made |= builder(f"{name}/vanilla-lstm-builder_1", inputs, hidden)
    for name, shape in (("/_5", (6, 12)), ("/_6", (6,)), ("/_8", (24, 12)), ("/_9", (24,))):
        made[name] = RNG.normal(0, 0.4, shape).astype(np.float32)
    table = section("/_0", RNG.standard_normal((4, 50)), "LookupParameter")
    path = saved(folder / "model", made)
    path.write_text(path.read_text() + table)
    return path


def test_the_taggers_of_nagisa(tmp_path: Path) -> None:
    parameters = rc.interop.dynet_parameters(nagisa_file(tmp_path))
    layers = rc.interop.dynet_layers(parameters)
    for name, weight, bias in (("/birnn", "/_5", "/_6"), ("/birnn_1", "/_8", "/_9")):
        out = rc.from_torch({"weight": parameters[weight], "bias": parameters[bias]})
        tagger = rc.Sequential(layers[name], out)
        first, second = (values_of(parameters, f"{name}/vanilla-lstm-builder{end}") for end in ("", "_1"))
        x = RNG.standard_normal((2, 12, first[0].shape[1])).astype(np.float32)
        y, _ = tagger(x, lengths=np.array([12, 5]))
        for row, length in ((0, 12), (1, 5)):
            h = both("vanilla-lstm", first, second, x[row, :length])
            close(y[row, :length], h @ parameters[weight].T.astype(float) + parameters[bias])
    letters = parameters["/_0"][RNG.integers(0, 50, (1, 6))]  # the embeddings of a word's letters
    first, second = (values_of(parameters, f"/birnn_2/vanilla-lstm-builder{end}") for end in ("", "_1"))
    close(layers["/birnn_2"](letters)[0][0], both("vanilla-lstm", first, second, letters[0]))
