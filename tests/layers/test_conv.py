"""Conv1d against its definition and against torch; lengths, episodes and streams."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import recurra as rc
from agreement import assert_as_close_as, assert_same_bits
from array_types import DTYPES, Array

pytestmark = pytest.mark.every_isa

PADDINGS = ["causal", "same", "valid"]
# (in, out, kernel, stride, dilation, rows, steps): above and below every block, and rows that share one
SHAPES = [
    (1, 1, 1, 1, 1, 1, 1),
    (3, 5, 3, 1, 1, 2, 7),
    (1, 17, 4, 1, 1, 3, 40),
    (5, 7, 3, 1, 4, 2, 33),
    (3, 33, 2, 3, 1, 2, 20),
    (4, 6, 3, 2, 3, 2, 50),
    (2, 3, 2, 5, 1, 3, 21),
    (16, 20, 5, 1, 1, 2, 300),
    (3, 4, 3, 1, 1, 70, 5),
    (3, 4, 7, 1, 1, 2, 3),
]


def around(conv: rc.Conv1d) -> tuple[int, int]:
    """Zeros before and behind a row."""
    both = (conv.kernel_size - 1) * conv.dilation
    return {"causal": (both, 0), "same": (both // 2, both - both // 2), "valid": (0, 0)}[conv.padding]


def specified(conv: rc.Conv1d, x: Array) -> Array:
    """One row, (T, in), by the definition."""
    left, right = around(conv)
    padded = np.concatenate([np.zeros((left, x.shape[1])), x, np.zeros((right, x.shape[1]))])
    span = (conv.kernel_size - 1) * conv.dilation + 1
    weight, bias = conv.params["weight"].astype(np.float64), conv.params["bias"].astype(np.float64)
    steps = range(0, len(padded) - span + 1, conv.stride)
    rows = [np.einsum("oik,ki->o", weight, padded[t : t + span : conv.dilation]) + bias for t in steps]
    return np.array(rows).reshape(-1, conv.out_channels)


def by_torch(conv: rc.Conv1d, x: Array, dy: Array, dtype: str) -> dict[str, Array]:
    """Output and gradients of dense data."""
    params = {name: torch.tensor(conv.params[name].astype(dtype), requires_grad=True) for name in conv.params}
    leaf = torch.tensor(x.astype(dtype), requires_grad=True)
    padded = torch.nn.functional.pad(leaf.transpose(1, 2), around(conv))
    y = torch.nn.functional.conv1d(padded, **params, stride=conv.stride, dilation=conv.dilation).transpose(1, 2)
    y.backward(torch.from_numpy(dy.astype(dtype)))
    found = {"y": y.detach(), "dx": leaf.grad, **{name: tensor.grad for name, tensor in params.items()}}
    return {name: tensor.numpy() for name, tensor in found.items() if tensor is not None}


def solve(conv: rc.Conv1d, x: Array, dy: Array, **options: Any) -> dict[str, Array]:
    conv.zero_grad()
    tape = conv.record(x, **options)
    y = tape.y.copy()
    dx, _ = tape.backward(dy)
    assert dx is not None
    return {"y": y, "dx": dx, **{name: conv.grads[name].copy() for name in conv.grads}}


def make(shape: tuple[int, ...], padding: str, dtype: str, **options: Any) -> tuple[rc.Conv1d, Array, Array]:
    """A layer, an input and a gradient for its output."""
    inputs, outputs, kernel, stride, dilation, rows, steps = shape
    conv = rc.Conv1d(
        inputs, outputs, kernel, stride=stride, dilation=dilation, padding=padding, dtype=dtype, seed=1, **options
    )
    rng = np.random.default_rng(0)
    x = rng.standard_normal((rows, steps, inputs), np.float32).astype(dtype)
    y, _ = conv(x)
    return conv, x, rng.standard_normal(y.shape, np.float32).astype(dtype)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_and_gradients(shape: tuple[int, ...], padding: str) -> None:
    """float64 to 1e-12, float32 as close as torch; the definition too."""
    single, x, dy = make(shape, padding, "float32")
    double, wide, _ = make(shape, padding, "float64")
    double.load_state_dict({name: single.params[name].astype(np.float64) for name in single.params})
    expected = np.stack([specified(single, row) for row in wide])
    np.testing.assert_allclose(double(wide)[0], expected, rtol=0, atol=1e-12)
    if not expected.size:  # no window fits, which torch refuses
        assert not any(value.any() for value in solve(single, x, dy).values())
        return
    exact, peer = by_torch(single, x, dy, "float64"), by_torch(single, x, dy, "float32")
    ours, precise = solve(single, x, dy), solve(double, wide, dy.astype(np.float64))
    for name, truth in exact.items():
        np.testing.assert_allclose(precise[name], truth, rtol=0, atol=1e-12 * max(1.0, np.abs(truth).max()))
        assert_as_close_as(peer[name], ours[name], truth, name)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (1, 3), (2, 1), (3, 2)])
def test_finite_differences(stride: int, dilation: int, padding: str) -> None:
    """Inputs, state and parameters, with ragged lengths and, where that is allowed, resets."""
    conv = rc.Conv1d(3, 4, 3, stride=stride, dilation=dilation, padding=padding, dtype="float64", seed=0)
    rng = np.random.default_rng(0)
    x, lengths = rng.standard_normal((4, 9, 3)), np.array([9, 0, 1, 6])
    reset = rng.random((4, 9)) < 0.3 if stride == 1 and padding != "valid" else None
    state = rng.standard_normal((2 * dilation, 4, 3)) if conv.state_names else None
    options: dict[str, Any] = {"lengths": lengths, "reset": reset}
    dy = rng.standard_normal(conv(x, **options)[0].shape)
    dfinal = None if state is None else rng.standard_normal(state.shape)

    def objective() -> float:
        y, final = conv(x, state=state, **options)
        return float((y * dy).sum() + (0.0 if final is None else (final * dfinal).sum()))

    tape = conv.record(x, state=state, **options)
    dx, dstate = tape.backward(dy, dfinal)
    assert dx is not None
    checked = [(x, dx)] if state is None else [(x, dx), (state, dstate)]
    for array, gradient in checked:
        for index in np.ndindex(array.shape):
            assert gradient[index] == pytest.approx(difference(array, index, objective), rel=1e-6, abs=1e-8)
    for name in conv.params:
        array = conv.params[name].copy()

        def moved(name: str = name, array: Array = array) -> float:
            conv.params[name] = array
            return objective()

        for index in np.ndindex(array.shape):
            assert conv.grads[name][index] == pytest.approx(difference(array, index, moved), rel=1e-6, abs=1e-8)
        moved()


def difference(array: Array, index: tuple[int, ...], objective: Any) -> float:
    kept, step = array[index], 1e-5
    array[index] = kept + step
    above = objective()
    array[index] = kept - step
    below = objective()
    array[index] = kept
    return float((above - below) / (2 * step))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_row_knows_nothing_of_its_batch(shape: tuple[int, ...], padding: str, dtype: str) -> None:
    """Ragged with NaN behind the lengths: the bits of each row alone, cut to its length."""
    conv, x, dy = make((*shape[:5], max(shape[5], 3), shape[6]), padding, dtype)
    rng = np.random.default_rng(3)
    rows, steps = x.shape[:2]
    lengths = rng.integers(0, steps + 1, rows)
    lengths[0], lengths[-1] = steps, 0
    valid = conv.output_lengths(lengths)
    assert valid is not None
    x[np.arange(steps) >= lengths[:, None]] = np.nan
    dy[np.arange(dy.shape[1]) >= valid[:, None]] = np.nan
    whole = solve(conv, x, dy, lengths=lengths)
    for row, (length, outputs) in enumerate(zip(lengths, valid, strict=True)):
        alone = solve(conv, x[row : row + 1, :length], dy[row : row + 1, :outputs])
        for name, count in (("y", outputs), ("dx", length)):
            assert_same_bits(whole[name][row, :count], alone[name][0], name)
            assert not whole[name][row, count:].any()
    few = slice(1, 3)
    part = solve(conv, x[few], dy[few], lengths=lengths[few])
    assert_same_bits(part["y"], whole["y"][few])
    assert_same_bits(part["dx"], whole["dx"][few])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("padding", PADDINGS)
def test_threads_change_no_bit(padding: str, dtype: str) -> None:
    conv, x, dy = make((32, 64, 5, 1, 2, 16, 300), padding, dtype)
    lengths = np.random.default_rng(0).integers(0, 301, 16)
    for options in ({}, {"lengths": lengths}):
        found = []
        for threads in (1, 2, 3):
            rc.set_num_threads(threads)
            found.append(solve(conv, x, dy, **options))
        for name, expected in found[0].items():
            for other in found[1:]:
                assert_same_bits(other[name], expected, name)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("padding", ["causal", "same"])
@pytest.mark.parametrize("dilation", [1, 3])
def test_episodes_are_rows_of_their_own(dilation: int, padding: str, dtype: str) -> None:
    conv, x, dy = make((3, 5, 4, 1, dilation, 3, 40), padding, dtype)
    reset = np.random.default_rng(2).random((3, 40)) < 0.2
    reset[0, :] = False
    reset[1, 0] = True
    whole = solve(conv, x, dy, reset=reset)
    for row in range(3):
        starts = [0, *np.flatnonzero(reset[row]).tolist(), 40]
        for begin, end in pairwise(starts):
            part = (slice(row, row + 1), slice(begin, end))
            alone = solve(conv, x[part], dy[part])
            assert_same_bits(alone["y"], whole["y"][part])
            assert_same_bits(alone["dx"], whole["dx"][part])


@settings(max_examples=60, deadline=None)
@given(
    kernel=st.integers(1, 6),
    dilation=st.integers(1, 9),
    channels=st.integers(1, 20),
    rows=st.integers(0, 4),
    sizes=st.lists(st.integers(0, 17), max_size=8),
    resets=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_a_causal_stream_has_the_bits_of_the_whole(
    kernel: int, dilation: int, channels: int, rows: int, sizes: list[int], resets: bool, seed: int
) -> None:
    conv = rc.Conv1d(channels, 5, kernel, dilation=dilation, seed=0)
    steps = sum(sizes)
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, steps, channels), np.float32)
    reset = rng.random((rows, steps)) < 0.2 if resets else None
    whole, final = conv(x, reset=reset)
    stream = conv.stream(batch_size=rows)
    bounds = np.cumsum([0, *sizes])
    for begin, end in pairwise(bounds):
        chunk = stream.process(x[:, begin:end], None if reset is None else reset[:, begin:end])
        assert_same_bits(chunk, whole[:, begin:end])
    if final is not None:
        assert_same_bits(stream.state(), final)
    stream.reset()
    for t in range(steps):
        assert_same_bits(stream.step(x[:, t], None if reset is None else reset[:, t]), whole[:, t])


@pytest.mark.parametrize("dtype", DTYPES)
def test_state_of_ragged_rows(dtype: str) -> None:
    """A row goes on where it ended, whatever its length; the gradient flows back the same way."""
    conv, x, _ = make((3, 5, 3, 1, 2, 4, 20), "causal", dtype)
    lengths = np.array([20, 0, 2, 9])
    whole, _ = conv(x)
    _, state = conv(x, lengths=lengths)
    for row, length in enumerate(lengths):
        rest, _ = conv(x[row : row + 1, length:], state=state[:, row : row + 1])
        assert_same_bits(rest[0], whole[row, length:])


def test_a_model_with_fewer_steps_trains() -> None:
    """Targets and losses follow the output's lengths, for arrays and for lists."""
    model = rc.Sequential(
        rc.Conv1d(3, 8, 3, stride=2, padding="valid"), rc.Activation("relu"), rc.GRU(8, 6), rc.Linear(6, 2), seed=0
    )
    rng = np.random.default_rng(0)
    lengths = np.array([20, 7, 2, 0, 15])
    outputs = np.array([9, 3, 0, 0, 7])
    valid = model.output_lengths(lengths)
    assert valid is not None
    np.testing.assert_array_equal(valid, outputs)
    x, y = rng.standard_normal((5, 20, 3)), rng.integers(0, 2, (5, 9))
    settings: dict[str, Any] = {"loss": rc.losses.CrossEntropy(), "epochs": 2, "batch_size": 2, "seed": 0, "verbose": 0}
    first = model.fit(x, y, lengths, optimizer=rc.optim.Adam(1e-2), validation_data=(x, y, lengths), **settings)
    model.reset_parameters(0)
    again = rc.Sequential(*model.layers)
    again.reset_parameters(0)
    rows = [row[:length] for row, length in zip(x, lengths, strict=True)]
    targets = [row[:length] for row, length in zip(y, outputs, strict=True)]
    history = again.fit(rows, targets, optimizer=rc.optim.Adam(1e-2), **settings)
    assert np.isfinite(history.history["loss"]).all()
    assert len(first.history["val_loss"]) == 2
    predicted = again.predict(rows, batch_size=2)
    assert [row.shape for row in predicted] == [(steps, 2) for steps in outputs]
    assert again.predict(x[:3]).shape == (3, 9, 2)
    assert [
        row.shape
        for row in again(  # as a call
            [row.astype(np.float32) for row in rows]
        )[0]
    ] == [(steps, 2) for steps in outputs]
    with pytest.raises(ValueError, match=r"expected 3 steps, as the output for x\[1\] has"):
        again.fit(rows, list(y), optimizer=rc.optim.Adam(1e-2), **settings)


def test_refusals() -> None:
    x = np.zeros((1, 8, 2), np.float32)
    reset = np.zeros((1, 8), bool)
    for options in ({"stride": 2}, {"padding": "valid"}):
        with pytest.raises(ValueError, match="Conv1d: got reset, expected none"):
            rc.Conv1d(2, 3, 3, **options)(x, reset=reset)
    for options, words in (({"stride": 2}, "stride=2"), ({"padding": "same"}, "padding='same'")):
        with pytest.raises(ValueError, match=words):
            rc.Conv1d(2, 3, 3, **options).stream()
    with pytest.raises(ValueError, match="got padding='full', expected one of"):
        rc.Conv1d(2, 3, 3, padding="full")
    with pytest.raises(ValueError, match="stride=0"):
        rc.Conv1d(2, 3, 3, stride=0)
    with pytest.raises(ValueError, match=r"expected \(N, T, 2\)"):
        rc.Conv1d(2, 3, 3)(x[0, 0])


@pytest.mark.parametrize("seed", range(12))
def test_transposed_convolutions_are_torchs(seed: int) -> None:
    """float64 to 1e-12, float32 as close as torch; with lengths, each row is that of the row alone."""
    rng = np.random.default_rng(seed)
    inputs, outputs, kernel, stride, dilation = (int(n) for n in rng.integers(1, (5, 20, 5, 4, 3)))
    more = int(rng.integers(0, stride))
    most = ((kernel - 1) * dilation + more) // 2
    options: dict[str, Any] = {"stride": stride, "padding": int(rng.integers(0, most + 1)), "dilation": dilation}
    options |= {"output_padding": more, "bias": bool(seed % 3)}
    x = rng.standard_normal((3, int(rng.integers(1, 200 if seed == 0 else 12)), inputs), np.float32)
    single = rc.ConvTranspose1d(inputs, outputs, kernel, **options, seed=0)
    double = rc.ConvTranspose1d(inputs, outputs, kernel, **options, dtype="float64")
    double.load_state_dict({name: array.astype(np.float64) for name, array in single.params.items()})
    dy = rng.standard_normal(single(x)[0].shape, np.float32)
    found = {}
    for layer in (single, double):
        dtype = str(layer.dtype)
        module = torch.nn.ConvTranspose1d(inputs, outputs, kernel, **options).to(getattr(torch, dtype))
        module.load_state_dict({name: torch.tensor(array) for name, array in layer.params.items()})
        leaf = torch.tensor(x.astype(dtype), requires_grad=True)
        y = module(leaf.transpose(1, 2)).transpose(1, 2)
        y.backward(torch.from_numpy(dy.astype(dtype)))
        peer = {"y": y, "dx": leaf.grad, **{name: one.grad for name, one in module.named_parameters()}}
        plain = {name: tensor.detach().numpy() for name, tensor in peer.items() if tensor is not None}
        found[dtype] = solve(layer, x.astype(dtype), dy.astype(dtype)), plain
    for name, truth in found["float64"][1].items():
        np.testing.assert_allclose(found["float64"][0][name], truth, atol=1e-12 * max(1.0, np.abs(truth).max()))
        assert_as_close_as(found["float32"][1][name], found["float32"][0][name], truth, name)
    lengths = rng.integers(0, x.shape[1] + 1, 3)
    ragged, made = single(x, lengths=lengths)[0], single.output_lengths(lengths)
    for row, length in enumerate(lengths):
        alone = single(np.ascontiguousarray(x[row : row + 1, :length]))[0][0]
        assert len(alone) == made[row]
        assert_same_bits(ragged[row, : made[row]], alone)


def test_transposed_convolutions_refuse() -> None:
    for options, words in (
        ({"output_padding": 1}, "output_padding is 1"),
        ({"padding": 2}, "padding is 2, expected 0 to 1"),
    ):
        with pytest.raises(ValueError, match=words):
            rc.ConvTranspose1d(2, 3, 3, **options)
    with pytest.raises(ValueError, match="process whole sequences"):
        rc.ConvTranspose1d(2, 3, 3).stream()
    with pytest.raises(ValueError, match="ConvTranspose1d: got reset"):
        rc.ConvTranspose1d(2, 3, 3)(np.zeros((1, 4, 2), np.float32), reset=np.zeros((1, 4), bool))
