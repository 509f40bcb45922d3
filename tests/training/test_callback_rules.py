"""Patience, min_delta, baseline and cooldown as their definitions say, over random curves."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch

import recurra as rc
from user_callbacks import planted

X, Y = np.zeros((2, 1), np.float32), np.zeros((2, 1), np.float32)
CASES = range(40)


def fit(values: list[float], *callbacks: Any, optimizer: Any = None, **options: Any) -> Any:
    """A fit of nothing, an epoch for each value."""
    return rc.Sequential(rc.Linear(1, 1), seed=0).fit(
        X, Y, loss=rc.losses.L1(), optimizer=optimizer or rc.optim.SGD(1.0), epochs=len(values),
        callbacks=[planted(values), *callbacks], verbose=0, **options,
    )  # fmt: skip


def curve(rng: np.random.Generator) -> list[float]:
    """Few different values, so that ties and changes of exactly min_delta are frequent; sometimes NaN."""
    values = rng.integers(0, 6, rng.integers(1, 14)).astype(float)
    values[rng.random(len(values)) < 0.1] = math.nan
    return values.tolist()


def better(mode: str, value: float, than: float, delta: float) -> bool:
    return value < than - delta if mode == "min" else value > than + delta


def worst(mode: str) -> float:
    return math.inf if mode == "min" else -math.inf


@pytest.mark.parametrize("case", CASES)
def test_early_stopping_is_keras(case: int) -> None:
    """Epochs since the last improvement (beyond the baseline, if there is one) reach the patience, not in the first
    epoch."""
    rng = np.random.default_rng(case)
    values, mode = curve(rng), str(rng.choice(["min", "max"]))
    patience, delta, start = int(rng.integers(0, 4)), float(rng.integers(0, 3)), int(rng.integers(0, 3))
    baseline = None if rng.random() < 0.5 else float(rng.integers(0, 6))
    best, best_epoch, waited, stopped = worst(mode), None, 0, None
    for epoch, value in enumerate(values):
        if epoch < start:
            continue
        waited += 1
        if better(mode, value, best, delta):
            best, best_epoch = value, epoch
            if baseline is None or better(mode, value, baseline, delta):
                waited = 0
        elif waited >= patience and epoch > 0:
            stopped = epoch
            break
    early = rc.callbacks.EarlyStopping(
        "planted", mode=mode, patience=patience, min_delta=delta, baseline=baseline, start_from_epoch=start
    )
    history = fit(values, early)
    assert (early.best_epoch, early.stopped_epoch) == (best_epoch, stopped)
    assert len(history.epoch) == (len(values) if stopped is None else stopped + 1)


@pytest.mark.parametrize("case", CASES)
def test_the_rate_falls_as_defined(case: int) -> None:
    """`patience` epochs without improvement lower the rate; the `cooldown` epochs behind count for none of them."""
    rng = np.random.default_rng(case)
    values, mode = curve(rng), str(rng.choice(["min", "max"]))
    patience, cooldown, delta = int(rng.integers(0, 4)), int(rng.integers(0, 4)), float(rng.integers(0, 3))
    best, waited, quiet_until, rate, rates = worst(mode), 0, -1, 1.0, []
    for epoch, value in enumerate(values):
        rates.append(rate)
        if better(mode, value, best, delta):
            best, waited = value, 0
        elif epoch > quiet_until:
            waited += 1
            if waited >= patience and rate > 0.2:
                rate, waited, quiet_until = max(rate / 2, 0.2), 0, epoch + cooldown
    reduce = rc.callbacks.ReduceLROnPlateau(
        "planted", mode=mode, factor=0.5, patience=patience, cooldown=cooldown, min_delta=delta, min_lr=0.2
    )
    assert fit(values, reduce).history["lr"] == rates


@pytest.mark.parametrize("cooldown", range(4))
def test_the_rate_falls_as_in_torch(cooldown: int) -> None:
    """On a plateau; torch waits for one epoch more than its patience."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    peer = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=1, cooldown=cooldown)
    rates = []
    for _ in range(16):
        rates.append(optimizer.param_groups[0]["lr"])
        peer.step(1.0)
    own = rc.callbacks.ReduceLROnPlateau("planted", mode="min", factor=0.5, patience=2, cooldown=cooldown)
    assert fit([1.0] * 16, own).history["lr"] == rates


@pytest.mark.parametrize("monitor", ["lr", "grad_norm", "clipped", "planted"])
@pytest.mark.parametrize("kind", ["EarlyStopping", "ReduceLROnPlateau", "ModelCheckpoint"])
def test_nobody_guesses_which_way_is_better(kind: str, monitor: str, tmp_path: Any) -> None:
    """Only losses and metrics say so."""

    def make(**options: Any) -> Any:
        if kind == "ModelCheckpoint":
            return rc.callbacks.ModelCheckpoint(tmp_path / "m", monitor=monitor, save_best_only=True, **options)
        return getattr(rc.callbacks, kind)(monitor, **options)

    with pytest.raises(ValueError, match=f"{kind}: got mode='auto' for monitor='{monitor}', .*write mode='min' or"):
        fit([1.0, 2.0], make())
    fit([1.0, 2.0], make(mode="max"))


@pytest.mark.parametrize("bad", range(4))
@pytest.mark.parametrize("quiet", [True, False])
def test_batches_have_their_numbers_also_where_a_fit_ends(bad: int, quiet: bool) -> None:
    """The batch of the first NaN ends with the number that it began with, and that no other had."""
    x = np.zeros((4, 1), np.float32)
    x[bad] = np.nan
    begun: list[int] = []
    ended: list[int] = []
    note = rc.callbacks.LambdaCallback(
        on_train_batch_begin=begun.append, on_train_batch_end=lambda batch, logs: ended.append(batch)
    )
    with pytest.warns(RuntimeWarning) if quiet else pytest.raises(rc.NonFiniteError):
        rc.Sequential(rc.Linear(1, 1)).fit(
            x, np.zeros_like(x), loss=rc.losses.L1(), optimizer=rc.optim.SGD(0.1), batch_size=1, shuffle=False,
            verbose=0, callbacks=[note, *([rc.callbacks.TerminateOnNaN()] if quiet else [])],
        )  # fmt: skip
    assert begun == list(range(bad + 1))
    assert ended == begun[: bad + quiet]


def told_of(name: str, base: type = rc.callbacks.Callback) -> list[str]:
    """What a fit warns of with a callback that has a method of this name."""
    given = type("Mine", (base,), {name: lambda *_: None})()
    x = np.zeros((2, 3, 1), np.float32)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        rc.Sequential(rc.Linear(1, 1)).fit(
            x, x, loss=rc.losses.L1(), optimizer=rc.optim.SGD(0.1), callbacks=given, verbose=0
        )
    return [str(one.message) for one in found]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("on_epoch_ends", "write on_epoch_end"),
        ("on_test_end", "look at the val_"),
        ("on_predict_begin", "put it around model"),
    ],
)
def test_a_hook_that_nothing_calls_is_told(name: str, hint: str) -> None:
    (said,) = told_of(name)
    assert said.startswith(f"fit: got Mine.{name}, which is never called, expected some of ")
    assert f"; {hint}" in said


@pytest.mark.parametrize("name", [*(one for one in dir(rc.callbacks.Callback) if one.startswith("on_")), "ongoing"])
def test_hooks_that_there_are_are_not(name: str) -> None:
    assert not told_of(name)


@pytest.mark.parametrize("name", rc.callbacks.__all__)
def test_no_callback_of_recurra_has_others(name: str) -> None:
    own = {one for one in dir(getattr(rc.callbacks, name)) if one.startswith("on_")}
    assert own <= set(dir(rc.callbacks.Callback))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("on_batch_end", "write on_train_batch_end="),
        ("on_epoch_ends", "write on_epoch_end="),
        ("on_test_end", "leave it out"),
    ],
)
def test_a_function_for_no_hook_is_told(name: str, hint: str) -> None:
    with pytest.raises(TypeError, match=rf"^LambdaCallback: got an unknown argument {name}, .*; {hint}$"):
        rc.callbacks.LambdaCallback(**{name: print})
