"""What a gradient summed over parts of a batch costs, beside that of the whole batch: forward and backward, one thread.

    python benchmarks/shards.py                             # a minute

Each part has a gradient of its own, which is added to the sum, as in `fit(shards=...)`. Ratios are of the fastest of
some rounds, of processor time, since parts that wait for others would be no cost of theirs.
"""

from __future__ import annotations

import time

import numpy as np

import recurra as rc

#: Rows, steps, inputs, units.
SIZES = [(64, 50, 32, 64), (64, 50, 128, 256), (32, 30, 256, 512), (256, 50, 16, 32)]
LEAVES = [32, 16, 8, 4, 1]
ROUNDS = 7


def seconds(layer: rc.LSTM, rows: int, steps: int, leaf: int) -> float:
    """Those of a batch in parts of `leaf` rows."""
    x = np.random.default_rng(0).standard_normal((rows, steps, layer.input_size)).astype(np.float32)
    dy = np.ones((rows, steps, layer.hidden_size), np.float32)
    grads, total = layer.new_grads(), layer.new_grads()
    begin = time.process_time()
    for first in range(0, rows, leaf):
        part = slice(first, first + leaf)
        layer.record(x[part], input_grad=False).backward(dy[part], grads=grads)
        if leaf < rows:
            total.add(grads)
            grads.zero()
    return time.process_time() - begin


def main() -> None:
    """Print a line for each size."""
    rc.set_num_threads(1)
    print("rows, steps, inputs, units; whole batch; ratio to it in parts of n rows")
    for rows, steps, inputs, units in SIZES:
        layer = rc.LSTM(inputs, units, seed=0)
        best = dict.fromkeys([rows, *LEAVES], float("inf"))
        for _ in range(ROUNDS):
            for leaf in best:
                best[leaf] = min(best[leaf], seconds(layer, rows, steps, leaf))
        ratios = "  ".join(f"{leaf}: {best[leaf] / best[rows]:.2f}" for leaf in LEAVES if leaf < rows)
        print(f"{rows} x {steps} x {inputs} x {units}; {best[rows] * 1e3:.1f} ms; {ratios}", flush=True)


if __name__ == "__main__":
    main()
