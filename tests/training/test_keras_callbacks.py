"""Callbacks as people write them for Keras: they work, or are refused with what to write."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recurra as rc

X, Y = np.random.default_rng(0).standard_normal((2, 12, 3, 2)).astype(np.float32)


def fit(*callbacks: Any, **more: Any) -> tuple[Any, Any]:
    model = rc.Sequential(rc.GRU(2, 2, seed=0))
    given: dict[str, Any] = {"loss": "mse", "optimizer": "adam", "epochs": 2, "batch_size": 4, "seed": 0, "verbose": 0}
    return model, model.fit(X, Y, callbacks=list(callbacks), **{**given, **more})


class Written(rc.callbacks.Callback):
    """Everything that Keras' documentation shows."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def set_model(self, model: Any) -> None:
        self.told.append(("model", model))

    def set_params(self, params: Any) -> None:
        self.told.append(("params", params))

    def on_train_begin(self, logs: Any = None) -> None:
        assert self.params == {"epochs": 2, "steps": 3, "verbose": 0}
        self.told.append("train")

    def on_epoch_begin(self, epoch: int, logs: Any) -> None:  # type: ignore[override]
        self.told.append(("epoch", epoch, logs))

    def on_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.told.append(("begin", batch))

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.told.append(("train begin", batch))

    def on_batch_end(self, batch: int, logs: Any = None) -> None:
        assert logs["loss"] > 0
        self.told.append(("end", batch))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.told.append(("over", epoch, self.model.params["0.bias_ih_l0"].copy()))

    def on_train_end(self, logs: Any) -> None:  # type: ignore[override]
        self.told.append(logs)


def test_everything_is_called() -> None:
    callback = Written()
    model, _history = fit(callback)
    kept = [one for one in callback.told if isinstance(one, str | dict) or one[0] != "over"]
    batches = [(what, batch) for batch in range(3) for what in ("train begin", "begin", "end")]
    assert kept[0] == ("model", model)
    assert kept[1] == ("params", {"epochs": 2, "steps": 3, "verbose": 0})
    assert kept[2:] == ["train", ("epoch", 0, {}), *batches, ("epoch", 1, {}), *batches, {}]


def test_the_model_stops_the_training() -> None:
    class Stop(rc.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.model.stop_training = epoch == 1

    callback = Stop()
    model, history = fit(callback, epochs=5)
    assert history.epoch == [0, 1]
    history = model.fit(X, Y, loss="mse", optimizer="adam", epochs=2, verbose=0)
    assert history.epoch == [0, 1]  # it starts anew


def test_an_own_attribute_of_the_name_stays() -> None:
    class Own(rc.callbacks.Callback):
        def __init__(self) -> None:
            self.model = "a text"  # type: ignore[assignment]

    callback = Own()
    fit(callback)
    assert callback.model == "a text"  # type: ignore[comparison-overlap]
    with pytest.raises(AttributeError, match=r"^Callback: got a callback outside a fit"):
        _ = rc.callbacks.Callback().model


@pytest.mark.parametrize("hook", ["on_train_begin", "on_epoch_end", "on_train_batch_end", "on_batch_end"])
def test_a_hook_of_other_arguments_is_refused_before_training(hook: str) -> None:
    wrong = type("Wrong", (rc.callbacks.Callback,), {hook: lambda self, one, two, three, four: None})
    with pytest.raises(TypeError, match=rf"^fit: got Wrong\.{hook}\(one, two, three, four\), expected {hook}\(self"):
        fit(wrong())


@pytest.mark.parametrize("hook", ["on_test_begin", "on_predict_batch_end"])
def test_a_hook_of_keras_that_nothing_calls_is_told(hook: str) -> None:
    strange = type("Strange", (rc.callbacks.Callback,), {hook: lambda self, logs=None: None})
    with pytest.warns(
        RuntimeWarning, match=rf"Strange\.{hook}, which is never called, .*(val_ numbers|model\.predict)"
    ):
        fit(strange())


def test_a_backup_goes_when_the_run_is_complete(tmp_path: Path) -> None:
    """So that the same program trains again."""
    for _ in range(2):
        _model, history = fit(rc.callbacks.BackupAndRestore(tmp_path))
        assert history.epoch == [0, 1]
        assert not list(tmp_path.iterdir())

    class Stop(rc.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.training.stop_training = True

    fit(Stop(), rc.callbacks.BackupAndRestore(tmp_path))
    assert list(tmp_path.iterdir())  # such a one goes on


@pytest.mark.parametrize(
    ("change", "got", "expected"),
    [
        ({"optimizer": rc.optim.Adam(1e-3, eps=1e-6)}, "optimizer={'eps': 1e-06}", "{'eps': 1e-08}"),
        ({"loss": rc.losses.Huber(2.0)}, "loss={'losses': {0: {'delta': 2.0}}}", "{'losses': {0: {'delta': 1.0}}}"),
        ({"metrics": ["mse", "mae", "rmse"]}, "metrics={'mae': ", "{}"),
        ({"metrics": ["rmse"]}, "metrics={}", "{'mse': "),
    ],
)
def test_a_refusal_shows_what_differs_alone(change: dict[str, Any], got: str, expected: str, tmp_path: Path) -> None:
    first: dict[str, Any] = {"loss": rc.losses.Huber(1.0), "metrics": ["mse", "rmse"], "optimizer": rc.optim.Adam(1e-3)}
    fit(rc.callbacks.BackupAndRestore(tmp_path, delete_checkpoint=False), **first)
    with pytest.raises(ValueError, match=r"^fit: got ") as found:
        fit(rc.callbacks.BackupAndRestore(tmp_path), **{**first, **change})
    assert f"got {got}" in str(found.value)
    assert f"expected {expected}" in str(found.value)
    assert len(str(found.value)) < 350 + len(str(tmp_path))


def test_of_models_that_differ_in_one_layer_that_one_is_shown(tmp_path: Path) -> None:
    def run(*middle: rc.Layer) -> None:
        model = rc.Sequential(rc.Linear(2, 4), *middle, rc.Linear(4, 2), seed=0)
        backup = rc.callbacks.BackupAndRestore(tmp_path, delete_checkpoint=False)
        model.fit(X, Y, loss="mse", optimizer="adam", callbacks=backup, verbose=0)

    run()
    with pytest.raises(ValueError, match="got model=") as found:
        run(rc.Dropout(0.25))
    assert "Dropout" in str(found.value)
    assert "Linear" not in str(found.value)


def test_no_hook_of_recurras_own_is_warned_of() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(Written())
    assert json.dumps(fit(Written())[1].history)
