"""Runs that were interrupted and go on: with the bits of one that was not, from files that are whole at any moment."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recurra as rc
from agreement import assert_same_bits

RNG = np.random.default_rng(0)
X = RNG.standard_normal((20, 9, 3)).astype(np.float32)
Y = RNG.integers(0, 4, (20, 9))
LENGTHS = RNG.integers(2, 10, 20)
LISTS = [row[:length] for row, length in zip(X, LENGTHS, strict=True)]
LABELS = [row[:length] for row, length in zip(Y, LENGTHS, strict=True)]


class Stopped(Exception):  # noqa: N818 - no error
    """Stands for a crash."""


def crash_after(steps: int) -> Any:
    """Raises at the end of that step, before the checkpoint of that step is written."""

    def look(batch: int, logs: dict[str, float]) -> None:
        if crash.training.step == steps:
            raise Stopped

    crash = rc.callbacks.LambdaCallback(on_train_batch_end=look)
    return crash


class Counted(rc.callbacks.Callback):
    """Adds a number of its own to the history."""

    log_names = ("steps",)

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        logs["steps"] = self.training.step


def model() -> Any:
    return rc.Sequential(
        rc.GRU(3, 6, 2, dropout=0.2, zoneout=0.1), rc.Dropout(0.2), rc.BatchNorm(6), rc.Linear(6, 4), seed=1
    )


def stateful() -> Any:
    series = RNG.standard_normal((90, 3)).astype(np.float32)
    return rc.data.stateful(series, np.arange(90) % 4, batch_size=3, steps=7)


STATEFUL = stateful()
PLAIN: dict[str, Any] = {"x": X, "y": Y, "lengths": LENGTHS}
RUNS: dict[str, dict[str, Any]] = {
    "rows": PLAIN,
    "momentum": {**PLAIN, "optimizer": lambda: rc.optim.SGD(0.05, momentum=0.9)},
    "schedule": {**PLAIN, "optimizer": lambda: rc.optim.RMSprop(rc.optim.schedules.CosineDecay(0.01, 20))},
    "plateau": {**PLAIN, "callbacks": lambda: [rc.callbacks.ReduceLROnPlateau("val_loss", patience=1, factor=0.5)]},
    "early stopping": {**PLAIN, "callbacks": lambda: [rc.callbacks.EarlyStopping("loss", patience=2)]},
    "buckets": {"x": LISTS, "y": LABELS, "bucket": True},
    "accumulated": {**PLAIN, "accumulate": 2},
    "shards": {"x": LISTS, "y": LABELS, "bucket": True, "shards": 3, "model": "unnormalised"},
    "windows": {"x": X, "y": Y, "truncate": rc.TruncatedBPTT(2, 4), "model": "unnormalised"},
    "sharded and stateful": {
        "x": STATEFUL,
        "truncate": rc.TruncatedBPTT(3),
        "model": "unnormalised",
        "validation_split": 0.0,
        "shards": 2,
    },
    "stateful": {"x": STATEFUL, "truncate": rc.TruncatedBPTT(3), "model": "unnormalised", "validation_split": 0.0},
    "generator": {"x": lambda epoch: [(X[epoch::5], Y[epoch::5]), (X[:7], Y[:7])], "validation_split": 0.0},
}


def fit(one: Any, run: dict[str, Any], callbacks: list[Any], **more: Any) -> Any:
    options: dict[str, Any] = {"validation_split": 0.2, **run, **more}
    options.pop("model", None)
    options["optimizer"] = options.pop("optimizer", lambda: rc.optim.Adam(0.02))()
    options["callbacks"] = [*options.pop("callbacks", list)(), *callbacks]
    defaults: dict[str, Any] = {
        "loss": rc.losses.CrossEntropy(),
        "metrics": ["accuracy", "f1"],
        "epochs": 4,
        "batch_size": 5,
        "clip_norm": 1.0,
        "seed": 3,
        "verbose": 0,
    }
    return one.fit(**{**defaults, **options})


def fresh(run: dict[str, Any]) -> Any:
    if run.get("model") == "unnormalised":
        return rc.Sequential(rc.LSTM(3, 6, zoneout=0.1), rc.Dropout(0.2), rc.Linear(6, 4), seed=1)
    return model()


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
@pytest.mark.parametrize("crash", [1, 4, 7])
def test_a_run_that_goes_on_has_the_bits_of_a_whole_one(run: dict[str, Any], crash: int, tmp_path: Path) -> None:
    """Stopped in the middle of an epoch, with a checkpoint after every second step; on another number of threads."""
    rc.set_num_threads(1)
    whole = fresh(run)
    expected = fit(
        whole,
        run,
        [rc.callbacks.LambdaCallback(), rc.callbacks.BackupAndRestore(tmp_path / "whole", delete_checkpoint=False)],
    )
    broken = fresh(run)
    with pytest.raises(Stopped):
        fit(
            broken,
            run,
            [crash_after(crash), rc.callbacks.BackupAndRestore(tmp_path / "own", save_freq=2, delete_checkpoint=False)],
        )
    rc.set_num_threads(2)
    again = fresh(run)
    found = fit(
        again,
        run,
        [
            rc.callbacks.LambdaCallback(),
            rc.callbacks.BackupAndRestore(tmp_path / "own", save_freq=2, delete_checkpoint=False),
        ],
    )
    np.testing.assert_equal(found.history, expected.history)
    for name, array in whole.state_dict().items():
        assert_same_bits(again.state_dict()[name], array, name)


def test_more_epochs_go_on(tmp_path: Path) -> None:
    """k and k epochs are 2k, though nothing was interrupted; a run that is over returns at once."""
    whole, parts = model(), model()
    fit(whole, PLAIN, [], epochs=4)
    backup = rc.callbacks.BackupAndRestore(tmp_path, delete_checkpoint=False)
    fit(parts, PLAIN, [backup], epochs=2)
    assert fit(parts, PLAIN, [backup], epochs=4).epoch == [0, 1, 2, 3]
    for name, array in whole.state_dict().items():
        assert_same_bits(parts.state_dict()[name], array, name)
    start = parts.state_dict()
    fit(parts, PLAIN, [backup], epochs=4)
    assert_same_bits(parts.params["0.weight_ih_l0"], start["0.weight_ih_l0"])


def test_the_last_few_files_stay(tmp_path: Path) -> None:
    fit(model(), PLAIN, [rc.callbacks.BackupAndRestore(tmp_path, save_freq=1, keep=3, delete_checkpoint=False)])
    assert [path.name for path in sorted(tmp_path.iterdir())] == [
        "checkpoint-00003-000000003-000000.safetensors",
        "checkpoint-00003-000000004-000000.safetensors",
        "checkpoint-00004-000000000-000000.safetensors",
    ]
    fit(model(), PLAIN, [rc.callbacks.BackupAndRestore(tmp_path, save_freq=1, delete_checkpoint=True)])
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_is_a_model(tmp_path: Path) -> None:
    one = model()
    fit(one, PLAIN, [rc.callbacks.BackupAndRestore(tmp_path, delete_checkpoint=False)])
    assert_same_bits(rc.load(max(tmp_path.iterdir())).predict(X), one.predict(X))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 4}, "data="),
        ({"optimizer": lambda: rc.optim.Adam(0.5)}, "optimizer="),
        ({"clip_norm": 2.0}, "clip_norm=2.0, expected 1.0"),
        ({"loss": rc.losses.CrossEntropy(label_smoothing=0.1)}, "loss="),
        ({"loss": rc.losses.CrossEntropy(class_weights=[1, 2, 1, 1])}, "loss="),
        ({"class_weight": {1: 2.0}}, "loss="),
        ({"seed": 4}, "seed=4, expected 3"),
        ({"loss": rc.losses.CrossEntropy(label_smoothing=0.1)}, "loss=.*'label_smoothing': 0.1"),
        ({"class_weight": {1: 2.0}}, "loss=.*'class_weight': .*'1': 2.0"),
        ({"x": X[:15], "y": Y[:15], "lengths": None}, "data="),
        ({"x": X + np.eye(20)[15][:, None, None]}, "data="),
        ({"y": (Y + 1) % 4}, "data="),
    ],
)
def test_another_run_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    fit(model(), PLAIN, [rc.callbacks.BackupAndRestore(tmp_path, delete_checkpoint=False)], epochs=1)
    with pytest.raises(ValueError, match=f"fit: got {message}"):
        fit(model(), PLAIN, [rc.callbacks.BackupAndRestore(tmp_path, delete_checkpoint=False)], **change)


def test_a_schedule_of_ones_own_may_keep_an_array(tmp_path: Path) -> None:
    class Table(rc.optim.schedules.Schedule):
        def __init__(self, rates: Any) -> None:
            self.rates = np.array(rates)

        def rate(self, step: int) -> float:
            return float(self.rates[step % len(self.rates)])

    def run(rates: list[float], epochs: int) -> Any:
        return fit(
            model(),
            PLAIN,
            [rc.callbacks.BackupAndRestore(tmp_path, delete_checkpoint=False)],
            optimizer=lambda: rc.optim.SGD(Table(rates)),
            epochs=epochs,
        )

    run([0.1, 0.2], 1)
    assert run([0.1, 0.2], 2).epoch == [0, 1]
    with pytest.raises(ValueError, match=r"optimizer=.*rates.*0\.3.*expected.*0\.2"):
        run([0.1, 0.3], 3)


def test_no_seed_goes_on_with_the_first_one(tmp_path: Path) -> None:
    first = fit(model(), PLAIN, [rc.callbacks.BackupAndRestore(tmp_path, delete_checkpoint=False)], epochs=1, seed=None)
    second = fit(
        model(), PLAIN, [rc.callbacks.BackupAndRestore(tmp_path, delete_checkpoint=False)], epochs=2, seed=None
    )
    assert second.seed == first.seed
    assert second.history["loss"][0] == first.history["loss"][0]


def test_numbers_that_callbacks_add_are_in_the_file(tmp_path: Path) -> None:
    first = fit(model(), PLAIN, [Counted(), rc.callbacks.BackupAndRestore(tmp_path, delete_checkpoint=False)], epochs=2)
    again = fit(model(), PLAIN, [Counted(), rc.callbacks.BackupAndRestore(tmp_path, delete_checkpoint=False)], epochs=3)
    assert first.history["steps"] == [4, 8]
    assert again.history["steps"] == [4, 8, 12]


def test_a_damaged_or_foreign_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint-00001-000000000-000000.safetensors"
    path.write_bytes(b"nonsense")
    with pytest.raises(rc.ModelFormatError, match=r"checkpoint-00001.*damaged or foreign file"):
        fit(model(), PLAIN, [rc.callbacks.BackupAndRestore(tmp_path, delete_checkpoint=False)])
    model().save(path)
    with pytest.raises(rc.ModelFormatError, match="without a state of training"):
        fit(model(), PLAIN, [rc.callbacks.BackupAndRestore(tmp_path, delete_checkpoint=False)])


class Keeps(rc.callbacks.Callback):
    """A callback with a state."""

    def __init__(self, state: Any) -> None:
        self.state, self.found = state, None

    def state_dict(self) -> dict[str, Any]:
        return {"state": self.state}

    def load_state_dict(self, state: Any) -> None:
        self.found = state["state"]


def test_arrays_without_axes_stay_so(tmp_path: Path) -> None:
    first, second = Keeps(np.array(3.0)), Keeps(None)
    fit(model(), PLAIN, [first, rc.callbacks.BackupAndRestore(tmp_path, delete_checkpoint=False)], epochs=1)
    fit(model(), PLAIN, [second, rc.callbacks.BackupAndRestore(tmp_path, delete_checkpoint=False)], epochs=1)
    assert second.found.shape == ()


@pytest.mark.parametrize("state", [{1: 2}, {1, 2}, np.array(["a"]), np.array([None]), np.zeros(2, complex)])
def test_a_state_that_no_file_holds_is_refused(state: Any, tmp_path: Path) -> None:
    """Rather than given back as something else, such as text for the keys of a dict."""
    with pytest.raises(TypeError, match="fit: got a state that a checkpoint cannot hold"):
        fit(model(), PLAIN, [Keeps(state), rc.callbacks.BackupAndRestore(tmp_path, delete_checkpoint=False)], epochs=1)


def test_the_newest_is_the_last_by_its_numbers(tmp_path: Path) -> None:
    """However many digits these have."""
    from recurra.callbacks.checkpoints import Checkpoints

    files = Checkpoints(tmp_path, keep=2)
    for position in ((99999, 0, 0), (100000, 0, 999999), (100000, 0, 1000000)):
        files.write(position, b"")
    assert files.newest() == tmp_path / "checkpoint-100000-000000000-1000000.safetensors"
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked children")
def test_it_survives_200_kills(tmp_path: Path) -> None:
    """Each leaves a loadable checkpoint, not older than one interval; the end has the bits of a run without kills."""
    script = Path(__file__).parents[1] / "helpers" / "killed_training.py"
    done = subprocess.run(
        [sys.executable, script, tmp_path, "200"], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    *kills, resumed, whole = done.stdout.splitlines()
    assert len(kills) == 200
    assert resumed == whole
    assert int(kills[-1].split()[0]) > 200  # it got somewhere


def test_a_full_disk_leaves_the_files_before(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: the write fails in its middle, as on a full one."""
    rows = dict(PLAIN)
    fit(model(), rows, [rc.callbacks.BackupAndRestore(tmp_path, delete_checkpoint=False)], epochs=1)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            fit(model(), rows, [rc.callbacks.BackupAndRestore(tmp_path, delete_checkpoint=False)], epochs=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    whole, again = model(), model()
    fit(whole, rows, [], epochs=2)
    fit(again, rows, [rc.callbacks.BackupAndRestore(tmp_path, delete_checkpoint=False)], epochs=2)
    assert_same_bits(again.params["0.weight_ih_l0"], whole.params["0.weight_ih_l0"])
