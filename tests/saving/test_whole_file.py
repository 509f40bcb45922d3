"""Files are written whole or not at all, where and as they were; what is no regular file is neither read nor
replaced."""

from __future__ import annotations

import errno
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recurra as rc
from recurra.saving import whole_file

NAME = "checkpoint-00001-000000000-000000.safetensors"


def model() -> Any:
    return rc.Sequential(rc.GRU(2, 3), rc.Linear(3, 2), seed=0)


def fit(*callbacks: Any, epochs: int = 2) -> Any:
    x = np.zeros((4, 3, 2), np.float32)
    one = model()
    one.fit(
        x,
        x,
        loss=rc.losses.MeanSquaredError(),
        optimizer=rc.optim.SGD(0.1),
        epochs=epochs,
        seed=0,
        callbacks=list(callbacks),
        verbose=0,
    )
    return one


def in_time(function: Callable[[], Any]) -> Any:
    """What it returns or raises; a test that would wait for ever fails instead."""
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(function())
        except Exception as error:  # noqa: BLE001 - handed on
            found.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(60)
    assert found, "it waits for ever"
    return found[0]


def fifo(path: Path) -> None:
    os.mkfifo(path)


def unix_socket(path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(f"/proc/self/fd/{folder}/{path.name}")  # an address has 108 bytes at most
    os.close(folder)


def null_device(path: Path) -> None:
    try:
        os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("only root makes devices")


def link_to_a_fifo(path: Path) -> None:
    os.mkfifo(path.with_name("behind"))
    path.symlink_to("behind")


SPECIAL = [fifo, unix_socket, null_device, link_to_a_fifo]


@pytest.mark.parametrize("make", SPECIAL)
def test_what_is_no_file_is_not_read(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / NAME)
    error = in_time(lambda: rc.load(tmp_path / NAME))
    assert isinstance(error, rc.ModelFormatError)
    assert str(error).startswith("load: got ")
    assert "expected a regular file" in str(error)
    error = in_time(lambda: fit(rc.callbacks.BackupAndRestore(tmp_path, delete_checkpoint=False)))
    assert isinstance(error, rc.ModelFormatError)
    assert str(error).startswith("fit: got ")


@pytest.mark.parametrize("name", ["/proc/self/cmdline", "/proc/kmsg", "/proc/self/mem", "/proc/kcore", "/dev/zero"])
def test_files_that_never_end_are_not_read(name: str) -> None:
    if not Path(name).exists():
        pytest.skip("not here")
    assert isinstance(in_time(lambda: rc.load(name)), rc.ModelFormatError | PermissionError)


@pytest.mark.parametrize("make", SPECIAL)
def test_what_is_no_file_is_not_replaced(make: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "there"
    make(path)
    before, link = path.stat(), path.lstat()
    writers: list[Callable[[], Any]] = [
        lambda: model().save(path),
        lambda: fit(rc.callbacks.ModelCheckpoint(path)),
        lambda: fit(rc.callbacks.CSVLogger(path)),
    ]
    for write in writers:
        error = in_time(write)
        assert isinstance(error, ValueError), error
        assert "expected a regular file" in str(error)
    assert (path.stat().st_mode, path.lstat().st_ino) == (before.st_mode, link.st_ino)


def test_a_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match=str(tmp_path)):
        model().save(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        model().save(tmp_path / "nowhere" / "model")


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o755])
def test_a_file_keeps_its_mode(mode: int, tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.touch()
    path.chmod(mode)
    model().save(path)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    log = tmp_path / "log.csv"
    log.touch()
    log.chmod(mode)
    fit(rc.callbacks.CSVLogger(log))
    assert stat.S_IMODE(log.stat().st_mode) == mode


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
def test_a_file_keeps_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.touch()
    os.chown(path, 12345, 54321)
    model().save(path)
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 54321)


@pytest.mark.parametrize("length", [230, 255])
def test_long_names(length: int, tmp_path: Path) -> None:
    path = tmp_path / ("m" * length)
    for _time in range(2):
        model().save(path)
        rc.load(path)
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("chain", [["target"], ["link", "target"], ["deep/target"], ["../elsewhere/target"]])
@pytest.mark.parametrize("dangling", [False, True])
def test_links_are_followed(chain: list[str], dangling: bool, tmp_path: Path) -> None:
    home = tmp_path / "home"
    for directory in (home, home / "deep", tmp_path / "elsewhere"):
        directory.mkdir()
    path = home / "model"
    path.symlink_to(chain[0])
    if len(chain) > 1:
        (home / chain[0]).symlink_to(chain[1])
    target = home / chain[-1]
    if not dangling:
        target.write_bytes(b"old")
    model().save(path)
    assert path.is_symlink()
    assert path.readlink() == Path(chain[0])
    assert not target.is_symlink()
    assert target.read_bytes() == path.read_bytes() != b"old"
    rc.load(path)


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    """Also in other processes, whatever the order of their sets and dicts."""
    model = "rc.Sequential(rc.GRU(2, 3), rc.BatchNorm(3), rc.Linear(3, 2), seed=0)"
    script = f"import sys, recurra as rc; {model}.save(sys.argv[1])"
    found = set()
    for seed in range(4):
        path = tmp_path / str(seed)
        subprocess.run(
            [sys.executable, "-c", script, path], check=True, env={**os.environ, "PYTHONHASHSEED": str(seed)}
        )
        found.add(path.read_bytes())
        rc.load(path).save(path)
        found.add(path.read_bytes())
    assert len(found) == 1


@pytest.fixture(params=["anonymous", "named"])
def kind(request: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Both ways to write: not every file system has files without a name."""
    if request.param == "named":
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    return request.param


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked children")
def test_a_killed_write_leaves_nothing_for_ever(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes(b"old")

    def parts() -> Iterator[bytes]:
        yield b"new" * 1000
        os.kill(os.getpid(), signal.SIGKILL)
        yield b"never"

    for _time in range(3):
        child = os.fork()
        if child == 0:
            whole_file.write("save", path, parts())
            os._exit(0)
        assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
        assert path.read_bytes() == b"old"
        assert len(list(tmp_path.iterdir())) <= 2, "those before it were cleared away"
    model().save(path)
    assert [one.name for one in tmp_path.iterdir()] == ["model"]


def test_what_is_being_written_is_not_cleared_away(kind: str, tmp_path: Path) -> None:
    def parts() -> Iterator[bytes]:
        yield b"slow"
        whole_file.write("save", tmp_path / "quick", [b"quick"])
        yield b"ly"

    whole_file.write("save", tmp_path / "slow", parts())
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == {"slow": b"slowly", "quick": b"quick"}


def test_a_write_that_fails_leaves_the_old_file(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes(b"old")

    def parts() -> Iterator[bytes]:
        yield b"new"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        whole_file.write("save", path, parts())
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == {"model": b"old"}


def test_many_threads_write_one_file(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "model"
    threads = [
        threading.Thread(target=whole_file.write, args=("save", path, [bytes([index]) * 5000])) for index in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one.name for one in tmp_path.iterdir()] == ["model"]
    content = path.read_bytes()
    assert content == content[:1] * 5000


@pytest.mark.parametrize("again", [rc.callbacks.CSVLogger, rc.callbacks.ModelCheckpoint])
def test_callbacks_write_through_links(again: Any, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    path = tmp_path / "there"
    path.symlink_to("real/file")
    fit(again(path))
    assert path.is_symlink()
    assert [one.name for one in (tmp_path / "real").iterdir()] == ["file"]


def test_a_full_disk_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: .*model"):
        whole_file.write("save", tmp_path / "model", [b"content"])
    assert not list(tmp_path.iterdir())
