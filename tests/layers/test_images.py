"""Convolution and pooling of images, and what has a number for each channel, against torch: columns as steps and whole
images in each step; lengths, episodes and streams."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import recurra as rc
from agreement import assert_as_close_as, assert_same_bits
from array_types import DTYPES, Array

pytestmark = pytest.mark.every_isa

Rng = np.random.Generator


def to_torch(x: Array, channels: int, height: int, width: int | None) -> Array:
    """(N, T, features) as images of torch: (N, C, H, W), or (N * T, C, H, W)."""
    rows, steps = x.shape[:2]
    if width is None:
        return np.ascontiguousarray(x.reshape(rows, steps, height, channels).transpose(0, 3, 2, 1))
    return np.ascontiguousarray(x.reshape(rows * steps, height, width, channels).transpose(0, 3, 1, 2))


def from_torch(y: Array, rows: int, whole: bool) -> Array:
    if not whole:
        return np.ascontiguousarray(y.transpose(0, 3, 2, 1)).reshape(rows, y.shape[3], y.shape[1] * y.shape[2])
    return np.ascontiguousarray(y.transpose(0, 2, 3, 1)).reshape(rows, len(y) // rows if rows else 0, -1)


def solve(layer: Any, x: Array, dy: Array, **options: Any) -> dict[str, Array]:
    layer.zero_grad()
    tape = layer.record(x, **options)
    y = tape.y.copy()
    dx, _ = tape.backward(dy.astype(x.dtype))
    return {"y": y, "dx": dx, **{name: layer.grads[name].copy() for name in layer.grads}}


def by_torch(module: Any, layer: Any, x: Array, dy: Array, channels: int) -> dict[str, Array]:
    whole, dtype = layer.width is not None, x.dtype
    module = module.to(getattr(torch, str(dtype)))
    leaf = torch.from_numpy(to_torch(x, channels, layer.height, layer.width)).requires_grad_()
    y = module(leaf)
    size = (layer.output_height, layer.output_width)
    y.backward(torch.from_numpy(to_torch(dy.astype(dtype), dy.shape[2] // (size[0] * (size[1] or 1)), *size)))
    found = {"y": from_torch(y.detach().numpy(), len(x), whole), "dx": from_torch(leaf.grad.numpy(), len(x), whole)}
    return found | {name: parameter.grad.numpy() for name, parameter in module.named_parameters()}


def window(rng: Rng, most: int = 4) -> dict[str, Any]:
    return {
        "kernel_size": tuple(int(n) for n in rng.integers(1, most, 2)),
        "stride": tuple(int(n) for n in rng.integers(1, 3, 2)),
    }


def check(found: dict[str, dict[str, Array]], peers: dict[str, dict[str, Array]]) -> None:
    for name, truth in peers["float64"].items():
        scale = max(1.0, float(np.abs(truth).max(initial=0.0)))
        np.testing.assert_allclose(found["float64"][name], truth, rtol=0, atol=1e-12 * scale, err_msg=name)
        assert_as_close_as(peers["float32"][name], found["float32"][name], truth, name)


@pytest.mark.parametrize("seed", range(24))
def test_convolutions_are_torchs(seed: int) -> None:
    """float64 to 1e-12, float32 as close as torch, with random windows; some images larger than a block of outputs."""
    rng = np.random.default_rng(seed)
    channels, outputs = int(rng.integers(1, 6)), int(rng.integers(1, 20))
    height, width = int(rng.integers(4, 30 if seed % 3 == 0 else 9)), int(rng.integers(4, 30 if seed % 3 == 0 else 9))
    options: dict[str, Any] = {**window(rng), "dilation": tuple(int(n) for n in rng.integers(1, 3, 2))}
    options["padding"] = tuple(int(n) for n in rng.integers(0, 3, 2))
    spans = [
        (k - 1) * d + 1 - 2 * p
        for k, d, p in zip(options["kernel_size"], options["dilation"], options["padding"], strict=True)
    ]
    height, width = max(height, spans[0]), max(width, spans[1])
    whole = bool(seed % 2)
    rows, steps = 3, 2 if whole else width
    sizes: dict[str, Any] = {"height": height, "width": width if whole else None}
    x = rng.standard_normal((rows, steps, channels * height * (width if whole else 1)))
    found, peers = {}, {}
    for dtype in DTYPES:
        conv = rc.Conv2d(channels, outputs, **options, **sizes, bias=bool(seed % 5), dtype=dtype, seed=1)
        if dtype == "float64":
            conv.load_state_dict({name: peers["weights"][name].astype(dtype) for name in conv.params})
        peers.setdefault("weights", {name: array.copy() for name, array in conv.params.items()})
        module = torch.nn.Conv2d(channels, outputs, **options, bias=conv.bias)
        module.load_state_dict({name: torch.from_numpy(array) for name, array in peers["weights"].items()})
        given = x.astype(np.float32).astype(dtype)
        dy = np.random.default_rng(1).standard_normal(conv(given)[0].shape).astype(np.float32)
        found[dtype], peers[dtype] = solve(conv, given, dy), by_torch(module, conv, given, dy, channels)
    check(found, peers)


@pytest.mark.parametrize("seed", range(16))
def test_pooling_is_torchs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    channels, height, width = (int(n) for n in rng.integers((1, 4, 4), (6, 9, 9)))
    whole, mean = bool(seed % 2), seed % 4 < 2
    options = window(rng)
    options["padding"] = tuple(int(rng.integers(0, kernel // 2 + 1)) for kernel in options["kernel_size"])
    x = rng.standard_normal((3, 2 if whole else width, channels * height * (width if whole else 1)))
    x = np.round(x) if seed % 3 else x  # ties: the gradient goes to the same one as torch's
    found, peers = {}, {}
    for dtype in DTYPES:
        sizes = {"channels": channels, "height": height, "width": width if whole else None, "dtype": dtype}
        pool = (rc.AvgPool2d if mean else rc.MaxPool2d)(**options, **sizes)
        module = torch.nn.AvgPool2d(**options, count_include_pad=False) if mean else torch.nn.MaxPool2d(**options)
        given = x.astype(np.float32).astype(dtype)
        dy = np.random.default_rng(1).standard_normal(pool(given)[0].shape).astype(np.float32)
        found[dtype], peers[dtype] = solve(pool, given, dy), by_torch(module, pool, given, dy, channels)
    check(found, peers)


@pytest.mark.parametrize("dtype", DTYPES)
def test_widths_are_lengths(dtype: str) -> None:
    """Each row is as torch has it alone, cut to its width, through a network as readers of text have it."""
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(4, 6, 3, padding=1),
        torch.nn.BatchNorm2d(6),
        torch.nn.PReLU(6),
        torch.nn.MaxPool2d((2, 2), (2, 1), (0, 1)),
        torch.nn.Conv2d(6, 5, 2),
    ).to(getattr(torch, dtype))
    model = rc.Sequential(
        rc.Conv2d(1, 4, 3, padding=1, height=12, dtype=dtype),
        rc.Activation("relu", dtype=dtype),
        rc.MaxPool2d(2, channels=4, height=12, dtype=dtype),
        rc.Conv2d(4, 6, 3, padding=1, height=6, dtype=dtype),
        rc.BatchNorm2d(6, dtype=dtype),
        rc.PReLU(6, dtype=dtype),
        rc.MaxPool2d((2, 2), (2, 1), (0, 1), channels=6, height=6, dtype=dtype),
        rc.Conv2d(6, 5, 2, height=3, dtype=dtype),
    )
    module[4].running_mean.normal_()
    names = [name for name in module.state_dict() if "num_batches" not in name]
    model.load_state_dict({name: module.state_dict()[name].numpy() for name in names})
    module.eval()
    lengths = np.array([21, 0, 6, 5, 14])
    images = np.random.default_rng(0).standard_normal((5, 1, 12, 21)).astype(dtype)
    x = images.transpose(0, 3, 2, 1).reshape(5, 21, 12)
    x[np.arange(21) >= lengths[:, None]] = np.nan
    y, _ = model(x, lengths=lengths)
    made = model.output_lengths(lengths)
    assert made is not None
    for row, length in enumerate(lengths):
        assert not y[row, made[row] :].any()
        if not length:
            assert made[row] == 0
            continue
        expected = module(torch.from_numpy(images[row : row + 1, :, :, :length])).detach().numpy()
        assert made[row] == expected.shape[3]
        np.testing.assert_allclose(y[row : row + 1, : made[row]], from_torch(expected, 1, False), atol=2e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_causal_columns_stream_and_know_episodes(dtype: str) -> None:
    """Step by step and in chunks to the bits of the whole; no window crosses the start of an episode."""
    model = rc.Sequential(
        rc.Conv2d(2, 3, 3, padding=(1, "causal"), dilation=(1, 2), height=4, dtype=dtype),
        rc.MaxPool2d((2, 3), (2, 1), (0, "causal"), channels=3, height=4, dtype=dtype),
        rc.AvgPool2d((1, 2), 1, (0, "causal"), channels=3, height=2, dtype=dtype),
        rc.Conv2d(3, 2, (2, 1), height=2, dtype=dtype),
        seed=0,
    )
    rng = np.random.default_rng(0)
    x, reset = rng.standard_normal((3, 20, 8)).astype(dtype), rng.random((3, 20)) < 0.2
    whole, state = model(x, reset=reset)
    stream = model.stream(batch_size=3)
    assert_same_bits(stream.process(x[:, :7], reset[:, :7]), whole[:, :7])
    for t in range(7, 20):
        assert_same_bits(stream.step(x[:, t], reset[:, t]), whole[:, t])
    for one, other in zip(stream.state(), state, strict=True):
        for a, b in zip(*(part if isinstance(part, tuple) else (part,) for part in (one, other)), strict=True):
            if a is not None:
                assert_same_bits(a, b)
    starts = np.flatnonzero(reset[0])
    for begin, end in zip([0, *starts], [*starts, 20], strict=True):
        if begin < end:
            assert_same_bits(whole[:1, begin:end], model(np.ascontiguousarray(x[:1, begin:end]))[0])


def test_states_and_resets_have_gradients() -> None:
    """Central differences, in float64."""
    conv = rc.Conv2d(2, 3, (2, 3), padding=(1, "causal"), height=3, dtype="float64", seed=0)
    rng = np.random.default_rng(0)
    x, state, lengths = rng.standard_normal((3, 6, 6)), rng.standard_normal((2, 3, 6)), np.array([6, 0, 4])
    reset = rng.random((3, 6)) < 0.3
    options: dict[str, Any] = {"lengths": lengths, "reset": reset}
    y, final = conv(x, state, **options)
    dy, dfinal = rng.standard_normal(y.shape), rng.standard_normal(final.shape)
    dx, dstate = conv.record(x, state, **options).backward(dy, dfinal)

    def objective() -> float:
        y, final = conv(x, state, **options)
        return float((y * dy).sum() + (final * dfinal).sum())

    for array, gradient in ((x, dx), (state, dstate)):
        for index in np.ndindex(array.shape):
            kept = array[index]
            array[index] = kept + 1e-5
            above = objective()
            array[index] = kept - 1e-5
            assert gradient[index] == pytest.approx((above - objective()) / 2e-5, abs=1e-7)
            array[index] = kept


@pytest.mark.parametrize("training", [True, False])
def test_statistics_of_channels_are_torchs(training: bool) -> None:
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, 3, 5, 12)) + 2, rng.standard_normal((2, 3, 5, 12))
    layer, module = rc.BatchNorm2d(4, dtype="float64"), torch.nn.BatchNorm2d(4).double()
    module.train(training)
    leaf = torch.tensor(x[0].reshape(3, 5, 3, 4).transpose(0, 3, 2, 1).copy(), requires_grad=True)
    y = module(leaf)
    y.backward(torch.from_numpy(dy[0].reshape(3, 5, 3, 4).transpose(0, 3, 2, 1).copy()))
    assert leaf.grad is not None
    ours = solve(layer, x[0], dy[0], training=training)
    np.testing.assert_allclose(ours["y"], from_torch(y.detach().numpy(), 3, False), atol=1e-12)
    np.testing.assert_allclose(ours["dx"], from_torch(leaf.grad.numpy(), 3, False), atol=1e-12)
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None
        np.testing.assert_allclose(ours[name], parameter.grad.numpy(), atol=1e-12)
    for name in ("running_mean", "running_var"):
        np.testing.assert_allclose(layer.buffers[name], getattr(module, name).numpy(), atol=1e-12)


def test_time_major_arrays_and_slices() -> None:
    """Steps that are not contiguous in memory."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 7, 24)).astype(np.float32)
    for layer in (rc.BatchNorm2d(3), rc.GroupNorm(1, 3), rc.Conv2d(2, 3, 3, padding=1, height=12, seed=0)):
        expected, _ = layer(x)
        turned = np.ascontiguousarray(x.transpose(1, 0, 2)).transpose(1, 0, 2)
        assert_same_bits(layer(turned)[0], expected)
        wide = np.concatenate([x, x], axis=2)[:, :, :24]
        assert_same_bits(layer(wide)[0], expected)
        joined = rc.Input(features=24)
        model = rc.Model(joined, rc.Concatenate()((layer(joined), layer(joined))))
        assert_same_bits(model(x)[0][:, :, : expected.shape[2]], expected)


REFUSED: dict[str, Any] = {
    r"Conv2d: got a window of 5 rows for an image of 4": lambda: rc.Conv2d(1, 1, 5, height=4),
    r"padding='causal', expected one of": lambda: rc.Conv2d(1, 1, 3, padding="causal", height=4, width=4),
    r"kernel_size=\(1, 2, 3\), expected one value or a pair": lambda: rc.Conv2d(1, 1, (1, 2, 3), height=4),
    r"MaxPool2d: got padding=2 .* less than the window": lambda: rc.MaxPool2d(2, padding=2, channels=1, height=4),
    r"stride=0": lambda: rc.AvgPool2d(2, 0, channels=1, height=4),
    r"Conv2d: got reset": lambda: rc.Conv2d(1, 1, 3, height=4)(
        np.zeros((1, 5, 4), np.float32), reset=np.ones((1, 5), bool)
    ),
    r"multiple of channels=3": lambda: rc.BatchNorm2d(3)(np.zeros((2, 2, 4), np.float32)),
    r"PReLU: got 4 features, expected a multiple": lambda: rc.Sequential(rc.Linear(2, 4), rc.PReLU(3)),
    r"GroupNorm: got num_groups=2 for 3": lambda: rc.GroupNorm(2, 3),
    r"GroupNorm: got reset": lambda: rc.GroupNorm(1, 3)(np.zeros((1, 5, 3), np.float32), reset=np.ones((1, 5), bool)),
    r"Permute: got dims=\(0, 0\)": lambda: rc.Permute((2, 3), (0, 0)),
    r"sees later steps": lambda: rc.Conv2d(1, 1, 3, padding=1, height=4).stream(),
}


@pytest.mark.parametrize("words", REFUSED)
def test_refusals(words: str) -> None:
    with pytest.raises(ValueError, match=words):
        REFUSED[words]()


def test_permuted_features_are_numpys() -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 24))
    for shape, dims in (((4, 6), (1, 0)), ((2, 3, 4), (2, 0, 1)), ((24,), (0,)), ((2, 1, 12), (1, 2, 0))):
        layer = rc.Permute(shape, dims, dtype="float64")
        expected = x.reshape(2, 3, *shape).transpose(0, 1, *(axis + 2 for axis in dims)).reshape(2, 3, 24)
        assert_same_bits(layer(x)[0], np.ascontiguousarray(expected))
        dx, _ = layer.record(x).backward(expected)
        assert_same_bits(dx, x)
