"""fit's options: metrics, weights, accumulation, clipping, validation, batches ready made, callbacks."""

from __future__ import annotations

import copy
import csv
import math
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recurra as rc
from agreement import assert_same_bits
from array_types import Array
from user_callbacks import planted
from weights import weights_of

RNG = np.random.default_rng(0)
LENGTHS = RNG.integers(0, 9, 24)
LENGTHS[:2] = 8, 0
X = RNG.standard_normal((24, 8, 3)).astype(np.float32)
STEPS = RNG.integers(0, 4, (24, 8))
LABELS = RNG.integers(0, 4, 24)
LISTS = [row[:length] for row, length in zip(X, LENGTHS, strict=True)]
STEP_LISTS = [row[:length] for row, length in zip(STEPS, LENGTHS, strict=True)]


def tagger(dtype: Any = "float32") -> Any:
    return rc.Sequential(rc.GRU(3, 6, dtype=dtype), rc.Linear(6, 4, dtype=dtype), seed=1)


def classifier(dtype: Any = "float32") -> Any:
    return rc.Sequential(rc.LSTM(3, 6, return_sequences=False, dtype=dtype), rc.Linear(6, 4, dtype=dtype), seed=1)


def fit(model: Any, x: Any, y: Any = None, **options: Any) -> Any:
    defaults: dict[str, Any] = {
        "loss": rc.losses.CrossEntropy(),
        "optimizer": rc.optim.SGD(0.1),
        "seed": 5,
        "verbose": 0,
        "batch_size": 8,
    }
    return model.fit(x, y, **{**defaults, **options})


def test_the_history_names_all_numbers() -> None:
    history = fit(
        tagger(),
        X,
        STEPS,
        lengths=LENGTHS,
        metrics=["accuracy", rc.metrics.Perplexity()],
        validation_split=0.25,
        epochs=2,
    )
    assert set(history.history) == {
        *("loss", "accuracy", "perplexity", "lr", "grad_norm", "clipped"),
        *("val_loss", "val_accuracy", "val_perplexity"),
    }
    assert all(len(values) == 2 for values in history.history.values())
    assert history.history["val_perplexity"][-1] == pytest.approx(math.exp(history.history["val_loss"][-1]), rel=1e-6)


def test_evaluate_gives_the_metrics_of_predict() -> None:
    model = tagger()
    found = model.evaluate(X, STEPS, LENGTHS, loss=rc.losses.CrossEntropy(), metrics="accuracy", batch_size=5)
    valid = np.arange(8) < LENGTHS[:, None]
    expected = (model.predict(X, LENGTHS).argmax(-1) == STEPS)[valid].mean()
    assert found["accuracy"] == pytest.approx(expected)
    assert found["loss"] == pytest.approx(model.evaluate(X, STEPS, LENGTHS, loss=rc.losses.CrossEntropy()))


def test_a_split_keeps_the_last_rows() -> None:
    split, given = tagger(), tagger()
    one = fit(split, X, STEPS, validation_split=0.25, epochs=2)
    other = fit(given, X[:18], STEPS[:18], validation_data=(X[18:], STEPS[18:]), epochs=2)
    assert one.history == other.history
    assert_same_bits(weights_of(split), weights_of(given))


@pytest.mark.parametrize("kind", ["rows", "steps", "lists"])
def test_a_weight_of_two_is_the_row_twice(kind: str) -> None:
    """In one batch, with rows in order; weights of 0 leave rows out."""
    weight = np.array([2.0, 0.0, 1.0])
    twice, once = tagger("float64"), tagger("float64")
    rows = [3, 4, 5]
    options: dict[str, Any] = {"shuffle": False, "batch_size": 8}
    if kind == "lists":
        x, y = [LISTS[row] for row in rows], [STEP_LISTS[row] for row in rows]
        given: Any = [np.full(len(row), own) for row, own in zip(y, weight, strict=True)]
        fit(once, x, y, sample_weight=given, **options)
        fit(twice, [x[0], x[0], x[2]], [y[0], y[0], y[2]], **options)
    else:
        given = weight if kind == "rows" else np.repeat(weight[:, None], 8, 1)
        fit(once, X[rows], STEPS[rows], sample_weight=given, **options)
        fit(twice, X[[3, 3, 5]], STEPS[[3, 3, 5]], **options)
    np.testing.assert_allclose(weights_of(once), weights_of(twice), rtol=1e-12, atol=1e-14)


def test_class_weights_are_those_of_the_loss() -> None:
    by_fit, by_loss = classifier("float64"), classifier("float64")
    fit(by_fit, X, LABELS, class_weight={1: 3.0, 2: 0.5})
    fit(by_loss, X, LABELS, loss=rc.losses.CrossEntropy(class_weights=[1.0, 3.0, 0.5, 1.0]))
    np.testing.assert_allclose(weights_of(by_fit), weights_of(by_loss), rtol=1e-12, atol=1e-14)


def test_class_weights_multiply_sample_weights() -> None:
    own = np.linspace(0.5, 2, 24)
    one, other = classifier("float64"), classifier("float64")
    fit(one, X, LABELS, sample_weight=own, class_weight=[1, 3, 1, 1])
    fit(other, X, LABELS, sample_weight=own * np.where(LABELS == 1, 3, 1))
    assert_same_bits(weights_of(one), weights_of(other))


@pytest.mark.parametrize("outputs", [1, 2])
def test_accumulated_batches_are_one_batch(outputs: int) -> None:
    """Ragged rows, so that batches count differently; the last step of an epoch has fewer of them."""

    def model() -> Any:
        x = rc.Input(features=3)
        h = rc.GRU(3, 6, dtype="float64", seed=0)(x)
        ends = [rc.Linear(6, 4, dtype="float64", seed=1)(h), rc.Linear(6, 1, dtype="float64", seed=2)(h)]
        return rc.Model(x, ends[0] if outputs == 1 else tuple(ends))

    y: Any = STEPS if outputs == 1 else (STEPS, X[..., :1])
    loss: Any = rc.losses.CrossEntropy()
    loss = loss if outputs == 1 else (loss, rc.losses.MeanSquaredError())
    small, large = model(), model()
    one = fit(small, X, y, lengths=LENGTHS, loss=loss, batch_size=4, accumulate=4, epochs=2, shuffle=False)
    other = fit(large, X, y, lengths=LENGTHS, loss=loss, batch_size=16, epochs=2, shuffle=False)
    np.testing.assert_allclose(weights_of(small), weights_of(large), rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(one.history["grad_norm"], other.history["grad_norm"], rtol=1e-11)


def test_clipping_is_in_the_history() -> None:
    free = fit(tagger(), X, STEPS).history
    norm = fit(tagger(), X, STEPS, clip_norm=1e-3).history
    value = fit(tagger(), X, STEPS, clip_value=1e-4).history
    assert free["clipped"] == [0.0]
    assert norm["clipped"] == [1.0]
    assert 0.5 < value["clipped"][0] < 1.0
    assert norm["grad_norm"][0] > 1e-2  # before clipping


def test_buckets_take_every_row_once() -> None:
    model = tagger()
    history = fit(model, LISTS, STEP_LISTS, bucket=True, epochs=1, optimizer=rc.optim.SGD(0.0))
    whole = model.evaluate(LISTS, STEP_LISTS, loss=rc.losses.CrossEntropy())
    sizes: list[int] = []
    note = rc.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: sizes.append(batch))
    fit(model, LISTS, STEP_LISTS, bucket=8, callbacks=note, optimizer=rc.optim.SGD(0.0))
    assert len(sizes) >= sum(map(len, LISTS)) / 8
    assert history.history["loss"][0] == pytest.approx(whole, rel=1e-6)


def test_batches_ready_made_are_those_of_arrays() -> None:
    class Batches:
        def __len__(self) -> int:
            return 3

        def __iter__(self) -> Iterator[Any]:
            for begin in (0, 8, 16):
                rows = slice(begin, begin + 8)
                yield X[rows], STEPS[rows], LENGTHS[rows]

    arrays, made, called = tagger(), tagger(), tagger()
    one = fit(arrays, X, STEPS, lengths=LENGTHS, shuffle=False, epochs=2, validation_data=(X, STEPS))
    other = fit(made, Batches(), epochs=2, validation_data=[rc.data.Batch(X, STEPS)])
    fit(called, lambda epoch: iter(Batches()), epochs=2)
    assert one.history == other.history
    assert_same_bits(weights_of(arrays), weights_of(made))
    assert_same_bits(weights_of(arrays), weights_of(called))


class Recorder(rc.callbacks.Callback):
    """Notes what happens."""

    log_names = ("twice",)

    def __init__(self) -> None:
        self.events: list[Any] = []

    def on_train_begin(self) -> None:
        self.events.append("begin")

    def on_epoch_begin(self, epoch: int) -> None:
        self.events.append(("epoch", epoch))

    def on_train_batch_end(self, batch: int, logs: dict[str, float]) -> None:
        self.events.append(batch)

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        logs["twice"] = 2 * logs["loss"]

    def on_train_end(self) -> None:
        self.events.append("end")


def test_callbacks_see_every_moment() -> None:
    recorder = Recorder()
    history = fit(tagger(), X, STEPS, epochs=2, callbacks=[recorder])
    assert recorder.events == ["begin", ("epoch", 0), 0, 1, 2, ("epoch", 1), 0, 1, 2, "end"]
    assert history.history["twice"] == [2 * value for value in history.history["loss"]]


def test_metrics_are_asked_after_a_step_only_if_a_callback_reads_them(tmp_path: Path) -> None:
    """An exact area under a curve sorts all that was seen so far."""
    asked: list[int] = []

    class Counts(rc.metrics.Accuracy):
        def result(self) -> float:
            asked.append(1)
            return super().result()

    silent = [
        rc.callbacks.BackupAndRestore(tmp_path, delete_checkpoint=False),
        rc.callbacks.ModelCheckpoint(tmp_path / "m", save_freq=1),
    ]
    fit(tagger(), X, STEPS, metrics=Counts(), callbacks=silent)
    assert len(asked) == 1
    fit(tagger(), X, STEPS, metrics=Counts(), callbacks=rc.callbacks.LambdaCallback(on_train_batch_end=print))
    assert len(asked) == 1 + 3 + 1


def test_a_callback_can_end_the_training() -> None:
    def stop(epoch: int, logs: dict[str, float]) -> None:
        ender.training.stop_training = epoch == 1

    ender = rc.callbacks.LambdaCallback(on_epoch_end=stop)
    assert fit(tagger(), X, STEPS, epochs=9, callbacks=ender).epoch == [0, 1]


@pytest.mark.parametrize(
    ("values", "options", "stopped", "best"),
    [
        ([3, 2, 1, 1, 1, 1], {"patience": 2}, 4, 2),
        ([3, 2, 1, 1, 1, 1], {"patience": 0}, 3, 2),
        ([1, 2, 3, 2, 2, 2], {"patience": 1, "mode": "max"}, 3, 2),
        ([3, 2.95, 2.9, 2.8, 2, 2], {"patience": 2, "min_delta": 0.5}, 2, 0),
        ([9, 9, 1, 2, 3, 3], {"patience": 1, "baseline": 5, "start_from_epoch": 2}, 3, 2),
        ([6, 5, 4, 3, 2, 1], {"patience": 1}, None, 5),
        ([math.nan, 2, math.nan, math.nan, 1, 1], {"patience": 2}, 3, 1),
    ],
)
def test_early_stopping(values: list[float], options: dict[str, Any], stopped: int | None, best: int) -> None:
    early = rc.callbacks.EarlyStopping("planted", **{"mode": "min", **options})
    weights: list[Array] = []
    note = rc.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: weights.append(weights_of(model)))
    model = tagger()
    fit(model, X, STEPS, epochs=6, callbacks=[note, planted(values), early])
    assert early.stopped_epoch == stopped
    assert early.best_epoch == best
    assert early.best == values[best]
    assert_same_bits(weights_of(model), weights[best])


def test_a_metric_says_which_way_is_better() -> None:
    early = rc.callbacks.EarlyStopping("val_accuracy", patience=50)
    history = fit(tagger(), X, STEPS, epochs=8, callbacks=early, metrics="accuracy", validation_split=0.3).history
    assert early.best == max(history["val_accuracy"])


def test_the_rate_falls_on_a_plateau() -> None:
    optimizer = rc.optim.SGD(1.0)
    reduce = rc.callbacks.ReduceLROnPlateau("planted", mode="min", factor=0.5, patience=2, cooldown=1, min_lr=0.2)
    history = fit(tagger(), X, STEPS, epochs=9, optimizer=optimizer, callbacks=[planted([1.0] * 9), reduce]).history
    # Epoch 0 is the best; two without improvement, one to rest, two more, ...
    assert history["lr"] == [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25]


def test_a_scheduler_sets_the_rate() -> None:
    scheduler = rc.callbacks.LearningRateScheduler(lambda epoch, rate: 0.5 if epoch == 0 else rate / 2)
    assert fit(tagger(), X, STEPS, epochs=3, callbacks=scheduler).history["lr"] == [0.5, 0.25, 0.125]


def test_checkpoints_of_the_model(tmp_path: Path) -> None:
    every = rc.callbacks.ModelCheckpoint(tmp_path / "m-{epoch:02d}-{loss:.2f}.safetensors", keep=2)
    best = rc.callbacks.ModelCheckpoint(
        tmp_path / "best.safetensors", monitor="planted", mode="min", save_best_only=True
    )
    often = rc.callbacks.ModelCheckpoint(tmp_path / "often.safetensors", save_freq=2)
    model = tagger()
    seen: list[Array] = []
    note = rc.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(weights_of(model)))
    fit(model, X, STEPS, epochs=4, callbacks=[note, planted([3, 1, 2, 2]), every, best, often])
    assert sorted(path.name.split("-")[1] for path in tmp_path.glob("m-*")) == ["03", "04"]
    assert_same_bits(weights_of(rc.load(tmp_path / "best.safetensors")), seen[1])
    assert_same_bits(weights_of(rc.load(tmp_path / "often.safetensors")), seen[3])


def test_the_history_as_a_file(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    history = fit(tagger(), X, STEPS, epochs=3, callbacks=[rc.callbacks.CSVLogger(path), planted([1, 2, 3])]).history
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert {name: [float(row[name]) for row in rows] for name in history} == history


def test_metrics_are_worked_out_where_they_are_looked_at() -> None:
    """After every step, AUC would sort all scores of the epoch again."""

    class Counting(rc.metrics.Accuracy):
        def result(self) -> float:
            results.append(1)
            return super().result()

    results: list[int] = []
    fit(tagger(), X, STEPS, metrics=Counting())
    assert len(results) == 1
    seen: list[dict[str, float]] = []
    look = rc.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(dict(logs)))
    history = fit(tagger(), X, STEPS, metrics=Counting(), callbacks=look)
    assert len(results) == 1 + 3 + 1
    assert seen[-1]["accuracy"] == history.history["accuracy"][0]


def test_a_line_per_epoch(caplog: pytest.LogCaptureFixture) -> None:
    fit(tagger(), X, STEPS, epochs=2, verbose=2, metrics="accuracy")
    first, second = caplog.messages
    assert first.startswith("epoch 1/2: loss 1.")
    assert "accuracy 0." in second


def test_the_history_as_a_picture() -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    history = fit(tagger(), X, STEPS, metrics="accuracy", validation_split=0.25, epochs=3)
    panels = history.plot()
    assert [panel.get_title() for panel in panels] == ["loss", "accuracy", "grad_norm"]
    lines = {line.get_label(): line for line in panels[1].get_lines()}
    assert list(lines["validation"].get_ydata()) == history.history["val_accuracy"]
    assert list(lines["training"].get_xdata()) == [1, 2, 3]
    _figure, own = plt.subplots()
    assert list(history.plot("lr", axes=own)) == [own]
    plt.close("all")
    with pytest.raises(ValueError, match="plot: got the name 'los', expected some of loss, accuracy"):
        history.plot(["los"])
    with pytest.raises(ValueError, match="plot: got 1 axes, expected 2"):
        history.plot(["loss", "lr"], axes=own)


class Untold:
    """An array that is none yet, such as a tensor that needs to be detached."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
        raise RuntimeError("call me first")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"callbacks": rc.callbacks.EarlyStopping()}, "'val_loss', expected one of loss, .*give fit validation_data"),
        ({"callbacks": rc.callbacks.EarlyStopping("acuracy"), "metrics": "accuracy"}, "write monitor='accuracy'"),
        ({"callbacks": rc.callbacks.EarlyStopping("f1")}, "'f1', expected one of .*add the metric to fit"),
        ({"metrics": "acuracy"}, "acuracy.*accuracy"),
        ({"metrics": ["accuracy", "accuracy"]}, "two metrics with the same name"),
        ({"callbacks": [rc.callbacks.EarlyStopping]}, "the class EarlyStopping"),
        ({"callbacks": "stop"}, "callbacks='stop', expected an instance of Callback"),
        ({"callbacks": rc.callbacks.ModelCheckpoint("m-{acc}")}, "expected some of epoch, loss"),
        ({"sample_weight": np.ones(23)}, r"\(23,\), expected \(24,\) or \(24, 8\)"),
        ({"sample_weight": -np.ones(24)}, r"sample_weight\[0\] = -1, expected finite numbers from 0 to"),
        ({"sample_weight": np.full(24, 1e39)}, r"fit: got sample_weight\[0\] = 1e\+39"),  # before anything is trained
        ({"class_weight": {"a": 1.0}}, "a label in class_weight"),
        ({"validation_split": 1.0}, "=1 for 24 rows"),
        ({"validation_split": 0.5, "validation_data": (X, STEPS)}, "expected one of the two"),
        ({"validation_data": (X,)}, "of 1 parts"),
        ({"accumulate": 0}, "accumulate=0"),
        ({"bucket": True}, "bucket=True for rows without lengths"),
        ({"bucket": 0}, "bucket=0"),
        ({"clip_value": -1.0}, "clip_value"),
        ({"truncate": 5}, "truncate=5"),
        ({"y": None}, "y=None"),
        ({"memory_budget": -1}, "memory_budget"),
        ({"callbacks": 5}, "fit: got callbacks=5"),
        ({"metrics": np.ones(2)}, "a metric of type ndarray"),
        ({"metrics": rc.metrics.Accuracy(name="loss")}, "a metric named 'loss'"),
        ({"sample_weight": []}, r"sample_weight of shape \(0,\)"),
        ({"sample_weight": np.full(24, 1e-40)}, "numbers in sample_weight between 0 and"),
        ({"sample_weight": np.full(24, 1e30), "class_weight": {1: 1e30}}, "sample_weight times class_weight"),
        ({"y": np.ma.masked_equal(STEPS, 3)}, "got y with masked elements"),
        ({"y": Untold()}, "got y of type Untold.*call me first"),
        ({"truncate": rc.TruncatedBPTT(2, burn_in=8)}, "epoch 1: got burn_in=8, which leaves no step"),
        ({"class_weight": 5.0}, r"class_weight of shape \(\)"),
        ({"class_weight": "balanced"}, "class_weight='balanced', expected {label: weight}"),
        ({"validation_data": iter([(X, STEPS)]), "epochs": 2}, "which can be read only once, with epochs=2"),
        ({"validation_data": (X[:0], STEPS[:0])}, "fit: validation_data: got x without rows"),
        ({"callbacks": rc.callbacks.ModelCheckpoint("m-{epoch.x}")}, "expected some of epoch, loss"),
        (
            {"callbacks": rc.callbacks.ModelCheckpoint("m-{val_loss}", save_freq=1), "validation_split": 0.5},
            "expected some of epoch, loss, lr",
        ),
        (
            {"callbacks": rc.callbacks.ReduceLROnPlateau("loss"), "optimizer": rc.optim.SGD(lambda step: 0.1)},
            "ReduceLROnPlateau: got an optimiser whose rate is Function",
        ),
        (
            {"callbacks": rc.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(mine="x"))},
            "'x' as mine in the logs",
        ),
    ],
)
def test_errors_say_what_to_do(options: dict[str, Any], message: str) -> None:
    given = {"y": STEPS, **options}
    with pytest.raises((ValueError, TypeError), match=message):
        fit(tagger(), X, given.pop("y"), **given)


def test_lists_may_come_without_weights() -> None:
    with pytest.raises(ValueError, match=r"sample_weight of shape \(0,\)"):
        fit(tagger(), LISTS, STEP_LISTS, sample_weight=[])


def test_numbers_too_large_for_the_model_are_refused() -> None:
    with pytest.raises(ValueError, match="numbers in x too large for float32"):
        fit(tagger(), np.full(X.shape, 1e300), STEPS)


def test_a_reset_has_the_shape_of_the_steps() -> None:
    """Also where only windows of it are looked at."""
    batches = [rc.data.Batch(X, STEPS, reset=np.zeros((24, 9), bool))]
    with pytest.raises(ValueError, match=r"batch 0: got reset of shape \(24, 9\), expected \(24, 8\)"):
        fit(tagger(), batches, truncate=rc.TruncatedBPTT(2))


def test_a_callback_that_adds_a_number_comes_before_those_that_watch_it() -> None:
    with pytest.raises(ValueError, match=r"EarlyStopping: got logs without 'planted'.*before EarlyStopping"):
        fit(tagger(), X, STEPS, callbacks=[rc.callbacks.EarlyStopping("planted", mode="min"), planted([1.0])])


def test_directories_are_made(tmp_path: Path) -> None:
    """Before the first epoch, so that nothing is lost after it."""
    model = tagger()
    saved, log = tmp_path / "runs" / "one" / "m.safetensors", tmp_path / "logs" / "log.csv"
    fit(model, X, STEPS, callbacks=[rc.callbacks.ModelCheckpoint(saved), rc.callbacks.CSVLogger(log)])
    assert_same_bits(weights_of(rc.load(saved)), weights_of(model))
    assert log.exists()


def test_a_callback_is_copied_without_the_fit_that_it_was_in() -> None:
    """Neither its model nor its data travel along."""
    stopping = rc.callbacks.EarlyStopping("loss", patience=2)
    fit(tagger(), X, STEPS, epochs=2, callbacks=stopping)
    copied = pickle.loads(pickle.dumps(stopping))
    assert copied.best == stopping.best
    assert not hasattr(copied, "training")
    fit(tagger(), X, STEPS, callbacks=copy.deepcopy(stopping))


@pytest.mark.parametrize("separator", ["", "::", "\n", '"', "e", ".", 5])
def test_a_separator_is_in_no_number(separator: Any) -> None:
    with pytest.raises(ValueError, match="CSVLogger: got separator="):
        rc.callbacks.CSVLogger("log.csv", separator=separator)


@pytest.mark.parametrize(
    "make",
    [rc.callbacks.CSVLogger, rc.callbacks.ModelCheckpoint, rc.callbacks.BackupAndRestore],
    ids=lambda one: one.__name__,
)
def test_paths_are_texts(make: Any) -> None:
    with pytest.raises(TypeError, match=f"{make.__name__}: got (filename|filepath|directory)=None, expected a path"):
        make(None)


def test_numbers_too_large_for_the_dtype_in_padding() -> None:
    """Padding is never read, so it does not matter what it holds."""
    x = np.zeros((4, 5, 1))
    x[1, 3:] = 1e300
    model = rc.Sequential(rc.GRU(1, 2), rc.Linear(2, 1), seed=0)
    model.fit(x, x[..., :1] * 0, [5, 3, 5, 5], loss="mse", optimizer="sgd", verbose=0)
    with pytest.raises(ValueError, match="numbers in x too large for float32"):
        model.fit(x, x[..., :1] * 0, [5, 4, 5, 5], loss="mse", optimizer="sgd", verbose=0)
