"""fit, evaluate, predict: models learn, runs repeat bit for bit, ragged lists are first-class, means are exact."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import recurra as rc
from agreement import assert_same_bits
from array_types import Array

RNG = np.random.default_rng(0)
LENGTHS = RNG.integers(0, 13, 60)
LENGTHS[:2] = 12, 0
TOKENS = RNG.integers(0, 11, (60, 12))
FEATURES = RNG.standard_normal((60, 12, 3)).astype(np.float32)
LATE = TOKENS + np.where(np.arange(60) < 59, 0, 11)[:, None]  # no tokens in the last row
LISTS = [row[:length] for row, length in zip(TOKENS, LENGTHS, strict=True)]


def language_model(**options: Any) -> Any:
    """Many to many, over tokens, with dropout."""
    return rc.Sequential(
        rc.Embedding(11, 6), rc.LSTM(6, 17, 2, dropout=0.2), rc.Dropout(0.1), rc.Linear(17, 11), seed=3, **options
    )


def tagger() -> Any:
    """Many to one, over features, both directions."""
    return rc.Sequential(rc.GRU(3, 8, bidirectional=True, return_sequences=False), rc.Linear(16, 4), seed=3)


def fit(model: Any, x: Any, y: Any, **options: Any) -> Any:
    defaults = {
        "loss": rc.losses.CrossEntropy(),
        "optimizer": rc.optim.Adam(0.01),
        "epochs": 3,
        "seed": 7,
        "verbose": 0,
    }
    return model.fit(x, y, **{**defaults, **options})


def assert_same_weights(one: Any, other: Any) -> None:
    for name in one.params:
        assert_same_bits(one.params[name], other.params[name], name)


def test_it_learns_to_remember() -> None:
    """The token of two steps before: loss log(5) = 1.6 by guessing, near 0 by memory."""
    tokens = np.random.default_rng(1).integers(0, 5, (256, 12))
    targets = np.concatenate([np.zeros((256, 2), int), tokens[:, :-2]], axis=1)
    model = rc.Sequential(rc.Embedding(5, 8), rc.GRU(8, 32), rc.Linear(32, 5), seed=0)
    history = fit(model, tokens, targets, epochs=25, optimizer=rc.optim.Adam(0.02), clip_norm=1.0)
    assert history.history["loss"][0] > 1.0
    assert history.history["loss"][-1] < 0.05
    assert (model.predict(tokens).argmax(-1) == targets).mean() > 0.99


@pytest.mark.parametrize("cell", [rc.RNN, rc.LSTM, rc.GRU])
def test_it_learns_to_classify_ragged_lists(cell: Any) -> None:
    """Whether the sum of a sequence of up to 12 numbers is positive."""
    rng = np.random.default_rng(2)
    x = [rng.standard_normal((rng.integers(1, 13), 1)) for _ in range(300)]
    y = np.array([int(row.sum() > 0) for row in x])
    model = rc.Sequential(cell(1, 24, return_sequences=False), rc.Linear(24, 2), seed=0)
    fit(model, x, y, epochs=40, optimizer=rc.optim.Adam(0.02), clip_norm=1.0)
    predicted = np.stack(model.predict(x)).argmax(-1)
    assert (predicted == y).mean() > 0.95


def test_it_learns_a_regression_with_both_directions() -> None:
    """The mean of a step's two neighbours, which only both directions together can see."""
    x = np.random.default_rng(3).standard_normal((128, 10, 1)).astype(np.float32)
    y = np.zeros_like(x)
    y[:, 1:-1] = (x[:, :-2] + x[:, 2:]) / 2
    model = rc.Sequential(rc.LSTM(1, 16, bidirectional=True), rc.Linear(32, 1), seed=0)
    history = fit(model, x, y, loss=rc.losses.MeanSquaredError(), optimizer=rc.optim.AdamW(0.02), epochs=30)
    assert history.history["loss"][-1] < 0.1 * float((y**2).mean())


RUNS: dict[str, Callable[[], Any]] = {
    "dense": lambda: fit(language_model(), TOKENS, TOKENS, batch_size=16),
    "lengths": lambda: fit(language_model(), TOKENS, TOKENS, lengths=LENGTHS, batch_size=16),
    "lists": lambda: fit(language_model(), LISTS, LISTS, batch_size=16),
    "one answer": lambda: fit(tagger(), FEATURES, TOKENS[:, 0] % 4, lengths=LENGTHS, batch_size=16),
}


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_a_seed_repeats_a_run_on_any_number_of_threads(run: Callable[[], Any]) -> None:
    rc.set_num_threads(1)
    first = run().history
    for threads in (1, 2, 3):
        rc.set_num_threads(threads)
        assert run().history == first


def test_weights_repeat_too() -> None:
    """On a model big enough for threads."""
    x = np.random.default_rng(4).standard_normal((64, 60, 32)).astype(np.float32)
    y = np.random.default_rng(5).integers(0, 40, (64, 60))
    trained = []
    for threads in (1, 2, 2):
        rc.set_num_threads(threads)
        model = rc.Sequential(rc.LSTM(32, 64, 2, dropout=0.3), rc.Linear(64, 40), seed=0)
        fit(model, x, y, epochs=2, batch_size=32, clip_norm=0.5)
        trained.append(model)
    assert_same_weights(trained[0], trained[1])
    assert_same_weights(trained[1], trained[2])


def test_seeds_matter() -> None:
    one, other, fresh, again = (
        fit(language_model(), TOKENS, TOKENS, batch_size=16, seed=seed) for seed in (1, 2, None, None)
    )
    assert one.history != other.history
    assert fresh.history != again.history
    assert fit(language_model(), TOKENS, TOKENS, batch_size=16, seed=fresh.seed).history == fresh.history


def test_lists_are_padded_arrays() -> None:
    """Without dropout and shuffling there is nothing else to differ in, and padding changes no bit of a row."""
    models = [rc.Sequential(rc.Embedding(11, 6), rc.GRU(6, 17), rc.Linear(17, 11), seed=3) for _ in range(2)]
    options = {"batch_size": 60, "shuffle": False, "optimizer": rc.optim.SGD(0.1), "epochs": 1}
    garbage = np.where(np.arange(12) < LENGTHS[:, None], TOKENS, -5)
    by_array = fit(models[0], garbage, garbage, lengths=LENGTHS, **options)
    by_list = fit(models[1], LISTS, LISTS, **options)
    assert by_array.history["loss"] == by_list.history["loss"]
    assert_same_weights(*models)


def test_a_fit_is_the_loop_that_one_would_write() -> None:
    model, twin = tagger(), tagger()
    x, y = FEATURES[:40], TOKENS[:40, 0] % 4
    history = fit(model, x, y, batch_size=16, shuffle=False, clip_norm=0.5, optimizer=rc.optim.AdamW(0.01), epochs=2)
    optimizer, loss = rc.optim.AdamW(0.01), rc.losses.CrossEntropy()
    for epoch in range(2):
        total, norms = 0.0, []
        for begin in (0, 16, 32):
            part = slice(begin, min(begin + 16, 40))
            twin.zero_grad()
            tape = twin.record(x[part], input_grad=False)
            value = loss(tape.y, y[part])
            tape.backward(value.gradient)
            norms.append(optimizer.step(twin, scale=1 / value.count, clip_norm=0.5).norm)
            total += value.sum
        assert history.history["loss"][epoch] == pytest.approx(total / 40, rel=1e-12)
        assert history.history["grad_norm"][epoch] == pytest.approx(np.mean(norms), rel=1e-12)
    assert_same_weights(model, twin)


def test_every_row_is_used_once_an_epoch() -> None:
    """With lr 0 the mean loss of a shuffled epoch is that of all the data."""
    model = rc.Sequential(rc.Embedding(11, 6), rc.GRU(6, 17), rc.Linear(17, 11), seed=3)
    history = fit(model, TOKENS, TOKENS, lengths=LENGTHS, batch_size=7, optimizer=rc.optim.SGD(0.0))
    expected = model.evaluate(TOKENS, TOKENS, lengths=LENGTHS, loss=rc.losses.CrossEntropy())
    np.testing.assert_allclose(history.history["loss"], [expected] * 3, rtol=1e-6)  # float32 outputs, the same bits


def test_validation() -> None:
    model = language_model()
    validation = (TOKENS[:20], TOKENS[:20], LENGTHS[:20])
    history = fit(model, TOKENS[20:], TOKENS[20:], validation_data=validation, batch_size=16)
    assert set(history.history) == {"loss", "lr", "grad_norm", "clipped", "val_loss"}
    assert history.epoch == [0, 1, 2]
    assert {len(values) for values in history.history.values()} == {3}
    loss = rc.losses.CrossEntropy()
    assert history.history["val_loss"][-1] == model.evaluate(*validation, loss=loss, batch_size=16)
    without = language_model()
    fit(without, TOKENS[20:], TOKENS[20:], batch_size=16)
    assert_same_weights(model, without)


@pytest.mark.parametrize("batch_size", [1, 7, 60, 1000])
def test_means_do_not_depend_on_the_batch_size(batch_size: int) -> None:
    """A ragged batch of 7 is not weighed like one of 4."""
    model, loss = language_model(), rc.losses.CrossEntropy()
    whole = loss(model(TOKENS)[0], TOKENS, LENGTHS)
    found = model.evaluate(TOKENS, TOKENS, LENGTHS, loss=loss, batch_size=batch_size)
    assert found == pytest.approx(whole.sum / whole.count, rel=1e-12)  # one double sum, in another order
    assert model.evaluate(LISTS, LISTS, loss=loss, batch_size=batch_size) == pytest.approx(found, rel=1e-12)


@pytest.mark.parametrize("batch_size", [1, 7, 60])
def test_predict(batch_size: int) -> None:
    """A row's bits depend neither on its batch nor on its padding; lists in, lists out."""
    model = language_model()
    expected, _ = model(TOKENS, lengths=LENGTHS)
    assert_same_bits(model.predict(TOKENS, lengths=LENGTHS, batch_size=batch_size), expected)
    rows = model.predict(LISTS, batch_size=batch_size)
    assert isinstance(rows, list)
    called, _ = model(LISTS)
    assert isinstance(called, list)
    for one, other, whole, length in zip(rows, called, expected, LENGTHS, strict=True):
        assert_same_bits(one, whole[:length])
        assert_same_bits(other, whole[:length])
    answers = tagger().predict(list(FEATURES.astype(np.float64)), batch_size=batch_size)
    assert_same_bits(np.stack(answers), tagger().predict(FEATURES))


def test_no_rows_and_no_epochs() -> None:
    model = language_model()
    before = copy.deepcopy(model)
    assert fit(model, TOKENS, TOKENS, epochs=0).epoch == []
    assert_same_weights(model, before)
    assert model.predict(TOKENS[:0]).shape == (0, 12, 11)
    assert model.predict([]) == []


def test_rows_without_steps_teach_nothing() -> None:
    model = rc.Sequential(rc.Embedding(11, 6), rc.GRU(6, 17), rc.Linear(17, 11), seed=3)
    before = copy.deepcopy(model)
    with pytest.warns(RuntimeWarning, match="fit: got nothing to count, so that the loss is NaN"):
        fit(model, TOKENS, TOKENS, lengths=np.zeros(60, int), optimizer=rc.optim.AdamW(0.1), batch_size=16)
    assert_same_weights(model, before)


def test_arrays_are_converted_once() -> None:
    """Float64 features, int32 or uint8 tokens: fit, evaluate and predict take them all."""
    one, other = tagger(), tagger()
    fit(one, FEATURES.astype(np.float64), (TOKENS[:, 0] % 4).astype(np.uint8))
    fit(other, FEATURES, TOKENS[:, 0] % 4)
    assert_same_weights(one, other)
    assert_same_bits(one.predict(FEATURES.astype(np.float64)), other.predict(FEATURES))
    model = language_model()
    assert_same_bits(model.predict(TOKENS.astype(np.uint8)), model.predict(TOKENS))


def test_frozen_layers_stay_and_the_others_learn() -> None:
    model = language_model()
    model.layers[0].trainable = False
    before = copy.deepcopy(model)
    fit(model, TOKENS, TOKENS)
    assert_same_bits(model.params["0.weight"], before.params["0.weight"])
    assert not np.array_equal(model.params["3.weight"], before.params["3.weight"])


@pytest.mark.parametrize("verbose", [0, 1, 2])
def test_what_is_shown(verbose: int, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    """Lines are log records here, as pytest configures logging."""
    fit(tagger(), FEATURES, TOKENS[:, 0] % 4, epochs=2, validation_data=(FEATURES, TOKENS[:, 0] % 4), verbose=verbose)
    shown = "".join(capfd.readouterr()) + caplog.text
    if verbose == 0:
        assert shown == ""
    else:
        assert "epoch 2/2" in shown.lower()
        assert "val_loss" in shown
    assert (verbose == 2) == ("epoch 2/2" in caplog.text)


@pytest.mark.parametrize(
    ("x", "y", "options"),
    [
        (TOKENS, TOKENS[:-1], {}),
        (TOKENS, TOKENS[:, :-1], {}),
        (TOKENS, TOKENS[:, 0], {}),
        (TOKENS, LATE, {}),
        (TOKENS, TOKENS.astype(float), {}),
        (LATE, TOKENS, {}),
        (-LATE, TOKENS, {}),
        ([*LISTS[:-1], LATE[-1, : LENGTHS[-1]]], LISTS, {}),
        (TOKENS.astype(float), TOKENS, {}),
        (TOKENS[0], TOKENS[0], {}),
        (FEATURES, TOKENS, {}),
        (LISTS, LISTS[:-1], {}),
        (LISTS, [row[:-1] for row in LISTS], {}),
        (LISTS, TOKENS, {}),
        (LISTS, LISTS, {"lengths": LENGTHS}),
        ([*LISTS[:-1], FEATURES[0]], LISTS, {}),
        (TOKENS, TOKENS, {"lengths": LENGTHS + 1}),
        (TOKENS, TOKENS, {"lengths": LENGTHS[:-1]}),
        (TOKENS, TOKENS, {"lengths": LENGTHS.astype(float)}),
        (TOKENS, TOKENS, {"epochs": -1}),
        (TOKENS, TOKENS, {"batch_size": 0}),
        (TOKENS, TOKENS, {"clip_norm": float("nan")}),
        (TOKENS, TOKENS, {"validation_data": TOKENS}),
        (TOKENS, TOKENS, {"validation_data": (TOKENS, LATE)}),
        (TOKENS, TOKENS, {"validation_data": (LATE, TOKENS)}),
        (TOKENS, TOKENS, {"loss": rc.losses.MeanSquaredError()}),
        (TOKENS, TOKENS, {"loss": rc.losses.MixtureDensity}),
        (TOKENS, TOKENS, {"loss": "crossentropies"}),
        (TOKENS, TOKENS, {"optimizer": "adamm"}),
        (TOKENS, TOKENS, {"seed": -1}),
        (TOKENS[:0], TOKENS[:0], {}),
        ([], [], {}),
    ],
)
def test_data_that_do_not_fit_are_refused_before_anything_is_trained(x: Any, y: Any, options: dict[str, Any]) -> None:
    model = language_model()
    before = copy.deepcopy(model)
    with pytest.raises((ValueError, TypeError), match=r"^(fit|Sequential)\b.*expected"):
        fit(model, x, y, shuffle=False, **options)
    assert_same_weights(model, before)


def nan_after(batches: int) -> Array:
    """Features whose last batches are NaN."""
    x = FEATURES.copy()
    x[batches * 16 :] = np.nan
    return x


def test_a_nan_in_the_data_is_seen_in_the_history() -> None:
    """Where nothing guards against it."""
    x = nan_after(2)
    history = fit(tagger(), x, TOKENS[:, 0] % 4, shuffle=False, batch_size=16, epochs=1, nan_guard=False)
    assert np.isnan(history.history["loss"][0])
