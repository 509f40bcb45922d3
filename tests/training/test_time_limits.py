"""Runs that a callback stops, for now or for good: nothing is lost, and an epoch cut short is no epoch yet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recurra as rc
from agreement import assert_same_bits

RNG = np.random.default_rng(0)
X = RNG.standard_normal((48, 5, 3)).astype(np.float32)
Y = RNG.integers(0, 3, 48)
STEPS, EPOCHS = 12, 4


class Limit(rc.callbacks.Callback):
    """Stops a call of fit after some steps; None for none."""

    def __init__(self, steps: int | None) -> None:
        self.steps = steps

    def on_train_begin(self) -> None:
        self.done = 0

    def on_train_batch_end(self, batch: int, logs: Any) -> None:
        self.done += 1
        self.training.stop_training |= self.done == self.steps


def fit(steps: int | None, *callbacks: Any, lr: float = 1.0, **more: Any) -> tuple[Any, rc.History]:
    model = rc.Sequential(rc.GRU(3, 4, return_sequences=False), rc.Linear(4, 3), seed=0)
    options: dict[str, Any] = {"epochs": EPOCHS, "batch_size": 4, "seed": 1, "verbose": 0, **more}
    history = model.fit(
        X,
        Y,
        loss=rc.losses.CrossEntropy(),
        optimizer=rc.optim.SGD(lr),
        callbacks=[Limit(steps), *callbacks],
        **options,
    )
    return model, history


@pytest.mark.parametrize("steps", [1, 10, 12, 13, 24, 25, 36, 47])
def test_a_time_limit_deletes_no_checkpoint(steps: int, tmp_path: Path) -> None:
    """Calls that each stop after a while are the run without a stop, after which nothing is left."""
    whole, expected = fit(None)
    calls = 0
    for _call in range(100):
        model, history = fit(steps, rc.callbacks.BackupAndRestore(tmp_path, delete_checkpoint=True))
        calls += 1
        if not list(tmp_path.iterdir()):
            break
    assert calls == -(-STEPS * EPOCHS // steps)
    assert history.history == expected.history
    for name, array in whole.state_dict().items():
        assert_same_bits(model.state_dict()[name], array, name)


def test_what_ends_for_good_deletes_checkpoints(tmp_path: Path) -> None:
    backup = lambda: rc.callbacks.BackupAndRestore(tmp_path, delete_checkpoint=True)
    _, history = fit(None, rc.callbacks.EarlyStopping("loss", min_delta=100.0), backup())
    assert len(history.epoch) == 2
    assert not list(tmp_path.iterdir())
    fit(None, backup(), epochs=0)
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore:TerminateOnNaN")
def test_what_numbers_end_deletes_checkpoints(tmp_path: Path) -> None:
    fit(
        None,
        rc.callbacks.TerminateOnNaN(),
        rc.callbacks.BackupAndRestore(tmp_path, delete_checkpoint=True),
        sample_weight=np.full(48, np.float32(np.finfo(np.float32).max)),
        lr=1e30,
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("monitor", ["loss", "val_loss"])
@pytest.mark.parametrize("lr", [0.5, 1.0, 2.0, 3.0])
def test_an_epoch_cut_short_is_not_judged(monitor: str, lr: float, tmp_path: Path) -> None:
    """What watches a number decides as in a run without a stop, wherever that was stopped."""

    def run(directory: Path, *limits: int | None) -> tuple[Any, ...]:
        for steps in limits:
            stop = rc.callbacks.EarlyStopping(monitor, patience=2)
            model, history = fit(
                steps,
                stop,
                rc.callbacks.ModelCheckpoint(directory / "best", monitor=monitor, save_best_only=True),
                rc.callbacks.ModelCheckpoint(directory / "all" / "{epoch}-{loss:.6f}", keep=2),
                rc.callbacks.ReduceLROnPlateau(monitor, patience=1, factor=0.5),
                rc.callbacks.BackupAndRestore(directory / "run", delete_checkpoint=False),
                lr=lr,
                validation_split=0.25,
            )
        names = sorted(one.name for one in (directory / "all").iterdir())
        return (directory / "best").read_bytes(), names, history.history, stop.best_epoch, model.params["0.bias_ih_l0"]

    expected = run(tmp_path / "whole", None)
    for steps in range(1, 27, 3):
        found = run(tmp_path / str(steps), steps, None)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_equal(one, other)


def test_a_stop_at_an_epochs_last_step_leaves_it_whole(tmp_path: Path) -> None:
    """It is saved and judged as any other."""
    fit(2 * STEPS, rc.callbacks.ModelCheckpoint(tmp_path / "{epoch}"))
    assert sorted(one.name for one in tmp_path.iterdir()) == ["1", "2"]


def test_a_stop_before_the_first_epoch_holds_for_a_run_that_goes_on(tmp_path: Path) -> None:
    class Never(rc.callbacks.Callback):
        """Refuses to train any further once `on` is set."""

        on = False

        def on_train_begin(self) -> None:
            self.training.stop_training = self.on

    for restores in (1, 2):
        backups = lambda restores=restores: [
            rc.callbacks.BackupAndRestore(tmp_path / f"{restores}{index}", delete_checkpoint=False)
            for index in range(restores)
        ]
        Never.on = False
        fit(STEPS + 2, Never(), *backups())
        Never.on = True
        _, history = fit(None, Never(), *backups())
        assert history.epoch == [0]
        Never.on = False
        _, history = fit(None, Never(), *backups())
        assert history.epoch == [0, 1, 2, 3]


@pytest.mark.filterwarnings("ignore::recurra.ResumeWarning")
@pytest.mark.parametrize("keep", [1, 2, 3])
@pytest.mark.parametrize("damaged", [0, 1, 2])
def test_fewer_files_are_the_newest_whole_ones(keep: int, damaged: int, tmp_path: Path) -> None:
    """Whatever is damaged, a run that keeps fewer files goes on from the last step that it has written."""
    backup = lambda keep: rc.callbacks.BackupAndRestore(tmp_path, save_freq=1, keep=keep, delete_checkpoint=False)
    begun: list[int] = []
    fit(9, rc.callbacks.LambdaCallback(on_train_batch_begin=begun.append), backup(3))
    names = sorted(one.name for one in tmp_path.iterdir())
    assert len(names) == 3
    for name in names[3 - damaged :]:
        content = bytearray((tmp_path / name).read_bytes())
        content[-5] ^= 1
        (tmp_path / name).write_bytes(content)
    begun.clear()
    for _call in range(3):
        fit(1, rc.callbacks.LambdaCallback(on_train_batch_begin=begun.append), backup(keep))
    assert begun == [9 - damaged, 10 - damaged, 11 - damaged]
    assert len(list(tmp_path.iterdir())) == keep


def test_a_path_of_other_numbers_goes_on(tmp_path: Path) -> None:
    """Files under the old pattern stay where they are."""

    def run(pattern: str, epochs: int) -> None:
        fit(
            None,
            rc.callbacks.ModelCheckpoint(tmp_path / "models" / pattern, keep=1),
            rc.callbacks.BackupAndRestore(tmp_path / "run", delete_checkpoint=False),
            epochs=epochs,
        )

    run("{epoch}-{loss:.3f}", 2)
    (old,) = (tmp_path / "models").iterdir()
    run("{epoch}-{grad_norm:.3f}", 4)
    assert old.exists()
    assert [one.name[0] for one in sorted((tmp_path / "models").iterdir())] == ["2", "4"]
