"""Regular files, written atomically."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

#: Short and independent of the target's name, which may have the maximum length.
_TEMPORARY = re.compile(r"\.recurra-[0-9a-f]{16}\.tmp")

_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def _check_regular(operation: str, path: str, status: os.stat_result) -> None:
    """Refuse anything but a regular file: reading might never end, and writing would replace a device by a file."""
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, f"{operation}: got a directory, expected a file", path)
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "not a regular file")
        raise ValueError(f"{operation}: got {path}, which is {kind}, expected a regular file; give the path of one")


def open_regular(operation: str, path: str | os.PathLike[str]) -> tuple[BinaryIO, int]:
    """A regular file, open for reading, and its size.

    Raises:
        ValueError: it is a FIFO, a socket or a device; the call does not block on them.
        OSError: it cannot be read.
    """
    name = os.fspath(path)
    _check_regular(operation, name, os.stat(name))  # noqa: PTH116 - opening a device may have side effects
    descriptor = os.open(name, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        status = os.fstat(descriptor)
        _check_regular(operation, name, status)
        return open(descriptor, "rb"), status.st_size  # noqa: PTH123
    except BaseException:
        os.close(descriptor)
        raise


def write(operation: str, path: str | os.PathLike[str], parts: Iterable[Any], *, follow: bool = True) -> None:
    """Atomically replace a file with `parts`, bytes or flat arrays of bytes.

    A symbolic link is followed if `follow`, else replaced; the file keeps its mode and, where permitted, its owner. The
    temporary file of a killed process vanishes with it or, on file systems without anonymous files, at the next write
    to the directory.

    Raises:
        ValueError: the path is not a regular file.
        OSError: it cannot be written; the old file is unchanged.
    """
    target = Path(os.path.realpath(path) if follow else os.path.abspath(path))  # noqa: PTH100 - abspath does not resolve links
    old: os.stat_result | None = None
    with suppress(FileNotFoundError):
        if follow or not target.is_symlink():
            old = target.stat()
            _check_regular(operation, os.fspath(path), old)
    if not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, f"{operation}: got no such directory", str(target.parent))
    _clear(target.parent)
    new = _Temporary(target.parent, private=old is not None)
    try:
        new.fill(parts)
        new.become(target, old)
    except OSError as error:  # a full disk gives no filename
        error.filename = error.filename or os.fspath(path)
        raise
    finally:
        new.close()
    _flush_directory(target.parent)


def check(operation: str, path: str | os.PathLike[str]) -> None:
    """Refuse a file that `write` could not replace, without changing it.

    Raises:
        ValueError, OSError: as `write` does.
    """
    target = Path(os.path.realpath(path))
    _check_regular(operation, os.fspath(path), target.stat())
    _Temporary(target.parent, private=True).close()


def _lock(descriptor: int, *, wait: bool) -> bool:
    """Lock the file until it is closed. False if another process holds it, or if locks are not available."""
    try:
        import fcntl  # not on Windows
    except ImportError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True


class _Temporary:
    """The file being written: locked, so that other processes do not remove it, and anonymous where possible."""

    def __init__(self, directory: Path, private: bool) -> None:
        self._name: Path | None = None
        self._directory, self._mode = directory, 0o600 if private else 0o666
        self._descriptor = self._anonymous()
        if self._descriptor is None:
            self._descriptor = self._named()

    def _anonymous(self) -> int | None:
        flag = getattr(os, "O_TMPFILE", 0)
        if not flag:
            return None
        try:
            descriptor = os.open(self._directory, flag | os.O_RDWR, self._mode)
        except OSError:  # not supported, or the directory is read-only, which _named() reports
            return None
        if (
            _lock(descriptor, wait=True) and Path(f"/proc/self/fd/{descriptor}").exists()
        ):  # needed to name the file later
            return descriptor
        os.close(descriptor)
        return None

    def _free_name(self) -> Path:
        return self._directory / f".recurra-{os.urandom(8).hex()}.tmp"

    def _named(self) -> int:
        while True:
            self._name = self._free_name()
            descriptor = os.open(
                self._name, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), self._mode
            )
            _lock(descriptor, wait=True)
            with suppress(FileNotFoundError):
                if os.path.samestat(self._name.stat(), os.fstat(descriptor)):
                    return descriptor
            os.close(descriptor)  # another process removed it before it was locked

    def fill(self, parts: Iterable[Any]) -> None:
        assert self._descriptor is not None
        with open(self._descriptor, "wb", closefd=False) as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())

    def become(self, target: Path, old: os.stat_result | None) -> None:
        assert self._descriptor is not None
        if self._name is None:
            name = self._free_name()
            # src_dir_fd is irrelevant for an absolute path, but without it CPython would not follow the link.
            os.link(f"/proc/self/fd/{self._descriptor}", name, src_dir_fd=self._descriptor, follow_symlinks=True)
            self._name = name
        if old is not None and os.name == "posix":
            own = os.fstat(self._descriptor)
            if (own.st_uid, own.st_gid) != (old.st_uid, old.st_gid):
                with suppress(OSError):
                    os.fchown(self._descriptor, old.st_uid, old.st_gid)
            os.fchmod(self._descriptor, stat.S_IMODE(old.st_mode))
        self._name.replace(target)
        self._name = None

    def close(self) -> None:
        if self._name is not None:
            self._name.unlink(missing_ok=True)
        if self._descriptor is not None:
            os.close(self._descriptor)


def _clear(directory: Path) -> None:
    """Remove the temporary files of killed processes: those that are not locked."""
    with suppress(OSError), os.scandir(directory) as entries:
        for name in [entry.path for entry in entries if _TEMPORARY.fullmatch(entry.name)]:
            with suppress(OSError):
                descriptor = os.open(name, os.O_RDWR | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0))
                try:
                    if _lock(descriptor, wait=False):
                        Path(name).unlink(missing_ok=True)
                finally:
                    os.close(descriptor)


def _flush_directory(directory: Path) -> None:
    """Flush a new file name to disk, which takes an fsync of the directory."""
    if os.name != "posix":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
