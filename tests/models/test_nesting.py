"""Models among layers and in models: one native call, one set of parameters, files, streams, training."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recurra as rc
from agreement import assert_same_bits
from array_types import DTYPES
from cell_runs import unpack
from user_layers import Scale

ROWS, STEPS = 3, 8
SHARED = rc.Linear(3, 3)
LENGTHS = np.array([8, 0, 5])


def block(rng: np.random.Generator, size: int, depth: int, dtype: str, streamable: bool) -> Any:
    """A layer or model from `size` features to as many, drawn at random."""
    kinds = ["gru", "dense", "norm", "user", *(["line", "line", "drawn", "residual"] if depth else [])]
    if not streamable:
        kinds += ["reverse", "both"]
    kind = kinds[rng.integers(len(kinds))]
    inner = lambda: block(rng, size, depth - 1, dtype, streamable)
    if kind == "gru":
        return rc.GRU(size, size, dtype=dtype)
    if kind == "dense":
        return rc.Linear(size, size, dtype=dtype)
    if kind == "norm":
        return rc.LayerNorm(size, dtype=dtype)
    if kind == "user":
        return Scale(size, dtype)
    if kind == "reverse":
        return rc.Reverse(dtype=dtype)
    if kind == "both":
        return rc.Bidirectional(rc.GRU(size, size, dtype=dtype), rc.RNN(size, size, dtype=dtype), merge_mode="sum")
    if kind == "line":
        return rc.Sequential(*(inner() for _ in range(rng.integers(1, 4))))
    x = rc.Input(features=size)
    if kind == "residual":
        return rc.Model(x, x + inner()(x))
    shared = inner()
    return rc.Model(x, shared(shared(x)) * inner()(x))


def flat(layer: Any) -> list[Any]:
    return [part for one in layer.layers for part in flat(one)] if isinstance(layer, rc.Sequential) else [layer]


def arrays_of(state: Any) -> list[Any]:
    return [array for entry in state if entry is not None for array in unpack(entry)]


@pytest.mark.parametrize("seed", range(40))
def test_a_nested_model_is_its_parts_in_turn(seed: int, tmp_path: Path) -> None:
    """Outputs, gradients and states of models drawn at random, beside each part called by itself; in files and
    copies."""
    rng = np.random.default_rng(seed)
    dtype, streamable = DTYPES[seed % 2], seed % 4 < 2
    layers = [block(rng, 4, 2, dtype, streamable) for _ in range(rng.integers(1, 4))]
    model = rc.Sequential(*layers, rc.Linear(4, 2, dtype=dtype), seed=seed)
    x = rng.standard_normal((ROWS, STEPS, 4)).astype(dtype)
    y, state = model(x, lengths=LENGTHS)
    value, states = x, []
    for part in model.layers:
        value, own = part(value, lengths=LENGTHS)
        states += own if isinstance(own, list) else [own]
    assert_same_bits(y, value)
    for one, other in zip(arrays_of(state), arrays_of(states), strict=True):
        assert_same_bits(one, other)
    assert [id(part) for part in model.layers[:-1]] == [id(part) for part in layers]
    names = list(model.params)
    assert len(set(names)) == len(names)
    assert all(name.split(".")[0].isdigit() for name in names)

    line = rc.Sequential(*flat(model))
    one, other = model.record(x, lengths=LENGTHS, seed=1), line.record(x, lengths=LENGTHS, seed=1)
    dy = rng.standard_normal(y.shape).astype(dtype)
    assert_same_bits(one.backward(dy)[0], other.backward(dy)[0])

    path = tmp_path / "model.safetensors"
    model.save(path)
    for twin in (rc.load(path, custom={"Scale": Scale}), pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert repr(twin) == repr(model)
        assert list(twin.params) == names
        assert_same_bits(twin(x, lengths=LENGTHS)[0], y)
    if streamable:
        whole, _ = model(x)
        stream = model.stream(batch_size=ROWS)
        for t in range(STEPS):
            assert_same_bits(stream.step(x[:, t]), whole[:, t])


def test_names_seeds_and_freezing_are_those_of_pytorch(capsys: pytest.CaptureFixture[str]) -> None:
    inner = rc.Bidirectional(rc.GRU(3, 4), rc.LSTM(3, 4))
    model = rc.Sequential(inner, rc.Sequential(rc.Dropout(0.1), rc.Linear(8, 2)), seed=0)
    names = [name.rsplit(".", 1)[0] for name in model.params]
    assert list(dict.fromkeys(names)) == ["0.1", "0.2", "1.1"]
    assert model.layers[0] is inner
    again = rc.Sequential(rc.Bidirectional(rc.GRU(3, 4), rc.LSTM(3, 4)), rc.Linear(8, 2), seed=0)
    for name in inner.params:
        assert_same_bits(again.params[f"0.{name}"], inner.params[name], "the seed draws them")
    inner.trainable = False
    before = {name: array.copy() for name, array in model.params.items()}
    x, y = np.ones((4, 5, 3)), np.zeros((4, 5, 2))
    model.fit(x, y, loss=rc.losses.MeanSquaredError(), optimizer=rc.optim.Adam(0.1), epochs=2, seed=0, verbose=0)
    for name, array in model.params.items():
        assert np.array_equal(array, before[name]) == name.startswith("0."), name
    model.trainable = True
    assert inner.trainable
    model.summary()
    out = capsys.readouterr().out
    for text in (
        "0.1: LSTM" if model.layers[0].layers[1].label == "LSTM" else "0.2: LSTM",
        "1.1: Linear",
        "Concatenate",
    ):
        assert text in out


@pytest.mark.parametrize("merge_mode", ["concat", "sum", "mul", "ave", None])
def test_two_directions_become_one(merge_mode: str | None) -> None:
    x = np.random.default_rng(0).standard_normal((ROWS, STEPS, 3)).astype(np.float32)
    for sequences in (True, False):
        both = rc.LSTM(3, 4, bidirectional=True, return_sequences=sequences, seed=0)
        model = rc.Bidirectional(rc.LSTM(3, 4, return_sequences=sequences), merge_mode=merge_mode)
        one, other = (layer for layer in model.layers if isinstance(layer, rc.LSTM))
        forward = next(
            node.layer for node in model._graph().nodes if node.inputs == (0,) and node.layer.label == "LSTM"
        )
        backward = other if forward is one else one
        assert not np.array_equal(one.params["weight_ih_l0"], other.params["weight_ih_l0"])
        for name in one.params:
            forward.params[name], backward.params[name] = both.params[name], both.params[name + "_reverse"]
        a, b = np.split(both(x, lengths=LENGTHS)[0], 2, axis=-1)
        y, _ = model(x, lengths=LENGTHS)
        if merge_mode is None:
            assert_same_bits(y[0], a)
            assert_same_bits(y[1], b)
        else:
            wanted = {"concat": np.concatenate([a, b], axis=-1), "sum": a + b, "mul": a * b, "ave": (a + b) / 2}
            assert_same_bits(y, wanted[merge_mode])
    with pytest.raises(ValueError, match="merge_mode"):
        rc.Bidirectional(rc.GRU(3, 4), merge_mode="max")
    with pytest.raises(ValueError, match="4 and 5 features"):
        rc.Bidirectional(rc.GRU(3, 4), rc.GRU(3, 5), merge_mode="sum")


def test_several_inputs_and_outputs() -> None:
    a, b = rc.Input(features=3), rc.Input(features=3)
    h = rc.GRU(3, 4)(a)
    joined = rc.Model({"a": a, "b": b}, h * rc.Linear(3, 4)(b))
    x = rc.Input(features=4)
    heads = rc.Model(x, (rc.Linear(4, 2)(x), rc.Pool("max")(x)))
    pair_a, pair_b = rc.Input(features=2), rc.Input(features=4, sequence=False)
    ends = rc.Model((pair_a, pair_b), {"one": rc.Linear(2, 2)(pair_a), "other": rc.Linear(4, 1)(pair_b)})
    model = rc.Sequential(joined, rc.LayerNorm(4), heads, ends, seed=0)
    rng = np.random.default_rng(0)
    given = {name: rng.standard_normal((ROWS, STEPS, 3)).astype(np.float32) for name in "ab"}
    lengths = {"a": LENGTHS, "b": LENGTHS}
    y, _ = model(given, lengths=lengths)
    value, _ = joined(given, lengths=lengths)
    value, _ = model.layers[1](value, lengths=LENGTHS)
    value, _ = heads(value, lengths=LENGTHS)
    value, _ = ends(value, lengths=(LENGTHS, None))
    for name, array in value.items():
        assert_same_bits(y[name], array)
    with pytest.raises(ValueError, match=r"layer 1 \(Model\), which takes 2 inputs, after layer 0.*1 outputs"):
        rc.Sequential(rc.Linear(3, 2), ends)


def test_a_shared_model() -> None:
    """Trained in one model, it has changed in the other; twice in one, its gradients add up."""
    encoder = rc.Sequential(rc.Embedding(7, 4), rc.Residual(rc.GRU(4, 4)), seed=0)
    a, b = rc.Input(tokens=7), rc.Input(tokens=7)
    siamese = rc.Model((a, b), rc.Dot()((rc.Pool("mean")(encoder(a)), rc.Pool("mean")(encoder(b)))))
    tagger = rc.Sequential(encoder, rc.Linear(4, 2), seed=1)
    tokens = np.arange(24).reshape(ROWS, STEPS) % 7
    before, _ = tagger(tokens)
    siamese.fit(
        (tokens, tokens[::-1]),
        np.zeros((ROWS, 1)),
        loss=rc.losses.MeanSquaredError(),
        optimizer=rc.optim.SGD(1.0),
        verbose=0,
    )
    assert not np.array_equal(tagger(tokens)[0], before)
    assert len(siamese.params) == len(encoder.params)
    siamese.zero_grad()
    siamese.record((tokens, tokens)).backward(np.ones((ROWS, 1), np.float32))
    twice = {name: array.copy() for name, array in encoder.grads.items()}
    encoder.zero_grad()
    tape = encoder.record(tokens)
    mean = tape.y.mean(1, keepdims=True)
    tape.backward(np.repeat(2 * mean / STEPS, STEPS, axis=1))
    for name, array in encoder.grads.items():
        np.testing.assert_allclose(array, twice[name], rtol=0, atol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: rc.Sequential(rc.Bidirectional(rc.GRU(3, 4)), rc.Linear(7, 2)), "8 output features before layer 1"),
        (
            lambda: rc.Sequential(rc.Sequential(rc.GRU(3, 4, return_sequences=False)), rc.Sequential(rc.GRU(4, 4))),
            "only the last output",
        ),
        (lambda: rc.Sequential(rc.Linear(3, 3), rc.Sequential(rc.Embedding(3, 3))), "tokens"),
        (lambda: rc.Sequential(rc.GRU(3, 4), rc.RepeatVector(3)), r"takes vectors \(N, features\)"),
        (lambda: rc.Sequential(rc.Sequential(rc.Add())), "several inputs"),
        (lambda: rc.Sequential(rc.Linear(3, 3), np.zeros(3)), "ndarray as layer 1"),
        (lambda: rc.Sequential(rc.Sequential(rc.GRU(3, 4)), rc.Linear(4, 2, dtype="float64")), "float64"),
        (lambda: rc.Sequential(rc.GRU(3, 3), vectors()), r"takes vectors"),
        (lambda: rc.Sequential(SHARED, rc.Sequential(SHARED)), r"\(Linear\) in layer 0 and"),
        (lambda: rc.Sequential(SHARED, SHARED), r"one layer as layer 0 and layer 1"),
    ],
)
def test_mistakes_are_explained(make: Callable[[], Any], text: str) -> None:
    with pytest.raises((ValueError, TypeError), match=text):
        make()


def vectors() -> Any:
    x = rc.Input(features=3, sequence=False)
    return rc.Model(x, rc.Linear(3, 3)(x))


def test_vectors_all_along() -> None:
    model = rc.Sequential(rc.Linear(3, 3), vectors(), rc.RepeatVector(4), rc.GRU(3, 2), seed=0)
    assert model(np.ones((2, 3), np.float32))[0].shape == (2, 4, 2)


def test_a_search_looks_into_sequentials() -> None:
    plain = rc.Sequential(rc.Embedding(5, 3), rc.GRU(3, 4), rc.Linear(4, 5), seed=0)
    nested = rc.Sequential(rc.Sequential(plain.layers[0], plain.layers[1]), plain.layers[2])
    options: dict[str, Any] = {"start": 0, "end": 1, "max_steps": 6, "batch_size": 2}
    np.testing.assert_array_equal(rc.search.greedy(nested, **options).tokens, rc.search.greedy(plain, **options).tokens)
