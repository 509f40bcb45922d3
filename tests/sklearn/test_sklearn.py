"""recurra.sklearn keeps scikit-learn's rules, and its estimators learn what a new user would try them on."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from joblib import Parallel, cpu_count, delayed
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, KFold, TimeSeriesSplit, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import estimator_checks_generator

import recurra as rc
from fresh_python import run_python
from recurra.sklearn import Forecaster, SequenceClassifier, SequenceRegressor, SequenceScaler, SequenceTagger
from recurra.sklearn.series import split_in_time

Array = npt.NDArray[Any]

BATCHES = "a repeated row fills batches that a weighted one does not; the means of their losses are the same"
ORDER = "the label of a step depends on the steps around it, the next steps of a series on their order"
EXCEPTIONS: dict[str, dict[str, str]] = {
    "SequenceClassifier": {"check_sample_weight_equivalence_on_dense_data": BATCHES},
    "SequenceRegressor": {"check_sample_weight_equivalence_on_dense_data": BATCHES},
    "SequenceTagger": {"check_methods_sample_order_invariance": ORDER, "check_methods_subset_invariance": ORDER},
    "Forecaster": {
        "check_methods_sample_order_invariance": ORDER,
        "check_methods_subset_invariance": ORDER,
        "check_fit1d": "a vector is a series, (T,)",
    },
}
FRACTIONS = "its X has fractions, and tokens are whole"
TOKENS = {
    "check_sample_weight_equivalence_on_dense_data": FRACTIONS,
    "check_classifiers_one_label_sample_weights": FRACTIONS,
    "check_class_weight_classifiers": FRACTIONS,
    "check_decision_proba_consistency": FRACTIONS,
    "check_classifiers_train": "it fits lists, which are sequences of any length and no tables",
}

ESTIMATORS = [
    SequenceScaler(),
    SequenceClassifier(hidden_size=8, max_iter=30, batch_size=16, random_state=0),
    SequenceRegressor(cell="rnn", hidden_size=16, max_iter=40, batch_size=16, random_state=0),
    SequenceTagger(hidden_size=8, max_iter=60, random_state=0),
    Forecaster(window=3, horizon=2, hidden_size=8, max_iter=10, random_state=0),
]
WITH_TOKENS = [
    kind(embedding_dim=8, num_embeddings=300, hidden_size=8, max_iter=30, batch_size=16, random_state=0)
    for kind in (SequenceClassifier, SequenceRegressor)
]
CHECKS = [
    check
    for estimators, exceptions in ((ESTIMATORS, EXCEPTIONS), (WITH_TOKENS, {}))
    for estimator in estimators
    for check in estimator_checks_generator(
        estimator, expected_failed_checks=exceptions.get(type(estimator).__name__, TOKENS), mark="xfail"
    )
]


def name_of(value: Any) -> str:
    """For a test's name: the class of an estimator, a check with its arguments."""
    if not callable(value):
        return type(value).__name__
    return "-".join([value.func.__name__, *map(str, (value.keywords or {}).values())])


@pytest.mark.by_turns
@pytest.mark.parametrize(("estimator", "check"), CHECKS, ids=name_of)
def test_keeps_the_rules_of_scikit_learn(estimator: Any, check: Any) -> None:
    check(estimator)


def waves(rows: int, seed: int = 0) -> tuple[list[Array], Array]:
    """Ragged sequences of a wave, slow or fast, far from 0 and beside noise of another scale."""
    rng = np.random.default_rng(seed)
    x, y = [], []
    for _ in range(rows):
        steps, slow = rng.integers(10, 30), rng.random() < 0.5
        wave = 100 + 5 * np.sin(np.arange(steps) * (0.3 if slow else 0.9) + rng.uniform(0, 6))
        x.append(np.stack([wave + rng.normal(0, 0.5, steps), rng.normal(0, 30, steps)], axis=1))
        y.append("slow" if slow else "fast")
    return x, np.array(y)


def quick(**options: Any) -> dict[str, Any]:
    return {"hidden_size": 16, "max_iter": 20, "random_state": 0, **options}


def test_cells_are_named_as_layers_or_in_small_letters() -> None:
    x, y = waves(12)
    for one, other in (("GRU", "gru"), ("MinLSTM", "minlstm")):
        first, second = (
            SequenceClassifier(**quick(cell=cell, max_iter=2)).fit(x, y).predict(x) for cell in (one, other)
        )
        np.testing.assert_array_equal(first, second)
    with pytest.raises(ValueError, match="cell='gru_reset_before', expected one of 'lstm', 'gru'"):
        SequenceClassifier(**quick(cell="gru_reset_before")).fit(x, y)


def test_pipeline_and_grid_search_over_ragged_lists() -> None:
    """Written as a new user would write it, and run in two processes."""
    x, y = waves(100)
    pipeline = make_pipeline(SequenceScaler(), SequenceClassifier(**quick()))
    grid = {"sequenceclassifier__cell": ["gru", "rnn"]}
    search = GridSearchCV(pipeline, grid, cv=2, n_jobs=2, error_score="raise").fit(x, y)
    x_test, y_test = waves(80, seed=1)
    assert search.score(x_test, y_test) > 0.9
    assert pipeline.fit(x, y).score(x_test, y_test) > 0.9  # and in this process
    restored = pickle.loads(pickle.dumps(search))
    np.testing.assert_array_equal(restored.predict_proba(x_test), search.predict_proba(x_test))
    objects = np.empty(len(x), object)
    objects[:] = x
    in_grid = search.cv_results_["split0_test_score"][search.best_index_]
    one = clone(search.best_estimator_)
    assert cross_val_score(one, objects, y, cv=2)[0] == in_grid  # the same bits as in a process with fewer threads


def test_workers_share_the_cores() -> None:
    """joblib tells its processes how many threads to use, and recurra listens."""
    assert Parallel(n_jobs=2)(delayed(rc.get_num_threads)() for _ in range(2)) == [max(1, cpu_count() // 2)] * 2


def test_kinds_of_input_agree() -> None:
    """A table, an array of one feature and a list of vectors are the same sequences."""
    rng = np.random.default_rng(0)
    table = rng.standard_normal((40, 6))
    y = (table[:, 0] > 0).astype(int)
    kinds: list[Any] = [table, table[..., None], list(table), [row[:, None] for row in table]]
    fitted = [SequenceClassifier(**quick(max_iter=3)).fit(x, y) for x in kinds]
    for model in fitted:
        for x in kinds if model is fitted[0] else kinds[1:]:
            np.testing.assert_array_equal(model.predict_proba(x), fitted[0].predict_proba(table))
    assert [model.n_features_in_ for model in fitted] == [6, 1, 1, 1]
    assert fitted[1].predict(table[:1, :3, None]) == fitted[1].predict([table[0, :3]])  # of any length


def test_same_random_state_same_bits() -> None:
    x, y = waves(40)
    one, same, other = (SequenceClassifier(**quick(max_iter=2, dropout=0.3, random_state=seed)) for seed in (1, 1, 2))
    probabilities = [model.fit(x, y).predict_proba(x) for model in (one, same, other)]
    np.testing.assert_array_equal(probabilities[0], probabilities[1])
    assert (probabilities[0] != probabilities[2]).any()


@pytest.mark.parametrize("kind", [SequenceClassifier, SequenceRegressor])
def test_a_weight_is_as_good_as_repetition(kind: Any) -> None:
    """Where one batch holds all, up to rounding."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((12, 5, 2)), np.arange(12) % 3
    weight = rng.integers(0, 4, 12)
    options = quick(max_iter=5, batch_size=100)
    weighted = kind(**options).fit(x, y, sample_weight=weight)
    repeated = kind(**options).fit(x.repeat(weight, axis=0), y.repeat(weight))
    method = "predict_proba" if kind is SequenceClassifier else "predict"
    np.testing.assert_allclose(getattr(weighted, method)(x), getattr(repeated, method)(x), rtol=1e-4)
    np.testing.assert_allclose(weighted.loss_curve_, repeated.loss_curve_, rtol=1e-5)


def test_class_weight() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((60, 4, 1)), (np.arange(60) % 10 == 0).astype(int)  # nothing to learn but the share
    plain, balanced = (SequenceClassifier(**quick(class_weight=w, max_iter=15)).fit(x, y) for w in (None, "balanced"))
    assert plain.predict_proba(x)[:, 1].mean() < 0.25
    assert 0.4 < balanced.predict_proba(x)[:, 1].mean() < 0.6


def test_early_stopping_ends_with_the_best_weights() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((60, 8, 2)), rng.standard_normal(60)  # nothing to learn
    model = SequenceRegressor(
        **quick(max_iter=200, early_stopping=True, validation_fraction=0.2, n_iter_no_change=5, tol=0.0)
    )
    model.fit(x, y)
    curve = model.validation_loss_curve_
    assert model.n_iter_ == len(curve) == len(model.loss_curve_) == int(np.argmin(curve)) + 1 + 5 < 200
    shorter = clone(model).set_params(max_iter=int(np.argmin(curve)) + 1).fit(x, y)
    np.testing.assert_array_equal(model.predict(x), shorter.predict(x))


def test_says_what_it_does(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    x = np.random.default_rng(0).standard_normal((12, 5, 2))
    for verbose in (0, False):
        SequenceRegressor(**quick(max_iter=2, verbose=verbose)).fit(x, x[:, 0, 0])
    assert capsys.readouterr() == ("", "")
    assert not caplog.messages
    SequenceRegressor(**quick(max_iter=2, verbose=2, early_stopping=True)).fit(x, x[:, 0, 0])
    lines = list(caplog.messages)
    assert [line[:10] for line in lines] == ["epoch 1/2:", "epoch 2/2:"]
    assert all("val_loss " in line for line in lines)
    SequenceRegressor(**quick(max_iter=2, verbose=True)).fit(x, x[:, 0, 0])
    assert "epoch 2/2" in capsys.readouterr().err


def test_regressor_learns_whatever_the_scale() -> None:
    rng = np.random.default_rng(0)
    x = [rng.standard_normal((rng.integers(3, 9), 2)) for _ in range(200)]
    y = np.array([[1e6 + 1e4 * row[:, 0].sum(), 1e-3 * row[-1, 1]] for row in x])
    model = SequenceRegressor(**quick(cell="gru", max_iter=40)).fit(x[:150], y[:150])
    assert model.predict(x[150:]).shape == (50, 2)
    assert model.score(x[150:], y[150:]) > 0.8
    robust = SequenceRegressor(**quick(loss="absolute_error", cell="gru", max_iter=40)).fit(x[:150], y[:150, 0])
    assert robust.score(x[150:], y[150:, 0]) > 0.8


def tagged(rows: int) -> tuple[list[Array], list[Array]]:
    """The label of a step is the sign of the next one's first feature, which takes a look ahead."""
    rng = np.random.default_rng(rows)
    x = [rng.standard_normal((rng.integers(1, 20), 2)) for _ in range(rows)]
    return x, [np.where(np.append(row[1:, 0], 1.0) > 0, "up", "down") for row in x]


def test_tagger() -> None:
    x, y = tagged(100)
    model = SequenceTagger(**quick(cell="gru")).fit(x, y)
    x_test, y_test = tagged(50)
    assert model.score(x_test, y_test) > 0.9
    predicted = model.predict(x_test)
    assert [row.shape for row in predicted] == [row.shape for row in y_test]
    agreeing = sum((one == other).sum() for one, other in zip(predicted, y_test, strict=True))
    assert model.score(x_test, y_test) == agreeing / sum(map(len, y_test))
    np.testing.assert_array_equal(model.predict_proba(x_test)[0].argmax(-1), model.classes_.searchsorted(predicted[0]))
    np.testing.assert_array_equal(model.decision_function(x_test)[0] > 0, predicted[0] == "up")
    assert GridSearchCV(SequenceTagger(**quick(max_iter=2)), {"cell": ["rnn"]}, cv=KFold(2)).fit(x, y).best_score_ > 0.4
    empty = SequenceTagger(**quick(max_iter=1)).fit([*x[:3], np.zeros((0, 2))], [*(row == "up" for row in y[:3]), []])
    assert empty.classes_.dtype == bool
    assert empty.predict([np.zeros((0, 2))])[0].shape == (0,)
    steps = np.stack([row[:5] for row in x if len(row) > 5])
    labels = np.stack([row[:5] for row in y if len(row) > 5])
    assert SequenceTagger(**quick(max_iter=2)).fit(steps, labels).predict(steps).shape == labels.shape


def test_tagger_with_a_crf() -> None:
    """It labels sequences as a whole: where a step alone tells nothing, its neighbours do."""
    rng = np.random.default_rng(0)
    y = [(rng.integers(0, 3) + np.arange(n)) % 3 for n in rng.integers(2, 12, 60)]
    x = [np.where(rng.random(len(row)) < 0.4, row, 9)[:, None] == np.arange(3) for row in y]
    named = [np.array(["a", "b", "c"])[row] for row in y]
    options = quick(cell="rnn", bidirectional=False, max_iter=15)
    model = SequenceTagger(crf=True, **options).fit(x, named)
    assert isinstance(model.model_.layers[-1], rc.CRF)
    assert model.score(x, named) > SequenceTagger(**options).fit(x, named).score(x, named)
    predicted, chances = model.predict(x), model.predict_proba(x)
    for labels, known, chance in zip(predicted, named, chances, strict=True):
        assert labels.shape == known.shape
        np.testing.assert_allclose(chance.sum(-1), 1.0, rtol=1e-5)
    one = SequenceTagger(crf=True, **options).fit(x[0].astype(float), named[0])
    assert one.predict(x[0].astype(float)).shape == named[0].shape
    restored = pickle.loads(pickle.dumps(clone(model).fit(x, named)))
    np.testing.assert_array_equal(np.concatenate(restored.predict(x)), np.concatenate(predicted))
    with pytest.raises(ValueError, match="class_weight"):
        SequenceTagger(crf=True, class_weight="balanced").fit(x, named)


def test_scaler() -> None:
    x, _ = waves(20)
    scaled = SequenceScaler().fit_transform(x)
    flat = np.concatenate(scaled)
    np.testing.assert_allclose(flat.mean(0), 0.0, atol=1e-12)
    np.testing.assert_allclose(flat.std(0), 1.0)
    scaler = SequenceScaler().fit(x)
    np.testing.assert_allclose(np.concatenate(scaler.inverse_transform(scaled)), np.concatenate(x))
    array = np.stack([row[:10] for row in x]).astype(np.float32)
    assert scaler.transform(array).dtype == np.float32
    constant = np.full((3, 7, 1), 0.1)  # whose mean is not quite 0.1
    np.testing.assert_allclose(SequenceScaler().fit_transform(constant), 0.0, atol=1e-15)


def monthly(steps: int = 240) -> Array:
    """A trend and a season of 12 steps."""
    t = np.arange(steps)
    noise = np.random.default_rng(0).normal(0, 0.3, steps)
    series: Array = 300 + 0.1 * t + 5 * np.sin(2 * np.pi * t / 12) + noise
    return series


def test_forecaster_beats_the_season() -> None:
    series = monthly()
    model = Forecaster(window=24, horizon=12, season=12, **quick()).fit(series[:180])
    assert model.predict().shape == (12,)
    result = model.backtest(series, start=180)
    assert result.actual.shape == result.forecast.shape == (240 - 180 - 12 + 1, 12, 1)
    np.testing.assert_array_equal(result.actual[0, :, 0], series[180:192])
    np.testing.assert_array_equal(result.naive[0, :, 0], series[168:180])
    np.testing.assert_array_equal(result.forecast[0, :, 0], model.predict())
    np.testing.assert_array_equal(result.forecast[1, :, 0], model.predict(series[:181]))
    assert result.mae < 0.5 * result.naive_mae
    assert result.skill == 1 - result.mae / result.naive_mae
    assert result.coverage is not None
    assert 0.5 < result.coverage < 0.95
    lower, upper = model.predict_interval(coverage=0.8)
    quantiles = model.predict_quantiles()
    assert quantiles.shape == (12, 3)
    assert (np.diff(quantiles) >= 0).all()
    for got, expected in zip((lower, model.predict(), upper), quantiles.T, strict=True):
        np.testing.assert_array_equal(got, expected)


def test_forecaster_takes_several_series_and_features() -> None:
    series = monthly()
    pair = np.stack([series, 1000 * series[::-1]], axis=1)
    options: dict[str, Any] = {"window": 12, "horizon": 3, **quick(max_iter=2)}
    assert Forecaster(**options).fit(pair).predict().shape == (3, 2)
    several = Forecaster(**options, quantiles=None, season=None).fit([pair, pair[:50]])
    assert several.predict().shape == (2, 3, 2)
    assert several.predict(pair).shape == (3, 2)
    assert Forecaster(**options, early_stopping=True).fit(np.stack([pair, pair])).predict(pair[None]).shape == (1, 3, 2)
    with pytest.raises(ValueError, match="series with 2 windows at most, expected enough to hold some out"):
        Forecaster(**options, early_stopping=True).fit(pair[:16])
    search = GridSearchCV(Forecaster(**options), {"season": [1, 12]}, cv=TimeSeriesSplit(2), error_score="raise")
    assert search.fit(series).best_params_ == {"season": 12}


def test_forecaster_holds_out_what_training_does_not_see() -> None:
    """No target of training lies among the targets that are held out."""
    kept, out = split_in_time([20, 12], 0.25, horizon=3)
    np.testing.assert_array_equal(kept, [*range(13), *range(20, 27)])
    np.testing.assert_array_equal(out, [*range(15, 20), *range(29, 32)])


@pytest.mark.parametrize(
    ("estimator", "x", "y", "words"),
    [
        (SequenceClassifier(), np.ones((4, 5, 2)), [0, 1, 0], "got y of 3 rows, expected 4"),
        (SequenceClassifier(), np.ones((4, 5, 2)), np.zeros((4, 5), int), "use SequenceTagger"),
        (SequenceClassifier(), np.ones((4, 5, 2)), [0.5, 1.5, 2.5, 0.1], "Unknown label type: continuous"),
        (SequenceClassifier(), np.ones((4, 5, 2)), [1, 1, 1, 1], "got y with one class"),
        (SequenceClassifier(), [np.ones((3, 2)), np.ones((3, 4))], [0, 1], r"got X\[1\] of shape \(3, 4\)"),
        (SequenceClassifier(), [np.ones((3, 2)), np.full((3, 2), np.nan)], [0, 1], r"got X\[1\] that contains NaN"),
        (SequenceClassifier(), np.full((2, 3, 2), np.nan), [0, 1], "as a list, without padding"),
        (SequenceClassifier(), np.ones((2, 3, 2, 2)), [0, 1], r"expected \(N, T, F\); join the axes"),
        (SequenceClassifier(cell="elman"), np.ones((2, 3, 2)), [0, 1], "got cell='elman', expected one of 'lstm'"),
        (SequenceClassifier(max_iter=0), np.ones((2, 3, 2)), [0, 1], "got max_iter=0, expected an integer from 1"),
        (SequenceClassifier(early_stopping=True, validation_fraction=0), np.ones((2, 3, 2)), [0, 1], "between 0 and 1"),
        (SequenceRegressor(), np.ones((2, 3, 2)), [[1, 2], [1]], "rows of several shapes"),
        (SequenceRegressor(loss="mse"), np.ones((2, 3, 2)), [0, 1], "expected one of 'squared_error'"),
        (SequenceTagger(), [np.ones((0, 2))], [[]], "got y with no labels"),
        (SequenceTagger(), np.ones((2, 3, 2)), [0, 1], r"expected \(3,\), a label for every step"),
        (SequenceTagger(), [np.ones((3, 2)), np.ones((2, 2))], [[0, 1, 0], [1]], r"got y\[1\] of shape \(1,\)"),
        (Forecaster(), np.arange(10.0), None, "got a series of n_samples=10 steps, expected at least 25"),
        (Forecaster(quantiles=(10, 90)), np.arange(99.0), None, "expected numbers between 0 and 1"),
        (Forecaster(season=30), np.arange(99.0), None, "got season=30, expected an integer from 1 to 24"),
    ],
)
def test_errors_of_a_newcomer(estimator: Any, x: Any, y: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        estimator.fit(x, y)
    with pytest.raises(NotFittedError):
        estimator.predict(x)


def test_errors_after_fit() -> None:
    x = np.random.default_rng(0).standard_normal((6, 5, 2))
    model = SequenceClassifier(**quick(max_iter=1)).fit(x, [0, 1] * 3)
    with pytest.raises(
        ValueError, match=r"got X of shape \(5, 2\), expected sequences \(N, T, 2\) as in fit; write X\[None\]"
    ):
        model.predict(x[0])
    with pytest.raises(ValueError, match="X has 3 features, but SequenceClassifier is expecting 2 features"):
        model.predict(np.ones((2, 5, 3)))
    with pytest.raises(ValueError, match=r"got sample_weight of shape \(2,\), expected \(6,\)"):
        model.fit(x, [0, 1] * 3, sample_weight=[1, 2])
    forecaster = Forecaster(window=4, quantiles=(0.1, 0.9), **quick(max_iter=1)).fit(monthly(40))
    with pytest.raises(ValueError, match=r"got coverage=0.5, expected quantiles 0.25 and 0.75 among \[0.1, 0.5, 0.9\]"):
        forecaster.predict_interval(coverage=0.5)
    with pytest.raises(ValueError, match="got a series of n_samples=3 steps, expected at least 4"):
        forecaster.predict([1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="expected quantiles; make it with"):
        forecaster.set_params(quantiles=None).fit(monthly(40)).predict_interval()


def test_scikit_learn_is_asked_for() -> None:
    code = """
        import sys
        sys.modules["sklearn"] = None
        try:
            import recurra.sklearn
        except ImportError as error:
            print(error)
    """
    assert "pip install recurra[sklearn]" in run_python(code)
