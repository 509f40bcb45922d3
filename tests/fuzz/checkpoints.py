"""Fuzzes runs that go on: from whatever is in their directory, `fit` goes on or says why not, and touches nothing else.

python tests/fuzz/checkpoints.py --seconds 600
"""

from __future__ import annotations

import json
import struct
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import damage
import harness
import numpy as np

import recurra as rc


def _train(folder: Path, epochs: int, model: Any = None) -> None:
    x, y = np.ones((4, 3, 2), np.float32), np.zeros((4, 3), np.int64)
    model = model or _model()
    saving = rc.callbacks.ModelCheckpoint(folder / "best-{epoch}.safetensors", keep=1)
    stopping = rc.callbacks.EarlyStopping("loss", restore_best_weights=True, patience=9)
    told = [saving, stopping, rc.callbacks.BackupAndRestore(folder / "backup", delete_checkpoint=False)]
    loss, optimizer = rc.losses.CrossEntropy(), rc.optim.Adam(0.01)
    options: Any = {"batch_size": 2, "callbacks": told, "metrics": ["accuracy", "f1"], "seed": 0, "verbose": 0}
    model.fit(x, y, loss=loss, optimizer=optimizer, epochs=epochs, **options)


def _model() -> Any:
    return rc.Sequential(rc.GRU(2, 3), rc.Linear(3, 2), seed=0)


@cache
def run_files() -> dict[str, bytes]:
    """The files of a run of two epochs."""
    with tempfile.TemporaryDirectory() as folder:
        _train(Path(folder), 2)
        return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def case(rng: np.random.Generator, report: Callable[[str], None]) -> str | None:
    """A run that is to go on from damaged files: it does, or it says why not and leaves the model and other files
    alone."""
    with tempfile.TemporaryDirectory() as place:
        folder, elsewhere = Path(place) / "run", Path(place) / "elsewhere.safetensors"
        elsewhere.write_bytes(b"precious")
        damaged = []
        for name, content in run_files().items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            if rng.random() < 0.7:
                chosen = (damage.flip, damage.cut, damage.edit, damage.edit, damage.edit, damage.bomb)[rng.integers(6)]
                content = chosen(rng, content)
                if rng.random() < 0.5:
                    content = _redirected(content, elsewhere)
                damaged.append(f"{chosen.__name__} {name}")
            (folder / name).write_bytes(content)
        report(f"a run with {damaged}")
        model = _model()
        before = model.state_dict()
        try:
            _train(folder, 3, model)
        except rc.NonFiniteError:  # a run that went on, with weights or a decay that somebody wrote into the file
            pass
        except BaseException as error:  # noqa: BLE001 - whatever comes out is looked at
            if found := harness.unexpected(error, (ValueError, TypeError, OSError)):
                return found
            if any(not np.array_equal(one, before[name]) for name, one in model.state_dict().items()):
                return f"the model is half restored after {error}"
        if not elsewhere.exists() or elsewhere.read_bytes() != b"precious":
            return "a file outside the run's directory was touched"
    return None


def _redirected(content: bytes, path: Path) -> bytes:
    """Names of files within replaced by another."""
    try:
        header = json.loads(content[8 : 8 + damage.header_length(content)])
        training = header["__metadata__"]["training"]
        parts = list(damage.places(json.loads(training)))
    except (KeyError, ValueError, TypeError, RecursionError, struct.error):
        return content
    for _place, value in parts:
        if isinstance(value, str) and value.endswith(".safetensors"):
            training = training.replace(json.dumps(value), json.dumps(str(path)))
    header["__metadata__"]["training"] = training
    return damage.rebuilt(content, header)


if __name__ == "__main__":
    sys.exit(harness.main(__file__, case, memory=3 << 29))
