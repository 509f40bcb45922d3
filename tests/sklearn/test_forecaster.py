"""What a forecaster knows beside the series: covariates, gaps, and horizons that are some steps alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone

from recurra.losses import MeanSquaredError, Quantile
from recurra.sklearn import Forecaster
from recurra.sklearn.gaps import Observed, filled
from single_thread import one_thread

RNG = np.random.default_rng(0)
T = 160


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def quick(**options: Any) -> Forecaster:
    given = {
        "window": 8,
        "horizon": 4,
        "hidden_size": 8,
        "max_iter": 25,
        "random_state": 0,
        "learning_rate": 0.05,
        "batch_size": 64,
    }
    return Forecaster(**{**given, **options})


def driven() -> tuple[Any, Any]:
    """A series that an event known ahead lifts, and nothing in its past announces."""
    event = (RNG.random(T + 4) < 0.3).astype(float)
    return 10 + 5 * event[:T] + 0.1 * RNG.standard_normal(T), event


def test_future_covariates_are_used() -> None:
    series, event = driven()
    known = quick(season=None).fit(series[:120], future=event[:120])
    blind = quick(season=None).fit(series[:120])
    with_it = known.backtest(series, start=120, future=event[:T])
    assert with_it.mae < 0.3 * blind.backtest(series, start=120).mae
    assert with_it.coverage is not None
    assert known.score(series, future=event[:T]) > 0.8
    ahead = known.predict(future=event[120:124])
    assert ahead.shape == (4,)
    np.testing.assert_array_equal(ahead, known.predict(series[:120], future=event[:124]))
    other = known.predict(future=1 - event[120:124])
    assert ((other - ahead) * (1 - 2 * event[120:124]) > 2).all()


def test_past_and_static_covariates_are_used() -> None:
    cause = RNG.standard_normal((3, T))
    level = np.array([1.0, -1.0, 3.0])
    series = level[:, None] + np.concatenate([np.zeros((3, 4)), cause[:, :-4]], 1)  # four steps behind its cause
    options = {"season": None, "horizon": 4}
    known = quick(**options).fit(list(series), past=list(cause), static=level)
    blind = quick(**options).fit(list(series))
    assert known.backtest(series[..., None], past=cause[..., None], static=level[:, None]).mae < 0.4
    assert blind.backtest(series[..., None]).mae > 0.7
    np.testing.assert_array_equal(known.predict(), known.predict(list(series), past=list(cause), static=level))
    lower, upper = known.predict_interval()
    assert lower.shape == upper.shape == known.predict().shape == (3, 4, 1)
    assert known.predict_quantiles().shape == (3, 4, 1, 3)


def test_gaps() -> None:
    wave = np.sin(np.arange(T) / 3)[:, None] * [1.0, 2.0] + [5.0, 0.0]
    holes = wave.copy()
    holes[RNG.random(wave.shape) < 0.2] = np.nan
    forecaster = quick(window=16).fit(holes[:120])
    assert np.isfinite(forecaster.predict()).all()
    result = forecaster.backtest(holes, start=120)
    assert np.isnan(result.actual).any()
    assert result.mae < 0.5 * result.naive_mae
    assert 0.0 <= result.coverage <= 1.0  # type: ignore[operator]
    assert forecaster.score(holes) > 0.7
    np.testing.assert_array_equal(forecaster.predict(), forecaster.predict(holes[:120]))
    mean = quick(window=16, quantiles=None).fit(holes[:120])
    assert mean.backtest(wave, start=120).mae < 0.5 * result.naive_mae


def test_gaps_are_filled_with_what_was_before() -> None:
    nan = np.nan
    series = np.array([[nan, 1.0], [2.0, nan], [nan, nan], [3.0, 4.0]])
    np.testing.assert_array_equal(filled("fit", [series])[0], [[2, 1], [2, 1], [2, 1], [3, 4]])
    with pytest.raises(ValueError, match=r"fit: got X with a feature of which all values are missing"):
        filled("fit", [series[:1]])
    with pytest.raises(ValueError, match=r"fit: got X\[1\] with a feature"):
        filled("fit", [series, series[:1]])


@pytest.mark.parametrize("levels", [[], [0.1, 0.5, 0.9]])
def test_the_loss_of_what_is_there(levels: list[float]) -> None:
    """Without gaps it is the built-in one; where a target is missing, its gradient is 0."""
    import recurra as rc

    targets = RNG.standard_normal((6, 4))
    predictions = RNG.standard_normal((6, 4 * max(1, len(levels))))
    built_in = Quantile(levels) if levels else MeanSquaredError()
    found, expected = Observed(levels)(predictions, targets), built_in(predictions, targets)
    np.testing.assert_allclose(found.mean, expected.mean)
    np.testing.assert_allclose(found.gradient / found.count, expected.gradient / expected.count)
    targets[2, 1] = np.nan
    missing = Observed(levels)(predictions, targets)
    assert missing.gradient is not None
    assert not missing.gradient.reshape(6, 4, -1)[2, 1].any()
    assert rc.check_gradient(Observed(levels), predictions, targets)


def test_several_horizons() -> None:
    series = np.sin(np.arange(T) / 4) + 0.02 * np.arange(T)
    some, every = quick(horizon=(1, 3, 6), season=4), quick(horizon=6, season=4)
    some.fit(series)
    every.fit(series)
    assert some.predict().shape == (3,)
    assert some.backtest(series).actual.shape == (T - 8 - 6 + 1, 3, 1)
    np.testing.assert_array_equal(some.backtest(series).actual, every.backtest(series).actual[:, [0, 2, 5]])
    np.testing.assert_array_equal(some.backtest(series).naive, every.backtest(series).naive[:, [0, 2, 5]])
    assert some.score(series) > 0.9
    assert clone(some).horizon == (1, 3, 6)
    same = quick(horizon=range(1, 7, 2), season=4), quick(horizon=np.array([1, 3, 5]), season=4)
    np.testing.assert_array_equal(same[0].fit(series).predict(), same[1].fit(series).predict())
    known = quick(horizon=[2, 4]).fit(series, future=np.cos(np.arange(T) / 4))
    assert known.predict(future=np.cos(np.arange(T, T + 4) / 4)).shape == (2,)


def test_the_plain_forecaster_is_what_it_was() -> None:
    """All kinds of arguments left out give the bits of a Sequential alone."""
    series = np.sin(np.arange(T) / 4)
    forecaster = quick().fit(series)
    assert type(forecaster.model_).__name__ == "Sequential"
    again = quick(horizon=[1, 2, 3, 4]).fit(series)
    np.testing.assert_array_equal(forecaster.predict(), again.predict())


SERIES, EVENT = driven()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: quick(horizon=[]).fit(SERIES), r"Forecaster\.fit: got horizon=\[\], expected a number or ascending"),
        (lambda: quick(horizon=(3, 1)).fit(SERIES), r"got horizon=\(3, 1\), expected a number or ascending"),
        (lambda: quick(horizon=(0, 1)).fit(SERIES), r"got horizon=0, expected an integer"),
        (
            lambda: quick().fit(SERIES, past=EVENT),
            r"Forecaster\.fit: got past of shape \(164,\), expected \(160, features\)",
        ),
        (lambda: quick().fit(SERIES, past=SERIES * np.nan), r"got past that contains NaN"),
        (lambda: quick().fit([SERIES, SERIES], static=[1.0]), r"got static of 1 series, expected 2, as X has"),
        (
            lambda: quick().fit([SERIES] * 2, past=[SERIES, SERIES[:, None] * [1, 2]]),
            r"got past with several numbers of",
        ),
        (lambda: quick().fit(SERIES, static=[[1.0]]), r"got static of shape \(1, 1\), expected \(features,\)"),
        (
            lambda: known().predict(),
            r"Forecaster\.predict: got no covariates, expected future of 1 features, as in fit",
        ),
        (lambda: known().predict(future=EVENT[:3]), r"got future of shape \(3,\), expected \(4, features\)"),
        (
            lambda: known().predict(SERIES, future=EVENT[:T]),
            r"got future of shape \(160,\), expected \(164, features\)",
        ),
        (lambda: known().predict(SERIES, past=SERIES), r"got past of 1 features, expected future of 1 features"),
        (lambda: known().predict(past=SERIES), r"got static or past without X, expected none"),
        (lambda: known().backtest(SERIES), r"Forecaster\.backtest: got no covariates, expected future"),
        (lambda: quick().fit(SERIES).backtest(np.full(T, np.nan)), r"all values are missing"),
    ],
)
def test_errors(call: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        call()


def known() -> Forecaster:
    return quick(max_iter=1).fit(SERIES, future=EVENT[:T])
