"""CTC decoding: against all paths of tiny rows; rows, padding and threads change nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import loss_reference
import recurra as rc
from array_types import DTYPES, Array
from recurra.decoding.ctc import Hypothesis

pytestmark = pytest.mark.every_isa


def logits(*shape: int, seed: int = 0, dtype: str = "float64") -> Array:
    return 2 * np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(steps=st.integers(0, 5), classes=st.integers(1, 4), seed=st.integers(0, 2**32 - 1), data=st.data())
def test_a_wide_beam_is_exact(steps: int, classes: int, seed: int, data: Any) -> None:
    """All label sequences that have a path, the most probable first."""
    x, blank = logits(1, steps, classes, seed=seed), data.draw(st.integers(0, classes - 1))
    known = sorted(((-p, labels) for labels, p in loss_reference.ctc_by_paths(x[0], blank).items()))
    (found,) = rc.ctc.beam_search(x, beam_size=2000, blank=blank, n_best=2000)
    assert [tuple(one.labels) for one in found] == [labels for _, labels in known]
    np.testing.assert_allclose([one.log_prob for one in found], [-p for p, _ in known], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
def test_probabilities_are_those_of_the_loss(dtype: str) -> None:
    x = logits(3, 12, 4, dtype=dtype)
    for row, hypotheses in enumerate(rc.ctc.beam_search(x, beam_size=3000, n_best=5)):
        assert len(hypotheses) == 5
        for one in hypotheses:
            loss = rc.losses.CTC()(x[row : row + 1], [one.labels], gradient=False)
            assert one.log_prob == pytest.approx(-loss.sum, rel=1e-5)
            assert one.labels.dtype == np.int64


def test_a_wider_beam_is_no_worse() -> None:
    """A narrow one finds less than is there, and its probabilities are at most the true ones."""
    x = logits(4, 60, 12)
    best = [[rows[0] for rows in rc.ctc.beam_search(x, beam_size=size)] for size in (1, 4, 64)]
    for row in range(4):
        narrow, some, wide = (found[row].log_prob for found in best)
        assert narrow < some < wide
        for found in best:
            true = -rc.losses.CTC()(x[row : row + 1], [found[row].labels], gradient=False).sum
            assert found[row].log_prob <= true + 1e-9


def test_greedy_takes_the_most_probable_path() -> None:
    x = logits(5, 9, 4, seed=3)
    x[1] = 0.0  # equal logits: the first class
    lengths = np.array([9, 4, 0, 5, 1])
    for row, (found, steps) in enumerate(zip(rc.ctc.greedy(x, lengths, blank=1), lengths, strict=True)):
        path = x[row, :steps].argmax(-1)
        assert tuple(found.labels) == loss_reference.collapse(tuple(path), 1)
        expected = loss_reference.log_softmax(x[row, :steps]).max(-1).sum()
        assert found.log_prob == pytest.approx(expected, rel=1e-14)


def decoders(x: Array, lengths: Any = None) -> list[list[Hypothesis]]:
    found = rc.ctc.beam_search(x, lengths, beam_size=7, n_best=3)
    return [[*rows, one] for rows, one in zip(found, rc.ctc.greedy(x, lengths), strict=True)]


def same(one: list[Hypothesis], other: list[Hypothesis]) -> bool:
    return [(*a.labels, a.log_prob) for a in one] == [(*b.labels, b.log_prob) for b in other]


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_threads_and_padding_change_no_bit(dtype: str) -> None:
    x, lengths = logits(30, 50, 20, dtype=dtype), np.arange(30) * 5 % 51
    x[np.arange(50) >= lengths[:, None]] = np.nan
    rc.set_num_threads(1)
    expected = decoders(x, lengths)
    rc.set_num_threads(2)
    assert all(map(same, decoders(x, lengths), expected))
    alone = [decoders(x[row : row + 1, :steps])[0] for row, steps in enumerate(lengths)]
    assert all(map(same, alone, expected))


def test_equal_probabilities_are_ordered() -> None:
    """By the labels, lower ones first; what is kept does not change from run to run."""
    (found,) = rc.ctc.beam_search(np.zeros((1, 2, 4)), beam_size=100, n_best=100)
    keys = [(-one.log_prob, tuple(one.labels)) for one in found]
    assert keys == sorted(keys)
    assert [tuple(one.labels) for one in found[:4]] == [(1,), (2,), (3,), ()]
    (few,) = rc.ctc.beam_search(np.zeros((1, 2, 4)), beam_size=2, n_best=2)
    assert [tuple(one.labels) for one in few] == [(1,), ()]


def test_what_is_impossible_is_not_found() -> None:
    x = np.full((1, 2, 3), -np.inf)
    x[0, :, 1] = 5.0
    (found,) = rc.ctc.beam_search(x, beam_size=9, n_best=9)
    assert [(tuple(one.labels), one.log_prob) for one in found] == [((1,), 0.0)]


def test_no_rows_and_no_steps() -> None:
    assert rc.ctc.greedy(np.zeros((0, 3, 4))) == []
    assert rc.ctc.beam_search(np.zeros((0, 3, 4))) == []
    for found in (rc.ctc.greedy(np.zeros((1, 0, 4))), rc.ctc.beam_search(np.zeros((1, 0, 4)))[0]):
        assert [(tuple(one.labels), one.log_prob) for one in found] == [((), 0.0)]


X = np.zeros((2, 5, 4), np.float32)
BAD: list[tuple[Any, dict[str, Any]]] = [
    (X[0], {}),
    (X.astype(int), {}),
    (X[..., :0], {}),
    (X, {"lengths": [5, 6]}),
    (X, {"lengths": [5]}),
    (X, {"blank": 4}),
    (X, {"blank": -1}),
    (np.full_like(X, np.nan), {}),
    (np.full_like(X, np.inf), {}),
    (np.full_like(X, -np.inf), {}),
]


@pytest.mark.parametrize(("x", "options"), [*BAD, (X, {"beam_size": 0}), (X, {"n_best": 17}), (X, {"n_best": 0})])
def test_beam_search_explains_what_does_not_fit(x: Any, options: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError), match=r"^ctc.beam_search: got.*expected"):
        rc.ctc.beam_search(x, **options)


@pytest.mark.parametrize(("x", "options"), BAD)
def test_greedy_explains_what_does_not_fit(x: Any, options: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError), match=r"^ctc.greedy: got.*expected"):
        rc.ctc.greedy(x, **options)


def test_probabilities_are_told() -> None:
    logits = np.random.default_rng(0).standard_normal((2, 6, 4))
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    for decode in (rc.ctc.greedy, rc.ctc.beam_search):
        with pytest.warns(RuntimeWarning, match=r"sum to 1 at each step.*write np\.log\(probabilities\)"):
            decode(p)
    found = rc.ctc.greedy(np.log(p))
    for one, other in zip(found, rc.ctc.greedy(logits), strict=True):
        np.testing.assert_array_equal(one.labels, other.labels)
        np.testing.assert_allclose(one.log_prob, other.log_prob)


@pytest.mark.filterwarnings("error")
def test_other_logits_are_not_doubted() -> None:
    rc.ctc.greedy(np.eye(3)[None])
    rc.ctc.beam_search(np.log(np.full((1, 2, 2), 0.5)))
