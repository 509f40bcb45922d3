"""fit over batches from sources: the state goes on from batch to batch, and runs repeat."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import recurra as rc
from agreement import assert_same_bits
from array_types import Array

RNG = np.random.default_rng(0)
TEXT = RNG.integers(0, 7, 200)
VISITS = [RNG.integers(0, 7, n) for n in RNG.integers(1, 9, 40)]
LOSS = rc.losses.CrossEntropy()


def language_model() -> Any:
    return rc.Sequential(rc.Embedding(7, 5), rc.LSTM(5, 9), rc.Linear(9, 7), seed=0)


def fitted(x: Any, epochs: int = 2, **options: Any) -> Any:
    model = language_model()
    options.setdefault("loss", LOSS)
    history = model.fit(x, optimizer=rc.optim.SGD(0.5), epochs=epochs, seed=0, verbose=0, **options)
    assert np.isfinite(history.history["loss"]).all()
    return model


def assert_same_weights(one: Any, other: Any) -> None:
    for name in one.params:
        assert_same_bits(one.params[name], other.params[name], name)


def by_hand(epochs: list[list[rc.data.Batch]]) -> Any:
    """The loop that `fit` runs."""
    model, optimizer = language_model(), rc.optim.SGD(0.5)
    for epoch in epochs:
        state = None
        for batch in epoch:
            model.zero_grad()
            begin = state if batch.carry else None
            tape = model.record(batch.x, begin, batch.lengths, batch.reset, input_grad=False)
            value = LOSS(tape.y, batch.y, batch.lengths)
            tape.backward(value.gradient)
            optimizer.step(model, scale=1 / value.count)
            state = tape.state
    return model


def test_fit_carries_the_state_of_stateful_batches() -> None:
    batches = rc.data.stateful(TEXT[:-1], TEXT[1:], batch_size=3, steps=8)
    assert_same_weights(fitted(batches), by_hand([list(batches)] * 2))


def test_fit_lays_sessions_anew_each_epoch() -> None:
    source = rc.data.sessions([v[:-1] for v in VISITS], [v[1:] for v in VISITS], batch_size=4, steps=3, seed=1)
    assert_same_weights(fitted(source), by_hand([list(source.epoch(number)) for number in (0, 1)]))


def shuffled(epoch: int) -> Iterator[tuple[Array, ...]]:
    for begin in np.random.default_rng(epoch).permutation(5):
        yield TEXT[begin : begin + 24].reshape(3, 8), TEXT[begin + 1 : begin + 25].reshape(3, 8), np.array([8, 3, 0])


def test_fit_asks_a_function_for_each_epoch() -> None:
    expected = by_hand([[rc.data.Batch(*item) for item in shuffled(epoch)] for epoch in (0, 1)])
    assert_same_weights(fitted(shuffled), expected)


def test_weights_of_steps_leave_steps_out() -> None:
    """A weight of 0 is as no target at all."""
    weight = (np.arange(199) % 3 > 0).astype(float)
    batches = rc.data.stateful(TEXT[:-1], TEXT[1:], batch_size=3, steps=8, sample_weight=weight)
    ignored = np.where(weight > 0, TEXT[1:], -100)
    plain = rc.data.stateful(TEXT[:-1], ignored, batch_size=3, steps=8)
    assert_same_weights(fitted(batches), fitted(plain, loss=rc.losses.CrossEntropy(ignore_index=-100)))


def test_batches_that_do_not_fit_the_model_are_named() -> None:
    with pytest.raises(ValueError, match=r"^fit: batch 1.*got .*expected"):
        fitted([rc.data.Batch(TEXT[None, :5], TEXT[None, 1:6]), rc.data.Batch(TEXT[None, :5], TEXT[None, 1:5])])


def test_a_batch_that_carries_needs_a_model_that_can() -> None:
    """Both directions together need the whole row."""
    x = np.zeros((2, 3, 1), np.float32)
    batches = [rc.data.Batch(x, x), rc.data.Batch(x, x, carry=True)]
    model = rc.Sequential(rc.GRU(1, 2, bidirectional=True), rc.Linear(4, 1))
    with pytest.raises(ValueError, match="batch 1: got carry=True for a model"):
        model.fit(batches, loss=rc.losses.MeanSquaredError(), optimizer=rc.optim.SGD(0.1), verbose=0)


def test_batches_ready_made_cannot_be_sorted_by_length() -> None:
    with pytest.raises(ValueError, match=r"^fit: got bucket=True for batches made by function, expected False"):
        fitted(shuffled, bucket=True)


def test_an_iterator_cannot_validate_every_epoch() -> None:
    """Found before the first one."""
    steps: list[int] = []
    note = rc.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: steps.append(batch))
    with pytest.raises(ValueError, match=r"^fit: validation_data: got a generator, .*epochs=2"):
        fitted(shuffled, validation_data=shuffled(0), callbacks=note)
    assert not steps
    fitted(shuffled, epochs=1, validation_data=shuffled(0), callbacks=note)
    assert len(steps) == 5


@pytest.mark.parametrize(
    "weights", [np.ones(3), np.ones((3, 8), np.float32), [1.0, 0.5, 2.0], [np.ones(8)] * 3, (1.0, 2.0, 1.0)]
)
@pytest.mark.parametrize("how", ["fit", "evaluate", "validation_data", "validation batches", "predict"])
def test_weights_in_the_place_of_lengths(how: str, weights: Any) -> None:
    """As in Keras' (x, y, weights)."""
    x, y = TEXT[:24].reshape(3, 8), TEXT[1:25].reshape(3, 8)
    tagger: Any = rc.Sequential(rc.Embedding(50, 4), rc.Linear(4, 50), seed=0)
    given: dict[str, Any] = {"loss": LOSS, "optimizer": rc.optim.SGD(0.1), "verbose": 0}

    def call(batch: tuple[Any, ...]) -> Any:
        if how == "fit":
            return tagger.fit([batch], **given)
        if how == "evaluate":
            return tagger.evaluate([batch], loss=LOSS)
        if how == "predict":
            return tagger.predict([batch])
        return tagger.fit(x, y, **given, validation_data=batch if how == "validation_data" else [batch])

    with pytest.raises(
        TypeError, match=r"got floats in place of lengths, .* \(x, y, lengths, sample_weight\); put None before"
    ):
        call((x, y, weights))
    if isinstance(weights, np.ndarray):
        call((x, y, None, weights))
    call((x, y, np.array([8, 3, 0])))
