"""Weights of rows and steps multiply terms, gradients and counts; what has none is not read. Counts without
predictions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import test_ctc
from test_losses import IGNORED, KINDS, QUANTILES, Kind, by_torch, class_weights, drawn

import recurra as rc
from agreement import assert_same_bits
from array_types import DTYPES, Array
from single_thread import central_difference

pytestmark = pytest.mark.every_isa

LENGTHS = np.array([4, 0, 2, 3])
SHAPE = (4, 4, 5)
ROWS = np.array([0.5, 3.0, 0.0, 1.25])
STEPS = np.random.default_rng(0).integers(0, 5, (4, 4)) / 4.0  # 0 among them
WEIGHTS = {"rows": ROWS, "steps": STEPS, "integers": np.array([2, 0, 1, 3]), "float32": STEPS.astype(np.float32)}
each_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def of_steps(weights: Array) -> Array:
    """(N, T)."""
    return np.broadcast_to(weights.reshape(4, -1), (4, 4)).astype(np.float64)


def sum_of(kind: Kind, x: Array, t: Array) -> float:
    return float(kind.specified(x, t)) if kind.specified else float(by_torch(kind, x, t, "float64")[0])


def one_step(array: Array, place: tuple[int, int]) -> Array:
    return np.ascontiguousarray(array[place][None, None])


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
@each_kind
def test_each_step_is_multiplied(kind: Kind, weights: Array) -> None:
    x, t = drawn(kind, SHAPE)
    x = x.astype(np.float64)
    value = kind.ours(x, t, LENGTHS, weights=weights)
    valid = np.arange(4) < LENGTHS[:, None]
    total = count = 0.0
    plain = kind.ours(x, t, LENGTHS).gradient
    for place in zip(*np.nonzero(valid), strict=True):
        own = of_steps(weights)[place]
        total += own * sum_of(kind, one_step(x, place), one_step(t, place))
        count += own * kind.count(one_step(x, place), one_step(t, place))
        np.testing.assert_allclose(value.gradient[place], own * plain[place], rtol=1e-15)
    assert type(value.count) is float
    assert value.count == pytest.approx(count, rel=1e-14)
    assert value.sum == pytest.approx(total, rel=1e-12)
    assert not value.gradient[~valid].any()


@each_kind
def test_central_differences(kind: Kind) -> None:
    x, t = drawn(kind, SHAPE)
    x = x.astype(np.float64)
    gradient = kind.ours(x, t, LENGTHS, weights=STEPS).gradient
    entries = np.arange(x.size)
    expected = central_difference(
        lambda: float(kind.ours(x, t, LENGTHS, weights=STEPS, gradient=False).sum), x, entries
    )
    np.testing.assert_allclose(gradient.ravel(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@each_kind
def test_a_weight_is_a_number_of_repetitions(kind: Kind, dtype: str) -> None:
    x, t = drawn(kind, SHAPE)
    x = x.astype(dtype)
    times = np.array([2, 1, 0, 1])
    value = kind.ours(x, t, LENGTHS, weights=times)
    again = np.repeat(np.arange(4), times)
    repeated = kind.ours(x[again], t[again], LENGTHS[again])
    assert value.count == repeated.count
    assert value.sum == pytest.approx(repeated.sum, rel=1e-15)
    assert_same_bits(value.gradient[0], 2 * repeated.gradient[0])
    assert_same_bits(value.gradient[3], repeated.gradient[-1])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(4,), (4, 4)], ids=str)
@each_kind
def test_weights_of_1_change_no_bit(kind: Kind, shape: tuple[int, ...], dtype: str) -> None:
    x, t = drawn(kind, SHAPE)
    x = x.astype(dtype)
    plain, value = kind.ours(x, t, LENGTHS), kind.ours(x, t, LENGTHS, weights=np.ones(shape))
    assert (value.sum, value.count) == (plain.sum, plain.count)
    assert_same_bits(value.gradient, plain.gradient)


@each_kind
def test_what_has_no_weight_is_not_read(kind: Kind) -> None:
    x, t = drawn(kind, SHAPE)
    valid = np.arange(4) < LENGTHS[:, None]
    expected = kind.ours(x, t, LENGTHS, weights=STEPS)
    unused = ~valid | (STEPS == 0)
    x[unused], weights = np.nan, np.where(valid, STEPS, np.nan)
    t[unused] = -77 if t.dtype.kind == "i" else np.nan
    value = kind.ours(x, t, LENGTHS, weights=weights)
    assert (value.sum, value.count) == (expected.sum, expected.count)
    assert_same_bits(value.gradient, expected.gradient)
    assert not value.gradient[unused].any()


@each_kind
def test_without_a_time_axis(kind: Kind) -> None:
    x, t = drawn(kind, (4, 5))
    value = kind.ours(x, t, weights=ROWS)
    steps = kind.ours(x[:, None], t[:, None], weights=ROWS)
    assert (value.sum, value.count) == (steps.sum, steps.count)
    assert_same_bits(value.gradient, steps.gradient[:, 0])


@each_kind
def test_threads_change_no_bit(kind: Kind) -> None:
    x, t = drawn(kind, (64, 50, 67))
    weights = np.random.default_rng(0).random((64, 50))
    results = []
    for threads in (1, 3):
        rc.set_num_threads(threads)
        results.append(kind.ours(x, t, weights=weights))
    assert results[0].sum == results[1].sum
    assert_same_bits(results[0].gradient, results[1].gradient)


# CTC: a weight for each row.


def test_rows_of_ctc() -> None:
    x, targets, lengths = test_ctc.problem(most=6)
    weights = np.array([0.5, 2.0, 0.0, 1.0, 3.0, 0.25, 1.0])
    for dtype in DTYPES:
        own = x.astype(dtype)
        value = test_ctc.LOSS(own, targets, lengths, weights=weights)
        parts = [
            test_ctc.LOSS(own[row : row + 1], targets[row : row + 1], lengths[row : row + 1])
            for row in range(len(weights))
        ]
        assert value.sum == pytest.approx(sum(w * one.sum for w, one in zip(weights, parts, strict=True)), rel=1e-15)
        assert value.count == sum(w * one.count for w, one in zip(weights, parts, strict=True))
        for row, (w, one) in enumerate(zip(weights.astype(dtype), parts, strict=True)):
            expected = w * test_ctc.gradient_of(one)[0] if w else np.zeros_like(own[row])
            assert_same_bits(test_ctc.gradient_of(value)[row], expected)
        same = test_ctc.LOSS(own, targets, lengths, weights=np.ones(7))
        plain = test_ctc.LOSS(own, targets, lengths)
        assert (same.sum, same.count) == (plain.sum, plain.count)
        assert_same_bits(same.gradient, plain.gradient)


def test_central_differences_of_ctc() -> None:
    x, targets, lengths = test_ctc.problem(4, 9, 4, 3, seed=3)
    x, weights = x.astype(np.float64), np.array([0.5, 2.0, 0.0, 1.0])
    gradient = test_ctc.gradient_of(test_ctc.LOSS(x, targets, lengths, weights=weights))
    valid = np.flatnonzero(np.isfinite(x))
    expected = central_difference(lambda: test_ctc.LOSS(x, targets, lengths, weights=weights).sum, x, valid)
    np.testing.assert_allclose(gradient.ravel()[valid], expected, rtol=0, atol=1e-6)


def test_a_row_of_ctc_without_weight_is_not_read() -> None:
    x = np.random.default_rng(0).standard_normal((2, 6, 4)).astype(np.float32)
    strict = rc.losses.CTC(test_ctc.BLANK, infeasible="error")
    expected = strict(x[:1], [[0, 1]])
    x[1] = np.nan
    for other in ([9, 1], [0] * 7):  # no label of that number; too many
        value = strict(x, [[0, 1], other], weights=[1.0, 0.0])
        assert (value.sum, value.count) == (expected.sum, 1.0)
        assert_same_bits(test_ctc.gradient_of(value)[0], test_ctc.gradient_of(expected)[0])
        assert not test_ctc.gradient_of(value)[1].any()


# Counts.

COUNTED: dict[str, Any] = {
    "plain": (rc.losses.CrossEntropy(), "cross entropy"),
    "ignored": (rc.losses.CrossEntropy(ignore_index=IGNORED), "ignored"),
    "class weights": (rc.losses.CrossEntropy(class_weights=np.linspace(0.1, 0.7, 5)), "cross entropy"),
    "class weights, ignored": (
        rc.losses.CrossEntropy(0.1, IGNORED, class_weights(5)),
        "weighted, smoothed and ignored",
    ),
    "quantile": (rc.losses.Quantile(QUANTILES), "quantile"),
    **{
        name: (kind.ours, name)
        for name, kind in KINDS.items()
        if isinstance(kind.ours, rc.losses.Loss) and name not in ("cross entropy", "quantile")
    },
}


@pytest.mark.parametrize("weights", [None, ROWS, STEPS], ids=["none", "rows", "steps"])
@pytest.mark.parametrize("lengths", [None, LENGTHS, np.zeros(4, int)], ids=["whole", "ragged", "empty"])
@pytest.mark.parametrize(("loss", "kind"), COUNTED.values(), ids=COUNTED)
def test_the_count_needs_no_predictions(loss: Any, kind: str, lengths: Any, weights: Any) -> None:
    x, t = drawn(KINDS[kind], SHAPE)
    for dtype in DTYPES:
        value = loss(x.astype(dtype), t, lengths, weights=weights)
        count = loss.count(t, x.shape, lengths, weights)
        assert count == value.count
        assert type(count) is type(value.count)
    vectors = loss(x[:, 0], t[:, 0], weights=None if weights is None else ROWS)
    assert loss.count(t[:, 0], x[:, 0].shape, None, None if weights is None else ROWS) == vectors.count


def test_every_loss_has_its_count_tested() -> None:
    with_own_tests = {rc.losses.CTC, rc.losses.CRF, rc.losses.CustomLoss, rc.losses.Function}
    assert {type(loss) for loss, _ in COUNTED.values()} | with_own_tests == {
        one
        for one in vars(rc.losses).values()
        if isinstance(one, type) and issubclass(one, rc.losses.Loss) and one is not rc.losses.Loss
    }


@pytest.mark.parametrize("weights", [None, np.array([0.5, 2.0, 0.0, 1.0, 3.0, 0.25, 1.0])], ids=["none", "rows"])
def test_the_count_of_ctc(weights: Any) -> None:
    """Without the infeasible rows; the policy is kept."""
    found = set()
    for seed in range(4):
        x, targets, lengths = test_ctc.problem(seed=seed, most=20)
        count = test_ctc.LOSS.count(targets, x.shape, lengths, weights)
        found.add(count)
        assert count == test_ctc.LOSS(x, targets, lengths, weights=weights).count
        assert test_ctc.LOSS.count(targets, x.shape) == test_ctc.LOSS(np.nan_to_num(x), targets).count
        strict = rc.losses.CTC(test_ctc.BLANK, infeasible="error")
        with pytest.raises(ValueError, match=r"^CTC.count: got.*row \d.*expected.*infeasible='ignore'"):
            strict.count(targets, x.shape, lengths, weights)
    assert len(found) > 1


def test_the_count_checks_its_arguments() -> None:
    with pytest.raises(ValueError, match=r"^CrossEntropy.count: got labels from 0 to 5 in targets, expected 0 to 4"):
        rc.losses.CrossEntropy().count(np.array([0, 5]), (2, 5))
    with pytest.raises(ValueError, match=r"^L1.count: got predictions of shape \(2,\), expected"):
        rc.losses.L1().count(np.zeros(2), (2,))


X, T = np.zeros((2, 3, 4), np.float32), np.zeros((2, 3), int)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0, -1.0], r"got weights\[1\] = -1, expected finite"),
        ([[1.0, 1.0, np.nan]] * 2, r"got weights\[0, 2\] = nan, expected finite"),
        ([np.inf, 1.0], r"got weights\[0\] = inf, expected finite"),
        ([1e39, 1.0], r"got weights\[0\] = 1e\+39, expected finite"),
        (
            [1.0],
            r"got weights of shape \(1,\), expected \(2,\) or \(2, 3\); give a weight for each row, or for each step",
        ),
        (np.ones((2, 1)), r"got weights of shape \(2, 1\), expected"),
        (1.0, r"got weights of shape \(\), expected"),
        (["a", "b"], r"got text in weights, expected numbers"),
        ({"a": 1}, r"got weights"),
    ],
)
def test_wrong_weights_are_explained(weights: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=rf"^CrossEntropy: {message}"):
        rc.losses.CrossEntropy()(X, T, weights=weights)


def test_ctc_has_no_weights_of_steps() -> None:
    with pytest.raises(
        ValueError, match=r"^CTC: got weights of shape \(2, 3\), expected \(2,\); give a weight for each row$"
    ):
        rc.losses.CTC()(X, [[1], [1]], weights=np.ones((2, 3)))
