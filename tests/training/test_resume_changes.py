"""A run that goes on with one ingredient changed has the bits of a run without a break, or is refused, or warns of what
differs."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recurra as rc
from agreement import assert_same_bits
from recurra.training import snapshot

RNG = np.random.default_rng(0)
ROWS = 600
X = RNG.standard_normal((ROWS, 4, 2)).astype(np.float32)
Y = RNG.integers(0, 3, (ROWS, 4))
LENGTHS = RNG.integers(1, 5, ROWS)
WEIGHTS = RNG.random((ROWS, 4)).astype(np.float32)
LISTS = [row[:length] for row, length in zip(X, LENGTHS, strict=True)]
LABELS = [row[:length] for row, length in zip(Y, LENGTHS, strict=True)]
SERIES, STEPS = RNG.standard_normal((80, 2)).astype(np.float32), RNG.integers(0, 3, 80)


def model() -> Any:
    return rc.Sequential(rc.GRU(2, 3, seed=0), rc.Linear(3, 3, seed=1))


def changed(array: Any, place: int) -> Any:
    """The same but for one number, which is a possible one."""
    other = array.copy()
    other.reshape(-1)[place] = (other.reshape(-1)[place] + 1) % 3
    return other


class Loader:
    """Somebody else's: yields batches, and says no more."""

    def __init__(self, batches: Any) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)


BATCHES = [(X[begin : begin + 50], Y[begin : begin + 50]) for begin in range(0, 200, 50)]
OTHER_BATCHES = [*BATCHES[:-1], (BATCHES[-1][0], changed(BATCHES[-1][1], 7))]

DEFAULTS: dict[str, Any] = {
    "x": X,
    "y": Y,
    "loss": rc.losses.CrossEntropy,
    "optimizer": lambda: rc.optim.Adam(0.01),
    "metrics": ["accuracy"],
    "batch_size": 100,
    "callbacks": list,
    "seed": 0,
}
RAGGED: dict[str, Any] = {"x": LISTS, "y": LABELS}
VALIDATED: dict[str, Any] = {"validation_data": (X[:50], Y[:50])}


def stateful(**more: Any) -> dict[str, Any]:
    options = {"x": SERIES, "y": STEPS, "batch_size": 3, "steps": 5, **more}
    x, y = options.pop("x"), options.pop("y")
    return {"x": lambda: rc.data.stateful(x, y, **options), "y": None}


def sessions(seed: int | None, **more: Any) -> dict[str, Any]:
    options = {"sequences": LISTS[:90], "targets": LABELS[:90], "batch_size": 6, "steps": 3, "seed": seed, **more}
    return {"x": lambda: rc.data.sessions(**options), "y": None}


def source(batches: Any) -> dict[str, Any]:
    return {"x": batches, "y": None}


def stopping(**options: Any) -> dict[str, Any]:
    return {"callbacks": lambda: [rc.callbacks.EarlyStopping("loss", **options)]}


def plateau(**options: Any) -> dict[str, Any]:
    return {"callbacks": lambda: [rc.callbacks.ReduceLROnPlateau("loss", patience=1, **options)]}


def best(path: Path, **options: Any) -> dict[str, Any]:
    return {"callbacks": lambda: [rc.callbacks.ModelCheckpoint(path / "best", save_best_only=True, **options)]}


SAME, REFUSED, WARNS = "the same bits", "refused", "a warning"
#: What the run was, what it becomes, what shall come of it, and what the message must have.
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], str, str]] = {
    "nothing": ({}, {}, SAME, ""),
    "a copy": ({}, {"x": X.copy(order="F"), "y": Y.tolist()}, SAME, ""),
    "x": ({}, {"x": changed(X, 8 * 577 + 3)}, REFUSED, "data="),
    "y": ({}, {"y": changed(Y, 4 * 599)}, REFUSED, "data="),
    "order": ({}, {"x": X[::-1], "y": Y[::-1]}, REFUSED, "data="),
    "two rows swapped": ({}, {"x": X[[*range(598), 599, 598]]}, REFUSED, "data="),
    "weights": ({"sample_weight": WEIGHTS}, {"sample_weight": changed(WEIGHTS, 2001)}, REFUSED, "data="),
    "no weights": ({"sample_weight": WEIGHTS}, {"sample_weight": None}, REFUSED, "data="),
    "lengths": ({"lengths": LENGTHS}, {"lengths": np.minimum(LENGTHS, 3)}, REFUSED, "data="),
    "a list": (RAGGED, {"x": [*LISTS[:-1], LISTS[-1] + 1]}, REFUSED, "data="),
    "a list's labels": (RAGGED, {"y": [*LABELS[:300], (LABELS[300] + 1) % 3, *LABELS[301:]]}, REFUSED, "data="),
    "batch_size": ({}, {"batch_size": 50}, REFUSED, "data="),
    "shuffle": ({}, {"shuffle": False}, REFUSED, "data="),
    "bucket": (RAGGED, {"bucket": True}, REFUSED, "data="),
    "seed": ({}, {"seed": 1}, REFUSED, "seed="),
    "no seed": ({}, {"seed": None}, SAME, ""),
    "loss": ({}, {"loss": lambda: rc.losses.CrossEntropy(label_smoothing=0.1)}, REFUSED, "loss="),
    "optimizer": ({}, {"optimizer": lambda: rc.optim.Adam(0.02)}, REFUSED, "optimizer="),
    "optimizer's class": ({}, {"optimizer": lambda: rc.optim.SGD(0.01)}, REFUSED, "optimizer="),
    "clip_norm": ({}, {"clip_norm": 1.0}, REFUSED, "clip_norm="),
    "clip_value": ({}, {"clip_value": 1.0}, REFUSED, "clip_value="),
    "accumulate": ({}, {"accumulate": 2}, REFUSED, "accumulate="),
    "shards": ({}, {"shards": 2}, REFUSED, "shards="),
    "truncate": ({}, {"truncate": rc.TruncatedBPTT(2)}, REFUSED, "truncate="),
    "memory_budget": ({}, {"memory_budget": 1 << 30}, SAME, ""),
    "metrics": ({}, {"metrics": ["f1"]}, REFUSED, "metrics="),
    "a metric's options": (
        {"metrics": [rc.metrics.F1(average="macro")]},
        {"metrics": [rc.metrics.F1(average="micro")]},
        REFUSED,
        "metrics=.*micro",
    ),
    "a metric's ignored label": (
        {"metrics": [rc.metrics.Accuracy()]},
        {"metrics": [rc.metrics.Accuracy(ignore_index=1)]},
        REFUSED,
        "metrics=.*ignore_index",
    ),
    "metrics that are weighted": (
        {"sample_weight": WEIGHTS},
        {"metrics": (), "weighted_metrics": ["accuracy"]},
        REFUSED,
        "metrics=.*weighted",
    ),
    "callbacks": ({}, {"callbacks": lambda: [rc.callbacks.TerminateOnNaN()]}, REFUSED, "callbacks="),
    "a callback's options": (stopping(patience=5), stopping(patience=6), WARNS, "'patience': 6.*'patience': 5"),
    "a plateau's factor": (plateau(factor=0.5), plateau(factor=0.6), WARNS, "'factor': 0.6"),
    "what is monitored": (
        best(Path("unused"), monitor="loss"),
        best(Path("unused"), monitor="accuracy"),
        WARNS,
        "'monitor': 'accuracy'",
    ),
    "validation": (VALIDATED, {"validation_data": (X[:50], changed(Y[:50], 3))}, WARNS, "validation data"),
    "other validation": (VALIDATED, {"validation_data": (X[50:90], Y[50:90])}, WARNS, "validation data"),
    "no validation": (VALIDATED, {"validation_data": None}, REFUSED, "validation=False, expected True"),
    "new validation": ({}, VALIDATED, REFUSED, "validation=True, expected False"),
    "validation_split": ({"validation_split": 0.2}, {"validation_split": 0.3}, REFUSED, "data="),
    "stateful": (stateful(), stateful(), SAME, ""),
    "stateful x": (stateful(), stateful(x=changed(SERIES, 120)), REFUSED, "data="),
    "stateful y": (stateful(), stateful(y=changed(STEPS, 77)), REFUSED, "data="),
    "stateful steps": (stateful(), stateful(steps=4), REFUSED, "data="),
    "stateful rows": (stateful(), stateful(batch_size=4), REFUSED, "data="),
    "stateful pieces": (
        stateful(x=[SERIES[:40], SERIES[40:]], y=[STEPS[:40], STEPS[40:]]),
        stateful(x=[SERIES[:30], SERIES[30:]], y=[STEPS[:30], STEPS[30:]]),
        REFUSED,
        "data=",
    ),
    "sessions": (sessions(3), sessions(3), SAME, ""),
    "sessions' order": (sessions(3), sessions(3, sequences=LISTS[89::-1], targets=LABELS[89::-1]), REFUSED, "data="),
    "sessions' seed": (sessions(3), sessions(4), REFUSED, "data="),
    "sessions' seed left out": (sessions(3), sessions(None), REFUSED, "data="),
    "sessions in order": (sessions(3), sessions(3, shuffle=False), REFUSED, "data="),
    "sessions, no seed, other data": (
        sessions(None),
        sessions(None, targets=[(row + 1) % 3 for row in LABELS[:90]]),
        REFUSED,
        "data=",
    ),
    "a list of batches": (source(BATCHES), source(BATCHES), SAME, ""),
    "Batch objects of the same tuples": (
        source(BATCHES),
        source([rc.data.Batch(*one) for one in BATCHES]),
        SAME,
        "",
    ),
    "lists of the same tuples": (source([rc.data.Batch(*one, None) for one in BATCHES]), source(BATCHES), SAME, ""),
    "windows copied": (
        {"x": rc.data.windows(SERIES, 4)[:70], "y": Y[:70], "batch_size": 20},
        {"x": np.ascontiguousarray(rc.data.windows(SERIES, 4)[:70])},
        SAME,
        "",
    ),
    "another list of batches": (source(BATCHES), source(OTHER_BATCHES), REFUSED, "data="),
    "a list in another order": (source(BATCHES), source(BATCHES[::-1]), REFUSED, "data="),
    "Batch objects": (
        source([rc.data.Batch(*one) for one in BATCHES]),
        source([rc.data.Batch(*one) for one in OTHER_BATCHES]),
        REFUSED,
        "data=",
    ),
    "a function": (source(lambda: lambda epoch: BATCHES[epoch % 2 :]), {}, SAME, ""),
    "another function": (
        source(lambda: lambda epoch: BATCHES[epoch % 2 :]),
        source(lambda: lambda epoch: BATCHES[::-1][epoch % 2 :]),
        WARNS,
        "batches in epoch",
    ),
    "a loader": (source(lambda: Loader(BATCHES)), {}, WARNS, "cannot be compared"),
    "a loader in a new order": (
        source(lambda: Loader(BATCHES)),
        source(lambda: Loader(BATCHES[::-1])),
        WARNS,
        "cannot be",
    ),
    "a generator to validate with": (
        {"validation_data": lambda: lambda epoch: BATCHES},
        {"validation_data": lambda: lambda epoch: OTHER_BATCHES},
        WARNS,
        "validation_data: got batches",
    ),
    "steps_per_epoch": (
        {**source(lambda: Loader(BATCHES)), "steps_per_epoch": 3},
        {"steps_per_epoch": 2},
        REFUSED,
        "data=",
    ),
}


def fit(one: Any, options: dict[str, Any], directory: Path, epochs: int, *more: Any) -> Any:
    given = {**DEFAULTS, **options}
    for name in ("x", "validation_data", "loss", "optimizer", "callbacks"):
        if callable(given.get(name)):
            given[name] = given[name]()
    given["callbacks"] = [
        *given["callbacks"],
        *more,
        rc.callbacks.BackupAndRestore(directory, save_freq=1, delete_checkpoint=False),
    ]
    return one.fit(**given, epochs=epochs, verbose=0)


class Stopped(Exception):  # noqa: N818 - no error
    """Stands for a crash."""


class Crash(rc.callbacks.Callback):
    """After so many steps."""

    def __init__(self, steps: int | None) -> None:
        self.steps = steps

    def on_train_batch_end(self, batch: int, logs: Any) -> None:
        if self.training.step == self.steps:
            raise Stopped


@pytest.mark.by_turns
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("crash", [None, 8], ids=["at an epoch's end", "in an epoch"])
def test_one_ingredient_changed(
    case: tuple[dict[str, Any], dict[str, Any], str, str],
    crash: int | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    was, becomes, outcome, message = case
    whole = model()
    history = fit(whole, was, tmp_path / "whole", 4, Crash(None))
    first = model()
    if crash is None:
        fit(first, was, tmp_path / "own", 2, Crash(None))
    else:
        with pytest.raises(Stopped):
            fit(first, was, tmp_path / "own", 4, Crash(crash))
    again = model()
    before = again.state_dict()
    changed_options = {**was, **becomes}
    if outcome == REFUSED:
        with pytest.raises(ValueError, match=f"fit: got {message}"):
            fit(again, changed_options, tmp_path / "own", 4, Crash(None))
        for name, array in again.state_dict().items():
            assert_same_bits(array, before[name], name)
        return
    if outcome == WARNS:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", rc.ResumeWarning)
            fit(again, changed_options, tmp_path / "own", 4, Crash(None))
        assert any(re.search(message, str(one.message)) for one in caught), [str(one.message) for one in caught]
        return
    found = fit(again, changed_options, tmp_path / "own", 4, Crash(None))
    np.testing.assert_equal(found.history, history.history)
    for name, array in whole.state_dict().items():
        assert_same_bits(again.state_dict()[name], array, name)


def test_a_function_that_differs_behind_its_first_batch_is_told(tmp_path: Path) -> None:
    """Where a run goes on with a new epoch, the last one is made again, to its end."""
    fit(model(), source(lambda: lambda epoch: BATCHES), tmp_path / "own", 2)
    with pytest.warns(rc.ResumeWarning, match="got batches in epoch 2 that are not those"):
        fit(model(), source(lambda: lambda epoch: OTHER_BATCHES), tmp_path / "own", 3)


def test_sessions_without_a_seed_go_on_in_the_first_ones_orders(tmp_path: Path) -> None:
    options = sessions(None)
    one = options["x"]()
    whole, again = model(), model()
    fit(whole, {**options, "x": one}, tmp_path / "whole", 4)
    fit(again, {**options, "x": one}, tmp_path / "own", 2)
    other = options["x"]()
    assert other.state_dict() != one.state_dict()
    again = model()
    fit(again, {**options, "x": other}, tmp_path / "own", 4)
    for name, array in whole.state_dict().items():
        assert_same_bits(again.state_dict()[name], array, name)


def test_padding_may_hold_anything(tmp_path: Path) -> None:
    x, y, weights = X.copy(), Y.copy(), WEIGHTS.copy()
    padding = np.arange(4) >= LENGTHS[:, None]
    x[padding], y[padding], weights[padding] = np.nan, 0, 7.0
    rows = {"lengths": LENGTHS, "x": X, "sample_weight": WEIGHTS}
    whole, again = model(), model()
    fit(whole, rows, tmp_path / "whole", 3)
    fit(again, rows, tmp_path / "own", 1)
    fit(again, {**rows, "x": x, "y": y, "sample_weight": weights}, tmp_path / "own", 3)
    for name, array in whole.state_dict().items():
        assert_same_bits(again.state_dict()[name], array, name)


@pytest.mark.parametrize("stride", [1, 3, 7, 9])
def test_every_step_of_windows_counts(stride: int, tmp_path: Path) -> None:
    """Windows share memory: all of it is looked at, and a copy of them is the same."""
    from recurra.data.fingerprint import Fingerprint

    windows = rc.data.windows(SERIES, 8, stride=stride)
    own = Fingerprint().add(windows).text
    assert Fingerprint().add(np.ascontiguousarray(windows)).text == own
    assert Fingerprint().add(np.asfortranarray(windows)).text == own
    last = (len(windows) - 1) * stride + 8
    for step in range(last):
        other = SERIES.copy()
        other[step, step % 2] += 1
        used = any(begin <= step < begin + 8 for begin in range(0, last - 7, stride))
        assert (Fingerprint().add(rc.data.windows(other, 8, stride=stride)).text != own) == used, step


@pytest.mark.parametrize(
    ("name", "patch"), [("library version", "__version__"), ("instruction set", "isa")], ids=["version", "kernels"]
)
def test_another_library_or_other_kernels_are_told(
    name: str, patch: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from recurra.training import resume

    fit(model(), {}, tmp_path, 1)
    fit(model(), {}, tmp_path, 2)  # without a word
    real = resume._core

    class Other:
        __version__ = real.__version__

        @staticmethod
        def isa() -> str:
            return real.isa()

    setattr(Other, patch, "9.9.9" if patch == "__version__" else staticmethod(lambda: "other"))
    monkeypatch.setattr(resume, "_core", Other)
    with pytest.warns(rc.ResumeWarning, match=f"{name} '(9.9.9|other)', expected '"):
        fit(model(), {}, tmp_path, 3)
    fit(model(), {}, tmp_path, 3)  # there is nothing left to do, and nothing to say


class Limit(rc.callbacks.Callback):
    """A time limit, in epochs or steps of this call of fit."""

    def __init__(self, epochs: int = 0, steps: int = 0) -> None:
        self.epochs, self.steps = epochs, steps

    def on_train_begin(self) -> None:
        self.done = [0, 0]

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        self.done[0] += 1
        self.training.stop_training |= self.done[0] == self.epochs

    def on_train_batch_end(self, batch: int, logs: Any) -> None:
        self.done[1] += 1
        self.training.stop_training |= self.done[1] == self.steps


@pytest.mark.parametrize("limit", [{"epochs": 2}, {"steps": 2}, {"steps": 4}, {"steps": 6}, {"steps": 7}], ids=str)
def test_a_stop_holds_for_one_call(limit: dict[str, int], tmp_path: Path) -> None:
    """Calls that each stop after a while are together the run without a stop: 2, 4, 6 epochs, or in the middle of
    them."""
    whole, parts = model(), model()
    expected = fit(whole, {}, tmp_path / "whole", 6, Limit())
    seen = []
    for _call in range(40):
        found = fit(parts, {}, tmp_path / "own", 6, Limit(**limit))
        seen.append(len(found.epoch))
        if found.epoch == list(range(6)) and found.history["loss"] == expected.history["loss"]:
            break
    if "epochs" in limit:
        assert seen == [2, 4, 6]
    np.testing.assert_equal(found.history, expected.history)
    for name, array in whole.state_dict().items():
        assert_same_bits(parts.state_dict()[name], array, name)


def test_early_stopping_stops_for_good(tmp_path: Path) -> None:
    stop = stopping(patience=1, min_delta=100.0)
    first = fit(model(), stop, tmp_path, 9)
    assert len(first.epoch) == 2
    assert fit(model(), stop, tmp_path, 9).history == first.history


@pytest.mark.filterwarnings("ignore:TerminateOnNaN")
def test_what_numbers_ended_stays_ended(tmp_path: Path) -> None:
    x = X.copy()
    x[5] = np.nan
    options = {"x": x, "callbacks": lambda: [rc.callbacks.TerminateOnNaN()], "shuffle": False}
    first = fit(model(), options, tmp_path, 3)
    np.testing.assert_equal(fit(model(), options, tmp_path, 3).history, first.history)


def test_the_log_is_whole_at_any_moment(tmp_path: Path) -> None:
    """Looked at after every step and epoch of a run that goes on."""
    log, lines = tmp_path / "log.csv", []

    def look(*_: Any) -> None:
        with log.open(newline="") as file:
            lines.append(len(list(csv.reader(file))) - 1)

    def run(epochs: int, crash: int | None) -> None:
        looks = rc.callbacks.LambdaCallback(on_train_begin=look, on_train_batch_begin=look, on_train_batch_end=look)
        fit(
            model(), {"callbacks": lambda: [rc.callbacks.CSVLogger(log)]}, tmp_path / "own", epochs, looks, Crash(crash)
        )

    run(2, None)
    assert lines[-1] == 1
    text = log.read_text()
    lines.clear()
    with pytest.raises(Stopped):
        run(4, 15)
    assert lines[0] == 2
    assert min(lines) == 2
    assert log.read_text() == text
    lines.clear()
    run(4, None)
    assert min(lines) == 2
    assert len(log.read_text().splitlines()) == 5
    assert log.read_text().startswith(text)


def test_nothing_that_a_checkpoint_names_is_deleted_elsewhere(tmp_path: Path) -> None:
    """A run directory from somebody else, whose checkpoint names other files, removes only those of its own pattern."""
    precious = tmp_path / "precious"
    precious.write_text("mine")
    pattern = tmp_path / "models" / "model-{epoch}-{loss:.3f}"
    options = {"callbacks": lambda: [rc.callbacks.ModelCheckpoint(pattern, keep=1)]}
    fit(model(), options, tmp_path / "own", 2)
    (path,) = [one for one in (tmp_path / "own").iterdir() if one.name.startswith("checkpoint-00002")]
    arrays, state = snapshot.unpack(path)
    hostile: list[Any] = [
        [str(precious)],
        [[str(precious), {}]],
        [[1, {"loss": str(precious)}]],
        [[1, {"loss": f"/../../{precious.name}"}]],
        [[0, {"epoch": str(precious), "loss": 0.5}]],
        [[1, {"loss": 0.5, str(precious): 1.0}]],
        [{"path": str(precious)}],
        str(precious),
    ]
    for written in hostile:
        state["callbacks"][0]["written"] = written
        one = model()
        one.load_state_dict(arrays)
        path.write_bytes(snapshot.pack(one, state))
        with contextlib.suppress(rc.ModelFormatError):
            fit(model(), options, tmp_path / "own", 3)
        assert precious.read_text() == "mine"
        for later in (tmp_path / "own").glob("checkpoint-00003*"):
            later.unlink()


def test_a_moved_run_keeps_its_count(tmp_path: Path) -> None:
    def options(name: str) -> dict[str, Any]:
        path = tmp_path / name / "models" / "model-{epoch}-{loss:.3f}"
        return {"callbacks": lambda: [rc.callbacks.ModelCheckpoint(path, keep=2)]}

    fit(model(), options("old"), tmp_path / "old" / "run", 3)
    (tmp_path / "old").rename(tmp_path / "new")
    fit(model(), options("new"), tmp_path / "new" / "run", 5)
    assert sorted(one.name[:7] for one in (tmp_path / "new" / "models").iterdir()) == ["model-4", "model-5"]


def test_batches_know_every_field() -> None:
    """A field that were forgotten would let other data go on."""
    from recurra.data.fingerprint import Fingerprint

    batch = rc.data.Batch(X[:2], Y[:2], LENGTHS[:2], WEIGHTS[:2], np.zeros((2, 4), bool))
    own = Fingerprint().add(batch).text
    others: dict[str, Any] = {
        "mask": np.ones((2, 4), bool),
        "x": X[2:4],
        "y": Y[2:4],
        "lengths": None,
        "sample_weight": None,
        "reset": None,
        "carry": True,
    }
    assert set(others) == {field.name for field in dataclasses.fields(batch)}
    for name, value in others.items():
        assert Fingerprint().add(dataclasses.replace(batch, **{name: value})).text != own, name


def test_users_batches_are_not_hashed_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a fit that saves pays for it."""
    from recurra.data.fingerprint import Fingerprint

    monkeypatch.setattr(Fingerprint, "add", None)
    make: Callable[[int], Any] = lambda epoch: BATCHES
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model().fit(make, loss=rc.losses.CrossEntropy(), optimizer=rc.optim.SGD(0.1), epochs=2, verbose=0)


def test_a_refusal_names_only_what_differs(tmp_path: Path) -> None:
    def frozen() -> Any:
        one = model()
        one.layers[1].trainable = False
        return one

    fit(model(), {}, tmp_path, 1)
    with pytest.raises(ValueError, match="fit: got model=") as caught:
        fit(frozen(), {}, tmp_path, 2)
    got = str(caught.value).partition(", as in the run")[0]
    assert got == (
        "fit: got model={'config': {'layers': {1: {'trainable': False}}}}, expected "
        "{'config': {'layers': {1: {'trainable': True}}}}"
    )
    with pytest.raises(ValueError, match=r"fit: got optimizer=\{'lr': 0.02\}, expected \{'lr': 0.01\}"):
        fit(model(), {"optimizer": lambda: rc.optim.Adam(0.02)}, tmp_path, 2)


class Thaw(rc.callbacks.Callback):
    """The habit of fine-tuning: more layers, and other options, every epoch."""

    def on_epoch_begin(self, epoch: int) -> None:
        self.training.model.layers[0].trainable = epoch % 2 == 1
        self.training.optimizer.weight_decay = 0.01 * epoch
        self.training.optimizer.betas = (0.9, 0.99 + 0.001 * epoch)


@pytest.mark.parametrize("crash", [None, 8, 15], ids=["at an epoch's end", "in an epoch", "in the next one"])
@pytest.mark.parametrize("own", ["new objects", "the same objects"])
def test_what_callbacks_change_between_epochs_is_restored(crash: int | None, own: str, tmp_path: Path) -> None:
    def run(one: Any, optimizer: Any, directory: str, epochs: int, crash: int | None = None) -> None:
        fit(one, {"optimizer": optimizer}, tmp_path / directory, epochs, Thaw(), Crash(crash))

    def fresh() -> tuple[Any, Any]:
        one = model()
        one.layers[0].trainable = False
        return one, rc.optim.AdamW(0.01)

    whole, again = fresh(), fresh()
    run(*whole, "whole", 4)
    if crash is None:
        run(*again, "own", 2)
    else:
        with pytest.raises(Stopped):
            run(*again, "own", 4, crash)
    for epochs in (3, 4):  # a run that went on is gone on with
        if own == "new objects":
            again = fresh()
        run(*again, "own", epochs)
    for name, array in whole[0].state_dict().items():
        assert_same_bits(again[0].state_dict()[name], array, name)
    assert again[0].layers[0].trainable
    assert again[1].config() == whole[1].config()
