"""CTC: loss and gradient, against PyTorch's, and decoding.

    python benchmarks/ctc.py                           # a minute
    python benchmarks/ctc.py --threads 2 --json ctc.json

The loss is that of logits: its peer is log_softmax, ctc_loss and their backward, in float32, measured in turns with it.
Their gradients are compared first. The ratio is the median over the rounds of PyTorch's time to ours; at the size of
the goal, batch 64, 500 steps, 64 symbols, targets of 60, it is to be at least 2.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engines import Array, Runner
from measure import Effort, interleave, pin
from report import format_seconds

EFFORT = Effort(sample_seconds=5e-3, seconds=8.0, min_rounds=7, max_rounds=51)
GOAL = 2.0
BEAM = 16
PAUSE = 0.01  # with several threads, for those of the other engine to go to sleep


@dataclass(frozen=True)
class Size:
    """Rows, steps, symbols with the blank, labels of a target; `ragged`: lengths and targets of half as much on
    average."""

    rows: int
    steps: int
    symbols: int
    labels: int
    ragged: bool = False

    @property
    def name(self) -> str:
        return f"{self.rows} x {self.steps}, {self.symbols} symbols, {self.labels} labels{', ragged' * self.ragged}"


SIZES = [
    Size(64, 500, 64, 60),
    Size(64, 500, 64, 60, ragged=True),
    Size(1, 500, 64, 60),
    Size(32, 100, 28, 10),
    Size(8, 5000, 64, 600),
    Size(16, 200, 5000, 30),
]


def problem(size: Size) -> tuple[Array, list[npt.NDArray[np.int64]], npt.NDArray[np.int64]]:
    """Logits, targets, lengths."""
    rng = np.random.default_rng(0)
    low = size.steps // 4 if size.ragged else size.steps
    lengths = rng.integers(low, 3 * size.steps // 4 if size.ragged else size.steps, size.rows, endpoint=True)
    lengths[0] = size.steps
    targets = [rng.integers(1, size.symbols, max(1, size.labels * int(steps) // size.steps)) for steps in lengths]
    return rng.standard_normal((size.rows, size.steps, size.symbols), np.float32), targets, lengths


def ours(size: Size) -> Runner:
    import recurra as rc

    x, targets, lengths = problem(size)
    loss = rc.losses.CTC()

    def run() -> Array:
        gradient = loss(x, targets, lengths).gradient
        assert gradient is not None
        return gradient

    return Runner("recurra", run, run)


def torchs(size: Size) -> Runner:
    import torch

    x, targets, lengths = problem(size)
    logits = torch.from_numpy(x).transpose(0, 1).contiguous().requires_grad_()  # its own order
    together, valid = torch.from_numpy(np.concatenate(targets)), torch.from_numpy(lengths)
    counts = torch.tensor([len(target) for target in targets])

    def run() -> Any:
        logits.grad = None
        log_p = logits.log_softmax(-1)
        torch.nn.functional.ctc_loss(log_p, together, valid, counts, reduction="sum", zero_infinity=True).backward()
        return logits.grad

    return Runner("torch", run, lambda: run().transpose(0, 1).numpy())


def decoders(size: Size) -> list[Runner]:
    import recurra as rc

    x, _, lengths = problem(size)
    greedy = Runner("greedy", lambda: rc.ctc.greedy(x, lengths), lambda: x)
    return [greedy, Runner("beam", lambda: rc.ctc.beam_search(x, lengths, beam_size=BEAM), lambda: x)]


def measure(size: Size, pause: float) -> dict[str, Any]:
    runners = [ours(size), torchs(size)]
    one, other = (runner.result() for runner in runners)
    if np.abs(one - other).max() > 0.1:  # PyTorch's, in float32, is this far from float64's after thousands of steps
        raise SystemExit(f"ctc.py: the gradients differ by {np.abs(one - other).max():.3g} at {size.name}")
    times = interleave(runners, EFFORT, pause)
    decoding = np.median(interleave(decoders(size), EFFORT, pause), axis=0)
    seconds = np.median(times, axis=0)
    return {
        "size": asdict(size),
        "name": size.name,
        "seconds": {"recurra": float(seconds[0]), "torch": float(seconds[1])},
        "decoding": {"greedy": float(decoding[0]), "beam": float(decoding[1])},
        "ratio": float(np.median(times[:, 1] / times[:, 0])),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the CTC loss against PyTorch's, and decoding.")
    parser.add_argument("--only", default="", help='sizes whose name contains this, such as "64 x 500"')
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="numbers of CPUs (default: 1 2)")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    arguments = parser.parse_args()
    chosen = [size for size in SIZES if arguments.only in size.name]
    if not chosen:
        raise SystemExit(f"ctc.py: no size's name contains {arguments.only!r}")

    pin(max(arguments.threads))
    import torch

    import recurra as rc

    print(f"recurra {rc.__version__} ({rc.isa()}), torch {torch.__version__}")
    results = []
    for threads in arguments.threads:
        rc.set_num_threads(threads)
        torch.set_num_threads(threads)
        print(f"\n{threads} thread(s)\n\n| loss and gradient | recurra | torch | ratio | greedy | beam of {BEAM} | |")
        print("|---|---:|---:|---:|---:|---:|---|")
        for size in chosen:
            result = measure(size, PAUSE if threads > 1 else 0.0) | {"threads": threads}
            results.append(result)
            times = [*result["seconds"].values(), result["ratio"], *result["decoding"].values()]
            cells = [format_seconds(value) if k != 2 else f"{value:.1f}" for k, value in enumerate(times)]
            mark = "ok" if result["ratio"] >= GOAL else "**FAIL**"
            print(f"| {size.name} | {' | '.join(cells)} | {mark} |", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
