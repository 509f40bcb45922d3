"""Types: the package is strict, a user's program checks against it, the native stubs say what is there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import recurra

ROOT = Path(__file__).parents[2]


def check(*arguments: str) -> None:
    command = [sys.executable, "-m", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_package_is_strict() -> None:
    check("mypy", "--strict", "python/recurra")


def test_a_user_is_well_served() -> None:
    """Against the installed package, so that py.typed is there too."""
    check("mypy", "--strict", str(ROOT / "tests" / "helpers" / "typed_user.py"))


def test_pyright_serves_a_user_too(tmp_path: Path) -> None:
    program = tmp_path / "typed_user.py"
    program.write_text((ROOT / "tests" / "helpers" / "typed_user.py").read_text())
    package = Path(recurra.__file__).parents[1]
    settings = {"include": [program.name], "extraPaths": [str(package)], "pythonVersion": "3.11"}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    check("pyright", "--pythonpath", sys.executable, "--project", str(tmp_path))


def test_the_native_stubs_are_true(tmp_path: Path) -> None:
    """But for what pybind11 does to every class: a metaclass, and __init__(*args) where there is no constructor."""
    allowed = tmp_path / "allowed"
    allowed.write_text("recurra\\._core\\.[A-Z]\\w+\nrecurra\\._core\\.(Layer|Stream|Tape)\\.__init__\n")
    check("mypy.stubtest", "--allowlist", str(allowed), "recurra._core")
