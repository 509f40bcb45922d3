"""Compiles a cell's file for the instruction set in use, once for each content, and loads it for good."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shlex
import shutil
import stat
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

from recurra import _core

_FLAGS = ["-std=c++17", "-O2", "-fPIC", "-shared", "-fvisibility=hidden", "-ffp-contract=off", "-fno-math-errno"]
_FLAGS += ["-fno-trapping-math", "-Wno-psabi"]


def compile_cell(operation: str, source: str) -> list[int]:
    """The addresses of the equations in a file: forward and backward of float32, then of float64.

    Raises:
        RuntimeError: there is no compiler, or it cannot compile the file.
    """
    compiler = _compiler(operation)
    flags = [*_FLAGS, f"-DRECURRA_ISA={_core.isa()}", *_isa_flags()]
    parts = [source, *_headers().values(), *compiler, _version(operation, compiler), *flags]
    name = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:40] + ".so"
    path = _folder() / name
    if path.is_file():
        with suppress(OSError):  # such as a file that another machine's disk has spoilt
            return _load(path)
    _compile(operation, [*compiler, *flags, "-I", str(_include())], source, path)
    return _load(path)


def _load(path: Path) -> list[int]:
    library = ctypes.CDLL(str(path))  # never unloaded
    pair = ctypes.c_size_t * 2
    return [address for name in ("cell_f32", "cell_f64") for address in pair.in_dll(library, name)]


def _compile(operation: str, command: list[str], source: str, path: Path) -> None:
    descriptor, made = tempfile.mkstemp(".so", ".new-", path.parent)
    os.close(descriptor)
    try:
        run = subprocess.run(
            [*command, "-x", "c++", "-", "-o", made], input=source, capture_output=True, text=True, check=False
        )
        if run.returncode:
            raise RuntimeError(
                f"{operation}: got an error of {shlex.join(command[:1])}, expected a compiler of C++17 with vector "
                f"extensions, GCC 10 or Clang 14 or later; set CXX to one\n{run.stderr[-2000:]}"
            )
        Path(made).replace(path)
    except OSError as error:
        raise RuntimeError(
            f"{operation}: got {error}, expected {shlex.join(command[:1])} to run and {path.parent} to be writable; "
            f"set CXX or XDG_CACHE_HOME"
        ) from error
    finally:
        Path(made).unlink(missing_ok=True)


def _compiler(operation: str) -> list[str]:
    chosen = shlex.split(os.environ.get("CXX", ""))
    for command in [chosen] if chosen else [["c++"], ["g++"], ["clang++"]]:
        if found := shutil.which(command[0]):
            return [found, *command[1:]]
    got = f"CXX={shlex.join(chosen)}, which is not there" if chosen else "no C++ compiler"
    raise RuntimeError(
        f"{operation}: got {got}, expected GCC or Clang, as a cell's equations are compiled when it is defined; "
        f"install one (Debian and Ubuntu: apt install g++; Fedora: dnf install gcc-c++; macOS: xcode-select --install; "
        f"conda: conda install cxx-compiler) or set CXX"
    )


@functools.cache
def _version_of(command: tuple[str, ...]) -> str:
    return subprocess.run([*command, "--version"], capture_output=True, text=True, check=True).stdout


def _version(operation: str, command: list[str]) -> str:
    try:
        return _version_of(tuple(command))
    except (OSError, subprocess.SubprocessError) as error:
        raise RuntimeError(f"{operation}: got {error}, expected a compiler; set CXX to GCC or Clang") from error


def _isa_flags() -> list[str]:
    for one in _core.isa_flags.split("|"):
        name, *flags = one.split()
        if name == _core.isa():
            return flags
    return []


def _include() -> Path:
    """The kernels' headers: installed beside this file, or in the source tree that it lies in."""
    installed = Path(__file__).parent / "include"
    return installed if installed.is_dir() else Path(__file__).parents[4] / "src"


@functools.cache
def _headers() -> dict[str, str]:
    names = ["cells/scan_call", "cells/scan_cell", "cells/scan_unit", "simd/activations", "simd/math", "simd/vec"]
    return {name: (_include() / "kernels" / f"{name}.h").read_text() for name in names}


@functools.cache
def _folder() -> Path:
    """Where compiled cells are kept: a folder that is this user's alone, as what lies there is executed."""
    base = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    folder = Path(base) / "recurra" / "cells"
    with suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.lstat()
        mine = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022
        if mine and os.access(folder, os.W_OK):
            return folder
    return Path(tempfile.mkdtemp(prefix="recurra-cells-"))
