"""The CRF: value, gradients, decoding and marginals against all taggings; bits, large scores, weights, interrupts."""

from __future__ import annotations

import copy
import itertools
import pickle
import signal
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import recurra as rc
from agreement import assert_same_bits
from array_types import DTYPES, Array
from crf_reference import Chain
from single_thread import central_difference

TAGS = 4


def layer(tags: int = TAGS, dtype: str = "float64", seed: int = 0, scale: float = 1.0, **options: Any) -> rc.CRF:
    crf = rc.CRF(tags, dtype=dtype, **options)
    rng = np.random.default_rng(seed)
    crf.load_state_dict(
        {name: scale * rng.standard_normal(one.shape).astype(dtype) for name, one in crf.params.items()}
    )
    return crf


def chain_of(crf: rc.CRF) -> Chain:
    parts = [np.array(crf.params[name], np.float64) for name in ("transitions", "start_transitions", "end_transitions")]
    for part, allowed in zip(parts, crf.constraints or [], strict=False):
        part[~allowed] = -np.inf
    return Chain(*parts)


def problem(
    rows: int = 6, steps: int = 7, tags: int = TAGS, dtype: str = "float64", seed: int = 0, scale: float = 1.0
) -> tuple[Array, Array, Array]:
    """Scores, NaN past the lengths; tags, out of range past them; lengths, one of them 0."""
    rng = np.random.default_rng(seed)
    x = scale * rng.standard_normal((rows, steps, tags)).astype(dtype)
    lengths = rng.integers(0, steps + 1, rows)
    lengths[0], lengths[-1] = steps, 0
    y = rng.integers(0, tags, (rows, steps))
    padding = np.arange(steps) >= lengths[:, None]
    x[padding], y[padding] = np.nan, 99
    return x, y, lengths


def specified(crf: rc.CRF, x: Array, y: Array, lengths: Array, ignored: int | None = None) -> Array:
    """Each row's loss."""
    chain = chain_of(crf)
    return np.array(
        [chain.loss(row[:n].astype(np.float64), tags[:n], ignored) for row, tags, n in zip(x, y, lengths, strict=True)]
    )


def both(value: rc.losses.LossValue) -> tuple[Array, Array]:
    """The gradients of the scores and, flat, of the parameters."""
    assert value.gradient is not None
    assert value.gradient.parameters is not None  # type: ignore[attr-defined]
    return np.asarray(value.gradient), value.gradient.parameters[1]  # type: ignore[attr-defined]


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    steps=st.integers(0, 5), tags=st.integers(1, 4), seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([0.1, 1, 50])
)
def test_all_taggings_of_tiny_rows(steps: int, tags: int, seed: int, scale: float) -> None:
    """Loss, best tagging and marginals are those of the enumeration."""
    crf = layer(tags, seed=seed, scale=scale)
    rng = np.random.default_rng(seed)
    x, y = scale * rng.standard_normal((1, steps, tags)), rng.integers(0, tags, (1, steps))
    scores = chain_of(crf).taggings(x[0])
    total = np.logaddexp.reduce(list(scores.values()))
    assert rc.losses.CRF(crf)(x, y).sum == pytest.approx(total - scores[tuple(y[0])], rel=1e-12, abs=1e-11 * scale)
    best = max(scores, key=lambda one: scores[one])
    assert tuple(crf.viterbi(x)[0]) == best
    marginals = np.zeros((steps, tags))
    for tagging, score in scores.items():
        marginals[np.arange(steps), tagging] += np.exp(score - total)
    np.testing.assert_allclose(crf.marginals(x)[0], marginals, rtol=0, atol=1e-12 * (1 + scale))


@pytest.mark.parametrize("ignored", [None, -100, 2])
@pytest.mark.parametrize("size", [(6, 7, 4), (5, 9, 1), (4, 3, 17), (3, 40, 60)], ids=str)
def test_values(size: tuple[int, int, int], ignored: int | None) -> None:
    rows, steps, tags = size
    x, y, lengths = problem(rows, steps, tags)
    if ignored == 2 and tags == 1:
        pytest.skip("there is no tag 2")
    if ignored == -100:
        y[np.random.default_rng(3).random(y.shape) < 0.4] = ignored
    for dtype, tolerance in (("float64", 1e-12), ("float32", 1e-6)):
        crf = layer(tags, dtype)
        value = rc.losses.CRF(crf, ignored)(x.astype(dtype), y, lengths)
        expected = specified(crf, x.astype(dtype), y, lengths, ignored)
        assert value.sum == pytest.approx(expected.sum(), rel=1e-11, abs=1e-11)
        valid = np.arange(steps) < lengths[:, None]
        assert value.count == (valid & (y != ignored)).sum()
        assert rc.losses.CRF(crf, ignored).count(y, x.shape, lengths) == value.count
        known = both(value)[0]
        assert known.dtype == dtype
        assert not known[~valid].any()
        reference_value = rc.losses.CRF(layer(tags), ignored)(x, y, lengths)
        np.testing.assert_allclose(known, both(reference_value)[0], rtol=0, atol=30 * tolerance)


@pytest.mark.parametrize("ignored", [None, 3])
@pytest.mark.parametrize("weighted", [False, True])
def test_central_differences(ignored: int | None, weighted: bool) -> None:
    """Of scores, transitions, first and last scores, the last three as a tape's backward adds them."""
    crf = layer(5)
    x, y, lengths = problem(tags=5, seed=4)
    weights = np.array([0.5, 2.0, 0.0, 1.0, 3.0, 1.0]) if weighted else None
    if weights is not None:
        y[2], x[2] = -7, np.nan  # what weighs nothing is not read
    loss = rc.losses.CRF(crf, ignored)

    def total() -> float:
        return loss(x, y, lengths, weights=weights, gradient=False).sum

    value = loss(x, y, lengths, weights=weights)
    valid = np.flatnonzero(np.isfinite(x))
    expected = central_difference(total, x, valid)
    np.testing.assert_allclose(both(value)[0].ravel()[valid], expected, rtol=0, atol=1e-7)
    tape = crf.record(np.nan_to_num(x), lengths=lengths)
    crf.zero_grad()
    tape.backward(loss(tape.y, y, lengths, weights=weights).gradient)
    for name in crf.params:
        array = crf.params[name].copy()

        def moved(name: str = name, array: Array = array) -> float:
            crf.params[name] = array
            return total()

        slopes = central_difference(moved, array, np.arange(array.size)).reshape(array.shape)
        moved()
        np.testing.assert_allclose(crf.grads[name], slopes, rtol=0, atol=1e-7)


def test_without_transitions_it_is_cross_entropy() -> None:
    crf = rc.CRF(TAGS, dtype="float64")
    crf.load_state_dict({name: np.zeros_like(one) for name, one in crf.params.items()})
    x, y, lengths = problem(rows=9, steps=30)
    y[1, 3:5] = -1
    weights = np.arange(9.0)
    own = rc.losses.CRF(crf, -1)(x, y, lengths, weights=weights)
    other = rc.losses.CrossEntropy(ignore_index=-1)(x, y, lengths, weights=weights)
    assert own.sum == pytest.approx(other.sum, rel=1e-12)
    assert own.count == other.count
    assert other.gradient is not None
    np.testing.assert_allclose(both(own)[0], other.gradient, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
def test_bits_of_rows_threads_padding(dtype: str) -> None:
    crf = layer(40, dtype)
    x, y, lengths = problem(23, 90, 40, dtype)
    y[3, :40] = -1
    loss = rc.losses.CRF(crf, -1)
    found = []
    for threads in (1, 2, 3, 7):
        rc.set_num_threads(threads)
        found.append((*both(loss(x, y, lengths)), crf.viterbi(x, lengths), crf.marginals(x, lengths)))
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            assert_same_bits(one, two)
    gradient, _own, tags, marginals = found[0]
    longer = np.pad(x, ((0, 0), (0, 9), (0, 0)), constant_values=np.nan)
    padded = loss(longer, np.pad(y, ((0, 0), (0, 9))), lengths)
    assert_same_bits(both(padded)[0][:, :90], gradient)
    assert_same_bits(both(padded)[1], both(loss(x, y, lengths))[1])
    order = np.random.default_rng(1).permutation(23)
    assert_same_bits(both(loss(x[order], y[order], lengths[order]))[0], gradient[order])
    for row in range(0, 23, 5):
        n = lengths[row]
        alone = loss(x[row : row + 1, :n], y[row : row + 1, :n])
        assert_same_bits(both(alone)[0][0], gradient[row, :n])
        assert_same_bits(crf.viterbi(x[row : row + 1, :n])[0], tags[row, :n])
        assert_same_bits(crf.marginals(x[row : row + 1, :n])[0], marginals[row, :n])
    strided = np.zeros((46, 90, 80), dtype)
    strided[::2, :, :40] = x
    assert_same_bits(both(loss(strided[::2, :, :40], y, lengths))[0], gradient)


@pytest.mark.parametrize("rows", [0, 1, 2, 5])
@pytest.mark.parametrize("threads", [1, 3, 16])
def test_few_rows_and_none(rows: int, threads: int) -> None:
    rc.set_num_threads(threads)
    crf = layer(60)
    for steps in (0, 1, 300):
        x, y = np.zeros((rows, steps, 60)), np.zeros((rows, steps), np.int64)
        for lengths in (None, np.zeros(rows, np.int64), np.minimum(np.arange(rows), steps)):
            value = rc.losses.CRF(crf)(x, y, lengths)
            assert both(value)[0].shape == x.shape
            valid = np.full(rows, steps) if lengths is None else lengths
            assert value.sum == pytest.approx(specified(crf, x, y, valid).sum(), rel=1e-12)
            assert crf.viterbi(x, lengths).shape == (rows, steps)
            assert np.isfinite(crf.marginals(x, lengths)).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1e2, 1e4])
def test_large_scores(dtype: str, scale: float) -> None:
    """In logarithms nothing is lost: scores and transitions of thousands, beside soft constraints of -1e4 and -1e9."""
    crf = layer(6, dtype, scale=scale)
    with crf.edit() as params:
        params["transitions"][0, 1:4] = -1e4
        params["transitions"][2, 3] = -1e9
    x, y, lengths = problem(8, 25, 6, dtype, scale=scale)
    value = rc.losses.CRF(crf)(x, y, lengths)
    assert value.sum == pytest.approx(specified(crf, x, y, lengths).sum(), rel=1e-12)
    gradient, own = both(value)
    assert np.isfinite(gradient).all()
    assert np.isfinite(own).all()
    # Per step the probabilities add up to 1, and so do the pairs': with the targets taken away, to 0.
    np.testing.assert_allclose(gradient.sum(-1), 0, atol=1e-5)
    np.testing.assert_allclose(own[:36].sum(), 0, atol=1e-3)
    np.testing.assert_allclose(crf.marginals(x, lengths).sum(-1), np.arange(25) < lengths[:, None], atol=1e-6)
    for row, n in enumerate(lengths):
        best = crf.viterbi(x[row : row + 1, :n])[0]
        pairs = list(itertools.pairwise(best))
        assert (2, 3) not in pairs


def test_a_tag_that_only_an_improbable_one_allows() -> None:
    """Its sum underflows beside the others' 2000 nats more, and is wanted two steps later."""
    crf = rc.CRF(
        3, constraints=([[True, False, False], [True, True, True], [True, True, True]], None, None), dtype="float64"
    )
    x = np.zeros((1, 4, 3))
    x[0, 0] = [2000, 0, -100]
    x[0, 1:] = [-np.inf, 0, 1]
    expected = specified(crf, x, np.array([[1, 2, 2, 1]]), np.array([4]))
    value = rc.losses.CRF(crf)(x, [[1, 2, 2, 1]])
    assert value.sum == pytest.approx(expected[0], rel=1e-12)
    assert crf.viterbi(x).tolist()[0][0] == 1
    gradient, own = both(value)
    np.testing.assert_allclose(gradient[0, 0], [0, np.exp(-0.0) - 1, 0], atol=1e-6)
    pairs = own[:9].reshape(3, 3)
    np.testing.assert_allclose(pairs.sum(), 0, atol=1e-12)
    np.testing.assert_allclose(pairs.sum(1), gradient[0, :3].sum(0), atol=1e-12)
    np.testing.assert_allclose(pairs.sum(0), gradient[0, 1:].sum(0), atol=1e-12)


def test_twenty_thousand_steps() -> None:
    """The loss of a long row is that of its pieces where the chain is cut by a tag that is certain."""
    tags, steps = 3, 20_000
    crf = layer(tags, scale=2.0)
    rng = np.random.default_rng(5)
    x = 3 * rng.standard_normal((1, steps, tags))
    y = rng.integers(0, tags, (1, steps))
    value = rc.losses.CRF(crf)(x, y)
    chain = chain_of(crf)
    alpha, total = chain.start + x[0, 0], 0.0
    for step in x[0, 1:]:  # in scaled probabilities, as a different way
        most = alpha.max()
        alpha, total = np.log(np.exp(alpha - most) @ np.exp(chain.transitions)) + step, total + most
    expected = total + np.logaddexp.reduce(alpha + chain.end) - chain.score(x[0], y[0])
    assert value.sum == pytest.approx(expected, rel=1e-10)
    gradient, own = both(value)
    np.testing.assert_allclose(gradient.sum(-1), 0, atol=1e-12)
    np.testing.assert_allclose(own[: tags * tags].reshape(tags, tags).sum(0), gradient[0, 1:].sum(0), atol=1e-8)
    assert crf.viterbi(x).shape == (1, steps)


def test_constraints_hold_in_loss_decoding_and_marginals() -> None:
    names = ["O", "B-A", "I-A", "B-B", "I-B"]
    crf = rc.CRF.for_tags(names, dtype="float64", seed=1)
    x = 5 * np.random.default_rng(0).standard_normal((20, 12, 5))
    tags = crf.viterbi(x)
    for row in tags:
        assert not names[row[0]].startswith("I")
        for one, two in itertools.pairwise(row):
            if names[two].startswith("I"):
                assert names[one][1:] == names[two][1:]
    value = rc.losses.CRF(crf)(x, tags)
    assert value.sum == pytest.approx(specified(crf, x, tags, np.full(20, 12)).sum(), rel=1e-12)
    assert (crf.marginals(x)[:, 0, [2, 4]] == 0).all()
    forbidden = ~np.concatenate([part.ravel() for part in crf.constraints or ()])
    assert not both(value)[1][forbidden].any()
    wrong = tags.copy()
    wrong[3, 4:6] = (0, 2)
    with pytest.raises(ValueError, match=r"row 3 of targets.*0 before 2 at step 4.*constraints"):
        rc.losses.CRF(crf)(x, wrong)
    wrong[3] = 2
    with pytest.raises(ValueError, match=r"row 3 of targets, which begins with the tag 2"):
        rc.losses.CRF(crf)(x, wrong)


@pytest.mark.parametrize(("scheme", "last", "single"), [("BIOES", "E", "S"), ("BILOU", "L", "U")])
def test_schemes_with_ends(scheme: str, last: str, single: str) -> None:
    names = ["O", "B-A", "I-A", f"{last}-A", f"{single}-A", "B-B", f"{last}-B"]
    crf = rc.CRF.for_tags(names, scheme)
    assert crf.constraints is not None
    pairs, start, end = crf.constraints
    allowed = {(names[i], names[j]) for i, j in np.argwhere(pairs)}
    free = {"O", "B-A", "B-B", f"{single}-A"}
    closed = {"O", f"{single}-A", f"{last}-A", f"{last}-B"}
    expected = {(one, two) for one in closed for two in free}
    expected |= {("B-A", "I-A"), ("B-A", f"{last}-A"), ("I-A", "I-A"), ("I-A", f"{last}-A"), ("B-B", f"{last}-B")}
    assert allowed == expected
    assert {names[k] for k in np.flatnonzero(start)} == free
    assert {names[k] for k in np.flatnonzero(end)} == closed
    with pytest.raises(ValueError, match="'X-A'"):
        rc.CRF.for_tags(["O", "X-A"], scheme)


def test_impossible_rows_are_refused() -> None:
    crf = rc.CRF(2, constraints=(np.eye(2, dtype=bool), [True, False], [False, True]))
    for decode in (crf.viterbi, crf.marginals):
        with pytest.raises(ValueError, match="row 0, in which no tagging"):
            decode(np.zeros((2, 3, 2), np.float32))


def test_ties_take_the_lower_tag() -> None:
    crf = rc.CRF(3)
    crf.load_state_dict({name: np.zeros_like(one) for name, one in crf.params.items()})
    assert crf.viterbi(np.zeros((1, 5, 3), np.float32)).tolist() == [[0] * 5]


def test_lists_of_rows() -> None:
    crf = layer(dtype="float32")
    x, _y, lengths = problem(9, 8, dtype="float32")
    rows = [row[:n] for row, n in zip(x, lengths, strict=True)]
    for decode in (crf.viterbi, crf.marginals):
        for one, whole, n in zip(decode(rows), decode(x, lengths), lengths, strict=True):
            assert_same_bits(one, whole[:n])
    assert crf.viterbi([]) == []


def test_masks() -> None:
    """With padding before, between and behind, rows are decoded and trained as without it."""
    crf = layer(dtype="float32")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((6, 9, TAGS), np.float32)
    mask = rng.random((6, 9)) < 0.6
    mask[4] = False
    x[~mask] = np.nan
    tags, marginals = crf.viterbi(x, mask=mask), crf.marginals(x, mask=mask)
    for row, valid in enumerate(mask):
        assert_same_bits(tags[row, valid], crf.viterbi([x[row, valid]])[0])
        assert_same_bits(marginals[row, valid], crf.marginals([x[row, valid]])[0])
    assert not tags[~mask].any()
    assert not marginals[~mask].any()
    y = rng.integers(0, TAGS, (6, 9))
    states = []
    for data in ({"x": np.nan_to_num(x), "y": y, "mask": mask}, {"x": [r[m] for r, m in zip(x, mask, strict=True)]}):
        own = rc.CRF(TAGS, seed=1)
        model = rc.Sequential(rc.Linear(TAGS, TAGS, seed=2), own)
        data.setdefault("y", [r[m] for r, m in zip(y, mask, strict=True)])  # type: ignore[arg-type]
        model.fit(**data, loss=rc.losses.CRF(own), optimizer=rc.optim.SGD(0.1), shuffle=False, verbose=0)  # type: ignore[arg-type]
        states.append(model.state_dict())
    for name, one in states[0].items():
        np.testing.assert_allclose(one, states[1][name], rtol=0, atol=1e-6, err_msg=name)
    with pytest.raises(ValueError, match="both lengths and mask"):
        crf.viterbi(x, [1] * 6, mask)


def tagger(crf: rc.CRF, seed: int = 0) -> rc.Sequential:
    return rc.Sequential(rc.Embedding(8, 6), rc.GRU(6, 8), rc.Linear(8, crf.num_tags), crf, seed=seed)


def sentences(rows: int = 80) -> tuple[list[Array], list[Array]]:
    """Tag k + 1 follows tag k; the words tell only now and then which it is."""
    rng = np.random.default_rng(0)
    x, y = [], []
    for n in rng.integers(1, 15, rows):
        tags = (rng.integers(0, TAGS) + np.arange(n)) % TAGS
        x.append(np.where(rng.random(n) < 0.35, tags, 7))
        y.append(tags)
    return x, y


def test_fit_learns_the_transitions() -> None:
    """Where neighbours tell what a step alone does not; all that belongs to a model holds the transitions."""
    x, y = sentences()
    crf = rc.CRF(TAGS)
    model = rc.Sequential(rc.Embedding(8, 6), rc.Linear(6, TAGS), crf, seed=0)
    before = model.params["2.transitions"].copy()
    history = model.fit(
        x,
        y,
        loss=rc.losses.CRF(crf),
        optimizer=rc.optim.Adam(0.05),
        metrics=[rc.metrics.Viterbi(crf), "accuracy", rc.metrics.Viterbi(crf, "f1", name="f")],
        epochs=12,
        validation_split=0.2,
        seed=1,
        verbose=0,
    ).history
    assert history["loss"][-1] < 0.3 * history["loss"][0]
    assert history["val_viterbi_accuracy"][-1] > history["val_accuracy"][-1] + 0.2
    assert history["val_f"][-1] > 0.8
    learnt = model.params["2.transitions"]
    assert not np.array_equal(before, learnt)
    for tag in range(TAGS):
        assert learnt[tag].argmax() == (tag + 1) % TAGS
    tags = crf.viterbi(model.predict(x))
    right = np.concatenate(tags) == np.concatenate(y)
    assert right.mean() > 0.9


def test_constraints_in_fit() -> None:
    """Lists of rows, whose ends may follow each other, are checked row by row before anything is trained."""
    crf = rc.CRF.for_tags(["O", "B-A", "I-A", "B-B"])
    model = tagger(crf)
    x = [np.arange(3), np.arange(2), np.arange(4)]
    y = [np.array([0, 1, 2]), np.array([3, 0]), np.array([1, 2, 2, 3])]
    options: dict[str, Any] = {"loss": rc.losses.CRF(crf), "optimizer": rc.optim.SGD(0.1), "verbose": 0}
    model.fit(x, y, **options, weighted_metrics=[rc.metrics.Viterbi(crf)], sample_weight=np.array([1.0, 0.0, 2.0]))
    before = model.state_dict()
    for wrong in (np.array([3, 2]), np.array([2, 2])):
        with pytest.raises(ValueError, match=r"fit: got y\[1\], which .* the CRF's constraints allow"):
            model.fit(x, [y[0], wrong, y[2]], **options)
    for name, one in model.state_dict().items():
        assert_same_bits(one, before[name])
    model.fit(x, [y[0], np.array([3, 2]), y[2]], **options, sample_weight=np.array([1.0, 0.0, 2.0]))


def test_a_metric_of_weighted_rows() -> None:
    crf = layer(dtype="float32")
    x, y, lengths = problem(dtype="float32", rows=9)
    x[4], y[4] = np.nan, 99
    weights = np.where(np.arange(9) == 4, 0.0, np.arange(9) + 1.0)
    metric = rc.metrics.Viterbi(crf)
    metric.update(x, y, lengths, weights=weights)
    valid = np.where(weights > 0, lengths, 0)
    right = (crf.viterbi(x, valid) == y) & (np.arange(7) < valid[:, None])
    assert metric.result() == pytest.approx((right.sum(1) * weights).sum() / (valid * weights).sum())


def test_record_and_backward_are_those_of_fit() -> None:
    """A step by hand has the bits of fit's; a scaled gradient scales all parameters'."""
    _x, y, lengths = problem(5, 9, TAGS)
    tokens = np.random.default_rng(0).integers(0, 8, (5, 9))
    y[y == 99] = 0
    states = []
    for by_hand in (True, False):
        crf = rc.CRF(TAGS, seed=3)
        model, optimizer = tagger(crf), rc.optim.SGD(0.1)
        if by_hand:
            tape = model.record(tokens, lengths=lengths, input_grad=False)
            value = rc.losses.CRF(crf)(tape.y, y, lengths)
            tape.backward(value.gradient)
            optimizer.step(model, scale=1 / value.count)
        else:
            model.fit(tokens, y, lengths, loss=rc.losses.CRF(crf), optimizer=optimizer, shuffle=False, verbose=0)
        states.append(model.state_dict())
    for name, one in states[0].items():
        assert_same_bits(one, states[1][name], name)
    grads = []
    for factor in (1.0, 0.5):
        model.zero_grad()
        tape = model.record(tokens, lengths=lengths)
        gradient = rc.losses.CRF(crf)(tape.y, y, lengths).gradient
        assert gradient is not None
        tape.backward(factor * gradient if factor != 1 else gradient)
        grads.append({name: one.copy() for name, one in model.grads.items()})
    for name, one in grads[0].items():
        np.testing.assert_allclose(grads[1][name], 0.5 * one, rtol=1e-5, atol=1e-6)


def test_several_outputs_and_accumulation() -> None:
    """With weights of losses, and batches that add up: the same step as for one batch of them all."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((8, 6, 3)), rng.integers(0, TAGS, (8, 6))
    states = []
    for options in ({"batch_size": 8}, {"batch_size": 2, "accumulate": 4}):
        crf = rc.CRF(TAGS, dtype="float64", seed=3)
        given = rc.Input(features=3)
        hidden = rc.LSTM(3, 5, dtype="float64", seed=1)(given)
        scores = crf(rc.Linear(5, TAGS, dtype="float64", seed=2)(hidden))
        model = rc.Model(given, (scores, rc.Linear(5, 1, dtype="float64", seed=4)(hidden)))
        loss = (rc.losses.CRF(crf), rc.losses.MeanSquaredError())
        model.fit(
            x,
            (y, x[..., :1]),
            loss=loss,
            loss_weights=(0.25, 2.0),
            optimizer=rc.optim.SGD(1.0),
            shuffle=False,
            verbose=0,
            **options,  # type: ignore[arg-type]
        )
        states.append(model.state_dict())
    for name, one in states[0].items():
        np.testing.assert_allclose(states[1][name], one, rtol=0, atol=1e-12, err_msg=name)
    alone = rc.CRF(TAGS, dtype="float64", seed=3)
    assert not np.array_equal(states[0]["2.transitions"], alone.params["transitions"])


@pytest.mark.parametrize("constrained", [False, True])
def test_files_pickles_and_copies(tmp_path: Path, constrained: bool) -> None:
    crf = rc.CRF.for_tags(["O", "B-x", "I-x", "B-y"]) if constrained else rc.CRF(TAGS)
    model = tagger(crf)
    model.save(tmp_path / "model.safetensors")
    x = np.random.default_rng(0).integers(0, 8, (3, 7))
    expected = crf.viterbi(model(x)[0])
    for other in (rc.load(tmp_path / "model.safetensors"), pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert isinstance(other, rc.Sequential)
        last = other.layers[-1]
        assert isinstance(last, rc.CRF)
        assert_same_bits(last.viterbi(other(x)[0]), expected)
        assert (last.constraints is None) != constrained
        assert repr(last) == repr(crf)


def test_the_scores_pass_through() -> None:
    """In a stream, too, and in training; the gradient is refused once it has lost the transitions' part."""
    crf = layer(dtype="float32")
    x = np.random.default_rng(0).standard_normal((2, 5, TAGS), np.float32)
    assert_same_bits(crf(x)[0], x)
    stream = crf.stream(2)
    assert_same_bits(np.stack([stream.step(x[:, t]) for t in range(5)], 1), x)
    y = np.zeros((2, 5), np.int64)
    for change in (lambda g: g + 1, lambda g: g * np.ones(TAGS, np.float32), lambda g: g.copy(), lambda g: 1 / g):
        tape = crf.record(x)
        with (
            pytest.raises(ValueError, match=r"losses\.CRF, which has lost the gradient of the transitions"),
            np.errstate(all="ignore"),
        ):
            tape.backward(change(rc.losses.CRF(crf)(tape.y, y).gradient))
    crf.zero_grad()
    tape.backward(np.asarray(rc.losses.CRF(crf)(tape.y, y).gradient))
    assert not crf.grads["transitions"].any()
    gradient = rc.losses.CRF(crf)(x, y).gradient
    assert gradient is not None
    whole = both(rc.losses.CRF(crf)(x, y))[1]
    for scaled, factor in ((-gradient, -1), (gradient / 4, 0.25), (np.float32(2) * gradient, 2)):
        np.testing.assert_array_equal(scaled.parameters[1], factor * whole)  # type: ignore[attr-defined]
    gradient *= 2
    np.testing.assert_array_equal(gradient.parameters[1], 2 * whole)  # type: ignore[attr-defined]
    assert float(gradient.sum()) == pytest.approx(float(np.asarray(gradient).sum()))


def test_with_a_python_layer_and_a_budget() -> None:
    class Twice(rc.PythonLayer):
        stateless = True

        def forward(self, x: Array, *, lengths: Any, training: bool, rng: Any) -> tuple[Array, Any]:
            return 2 * x, None

        def backward(self, dy: Array, saved: Any) -> Array:
            return 2 * dy

    x = np.random.default_rng(0).standard_normal((3, 40, 5), np.float32)
    y = np.random.default_rng(0).integers(0, TAGS, (3, 40))
    crf = rc.CRF(TAGS, seed=2)
    model = rc.Sequential(rc.LSTM(5, 8), rc.Linear(8, TAGS), crf, Twice(), seed=0)
    tape = model.record(x)
    tape.backward(rc.losses.CRF(crf)(tape.y, y).gradient)
    assert model.grads["2.transitions"].any()
    native = rc.Sequential(rc.LSTM(5, 8), rc.Linear(8, TAGS), crf, seed=0)
    found = []
    for budget in (None, 33_600):
        native.zero_grad()
        tape = native.record(x, memory_budget=budget)
        if budget is not None:
            assert tape.nbytes <= budget
        tape.backward(rc.losses.CRF(crf)(tape.y, y).gradient)
        found.append({name: one.copy() for name, one in native.grads.items()})
    for name, one in found[0].items():
        assert_same_bits(one, found[1][name], name)


def test_diagnosis_and_the_guard() -> None:
    """They take the gradient apart, and find what is not finite in the transitions, too."""
    crf = rc.CRF(TAGS)
    model, loss = tagger(crf), rc.losses.CRF(crf)
    x, y = np.arange(8).reshape(1, 8), np.arange(8).reshape(1, 8) % TAGS
    grads = {name: one.copy() for name, one in model.grads.items()}
    assert rc.diagnose.gradient_flow(model, x, y, loss=loss).layers
    assert rc.diagnose.nonfinite(model, x, y, loss=loss) is None
    for name, one in model.grads.items():
        assert_same_bits(one, grads[name])
    with crf.edit() as params:
        params["transitions"][1, 2] = np.nan
    with pytest.raises(rc.NonFiniteError, match=r"transitions|CRF"):
        model.fit(x, y, loss=loss, optimizer=rc.optim.SGD(0.1), verbose=0)


def test_what_does_not_fit_is_refused() -> None:
    crf = rc.CRF(TAGS)
    loss = rc.losses.CRF(crf)
    x, y = np.zeros((2, 3, TAGS), np.float32), np.zeros((2, 3), np.int64)
    wrong: list[tuple[Any, str]] = [
        (lambda: loss(x[0], y[0]), r"\(N, T, 4\)"),
        (lambda: loss(x[..., :3], y), "3 tags, expected 4"),
        (lambda: loss(x, y + 4), "labels from 4 to 4"),
        (lambda: loss(x, y, weights=np.ones((2, 3))), "weight for each row"),
        (lambda: loss(x, y[:, :2]), "shape"),
        (lambda: crf.viterbi(x[0]), r"scores\[None\]"),
        (lambda: crf.viterbi(np.full_like(x, np.nan)), "NaN"),
        (lambda: crf.marginals(x, [4, 1]), "lengths"),
        (lambda: crf.viterbi([x[0]], [3]), "with a list"),
        (lambda: rc.CRF(3, constraints=(np.ones((2, 2), bool), None, None)), r"\(3, 3\) and bool"),
        (lambda: tagger(crf).fit(y, y, loss=loss, optimizer=rc.optim.SGD(1.0), class_weight={0: 2.0}), "class_weight"),
        (
            lambda: tagger(crf).fit(y, y, loss=loss, optimizer=rc.optim.SGD(1.0), truncate=rc.TruncatedBPTT(2)),
            "whole rows",
        ),
        (lambda: tagger(rc.CRF(TAGS)).fit(y, y, loss=loss, optimizer=rc.optim.SGD(1.0)), "not in the model"),
    ]
    for call, words in wrong:
        with pytest.raises(ValueError, match=words):
            call()
    for call in (lambda: rc.losses.CRF(TAGS), lambda: rc.metrics.Viterbi(loss), lambda: rc.CRF(3, constraints=1)):  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            call()
    tape = rc.CRF(TAGS).record(x)
    with pytest.raises(ValueError, match="not in the model"):
        tape.backward(loss(x, y).gradient)


def test_losses_and_metrics_of_another_crf_are_refused() -> None:
    """Also one with the same numbers, as of the script that made the model which another one loads: it would not
    learn."""
    model, other = tagger(rc.CRF(TAGS, seed=0)), rc.CRF(TAGS, seed=0)
    y = np.zeros((2, 3), np.int64)
    own = rc.losses.CRF(model.layers[-1])
    before = model.state_dict()
    foreign: list[Any] = [rc.metrics.Viterbi(other, "accuracy"), rc.losses.CRF(other)]
    foreign.append(rc.metrics.Viterbi(model.layers[-1], foreign[0]))
    for one in foreign:
        for options in ({"metrics": [one]}, {"weighted_metrics": [one]}):
            with pytest.raises(ValueError, match=r"^evaluate: got .* not in the model.*\(model\.layers\[-1\]\)"):
                model.evaluate(y, y, loss=own, **options)
            with pytest.raises(ValueError, match=r"^fit: got .* not in the model.*\(model\.layers\[-1\]\)"):
                model.fit(y, y, loss=own, optimizer=rc.optim.SGD(0.1), verbose=0, **options)
    for name, array in model.state_dict().items():
        assert_same_bits(array, before[name])
    model.evaluate(y, y, loss=own, metrics=[rc.metrics.Viterbi(model.layers[-1]), own])


class OwnCRF(rc.losses.CRF):
    """A loss of a user's own that trains the transitions."""


def test_a_crf_that_no_loss_trains_is_told_of() -> None:
    y = np.zeros((2, 3), np.int64)
    options: dict[str, Any] = {"optimizer": rc.optim.SGD(0.1), "verbose": 0}
    model = tagger(rc.CRF(TAGS))
    before = model.state_dict()
    with pytest.warns(RuntimeWarning, match=r"fit: got CrossEntropy .* not learn; write .*CRF\(model\.layers\[-1\]\)"):
        model.fit(y, y, loss=rc.losses.CrossEntropy(), **options)
    name = next(name for name in before if name.endswith(".transitions"))
    assert_same_bits(model.state_dict()[name], before[name])
    with pytest.raises(TypeError, match=r"fit: got the layer CRF as loss.*write loss=recurra\.losses\.CRF\(crf\)"):
        model.fit(y, y, loss=model.layers[-1], **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(y, y, loss=rc.losses.CRF(model.layers[-1]), **options)
        model.fit(y, y, loss=OwnCRF(model.layers[-1]), **options)
        model.evaluate(y, y, loss=rc.losses.CrossEntropy())
        model.layers[-1].trainable = False
        model.fit(y, y, loss=rc.losses.CrossEntropy(), **options)


def test_one_loss_on_many_threads() -> None:
    """Each thread's result is that of a call alone."""
    crf = layer(20, "float32")
    loss = rc.losses.CRF(crf)
    x, y, lengths = problem(12, 60, 20, "float32")
    expected = both(loss(x, y, lengths))
    found: list[tuple[Array, Array]] = []
    threads = [threading.Thread(target=lambda: found.append(both(loss(x, y, lengths)))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    for one in found:
        for part, other in zip(one, expected, strict=True):
            assert_same_bits(part, other)


class StoppedError(Exception):
    pass


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers")
@pytest.mark.parametrize("which", ["loss", "viterbi", "marginals"])
def test_a_signal_stops_a_long_row(which: str) -> None:
    """One row alone, of more steps than memory for a whole one would be asked for in vain."""
    tags, steps = 200, 12_000
    crf = layer(tags, "float32")
    x, y = np.zeros((1, steps, tags), np.float32), np.zeros((1, steps), np.int64)
    calls = {
        "loss": lambda: rc.losses.CRF(crf)(x, y),
        "viterbi": lambda: crf.viterbi(x),
        "marginals": lambda: crf.marginals(x),
    }

    def stop(_number: int, _frame: Any) -> None:
        raise StoppedError

    before = signal.signal(signal.SIGALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(StoppedError):
            calls[which]()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
