"""The history for TensorBoard."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

from recurra.callbacks.callback import Callback
from recurra.common import checks

_serial = count()  # of files, whose names have whole seconds otherwise


class TensorBoard(Callback):
    """Writes the history as event files, which `tensorboard --logdir logs` shows: as in Keras, "epoch_loss" and so on
    in the directories `train` and `validation`, with the epoch as the step.

    The files are written by tensorboardX (`pip install "recurra[tensorboard]"`), or, where it is missing, by PyTorch,
    which needs the package tensorboard. A resumed run continues them.

    Args:
        log_dir: where the directories go, which are created if needed.
        histogram_freq: epochs between two histograms of each parameter; 0 for none.
        update_freq: "epoch", "batch", or a number of optimiser steps: those between two points "batch_loss" and so on
            in the directory `steps`, with the optimiser's step as the step.

    `fit` raises ImportError where neither package is installed.

    Example:
        >>> callback = rc.callbacks.TensorBoard("logs")
        >>> model = rc.Sequential(rc.GRU(1, 2), rc.Linear(2, 1))
        >>> x = np.zeros((8, 5, 1), np.float32)
        >>> history = model.fit(
        ...     x, x, loss="mse", optimizer="adam", callbacks=callback, verbose=0
        ... )
    """

    def __init__(
        self, log_dir: str | os.PathLike[str] = "logs", *, histogram_freq: int = 0, update_freq: str | int = "epoch"
    ) -> None:
        name = type(self).__name__
        self.log_dir = checks.path(name, "log_dir", log_dir)
        self.histogram_freq = checks.integer(name, "histogram_freq", histogram_freq, 0)
        if isinstance(update_freq, str):
            checks.choice(name, "update_freq", update_freq, ("epoch", "batch"))
        self.update_freq = (
            update_freq if isinstance(update_freq, str) else checks.integer(name, "update_freq", update_freq)
        )
        self._writers: dict[str, Any] = {}

    def on_train_begin(self) -> None:
        """Begins new files; an ImportError if neither package is installed."""
        _writer_class()
        self._close()

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float]) -> None:
        """Writes the numbers, if due."""
        if self.update_freq == "epoch":
            return
        step = self.training.step
        if step % (1 if self.update_freq == "batch" else int(self.update_freq)) == 0:
            self._write("steps", {f"batch_{name}": value for name, value in logs.items()}, step)

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Writes the epoch's numbers, and the histograms, if due."""
        own = {f"epoch_{name}": value for name, value in logs.items() if not name.startswith("val_")}
        self._write("train", own, epoch)
        others = {f"epoch_{name[4:]}": value for name, value in logs.items() if name.startswith("val_")}
        if others:
            self._write("validation", others, epoch)
        if self.histogram_freq and epoch % self.histogram_freq == 0:
            for name, value in self.training.model.params.items():
                if value.size:
                    self._writer("train", epoch).add_histogram(name, value, epoch)
        for writer in self._writers.values():
            writer.flush()

    def on_train_end(self) -> None:
        """Closes the files."""
        self._close()

    def _write(self, directory: str, numbers: Mapping[str, float], step: int) -> None:
        writer = self._writer(directory, step)
        for name, value in numbers.items():
            writer.add_scalar(name, value, step)

    def _writer(self, directory: str, step: int) -> Any:
        """The writer of a directory. Points of an earlier run from `step` on are discarded."""
        if directory not in self._writers:
            path, suffix = str(Path(self.log_dir) / directory), f".{os.getpid()}.{next(_serial):06}"
            self._writers[directory] = _writer_class()(path, purge_step=step, filename_suffix=suffix)
        return self._writers[directory]

    def _close(self) -> None:
        for writer in self._writers.values():
            writer.close()
        self._writers = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_writers": {}}


def _writer_class() -> Any:
    """A SummaryWriter, of whichever package is there."""
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ImportError(
                "TensorBoard: tensorboardX is not installed; run pip install 'recurra[tensorboard]'"
            ) from error
    return SummaryWriter
