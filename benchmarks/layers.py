"""Layers that are not recurrent, beside torch's: the time of a forward pass in inference, and of forward and backward.

    python benchmarks/layers.py                        # a minute
    python benchmarks/layers.py --threads 2 --short

Both run in one process, take turns in drawn orders, and read arrays that each calls its own: (N, T, features) here, and
for torch's convolution (N, features, T). A ratio is torch's time over ours, the median of all rounds: above 1 ours is
faster.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np

from engines import Runner
from measure import FULL, SHORT, interleave, pin

# (rows, steps, sizes): a typical one, a narrow input, a wide layer, a dilated one
CONVOLUTIONS = [
    (32, 500, {"in_channels": 64, "out_channels": 128, "kernel_size": 5}),
    (32, 500, {"in_channels": 1, "out_channels": 32, "kernel_size": 9}),
    (16, 200, {"in_channels": 256, "out_channels": 256, "kernel_size": 3}),
    (8, 1000, {"in_channels": 64, "out_channels": 64, "kernel_size": 2, "dilation": 64}),
    (32, 500, {"in_channels": 40, "out_channels": 128, "kernel_size": 5, "stride": 2}),
]
NORMS = [(32, 500, 128), (32, 500, 512)]


def ours(layer: Any, x: Any, train: bool) -> Callable[[], Any]:
    if not train:
        return lambda: layer(x)
    dy = np.ones_like(layer(x)[0])

    def step() -> object:
        layer.zero_grad()
        return layer.record(x).backward(dy)

    return step


def torchs(module: Any, x: Any, train: bool) -> Callable[[], Any]:
    import torch

    leaf = torch.from_numpy(x).requires_grad_(train)
    if not train:

        def infer() -> object:
            with torch.inference_mode():
                return module(leaf)

        return infer
    dy = torch.ones_like(module(leaf))

    def step() -> object:
        module.zero_grad()
        leaf.grad = None
        return module(leaf).backward(dy)

    return step


def pairs() -> list[tuple[str, Any, Any, Any, Any]]:
    """A label, our layer and what it reads, torch's and what that reads."""
    import torch

    import recurra as rc

    rng, found = np.random.default_rng(0), []
    for rows, steps, sizes in CONVOLUTIONS:
        x = rng.standard_normal((rows, steps, sizes["in_channels"]), np.float32)
        label = f"Conv1d {rows}x{steps} " + " ".join(f"{name[:6]}={value}" for name, value in sizes.items())
        module = torch.nn.Conv1d(**sizes, padding=(sizes["kernel_size"] - 1) * sizes.get("dilation", 1) // 2)
        found.append((label, rc.Conv1d(**sizes, padding="same"), x, module, np.ascontiguousarray(x.swapaxes(1, 2))))
    for rows, steps, size in NORMS:
        x = rng.standard_normal((rows, steps, size), np.float32)
        found.append((f"LayerNorm {rows}x{steps}x{size}", rc.LayerNorm(size), x, torch.nn.LayerNorm(size), x))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--short", action="store_true", help="fewer rounds")
    options = parser.parse_args()
    pin(options.threads)
    import torch

    import recurra as rc

    rc.set_num_threads(options.threads)
    torch.set_num_threads(options.threads)
    print(f"{'':72} {'inference':>19} {'training':>19}\n{'':72} {'ms':>9} {'ratio':>9} {'ms':>9} {'ratio':>9}")
    for label, layer, x, module, x_torch in pairs():
        cells = []
        for train in (False, True):
            calls = [ours(layer, x, train), torchs(module, x_torch, train)]
            runners = [Runner(name, call, call) for name, call in zip(("recurra", "torch"), calls, strict=True)]
            times = interleave(runners, SHORT if options.short else FULL, 0.002)
            cells += [f"{1e3 * np.median(times[:, 0]):9.3f}", f"{np.median(times[:, 1] / times[:, 0]):9.2f}"]
        print(f"{label:72} {' '.join(cells)}", flush=True)


if __name__ == "__main__":
    main()
