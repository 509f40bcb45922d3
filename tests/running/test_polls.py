"""Contract 6: a long call looks often whether it should stop, within a row as well as between rows.

How soon Ctrl-C is heard is a time, which `benchmarks/interrupts.py` measures; here the looks are counted. Each call is
one of a single row or step, so that only looks within it count.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import recurra as rc
from polling import polls
from recurra import _core

RNG = np.random.default_rng(0)


def ctc(gradient: bool) -> object:
    """Some 40 million operations a pass."""
    x, targets = RNG.standard_normal((1, 2000, 64), dtype=np.float32), RNG.integers(1, 64, (1, 500))
    return rc.losses.CTC()(x, targets, gradient=gradient)


def loss(name: str, targets: str, **options: object) -> Callable[[], object]:
    def call() -> object:
        x = np.ones((1, 20000, 64), np.float32)
        made = {"labels": np.ones((1, 20000), np.int64), "numbers": x, "half": x[:, :, :32], "one": x[:, :, :1]}
        return getattr(rc.losses, name)(**options)(x, made[targets])

    return call


def layer(make: Callable[[], object], inputs: int = 1) -> Callable[[], object]:
    def call() -> None:
        x = tuple(np.ones((1, 20000, 64), np.float32) for _ in range(inputs))
        tape = make().record(x if inputs > 1 else x[0])  # type: ignore[attr-defined]
        tape.backward(np.ones_like(tape.y))

    return call


def long_memory() -> None:
    attention = rc.AdditiveAttention(8, 8, 64, seed=0)
    tape = attention.record((np.ones((1, 8, 8), np.float32), np.ones((1, 20000, 8), np.float32)))
    tape.backward(np.ones_like(tape.y))


def wide_search() -> None:
    layers = rc.Embedding(3000, 4, seed=0), rc.GRU(4, 4, seed=0), rc.Linear(4, 3000, seed=0)
    rc.search.beam_search(layers, start=0, end=None, max_steps=2, beam_size=20, batch_size=20)


#: A call, and the least number of its looks.
CALLS: dict[str, tuple[Callable[[], object], int]] = {
    "CTC": (lambda: ctc(False), 50),
    "CTC with its gradient": (lambda: ctc(True), 100),
    "CTC, greedy": (lambda: rc.ctc.greedy(np.ones((1, 500, 64), np.float32)), 500),
    "CTC, beam search": (lambda: rc.ctc.beam_search(np.ones((1, 500, 8), np.float32), beam_size=2), 500),
    "CrossEntropy": (loss("CrossEntropy", "labels"), 30),
    "BinaryCrossEntropy": (loss("BinaryCrossEntropy", "numbers"), 30),
    "MeanSquaredError": (loss("MeanSquaredError", "numbers"), 30),
    "L1": (loss("L1", "numbers"), 30),
    "Huber": (loss("Huber", "numbers"), 30),
    "GaussianNLL": (loss("GaussianNLL", "half"), 30),
    "Add": (layer(rc.Add, 2), 100),
    "Multiply": (layer(rc.Multiply, 2), 100),
    "Concatenate": (layer(rc.Concatenate, 2), 100),
    "Maximum": (layer(rc.Maximum, 2), 100),
    "Reverse": (layer(rc.Reverse), 60),
    "Slice": (layer(lambda: rc.Slice(0, 64, 2)), 60),
    "MaxPool1d": (layer(lambda: rc.MaxPool1d(3)), 60),
    "Activation": (layer(lambda: rc.Activation("tanh")), 60),
    "LayerNorm": (layer(lambda: rc.LayerNorm(64)), 60),
    "Conv1d": (layer(lambda: rc.Conv1d(64, 4, 3, seed=0)), 60),
    "LSTM": (layer(lambda: rc.LSTM(64, 16, seed=0)), 100),
    "MinGRU": (layer(lambda: rc.MinGRU(64, 16, seed=0)), 30),
    "attention to a long memory": (long_memory, 60),
    "search, one step": (wide_search, 400),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_long_row_looks_often(name: str) -> None:
    call, least = CALLS[name]
    rc.set_num_threads(1)
    assert polls(call) >= least


@pytest.mark.parametrize(
    "name", [name for name in CALLS if "CTC" in name or name in ("CrossEntropy", "Add", "Reverse")]
)
def test_ctrl_c_within_a_row_ends_the_call(name: str) -> None:
    call, least = CALLS[name]
    rc.set_num_threads(1)
    for poll in (1, least // 2, least):
        _core.interrupt_at(poll)
        try:
            with pytest.raises(KeyboardInterrupt):
                call()
        finally:
            _core.interrupt_at(0)
