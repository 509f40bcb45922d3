"""Callbacks that save the model, or the state of training."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from recurra.callbacks.callback import Callback
from recurra.callbacks.checkpoints import Checkpoints
from recurra.callbacks.monitor import Monitor
from recurra.common import checks, errors, log
from recurra.common.errors import ResumeWarning
from recurra.saving.container import DamagedFileError


def _frequency(owner: str, value: Any) -> int | None:
    """Optimiser steps between two files; None for "epoch"."""
    if isinstance(value, str):
        checks.choice(owner, "save_freq", value, ("epoch",))
        return None
    return checks.integer(owner, "save_freq", value)


class ModelCheckpoint(Callback):
    """Saves the model, atomically, after every epoch or only when it has improved.

    Args:
        filepath: the path; its directory is created if needed. `{epoch}` (from 1) and the names of the epoch's numbers
            are filled in, as in "model-{epoch:03d}-{val_loss:.2f}.safetensors".
        monitor: for save_best_only, the number's name in the history.
        save_best_only: whether to save only models better than all before.
        mode: "min" or "max", whichever is better; "auto": "min" for a loss, the metric's own mode for a metric.
        save_freq: "epoch", or a number of optimiser steps; save_best_only needs "epoch".
        keep: number of files to keep, the last ones; None for all.
        verbose: 1 prints every path.

    Example:
        >>> callback = rc.callbacks.ModelCheckpoint(
        ...     "best.safetensors", monitor="loss", save_best_only=True
        ... )
        >>> model = rc.Sequential(rc.GRU(1, 2), rc.Linear(2, 1))
        >>> x = np.zeros((8, 5, 1), np.float32)
        >>> history = model.fit(
        ...     x, x, loss="mse", optimizer="adam", callbacks=callback, verbose=0
        ... )
        >>> model = rc.load("best.safetensors")
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
                f"{name}: got save_best_only=True with save_freq={save_freq}, expected 'epoch', as the number is known "
                "only after an epoch; leave save_freq out"
            )
        self.keep = None if keep is None else checks.integer(name, "keep", keep)
        self.verbose = checks.choice(name, "verbose", verbose, (0, 1))
        self._written: list[_Filled] = []

    def on_train_begin(self) -> None:
        """Checks the names in the path, and creates its directory."""
        self._written = []
        if self.save_best_only:
            self._monitor.begin(self.training)
        known = self.training.log_names if self._every is None else self.training.step_log_names
        self._path(_Filled(0, dict.fromkeys(known, 0.0)))
        if "{" not in str(Path(self.filepath).parent):
            self._make_directory(self.filepath)

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Saves, if due. An epoch that was cut short does not count, as its numbers cover a few steps only."""
        if not self.training.epoch_is_whole:
            return
        if self._every is None and (not self.save_best_only or self._monitor.improved(logs)):
            self._save(epoch, logs)

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float]) -> None:
        """Saves, if due."""
        if self._every is not None and self.training.step % self._every == 0:
            self._save(self.training.epoch, logs)

    def _path(self, names: _Filled) -> str:
        try:
            return self.filepath.format_map(names)
        except (LookupError, AttributeError, TypeError, ValueError) as error:
            raise ValueError(
                f"{type(self).__name__}: got filepath={self.filepath!r}, expected some of {', '.join(names.known)} in "
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
            log.say(f"ModelCheckpoint: saved {path}")

    def config(self) -> dict[str, Any]:
        """The options that determine which model is the best."""
        return {**self._monitor.config(), "save_best_only": self.save_best_only}

    def state_dict(self) -> dict[str, Any]:
        """The best value so far, and the files written, as the numbers in their names. Paths to delete are always built
        from the present `filepath`, so that a forged checkpoint cannot name others."""
        return {"best": self._monitor.best, "written": [[one.epoch, dict(one.logs)] for one in self._written]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the state. Files that the present `filepath` cannot name, as it uses other numbers, are left
        alone."""
        written = []
        for epoch, used in state["written"]:
            if type(epoch) is not int or not all(type(value) in (int, float) for value in used.values()):
                raise TypeError(f"got {epoch!r:.50} and {used!r:.100} for a file's name, expected numbers")
            one = _Filled(epoch, used)
            with suppress(ValueError):
                self._path(one)
                written.append(one)
        self._monitor.best, self._written = float(state["best"]), written


class _Filled(dict[str, float]):
    """The values to fill into a path. Logs are read only when a name needs them, as computing them may be costly;
    `used` are those that were read."""

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
        """All names that may be filled in."""
        return ["epoch", *self.logs]


class BackupAndRestore(Callback):
    """Saves checkpoints of the whole training, and resumes from the newest when the same fit is called again.

    A run that was killed at any moment and is started again with the same data and arguments ends with the same bits as
    an uninterrupted one: the file holds parameters, optimiser, schedule, order of rows, masks, carried state, history,
    callbacks and metrics. Files are written atomically. `recurra.load` can read the model from them, too.

    Args:
        directory: where the files go; it is created if needed. One directory belongs to one run.
        save_freq: "epoch", or a number of optimiser steps.
        keep: number of files to keep, the last ones.
        delete_checkpoint: whether to delete the files when the run is over, as Keras does, so that calling the same fit
            again trains anew: after the last epoch, or when a callback such as EarlyStopping has ended it for good, but
            not when a time limit stopped it. If they are kept, calling the same fit again returns at once, and one with
            more epochs continues.

    If the newest file is damaged, the run resumes from the one before it, with a `recurra.ResumeWarning`. It also warns
    if the library version, the instruction set, the validation data or callbacks' options have changed, and if batches
    come from a generator or loader whose content cannot be compared.

    Raises:
        ValueError: the files are of another run; the message names the arguments that differ. Nothing has changed then.
        ModelFormatError: all files are damaged.
        OSError: a file cannot be written, such as on a full disk. Earlier files are unchanged.

    Example:
        >>> callback = rc.callbacks.BackupAndRestore("run", save_freq=100)  # every 100 steps
        >>> model = rc.Sequential(rc.GRU(1, 2), rc.Linear(2, 1))
        >>> x = np.zeros((8, 5, 1), np.float32)
        >>> history = model.fit(
        ...     x, x, loss="mse", optimizer="adam", callbacks=callback, verbose=0
        ... )
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        save_freq: str | int = "epoch",
        keep: int = 3,
        delete_checkpoint: bool = True,
    ) -> None:
        name = type(self).__name__
        self._every = _frequency(name, save_freq)
        self._checkpoints = Checkpoints(checks.path(name, "directory", directory), checks.integer(name, "keep", keep))
        self._delete = checks.flag(name, "delete_checkpoint", delete_checkpoint)

    def on_train_begin(self) -> None:
        """Resumes from the newest undamaged file, if there is one."""
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
                errors.warn(f"{error}; resuming from {path}, the checkpoint before it", ResumeWarning)

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Saves, also with a number as save_freq, as the end of an epoch is a good place to resume. An epoch stopped
        between two steps resumes there."""
        if self.training.epoch_is_whole:
            self._save()

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float]) -> None:
        """Saves, if due, or if a callback stops training here."""
        stopped = self.training.stop_training and not self.training.ended
        if stopped or (self._every is not None and self.training.step % self._every == 0):
            self._save()

    def on_train_end(self) -> None:
        """Deletes the files, if delete_checkpoint is set and the run is over."""
        if self._delete and self.training.over:
            self._checkpoints.delete_all()

    def _save(self) -> None:
        self._checkpoints.write(self.training.position, self.training.snapshot())
