"""What holds for every layer that is not recurrent: rows, padding, streams, threads, derivatives, files, empty
batches."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recurra as rc
from agreement import assert_same_bits
from array_types import DTYPES, Array
from layer_cases import NAMES, POINTWISE, STREAMED, draw, make

pytestmark = pytest.mark.every_isa


def solve(layer: Any, x: Array, seed: int = 1, **options: Any) -> dict[str, Array]:
    """Output and gradients, as in inference: in training, batch norm may know its batch."""
    layer.zero_grad()
    tape = layer.record(x, training=False, **options)
    y = tape.y.copy()
    dy = np.stack([np.random.default_rng(seed).standard_normal(y.shape[1:])] * len(y)) if len(y) else np.zeros_like(y)
    valid = layer.output_lengths(options.get("lengths"))
    if valid is not None:
        dy[np.arange(dy.shape[1]) >= valid[:, None]] = np.nan
    dx, _ = tape.backward(dy.astype(y.dtype))
    return {"y": y, "dx": dx, **{key: layer.grads[key].copy() for key in layer.grads}}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1, 3, 17, 64])
@pytest.mark.parametrize("name", NAMES)
def test_rows_know_nothing_of_their_batch(name: str, size: int, dtype: str) -> None:
    """In a ragged batch with NaN as padding, in another order, in a longer array, and alone."""
    layer = make(name, size, dtype)
    rng = np.random.default_rng(0)
    lengths = np.array([23, 0, 1, 7, 23, 16])
    x = draw(name, (6, 23, size)).astype(dtype)
    x[np.arange(23) >= lengths[:, None]] = np.nan
    whole = solve(layer, x, lengths=lengths)
    order = rng.permutation(6)
    mixed = solve(layer, np.ascontiguousarray(x[order]), lengths=lengths[order])
    padded = np.concatenate([x, np.full((6, 9, size), np.nan, dtype)], axis=1)
    longer, _ = layer(padded, lengths=lengths)
    assert_same_bits(layer(x, lengths=lengths)[0], whole["y"], "inference")
    for place, row in enumerate(order):
        for part in ("y", "dx"):
            assert_same_bits(mixed[part][place], whole[part][row], part)
    valid = layer.output_lengths(lengths)
    for row, length in enumerate(lengths):
        alone, _ = layer(np.ascontiguousarray(x[row : row + 1, :length]))
        outputs = alone.shape[1] if valid is not None else None
        assert_same_bits(alone[0], whole["y"][row, :outputs] if outputs is not None else whole["y"][row])
        assert not whole["dx"][row, length:].any()
        if valid is None:
            assert_same_bits(longer[row], whole["y"][row])
        else:
            assert valid[row] == outputs
            assert_same_bits(longer[row, :outputs], whole["y"][row, :outputs])
            assert not longer[row, outputs:].any()
            assert not whole["y"][row, outputs:].any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_threads_change_no_bit(name: str, dtype: str) -> None:
    """Big enough that threads are used."""
    layer = make(name, 128, dtype)
    x = draw(name, (37, 600, 128)).astype(dtype)
    for lengths in (None, np.random.default_rng(1).integers(0, 601, 37)):
        found = []
        for threads in (1, 2, 3):
            rc.set_num_threads(threads)
            found.append(solve(layer, x, lengths=lengths))
        for part, expected in found[0].items():
            for other in found[1:]:
                assert_same_bits(other[part], expected, part)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", STREAMED)
def test_streams_have_the_bits_of_the_whole(name: str, dtype: str) -> None:
    layer = make(name, 17, dtype)
    x = draw(name, (3, 40, 17)).astype(dtype)
    whole, _ = layer(x)
    stream = layer.stream(batch_size=3)
    chunks = [stream.process(x[:, begin:end]) for begin, end in ((0, 1), (1, 1), (1, 9), (9, 40))]
    assert_same_bits(np.concatenate(chunks, axis=1), whole)
    stream.reset()
    out = np.empty_like(whole[:, 0])
    for t in range(40):
        assert_same_bits(stream.step(x[:, t], out=out), whole[:, t])


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_model_of_many(dtype: str) -> None:
    """As one native call: rows in a ragged batch, chunks and steps of a stream, episodes, forks."""
    model = rc.Sequential(
        rc.Conv1d(3, 8, 3, dilation=2, dtype=dtype),
        rc.BatchNorm(8, dtype=dtype),
        rc.Activation("gelu", dtype=dtype),
        rc.Conv1d(8, 6, 2, dtype=dtype),
        rc.LayerNorm(6, dtype=dtype),
        rc.LSTM(6, 5, dtype=dtype),
        rc.Linear(5, 4, dtype=dtype),
        rc.Activation("softmax", dtype=dtype),
        seed=0,
    )
    rng = np.random.default_rng(0)
    x, reset = rng.standard_normal((4, 30, 3)).astype(dtype), rng.random((4, 30)) < 0.1
    model.record(x)  # moves the running statistics
    lengths = np.array([30, 0, 11, 2])
    whole, state = model(x, reset=reset)
    ragged = np.where((np.arange(30) < lengths[:, None])[..., None], x, np.nan).astype(dtype)
    y, _ = model(ragged, lengths=lengths, reset=reset)
    for row, length in enumerate(lengths):
        assert_same_bits(y[row, :length], whole[row, :length])
        assert not y[row, length:].any()
    stream = model.stream(batch_size=4)
    assert_same_bits(stream.process(x[:, :13], reset[:, :13]), whole[:, :13])
    twins = stream.fork(2)
    assert_same_bits(twins.process(x[:, 13:].repeat(2, 0), reset[:, 13:].repeat(2, 0)), whole[:, 13:].repeat(2, 0))
    for t in range(13, 30):
        assert_same_bits(stream.step(x[:, t], reset[:, t]), whole[:, t])
    for one, other in zip(stream.state(), state, strict=True):
        for a, b in zip(*(part if isinstance(part, tuple) else (part,) for part in (one, other)), strict=True):
            if a is not None:
                assert_same_bits(a, b)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in STREAMED])
def test_other_layers_say_why_they_do_not_stream(name: str) -> None:
    with pytest.raises(ValueError, match="expected layers that can run step by step"):
        make(name, 3, "float32").stream()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", POINTWISE)
def test_vectors_are_steps(name: str, dtype: str) -> None:
    layer = make(name, 17, dtype)
    x = draw(name, (5, 17)).astype(dtype)
    one, other = solve(layer, x), solve(layer, x[:, None])
    assert_same_bits(one["y"], other["y"][:, 0])


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("size", [1, 5])
@pytest.mark.parametrize("name", NAMES)
def test_finite_differences(name: str, size: int, training: bool) -> None:
    """In float64 to 1e-6, with ragged lengths."""
    layer = make(name, size, "float64")
    rng = np.random.default_rng(0)
    x, lengths = draw(name, (4, 6, size)), np.array([6, 0, 1, 4])
    dy = rng.standard_normal(layer(x, lengths=lengths)[0].shape)

    def objective() -> float:
        return float((layer.record(x, lengths=lengths, training=training).y * dy).sum())

    dx, _ = layer.record(x, lengths=lengths, training=training).backward(dy)
    worst = _worst(x, dx, objective)
    for key in layer.params:
        array = layer.params[key].copy()

        def moved(key: str = key, array: Array = array) -> float:
            layer.params[key] = array
            return objective()

        worst = max(worst, _worst(array, layer.grads[key], moved))
        moved()
    assert worst < 1e-6


def _worst(array: Array, gradient: Array, objective: Callable[[], float]) -> float:
    """The largest difference between a gradient and central differences, relative to the gradient's size."""
    step, found = 1e-5, np.zeros_like(gradient)
    for index in np.ndindex(array.shape):
        kept = array[index]
        array[index] = kept + step
        above = objective()
        array[index] = kept - step
        found[index] = (above - objective()) / (2 * step)
        array[index] = kept
    return float(np.abs(found - gradient).max(initial=0.0) / max(1.0, np.abs(gradient).max(initial=0.0)))


@pytest.mark.parametrize("shape", [(0, 5), (3, 0), (1, 1), (3, 1)], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_small_and_empty_batches(name: str, shape: tuple[int, int]) -> None:
    layer = make(name, 3, "float32")
    x = np.ones((*shape, 3), np.float32)
    found = solve(layer, x)
    assert found["dx"].shape == x.shape
    assert all(np.isfinite(array).all() for array in found.values())
    if shape[1] == 0:
        assert not found["y"].any()
    empty = solve(layer, x, lengths=np.zeros(shape[0], np.int64))
    assert not any(array.any() for array in empty.values())


@pytest.mark.parametrize("name", NAMES)
def test_copies_and_files(name: str, tmp_path: Path) -> None:
    layer = make(name, 3, "float32")
    x = draw(name, (2, 9, 3)).astype(np.float32)
    expected, _ = layer(x)
    layer.save(tmp_path / "layer.safetensors")
    model = rc.Sequential(layer)
    model.save(tmp_path / "model.safetensors")
    copies = [pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer), rc.load(tmp_path / "layer.safetensors")]
    for twin in copies:
        assert repr(twin) == repr(layer)
        assert_same_bits(twin(x)[0], expected)
    assert_same_bits(rc.load(tmp_path / "model.safetensors")(x)[0], expected)


@pytest.mark.parametrize("name", NAMES)
def test_the_wrong_input_is_refused(name: str) -> None:
    layer = make(name, 3, "float32")
    with pytest.raises(TypeError, match="got x of complex128, expected real numbers"):
        layer(np.zeros((2, 4, 3), complex))
    with pytest.raises(ValueError, match="x has shape"):
        layer(np.zeros(3, np.float32))
    if layer.input_size is not None:
        with pytest.raises(ValueError, match="expected 3"):
            layer(np.zeros((2, 4, 5), np.float32))
