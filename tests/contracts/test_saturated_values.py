"""float32 beside PyTorch's where inputs are large and units saturate."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import recurra as rc
from array_types import Array

pytestmark = pytest.mark.every_isa

SCALES = (1, 5, 30, 300)
CELLS = ("RNN", "LSTM", "GRU")


def arrays_of(module: Any, x: Array, dy: Array, dtype: Any) -> dict[str, Array]:
    """y, dx and the parameters' gradients by PyTorch."""
    module = module.to(dtype)
    module.zero_grad()
    given = torch.from_numpy(x).to(dtype).requires_grad_(True)
    y = module(given)[0]
    (y * torch.from_numpy(dy).to(dtype)).sum().backward()
    grads = {name: one.grad.numpy().copy() for name, one in module.named_parameters()}
    return {"y": y.detach().numpy(), "dx": given.grad.numpy(), **grads}


def ratios(
    cell: str, scale: float, seed: int, sizes: tuple[int, int], steps: tuple[int, int], allowance: float
) -> dict[str, float]:
    """The root mean square of the error of each array, less a share of its largest value, in units of PyTorch's."""
    rng = np.random.default_rng(seed)
    inputs, hidden = int(rng.integers(1, 33)), int(rng.integers(*sizes))
    rows, length = int(rng.integers(4, 17)), int(rng.integers(*steps))
    torch.manual_seed(seed)
    module = getattr(torch.nn, cell)(inputs, hidden, batch_first=True)
    x = (rng.standard_normal((rows, length, inputs)) * scale).astype(np.float32)
    dy = rng.standard_normal((rows, length, hidden)).astype(np.float32)
    layer = rc.from_torch(module)
    tape = layer.record(x)
    dx, _state = tape.backward(dy)
    own = {"y": tape.y, "dx": dx, **{name: layer.grads[name] for name in layer.grads}}
    peer, exact = (arrays_of(module, x, dy, dtype) for dtype in (torch.float32, torch.float64))
    errors = {name: [float(np.sqrt(np.mean((one[name] - exact[name]) ** 2))) for one in (own, peer)] for name in own}
    return {
        name: (mine - allowance * float(np.abs(exact[name]).max())) / max(its, 1e-300)
        for name, (mine, its) in errors.items()
    }


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("cell", CELLS)
def test_arrays_of_layers_of_some_size(cell: str, scale: float) -> None:
    """Of 120, the middle one is within twice PyTorch's error and each within 2.5 times, beside a unit in the last place
    of the array's largest value."""
    found = [ratios(cell, scale, seed, (64, 129), (10, 31), 2.0**-23) for seed in range(20)]
    every = [ratio for one in found for ratio in one.values()]
    assert np.median(every) <= 2.0
    assert max(every) <= 2.5


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("cell", CELLS)
def test_arrays_of_few_numbers(cell: str, scale: float) -> None:
    """Single roundings of single units decide here, both ways; the middle one of 60 arrays of each kind is within
    twice."""
    found = [ratios(cell, scale, seed, (1, 17), (2, 10), 0.0) for seed in range(60)]
    for name in found[0]:
        assert np.median([one[name] for one in found]) <= 2.0, name
