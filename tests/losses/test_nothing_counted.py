"""Where there is nothing to count, no number looks good: NaN, and a word about what was left out."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recurra as rc
from agreement import assert_same_bits
from array_types import Array
from recurra.metrics.find import NAMES

RNG = np.random.default_rng(0)
X = RNG.standard_normal((8, 5, 3)).astype(np.float32)
LABELS = RNG.integers(0, 4, (8, 5))
#: A loss, how many features a step's predictions have, and targets of 8 rows of 5 steps.
LOSSES: dict[str, tuple[Any, int, Any]] = {
    "cross entropy": (rc.losses.CrossEntropy(ignore_index=-1), 4, LABELS),
    "smoothed": (rc.losses.CrossEntropy(0.1, class_weights=[1.0, 2.0, 3.0, 1.0]), 4, LABELS),
    "binary": (rc.losses.BinaryCrossEntropy(), 2, RNG.integers(0, 2, (8, 5, 2))),
    "squared": (rc.losses.MeanSquaredError(), 2, RNG.standard_normal((8, 5, 2))),
    "l1": (rc.losses.L1(), 2, RNG.standard_normal((8, 5, 2))),
    "huber": (rc.losses.Huber(), 2, RNG.standard_normal((8, 5, 2))),
    "quantile": (rc.losses.Quantile(), 6, RNG.standard_normal((8, 5, 2))),
    "gaussian": (rc.losses.GaussianNLL(), 4, RNG.standard_normal((8, 5, 2))),
    "mixture": (rc.losses.MixtureDensity(2), 10, RNG.standard_normal((8, 5, 2))),
    "policy": (rc.losses.PolicyGradient(), 4, RNG.integers(0, 4, (8, 5, 2)).astype(float)),
    "ppo": (rc.losses.PPO("gaussian"), 4, RNG.standard_normal((8, 5, 4))),
    "value": (rc.losses.ValueFunction(0.2), 2, RNG.standard_normal((8, 5, 4))),
    "ctc": (rc.losses.CTC(), 4, [[1, 2]] * 8),
}
METRICS = [name for name in NAMES if name != "edit_distance"]


def model(features: int) -> Any:
    return rc.Sequential(rc.GRU(3, 4), rc.Linear(4, features), seed=0)


def fit(one: Any, *data: Any, **options: Any) -> Any:
    return one.fit(*data, **{"optimizer": rc.optim.SGD(0.01), "batch_size": 3, "seed": 0, "verbose": 0, **options})


def empty(name: str, how: str) -> tuple[Any, dict[str, Any], Any]:
    """Lengths, options and targets with which nothing counts."""
    _loss, _features, y = LOSSES[name]
    if how == "lengths":
        return np.zeros(8, int), {}, y
    if how == "weights":
        return None, {"sample_weight": np.zeros(8)}, y
    if how == "labels":
        return None, {}, np.full_like(y, -1)
    return np.full(8, 2), {}, [[1, 1]] * 8  # takes three


PAIRS = [*((name, how) for name in LOSSES for how in ("lengths", "weights")), ("cross entropy", "labels")]
PAIRS.append(("ctc", "too short"))


@pytest.mark.parametrize(("name", "how"), PAIRS)
def test_no_loss_is_not_a_loss_of_zero(name: str, how: str) -> None:
    loss, features, _ = LOSSES[name]
    lengths, options, y = empty(name, how)
    value = loss(np.zeros((8, 5, features), np.float32), y, lengths, weights=options.get("sample_weight"))
    assert (value.sum, value.count) == (0.0, 0)
    assert np.isnan(value.mean)
    with pytest.warns(RuntimeWarning, match="evaluate: got nothing to count"):
        assert np.isnan(model(features).evaluate(X, y, lengths, loss=loss, **options))


@pytest.mark.parametrize(("name", "how"), PAIRS)
def test_callbacks_do_not_take_it_for_the_best(name: str, how: str, tmp_path: Path) -> None:
    """Nor does training on nothing move a parameter."""
    loss, features, good = LOSSES[name]
    lengths, options, y = empty(name, how)
    one, path = model(features), tmp_path / "best.safetensors"
    early = rc.callbacks.EarlyStopping(patience=9)
    best = rc.callbacks.ModelCheckpoint(path, save_best_only=True)
    plateau = rc.callbacks.ReduceLROnPlateau(patience=1, factor=0.5)
    held = (X, y, lengths, options.get("sample_weight"))
    optimizer = rc.optim.SGD(0.01)
    with pytest.warns(RuntimeWarning, match="fit: validation: got nothing to count"):
        history = fit(
            one,
            X,
            good,
            loss=loss,
            validation_data=held,
            callbacks=[early, best, plateau],
            epochs=3,
            optimizer=optimizer,
        )
    assert np.isnan(history.history["val_loss"]).all()
    assert np.isfinite(history.history["loss"]).all()
    assert early.best_epoch is None
    assert not path.exists()
    assert optimizer.lr < 0.01
    before = one.state_dict()
    with pytest.warns(RuntimeWarning, match="fit: got nothing to count"):
        logs = fit(one, X, y, lengths, loss=loss, epochs=2, **options).history
    assert np.isnan([logs[name] for name in ("loss", "grad_norm", "clipped")]).all()
    for key, array in one.state_dict().items():
        assert_same_bits(array, before[key])


@pytest.mark.parametrize("name", METRICS)
def test_no_metric_is_a_number(name: str) -> None:
    metric = rc.metrics.find(name)
    assert np.isnan(metric.result())
    classes = isinstance(metric, rc.metrics.ClassScore) or name in (
        "acc",
        "accuracy",
        "perplexity",
        "sequence_accuracy",
    )
    quantiles = name in ("pinball", "coverage")
    t: Array = np.zeros((4, 5), int) if classes else np.zeros((4, 5, 2))
    metric.update(np.zeros((4, 5, 6 if quantiles else 2)), t, np.zeros(4, int))
    assert np.isnan(metric.result())


def test_rows_that_ctc_left_out_are_told_of_once() -> None:
    y = [[1, 2], [1] * 4, [], [3], [2] * 5, [1, 2, 3], [1], [1, 3]]  # rows 1 and 4 take more than 5 steps
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        fit(model(4), X, y, loss=rc.losses.CTC(), epochs=3, validation_data=(X[4:], y[4:]))
    said = [str(one.message).split(",")[0] for one in found]
    assert said == [
        "fit: left out 2 rows whose targets need more steps than there are",
        "fit: validation: left out 1 row whose targets need more steps than there are",
    ]
    weights = np.array([1, 0, 1, 1, 0, 1, 1, 1.0])  # what was left out on purpose is nothing to tell
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(model(4), X, y, loss=rc.losses.CTC(), sample_weight=weights)


def test_of_several_outputs_each_must_count() -> None:
    """But for one that weighs nothing."""
    x = rc.Input(features=3)
    h = rc.GRU(3, 4)(x)
    one = rc.Model(x, {"tag": rc.Linear(4, 4)(h), "next": rc.Linear(4, 2)(h)})
    loss = {"tag": LOSSES["cross entropy"][0], "next": rc.losses.L1()}
    y = {"tag": np.full((8, 5), -1), "next": np.zeros((8, 5, 2))}
    with pytest.warns(RuntimeWarning, match=r"evaluate: y\['tag'\]: got nothing to count"):
        assert np.isnan(one.evaluate(X, y, loss=loss))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = one.evaluate(X, y, loss=loss, loss_weights={"tag": 0.0, "next": 1.0})
    assert found == pytest.approx(np.abs(one.predict(X)["next"]).mean(), rel=1e-6)


def test_ctc_counts_no_row_of_length_zero() -> None:
    """An empty target counts only where there are steps; without any a target of labels is infeasible."""
    value = rc.losses.CTC()(np.zeros((4, 5, 4), np.float32), [[], [], [1], [1]], [0, 5, 0, 5])
    assert (value.count, value.left_out) == (2, 1)
