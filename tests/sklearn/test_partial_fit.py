"""Data in parts: one pass for each call, from scratch or from what was learnt before."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone

from recurra.sklearn import SequenceClassifier, SequenceRegressor, SequenceTagger
from single_thread import one_thread

RNG = np.random.default_rng(0)
X = [RNG.standard_normal((steps, 2)) + 3 * (index % 2) for index, steps in enumerate(RNG.integers(3, 8, 40))]
LABELS = np.array(["low", "high"])[np.arange(40) % 2]
NUMBERS = np.array([row[-1, 0] for row in X])
TAGS = [np.where(row[:, 0] > 1.5, "b", "a") for row in X]
OPTIONS: dict[str, Any] = {"hidden_size": 8, "random_state": 0, "learning_rate": 0.05}
KINDS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "classifier": (SequenceClassifier(**OPTIONS), LABELS, {"classes": ["high", "low"]}),
    "regressor": (SequenceRegressor(**OPTIONS), NUMBERS, {}),
    "tagger": (SequenceTagger(**OPTIONS), TAGS, {"classes": ["a", "b"]}),
    "crf": (SequenceTagger(crf=True, **OPTIONS), TAGS, {"classes": ["a", "b"]}),
}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def part(values: Any, index: int) -> Any:
    return values[10 * index : 10 * index + 10]


def passes(estimator: Any, y: Any, count: int, **first: Any) -> Any:
    for index in range(count):
        estimator.partial_fit(part(X, index % 3), part(y, index % 3), **({} if index else first))
    return estimator


@pytest.mark.parametrize("name", KINDS)
def test_parts_are_learnt(name: str) -> None:
    made, y, first = KINDS[name]
    estimator = passes(clone(made), y, 18, **first)
    assert estimator.score(part(X, 3), part(y, 3)) > 0.8
    assert estimator.n_iter_ == len(estimator.loss_curve_) == 18
    again = passes(clone(made), y, 18, **first)
    for one, other in zip(estimator.predict(X), again.predict(X), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", KINDS)
def test_it_goes_on_from_fit_and_from_a_pickle(name: str) -> None:
    made, y, _first = KINDS[name]
    estimator = clone(made).set_params(max_iter=2).fit(X, y)
    before = estimator.model_.state_dict()
    twin = pickle.loads(pickle.dumps(estimator))
    estimator.partial_fit(part(X, 0), part(y, 0))
    assert estimator.n_iter_ == 3
    moved = {key: np.abs(value - before[key]).max() for key, value in estimator.model_.state_dict().items()}
    assert 0 < max(moved.values()) < 0.3  # a step or two, not a model made anew
    twin.partial_fit(part(X, 0), part(y, 0))
    for one, other in zip(estimator.predict(X), twin.predict(X), strict=True):
        np.testing.assert_array_equal(one, other)
    half = pickle.loads(pickle.dumps(estimator))  # with the state of its optimiser
    for one in (estimator, half):
        one.partial_fit(part(X, 1), part(y, 1))
    assert all((value == half.model_.state_dict()[key]).all() for key, value in estimator.model_.state_dict().items())
    fresh = clone(made).set_params(max_iter=2).fit(X, y)
    estimator.set_params(max_iter=2).fit(X, y)  # fit still trains from scratch
    assert all((value == fresh.model_.state_dict()[key]).all() for key, value in estimator.model_.state_dict().items())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: SequenceClassifier().partial_fit(X, LABELS),
            "classes must be passed on the first call to partial_fit",
        ),
        (
            lambda: SequenceClassifier(**OPTIONS).partial_fit(X, LABELS, classes=["high", "middle"]),
            r"SequenceClassifier\.partial_fit: got the label .*'low'.*, expected one of \['high', 'middle'\]",
        ),
        (
            lambda: passes(clone(KINDS["classifier"][0]), LABELS, 1, classes=["high", "low"]).partial_fit(
                X, LABELS, ["high", "x"]
            ),
            r"got classes=\['high', 'x'\], expected \['high', 'low'\], as in the first call",
        ),
        (
            lambda: SequenceTagger(class_weight="balanced", **OPTIONS).partial_fit(X, TAGS, ["a", "b"]),
            r"SequenceTagger\.partial_fit: got class_weight='balanced', expected None or a dict",
        ),
        (
            lambda: passes(clone(KINDS["regressor"][0]), NUMBERS, 1).partial_fit(X, np.stack([NUMBERS, NUMBERS], 1)),
            r"SequenceRegressor\.partial_fit: got 2 targets, expected 1, as in the first call",
        ),
        (
            lambda: passes(clone(KINDS["regressor"][0]), NUMBERS, 1).partial_fit([row[:, :1] for row in X], NUMBERS),
            r"X has 1 features, but SequenceRegressor is expecting 2",
        ),
    ],
)
def test_errors(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
