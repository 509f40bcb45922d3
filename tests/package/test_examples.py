"""Every example runs, beats its baseline and draws its picture."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import recurra as rc

EXAMPLES = Path(__file__).parents[2] / "examples"
GALLERY = sorted(path for path in EXAMPLES.glob("*.py") if "common.arguments(" in path.read_text())


def run(example: Path, *options: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """The example with --quick, run in `folder`."""
    paths = [str(Path(rc.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return subprocess.run(
        [sys.executable, str(example), "--quick", *options],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.by_turns(days=4)
@pytest.mark.parametrize("example", GALLERY, ids=lambda path: path.stem)
def test_beats_its_baseline(example: Path, tmp_path: Path) -> None:
    done = run(example, "--plot", "picture.png", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    verdict = done.stdout.splitlines()[-1]
    assert re.fullmatch(rf"{example.name}: .+ [\d.]+.* against [\d.]+.* of .+: better", verdict), verdict
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_language_model_runs(tmp_path: Path) -> None:
    done = run(EXAMPLES / "language_model.py", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "language_model.safetensors").exists()


def test_language_model_trains_anew_each_time(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("".join(f"line {number} of the text\n" for number in range(200)))
    small = ("--text", "text", "--epochs", "2", "--hidden", "4", "--sample", "5")
    for _ in range(2):
        done = run(EXAMPLES / "language_model.py", *small, folder=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        assert re.findall(r"^after epoch (\d) of 2", done.stdout, re.MULTILINE) == ["1", "2"]
        assert "epoch 2/2: 100%" in done.stderr  # of a total that the first epoch has told


def test_the_gallery_shows_all() -> None:
    page = (EXAMPLES.parent / "docs" / "gallery.md").read_text()
    missing = [
        path.name for path in GALLERY if f"examples/{path.name}" not in page or f"gallery/{path.stem}.png" not in page
    ]
    assert not missing
