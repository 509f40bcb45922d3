"""Callbacks that save the model, or the whole training."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from recurra.callbacks.callback import Callback
from recurra.callbacks.checkpoints import Checkpoints
from recurra.callbacks.monitor import Monitor
from recurra.common import checks, errors
from recurra.common.errors import ResumeWarning
from recurra.saving.container import DamagedFileError


def _frequency(owner: str, value: Any) -> int | None:
    """Steps of the optimiser between two files; None for epochs."""
    if isinstance(value, str):
        checks.choice(owner, "save_freq", value, ("epoch",))
        return None
    return checks.integer(owner, "save_freq", value)


class ModelCheckpoint(Callback):
    """Saves the model, whole or not at all, every epoch or whenever it is better than before.

    Args:
        filepath: where, in a directory that is made if need be; `{epoch}` (from 1) and names of the epoch's numbers are
            filled in, as in "model-{epoch:03d}-{val_loss:.2f}.safetensors".
        monitor: for save_best_only, the number's name in the history.
        save_best_only: whether only models that are better than all before are saved.
        mode: "min" or "max", which is better; "auto": as the metric says.
        save_freq: "epoch", or a number of steps of the optimiser; the best model is looked for after epochs only.
        keep: how many of the files to keep, the last ones; None for all.
        verbose: 1 prints every path.
    """

    def __init__(
        self,
        filepath: str | os.PathLike[str],
        *,
        monitor: str = "val_loss",
        save_best_only: bool = False,
        mode: str = "auto",
        save_freq: str | int = "epoch",
        keep: int | None = None,
        verbose: int = 0,
    ) -> None:
        name = type(self).__name__
        self.filepath = checks.path(name, "filepath", filepath)
        self.save_best_only = checks.flag(name, "save_best_only", save_best_only)
        self._monitor = Monitor(name, monitor, mode)
        self._every = _frequency(name, save_freq)
        if self.save_best_only and self._every is not None:
            raise ValueError(
                f"{name}: got save_best_only=True with save_freq={save_freq}, expected 'epoch', as the number is known after "
                f"epochs only; leave save_freq out"
            )
        self.keep = None if keep is None else checks.integer(name, "keep", keep)
        self.verbose = checks.choice(name, "verbose", verbose, (0, 1))
        self._written: list[_Filled] = []

    def on_train_begin(self) -> None:
        """Checks the names in the path, and makes its directory."""
        self._written = []
        if self.save_best_only:
            self._monitor.begin(self.training)
        known = self.training.log_names if self._every is None else self.training.step_log_names
        self._path(_Filled(0, dict.fromkeys(known, 0.0)))
        if "{" not in str(Path(self.filepath).parent):
            self._make_directory(self.filepath)

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Saves, if it is time; an epoch that was cut short is no epoch yet, and its numbers are of a few steps only."""
        if not self.training.epoch_is_whole:
            return
        if self._every is None and (not self.save_best_only or self._monitor.improved(logs)):
            self._save(epoch, logs)

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float]) -> None:
        """Saves, if it is time."""
        if self._every is not None and self.training.step % self._every == 0:
            self._save(self.training.epoch, logs)

    def _path(self, names: _Filled) -> str:
        try:
            return self.filepath.format_map(names)
        except (LookupError, AttributeError, TypeError, ValueError) as error:
            raise ValueError(
                f"{type(self).__name__}: got filepath={self.filepath!r}, expected names of {', '.join(names.known)} in "
                f"braces; correct it ({type(error).__name__}: {error})"
            ) from error

    @staticmethod
    def _make_directory(path: str) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)

    def _save(self, epoch: int, logs: Mapping[str, float]) -> None:
        names = _Filled(epoch, logs)
        path = self._path(names)
        self._make_directory(path)
        self.training.model.save(path)
        self._written = [one for one in self._written if self._path(one) != path] + [_Filled(epoch, names.used)]
        while self.keep is not None and len(self._written) > self.keep:
            Path(self._path(self._written.pop(0))).unlink(missing_ok=True)
        if self.verbose:
            print(f"ModelCheckpoint: saved {path}")

    def config(self) -> dict[str, Any]:
        """What decides which model is the best."""
        return {**self._monitor.config(), "save_best_only": self.save_best_only}

    def state_dict(self) -> dict[str, Any]:
        """The best so far, and the files, by the numbers in their names: what is deleted later is named by `filepath` alone,
        whatever a checkpoint says."""
        return {"best": self._monitor.best, "written": [[one.epoch, dict(one.logs)] for one in self._written]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on. Files that the present `filepath` cannot name, as it asks for other numbers, are left to the user."""
        written = []
        for epoch, used in state["written"]:
            if type(epoch) is not int or not all(type(value) in (int, float) for value in used.values()):
                raise TypeError(f"got {epoch!r:.50} and {used!r:.100} as what is in a file's name, expected numbers")
            one = _Filled(epoch, used)
            with suppress(ValueError):
                self._path(one)
                written.append(one)
        self._monitor.best, self._written = float(state["best"]), written


class _Filled(dict[str, float]):
    """What names in a path stand for. Logs are read only where a name asks for them, since they may be costly; `used` are
    those that were."""

    def __init__(self, epoch: int, logs: Mapping[str, float]) -> None:
        super().__init__(epoch=epoch + 1)
        self.epoch = epoch
        self.used: dict[str, float] = {}
        self.logs = logs

    def __missing__(self, name: str) -> float:
        value = self.logs[name]
        self.used[name] = float(value)
        return value

    @property
    def known(self) -> list[str]:
        """All names."""
        return ["epoch", *self.logs]


class BackupAndRestore(Callback):
    """Saves the whole training as it goes, and goes on from there when the same fit is called again.

    A run that was killed at any moment, and is started again with the same data and arguments, ends with the bits of one
    that was not: parameters, optimiser, schedule, order of rows, masks, carried state, history, callbacks and metrics are
    all in the file. A file appears whole or not at all. `recurra.load` reads the model from it, too.

    Args:
        directory: where the files go; it is made if need be. One directory belongs to one run.
        save_freq: "epoch", or a number of steps of the optimiser.
        keep: how many files to keep, the last ones.
        delete_checkpoint: whether to delete the files when the training is done: after the last epoch, or when a callback
            such as EarlyStopping ended it for good, but not where a time limit stopped it. Where they are kept, the same fit
            called again returns at once, and one with more epochs goes on.

    Where the newest file is damaged, the run goes on from the one before it, with a `recurra.ResumeWarning`. So it does
    where the library, the instruction set, the validation data or callbacks' options are not those of the run before, and
    where batches come from a generator or loader whose content cannot be compared.

    Raises:
        ValueError: the files are of another run: the message names the arguments that differ. Nothing has changed then.
        ModelFormatError: no file is whole.
        OSError: a file cannot be written, such as on a full disk. Those before it are untouched.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        save_freq: str | int = "epoch",
        keep: int = 3,
        delete_checkpoint: bool = False,
    ) -> None:
        name = type(self).__name__
        self._every = _frequency(name, save_freq)
        self._checkpoints = Checkpoints(checks.path(name, "directory", directory), checks.integer(name, "keep", keep))
        self._delete = checks.flag(name, "delete_checkpoint", delete_checkpoint)

    def on_train_begin(self) -> None:
        """Goes on from the newest file that is whole, if there is one."""
        self._checkpoints.open()
        self.training.watch_data()
        while (path := self._checkpoints.newest()) is not None:
            try:
                self.training.restore(path)
                return
            except DamagedFileError as error:
                self._checkpoints.skip(path)
                path = self._checkpoints.newest()
                if path is None:
                    raise
                errors.warn(f"{error}; going on from {path}, the one before it", ResumeWarning)

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Saves, also where steps are counted: an epoch's end is a good place to go on from. One that was stopped between
        two steps is gone on with from there."""
        if self.training.epoch_is_whole:
            self._save()

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float]) -> None:
        """Saves, if it is time, or if a callback stops the training here."""
        stopped = self.training.stop_training and not self.training.ended
        if stopped or (self._every is not None and self.training.step % self._every == 0):
            self._save()

    def on_train_end(self) -> None:
        """Cleans up, if told to, unless a callback stopped a run that is to go on."""
        if self._delete and self.training.over:
            self._checkpoints.delete_all()

    def _save(self) -> None:
        self._checkpoints.write(self.training.position, self.training.snapshot())
