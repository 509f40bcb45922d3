"""torch.nn modules become layers here: random configurations, every option, every gradient, packed sequences."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import recurra as rc
from agreement import assert_as_close_as, assert_same_bits
from array_types import Array
from cell_runs import unpack

pytestmark = pytest.mark.every_isa

KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "lstm": (torch.nn.LSTM, {}),
    "gru": (torch.nn.GRU, {}),
    "tanh": (torch.nn.RNN, {"nonlinearity": "tanh"}),
    "relu": (torch.nn.RNN, {"nonlinearity": "relu"}),
    "projected lstm": (torch.nn.LSTM, {"proj_size": 2}),
}


@dataclass
class Configuration:
    """A random module and its arguments, all of them exact in float32."""

    seed: int
    module: torch.nn.RNNBase = field(init=False)
    x: torch.Tensor = field(init=False)
    lengths: torch.Tensor | None = field(init=False)
    state: tuple[torch.Tensor, ...] = field(init=False)
    dy: torch.Tensor = field(init=False)
    dstate: tuple[torch.Tensor, ...] = field(init=False)

    def __post_init__(self) -> None:
        torch.manual_seed(self.seed)
        rng = np.random.default_rng(self.seed)
        kind, options = KINDS["projected lstm" if self.seed >= 64 else list(KINDS)[self.seed % 4]]
        inputs, hidden, layers = rng.integers(1, 40), rng.integers(3, 70), rng.integers(1, 4)
        rows, steps = int(rng.integers(1, 14)), int(rng.integers(1, 34))
        flags = {name: bool(rng.integers(2)) for name in ("bias", "batch_first", "bidirectional")}
        self.module = kind(int(inputs), int(hidden), int(layers), **flags, **options)
        shape = (rows, steps) if flags["batch_first"] else (steps, rows)
        self.x = torch.randn(*shape, int(inputs))
        slots = int(layers) * (2 if flags["bidirectional"] else 1)
        units = int(options.get("proj_size", hidden))  # of h
        sizes = (units, int(hidden)) if kind is torch.nn.LSTM else (units,)
        self.state, self.dstate = (tuple(torch.randn(slots, rows, size) for size in sizes) for _ in range(2))
        self.dy = torch.randn(*shape, units * (slots // int(layers)))
        self.lengths = torch.from_numpy(rng.integers(1, steps + 1, rows)) if rng.integers(2) else None

    def solve_by_torch(self, dtype: torch.dtype) -> dict[str, Array]:
        """Outputs and, for the output gradients dy and dstate, all gradients."""
        module = self.module.to(dtype)
        module.zero_grad()
        x = self.x.to(dtype, copy=True).requires_grad_()
        state = tuple(part.to(dtype, copy=True).requires_grad_() for part in self.state)
        fed: Any = x
        if self.lengths is not None:
            fed = pack_padded_sequence(x, self.lengths, batch_first=module.batch_first, enforce_sorted=False)
        y, last = module(fed, state if len(state) > 1 else state[0])
        if self.lengths is not None:
            steps = x.shape[1 if module.batch_first else 0]
            y, _ = pad_packed_sequence(y, batch_first=module.batch_first, total_length=steps)
        last = last if isinstance(last, tuple) else (last,)
        torch.autograd.backward([y, *last], [tensor.to(dtype) for tensor in (self.dy, *self.dstate)])
        found = {"y": y, "dx": x.grad}
        found |= {f"state {k}": part for k, part in enumerate(last)}
        found |= {f"dstate {k}": part.grad for k, part in enumerate(state)}
        found |= {name: parameter.grad for name, parameter in module.named_parameters()}
        return {name: tensor.detach().numpy().copy() for name, tensor in found.items() if tensor is not None}

    def solve(self, dtype: torch.dtype) -> dict[str, Array]:
        layer = rc.from_torch(self.module.to(dtype))
        state = tuple(part.to(dtype).numpy() for part in self.state)
        tape = layer.record(
            self.x.to(dtype).numpy(),
            state if len(state) > 1 else state[0],
            lengths=None if self.lengths is None else self.lengths.numpy(),
        )
        last = unpack(tape.state)
        dy, *dlast = (tensor.to(dtype).numpy() for tensor in (self.dy, *self.dstate))
        dx, dstate = tape.backward(dy, tuple(dlast) if len(dlast) > 1 else dlast[0])
        found = {"y": tape.y, "dx": dx}
        found |= {f"state {k}": part for k, part in enumerate(last)}
        found |= {f"dstate {k}": part for k, part in enumerate(unpack(dstate))}
        return found | {name: layer.grads[name] for name in layer.grads}


@pytest.mark.parametrize("seed", range(80))
def test_random_configurations(seed: int) -> None:
    configuration = Configuration(seed)
    single, single_peer = configuration.solve(torch.float32), configuration.solve_by_torch(torch.float32)
    double, exact = configuration.solve(torch.float64), configuration.solve_by_torch(torch.float64)
    assert set(double) == set(exact)
    for name, value in exact.items():
        # Values and terms of order 1, sums of at most 13 x 33 of them, a hundred dependent steps of roundings of 1e-16.
        scale = max(1.0, np.abs(value).max())
        np.testing.assert_allclose(double[name], value, rtol=0, atol=1e-11 * scale, err_msg=name)
        assert_as_close_as(single_peer[name], single[name], value, name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_every_option_arrives(kind: str, dtype: torch.dtype) -> None:
    make, options = KINDS[kind]
    module = make(3, 5, 2, bias=False, batch_first=False, dropout=0.25, bidirectional=True, dtype=dtype, **options)
    layer = rc.from_torch(module)
    config = layer.config()
    expected = {
        "input_size": 3,
        "hidden_size": 5,
        "num_layers": 2,
        "bias": False,
        "batch_first": False,
        "dropout": 0.25,
        "bidirectional": True,
        "dtype": str(dtype).removeprefix("torch."),
        **options,
    }
    assert {name: config[name] for name in expected} == expected
    for name, parameter in module.named_parameters():
        assert_same_bits(layer.params[name], parameter.detach().numpy())


def test_the_layer_is_a_copy() -> None:
    module = torch.nn.GRU(3, 5)
    layer = rc.from_torch(module)
    kept = layer.params["bias_hh_l0"].copy()
    with torch.no_grad():
        module.bias_hh_l0.add_(1.0)
    assert_same_bits(layer.params["bias_hh_l0"], kept)


def test_what_has_no_counterpart_here() -> None:
    with pytest.raises((ValueError, TypeError), match=r"^from_torch.*expected"):
        rc.from_torch(torch.nn.GRU(3, 5, dtype=torch.bfloat16))
    for other in (torch.nn.Conv3d(3, 5, 2), torch.nn.Bilinear(3, 5, 2), None, 3):
        with pytest.raises(TypeError, match=r"^from_torch.*expected"):
            rc.from_torch(other)
