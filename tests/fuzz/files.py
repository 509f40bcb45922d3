"""Fuzzes files: whatever is done to a model's file or a checkpoint, `load` gives one clear error, in bounded memory.

python tests/fuzz/files.py --seconds 600
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import checkpoints
import damage
import harness
import numpy as np

import models
import recurra as rc

#: Beside it a model of a megabyte has room, and one of a gigabyte, which no file here backs, has not.
MEMORY = 3 << 29


@cache
def originals() -> list[bytes]:
    """Files as the library writes them: models of all kinds, and a checkpoint."""
    rng = np.random.default_rng(0)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        for _ in range(12):
            models.draw(rng)[0].save(path)
            found.append(path.read_bytes())
    return found + [content for name, content in checkpoints.run_files().items() if "backup" in name]


def case(rng: np.random.Generator, report: Callable[[str], None]) -> str | None:
    """A damaged file, loaded."""
    damages = [damage.flip, damage.cut, damage.grow, damage.relength, damage.bomb, _splice, *[damage.edit] * 3]
    content = harness.damaged(rng, report, originals(), damages)
    return harness.read(content, lambda path: rc.load(path, {"Doubled": models.Doubled}), (rc.ModelFormatError,))


def _splice(rng: np.random.Generator, content: bytes) -> bytes:
    """The header of one file, the arrays of another."""
    other = originals()[rng.integers(len(originals()))]
    return content[: 8 + damage.header_length(content)] + other[8 + damage.header_length(other) :]


if __name__ == "__main__":
    sys.exit(harness.main(__file__, case, memory=MEMORY))
