"""A directory with the last few checkpoints of a run, each written atomically."""

from __future__ import annotations

import os
import re
from pathlib import Path

from recurra.saving import whole_file

_NAME = re.compile(r"checkpoint-(\d{5,})-(\d{9,})-(\d{6,})\.safetensors")


def _position(path: Path) -> list[int]:
    """Epoch, batch and window from a checkpoint's file name."""
    return [int(number) for number in path.name.removesuffix(".safetensors").split("-")[1:]]


class Checkpoints:
    """The files of one run, of which the last `keep` are kept."""

    def __init__(self, directory: str | os.PathLike[str], keep: int) -> None:
        self._directory, self._keep = Path(directory), keep
        self._damaged: set[Path] = set()

    def open(self) -> None:
        """Create the directory if needed, and forget which files were damaged."""
        self._damaged.clear()
        self._directory.mkdir(parents=True, exist_ok=True)

    def _found(self) -> list[Path]:
        return sorted((path for path in self._directory.iterdir() if _NAME.fullmatch(path.name)), key=_position)

    def newest(self) -> Path | None:
        """The newest file not known to be damaged."""
        return next((path for path in reversed(self._found()) if path not in self._damaged), None)

    def skip(self, path: Path) -> None:
        """Mark a file as damaged: it is ignored, and deleted after the next write."""
        self._damaged.add(path)

    def write(self, position: tuple[int, int, int], content: bytes) -> None:
        """Write a checkpoint, named by epoch, batch and window, then delete the damaged files and the oldest. Files of
        later positions do not count towards `keep`, as this run has not reached them."""
        epoch, batch, window = position
        path = self._directory / f"checkpoint-{epoch:05d}-{batch:09d}-{window:06d}.safetensors"
        whole_file.write("BackupAndRestore", path, [content], follow=False)  # a link might point outside the directory
        self._damaged.discard(path)
        whole = [one for one in self._found() if _position(one) <= list(position) and one not in self._damaged]
        for one in [*self._damaged, *whole[: -self._keep]]:
            one.unlink(missing_ok=True)
        self._damaged.clear()

    def delete_all(self) -> None:
        """Delete all checkpoints."""
        for path in self._found():
            path.unlink(missing_ok=True)
