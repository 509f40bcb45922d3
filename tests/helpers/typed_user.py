"""A user's program over all of the API, as a type checker sees it: test_types.py runs mypy --strict and, where it is
there, pyright on it, and never runs it. No cast, and what an editor knows is asserted: `assert_type` fails the
check."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

import recurra as rc
from recurra.sklearn import Forecaster, SequenceClassifier, SequenceTagger

if TYPE_CHECKING:
    from typing_extensions import assert_type  # noqa: TC004 - never run

Array = npt.NDArray[Any]
Pair = tuple[Array, Array]


def language_model(path: Path) -> float:
    model = rc.Sequential(
        rc.Embedding(256, 64),
        rc.LSTM(64, 128, num_layers=2, dropout=0.1),
        rc.Linear(128, 256),
        seed=0,
    )
    x = np.zeros((8, 20), np.int64)
    history = model.fit(
        x, x, loss=rc.losses.CrossEntropy(), optimizer=rc.optim.AdamW(3e-3, weight_decay=0.01), epochs=2, seed=0
    )
    assert_type(history, rc.History)
    assert_type(history.history, dict[str, list[float]])
    assert_type(model.evaluate(x, x, loss="cross_entropy"), float)
    assert_type(model.evaluate(x, x, loss="cross_entropy", metrics=["accuracy"]), dict[str, float])
    assert_type(model.evaluate(x, x, loss="cross_entropy", metrics=rc.metrics.Perplexity()), dict[str, float])
    assert_type(model.evaluate(x, x, loss="cross_entropy", weighted_metrics="accuracy"), dict[str, float])
    assert_type(model.predict(x), Array)
    assert_type(model.predict_proba(x), Array)
    assert_type(model.predict([x[0], x[1, :3]]), Array | list[Array])
    model.save(path)
    loaded = rc.load(path, kind=rc.Sequential)
    assert_type(loaded, rc.Sequential)
    stream = loaded.stream(batch_size=1)
    logits = stream.step(x[:1, 0])
    assert_type(logits, Array)
    assert_type(stream.process([[1, 2, 3]]), Array)
    other = stream.fork(3)
    other.step(x[:2, 0], reset=[True, False], rows=[2, 0])
    stream.load_state(other.state(rows=[1]))
    y, states = loaded(x, lengths=[20] * 8)
    assert_type(y, Array)
    assert_type(states, list[Any])
    return float(logits[0, 0]) + float(y.sum()) + history.history["loss"][-1]


def layers() -> float:
    lstm = rc.LSTM(3, 5, bidirectional=True, dtype="float64")
    y, (h_n, c_n) = lstm(np.zeros((2, 7, 3)), lengths=[7, 3])
    assert_type(y, Array)
    assert_type(h_n, Array)
    assert_type(lstm.init_state(2), Pair)
    z, h = rc.GRU(3, 5)([[[1.0, 2.0, 3.0]]], state=np.zeros((1, 1, 5)))
    assert_type(h, Array)
    assert_type(rc.RNN(3, 5)(y)[1], Array)
    assert_type(rc.MinGRU(3, 5)(y)[1], Array)
    assert_type(rc.Linear(3, 5)(y)[0], Array)
    tape = lstm.record(np.zeros((2, 7, 3)), input_grad=True, seed=1)
    dx, _ = tape.backward(np.ones_like(tape.y))
    lstm.params["weight_hh_l0"] = np.zeros((20, 5))
    with lstm.edit() as parameters:
        parameters["bias_ih_l0"][...] = 0.0
    gradients = lstm.new_grads()
    rc.optim.SGD(0.1, momentum=0.9).step(lstm, clip_norm=1.0)
    state: dict[str, Array] = lstm.state_dict()
    lstm.load_state_dict(state)
    model = rc.Sequential([lstm, rc.Dropout(0.1), rc.Linear(10, 2, dtype="float64")])
    first: rc.Layer = model[0]
    assert_type(model[:2], rc.Sequential)
    assert dx is not None
    return float(dx.sum()) + len(model) + sum(c_n.shape) + len(gradients) + float(z.sum()) + len(first.params)


def graphs() -> float:
    symbol = rc.Input(features=3)
    hidden = rc.GRU(3, 4)(symbol)
    assert_type(hidden, rc.Symbol)
    one = rc.Model(symbol, rc.Linear(4, 2)(hidden) + rc.Linear(3, 2)(symbol))
    two = rc.Model(symbol, (hidden, rc.Linear(4, 2)(hidden)))
    named = rc.Model({"x": symbol}, {"y": rc.Linear(4, 2)(hidden[..., :4])})
    assert_type(one, rc.Model[Array])
    assert_type(two, rc.Model[tuple[Array, ...]])
    assert_type(named, rc.Model[dict[str, Array]])
    x = np.zeros((4, 6, 3), np.float32)
    assert_type(one(x)[0], Array)
    assert_type(two(x)[0], tuple[Array, ...])
    assert_type(one.predict(x), Array)
    assert_type(two.predict(x), tuple[Array, ...])
    assert_type(two.stream().step(x[:1, 0]), tuple[Array, ...])
    assert_type(named.stream().step({"x": x[:1, 0]}), dict[str, Array])
    losses = {"y": rc.losses.MeanSquaredError()}
    named.fit({"x": x}, {"y": x[..., :2]}, loss=losses, loss_weights={"y": 0.5}, optimizer=rc.optim.SGD(0.1))
    both = rc.Sequential(rc.Bidirectional(rc.GRU(3, 4), merge_mode="sum"), rc.Residual(rc.Linear(4, 4)))
    assert_type(both(symbol), rc.Symbol)
    model: rc.Model = one
    return float(one(x)[0].sum()) + float(both.predict(x).mean()) + len(model.params)


class Swish(rc.PythonLayer):
    """A layer of a user's own."""

    def forward(
        self, x: Array, *, lengths: Array | None, training: bool, rng: np.random.Generator
    ) -> tuple[Array, Array]:
        return x / (1 + np.exp(-x)), x

    def backward(self, dy: Array, saved: Array) -> Array:
        s = 1 / (1 + np.exp(-saved))
        return np.asarray(dy * (s + saved * s * (1 - s)))


class Poisson(rc.losses.CustomLoss):
    """A loss of a user's own."""

    def compute(self, predictions: Array, targets: Array) -> tuple[float, Array]:
        rate = np.exp(predictions)
        return float((rate - targets * predictions).mean()), (rate - targets) / rate.size


def absolute(prediction: Array, target: Array) -> tuple[float, Array]:
    error = prediction - target
    return float(np.abs(error).mean()), np.sign(error) / error.size


class Slower(rc.callbacks.Callback):
    """A callback of a user's own."""

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        if logs["loss"] > 1.0:
            self.training.optimizer.lr *= 0.5
        self.model.stop_training = epoch > 3


def batches(epoch: int) -> Iterator[rc.data.Batch]:
    for _ in range(3 + epoch):
        yield rc.data.Batch(np.zeros((2, 5, 3), np.float32), np.zeros((2, 5, 1), np.float32))


def training(directory: Path) -> float:
    model = rc.Sequential(rc.GRU(3, 4), Swish(), rc.Linear(4, 1))
    stopping = rc.callbacks.EarlyStopping("loss", patience=2)
    history = model.fit(
        batches,
        loss=Poisson(),
        optimizer=rc.optim.Adam(rc.optim.schedules.CosineDecay(1e-3, 100)),
        metrics=["mae", rc.metrics.R2()],
        callbacks=[stopping, Slower(), rc.callbacks.CSVLogger(directory / "log.csv")],
        truncate=rc.TruncatedBPTT(k1=5),
        clip_norm=1.0,
    )
    x, y = rc.data.windows(np.zeros((50, 3), np.float32), 5, horizon=1)
    model.fit(x, y, loss=absolute, optimizer="adam", validation_split=0.2, callbacks=stopping)
    value = rc.losses.MeanSquaredError()(np.zeros((2, 3), np.float32), np.ones((2, 3)))
    flow = rc.diagnose.gradient_flow(model, x, y, loss="mse")
    return stopping.best + history.history["mae"][-1] + value.mean + value.sum + len(str(flow))


def estimators() -> float:
    x = [np.zeros((5, 3)), np.zeros((7, 3))]
    classifier = SequenceClassifier(hidden_size=8, max_iter=2).fit(x, ["a", "b"])
    tagger = SequenceTagger(hidden_size=8).fit(x, [np.zeros(5, int), np.ones(7, int)])
    forecaster = Forecaster(horizon=3, window=4).fit(np.zeros(50))
    return float(classifier.score(x, ["a", "b"])) + len(tagger.predict(x)) + float(forecaster.predict(np.zeros(9))[0])


def decoding() -> int:
    found = rc.ctc.greedy(np.zeros((2, 9, 5), np.float32))
    best = rc.search.beam_search(
        (rc.Embedding(5, 4), rc.GRU(4, 8), rc.Linear(8, 5)), start=0, end=1, max_steps=9, batch_size=2
    )
    rc.set_num_threads(2)
    return len(found) + len(best.tokens) + rc.get_num_threads() + len(rc.isa())
