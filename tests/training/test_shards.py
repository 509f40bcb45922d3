"""fit(shards=k): the gradient of a step is a sum over shards by a fixed tree, whoever computes them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import recurra as rc
from agreement import assert_same_bits
from array_types import Array
from recurra.common import seeds
from recurra.objective.shards import bounds, tree_sum
from user_layers import Scale
from weights import weights_of

RNG = np.random.default_rng(0)
X = RNG.standard_normal((22, 8, 3))
LENGTHS = RNG.integers(0, 9, 22)
STEPS = RNG.integers(0, 4, (22, 8))
TOKENS = RNG.integers(0, 9, (22, 8))


def tagger(dtype: str, **options: Any) -> Any:
    return rc.Sequential(
        rc.Dropout(0.2, dtype=dtype),
        rc.LSTM(3, 6, num_layers=2, dropout=0.3, zoneout=0.1, dtype=dtype, **options),
        rc.Linear(6, 4, dtype=dtype),
        seed=1,
    )


def fit(model: Any, x: Any, y: Any = None, **options: Any) -> Any:
    defaults: dict[str, Any] = {
        "loss": "cross_entropy",
        "optimizer": rc.optim.SGD(0.1),
        "seed": 5,
        "verbose": 0,
        "batch_size": 7,
    }
    return model.fit(x, y, **{**defaults, **options})


def test_the_rows_of_shards_and_the_tree() -> None:
    for rows in range(12):
        for shards in range(1, 9):
            parts = bounds(rows, shards)
            assert [row for begin, end in parts for row in range(begin, end)] == list(range(rows))
            sizes = {end - begin for begin, end in parts}
            assert max(sizes) - min(sizes) <= 1
            for workers in (1, 2, 4):  # each holds whole subtrees, whose sums form the upper part of the tree
                if workers > shards:
                    continue
                names = [f"{shard}" for shard in range(shards)]
                held = [names[begin:end] for begin, end in bounds(shards, workers)]
                assert tree_sum([tree_sum(own, pair) for own in held], pair) == tree_sum(names, pair)


def pair(one: str, other: str) -> str:
    return f"({one} {other})"


def workers(model: Any, shards: int, x: Array, y: Array, lengths: Array, seed: int) -> float:
    """A step as workers take it: each records its rows, with padding of its own, on gradients of its own. The loss."""
    grads, sums, counts = [], [], []
    for begin, end in bounds(len(x), shards):
        own, steps = model.new_grads(), int(lengths[begin:end].max(initial=0))
        grads.append(own)
        tape = model.record(
            x[begin:end, :steps], lengths=lengths[begin:end], input_grad=False, seed=seed, first_row=begin
        )
        value = rc.losses.CrossEntropy()(tape.y, y[begin:end, :steps], lengths[begin:end])
        tape.backward(value.gradient, grads=own)
        sums.append(value.sum)
        counts.append(value.count)
    if shards == 3:
        grads[1].add(grads[2])
        loss = sums[0] + (sums[1] + sums[2])
    else:
        grads[0].add(grads[1])
        grads[2].add(grads[3])
        grads[1] = grads[2]
        loss = (sums[0] + sums[1]) + (sums[2] + sums[3])
    grads[0].add(grads[1])
    model.zero_grad()
    model.grads.add(grads[0])
    rc.optim.SGD(0.1).step(model, scale=1 / sum(counts))
    return loss / sum(counts)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shards", [3, 4])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_step_has_the_bits_of_workers(shards: int, dtype: str, bidirectional: bool) -> None:
    def model() -> Any:
        return tagger(dtype, **({"proj_size": 3, "bidirectional": True} if bidirectional else {}))

    one, other, x = model(), model(), X.astype(dtype)
    history = fit(one, x, STEPS, lengths=LENGTHS, batch_size=22, shards=shards, shuffle=False)
    seed = seeds.derive(seeds.derive(seeds.derive(5, 0), 0, 0), 0)
    loss = workers(other, shards, x, STEPS, LENGTHS, seed)
    assert_same_bits(weights_of(one), weights_of(other))
    assert history.history["loss"] == [loss]


def two_outputs() -> Any:
    x = rc.Input(features=3)
    h = rc.GRU(3, 6, dtype="float64", seed=0, recurrent_dropout=0.2)(x)
    return rc.Model(x, (rc.Linear(6, 4, dtype="float64", seed=1)(h), rc.Linear(6, 1, dtype="float64", seed=2)(h)))


def embedded() -> Any:
    """With a sparse gradient, a layer that is used twice, one in Python, and a loss with parameters."""
    tokens, linear = rc.Input(tokens=9), rc.Linear(4, 4, dtype="float64", seed=2)
    crf = rc.CRF(4, dtype="float64", seed=3)
    values = linear(Scale(4, "float64")(rc.Embedding(9, 4, sparse=True, dtype="float64", seed=1)(tokens)))
    return rc.Model(tokens, crf(linear(rc.GRU(4, 4, dtype="float64", seed=4)(values))))


LANES = rc.data.stateful(X.reshape(-1, 3), STEPS.reshape(-1), batch_size=4, steps=11)
TWO_LOSSES = ("cross_entropy", "mse")
RUNS: dict[str, tuple[Any, dict[str, Any]]] = {
    "ragged": (lambda: tagger("float64"), {"x": X, "y": STEPS, "lengths": LENGTHS}),
    "buckets": (
        lambda: tagger("float64"),
        {
            "x": [row[:n] for row, n in zip(X, LENGTHS, strict=True)],
            "y": [row[:n] for row, n in zip(STEPS, LENGTHS, strict=True)],
            "bucket": True,
        },
    ),
    "accumulate": (lambda: tagger("float64"), {"x": X, "y": STEPS, "accumulate": 2}),
    "windows": (lambda: tagger("float64"), {"x": X, "y": STEPS, "truncate": rc.TruncatedBPTT(2, 4, burn_in=1)}),
    "lanes": (lambda: tagger("float64"), {"x": LANES, "truncate": rc.TruncatedBPTT(3, 5)}),
    "two outputs": (
        two_outputs,
        {"x": X, "y": (STEPS, X[..., :1]), "lengths": LENGTHS, "loss": TWO_LOSSES, "accumulate": 2},
    ),
    "everything": (embedded, {"x": TOKENS, "y": STEPS, "lengths": LENGTHS}),
    "weights": (
        lambda: tagger("float64"),
        {"x": X, "y": STEPS, "sample_weight": np.linspace(0, 2, 22), "metrics": "accuracy"},
    ),
    "single rows": (lambda: tagger("float64"), {"x": X, "y": STEPS, "batch_size": 3}),
    "a budget": (lambda: tagger("float64"), {"x": X, "y": STEPS, "memory_budget": 1 << 20}),
}


@pytest.mark.parametrize("name", RUNS)
def test_shards_change_nothing_but_rounding(name: str) -> None:
    """Masks included."""
    make, options = RUNS[name]

    def run(**more: Any) -> tuple[Array, Any]:
        model = make()
        own = {"loss": rc.losses.CRF(model.layers[-1])} if name == "everything" else {}
        history = fit(model, **{**options, **own, **more, "epochs": 2})
        return weights_of(model), history.history

    plain, one = run()
    for shards in (2, 3, 4):
        again, other = run(shards=shards)
        np.testing.assert_allclose(again, plain, rtol=1e-9, atol=1e-11)
        for key in ("loss", "grad_norm"):
            np.testing.assert_allclose(other[key], one[key], rtol=1e-9)
    twice, _history = run(shards=4)
    assert_same_bits(again, twice)
    assert not np.array_equal(again, plain)  # other sums: the shards were there


def test_batch_norm_is_refused_unless_it_is_fixed() -> None:
    def model() -> Any:
        return rc.Sequential(rc.Linear(3, 4), rc.BatchNorm(4), rc.Linear(4, 4), seed=0)

    with pytest.raises(ValueError, match=r"^fit: got shards for a model with BatchNorm \(layer 1\)"):
        fit(model(), X.astype("float32"), STEPS, shards=2)
    fixed = model()
    fixed.layers[1].trainable = False
    fit(fixed, X.astype("float32"), STEPS, shards=2)
    with pytest.raises(ValueError, match=r"^fit: got shards=0"):
        fit(model(), X, STEPS, shards=0)


def test_nan_is_found_in_a_shard() -> None:
    model = tagger("float32")
    x = X.astype("float32")
    x[17, 5, 1] = np.nan
    before = weights_of(model)
    with pytest.raises(rc.NonFiniteError, match="row 17 of the data"):
        fit(model, x, STEPS, shards=4, batch_size=22, shuffle=False)
    assert_same_bits(weights_of(model), before)
