"""A directory of checkpoints: the last few of a run, each whole or not there."""

from __future__ import annotations

import os
import re
from pathlib import Path

from recurra import whole_file

_NAME = re.compile(r"checkpoint-(\d{5,})-(\d{9,})-(\d{6,})\.safetensors")


class Checkpoints:
    """The files of one run; `keep` of them stay."""

    def __init__(self, directory: str | os.PathLike[str], keep: int) -> None:
        self._directory, self._keep = Path(directory), keep

    def open(self) -> None:
        """Make the directory."""
        self._directory.mkdir(parents=True, exist_ok=True)

    def _found(self) -> list[Path]:
        found = {path: match for path in self._directory.iterdir() if (match := _NAME.fullmatch(path.name))}
        return sorted(found, key=lambda path: [int(number) for number in found[path].groups()])

    def newest(self, before: Path | None = None) -> Path | None:
        """The last one written; of those before another one."""
        found = self._found()
        return next(reversed(found if before is None else found[: found.index(before)]), None)

    def write(self, position: tuple[int, int, int], content: bytes) -> None:
        """One more, named by epoch, batch and window; the oldest ones go when it is there."""
        epoch, batch, window = position
        path = self._directory / f"checkpoint-{epoch:05d}-{batch:09d}-{window:06d}.safetensors"
        whole_file.write("BackupAndRestore", path, [content])
        for path in self._found()[: -self._keep]:
            path.unlink(missing_ok=True)

    def delete_all(self) -> None:
        """Leave nothing behind."""
        for path in self._found():
            path.unlink(missing_ok=True)
