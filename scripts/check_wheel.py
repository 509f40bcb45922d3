"""Whether an installed recurra computes: needs numpy alone, as cibuildwheel runs it. python scripts/check_wheel.py

With each instruction set that runs here: gradients, the bits of a row alone and by several threads, a stream, training,
and models called by several threads at once.
"""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np

import recurra as rc


def check() -> None:
    """Raises AssertionError if something is wrong with the instruction set of this process."""
    rng = np.random.default_rng(0)
    for cell in (rc.RNN, rc.LSTM, rc.GRU):
        assert rc.check_gradient(cell(5, 7, seed=1), rng.standard_normal((3, 6, 5)))
        model = rc.Sequential(cell(9, 33, num_layers=2, seed=1), rc.Linear(33, 3, seed=2))
        x = rng.standard_normal((37, 20, 9), dtype=np.float32)
        rc.set_num_threads(1)
        y = model(x)[0]
        rc.set_num_threads(4)
        assert np.array_equal(model(x)[0], y)
        assert np.array_equal(model(x[5:6])[0], y[5:6])
        with ThreadPoolExecutor(4) as callers:
            assert all(
                np.array_equal(other, y) for other in callers.map(lambda rows, call=model: call(rows)[0], [x] * 16)
            )
        stream = model.stream(batch_size=len(x))
        steps = [np.array(stream.step(x[:, t])) for t in range(x.shape[1])]
        assert np.allclose(np.stack(steps, axis=1), y, atol=1e-5)
        target = x[..., :3].cumsum(axis=1, dtype=np.float32) / 4
        losses = model.fit(x, target, loss="mse", optimizer=rc.optim.Adam(0.01), epochs=8, verbose=0).history["loss"]
        assert losses[-1] < 0.7 * losses[0], losses
    print(f"recurra {rc.__version__}, {rc.isa()}: all is well")


if __name__ == "__main__":
    if "RECURRA_ISA" in os.environ:
        check()
    else:
        for isa in rc.build_info()["isas_supported"]:
            subprocess.run([sys.executable, __file__], env={**os.environ, "RECURRA_ISA": isa}, check=True)
