"""The history as a CSV file."""

from __future__ import annotations

import io
import os
from pathlib import Path

from recurra.callbacks.callback import Callback
from recurra.common import checks
from recurra.saving import whole_file


class CSVLogger(Callback):
    """Writes the history to a CSV file, one line per epoch. The file is complete at any time, also after resuming.

    Args:
        filename: the path; its directory is created if needed, an existing file is replaced.
        separator: the character between columns.

    Example:
        >>> callback = rc.callbacks.CSVLogger("history.csv")
        >>> model = rc.Sequential(rc.GRU(1, 2), rc.Linear(2, 1))
        >>> x = np.zeros((8, 5, 1), np.float32)
        >>> history = model.fit(
        ...     x, x, loss="mse", optimizer="adam", callbacks=callback, verbose=0
        ... )
        >>> from pathlib import Path
        >>> Path("history.csv").read_text().split(",")[:2]
        ['epoch', 'loss']
    """

    def __init__(self, filename: str | os.PathLike[str], *, separator: str = ",") -> None:
        name = type(self).__name__
        if not isinstance(separator, str) or len(separator) != 1 or separator in '\r\n"+-.' or separator.isalnum():
            raise ValueError(
                f"{name}: got separator={separator!r}, expected one character that occurs in no number; write "
                f"separator=','"
            )
        self._path, self._separator = Path(checks.path(name, "filename", filename)), separator

    def on_train_begin(self) -> None:
        """Creates the directory, and checks that the file can be written. An existing file stays until the first epoch,
        as the run may resume from a checkpoint."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if not self._path.exists():
            self._write()
        else:
            whole_file.check("CSVLogger", self._path)

    def on_epoch_begin(self, epoch: int) -> None:
        """Writes the epochs so far, including those before resuming."""
        self._write()

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Writes all epochs so far."""
        self._write()

    def on_train_end(self) -> None:
        """Writes again, with the numbers that later callbacks added."""
        self._write()

    def _write(self) -> None:
        import csv  # late, to keep `import recurra` cheap

        history = self.training.history
        names = list(history.history) or self.training.log_names
        text = io.StringIO(newline="")
        writer = csv.writer(text, delimiter=self._separator, lineterminator="\n")
        writer.writerow(["epoch", *names])
        for index, epoch in enumerate(history.epoch):
            writer.writerow([epoch + 1, *(history.history[name][index] for name in names)])
        whole_file.write("CSVLogger", self._path, [text.getvalue().encode()])
