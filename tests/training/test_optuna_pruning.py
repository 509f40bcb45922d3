"""Trials of Optuna end where its pruner says so."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import optuna
import pytest

import recurra as rc

optuna.logging.set_verbosity(optuna.logging.WARNING)

X = np.random.default_rng(0).standard_normal((8, 5, 3)).astype(np.float32)
Y = (X[..., 0] > 0).astype(int)


def fit(trial: Any, monitor: str = "loss", epochs: int = 3, lr: float = 1e-2) -> dict[str, list[float]]:
    model = rc.Sequential(rc.GRU(3, 4), rc.Linear(4, 2), seed=0)
    history = model.fit(
        X,
        Y,
        loss="crossentropy",
        optimizer=rc.optim.Adam(lr),
        epochs=epochs,
        metrics=["accuracy"],
        callbacks=rc.callbacks.OptunaPruning(trial, monitor),
        seed=0,
        verbose=0,
    )
    return history.history


def study(direction: str = "minimize", pruner: Any = None) -> Any:
    return optuna.create_study(
        direction=direction, sampler=optuna.samplers.RandomSampler(seed=0), pruner=pruner or optuna.pruners.NopPruner()
    )


def test_each_epoch_is_reported() -> None:
    one = study()
    histories = []
    one.optimize(lambda trial: histories.append(fit(trial)) or 0.0, n_trials=1)
    assert list(one.trials[0].intermediate_values.values()) == histories[0]["loss"]
    assert list(one.trials[0].intermediate_values) == [0, 1, 2]


def test_a_trial_that_promises_little_is_pruned() -> None:
    one = study(pruner=optuna.pruners.ThresholdPruner(upper=0.1, n_warmup_steps=1))  # no loss is so small
    one.optimize(lambda trial: fit(trial)["loss"][-1], n_trials=2)
    assert [trial.state.name for trial in one.trials] == ["PRUNED"] * 2
    assert [list(trial.intermediate_values) for trial in one.trials] == [[0, 1]] * 2  # the third epoch did not begin


def test_the_better_one_goes_on() -> None:
    one = study("maximize", optuna.pruners.MedianPruner(n_startup_trials=1))
    rates = iter((1e-1, 1e-9))  # with the second one nothing is learnt
    one.optimize(lambda trial: fit(trial, "accuracy", 10, next(rates))["accuracy"][-1], n_trials=2)
    assert [trial.state.name for trial in one.trials] == ["COMPLETE", "PRUNED"]


def test_a_fixed_trial_is_never_pruned() -> None:
    assert len(fit(optuna.trial.FixedTrial({}))["loss"]) == 3


@pytest.mark.parametrize(
    ("direction", "monitor", "says"),
    [
        ("maximize", "loss", "got monitor='loss' in a study that wants to maximize, .* direction='minimize'"),
        ("minimize", "accuracy", "got monitor='accuracy' in a study that wants to minimize, .* direction='maximize'"),
        ("minimize", "val_loss", "got monitor='val_loss', expected one of .*; give fit validation_data"),
    ],
)
def test_numbers_that_the_study_cannot_use(direction: str, monitor: str, says: str) -> None:
    with pytest.raises(ValueError, match=f"^OptunaPruning: {says}"):
        fit(study(direction).ask(), monitor)


def test_several_objectives() -> None:
    with pytest.raises(ValueError, match=r"^OptunaPruning: got a study of 2 objectives, expected one"):
        fit(optuna.create_study(directions=["minimize", "minimize"]).ask())


def test_no_trial() -> None:
    with pytest.raises(TypeError, match=r"^OptunaPruning: got trial of type Study, expected an optuna\.trial\.Trial"):
        rc.callbacks.OptunaPruning(study())


def test_without_optuna(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = study().ask()
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(
        ImportError, match=r"^OptunaPruning: optuna is not installed; run pip install 'recurra\[tune\]'"
    ):
        fit(trial)
