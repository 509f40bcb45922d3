"""What `predict` gives for ragged rows goes into losses, metrics and decoders, and means what the padded array with
lengths means; outputs without a time axis come as one array."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import recurra as rc
from array_types import Array
from single_thread import one_thread

CASES = range(6)
CRF = rc.CRF(4, seed=0)
METRICS: dict[str, Any] = {
    "accuracy": rc.metrics.Accuracy,
    "sequence accuracy": rc.metrics.SequenceAccuracy,
    "f1": rc.metrics.F1,
    "auc": rc.metrics.AUC,
    "perplexity": rc.metrics.Perplexity,
    "viterbi": lambda: rc.metrics.Viterbi(CRF),
    "mae": rc.metrics.MeanAbsoluteError,
    "r2": rc.metrics.R2,
    "binary accuracy": rc.metrics.BinaryAccuracy,
    "edit distance": rc.metrics.EditDistance,
}
LOSSES: dict[str, Any] = {
    "cross entropy": rc.losses.CrossEntropy,
    "crf": lambda: rc.losses.CRF(CRF),
    "mse": rc.losses.MeanSquaredError,
    "bce": rc.losses.BinaryCrossEntropy,
    "ctc": rc.losses.CTC,
}


def draw(name: str, case: int) -> tuple[list[Array], list[Array]]:
    """Rows of logits, and targets for them."""
    rng = np.random.default_rng(case)
    lengths = rng.integers(0, 9, 4) if case else np.array([5, 5, 5, 5])
    lengths[0] = 8
    x = [rng.standard_normal((steps, 4)).astype(np.float32) for steps in lengths]
    if name in ("mae", "r2", "mse"):
        return x, [rng.standard_normal(row.shape) for row in x]
    if name in ("binary accuracy", "bce"):
        return x, [rng.integers(0, 2, row.shape) for row in x]
    if name in ("edit distance", "ctc"):
        return x, [rng.integers(1, 4, min(2, len(row) // 3)) for row in x]
    return x, [rng.integers(0, 4, len(row)) for row in x]


def padded(rows: list[Array]) -> tuple[Array, Array]:
    lengths = np.array([len(row) for row in rows])
    whole = np.zeros((len(rows), lengths.max(), *rows[0].shape[1:]), rows[0].dtype)
    for place, row in zip(whole, rows, strict=True):
        place[: len(row)] = row
    return whole, lengths


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", METRICS)
def test_metrics_take_lists(name: str, case: int) -> None:
    x, y = draw(name, case)
    whole, lengths = padded(x)
    one, other = METRICS[name](), METRICS[name]()
    one.update(x, y)
    other.update(whole, y if name == "edit distance" else padded(y)[0], lengths)
    np.testing.assert_array_equal(one.result(), other.result())


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", LOSSES)
def test_losses_take_lists(name: str, case: int) -> None:
    x, y = draw(name, case)
    whole, lengths = padded(x)
    one = LOSSES[name]()(x, y)
    other = LOSSES[name]()(whole, y if name == "ctc" else padded(y)[0], lengths)
    assert (one.sum, one.count) == (other.sum, other.count)
    np.testing.assert_array_equal(one.gradient, other.gradient)
    if name == "mse":
        weights = [np.arange(1.0, 1 + len(row)) for row in x]
        one, other = (
            LOSSES[name]()(x, y, weights=weights),
            LOSSES[name]()(whole, padded(y)[0], lengths, weights=padded(weights)[0]),
        )
        assert (one.sum, one.count) == (other.sum, other.count)


@pytest.mark.parametrize("case", CASES)
def test_decoders_take_lists(case: int) -> None:
    x, _y = draw("ctc", case)
    whole, lengths = padded(x)
    for decode in (rc.ctc.greedy, rc.ctc.beam_search):
        for one, other in zip(decode(x), decode(whole, lengths), strict=True):
            first, second = (found[0] if isinstance(found, list) else found for found in (one, other))
            np.testing.assert_array_equal(first.labels, second.labels)
            assert first.log_prob == second.log_prob


def test_what_fits_no_list_is_told() -> None:
    x, y = draw("accuracy", 1)
    for call in (rc.metrics.Accuracy().update, rc.losses.CrossEntropy(), rc.metrics.AUC().update):
        with pytest.raises(ValueError, match=r"got lengths with a list of predictions, expected none"):
            call(x, y, [len(row) for row in x])
        with pytest.raises(ValueError, match=r"got targets of \[.*\] steps, expected \[.*as the predictions have"):
            call(x, [*y[1:], y[0]])
    with pytest.raises(ValueError, match=r"^ctc\.greedy: got lengths with a list of logits"):
        rc.ctc.greedy(x, [1, 1, 1, 1])


def test_outputs_without_a_time_axis_are_stacked() -> None:
    rows = [np.ones((steps, 3)) for steps in (4, 0, 7, 2, 5)]
    model = rc.Sequential(rc.GRU(3, 4, return_sequences=False), rc.Linear(4, 2), seed=0)
    with one_thread():
        y = model.predict(rows, batch_size=2)
        assert isinstance(y, np.ndarray)
        assert y.shape == (5, 2)
        np.testing.assert_array_equal(y, np.concatenate([model.predict(row[None]) for row in rows]))
        assert model.predict_proba(rows, loss="cross_entropy").shape == (5, 2)
        assert model([row.astype(np.float32) for row in rows])[0].shape == (5, 2)
        assert isinstance(model.predict([rows[0]]), np.ndarray)
        symbol = rc.Input(features=3)
        both = rc.Model(symbol, (rc.GRU(3, 4, return_sequences=False)(symbol), rc.GRU(3, 4)(symbol)))
        last, every = both.predict(rows)
    assert last.shape == (5, 4)
    assert [row.shape for row in every] == [(len(row), 4) for row in rows]
