"""What buckets save: padding, memory of tapes and time of an epoch, against a plain shuffle.

    python benchmarks/buckets.py                     # half a minute
    python benchmarks/buckets.py --threads 2

The time of a call goes with the valid steps, so that buckets have little time to save; docs/data.md says what they do.
"""

from __future__ import annotations

import argparse

import numpy as np

import recurra as rc
from engines import Runner
from measure import Effort, interleave, pin
from recurra.data.rows import RaggedRows
from report import format_seconds

EFFORT = Effort(sample_seconds=0.0, seconds=20.0, min_rounds=5, max_rounds=15, max_seconds=60.0)


class Epoch:
    """Forward and backward of all batches; their tapes' sizes."""

    def __init__(self, lstm: rc.LSTM, rows: RaggedRows, batches: list[np.ndarray]) -> None:
        self._lstm, self._rows, self._batches, self.tapes = lstm, rows, batches, [0]

    @property
    def padding(self) -> float:
        """The part of all steps that is padding."""
        lengths = self._rows.lengths
        return 1 - float(lengths.sum() / sum(len(batch) * lengths[batch].max() for batch in self._batches))

    def run(self) -> None:
        """Once."""
        self.tapes = []
        for batch in self._batches:
            x, lengths = self._rows.batch(batch)
            tape = self._lstm.record(x, lengths=lengths, input_grad=False)
            tape.backward(np.ones_like(tape.y))
            self.tapes.append(tape.nbytes)
            tape.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what buckets save.")
    parser.add_argument("--threads", type=int, default=1, help="CPUs (default: 1)")
    parser.add_argument("--rows", type=int, default=2000, help="sequences (default: 2000)")
    parser.add_argument("--batch-size", type=int, default=32, help="rows of a batch (default: 32)")
    parser.add_argument("--features", type=int, default=64, help="of a step (default: 64)")
    parser.add_argument("--units", type=int, default=128, help="of the LSTM (default: 128)")
    arguments = parser.parse_args()

    pin(arguments.threads)
    rc.set_num_threads(arguments.threads)
    rng = np.random.default_rng(0)
    lengths = np.maximum(1, rng.lognormal(3.0, 0.8, arguments.rows)).astype(np.int64)
    longest = int(lengths.max())
    rows = RaggedRows([rng.standard_normal((steps, arguments.features), np.float32) for steps in lengths])
    lstm = rc.LSTM(arguments.features, arguments.units, seed=0)
    orders = {"plain shuffle": rc.data.bucket_batches(lengths, arguments.batch_size, 0, pool=1)}
    for name, budget in {"": None, ", max_steps of 4 longest rows": 4 * longest, ", max_steps of 1": longest}.items():
        orders["buckets" + name] = rc.data.bucket_batches(lengths, arguments.batch_size, 0, max_steps=budget)
    epochs = {name: Epoch(lstm, rows, order) for name, order in orders.items()}
    for epoch in epochs.values():
        epoch.run()
    times = interleave([Runner(name, epoch.run, lambda: lengths) for name, epoch in epochs.items()], EFFORT, pause=0.0)
    plain = epochs["plain shuffle"].tapes
    print(
        f"| {arguments.rows} rows of up to {longest} steps, {lengths.mean():.1f} in the mean | batches | padding ",
        end="",
    )
    print("| all tapes | largest tape | time | of a plain shuffle's |\n|---|---:|---:|---:|---:|---:|---:|")
    for index, (name, epoch) in enumerate(epochs.items()):
        all_tapes, largest = sum(epoch.tapes) / sum(plain), max(epoch.tapes) / max(plain)
        ratio = np.median(times[:, index] / times[:, 0])
        print(f"| {name} | {len(epoch.tapes)} | {epoch.padding:.0%} | {all_tapes:.2f} | {largest:.2f} ", end="")
        print(f"| {format_seconds(float(np.median(times[:, index])))} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
