"""Metrics: scikit-learn's numbers, whatever the batches; what does not fit is explained."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import loss_reference
import recurra as rc
from array_types import Array
from recurra.metrics.find import NAMES
from sklearn import metrics as peer

ROWS, STEPS, CLASSES = 23, 7, 5
LENGTHS = np.random.default_rng(1).integers(0, STEPS + 1, ROWS)
VALID = np.arange(STEPS) < LENGTHS[:, None]
IGNORED = -1
QUANTILES = (0.9, 0.1, 0.5)


def softmax(x: Array) -> Array:
    return np.exp(loss_reference.log_softmax(x.astype(np.float64)))


def labels(rng: np.random.Generator, lead: tuple[int, ...]) -> tuple[Array, Array]:
    """Logits, in steps of 1/4 so that some are equal, and labels that they are related to."""
    x = np.round(4 * rng.standard_normal((*lead, CLASSES), np.float32)) / 4
    return x, np.where(rng.random(lead) < 0.5, x.argmax(-1), rng.integers(0, CLASSES, lead))


def some_ignored(rng: np.random.Generator, lead: tuple[int, ...]) -> tuple[Array, Array]:
    x, t = labels(rng, lead)
    return x, np.where(rng.random(lead) < 0.3, IGNORED, t)


def bits(rng: np.random.Generator, lead: tuple[int, ...]) -> tuple[Array, Array]:
    x = np.round(4 * rng.standard_normal((*lead, 3), np.float32)) / 4
    return x, (x + rng.standard_normal(x.shape) > 0.3).astype(int)


def numbers(rng: np.random.Generator, lead: tuple[int, ...]) -> tuple[Array, Array]:
    t = 3 + rng.standard_normal((*lead, 2), np.float32) * [1.0, 10.0]
    return (t + rng.standard_normal(t.shape)).astype(np.float32), t.astype(np.float32)


def quantiles(rng: np.random.Generator, lead: tuple[int, ...]) -> tuple[Array, Array]:
    t = rng.standard_normal((*lead, 2), np.float32)
    return rng.standard_normal((*lead, 2 * len(QUANTILES)), np.float32), t


@dataclass(frozen=True)
class Kind:
    """A metric, how to draw what it reads, and its value for all valid steps in float64, one behind the other."""

    make: Callable[[], rc.metrics.Metric]
    draw: Callable[..., tuple[Array, Array]]
    peers: Callable[[Array, Array], float]
    mode: str


def counted(f: Callable[[Array, Array], float]) -> Callable[[Array, Array], float]:
    return lambda x, t: f(x[t != IGNORED], t[t != IGNORED])


def by_class(f: Any, average: str, chosen: list[int] | None = None) -> Callable[[Array, Array], float]:
    return counted(lambda x, t: f(t, x.argmax(-1), average=average, labels=chosen, zero_division=0))


def top(k: int) -> Callable[[Array, Array], float]:
    def share(x: Array, t: Array) -> float:
        first = np.argsort(-x, axis=-1, kind="stable")[:, :k]
        return float((first == t[:, None]).any(-1).mean())

    return share


def pinball(x: Array, t: Array) -> float:
    parts = x.reshape(*t.shape, -1)
    return float(np.mean([peer.mean_pinball_loss(t, parts[..., i], alpha=q) for i, q in enumerate(QUANTILES)]))


def binary(f: Any, threshold: float) -> Callable[[Array, Array], float]:
    return lambda x, t: f(t.ravel(), (1 / (1 + np.exp(-x)) > threshold).ravel())


SERIES = np.random.default_rng(5).standard_normal((40, 2)).cumsum(0)
KINDS = {
    "accuracy": Kind(rc.metrics.Accuracy, labels, lambda x, t: peer.accuracy_score(t, x.argmax(-1)), "max"),
    "top 3": Kind(lambda: rc.metrics.Accuracy(3), labels, top(3), "max"),
    "ignored": Kind(
        lambda: rc.metrics.Accuracy(ignore_index=IGNORED),
        some_ignored,
        counted(lambda x, t: peer.accuracy_score(t, x.argmax(-1))),
        "max",
    ),
    "binary accuracy": Kind(rc.metrics.BinaryAccuracy, bits, binary(peer.accuracy_score, 0.5), "max"),
    "threshold": Kind(lambda: rc.metrics.BinaryAccuracy(0.8), bits, binary(peer.accuracy_score, 0.8), "max"),
    "perplexity": Kind(
        rc.metrics.Perplexity,
        labels,
        lambda x, t: float(np.exp(peer.log_loss(t, softmax(x), labels=np.arange(CLASSES)))),
        "min",
    ),
    **{
        f"{f.__name__}, {average}, {chosen}": Kind(
            lambda own=own, average=average, chosen=chosen: own(average, labels=chosen, ignore_index=IGNORED),
            some_ignored,
            by_class(f, average, chosen),
            "max",
        )
        for own, f in (
            (rc.metrics.F1, peer.f1_score),
            (rc.metrics.Precision, peer.precision_score),
            (rc.metrics.Recall, peer.recall_score),
        )
        for average in ("macro", "micro", "weighted")
        for chosen in (None, [1, 3])
    },
    "binary f1": Kind(lambda: rc.metrics.F1(threshold=0.6), bits, binary(peer.f1_score, 0.6), "max"),
    "auc": Kind(rc.metrics.AUC, bits, lambda x, t: peer.roc_auc_score(t, x, average="macro"), "max"),
    "auc of classes": Kind(
        rc.metrics.AUC,
        labels,
        lambda x, t: peer.roc_auc_score(t, softmax(x), multi_class="ovr", labels=np.arange(CLASSES)),
        "max",
    ),
    "mean absolute error": Kind(
        rc.metrics.MeanAbsoluteError, numbers, lambda x, t: peer.mean_absolute_error(t, x), "min"
    ),
    "mean squared error": Kind(rc.metrics.MeanSquaredError, numbers, lambda x, t: peer.mean_squared_error(t, x), "min"),
    "root mean squared error": Kind(
        rc.metrics.RootMeanSquaredError, numbers, lambda x, t: np.sqrt(peer.mean_squared_error(t, x)), "min"
    ),
    "r2": Kind(rc.metrics.R2, numbers, lambda x, t: peer.r2_score(t, x), "max"),
    "mape": Kind(
        rc.metrics.MeanAbsolutePercentageError, numbers, lambda x, t: peer.mean_absolute_percentage_error(t, x), "min"
    ),
    "smape": Kind(
        rc.metrics.SymmetricMeanAbsolutePercentageError,
        numbers,
        lambda x, t: float((2 * np.abs(x - t) / (np.abs(x) + np.abs(t))).mean()),
        "min",
    ),
    "mase": Kind(
        lambda: rc.metrics.MeanAbsoluteScaledError([SERIES[:25], SERIES[20:]], season=4),
        numbers,
        lambda x, t: float(
            (
                np.abs(x - t)
                / np.concatenate([np.abs(one[4:] - one[:-4]) for one in (SERIES[:25], SERIES[20:])]).mean(0)
            ).mean()
        ),
        "min",
    ),
    "pinball": Kind(lambda: rc.metrics.Pinball(QUANTILES), quantiles, pinball, "min"),
    "coverage": Kind(
        lambda: rc.metrics.Coverage(QUANTILES),
        quantiles,
        lambda x, t: float(((x.reshape(*t.shape, -1)[..., 1] <= t) & (t <= x.reshape(*t.shape, -1)[..., 0])).mean()),
        "max",
    ),
    "a loss": Kind(
        lambda: rc.metrics.LossMean(rc.losses.Huber()),
        numbers,
        lambda x, t: loss_reference.huber(x, t, 1.0) / t.size,
        "min",
    ),
}
each_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def update_in_parts(metric: rc.metrics.Metric, x: Array, t: Array, lengths: Array | None, size: int) -> None:
    for first in range(0, len(x), size):
        rows = slice(first, first + size)
        metric.update(x[rows], t[rows], None if lengths is None else lengths[rows])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [1, 4, ROWS])
@each_kind
def test_ragged_batches_give_the_peers_number(kind: Kind, size: int, dtype: str) -> None:
    """And what lies past the lengths is not read."""
    x, t = kind.draw(np.random.default_rng(0), (ROWS, STEPS))
    expected = kind.peers(x[VALID].astype(np.float64), t[VALID].astype(np.float64 if t.dtype.kind == "f" else int))
    x[~VALID], t[~VALID] = np.nan, 77
    metric = kind.make()
    update_in_parts(metric, x.astype(dtype), t, LENGTHS, size)
    assert type(metric.result()) is float
    # Predictions and targets are exact in float32; squares and logarithms of them are good to its roundings.
    assert metric.result() == pytest.approx(expected, rel=1e-12 if dtype == "float64" else 1e-6)
    assert 0.0 < abs(expected) < np.inf


@each_kind
def test_without_a_time_axis_and_again(kind: Kind) -> None:
    x, t = kind.draw(np.random.default_rng(2), (200,))
    metric = kind.make()
    assert np.isnan(metric.result())
    for _ in range(2):
        update_in_parts(metric, x, t, None, 33)
        value = metric.result()
        assert value == pytest.approx(kind.peers(x.astype(np.float64), t), rel=1e-6)
        assert metric.result() == value
        metric.reset()
        assert np.isnan(metric.result())
    update_in_parts(metric, x, t, None, 33)
    twin = pickle.loads(pickle.dumps(metric)).fresh()
    assert type(twin) is type(metric)
    assert np.isnan(twin.result())
    assert metric.result() == value
    update_in_parts(twin, x, t, None, 33)
    assert twin.result() == value
    assert metric.mode == kind.mode
    assert metric.name


@each_kind
def test_a_state_is_gone_on_from(kind: Kind) -> None:
    """Whatever the metric that it was taken from does then."""
    x, t = kind.draw(np.random.default_rng(6), (60,))
    metric, other = kind.make(), kind.make()
    update_in_parts(metric, x[:40], t[:40], None, 20)
    state = metric.state_dict()
    update_in_parts(metric, x[40:], t[40:], None, 20)
    other.load_state_dict(pickle.loads(pickle.dumps(state)))
    update_in_parts(other, x[40:], t[40:], None, 20)
    assert other.result() == metric.result()


@each_kind
def test_batches_of_nothing_change_nothing(kind: Kind) -> None:
    x, t = kind.draw(np.random.default_rng(3), (9, 4))
    metric = kind.make()
    metric.update(x[:0], t[:0])
    metric.update(x, t, np.zeros(9, int))
    metric.update(x[:, :0], t[:, :0])
    assert np.isnan(metric.result())
    metric.update(x, t)
    value = metric.result()
    metric.update(x, t, np.zeros(9, int))
    assert metric.result() == value


@each_kind
def test_a_nan_does_not_look_good(kind: Kind) -> None:
    """The result is NaN, or as if what holds it were wrong."""
    x, t = kind.draw(np.random.default_rng(4), (50,))
    fine, sick = kind.make(), kind.make()
    fine.update(x, t)
    sick.update(np.full_like(x, np.nan), t)
    assert np.isnan(sick.result()) or sick.result() == 0.0 < fine.result()


def test_scores_that_are_reused_are_not_kept_by_reference() -> None:
    x, t = bits(np.random.default_rng(0), (30,))
    metric = rc.metrics.AUC()
    buffer = x.astype(np.float64)
    metric.update(buffer, t)
    value = metric.result()
    buffer[:] = 0
    assert metric.result() == value


@settings(max_examples=15, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 40), size=st.integers(1, 10))
def test_any_batches(seed: int, rows: int, size: int) -> None:
    """Of every metric: the value of all rows is that of the parts put together."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 4, rows)
    for kind in KINDS.values():
        x, t = kind.draw(rng, (rows, 3))
        whole, parts = kind.make(), kind.make()
        whole.update(x, t, lengths)
        update_in_parts(parts, x, t, lengths, size)
        assert parts.result() == pytest.approx(whole.result(), rel=1e-10, abs=1e-12, nan_ok=True)


def test_per_class() -> None:
    x, t = some_ignored(np.random.default_rng(0), (300,))
    x[:, 2], t = -9.0, np.where(t == 2, 0, t)  # a class that does not occur
    metric = rc.metrics.F1(ignore_index=IGNORED)
    assert metric.per_class().shape == (0,)
    metric.update(x, t)
    used = t != IGNORED
    with np.errstate(invalid="ignore"):
        expected = peer.f1_score(t[used], x[used].argmax(-1), average=None, labels=range(CLASSES), zero_division=np.nan)
    np.testing.assert_allclose(metric.per_class(), expected, rtol=1e-15)
    assert np.isnan(metric.per_class()[2])


def test_top_k_takes_the_lower_class_of_equal_ones() -> None:
    x = np.zeros((3, 4), np.float32)
    for k, expected in ((1, 1 / 3), (2, 2 / 3), (4, 1.0)):
        metric = rc.metrics.Accuracy(k)
        metric.update(x, np.array([0, 1, 3]))
        assert metric.result() == pytest.approx(expected)


def test_sequence_accuracy() -> None:
    t = np.array([[1, 2, 0], [1, 1, 1], [2, 0, 9], [0, 0, 0], [9, 9, 9]])
    x = np.eye(3, dtype=np.float32)[[[1, 2, 0], [1, 0, 1], [2, 0, 1], [0, 0, 0], [1, 1, 1]]]
    metric = rc.metrics.SequenceAccuracy(ignore_index=9)
    metric.update(x, t)
    assert metric.result() == 3 / 4  # the last row has no labels
    metric.update(x[1:2], t[1:2], [1])  # right as far as it goes
    assert metric.result() == 4 / 5
    metric.update(x[:2], t[:2], [0, 3])
    assert metric.result() == 4 / 6


def plain_distance(a: list[int], b: list[int]) -> int:
    """By its definition."""
    if not a or not b:
        return len(a) + len(b)
    return min(
        plain_distance(a[1:], b) + 1, plain_distance(a, b[1:]) + 1, plain_distance(a[1:], b[1:]) + (a[0] != b[0])
    )


WORDS = st.lists(st.integers(0, 2), max_size=5)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.tuples(WORDS, WORDS), max_size=5))
def test_edit_distances(pairs: list[tuple[list[int], list[int]]]) -> None:
    one, other = [a for a, _ in pairs], [b for _, b in pairs]
    expected = [plain_distance(a, b) for a, b in pairs]
    assert rc.metrics.edit_distance(one, other).tolist() == expected


def test_edit_distance_of_words() -> None:
    words = [
        ("kitten", "sitting", 3),
        ("intention", "execution", 5),
        ("", "abc", 3),
        ("flaw", "lawn", 2),
        ("ab", "ba", 2),
    ]
    rows = [
        [np.frombuffer(word.encode(), np.uint8) for word in column] for column in list(zip(*words, strict=True))[:2]
    ]
    assert rc.metrics.edit_distance(*rows).tolist() == [expected for *_, expected in words]


def test_edit_distance_of_ctc() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((ROWS, 12, CLASSES)).astype(np.float32)
    lengths = rng.integers(0, 13, ROWS)
    targets = [rng.integers(0, 4, n) for n in rng.integers(0, 7, ROWS)]
    blank = 4
    said = [one.labels for one in rc.ctc.greedy(x, lengths, blank=blank)]
    total = sum(plain_distance(list(a[:6]), list(b[:5])) for a, b in zip(said, targets, strict=True))
    distances = rc.metrics.edit_distance(said, targets)
    assert distances.sum() >= total - 10 * ROWS  # no other distances than these
    x[np.arange(12) >= lengths[:, None]] = np.nan
    rate, mean = rc.metrics.EditDistance(blank), rc.metrics.EditDistance(blank, normalize=False)
    for first in range(0, ROWS, 5):
        rows = slice(first, first + 5)
        rate.update(x[rows], targets[rows], lengths[rows])
        width = max(map(len, targets))
        padded = np.array([[*one, *[-1] * (width - len(one))] for one in targets[rows]])
        mean.update(x[rows], padded, lengths[rows])
    assert rate.result() == distances.sum() / sum(map(len, targets))
    assert mean.result() == distances.mean()
    rate.reset()
    rate.update(np.full((1, 3, CLASSES), np.nan, np.float32), [[1, 2]])
    assert rate.result() > 0
    assert rate.mode == "min"


def test_constant_targets_have_no_r2_to_speak_of() -> None:
    t = np.ones((4, 2))
    for x, expected in ((t, 1.0), (t + np.array([0.0, 1.0]), 0.5)):
        metric = rc.metrics.R2()
        metric.update(x, t)
        assert metric.result() == expected == peer.r2_score(t, x)


def test_r2_far_from_zero() -> None:
    """Where sums of squares would cancel."""
    rng = np.random.default_rng(0)
    t = 1e8 + rng.standard_normal((300, 1))
    x = t + 0.1 * rng.standard_normal(t.shape)
    metric = rc.metrics.R2()
    update_in_parts(metric, x, t, None, 7)
    assert metric.result() == pytest.approx(peer.r2_score(t, x), rel=1e-8)


def test_auc_without_both_kinds() -> None:
    metric = rc.metrics.AUC()
    metric.update(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1, 0], [1, 1]]))
    assert metric.result() == 1.0  # of the second feature
    metric.reset()
    metric.update(np.array([[1.0], [3.0]]), np.array([[1], [1]]))
    assert np.isnan(metric.result())
    classes = rc.metrics.AUC(ignore_index=-1)
    classes.update(np.array([[3.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 9.0]]), np.array([0, 1, -1]))
    assert classes.result() == 1.0


# By name.


@pytest.mark.parametrize("name", sorted(NAMES))
def test_names(name: str) -> None:
    metric = rc.metrics.find(name)
    assert isinstance(metric, rc.metrics.Metric)
    assert metric.name == name
    assert metric.mode in ("min", "max")
    assert metric is not rc.metrics.find(name)


def test_metrics_and_losses_are_found() -> None:
    metric = rc.metrics.Accuracy(5)
    assert rc.metrics.find(metric) is metric
    assert metric.name == "top_5_accuracy"
    assert rc.metrics.Accuracy(name="right").name == "right"
    names = {
        rc.losses.Huber(): "huber",
        rc.losses.CTC(): "ctc",
        rc.losses.L1(): "l1",
        rc.losses.GaussianNLL(): "gaussian_nll",
        rc.losses.MeanSquaredError(): "mean_squared_error",
    }
    for loss, name in names.items():
        assert rc.metrics.find(loss).name == name
    assert "accuracy" in repr(rc.metrics.Accuracy())


@pytest.mark.parametrize(
    ("wrong", "right"), [("acuracy", "accuracy"), ("Accuracy", "accuracy"), ("ppl", "perplexity"),
                         ("rms", "rmse"), ("edit distance", "edit_distance"), ("f1_score", "f1"), ("roc_auc", "auc"),
                         ("sparse_categorical_accuracy", "accuracy"), ("mse_loss", "mse")]
)  # fmt: skip
def test_an_unknown_name_is_explained(wrong: str, right: str) -> None:
    with pytest.raises(
        ValueError, match=rf"^metrics.find: got the metric '{wrong}', expected one of .*perplexity.*; write '{right}'"
    ):
        rc.metrics.find(wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (rc.metrics.LossMean, r"got the class LossMean, expected an instance; write LossMean\("),
        (rc.losses.L1, r"got the class L1, expected an instance"),
        (3, r"got a metric of type int, expected a name"),
        (None, r"got a metric of type NoneType, expected a name"),
    ],
)
def test_what_is_no_metric_is_explained(wrong: Any, message: str) -> None:
    with pytest.raises(TypeError, match=rf"^metrics.find: {message}"):
        rc.metrics.find(wrong)


X, T = np.zeros((2, 3, 4), np.float32), np.zeros((2, 3), int)
M = rc.metrics
BAD: list[tuple[Any, tuple[Any, ...], str]] = [
    (M.Accuracy(), (X, T + 4), "got labels from 4 to 4 in targets, expected 0 to 3"),
    (M.Accuracy(), (X, T.astype(float)), "got targets of float64, expected integer labels"),
    (M.Accuracy(), (X, T[:, :2]), r"got targets of shape \(2, 2\), expected \(2, 3\)"),
    (M.Accuracy(), (X, T, [3, 4]), r"got lengths\[1\] = 4, expected 0 to 3"),
    (M.Accuracy(), (X.astype(int), T), "got predictions of int64, expected float32"),
    (M.Accuracy(), (X[..., :1], T + 1), r"got labels from 1 to 1 in targets.*BinaryCrossEntropy"),
    (M.Accuracy(5), (X, T), "got top_k=5 for predictions of 4 classes, expected"),
    (M.BinaryAccuracy(), (X, np.full_like(X, 0.5)), "got targets between 0 and 1, expected 0 or 1"),
    (M.BinaryAccuracy(), (X, T), r"got targets of shape \(2, 3\), expected \(2, 3, 4\)"),
    (M.BinaryAccuracy(), (X, X + 2), "got values from 2 to 2 in targets, expected 0 to 1"),
    (M.F1(labels=[4]), (X, T), "got the class 4 in labels, expected 0 to 3"),
    (M.F1(threshold=0.5), (X, X + 0.25), "got targets between 0 and 1, expected 0 or 1"),
    (M.Perplexity(), (X, T - 1), "got labels from -1 to -1 in targets, expected 0 to 3"),
    (M.EditDistance(), (X, T), "got the blank, 0, in targets, expected labels only"),
    (M.EditDistance(), (X, [[1]]), "got targets of shape .* expected"),
    (M.EditDistance(), (X, [[1], [1.0]]), "got targets.* of float64, expected integer labels"),
    (M.MeanAbsoluteError(), (X, T), r"got targets of shape \(2, 3\), expected \(2, 3, 4\)"),
    (M.R2(), (X, np.full_like(X, np.nan)), "got NaN or infinity in targets, expected finite"),
    (M.Pinball(), (X, T), "got predictions of 4 features, expected a multiple of 3"),
    (M.Coverage(), (X, T), "got predictions of 4 features, expected a multiple of 3"),
    (M.MeanAbsoluteScaledError(SERIES), (X, X), "got predictions of 4 features, expected 2, as the series"),
    (M.AUC(), (X, np.full_like(X, 0.5)), "got targets between 0 and 1, expected 0 or 1"),
    (M.AUC(), (X, T + 9), "got labels from 9 to 9"),
    (M.AUC(), (3.0, T), "got predictions of float64|got predictions of shape"),
    (M.LossMean(rc.losses.L1()), (X, T), r"got targets of shape \(2, 3\), expected \(2, 3, 4\)"),
]


@pytest.mark.parametrize(("metric", "arguments", "message"), BAD)
def test_what_does_not_fit_is_explained(metric: Any, arguments: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=rf"^{type(metric).__name__}: {message}"):
        metric.update(*arguments)
    assert np.isnan(metric.result())


@pytest.mark.parametrize(
    ("make", "arguments"),
    [
        (M.Accuracy, {"top_k": 0}),
        (M.Accuracy, {"name": ""}),
        (M.Accuracy, {"name": 3}),
        (M.BinaryAccuracy, {"threshold": 2}),
        (M.F1, {"average": "none"}),
        (M.F1, {"labels": []}),
        (M.F1, {"labels": [-1]}),
        (M.F1, {"labels": [0.5]}),
        (M.F1, {"labels": 3}),
        (M.F1, {"labels": [1], "threshold": 0.5}),
        (M.EditDistance, {"blank": -1}),
        (M.EditDistance, {"normalize": 1}),
        (M.Coverage, {"quantiles": [0.5]}),
        (M.MeanAbsoluteScaledError, {"series": [1.0, 1.0, 1.0]}),
        (M.MeanAbsoluteScaledError, {"series": [1.0, 2.0], "season": 2}),
        (M.MeanAbsoluteScaledError, {"series": [1.0, np.nan, 2.0]}),
        (M.MeanAbsoluteScaledError, {"series": "abc"}),
        (M.MeanAbsoluteScaledError, {"series": [SERIES, SERIES[:, :1]]}),
        (M.LossMean, {"loss": rc.losses.L1}),
    ],
)
def test_wrong_options_are_explained(make: Any, arguments: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError), match=rf"^{make.__name__}: got .*expected"):
        make(**arguments)


@pytest.mark.parametrize(("one", "other"), [([[1]], []), ([[1.0]], [[1]]), ([[[1]]], [[1]]), ("ab", "ab"), (3, [])])
def test_wrong_rows_of_labels_are_explained(one: Any, other: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=r"^edit_distance: got .*expected"):
        rc.metrics.edit_distance(one, other)


@pytest.mark.parametrize("metric", [M.F1(), M.AUC()], ids=str)
def test_batches_of_other_models_are_refused(metric: Any) -> None:
    metric.update(X, T)
    with pytest.raises(ValueError, match=r"^\w+: got predictions of 3 \w+, expected 4, as in the batches before"):
        metric.update(X[..., :3], T)


def test_all_metrics_are_tested_here() -> None:
    made = {type(kind.make()) for kind in KINDS.values()} | {M.SequenceAccuracy, M.EditDistance}
    made.add(M.Viterbi)  # needs a layer: tests/layers/test_crf.py
    public = {getattr(M, name) for name in M.__all__}
    assert {one for one in public if isinstance(one, type)} - {M.Metric, M.ClassScore} == made
    for one, other in itertools.combinations(sorted(M.__all__), 2):
        assert one != other


@pytest.mark.parametrize("name", ["accuracy", "auc", "f1", "perplexity", "sequence_accuracy"])
def test_batches_without_rows_add_nothing(name: str) -> None:
    metric = rc.metrics.find(name)
    metric.update(np.zeros((0, 5, 3), np.float32), np.zeros((0, 5), np.int64))
    assert np.isnan(metric.result())


def test_infinite_logits_have_no_area() -> None:
    """Without a warning."""
    metric = rc.metrics.AUC()
    metric.update(np.full((4, 3), np.inf, np.float32), np.array([0, 1, 2, 0]))
    assert np.isnan(metric.result())


@pytest.mark.parametrize("wrong", ["kappa", "wer", "cer", "cosine_similarity", "bleu"])
def test_another_metric_is_not_taken_for_a_misspelling(wrong: str) -> None:
    with pytest.raises(ValueError, match=rf"got the metric '{wrong}', .*; choose one of them, or give an instance"):
        rc.metrics.find(wrong)
