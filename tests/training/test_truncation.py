"""Truncated BPTT: values with carried state, gradients that reach as far as they say, burn-in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import recurra as rc
from agreement import assert_same_bits
from array_types import Array
from weights import weights_of

RNG = np.random.default_rng(0)
X = RNG.standard_normal((5, 23, 3))
Y = RNG.standard_normal((5, 23, 2))
LENGTHS = np.array([23, 0, 9, 10, 17])
LOSS = rc.losses.MeanSquaredError()


def model() -> Any:
    return rc.Sequential(
        rc.LSTM(3, 7, 2, dtype="float64"), rc.Conv1d(7, 5, 3, padding="causal", dtype="float64"),
        rc.Linear(5, 2, dtype="float64"), seed=1,
    )  # fmt: skip


class Steps(rc.callbacks.Callback):
    """Notes the parameters after each step."""

    def __init__(self) -> None:
        self.found: list[Array] = []

    def on_train_batch_end(self, batch: int, logs: dict[str, float]) -> None:
        self.found.append(weights_of(self.training.model))


def steps_of(truncate: Any, rate: float, lengths: Any = LENGTHS, **options: Any) -> tuple[Any, list[Array]]:
    note, one = Steps(), model()
    history = one.fit(
        X,
        Y,
        lengths,
        loss=LOSS,
        optimizer=rc.optim.SGD(rate),
        truncate=truncate,
        callbacks=note,
        seed=0,
        verbose=0,
        **options,
    )
    return history, note.found


@pytest.mark.parametrize("truncate", [(4, None, 0), (4, 8, 0), (5, 7, 0), (23, None, 0), (1, 3, 0), (40, 50, 0)])
def test_every_step_counts_once(truncate: Any) -> None:
    """With a rate of 0 the loss of all windows is that of the whole."""
    history, found = steps_of(rc.TruncatedBPTT(*truncate), 0.0)
    assert history.history["loss"][0] == pytest.approx(model().evaluate(X, Y, LENGTHS, loss=LOSS), rel=1e-12)
    assert len(found) == -(-23 // truncate[0])


def gradient_of_window(begin: int, new: int, end: int, lengths: Array = LENGTHS) -> Array:
    """Of the mean loss of steps `new` to `end`, through steps `begin` to `end`; 0 if no row has any of them."""
    one = model()
    _y, state = one(X[:, :begin], lengths=np.clip(lengths, 0, begin))
    tape = one.record(X[:, begin:end], state=state, lengths=np.clip(lengths - begin, 0, end - begin))
    value = LOSS(tape.y[:, new - begin :].copy(), Y[:, new:end].copy(), np.clip(lengths - new, 0, end - new))
    dy = np.zeros_like(tape.y)
    dy[:, new - begin :] = value.gradient
    tape.backward(dy)
    return np.concatenate([array.ravel() for array in one.grads.values()]) / max(value.count, 1)


class PutBack(Steps):
    """Notes each step's change of the parameters, and takes it back."""

    def on_train_begin(self) -> None:
        self._start = self.training.model.state_dict()

    def on_train_batch_end(self, batch: int, logs: dict[str, float]) -> None:
        super().on_train_batch_end(batch, logs)
        self.training.model.load_state_dict(self._start)


def drawn(case: int) -> tuple[int, int, int, int, Array]:
    """k1, k2, burn-in, steps and lengths."""
    rng = np.random.default_rng(case)
    k1, steps = int(rng.integers(1, 7)), int(rng.integers(1, 24))
    return k1, k1 + int(rng.integers(0, 9)), int(rng.integers(0, 2) * rng.integers(0, steps)), steps, rng.integers(
        0, steps + 1, 5
    )  # fmt: skip


@pytest.mark.parametrize(
    ("k1", "k2", "burn_in", "steps", "lengths"),
    [(3, 6, 0, 13, np.full(5, 13)), (4, 8, 0, 23, LENGTHS), *(drawn(case) for case in range(60))],
)
def test_gradients_reach_k2_steps_back(k1: int, k2: int, burn_in: int, steps: int, lengths: Array) -> None:
    """From the last step of every window, also of the last one, which may have few new steps; never into the
    burn-in."""
    rate = 1e-3
    one, note = model(), PutBack()
    before = weights_of(one)
    lengths[0] = steps  # so that there is something to learn
    one.fit(
        X[:, :steps], Y[:, :steps], lengths, loss=LOSS, optimizer=rc.optim.SGD(rate),
        truncate=rc.TruncatedBPTT(k1, k2, burn_in), callbacks=note, seed=0, verbose=0,
    )  # fmt: skip
    windows = [(new, min(new + k1, steps)) for new in range(burn_in, steps, k1)]
    assert len(note.found) == len(windows)
    for (new, end), after in zip(windows, note.found, strict=True):
        expected = before - rate * gradient_of_window(max(burn_in, end - k2), new, end, lengths)
        np.testing.assert_allclose(after, expected, rtol=1e-10, atol=1e-12)


def test_burn_in_only_warms_up() -> None:
    """The windows behind it begin with its state; its own steps have no loss."""
    history, found = steps_of(rc.TruncatedBPTT(4, burn_in=11), 0.0)
    assert len(found) == 3  # nothing is a batch that no step of the optimiser follows
    one = model()
    y, _state = one(X, lengths=LENGTHS)
    expected = LOSS(y[:, 11:].copy(), Y[:, 11:].copy(), np.clip(LENGTHS - 11, 0, 12))
    assert history.history["loss"][0] == pytest.approx(expected.mean, rel=1e-12)


def test_stateful_batches_go_on() -> None:
    """One long series in two lanes: with a rate of 0 the losses are those of the lanes as a whole."""
    series, target = RNG.standard_normal((40, 3)), RNG.standard_normal((40, 2))
    batches = rc.data.stateful(series, target, batch_size=2, steps=6)
    one = model()
    history = one.fit(
        batches, loss=LOSS, optimizer=rc.optim.SGD(0.0), epochs=2, verbose=0, truncate=rc.TruncatedBPTT(2, 4)
    )
    lanes = series.reshape(2, 20, 3), target.reshape(2, 20, 2)
    assert history.history["loss"][1] == pytest.approx(one.evaluate(*lanes, loss=LOSS), rel=1e-12)


def test_windows_repeat_on_any_number_of_threads() -> None:
    found = []
    for threads in (1, 2):
        rc.set_num_threads(threads)
        found.append(steps_of(rc.TruncatedBPTT(4, 8), 0.05, accumulate=2, epochs=2)[1])
    for one, other in zip(*found, strict=True):
        assert_same_bits(one, other)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rc.TruncatedBPTT(4, 3), "k2=3 below k1=4"),
        (lambda: rc.TruncatedBPTT(0), "k1=0"),
        (lambda: rc.TruncatedBPTT(4, burn_in=-1), "burn_in"),
    ],
)
def test_errors_of_the_windows(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([rc.GRU(3, 4, bidirectional=True), rc.Linear(8, 2)], "truncate for a model .*GRU"),
        ([rc.GRU(3, 4, return_sequences=False), rc.Linear(4, 2)], "truncate for"),
    ],
)
def test_errors_of_the_model(layers: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rc.Sequential(*layers).fit(
            X, Y if "a model" in message else Y[:, 0], loss=LOSS, optimizer=rc.optim.SGD(0.1),
            truncate=rc.TruncatedBPTT(4), verbose=0,
        )  # fmt: skip


def test_burn_in_is_no_step() -> None:
    """Neither in the mean of the gradients' norms nor in the count of what is accumulated."""
    truncate = rc.TruncatedBPTT(4, burn_in=11)
    history, found = steps_of(truncate, 0.0)
    assert len(found) == 3
    norms = [np.linalg.norm(gradient_of_window(begin, begin, begin + 4)) for begin in (11, 15, 19)]
    assert history.history["grad_norm"][0] == pytest.approx(np.mean(norms), rel=1e-10)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint64"])
def test_lengths_of_any_integers(dtype: str) -> None:
    """What is left of a row behind a window is no large unsigned number."""

    def fit(lengths: Array) -> Any:
        return model().fit(
            X, Y, lengths, loss=LOSS, optimizer=rc.optim.SGD(0.1), truncate=rc.TruncatedBPTT(4), seed=0, verbose=0
        )

    assert fit(LENGTHS.astype(dtype)).history == fit(LENGTHS).history


def test_rows_without_time_are_refused() -> None:
    with pytest.raises(ValueError, match="truncate for x without a time axis"):
        rc.Sequential(rc.Linear(3, 2, dtype="float64")).fit(
            X[:, 0], Y[:, 0], loss=LOSS, optimizer=rc.optim.SGD(0.1), truncate=rc.TruncatedBPTT(4), verbose=0
        )
