"""Embeddings with sparse gradients: the steps of dense ones where mathematics says so, and PyTorch's lazy Adam."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import recurra as rc
from agreement import assert_same_bits
from array_types import DTYPES, Array

ROWS, SIZE = 40, 6


def model(sparse: bool, dtype: str = "float32", rows: int = ROWS) -> Any:
    return rc.Sequential(
        rc.Embedding(rows, SIZE, sparse=sparse, dtype=dtype),
        rc.GRU(SIZE, 5, dtype=dtype),
        rc.Linear(5, 3, dtype=dtype),
        seed=0,
    )


def tokens(step: int, rows: int = ROWS) -> Array:
    return np.random.default_rng(step).integers(0, rows, (3, 4))


def train(subject: Any, x: Array) -> Any:
    tape = subject.record(x, seed=0)
    tape.backward(np.random.default_rng(9).standard_normal(tape.y.shape).astype(tape.y.dtype))


def same(one: Any, other: Any) -> None:
    for name in one.params:
        assert_same_bits(other.params[name], one.params[name], name)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("options", [{}, {"clip_norm": 0.05}, {"clip_value": 0.01}, {"clip_norm": 0.05, "scale": 0.1}])
@pytest.mark.parametrize("make", [lambda: rc.optim.SGD(0.3), lambda: rc.optim.Adagrad(0.3)], ids=["SGD", "Adagrad"])
def test_steps_are_those_of_a_dense_gradient(make: Callable[[], Any], options: dict[str, float], dtype: str) -> None:
    """Where a row without a gradient does not move; two batches are accumulated for every step."""
    dense, sparse = model(False, dtype), model(True, dtype)
    first, second = make(), make()
    for step in range(8):
        for subject, optimizer in ((dense, first), (sparse, second)):
            subject.zero_grad()
            train(subject, tokens(2 * step))
            train(subject, tokens(2 * step + 1))
            subject.last = optimizer.step(subject, error_if_nonfinite=True, **options)
        assert_same_bits(sparse.grads["0.weight"], dense.grads["0.weight"])
        reached = np.unique([tokens(2 * step), tokens(2 * step + 1)])
        assert_same_bits(sparse.layers[0].grad_rows, reached)
        # The norm is summed in another order, so the factor may differ in the last digit, and what it multiplies.
        assert sparse.last.norm == pytest.approx(dense.last.norm, rel=1e-12)
        assert sparse.last.clipped == pytest.approx(dense.last.clipped, rel=1e-12)
        for name in dense.params:
            if "clip_norm" in options:
                atol = 8 * step * np.finfo(dtype).eps + np.finfo(dtype).eps
                np.testing.assert_allclose(sparse.params[name], dense.params[name], rtol=0, atol=atol)
            else:
                assert_same_bits(sparse.params[name], dense.params[name], name)
    sparse.zero_grad()
    assert not sparse.grads["0.weight"].any()
    assert len(sparse.layers[0].grad_rows) == 0


@pytest.mark.parametrize("dtype", DTYPES)
def test_sparse_adam_is_torchs(dtype: str) -> None:
    layer = rc.Embedding(ROWS, SIZE, sparse=True, dtype=dtype, seed=0)
    theirs = torch.nn.Embedding(ROWS, SIZE, sparse=True, dtype=getattr(torch, dtype))
    with torch.no_grad():
        theirs.weight.copy_(torch.tensor(layer.params["weight"].copy()))
    optimizer = rc.optim.SparseAdam(0.05, betas=(0.8, 0.95), eps=1e-3)
    peer = torch.optim.SparseAdam(list(theirs.parameters()), 0.05, betas=(0.8, 0.95), eps=1e-3)
    for step in range(20):
        x = tokens(step)
        dy = np.random.default_rng(step).standard_normal((3, 4, SIZE)).astype(dtype)
        layer.zero_grad()
        layer.record(x).backward(dy)
        optimizer.step(layer)
        peer.zero_grad()
        theirs(torch.tensor(x)).backward(torch.tensor(dy))
        peer.step()
    # Values of order 1 moved 20 times, each time by a few roundings of the dtype.
    np.testing.assert_allclose(
        layer.params["weight"], theirs.weight.detach().numpy(), rtol=0, atol=20 * 8 * np.finfo(dtype).eps
    )


def test_sparse_adam_is_adam_for_other_layers() -> None:
    one, other = model(False), model(False)
    first, second = rc.optim.Adam(0.1), rc.optim.SparseAdam(0.1)
    for step in range(5):
        for subject, optimizer in ((one, first), (other, second)):
            subject.zero_grad()
            train(subject, tokens(step))
            optimizer.step(subject)
    same(one, other)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("make", [rc.optim.SGD, rc.optim.Adagrad, rc.optim.SparseAdam])
def test_threads_change_no_bit(make: Any, dtype: str) -> None:
    """Enough rows for several threads; the caller's order of rows does not count either."""
    found = []
    for threads in (1, 2, 3, 7):
        rc.set_num_threads(threads)
        layer = rc.Embedding(30000, 64, sparse=True, dtype=dtype, seed=0)
        optimizer = make(0.1)
        for step in range(3):
            x = np.random.default_rng(step).integers(0, 30000, (1, 9000))
            dy = np.random.default_rng(9).standard_normal((1, 9000, 64)).astype(dtype)
            layer.zero_grad()
            layer.record(x).backward(dy)
            norm = optimizer.step(layer, clip_norm=1.0).norm
        found.append((layer.params["weight"].tobytes(), norm))
    assert len(set(found)) == 1


@pytest.mark.parametrize("make", [rc.optim.SGD, rc.optim.Adagrad, rc.optim.SparseAdam])
def test_only_rows_with_a_gradient_are_visited(make: Any) -> None:
    """Counted by marks that a visit would wipe out: NaN in the memory, and in the gradient, of every other row."""
    layer = rc.Embedding(50, 4, sparse=True, seed=0)
    optimizer = make(0.1)
    layer.record(np.array([[1, 3]])).backward(np.ones((1, 2, 4), np.float32))
    optimizer.step(layer)
    arrays = optimizer._memory.slot_of(layer).arrays
    for array in arrays.values():
        array.reshape(50, 4)[np.arange(50) % 2 == 0] = np.nan
    before = layer.params["weight"].copy()
    layer.zero_grad()
    layer.record(np.array([[1, 5, 5]])).backward(np.ones((1, 3, 4), np.float32))
    assert np.isfinite(optimizer.step(layer).norm)
    moved = np.flatnonzero((layer.params["weight"] != before).any(axis=1))
    assert_same_bits(moved, np.array([1, 5]))
    for array in arrays.values():
        assert np.isnan(array.reshape(50, 4)[::2]).all()


def test_the_gradient_is_written_as_a_whole() -> None:
    layer = rc.Embedding(9, 2, sparse=True, seed=0)
    for write in (
        lambda: layer.grads["weight"].__setitem__(3, 1.0),
        lambda: layer.grads["weight"].__iadd__(1.0),
        lambda: layer.grads["weight"][2:5].__imul__(2.0),
        lambda: np.add(1.0, 1.0, out=layer.grads["weight"]),
    ):
        with pytest.raises(ValueError, match=r"^grads: .*assignment of the whole array"):
            write()
    assert type(layer.grads["weight"] + 1) is np.ndarray
    copy = layer.grads["weight"].copy()
    copy[3] += 1
    assert copy.sum() == 2
    wanted = np.zeros((9, 2), np.float32)
    wanted[[7, 2]] = 1.5
    layer.grads["weight"] = wanted
    assert_same_bits(layer.grad_rows, np.array([2, 7]))
    before = layer.params["weight"].copy()
    rc.optim.SGD(1.0).step(layer)
    assert_same_bits(layer.params["weight"], before - wanted)
    assert rc.Embedding(9, 2).grad_rows is None


@pytest.mark.parametrize(
    "make",
    [
        lambda: rc.optim.Adam(),
        lambda: rc.optim.AdamW(),
        lambda: rc.optim.RMSprop(),
        lambda: rc.optim.SGD(0.1, momentum=0.9),
        lambda: rc.optim.SGD(0.1, weight_decay=0.1),
        lambda: rc.optim.SparseAdam(weight_decay=0.1),
        lambda: rc.optim.Adagrad(weight_decay=0.1),
    ],
)
def test_what_moves_other_rows_is_refused(make: Callable[[], Any]) -> None:
    subject = model(True)
    before = subject.state_dict()
    train(subject, tokens(0))
    with pytest.raises(ValueError, match=r"\.step: got .* expected .*sparse=False"):
        make().step(subject)
    for name, array in subject.state_dict().items():
        assert_same_bits(array, before[name], name)
    rc.optim.SparseAdam(weight_decay=0.1, no_decay=("0.weight",)).step(subject)


def test_it_trains_resumes_saves_and_is_guarded(tmp_path: Path) -> None:
    """fit, with accumulation, clipping and a checkpoint in the middle, has the bits of the whole run."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, ROWS, (32, 6)), rng.integers(0, 3, (32, 6))

    def fit(subject: Any, epochs: int, callbacks: list[Any]) -> None:
        subject.fit(
            x, y, loss=rc.losses.CrossEntropy(), optimizer=rc.optim.SparseAdam(0.01), epochs=epochs, batch_size=4,
            accumulate=2, clip_norm=0.5, seed=1, verbose=0, callbacks=callbacks,
        )  # fmt: skip

    whole, part = model(True), model(True)
    fit(whole, 4, [])
    fit(part, 2, [rc.callbacks.BackupAndRestore(tmp_path / "run", delete_checkpoint=False)])
    again = model(True)
    fit(again, 4, [rc.callbacks.BackupAndRestore(tmp_path / "run", delete_checkpoint=False)])
    same(whole, again)
    again.save(tmp_path / "model.safetensors")
    loaded = rc.load(tmp_path / "model.safetensors")
    assert loaded.layers[0].sparse
    same(whole, loaded)
    assert copy.deepcopy(loaded).layers[0].sparse
    rc.optim.find_lr(loaded, x, y, loss=rc.losses.CrossEntropy(), optimizer=rc.optim.SGD(0.1), steps=20, verbose=0)
    same(whole, loaded)
    train(loaded, tokens(0))
    bad = loaded.grads["0.weight"].copy()
    bad[tokens(0)[0, 0], 1] = np.inf
    loaded.grads["0.weight"] = bad
    with pytest.raises(FloatingPointError, match=r"gradient of 0\.weight"):
        rc.optim.SGD(0.1).step(loaded, error_if_nonfinite=True)
    same(whole, loaded)


def test_layers_that_share_the_table() -> None:
    shared = rc.Embedding(ROWS, SIZE, sparse=True, seed=0)
    a, b = rc.Input(tokens=ROWS), rc.Input(tokens=ROWS)
    both = rc.Model((a, b), shared(a) + shared(b))
    tape = both.record((tokens(0), tokens(1)))
    tape.backward(np.ones_like(tape.y))
    assert_same_bits(shared.grad_rows, np.unique([tokens(0), tokens(1)]))
