"""A training that is killed repeatedly and resumes each time: run by test_resume.py in a separate process.

    python killed_training.py DIRECTORY KILLS

Forks a child that trains, kills it at a random moment, looks at what it left behind; at last lets it end. Prints the
steps done at each kill, and the checksum of the parameters.
"""

from __future__ import annotations

import mmap
import os
import random
import signal
import struct
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np

import recurra as rc

EVERY = 3
EPOCHS = 300


def data() -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((40, 6, 2)).astype(np.float32), rng.integers(0, 3, 40)


def train(directory: Path | None, steps: mmap.mmap | None) -> Any:
    """40 rows in batches of 8: 5 steps an epoch."""
    x, y = data()
    model = rc.Sequential(
        rc.LSTM(2, 5, return_sequences=False, recurrent_dropout=0.2), rc.Dropout(0.1), rc.Linear(5, 3), seed=1
    )
    callbacks: list[Any] = [rc.callbacks.ReduceLROnPlateau("loss", patience=2, factor=0.9)]
    if directory is not None:
        callbacks.append(rc.callbacks.BackupAndRestore(directory, save_freq=EVERY, keep=2, delete_checkpoint=False))
    if steps is not None:
        note = rc.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: steps.__setitem__(slice(8), struct.pack("q", note.training.step))
        )
        callbacks.append(note)
    elif directory is not None:
        callbacks.append(rc.callbacks.LambdaCallback())  # as many as in the runs that were killed
    model.fit(
        x, y, loss=rc.losses.CrossEntropy(), optimizer=rc.optim.Adam(0.01), callbacks=callbacks, epochs=EPOCHS,
        batch_size=8, seed=3, verbose=0, metrics="accuracy",
    )  # fmt: skip
    return model


def step_of_the_newest(directory: Path) -> int:
    """Read the whole file; 0 if there is none yet."""
    from recurra.training import snapshot

    found = sorted(directory.glob("checkpoint-*.safetensors"))
    if not found:
        return 0
    rc.load(found[-1])
    return int(snapshot.unpack(found[-1])[1]["step"])


def main() -> None:
    directory, kills = Path(sys.argv[1]), int(sys.argv[2])
    steps = mmap.mmap(-1, 8)
    rng = random.Random(0)
    for _kill in range(kills):
        steps[:8] = struct.pack("q", step_of_the_newest(directory))
        child = os.fork()
        if child == 0:
            train(directory, steps)
            os._exit(1)  # it was to be killed
        target = struct.unpack("q", steps[:8])[0] + rng.randrange(0, 2 * EVERY)
        while struct.unpack("q", steps[:8])[0] < target:
            time.sleep(0.0002)
        time.sleep(rng.uniform(0.0, 0.003))  # into the step that follows, or its checkpoint
        os.kill(child, signal.SIGKILL)
        _pid, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), "the training ended before it was killed"
        (done,) = struct.unpack("q", steps[:8])
        kept = step_of_the_newest(directory)
        assert done - kept <= EVERY, f"killed after step {done}, the newest checkpoint is of step {kept}"
        print(done, kept)
    for model in (train(directory, None), train(None, None)):
        print(zlib.crc32(b"".join(array.tobytes() for array in model.params.values())))


if __name__ == "__main__":
    main()
