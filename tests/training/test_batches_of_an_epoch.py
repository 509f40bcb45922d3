"""What an epoch consists of: steps_per_epoch, validation_steps, drop_last, sources without end; predict on all of
them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recurra as rc
from agreement import assert_same_bits
from array_types import Array

RNG = np.random.default_rng(0)
X = RNG.standard_normal((14, 5, 3)).astype(np.float32)
Y = RNG.standard_normal((14, 5, 2)).astype(np.float32)
LENGTHS = np.array([5, 1, 3, 5, 0, 2, 5, 5, 4, 1, 5, 5, 2, 3])
LOSS = rc.losses.L1()


def model(*layers: Any) -> Any:
    return rc.Sequential(*(layers or (rc.GRU(3, 4), rc.Linear(4, 2))), seed=0)


def fit(one: Any, *data: Any, **options: Any) -> Any:
    return one.fit(
        *data, **{"loss": LOSS, "optimizer": rc.optim.SGD(0.1), "batch_size": 4, "seed": 3, "verbose": 0, **options}
    )


def endless() -> Iterator[tuple[Array, Array]]:
    """What people write for Keras."""
    while True:
        for row in range(7):
            yield X[2 * row : 2 * row + 2], Y[2 * row : 2 * row + 2]


def listed(count: int, begin: int = 0) -> list[rc.data.Batch]:
    return [rc.data.Batch(*one) for one in itertools.islice(endless(), begin, begin + count)]


class Endless:
    """An object whose __iter__ never ends."""

    def __iter__(self) -> Iterator[Any]:
        while True:
            yield X[:2], Y[:2]


SOURCES: dict[str, Any] = {
    "generator": endless,
    "object": lambda: listed(7),
    "function": lambda: lambda epoch: listed(7),
    "endless function": lambda: lambda epoch: endless(),
}


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("steps", [1, 3, 7, 10])
def test_epochs_go_on_where_the_last_one_ended(name: str, steps: int) -> None:
    """Three epochs of so many batches are one of all of them."""
    one, other = model(), model()
    history = fit(one, SOURCES[name](), steps_per_epoch=steps, epochs=3)
    expected = fit(other, listed(3 * steps))
    assert history.epoch == [0, 1, 2]
    assert np.mean(history.history["loss"]) == pytest.approx(expected.history["loss"][0], rel=1e-5)
    for key, array in one.state_dict().items():
        assert_same_bits(array, other.state_dict()[key])


def biases(**options: Any) -> list[float]:
    """One of the parameters after each step."""
    one = model()
    found: list[float] = []
    note = rc.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: found.append(one.params["1.bias"][0]))
    fit(one, X, Y, callbacks=note, **options)
    return found


@pytest.mark.parametrize("steps", [1, 2, 4, 6])
def test_rows_are_gone_through_before_they_come_again(steps: int) -> None:
    """Each pass in an order of its own; the passes are those of epochs without steps_per_epoch."""
    assert biases(steps_per_epoch=steps, epochs=12 // steps) == biases(epochs=3)


@pytest.mark.parametrize("stop", range(1, 6))
def test_a_run_of_counted_steps_goes_on(stop: int, tmp_path: Path) -> None:
    def end(batch: int, logs: Any) -> None:
        if ender.training.step == stop:
            raise KeyboardInterrupt

    def run(*callbacks: Any) -> Any:
        one = model()
        fit(one, lambda epoch: listed(7), steps_per_epoch=2, epochs=3, callbacks=list(callbacks))
        return one

    whole = run()
    ender = rc.callbacks.LambdaCallback(on_train_batch_end=end)
    with pytest.raises(KeyboardInterrupt):
        run(rc.callbacks.BackupAndRestore(tmp_path, save_freq=1, delete_checkpoint=False), ender)
    rest = rc.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: None)
    resumed = run(rc.callbacks.BackupAndRestore(tmp_path, save_freq=1, delete_checkpoint=False), rest)
    for key, array in resumed.state_dict().items():
        assert_same_bits(array, whole.state_dict()[key])


def test_validation_sees_the_first_batches() -> None:
    for data in (lambda: listed(7), lambda: endless_function, lambda: (X, Y)):
        one = model()
        history = fit(one, X, Y, optimizer=rc.optim.SGD(0.0), epochs=2, validation_data=data(), validation_steps=2)
        rows = 8 if isinstance(data(), tuple) else 4
        expected = one.evaluate(X[:rows], Y[:rows], loss=LOSS)
        assert history.history["val_loss"] == pytest.approx([expected] * 2, rel=1e-6)
        source = data()
        if not isinstance(source, tuple):
            assert one.evaluate(source, loss=LOSS, steps=2) == pytest.approx(expected, rel=1e-6)


def endless_function(epoch: int) -> Iterator[Any]:
    return endless()


@pytest.mark.parametrize(
    "source",
    [
        endless,
        lambda: endless_function,
        Endless,
        lambda: lambda epoch: endless(),
        lambda: itertools.cycle(listed(2)),
        lambda: itertools.repeat(listed(1)[0]),
        lambda: (listed(1)[0] for _ in itertools.count()),
        lambda: map(dict(enumerate(listed(2))).get, itertools.cycle([0, 1])),
    ],
    ids=["generator", "generator function", "object", "function", "cycle", "repeat", "expression", "map"],
)
def test_what_never_ends_is_refused_where_nothing_ends_it(source: Any) -> None:
    with pytest.raises(ValueError, match=r"fit: got .* that never ends.* give steps_per_epoch="):
        fit(model(), source())
    with pytest.raises(ValueError, match=r"fit: validation_data: got .* that never ends.* give validation_steps="):
        fit(model(), X, Y, validation_data=source())
    for name in ("evaluate", "predict"):
        with pytest.raises(ValueError, match=f"{name}: got .* that never ends.* give steps="):
            getattr(model(), name)(source(), **({"loss": LOSS} if name == "evaluate" else {}))

    def end(batch: int, logs: Any) -> None:
        ender.training.stop_training = batch == 4

    ender = rc.callbacks.LambdaCallback(on_train_batch_end=end)
    assert fit(model(), source(), callbacks=ender).epoch == [0]
    assert ender.training.step == 5


def test_an_iterator_that_runs_out_says_so() -> None:
    with pytest.raises(ValueError, match=r"run out of batches.*lower epochs or steps_per_epoch"):
        fit(model(), iter(listed(5)), steps_per_epoch=3, epochs=2)
    with pytest.raises(ValueError, match="or steps_per_epoch="):
        fit(model(), iter(listed(5)), epochs=2)


@pytest.mark.parametrize("value", [0, -1, 1.5, True])
def test_errors_of_steps(value: Any) -> None:
    for name in ("steps_per_epoch", "validation_steps"):
        with pytest.raises((ValueError, TypeError), match=f"fit: got {name}="):
            fit(model(), X, Y, validation_data=(X, Y), **{name: value})
    with pytest.raises(ValueError, match="validation_steps=2 without validation_data"):
        fit(model(), X, Y, validation_steps=2)


# drop_last, and batch norm


@pytest.mark.parametrize("bucket", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
def test_drop_last_leaves_out_what_fills_no_batch(shuffle: bool, bucket: bool) -> None:
    seen: list[int] = []
    one = model()
    rows = [row[:length] for row, length in zip(X, LENGTHS, strict=True)]
    targets = [row[:length] for row, length in zip(Y, LENGTHS, strict=True)]
    note = rc.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(batch))
    fit(one, rows, targets, drop_last=True, shuffle=shuffle, bucket=bucket, callbacks=note, epochs=2)
    assert seen == [0, 1, 2] * 2
    if not (shuffle or bucket):
        other = model()
        fit(other, rows[:12], targets[:12], shuffle=False, epochs=2)
        assert_same_bits(one.params["1.bias"], other.params["1.bias"])


def test_errors_of_drop_last() -> None:
    with pytest.raises(ValueError, match="drop_last=True with fewer rows than batch_size"):
        fit(model(), X, Y, drop_last=True, batch_size=15)
    with pytest.raises(ValueError, match="drop_last=True with fewer rows than batch_size"):
        fit(model(), X, Y, drop_last=True, batch_size=15, steps_per_epoch=2)
    with pytest.raises(ValueError, match="drop_last=True for batches made by"):
        fit(model(), listed(2), drop_last=True)
    with pytest.raises(ValueError, match="drop_last=True with bucket=9"):
        fit(model(), X, Y, LENGTHS, drop_last=True, bucket=9)


def normalised(sequences: bool) -> Any:
    return model(rc.GRU(3, 4, return_sequences=sequences), rc.BatchNorm(4), rc.Linear(4, 2))


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("form", ["last step", "ragged"])
def test_a_row_left_alone_is_found_before_training(form: str, shuffle: bool) -> None:
    """Not at the end of the first epoch; what it says to do works."""
    one = normalised(form == "ragged")
    x, y, lengths = X[:13], (Y[:13] if form == "ragged" else Y[:13, 0]), None
    if form == "ragged":
        lengths = np.array([5, 4, 3, 5, 2, 2, 5, 5, 4, 3, 5, 5, 1])
    before = one.state_dict()
    with pytest.raises(ValueError, match=r"fit: got a last batch of one row, .*give drop_last=True"):
        fit(one, x, y, lengths, shuffle=shuffle)
    for key, array in one.state_dict().items():
        assert_same_bits(array, before[key])
    fit(one, x, y, lengths, shuffle=shuffle, drop_last=True)
    fit(one, x, y, lengths, shuffle=shuffle, batch_size=5)


def test_a_row_alone_that_has_a_variance_is_welcome() -> None:
    """And trying it out moves nothing: the bits are those of batches of the same rows made ready."""
    one, other = normalised(True), normalised(True)
    fit(one, X[:13], Y[:13], shuffle=False)
    fit(other, [rc.data.Batch(X[i : i + 4], Y[i : i + 4]) for i in (0, 4, 8)] + [rc.data.Batch(X[12:13], Y[12:13])])
    for key, array in one.state_dict().items():
        assert_same_bits(array, other.state_dict()[key])


# predict


class Loader:
    """As PyTorch's: a length, an order, lists of x and y."""

    def __len__(self) -> int:
        return 7

    def __getitem__(self, index: int) -> list[Array]:
        return [X[2 * index : 2 * index + 2], Y[2 * index : 2 * index + 2]]


@pytest.mark.parametrize(
    "make",
    [
        lambda: listed(7),
        Loader,
        lambda: (X[2 * i : 2 * i + 2] for i in range(7)),
        lambda: ((X[2 * i : 2 * i + 2],) for i in range(7)),
        lambda: [(X[2 * i : 2 * i + 2], Y[:2]) for i in range(7)],
        lambda: lambda epoch: listed(7),
    ],
    ids=["batches", "loader", "arrays", "tuples", "list", "function"],
)
def test_predict_takes_what_fit_takes(make: Any) -> None:
    assert_same_bits(model().predict(make()), model().predict(X))
    assert_same_bits(model().predict(make(), steps=3), model().predict(X[:6]))


def test_predict_of_endless_batches() -> None:
    assert_same_bits(model().predict(endless(), steps=7), model().predict(X))
    assert_same_bits(model().predict(X, steps=2, batch_size=3), model().predict(X[:6]))


def test_predict_of_ragged_batches_is_a_list() -> None:
    batches = [
        rc.data.Batch(X[:6], None, LENGTHS[:6]),
        rc.data.Batch([X[6, :2], X[7]], None),
        rc.data.Batch(X[8:], None),
    ]
    found = model().predict(batches)
    expected = model().predict(X)
    lengths = [*LENGTHS[:6], 2, 5, *[5] * 6]
    assert isinstance(found, list)
    for row, one, length in zip(expected, found, lengths, strict=True):
        assert_same_bits(one, row[:length])


def test_predict_goes_on_with_what_is_carried() -> None:
    """Stateful batches give each lane's output in one piece."""
    long = RNG.standard_normal((21, 3)).astype(np.float32)
    lanes = rc.data.stateful(long, long, batch_size=2, steps=4)
    found = model().predict(lanes)
    assert isinstance(found, list)  # one lane is a step longer
    for one, lane in zip(found, (long[:11], long[11:]), strict=True):
        assert_same_bits(one, model().predict(lane[None])[0])
    even = rc.data.stateful(long[:20], long[:20], batch_size=2, steps=4)
    assert_same_bits(model().predict(even), model().predict(long[:20].reshape(2, 10, 3)))


def test_predict_of_several_inputs_and_outputs() -> None:
    a, b = rc.Input(features=3, name="a"), rc.Input(features=3, name="b")
    h = rc.GRU(3, 4)(a)
    one = rc.Model({"a": a, "b": b}, (rc.Linear(4, 2)(h), rc.Linear(3, 1)(b)), seed=0)
    batches = [{"a": X[:4], "b": X[4:8]}, {"a": X[4:8], "b": X[:4]}]
    expected = one.predict({"a": X[:8], "b": np.concatenate([X[4:8], X[:4]])})
    for found, wanted in zip(one.predict(iter(batches)), expected, strict=True):
        assert_same_bits(found, wanted)


def test_errors_of_predict() -> None:
    with pytest.raises(ValueError, match="predict: got lengths beside batches"):
        model().predict(listed(2), LENGTHS)
    with pytest.raises(ValueError, match=r"predict: batch 1: got x of shape \(2, 5, 4\)"):
        model().predict(iter([X[:2], np.zeros((2, 5, 4), np.float32)]))
    with pytest.raises(ValueError, match="predict: got no batches"):
        model().predict(iter([]))


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_window_of_one_step_is_found_before_training(shuffle: bool) -> None:
    """Of the row that is left for the last batch: five steps are two windows of two, and one."""
    one = normalised(True)
    x, y = X[:13, :5], Y[:13, :5]
    before = one.state_dict()
    with pytest.raises(ValueError, match=r"fit: got a last batch of one row, .*give drop_last=True"):
        fit(one, x, y, shuffle=shuffle, truncate=rc.TruncatedBPTT(2))
    for key, array in one.state_dict().items():
        assert_same_bits(array, before[key])
    fit(one, x, y, shuffle=shuffle, truncate=rc.TruncatedBPTT(2), drop_last=True)


@pytest.mark.parametrize("truncate", [None, rc.TruncatedBPTT(2)])
def test_a_batch_of_one_step_is_found_before_training(truncate: Any) -> None:
    one = normalised(True)
    lengths = np.array([5, 5, 5, 5, 1, 0, 0, 0, 5, 5, 5, 5]) if truncate is None else np.array([5, 2, 2, 2] * 3)
    before = one.state_dict()
    with pytest.raises(ValueError, match=r"fit: got rows so short that .*leave such rows out"):
        fit(one, X[:12, :5], Y[:12, :5], lengths, shuffle=False, truncate=truncate)
    for key, array in one.state_dict().items():
        assert_same_bits(array, before[key])
