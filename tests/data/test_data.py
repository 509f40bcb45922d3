"""Data: windows, buckets, stateful batches, sessions, sources of batches; what carries its state has the bits of the
whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import recurra as rc
from agreement import assert_same_bits
from array_types import Array
from recurra.data import order, sources

RNG = np.random.default_rng(0)
SERIES = RNG.standard_normal((40, 3)).astype(np.float32)
LABELS = np.arange(40)
LENGTHS = np.maximum(1, RNG.lognormal(3.0, 0.8, 1000)).astype(np.int64)  # of sentences and the like: a long tail
BATCH = (np.zeros((2, 3, 1)), np.zeros((2, 3, 1)))


# Windows


@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize(("horizon", "gap"), [(1, 0), (4, 0), (2, 5)])
def test_windows_and_what_comes_behind_them(stride: int, horizon: int, gap: int) -> None:
    x, y = rc.data.windows(SERIES, 8, stride=stride, horizon=horizon, gap=gap)
    begins = [s for s in range(0, 40, stride) if s + 8 + gap + horizon <= 40]
    assert_same_bits(x, np.stack([SERIES[s : s + 8] for s in begins]))
    assert_same_bits(y, np.stack([SERIES[s + 8 + gap : s + 8 + gap + horizon] for s in begins]))


@pytest.mark.parametrize("horizon", [0, 1, 3])
def test_aligned_windows_have_a_target_for_every_step(horizon: int) -> None:
    x, y = rc.data.windows(SERIES, 8, stride=2, horizon=horizon, target=LABELS, aligned=True)
    begins = range(0, 40 - 8 - horizon + 1, 2)
    assert_same_bits(x, np.stack([SERIES[s : s + 8] for s in begins]))
    assert_same_bits(y, np.stack([LABELS[s + horizon : s + horizon + 8] for s in begins]))


def test_windows_alone_and_of_one_feature() -> None:
    assert rc.data.windows(SERIES, 40).shape == (1, 40, 3)
    x, y = rc.data.windows(SERIES[:, 0], 5, horizon=2)
    assert x.shape == (34, 5, 1)
    assert y.shape == (34, 2, 1)


def test_windows_take_no_memory() -> None:
    x, y = rc.data.windows(SERIES, 8, horizon=2, target=LABELS)
    assert np.shares_memory(x, SERIES)
    assert np.shares_memory(y, LABELS)
    assert not x.flags.writeable


def test_windows_of_several_series_do_not_cross() -> None:
    parts = [SERIES[:9], SERIES[9:12], SERIES[12:]]  # the second is too short for a window
    x, y = rc.data.windows(parts, 5, stride=2, horizon=1)
    alone = [rc.data.windows(part, 5, stride=2, horizon=1) for part in (parts[0], parts[2])]
    assert_same_bits(x, np.concatenate([one for one, _ in alone]))
    assert_same_bits(y, np.concatenate([one for _, one in alone]))


def test_features_to_predict() -> None:
    whole = rc.data.windows(SERIES, 5, horizon=2)[1]
    assert_same_bits(rc.data.windows(SERIES, 5, horizon=2, features=1)[1], whole[..., 1:2])
    assert_same_bits(rc.data.windows(SERIES, 5, horizon=2, features=[2, 0])[1], whole[..., [2, 0]])


def test_a_forecaster_learns_from_windows() -> None:
    """A sine, of which the last 20 steps say the next 3."""
    series = np.sin(np.arange(400, dtype=np.float32) / 5)
    x, y = rc.data.windows(series, 20, horizon=3)
    model = rc.Sequential(rc.GRU(1, 16, return_sequences=False), rc.Linear(16, 3), seed=0)
    loss = rc.losses.MeanSquaredError()
    model.fit(x[:300], y[:300, :, 0], loss=loss, optimizer=rc.optim.Adam(0.01), epochs=20, seed=0, verbose=0)
    assert model.evaluate(x[300:], y[300:, :, 0], loss=loss) < 0.01  # 0.5 is its variance


# Buckets


def padding(batches: list[Array]) -> float:
    """The part of all padded steps that is padding."""
    steps = sum(len(batch) * LENGTHS[batch].max() for batch in batches)
    return float(1 - LENGTHS.sum() / steps)


def test_buckets_save_padding() -> None:
    plain = padding(rc.data.bucket_batches(LENGTHS, 16, seed=1, pool=1))
    assert plain == padding(list(order.batches(1000, 16, 1)))  # type: ignore[arg-type]
    assert plain > 0.6
    assert padding(rc.data.bucket_batches(LENGTHS, 16, seed=1)) < 0.16


@pytest.mark.parametrize("max_steps", [None, 300])
@pytest.mark.parametrize(("rows", "batch_size"), [(1000, 16), (37, 8), (5, 8), (1, 1), (0, 4)])
def test_buckets_have_every_row_once(rows: int, batch_size: int, max_steps: int | None) -> None:
    batches = rc.data.bucket_batches(LENGTHS[:rows], batch_size, seed=3, max_steps=max_steps)
    assert sorted(row for batch in batches for row in batch) == list(range(rows))
    assert all(0 < len(batch) <= batch_size for batch in batches)
    assert all(len(batch) * LENGTHS[batch].max() <= (max_steps or np.inf) for batch in batches)
    if max_steps is None:
        assert len(batches) == -(-rows // batch_size)


def test_a_budget_is_used() -> None:
    """Not one row more would have fitted, but at the end of a pool."""
    batches = rc.data.bucket_batches(LENGTHS, 64, seed=3, max_steps=1000, pool=4)
    assert np.median([len(batch) * LENGTHS[batch].max() for batch in batches]) > 900


@pytest.mark.parametrize("rows", [1000, 60])
def test_bucket_shuffles_differ_and_repeat(rows: int) -> None:
    def drawn(seed: int) -> list[list[int]]:
        return [batch.tolist() for batch in rc.data.bucket_batches(LENGTHS[:rows], 8, seed)]

    first, second = drawn(1), drawn(2)
    assert first == drawn(1)
    same = {frozenset(batch) for batch in first} & {frozenset(batch) for batch in second}
    assert len(same) <= 1  # other rows together, not only the batches in another order


# Stateful batches and sessions


def runs(batches: Iterator[rc.data.Batch], layer: rc.Layer) -> Iterator[tuple[rc.data.Batch, Array]]:
    """Each batch with its outputs, the state carried as a loop of training does."""
    state = None
    for batch in batches:
        y, state = layer(batch.x, state if batch.carry else None, batch.lengths, batch.reset)
        yield batch, y


def steps_of(found: Iterator[tuple[rc.data.Batch, Array]]) -> tuple[Array, Array, Array]:
    """Of all rows, lane by lane: targets, weights, outputs."""
    parts: list[list[tuple[Any, ...]]] = []
    for batch, y in found:
        lengths = np.full(len(y), y.shape[1]) if batch.lengths is None else batch.lengths
        weight = np.ones(y.shape[:2]) if batch.sample_weight is None else batch.sample_weight
        parts.append([(t[:n], w[:n], o[:n]) for t, w, o, n in zip(batch.y, weight, y, lengths, strict=True)])
    lanes = [
        np.concatenate([parts[at][row][k] for row in range(len(parts[0])) for at in range(len(parts))])
        for k in (0, 1, 2)
    ]
    return lanes[0], lanes[1], lanes[2]


@pytest.mark.parametrize("steps", [1, 4, 7, 100])
def test_stateful_batches_are_the_pieces_run_whole(steps: int) -> None:
    gru = rc.GRU(3, 5, seed=0)
    batches = rc.data.stateful(SERIES, LABELS, batch_size=3, steps=steps, sample_weight=LABELS / 2)
    assert len(list(batches)) == len(batches) == -(-14 // steps)
    assert [batch.carry for batch in batches] == [False] + [True] * (len(batches) - 1)  # a second time, too
    assert all(batch.reset is None for batch in batches)
    targets, weights, outputs = steps_of(runs(iter(batches), gru))
    assert_same_bits(targets, LABELS)
    assert_same_bits(weights, LABELS / 2)
    assert_same_bits(outputs, np.concatenate([gru(piece[None])[0][0] for piece in np.split(SERIES, [14, 27])]))


def test_stateful_tokens() -> None:
    text = np.arange(21)
    first, second = rc.data.stateful(text[:-1], text[1:], batch_size=4, steps=3)
    assert first.x.tolist() == [[0, 1, 2], [5, 6, 7], [10, 11, 12], [15, 16, 17]]
    assert second.x.tolist() == [[3, 4], [8, 9], [13, 14], [18, 19]]
    assert_same_bits(second.y, second.x + 1)


def test_several_inputs_and_outputs_are_laid_like_one() -> None:
    parts = np.split(np.arange(40), [6, 25])
    rows, labels = [SERIES[p] for p in parts], [LABELS[p] for p in parts]
    weights = [(label + 1) / 2 for label in labels]
    options: dict[str, Any] = {"batch_size": 2, "steps": 7}
    pairs = zip(
        [
            *rc.data.stateful({"a": rows, "b": labels}, (labels, rows), sample_weight=weights, **options),
            *rc.data.sessions((rows, labels), {"a": labels, "b": rows}, seed=1, **options).epoch(3),
        ],
        [
            *rc.data.stateful(rows, labels, sample_weight=weights, **options),
            *rc.data.sessions(rows, labels, seed=1, **options).epoch(3),
        ],
        strict=True,
    )
    for several, one in pairs:
        x, y = (list(v.values()) if isinstance(v, dict) else list(v) for v in (several.x, several.y))
        assert_same_bits(x[0], one.x)
        assert_same_bits(x[1], one.y)
        assert_same_bits(y[0], one.y)
        assert_same_bits(y[1], one.x)
        for name, form in (("lengths", several.x), ("reset", several.x), ("sample_weight", several.y)):
            got, expected = getattr(several, name), getattr(one, name)
            if expected is None:
                assert got is None
            else:
                assert type(got) is type(form)
                for part in got.values() if isinstance(got, dict) else got:
                    assert_same_bits(part, expected)


def test_a_model_of_several_inputs_learns_from_sessions() -> None:
    tokens = [RNG.integers(0, 4, n) for n in (9, 5, 12, 3)]
    a, b = rc.Input(tokens=4), rc.Input(tokens=4)
    h = rc.GRU(6, 8)(rc.Concatenate()((rc.Embedding(4, 3)(a), rc.Embedding(4, 3)(b))))
    model = rc.Model({"a": a, "b": b}, {"a": rc.Linear(8, 4)(h), "b": rc.Linear(8, 4)(h)}, seed=0)
    x = {"a": [one[:-1] for one in tokens], "b": [one[::-1][:-1] for one in tokens]}
    source = rc.data.sessions(x, {"a": x["b"], "b": x["a"]}, batch_size=2, steps=4, seed=0)
    history = model.fit(source, loss=rc.losses.CrossEntropy(), optimizer=rc.optim.Adam(1e-2), epochs=20, verbose=0)
    assert history.history["loss"][-1] < history.history["loss"][0] / 2


def test_several_sequences_begin_with_a_zero_state() -> None:
    gru = rc.GRU(3, 5, seed=0)
    parts = np.split(np.arange(40), [6, 25])
    batches = rc.data.stateful([SERIES[p] for p in parts], [LABELS[p] for p in parts], batch_size=2, steps=3)
    targets, _weights, outputs = steps_of(runs(iter(batches), gru))
    assert_same_bits(targets, LABELS)
    cut = np.split(SERIES, [6, 20, 25])  # where a sequence begins, and where the second lane does
    assert_same_bits(outputs, np.concatenate([gru(piece[None])[0][0] for piece in cut]))


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("steps", [1, 5])
def test_sessions_are_the_sequences_run_alone(steps: int, shuffle: bool) -> None:
    lstm = rc.LSTM(3, 5, seed=0)
    lengths = RNG.integers(0, 9, 30)
    x = [RNG.standard_normal((n, 3)).astype(np.float32) for n in lengths]
    y = [index * 100 + np.arange(n) for index, n in enumerate(lengths)]
    source = rc.data.sessions(x, y, batch_size=4, steps=steps, shuffle=shuffle, seed=5)
    targets, _weights, outputs = steps_of(runs(source.epoch(2), lstm))
    assert sorted(targets) == list(np.concatenate(y))
    for index, row in enumerate(x):
        own = outputs[targets // 100 == index]
        assert_same_bits(own, lstm(row[None])[0][0])


def test_lanes_are_filled_evenly() -> None:
    lengths = RNG.integers(1, 9, 200)
    rows = [np.zeros(n, np.int64) for n in lengths]
    batches = list(rc.data.sessions(rows, rows, batch_size=8, steps=4, seed=0).epoch(0))
    assert len(batches) <= -(-(lengths.sum() / 8 + 8) // 4)
    assert all(batch.lengths is None for batch in batches[:-3])


def test_sessions_come_in_a_new_order_each_epoch() -> None:
    rows = [np.full(3, index) for index in range(40)]

    def drawn(epoch: int, **options: Any) -> list[Any]:
        source = rc.data.sessions(rows, rows, batch_size=4, steps=3, **options)
        return [batch.x.tolist() for batch in source.epoch(epoch)]

    assert drawn(0, seed=1) == drawn(0, seed=1)
    assert drawn(0, seed=1) != drawn(1, seed=1)
    assert drawn(0, seed=1) != drawn(0, seed=2)
    assert drawn(0, shuffle=False) == drawn(1, shuffle=False)
    assert drawn(0, shuffle=False)[0] == [[n] * 3 for n in range(4)]


def test_memory_mapped_series_are_read_batch_by_batch(tmp_path: Any) -> None:
    np.save(tmp_path / "series.npy", SERIES)
    mapped = np.load(tmp_path / "series.npy", mmap_mode="r")
    assert np.shares_memory(rc.data.windows(mapped, 5), mapped)
    plain = rc.data.stateful(SERIES, LABELS, batch_size=3, steps=5)
    for one, other in zip(rc.data.stateful(mapped, LABELS, batch_size=3, steps=5), plain, strict=True):
        assert_same_bits(one.x, other.x)


# Sources


class Loader:
    """As PyTorch's DataLoader: a length, and lists anew each time."""

    def __len__(self) -> int:
        return 3

    def __iter__(self) -> Iterator[list[Any]]:
        return ([np.full((2, 3, 1), index), *BATCH[1:]] for index in range(3))


class Indexed:
    """As Keras' Sequence: batches by number, and no end of them."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        return np.full((2, 3, 1), index), BATCH[1]


def generate(epoch: int) -> Iterator[tuple[Any, ...]]:
    for index in range(3):
        yield np.full((2, 3, 1), index + 10 * epoch), BATCH[1], [3, 2]


@pytest.mark.parametrize("x", [Loader(), Indexed(), [rc.data.Batch(*b) for b in Loader()], generate])
def test_sources_begin_anew(x: Any) -> None:
    assert sources.is_source(x)
    source = sources.read("fit", x, 2)
    assert source.steps == (None if x is generate else 3)
    for epoch in (0, 1, 1):
        first = [10 * epoch * (x is generate) + index for index in range(3)]
        assert [batch.x[0, 0, 0] for batch in source.epoch(epoch)] == first


def test_an_iterator_is_for_one_epoch() -> None:
    assert sources.is_source(generate(0))
    batches = list(sources.read("fit", generate(0), 1).epoch(0))
    assert [batch.lengths for batch in batches] == [[3, 2]] * 3
    with pytest.raises(
        ValueError, match=r"^fit: got a generator, which can be read only once, with epochs=2, expected"
    ):
        sources.read("fit", generate(0), 2)


def test_what_is_no_source() -> None:
    ragged = np.empty(2, object)
    ragged[:] = [LABELS, LABELS[1:]]
    for x in (SERIES, [SERIES, SERIES], (SERIES, SERIES), {"a": SERIES}, ragged, [], 3, None):
        assert not sources.is_source(x)


def test_own_batches_are_sources() -> None:
    batches = rc.data.stateful(SERIES, LABELS, batch_size=3, steps=5)
    assert sources.is_source(batches)
    source = sources.read("fit", batches, 9)
    assert source.steps == 3
    assert [batch.carry for batch in source.epoch(4)] == [False, True, True]


def of(*items: Any) -> Any:
    return lambda: list(sources.read("fit", lambda epoch: items, 1).epoch(0))


def carried(rows: int) -> rc.data.Batch:
    return rc.data.Batch(np.zeros((rows, 3, 1)), np.zeros((rows, 3, 1)), carry=True)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (
            of(),
            "fit: got no batches in epoch 0, expected at least one; give an object whose __iter__ starts from",
        ),
        (of(BATCH, SERIES), "fit: batch 1 of epoch 0: got ndarray, expected \\(x, y\\), .*; yield one of these"),
        (of((SERIES,)), "fit: batch 0 of epoch 0: got 1 parts, expected \\(x, y\\), "),
        (of((3, 4)), "fit: batch 0 of epoch 0: got x of type int, expected rows; give an array"),
        (
            of(carried(2)),
            "fit: batch 0 of epoch 0: got carry=True, expected False, as there is no batch before it; leave",
        ),
        (
            of(BATCH, carried(3)),
            "fit: batch 1 of epoch 0: got 3 rows with carry=True, expected 2, as .*; keep the rows",
        ),
        (lambda: rc.data.Batch(*BATCH, carry=1), "Batch: got carry=1, expected True or False; pass"),  # type: ignore[arg-type]
        (
            lambda: sources.read("fit", lambda: 3, 1),
            "fit: got a function that cannot be called with the number of an epoch",
        ),
        (
            lambda: next(sources.read("fit", lambda epoch: 3, 1).epoch(0)),
            "fit: got int from the function of the epoch's",
        ),
        (lambda: rc.data.windows(SERIES, 41), "windows: got series of at most 40 steps, expected 41 for a window and"),
        (
            lambda: rc.data.windows(SERIES, 20, horizon=15, gap=9),
            "windows: got series of at most 40 steps, expected 44",
        ),
        (lambda: rc.data.windows([], 4), "windows: got series of at most 0 steps, expected 4"),
        (
            lambda: rc.data.windows([1.0, 2.0], 1),
            r"windows: got series\[0\] of shape \(\), expected \(T,\) or .*np.asarray",
        ),
        (
            lambda: rc.data.windows(SERIES[None], 4),
            r"windows: got series of shape \(1, 40, 3\), .*; write list\(series\)",
        ),
        (
            lambda: rc.data.windows([SERIES, LABELS], 4),
            r"windows: got series\[1\] of shape \(40, 1\), expected \(T, ...\)",
        ),
        (
            lambda: rc.data.windows(SERIES, 4, target=LABELS),
            "windows: got a target but nothing to predict, expected a hor",
        ),
        (
            lambda: rc.data.windows(SERIES, 4, features=1),
            "windows: got features but nothing to predict, expected a hor",
        ),
        (lambda: rc.data.windows(SERIES, 4, gap=1), "windows: got gap=1 with horizon=0, .*; give horizon"),
        (
            lambda: rc.data.windows(SERIES, 4, horizon=1, gap=1, aligned=True),
            "windows: got gap=1 with .*; add it to hor",
        ),
        (
            lambda: rc.data.windows(SERIES, 4, horizon=1, features=3),
            "windows: got features=3, expected an integer from 0 to 2",
        ),
        (
            lambda: rc.data.windows(SERIES, 4, horizon=1, features=[]),
            r"windows: got features=\[\] for steps of shape \(3,\)",
        ),
        (
            lambda: rc.data.windows(SERIES, 4, horizon=1, target=LABELS, features=0),
            r"windows: got features=0 for steps of shape \(\), expected indices .*; leave features out",
        ),
        (
            lambda: rc.data.windows(SERIES, 4, horizon=1, target=LABELS[1:]),
            r"windows: got target of shape \(39,\), expected 40 steps, as its series has; give a value for each step",
        ),
        (
            lambda: rc.data.windows([SERIES, SERIES], 4, horizon=1, target=[LABELS]),
            "windows: got 1 targets for 2 series, expected the same number; give one for each",
        ),
        (lambda: rc.data.windows(SERIES, 0), "windows: got width=0, expected an integer from 1"),
        (lambda: rc.data.windows("text", 2), "windows: got text in series, expected numbers"),  # type: ignore[arg-type]
        (
            lambda: rc.data.bucket_batches([3, 9], 2, 0, max_steps=8),
            "bucket_batches: got row 1 with 9 steps, expected at most max_steps=8; raise max_steps, or cut the row",
        ),
        (lambda: rc.data.bucket_batches([3, -1], 2, 0), r"bucket_batches: got lengths\[1\] = -1, expected 0 to"),
        (lambda: rc.data.bucket_batches([[3]], 2, 0), r"bucket_batches: got lengths of shape \(1, 1\), expected"),
        (lambda: rc.data.bucket_batches([3.0], 2, 0), "bucket_batches: got lengths of float64, expected integers"),
        (
            lambda: stateful(SERIES, LABELS, 41),
            "stateful: got 40 steps in all for batch_size=41, expected at least one step for each",
        ),
        (
            lambda: stateful(SERIES, LABELS[1:]),
            "stateful: got y of 39 steps, expected 40, as x has; give a value for each",
        ),
        (
            lambda: stateful([SERIES], LABELS),
            "stateful: got a list as x but one array as y, expected the same form; give",
        ),
        (
            lambda: stateful(SERIES[:, 0], LABELS),
            r"stateful: got x of shape \(40,\) and float32, .*; write x\[:, None\]",
        ),
        (
            lambda: stateful([SERIES], [LABELS, LABELS]),
            "stateful: got 2 sequences as y, expected 1, as x has; give one",
        ),
        (
            lambda: stateful([3, 4], [4, 5]),
            r"stateful: got x\[0\] of shape \(\), expected .*; write np.asarray\(x\) if it",
        ),
        (
            lambda: stateful({"a": [SERIES]}, {"b": [SERIES[1:]]}),
            r"stateful: got y\['b'\]\[0\] of 39 steps, expected 40, as x\['a'\]\[0\] has",
        ),
        (lambda: stateful((), ()), "stateful: got no x and no y, expected some; give some data"),
        (lambda: stateful([], []), "stateful: got an empty list as x, expected at least one sequence; give some data"),
        (
            lambda: stateful([SERIES, LABELS], [LABELS, LABELS]),
            r"stateful: got x\[1\] of shape \(40,\) and int64, expected \(T, ...\) with \(3,\) at each step",
        ),
        (
            lambda: stateful(SERIES, LABELS, sample_weight=SERIES),
            r"stateful: got sample_weight of shape \(40, 3\), expected \(T,\); give a number for each step",
        ),
        (
            lambda: sessions([[1], []], [[1], []]),
            "sessions: got 1 non-empty sequences for batch_size=2, expected at least one for",
        ),
        (
            lambda: sessions(SERIES, LABELS),
            "sessions: got sequences of type ndarray, expected a list of arrays; give one",
        ),
        (
            lambda: sessions([[1], [2]], [[1], [2, 3]]),
            r"sessions: got targets\[1\] of 2 steps, expected 1, as sequences\[1\]",
        ),
        (
            lambda: order.validation_rows("fit", 0.2, 1),
            "fit: got validation_split=0.2 for 1 rows, which leaves 0 to train on",
        ),
        (
            lambda: order.validation_rows("fit", 0.0, 4),
            "fit: got validation_split=0 for 4 rows, which leaves 4 to train on and 0",
        ),
        (
            lambda: order.validation_rows("fit", 1.2, 4),
            "fit: got validation_split=1.2, expected a finite number from 0 to 1",
        ),
    ],
)
def test_errors(make: Callable[[], Any], says: str) -> None:
    with pytest.raises((ValueError, TypeError), match=f"^{says}"):
        make()


def stateful(x: Any, y: Any, batch_size: int = 2, **options: Any) -> Any:
    return rc.data.stateful(x, y, batch_size=batch_size, steps=3, **options)


def sessions(x: Any, y: Any) -> Any:
    return rc.data.sessions(x, y, batch_size=2, steps=3)


# Rows


def test_the_last_rows_are_for_validation() -> None:
    assert order.validation_rows("fit", 0.2, 10) == (slice(0, 8), slice(8, 10))
    assert order.validation_rows("fit", 0.25, 10) == (slice(0, 7), slice(7, 10))
    assert order.validation_rows("fit", 0.9, 10) == (slice(0, 1), slice(1, 10))
