"""Readers that fill the same buffers for every batch give what readers with new arrays give."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import recurra as rc
from agreement import assert_same_bits

RNG = np.random.default_rng(0)
COUNT, ROWS, STEPS = 7, 4, 6
X = RNG.standard_normal((COUNT, ROWS, STEPS, 3)).astype(np.float32)
Y = RNG.integers(0, 3, (COUNT, ROWS, STEPS))
LENGTHS = RNG.integers(1, STEPS + 1, (COUNT, ROWS))
WEIGHTS = RNG.random((COUNT, ROWS, STEPS))
RESETS = RNG.random((COUNT, ROWS, STEPS)) < 0.2


def batches(reuse: bool, *, steps: int = STEPS, weights: bool = True) -> Iterator[rc.data.Batch]:
    data = (X, Y, np.minimum(LENGTHS, steps), WEIGHTS.astype(np.float32) if weights else WEIGHTS, RESETS)
    buffers = [np.zeros_like(one[0]) for one in data]
    for index in range(COUNT):
        if not reuse:
            buffers = [np.zeros_like(one[0]) for one in data]
        for buffer, one in zip(buffers, data, strict=True):
            buffer[:] = one[index]
        x, y, lengths, weight, resets = buffers
        yield rc.data.Batch(x, y, lengths, weight, reset=resets, carry=index % 3 > 0)


def model() -> Any:
    return rc.Sequential(rc.GRU(3, 4), rc.Linear(4, 3), seed=0)


FITS: dict[str, dict[str, Any]] = {
    "plain": {},
    "accumulate": {"accumulate": 3},
    "accumulate over epochs": {"accumulate": 2, "steps_per_epoch": 5},
    "windows": {"truncate": rc.TruncatedBPTT(2)},
    "windows of several batches": {"truncate": rc.TruncatedBPTT(2, 3), "accumulate": 4},
    "windows that do not fill a batch": {"truncate": rc.TruncatedBPTT(4), "accumulate": 5},
    "batches of burn-in alone": {"truncate": rc.TruncatedBPTT(2, burn_in=STEPS)},
}


@pytest.mark.parametrize("options", FITS.values(), ids=FITS)
def test_fit_learns_from_every_batch(options: dict[str, Any]) -> None:
    found = []
    for reuse in (False, True):
        one = model()
        history = one.fit(
            lambda epoch, reuse=reuse: batches(reuse),
            loss=rc.losses.CrossEntropy(),
            optimizer=rc.optim.Adam(0.01),
            epochs=2,
            seed=0,
            verbose=0,
            metrics="accuracy",
            weighted_metrics=[rc.metrics.AUC()],
            validation_data=lambda epoch, reuse=reuse: batches(reuse, weights=False),
            **options,
        )
        found.append((history.history, one.state_dict()))
    (expected, parameters), (history, others) = found
    np.testing.assert_equal(history, expected)
    for name, array in parameters.items():
        assert_same_bits(others[name], array, name)


def test_a_list_is_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its batches are all there."""
    from recurra.objective.pieces import Segment

    copies = []
    real: Callable[[Segment], Segment] = Segment.own
    monkeypatch.setattr(Segment, "own", lambda self: copies.append(1) or real(self))
    for x, count in ((list(batches(False)), 0), (lambda epoch: batches(True), 4)):  # 2 of 3, 2 of 3, and the last one
        copies.clear()
        model().fit(x, loss=rc.losses.CrossEntropy(), optimizer=rc.optim.SGD(0.1), accumulate=3, verbose=0)
        assert len(copies) - (count > 0) == count


def test_predict_keeps_every_batch() -> None:
    expected, found = (model().predict(lambda epoch, reuse=reuse: batches(reuse)) for reuse in (False, True))
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert_same_bits(one, other, "y")


@pytest.mark.filterwarnings("ignore:find_lr")
def test_evaluate_and_the_rate_finder_see_every_batch() -> None:
    for look in (
        lambda reuse: model().evaluate(
            batches(reuse), loss=rc.losses.CrossEntropy(), weighted_metrics=[rc.metrics.AUC()]
        ),
        lambda reuse: rc.optim.find_lr(
            model(),
            lambda epoch: batches(reuse),
            None,
            loss=rc.losses.CrossEntropy(),
            optimizer=rc.optim.SGD(0.1),
            steps=20,
        ).losses.tolist(),
    ):
        assert look(True) == look(False)
