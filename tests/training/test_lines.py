"""What training says: records of the logger "recurra" where logging is configured, printed lines where it is not."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import recurra as rc

PROGRAM = """
    import logging, sys
    import numpy as np
    import recurra as rc

    if "configured" in sys.argv:
        logging.basicConfig(format="%(levelname)s:%(name)s:%(message)s")
    x = np.zeros((4, 3, 2), np.float32)
    model = rc.Sequential(rc.Linear(2, 2), seed=0)
    saving = rc.callbacks.ModelCheckpoint(sys.argv[1] + "/{epoch}", verbose=1)
    model.fit(x, x, loss="mse", optimizer="sgd", epochs=2, verbose=int(sys.argv[2]), callbacks=saving)
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


def test_lines_are_printed(tmp_path: Path) -> None:
    done = run(str(tmp_path), "2")
    saved, epoch, *others = done.stdout.splitlines()
    assert saved == f"ModelCheckpoint: saved {tmp_path}/1"
    assert epoch.startswith("epoch 1/2: loss ")
    assert len(others) == 2
    assert not done.stderr


def test_lines_stand_above_the_bar(tmp_path: Path) -> None:
    """The bar is on stderr; on stdout the lines are whole."""
    done = run(str(tmp_path), "1")
    assert done.stdout.splitlines() == [f"ModelCheckpoint: saved {tmp_path}/{epoch}" for epoch in (1, 2)]
    assert "epoch 2/2" in done.stderr


def test_lines_are_records_where_logging_is_configured(tmp_path: Path) -> None:
    done = run(str(tmp_path), "2", "configured")
    assert not done.stdout
    lines = done.stderr.splitlines()
    assert lines[0] == f"INFO:recurra:ModelCheckpoint: saved {tmp_path}/1"
    assert lines[1].startswith("INFO:recurra:epoch 1/2: loss ")


def test_callbacks_say_what_they_do(caplog: pytest.LogCaptureFixture) -> None:
    x = np.zeros((4, 2), np.float32)
    callbacks = [
        rc.callbacks.LearningRateScheduler(lambda epoch, lr: lr, verbose=1),
        rc.callbacks.ReduceLROnPlateau("loss", patience=1, verbose=1),
        rc.callbacks.EarlyStopping("loss", patience=2, verbose=1),
    ]
    rc.Sequential(rc.Linear(2, 2), seed=0).fit(
        x, x, loss="mse", optimizer=rc.optim.SGD(0.0), epochs=9, verbose=0, callbacks=callbacks
    )
    assert {message.partition(":")[0] for message in caplog.messages} >= {"LearningRateScheduler", "EarlyStopping"}
    assert {record.name for record in caplog.records} == {"recurra"}
    assert {record.levelname for record in caplog.records} == {"INFO"}
