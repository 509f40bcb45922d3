"""Convolutions in groups are torch's, with their gradients; a lone long row divided among threads keeps its bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import recurra as rc
from agreement import assert_same_bits

CHANNELS = [(6, 12, 1), (6, 12, 2), (6, 3, 3), (6, 12, 6), (4, 4, 4)]


def compared(layer: Any, module: Any, x: torch.Tensor, there: Any, back: Any) -> None:
    """`there` turns torch's arrays into the layer's, `back` the layer's into torch's."""
    given = x.clone().requires_grad_()
    y = module(given)
    dy = torch.from_numpy(np.random.default_rng(1).standard_normal(y.shape))
    y.backward(dy)
    tape = layer.record(there(x).numpy())
    np.testing.assert_allclose(tape.y, there(y.detach()).numpy(), atol=1e-12)
    dx, _ = tape.backward(there(dy).numpy())
    np.testing.assert_allclose(back(dx), given.grad.numpy(), atol=1e-12)
    for name, parameter in module.named_parameters():
        assert layer.params[name].shape == tuple(parameter.shape)
        np.testing.assert_allclose(layer.grads[name], parameter.grad.numpy(), atol=1e-12)


@pytest.mark.parametrize(("inputs", "outputs", "groups"), CHANNELS)
@pytest.mark.parametrize("kind", ["Conv1d", "ConvTranspose1d"])
def test_over_steps(kind: str, inputs: int, outputs: int, groups: int) -> None:
    torch.manual_seed(0)
    module = getattr(nn, kind)(inputs, outputs, 3, stride=2, groups=groups, dtype=torch.float64)
    layer, x = rc.from_torch(module), torch.randn(2, inputs, 9, dtype=torch.float64)
    compared(layer, module, x, lambda one: one.transpose(1, 2).contiguous(), lambda one: one.swapaxes(1, 2))
    assert layer.groups == groups
    assert sum(one.size for one in layer.params.values()) == sum(one.numel() for one in module.parameters())


@pytest.mark.parametrize(("inputs", "outputs", "groups"), CHANNELS)
def test_over_columns(inputs: int, outputs: int, groups: int) -> None:
    torch.manual_seed(0)
    module = nn.Conv2d(inputs, outputs, (3, 2), (2, 1), padding=(1, 0), groups=groups, dtype=torch.float64)
    layer, x = rc.from_torch(module, height=5), torch.randn(2, inputs, 5, 7, dtype=torch.float64)
    compared(
        layer,
        module,
        x,
        lambda one: one.permute(0, 3, 2, 1).flatten(2).contiguous(),
        lambda one: one.reshape(2, 7, 5, inputs).transpose(0, 3, 2, 1),
    )


def test_groups_are_kept_in_files(tmp_path: Any) -> None:
    model = rc.Sequential(rc.Conv1d(4, 8, 3, groups=4, seed=0), rc.ConvTranspose1d(8, 4, 3, groups=2, seed=1))
    x = np.random.default_rng(0).standard_normal((2, 7, 4)).astype(np.float32)
    model.save(tmp_path / "model")
    assert_same_bits(rc.load(tmp_path / "model")(x)[0], model(x)[0])


@pytest.mark.parametrize("make", [rc.Conv1d, rc.ConvTranspose1d, lambda *a, **k: rc.Conv2d(*a, **k, height=4)])
@pytest.mark.parametrize("groups", [0, 4, 5])
def test_groups_divide_the_channels(make: Any, groups: int) -> None:
    with pytest.raises(ValueError, match="groups"):
        make(6, 8, 3, groups=groups)


@pytest.mark.parametrize("steps", [700, 5000])
@pytest.mark.parametrize(("stride", "dilation", "padding"), [(1, 1, 0), (4, 1, 2), (3, 5, 7), (1, 300, 9)])
def test_parts_of_a_lone_row_have_the_bits_of_the_whole(steps: int, stride: int, dilation: int, padding: int) -> None:
    x = np.random.default_rng(0).standard_normal((1, steps, 3)).astype(np.float32)
    up = rc.ConvTranspose1d(3, 4, 5, stride, padding, dilation=dilation, seed=0)
    down = rc.Conv1d(3, 4, 5, stride=stride, dilation=dilation, padding="same", seed=0)
    found = []
    before = rc.get_num_threads()
    try:
        for threads in (1, 2, 7):
            rc.set_num_threads(threads)
            tape = down.record(x)
            found.append((up(x)[0], tape.backward(np.ones_like(tape.y))[0]))
    finally:
        rc.set_num_threads(before)
    for y, dx in found[1:]:
        assert_same_bits(y, found[0][0])
        assert_same_bits(dx, found[0][1])
