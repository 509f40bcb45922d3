"""What an optimiser remembers of a run that goes on: it is of the model's layers, whatever happens to their
parameters."""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recurra as rc
from agreement import assert_same_bits
from recurra.training import snapshot

RNG = np.random.default_rng(0)
X = RNG.standard_normal((30, 6, 3)).astype(np.float32)
Y = RNG.integers(0, 3, 30)


class Killed(Exception):  # noqa: N818 - no error
    """Stands for a crash."""


class Kill(rc.callbacks.Callback):
    """At the end of that step of the fit, counted from 1 in every process, before its checkpoint; None: not at all."""

    def __init__(self, step: int | None) -> None:
        self.step, self.seen = step, 0

    def on_train_batch_end(self, batch: int, logs: dict[str, float]) -> None:
        self.seen += 1
        if self.seen == self.step:
            raise Killed


def model(seed: int = 0) -> Any:
    return rc.Sequential(rc.GRU(3, 5, return_sequences=False), rc.Linear(5, 3), seed=seed)


def adam() -> Any:
    return rc.optim.Adam(0.05)


def fit(one: Any, optimizer: Any, folder: Path | None = None, kill: int | None = None, **more: Any) -> Any:
    """Five steps an epoch."""
    told = [Kill(kill), *more.pop("callbacks", [])]
    if folder is not None:
        told.append(
            rc.callbacks.BackupAndRestore(folder, save_freq=more.pop("save_freq", "epoch"), delete_checkpoint=False)
        )
    options = {"loss": rc.losses.CrossEntropy(), "epochs": 2, "batch_size": 6, "seed": 1, "verbose": 0}
    return one.fit(X, Y, optimizer=optimizer, callbacks=told, **{**options, **more})


def clipped(one: Any) -> None:
    one.load_state_dict({name: np.clip(array, -0.2, 0.2) for name, array in one.state_dict().items()})


def state_of(optimizer: Any, *models: Any) -> dict[str, Any]:
    found = {f"optimizer {name}": value for name, value in optimizer.state_dict().items()}
    for index, one in enumerate(models):
        found |= {f"{index} {name}": array for name, array in one.state_dict().items()}
    return found


def constraint(event: str) -> Callable[[Path, int | None], dict[str, Any]]:
    """A callback that changes weights then, as constraints, pruning and averages do."""

    def script(folder: Path, kill: int | None) -> dict[str, Any]:
        one, optimizer = model(), adam()
        change = rc.callbacks.LambdaCallback(**{event: lambda *_given: clipped(one)})
        fit(one, optimizer, folder, kill, callbacks=[change], save_freq=3)
        return state_of(optimizer, one)

    return script


def best_weights(folder: Path, kill: int | None) -> dict[str, Any]:
    """The first fit is over, and leaves other weights than its last; the second goes on with them."""
    one, optimizer = model(), adam()
    best = rc.callbacks.EarlyStopping("val_loss", patience=50, restore_best_weights=True)
    fit(one, optimizer, folder, callbacks=[best], epochs=6, validation_split=0.3)
    fit(one, optimizer, kill=kill, epochs=1)
    return state_of(optimizer, one)


def averaged(folder: Path, kill: int | None) -> dict[str, Any]:
    """Weights are swapped when the fit ends, before its optimiser takes another step."""
    one, optimizer = model(), adam()
    swap = rc.callbacks.LambdaCallback(on_train_end=lambda: clipped(one))
    fit(one, optimizer, folder / "a", callbacks=[swap])
    fit(one, optimizer, folder / "b", kill)
    return state_of(optimizer, one)


def folds(folder: Path, kill: int | None) -> dict[str, Any]:
    """One optimiser, a new model for each fold; the others are gone."""
    optimizer = adam()
    for fold in range(3):
        gc.collect()  # what fits made is in cycles
        one = model(fold)
        fit(one, optimizer, folder / str(fold), kill if fold == 1 else None)
        left = state_of(optimizer, one)
        del one
    return left


def folds_that_stay(folder: Path, kill: int | None) -> dict[str, Any]:
    """As above, with models that are all alive, and changed after their fold."""
    optimizer, models = adam(), [model(fold) for fold in range(3)]
    for fold, one in enumerate(models):
        fit(one, optimizer, folder / str(fold), kill if fold == 1 else None)
        clipped(one)
    for one in models:
        fit(one, optimizer, epochs=1)
    return state_of(optimizer, *models)


def folds_done_are_left_out(folder: Path, kill: int | None) -> dict[str, Any]:
    """A script that knows which folds are done: their moments wait, and the models to come start anew. What the
    optimiser knows of the folds before depends on where it was killed."""
    optimizer, models = adam(), [model(fold) for fold in range(3)]
    for fold, one in enumerate(models):
        if not (folder / f"done{fold}").exists():
            fit(one, optimizer, folder / str(fold), kill if fold == 1 else None, save_freq=3)
            (folder / f"done{fold}").mkdir()
    return dict(models[2].state_dict())


def fine_tuning(folder: Path, kill: int | None) -> dict[str, Any]:
    """A new head on layers that have learnt."""
    one, optimizer = model(), adam()
    fit(one, optimizer, folder / "a")
    tuned = rc.Sequential(one.layers[0], rc.Linear(5, 3, seed=9))
    fit(tuned, optimizer, folder / "b", kill)
    return state_of(optimizer, tuned)


def a_rate_is_looked_for(folder: Path, kill: int | None) -> dict[str, Any]:
    """With the optimiser, on the model and on another one."""
    one, optimizer = model(), adam()
    fit(one, optimizer, folder / "a")
    clipped(one)
    for each in (one, model(5)):
        rc.optim.find_lr(each, X, Y, loss=rc.losses.CrossEntropy(), optimizer=optimizer, steps=20, seed=0, verbose=0)
    fit(one, optimizer, folder / "b", kill)
    return state_of(optimizer, one)


SCRIPTS = {
    "best weights": best_weights,
    "average": averaged,
    "folds": folds,
    "folds that stay": folds_that_stay,
    "folds done are left out": folds_done_are_left_out,
    "fine tuning": fine_tuning,
    "range test": a_rate_is_looked_for,
    **{
        event: constraint(event)
        for event in ("on_epoch_begin", "on_train_batch_begin", "on_train_batch_end", "on_epoch_end", "on_train_begin")
    },
}


@pytest.mark.parametrize("kill", [None, 2, 8])
@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_a_script_that_is_started_again_ends_with_the_same_bits(
    script: Callable[[Path, int | None], dict[str, Any]], kill: int | None, tmp_path: Path
) -> None:
    """Killed in the middle, or finished and run once more."""
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    whole = script(tmp_path / "whole", None)
    with suppress(Killed):
        script(tmp_path / "parts", kill)
    if kill is None and script is folds_done_are_left_out:
        return  # nothing is left to do
    again = script(tmp_path / "parts", None)
    assert again.keys() == whole.keys()
    for name, value in whole.items():
        assert np.asarray(again[name]).tobytes() == np.asarray(value).tobytes(), name


def test_what_a_layer_remembered_is_not_forgotten_silently(tmp_path: Path) -> None:
    """A layer that the optimiser has met, and that the restored state knows with other parameters and moments: no start
    anew, which a run without a break would not make."""
    one, other, optimizer = model(0), model(1), adam()
    fit(one, optimizer)
    fit(other, optimizer, tmp_path)
    again, optimizer = (model(0), model(1)), adam()
    fit(again[0], optimizer, epochs=3)  # one more than before
    fit(again[1], optimizer, tmp_path)
    before = state_of(optimizer, *again)
    with pytest.raises(ValueError, match=r"^Adam\.step: got a GRU whose parameters are not .* models="):
        fit(again[0], optimizer, epochs=1)
    for name, value in state_of(optimizer, *again).items():
        np.testing.assert_array_equal(value, before[name], name)


def test_another_model_never_takes_the_moments_that_wait(tmp_path: Path) -> None:
    one, other, optimizer = model(0), model(1), adam()
    fit(one, optimizer)
    fit(other, optimizer, tmp_path)
    optimizer, third, other = adam(), model(2), model(1)
    fit(other, optimizer, tmp_path)
    fit(third, optimizer)
    alone, own = model(2), adam()
    fit(alone, own)
    # Adam corrects its moments by the steps of the layer
    for name, array in alone.params.items():
        assert_same_bits(third.params[name], array, name)
    assert sum(name.endswith(".m") for name in optimizer.state_dict()) == 6  # those of the first wait on


FORGERIES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "shorter": lambda state: state.update({"0.m": state["0.m"][:-1], "0.v": state["0.v"][:-1]}),
    "one shorter than the other": lambda state: state.update({"0.m": state["0.m"][:-1]}),
    "empty": lambda state: state.update({"1.m": state["1.m"][:0], "1.v": state["1.v"][:0]}),
    "doubles": lambda state: state.update({"0.m": state["0.m"].astype(float), "0.v": state["0.v"].astype(float)}),
    "doubles of one": lambda state: state.update({"0.v": state["0.v"].astype(float)}),
    "integers": lambda state: state.update({"0.m": state["0.m"].astype(int), "0.v": state["0.v"].astype(int)}),
    "a matrix": lambda state: state.update({"0.m": state["0.m"][None]}),
    "no array": lambda state: state.update({"0.m": 3}),
    "no places": lambda state: state.pop("places"),
    "a place too few": lambda state: state["places"].pop(),
    "a place twice": lambda state: state.update(places=[1, 1]),
    "the other's places": lambda state: state.update(places=[1, 0]),
    "a place outside": lambda state: state.update(places=[0, 2]),
    "a place before": lambda state: state.update(places=[0, -1]),
    "places in words": lambda state: state.update(places=["0", True]),
    "places in one word": lambda state: state.update(places="01"),
}


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES)
def test_a_forged_memory_is_refused_before_anything_has_changed(
    forge: Callable[[dict[str, Any]], Any], tmp_path: Path
) -> None:
    one, optimizer = model(), adam()
    fit(one, optimizer, tmp_path)
    for path in tmp_path.glob("checkpoint-*"):
        _parameters, state = snapshot.unpack(path)
        forge(state["optimizer"])
        path.write_bytes(snapshot.pack(one, state))
    fit(one, optimizer, epochs=1)
    before = state_of(optimizer, one)
    with pytest.raises(rc.ModelFormatError, match=r"a state that the optimizer refuses"):
        fit(one, optimizer, tmp_path, epochs=3)
    after = state_of(optimizer, one)
    assert after.keys() == before.keys()
    for name, value in after.items():
        np.testing.assert_array_equal(value, before[name], name)
    clipped(one)  # and it is still the optimiser of this model
    fit(one, optimizer, epochs=1)
