"""Snapshots of streams on disk, from which they go on after a restart."""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from recurra.saving import container, whole_file

_NAME = re.compile(r"[0-9a-f]{32}")
_SUFFIX = ".safetensors"


class Kept(NamedTuple):
    """A stream that is not running. snapshot: for `Pool.restore`; steps, resets: that it has seen; last: the answer to
    the last message that changed it."""

    snapshot: bytes
    steps: int
    resets: int
    last: str


def is_name(name: object) -> bool:
    """Whether this may be the name of a stream, and so of a file."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


class Store:
    """A folder with a file for each stream, which several processes may share.

    Files lie in 256 folders, by the beginning of their name: to write one, a folder is looked through.
    """

    def __init__(self, folder: str | os.PathLike[str], keep_seconds: float, most: int) -> None:
        self._folder, self._keep_seconds, self._most = Path(folder), keep_seconds, most
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _path(self, name: str) -> Path:
        assert is_name(name)
        return self._folder / name[:2] / (name + _SUFFIX)

    def write(self, name: str, kept: Kept) -> None:
        """Save a stream, atomically."""
        content = container.read_bytes("snapshot", kept.snapshot)
        about = {"steps": str(kept.steps), "resets": str(kept.resets), "last": kept.last}
        path = self._path(name)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        whole_file.write(
            "snapshot",
            path,
            container.serialise("snapshot", content.arrays, {**content.metadata, **about}),
            follow=False,
        )

    def read(self, name: str) -> Kept | None:
        """A saved stream; None if there is none.

        Raises:
            ModelFormatError: its file is damaged.
        """
        try:
            data = self._path(name).read_bytes()
        except FileNotFoundError:
            return None
        about = container.read_bytes("snapshot", data).metadata
        return Kept(data, int(about.get("steps", "0")), int(about.get("resets", "0")), about.get("last", ""))

    def remove(self, name: str) -> None:
        """Forget a stream."""
        self._path(name).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove files that nobody has come back for, and the oldest of too many."""
        found: list[tuple[float, Path]] = []
        for path in self._folder.glob("??/*" + _SUFFIX):
            with suppress(FileNotFoundError):
                if is_name(path.stem):
                    found.append((path.stat().st_mtime, path))
        found.sort()
        oldest = time.time() - self._keep_seconds
        for place, (written, path) in enumerate(found):
            if written < oldest or place < len(found) - self._most:
                path.unlink(missing_ok=True)
