"""Losses, optimisers and metrics by their names and classes, as Keras takes them; names of metrics follow the loss."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

import recurra as rc
from recurra.losses.find import NAMES as LOSSES
from recurra.metrics.find import NAMES as METRICS
from recurra.optim.find import NAMES as OPTIMIZERS

rng = np.random.default_rng(0)
X = rng.standard_normal((16, 4, 2)).astype(np.float32)
LABELS = rng.integers(0, 3, (16, 4))


def model(outputs: int = 3, classes: bool = True) -> Any:
    return rc.Sequential(rc.GRU(2, 5, seed=0), rc.Linear(5, outputs, seed=1))


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_by_its_name_is_that_loss(name: str) -> None:
    made = rc.losses.find(name)
    assert type(made) is LOSSES[name]
    assert type(rc.losses.find(name.upper())) is type(made)
    assert rc.losses.find(made) is made
    assert type(rc.losses.find(type(made))) is type(made)
    assert type(rc.losses.find(type(made).__name__)) is type(made) or name == "ctc"


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_by_its_name_learns(name: str) -> None:
    made = rc.optim.find(name)
    assert type(made).__name__.lower() == name.replace("_", "")
    assert made is not rc.optim.find(name)
    one, two = model(), model()
    for each, given in ((one, name), (two, made)):
        each.fit(X, LABELS, loss="cross_entropy", optimizer=given, epochs=2, seed=0, verbose=0)
    for key, value in one.params.items():
        np.testing.assert_array_equal(value, two.params[key])
    assert not np.array_equal(one.params["1.bias"], model().params["1.bias"])


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (
            {"loss": "mean_square_error"},
            ValueError,
            r"fit: got loss='mean_square_error', .*write loss='mean_squared_error'",
        ),
        ({"loss": "categorical_crossentropy"}, ValueError, r"fit: .*write loss='cross_entropy' with y\.argmax\(-1\)"),
        ({"loss": rc.losses.CRF}, TypeError, r"fit: got loss=the class CRF, .*write CRF\(\.\.\.\)"),
        ({"loss": rc.losses.Loss}, TypeError, r"fit: got loss=the class Loss"),
        ({"loss": rc.optim.Adam}, TypeError, r"fit: got loss=the class Adam, expected an instance of Loss"),
        ({"optimizer": "adamm"}, ValueError, r"fit: got optimizer='adamm', .*write optimizer='adam"),
        ({"optimizer": rc.optim.SGD}, TypeError, r"fit: got optimizer=the class SGD, .*write SGD\(\.\.\.\)"),
        ({"optimizer": 0.01}, TypeError, r"fit: got optimizer=0.01, expected an instance of Optimizer"),
        ({"metrics": "acuracy"}, ValueError, r"fit: got the metric 'acuracy', .*write 'accuracy'"),
    ],
)
def test_what_is_not_known_is_told(given: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^{message}"):
        model().fit(X, LABELS, **{"loss": "cross_entropy", "optimizer": "adam", "verbose": 0, **given})


def test_classes_are_called() -> None:
    found = model().fit(
        X, LABELS, loss=rc.losses.CrossEntropy, optimizer=rc.optim.Adam, metrics=rc.metrics.Accuracy, seed=0, verbose=0
    )
    named = model().fit(X, LABELS, loss="cross_entropy", optimizer="adam", metrics=["accuracy"], seed=0, verbose=0)
    assert found.history == named.history


def test_one_name_is_for_all_outputs() -> None:
    x = rc.Input(features=2)
    both = rc.Model(x, {"a": rc.Linear(2, 3)(x), "b": rc.Linear(2, 3)(x)})
    assert both.evaluate(X, {"a": LABELS, "b": LABELS}, loss="cross_entropy") > 0
    mixed = both.evaluate(
        X, {"a": LABELS, "b": np.eye(3)[LABELS]}, loss={"a": "cross_entropy", "b": rc.losses.BinaryCrossEntropy},
        metrics={"a": "accuracy", "b": "accuracy"},
    )  # fmt: skip
    y = both.predict(X)
    assert mixed["a_accuracy"] == pytest.approx((y["a"].argmax(-1) == LABELS).mean())
    assert mixed["b_accuracy"] == pytest.approx(((y["b"] > 0) == np.eye(3)[LABELS]).mean())


@pytest.mark.parametrize("name", METRICS)
def test_metrics_by_name_follow_the_loss(name: str) -> None:
    """With its ignored label or blank, and on targets that are 0 or 1: the object with these options gives the same."""
    made = METRICS[name]
    options = inspect.signature(made).parameters
    if "ignore_index" in options:
        labels = np.where(LABELS == 1, -100, LABELS)
        loss = rc.losses.CrossEntropy(ignore_index=-100)
        explicit: Any = made(ignore_index=-100)  # type: ignore[call-arg]
        found = model().evaluate(X, labels, loss=loss, metrics=name)
        assert found[name] == model().evaluate(X, labels, loss=loss, metrics=explicit)[explicit.name]
    if "blank" in options:
        rows = [[0, 1], [1], [0], []] * 4
        loss_of_rows = rc.losses.CTC(blank=2)
        explicit = made(blank=2)  # type: ignore[call-arg]
        found = model().evaluate(X, rows, loss=loss_of_rows, metrics=name)
        assert found[name] == model().evaluate(X, rows, loss=loss_of_rows, metrics=explicit)[explicit.name]
    if name in ("acc", "accuracy", "binary_accuracy", "f1", "precision", "recall", "auc"):
        y = np.eye(3)[LABELS]
        threshold = {"threshold": 0.5} if name in ("f1", "precision", "recall") else {}
        explicit = rc.metrics.BinaryAccuracy() if "acc" in name else made(**threshold)
        found = model().evaluate(X, y, loss="bce", metrics=[name])
        assert found[name] == model().evaluate(X, y, loss="bce", metrics=explicit)[explicit.name]
