"""Numbers that are not finite: fit stops before they reach a parameter, and says where they began."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest

import recurra as rc
from agreement import assert_same_bits

RNG = np.random.default_rng(0)
X = RNG.standard_normal((12, 20, 3)).astype(np.float32)
Y = RNG.standard_normal((12, 20, 1)).astype(np.float32)


def model() -> Any:
    return rc.Sequential(rc.LSTM(3, 6), rc.Dropout(0.3), rc.GRU(6, 5), rc.Linear(5, 1), seed=1)


def fit(one: Any, x: Any = X, y: Any = Y, **options: Any) -> Any:
    defaults: dict[str, Any] = {"loss": rc.losses.MeanSquaredError(), "optimizer": rc.optim.Adam(0.01), "batch_size": 4}
    return one.fit(x, y, seed=3, verbose=0, **{**defaults, **options})


def test_a_nan_in_the_data_is_named_with_its_row_in_all_the_data() -> None:
    x = X.copy()
    x[7, 13, 2] = np.nan
    one = model()
    with pytest.raises(rc.NonFiniteError) as caught:
        fit(one, x)
    report = caught.value.report
    assert (report.where, report.step) == ("input", 13)
    assert "row 7 of the data" in str(caught.value)
    assert "step 13" in str(caught.value)
    assert all(np.isfinite(array).all() for array in one.params.values())


def test_a_planted_overflow_is_named_by_layer_and_step() -> None:
    """One huge number in the data makes layer 2 overflow: relu lets it grow step by step."""
    one = rc.Sequential(rc.Linear(3, 4), rc.RNN(4, 4, nonlinearity="relu"), rc.Linear(4, 1), seed=1)
    with one.edit() as params:
        params["1.weight_hh_l0"][...] = 1e4 * np.eye(4)
        params["1.weight_ih_l0"][...] = np.abs(params["1.weight_ih_l0"])
        params["0.bias"][...] = 1.0
    start = one.state_dict()
    with pytest.raises(rc.NonFiniteError) as caught:
        fit(one, nan_guard=True)
    report = caught.value.report
    assert (report.where, report.layer) == ("output", 1)
    y = one.layers[0](X)[0]
    h, _state = one.layers[1](y)
    first = int(np.flatnonzero(~np.isfinite(h).all((0, 2)))[0])
    assert abs(report.step - first) <= 1  # the batch need not hold the row that is the first of all
    for name, array in start.items():
        assert_same_bits(one.state_dict()[name], array, name)


def test_steps_of_windows_count_from_the_beginning() -> None:
    x = X.copy()
    x[:, 17] = np.inf
    with pytest.raises(rc.NonFiniteError, match="step 17 of the sequence"):
        fit(model(), x, truncate=rc.TruncatedBPTT(5))


def test_the_run_before_it_stays() -> None:
    """Two good batches, then a bad one: the parameters are those of two steps."""
    x = X.copy()
    x[8:] = np.nan
    guarded, short = model(), model()
    with pytest.raises(rc.NonFiniteError, match="epoch 1, step 3"):
        fit(guarded, x, shuffle=False)
    fit(short, [(X[:4], Y[:4]), (X[4:8], Y[4:8])], None)
    for name, array in short.state_dict().items():
        assert_same_bits(guarded.state_dict()[name], array, name)


def test_a_callback_ends_quietly() -> None:
    x = X.copy()
    x[8:] = np.nan
    one = model()
    with pytest.warns(RuntimeWarning, match="TerminateOnNaN: fit: epoch 1, step 3"):
        history = fit(one, x, shuffle=False, epochs=5, callbacks=rc.callbacks.TerminateOnNaN())
    assert history.epoch == [0]
    assert np.isnan(history.history["loss"][0])
    assert all(np.isfinite(array).all() for array in one.params.values())


def test_without_the_guard_it_goes_on() -> None:
    x = X.copy()
    x[0] = np.nan
    one = model()
    fit(one, x, nan_guard=False)
    assert np.isnan(one.params["3.weight"]).any()


def test_a_norm_beyond_all_numbers() -> None:
    """Every gradient is finite, and their norm is not."""
    one = rc.Sequential(rc.Linear(3, 1, dtype="float64"), seed=0)
    one.params["0.weight"] = np.zeros((1, 3))
    x, y = np.full((1, 3), 1.5e308), np.ones((1, 1))
    with pytest.raises(rc.NonFiniteError, match=r"a gradient whose norm, .*overflows float64"):
        fit(one, x, y, loss=rc.losses.L1())
    fit(one, x, y, loss=rc.losses.L1(), optimizer=rc.optim.SGD(1.0), clip_norm=1.0, epochs=1)
    assert one.params["0.weight"].all(), "clipped it is a step like others"


@pytest.mark.parametrize("unit", [1e160, 1e250])
def test_a_norm_whose_square_is_beyond_all_numbers(unit: float) -> None:
    """It was refused, though float64 holds it."""
    one = rc.Sequential(rc.Linear(3, 1, dtype="float64"), seed=0)
    history = fit(one, X.astype(float) * unit, Y.astype(float), loss=rc.losses.L1(), optimizer=rc.optim.SGD(0.0))
    assert unit / 100 < history.history["grad_norm"][0] < unit * 100


def test_batches_that_overflow_only_together() -> None:
    """Each batch's gradient is finite, and their sum is not."""
    one = rc.Sequential(rc.Linear(3, 1), seed=0)
    x = np.full((8, 3), 5e37, np.float32)
    with pytest.raises(rc.NonFiniteError, match=r"epoch 1, step 1: got a gradient whose sum for 0.weight"):
        fit(one, x, np.zeros((8, 1)), loss=rc.losses.L1(), accumulate=2)
    fit(one, x, np.zeros((8, 1)), loss=rc.losses.L1(), optimizer=rc.optim.SGD(0.0))


@pytest.mark.parametrize("accumulate", [1, 3])
def test_running_statistics_stay_those_of_the_last_good_step(accumulate: int) -> None:
    """A batch that ends the training moves them no more than the parameters."""
    x = X.copy()
    x[-1, 13, 2] = np.nan

    def trained(rows: Any, epochs: int = 1) -> Any:
        one = rc.Sequential(rc.GRU(3, 5), rc.BatchNorm(5), rc.Linear(5, 1), seed=1)
        with pytest.warns(RuntimeWarning, match="TerminateOnNaN") if rows is x else contextlib.nullcontext():
            fit(
                one, rows, Y[: len(rows)], shuffle=False, accumulate=accumulate,
                epochs=epochs, callbacks=[rc.callbacks.TerminateOnNaN()],
            )  # fmt: skip
        return one

    good = trained(X[:8]) if accumulate == 1 else trained(X, 0)
    for name, array in trained(x).state_dict().items():
        assert_same_bits(array, good.state_dict()[name], name)


def test_a_gradient_too_large_for_the_dtype_moves_nothing() -> None:
    """Its numbers are finite before they are weighted, its norm is in float64."""
    one = model()
    start = one.state_dict()
    with pytest.raises(rc.NonFiniteError, match=r"step 1: got a gradient whose norm, .* overflows float32"):
        fit(one, loss_weights=1e60)
    for name, array in start.items():
        assert_same_bits(one.state_dict()[name], array, name)


@pytest.mark.parametrize("place", ["input", "output"])
def test_rows_of_a_shard_count_from_the_batchs_start(place: str) -> None:
    """Row 6 of a batch of 8 lies in the last of three shards."""
    x, one = X[:8].copy(), rc.Sequential(rc.Linear(3, 4), rc.Linear(4, 1), seed=1)
    x[6, 13] = np.nan if place == "input" else 3e38
    with one.edit() as params:
        params["0.weight"][...] = np.abs(params["0.weight"]) + 1.0
    for shards in (1, 3):
        with pytest.raises(rc.NonFiniteError) as caught:
            fit(one, x, Y[:8], batch_size=8, shuffle=False, shards=shards)
        assert (caught.value.report.where, caught.value.report.rows) == (place, (6,))
        assert "row 6" in caught.value.report.message
        assert "in the batch; row 6 of the data" in str(caught.value)
