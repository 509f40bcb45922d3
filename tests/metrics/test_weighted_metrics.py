"""Metrics with weights, and what has a weight of 0: never read, wherever it is missing."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from test_metrics import CLASSES, KINDS, LENGTHS, ROWS, STEPS, VALID, Kind, each_kind

import recurra as rc
from agreement import assert_same_bits
from array_types import Array
from sklearn import metrics as peer

RNG = np.random.default_rng(0)
X = RNG.standard_normal((12, 6, 3)).astype(np.float32)
NUMBERS = RNG.standard_normal((12, 6, 2))
LABELS = RNG.integers(0, 4, (12, 6))
#: Steps and rows that do not count.
STEP_WEIGHTS = RNG.integers(0, 3, (12, 6)).astype(float)
ROW_WEIGHTS = np.array([1, 0, 2, 1, 0.5, 0, 1, 3, 1, 0, 1, 1])


def model(features: int, **options: Any) -> Any:
    return rc.Sequential(rc.GRU(3, 4, **options), rc.Linear(4, features), seed=0)


def fit(one: Any, x: Any, y: Any, **options: Any) -> Any:
    return one.fit(x, y, **{"optimizer": rc.optim.SGD(0.05), "batch_size": 5, "seed": 0, "verbose": 0, **options})


@pytest.mark.parametrize("size", [1, 4, ROWS])
@pytest.mark.parametrize("by", ["rows", "steps"])
@each_kind
def test_a_weight_is_how_often_a_step_counts(kind: Kind, by: str, size: int) -> None:
    """Over ragged batches of any size; what has a weight of 0 is not read."""
    x, t = kind.draw(np.random.default_rng(3), (ROWS, STEPS))
    weights = np.random.default_rng(4).integers(0, 4, (ROWS,) if by == "rows" else (ROWS, STEPS))
    each = np.broadcast_to(weights if by == "steps" else weights[:, None], (ROWS, STEPS))
    chosen = np.repeat(np.flatnonzero(VALID), each[VALID])
    flat_x, flat_t = x.reshape(ROWS * STEPS, -1), t.reshape(ROWS * STEPS, *t.shape[2:])
    expected = kind.make()
    expected.update(flat_x[chosen].astype(np.float64), flat_t[chosen])
    left_out = ~VALID | (each == 0)
    x, t = x.astype(np.float64), t.copy()
    x[left_out], t[left_out] = np.nan, np.nan if t.dtype.kind == "f" else 77
    metric: Any = kind.make()
    for first in range(0, ROWS, size):
        rows = slice(first, first + size)
        metric.update(x[rows], t[rows], LENGTHS[rows], weights=weights[rows])
    assert metric.result() == pytest.approx(expected.result(), rel=1e-12)


PEERS: dict[str, tuple[Callable[[], Any], str, Callable[..., float]]] = {
    "accuracy": (rc.metrics.Accuracy, "labels", lambda x, t, w: peer.accuracy_score(t, x.argmax(-1), sample_weight=w)),
    "f1": (
        rc.metrics.F1, "labels",
        lambda x, t, w: peer.f1_score(t, x.argmax(-1), average="macro", sample_weight=w, zero_division=0),
    ),
    "auc": (rc.metrics.AUC, "bits", lambda x, t, w: peer.roc_auc_score(t, x, average="macro", sample_weight=w)),
    "mae": (rc.metrics.MeanAbsoluteError, "numbers", lambda x, t, w: peer.mean_absolute_error(t, x, sample_weight=w)),
    "r2": (rc.metrics.R2, "numbers", lambda x, t, w: peer.r2_score(t, x, sample_weight=w)),
    "mape": (
        rc.metrics.MeanAbsolutePercentageError, "numbers",
        lambda x, t, w: peer.mean_absolute_percentage_error(t, x, sample_weight=w),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PEERS)
def test_fractions_weigh_as_in_scikit_learn(name: str) -> None:
    make, draw, expected = PEERS[name]
    x, t = {kind.draw.__name__: kind.draw for kind in KINDS.values()}[draw](np.random.default_rng(1), (200,))
    weights = np.random.default_rng(2).random(200) ** 3
    metric = make()
    for rows in (slice(0, 77), slice(77, 200)):
        metric.update(x[rows].astype(np.float64), t[rows], weights=weights[rows])
    assert metric.result() == pytest.approx(expected(x.astype(np.float64), t, weights), rel=1e-12)


@pytest.mark.parametrize("size", [1, 3, ROWS])
def test_rows_of_labels_have_weights(size: int) -> None:
    """CTC's edit distance, and whole rows that are right."""
    rng = np.random.default_rng(5)
    x, weights = rng.standard_normal((ROWS, STEPS, CLASSES)), rng.integers(0, 4, ROWS)
    labels = [rng.integers(1, CLASSES, rng.integers(0, 4)) for _ in range(ROWS)]
    often = np.repeat(np.arange(ROWS), weights)
    for normalize in (True, False):
        expected, metric = (rc.metrics.EditDistance(normalize=normalize) for _ in range(2))
        expected.update(x[often], [labels[row] for row in often], LENGTHS[often])
        for first in range(0, ROWS, size):
            rows = slice(first, first + size)
            metric.update(x[rows], labels[rows], LENGTHS[rows], weights=weights[rows])
        assert metric.result() == pytest.approx(expected.result(), rel=1e-12)
    best = np.where(rng.random((ROWS, 1)) < 0.5, x.argmax(-1), 0)
    right, sequences = rc.metrics.SequenceAccuracy(), rc.metrics.SequenceAccuracy()
    right.update(x[often], best[often], LENGTHS[often])
    sequences.update(x, best, LENGTHS, weights=weights)
    assert sequences.result() == pytest.approx(right.result(), rel=1e-12)


GAPS = NUMBERS.copy()
GAPS[STEP_WEIGHTS == 0] = np.nan
CTC_LABELS = [[1, 2]] * 12
#: Data of which some targets are missing, and the same with any other numbers there.
MISSING: dict[str, tuple[Any, int, Any, Any, Any]] = {
    "steps": (rc.losses.MeanSquaredError(), 2, GAPS, NUMBERS, STEP_WEIGHTS),
    "rows": (
        rc.losses.L1(), 2, np.where(ROW_WEIGHTS[:, None, None] == 0, np.nan, NUMBERS), NUMBERS, ROW_WEIGHTS,
    ),
    "labels": (
        rc.losses.CrossEntropy(), 4, np.where(STEP_WEIGHTS == 0, -100, LABELS), LABELS, STEP_WEIGHTS,
    ),
    "ctc": (
        rc.losses.CTC(infeasible="error"), 4,
        [[1] * 9 if weight == 0 else [1, 2] for weight in ROW_WEIGHTS], CTC_LABELS, ROW_WEIGHTS,
    ),
}  # fmt: skip


def as_lists(y: Any, lengths: Array) -> Any:
    return [row[:length] for row, length in zip(y, lengths, strict=True)]


@pytest.mark.parametrize("form", ["arrays", "lists", "batches"])
@pytest.mark.parametrize("name", MISSING)
def test_targets_of_weight_zero_may_be_missing(name: str, form: str) -> None:
    """In fit, its validation and evaluate: to the bit as if any other target stood there."""
    loss, features, missing, filled, weights = MISSING[name]
    lengths = np.array([6, 6, 5, 4, 6, 2, 3, 6, 6, 1, 5, 6])
    found = []
    for y in (missing, filled):
        x, w, given = X, weights, {}
        if form == "lists":
            x = as_lists(X, lengths)
            y, w = (as_lists(one, lengths) if np.ndim(weights) == 2 else one for one in (y, weights))
            y = as_lists(y, lengths) if name == "rows" else y
        one = model(features)
        if form == "batches":
            source = [rc.data.Batch(x, y, None, w)]
            history = fit(one, source, None, loss=loss, epochs=2, validation_data=source)
            value = one.evaluate(source, loss=loss)
        else:
            given = {"sample_weight": w}
            history = fit(one, x, y, loss=loss, epochs=2, validation_data=(x, y, None, w), **given)
            value = one.evaluate(x, y, loss=loss, **given)
        found.append((history.history, value, one.state_dict()))
    assert found[0][:2] == found[1][:2]
    for key, array in found[0][2].items():
        assert_same_bits(array, found[1][2][key])


def test_fit_and_evaluate_weigh_metrics() -> None:
    """Those in `metrics` do not know of weights; both under their own names."""
    one = model(2)
    found = one.evaluate(
        X,
        NUMBERS,
        loss=rc.losses.L1(),
        metrics=["mae", "mse"],
        weighted_metrics=["mae", "r2"],
        sample_weight=ROW_WEIGHTS,
    )
    errors = np.abs(one.predict(X) - NUMBERS)
    assert set(found) == {"loss", "mae", "mse", "weighted_mae", "r2"}
    assert found["mae"] == pytest.approx(errors.mean(), rel=1e-6)
    assert found["weighted_mae"] == pytest.approx((errors * ROW_WEIGHTS[:, None, None]).sum() / ROW_WEIGHTS.sum() / 12)
    assert found["loss"] == pytest.approx(found["weighted_mae"], rel=1e-6)
    history = fit(
        one, X, NUMBERS, loss=rc.losses.L1(), weighted_metrics="mae", sample_weight=ROW_WEIGHTS, epochs=2,
        validation_data=(X, NUMBERS, None, ROW_WEIGHTS), callbacks=rc.callbacks.EarlyStopping("val_mae", patience=5),
    )  # fmt: skip
    assert history.history["val_mae"] == pytest.approx(history.history["val_loss"], rel=1e-6)
    assert history.history["mae"] == pytest.approx(history.history["loss"], rel=1e-6)


def test_class_weights_weigh_metrics() -> None:
    one, weights = model(4), {1: 3.0, 2: 0.0}
    history = fit(
        one, X, LABELS, loss=rc.losses.CrossEntropy(), class_weight=weights, weighted_metrics="accuracy",
        optimizer=rc.optim.SGD(0.0),
    ).history  # fmt: skip
    each = np.array([weights.get(label, 1.0) for label in range(4)])[LABELS]
    right = one.predict(X).argmax(-1) == LABELS
    assert history["accuracy"][0] == pytest.approx((right * each).sum() / each.sum(), rel=1e-12)


def test_several_outputs_have_their_own() -> None:
    x = rc.Input(features=3)
    h = rc.GRU(3, 4)(x)
    one = rc.Model(x, {"tag": rc.Linear(4, 4)(h), "next": rc.Linear(4, 2)(h)}, seed=0)
    found = one.evaluate(
        X, {"tag": LABELS, "next": NUMBERS}, loss={"tag": rc.losses.CrossEntropy(), "next": rc.losses.L1()},
        metrics={"tag": "accuracy", "next": None}, weighted_metrics={"tag": "accuracy", "next": ["mae"]},
        sample_weight={"tag": STEP_WEIGHTS, "next": None},
    )  # fmt: skip
    right = one.predict(X)["tag"].argmax(-1) == LABELS
    assert set(found) == {"loss", "tag_accuracy", "tag_weighted_accuracy", "next_mae"}
    assert found["tag_accuracy"] == pytest.approx(right.mean())
    assert found["tag_weighted_accuracy"] == pytest.approx((right * STEP_WEIGHTS).sum() / STEP_WEIGHTS.sum())


@pytest.mark.parametrize("where", ["training", "validation", "evaluate"])
def test_metrics_that_cannot_read_a_target_are_refused_before_training(where: str) -> None:
    """Not after an epoch, when the validation comes to it."""
    one = model(2)
    before = one.state_dict()
    options: dict[str, Any] = {"loss": rc.losses.MeanSquaredError(), "metrics": "mae"}
    calls: dict[str, Callable[[], Any]] = {
        "training": lambda: fit(one, X, GAPS, sample_weight=STEP_WEIGHTS, **options),
        "validation": lambda: fit(one, X, NUMBERS, validation_data=(X, GAPS, None, STEP_WEIGHTS), **options),
        "evaluate": lambda: one.evaluate(X, GAPS, sample_weight=STEP_WEIGHTS, **options),
    }
    with pytest.raises(ValueError, match=r"metric mae: got NaN .* in y.*use weighted_metrics"):
        calls[where]()
    for key, array in one.state_dict().items():
        assert_same_bits(array, before[key])
    with pytest.raises(ValueError, match=r"metric accuracy: got labels from -1 to .* in y\[0\]"):
        fit(
            model(4), list(X), list(np.where(LABELS == 0, -1, LABELS)),
            loss=rc.losses.CrossEntropy(ignore_index=-1), metrics=rc.metrics.Accuracy(),
        )  # fmt: skip


class Plain(rc.metrics.Metric):
    """One that knows nothing of weights."""

    name, mode = "plain", "min"

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._count = 0

    def update(self, predictions: Array, targets: Any, lengths: Any = None) -> None:
        self._count += len(predictions)

    def result(self) -> float:
        return float(self._count)


def test_a_metric_of_ones_own_says_whether_it_takes_weights() -> None:
    options: dict[str, Any] = {"loss": rc.losses.L1(), "sample_weight": ROW_WEIGHTS}
    assert model(2).evaluate(X, NUMBERS, metrics=Plain(), **options)["plain"] == 12
    with pytest.raises(TypeError, match=r"evaluate: got Plain in weighted_metrics, .*weights=None"):
        model(2).evaluate(X, NUMBERS, weighted_metrics=Plain(), **options)


def test_the_guard_looks_at_what_counts() -> None:
    """A NaN of the model is told of though targets of weight 0 are NaN, too."""
    x = X.copy()
    x[3, 2] = np.nan
    with pytest.raises(rc.NonFiniteError, match="x holds 3 values"):
        fit(model(2), x, GAPS, loss=rc.losses.MeanSquaredError(), sample_weight=STEP_WEIGHTS)


@pytest.mark.parametrize("name", ["sample_weight", "y"])
def test_the_row_that_is_wrong_is_named(name: str) -> None:
    """Though all rows are checked at once."""
    x, y, w = (as_lists(one, np.arange(12) % 6 + 1) for one in (X, NUMBERS, STEP_WEIGHTS + 1))
    (w if name == "sample_weight" else y)[7][1] = np.nan
    with pytest.raises(ValueError, match=rf"{name}\[7\]"):
        fit(model(2), x, y, loss=rc.losses.L1(), sample_weight=w)


def test_weights_of_many_short_rows_are_checked_together() -> None:
    """Counted in calls of Python functions, of which each row with weights takes hardly any more."""
    lengths = np.arange(2000) % 6 + 1
    x, y, w = ([array[row % 12][:length] for row, length in enumerate(lengths)] for array in (X, LABELS, STEP_WEIGHTS))

    def calls(**options: Any) -> int:
        count = 0

        def note(frame: Any, event: str, argument: Any) -> None:
            nonlocal count
            count += event == "call"

        sys.setprofile(note)
        try:
            fit(model(4), x, y, loss=rc.losses.CrossEntropy(), batch_size=500, **options)
        finally:
            sys.setprofile(None)
        return count

    plain = calls()
    assert calls(sample_weight=w) < plain + 2 * 2000
    assert calls(class_weight={1: 2.0}) < plain + 2000
