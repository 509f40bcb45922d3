"""A backward that is interrupted and run again: the bits of one that was not, whatever the layer and the moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import pytest
from test_memory_budget import least

import recurra as rc
from agreement import assert_same_bits
from array_types import Array
from cell_cases import Case, draw
from cell_runs import inputs, pack, solver
from cell_variants import VARIANTS
from layer_cases import LAYERS, decoder, make
from recurra import _core

Record = Callable[[], Any]


@contextmanager
def interrupted_at(poll: int) -> Iterator[None]:
    threads = rc.get_num_threads()
    rc.set_num_threads(1)  # how often the calling thread looks must not depend on what others take over
    _core.interrupt_at(poll)
    try:
        yield
    finally:
        _core.interrupt_at(0)
        rc.set_num_threads(threads)


def random_like(values: Any, seed: int) -> Any:
    """Arrays like one, or like those in a tuple or a list."""
    if isinstance(values, np.ndarray):
        return np.random.default_rng(seed).standard_normal(values.shape).astype(values.dtype)
    if values is None:
        return None
    return type(values)(random_like(value, seed + index) for index, value in enumerate(values))


def flat(values: Any) -> list[Array]:
    if values is None:
        return []
    return [values] if isinstance(values, np.ndarray) else [array for value in values for array in flat(value)]


def check_retries(layer: Any, record: Record, budget: int | None = None, dstate: Any = None) -> int:
    """Every poll of a backward is one that a Ctrl-C may come at, up to a few dozens of them; -> how many did."""

    def gradient_of(tape: Any) -> tuple[Any, Any]:
        dy = random_like(tape.y, 1)
        return dy, random_like(tape.state, 7) if dstate is None else dstate

    layer.zero_grad()
    tape = record()
    outcome = tape.backward(*gradient_of(tape))
    held, expected = tape.nbytes, {name: layer.grads[name].copy() for name in layer.grads}
    poll = interrupts = 0
    while True:
        poll += 1 if poll < 12 else poll // 4
        layer.zero_grad()
        tape = record()
        gradients = gradient_of(tape)
        kept = tape.nbytes
        try:
            with interrupted_at(poll):
                tape.backward(*gradients)
        except KeyboardInterrupt:
            interrupts += 1
        else:
            return interrupts
        assert not any(layer.grads[name].any() for name in layer.grads), "an interrupted backward adds nothing"
        with pytest.raises(KeyboardInterrupt), interrupted_at(max(1, poll - 1)):  # and once more
            tape.backward(*gradients)
        retried = tape.backward(*gradients)
        for array, wanted in zip(flat(retried), flat(outcome), strict=True):
            assert_same_bits(array, wanted, f"after an interrupt at poll {poll}")
        for name, wanted in expected.items():
            assert_same_bits(layer.grads[name], wanted, f"{name} after an interrupt at poll {poll}")
        assert kept <= tape.nbytes == held, "a retry takes no memory beyond the first attempt's"
        assert budget is None or tape.nbytes <= budget


@pytest.mark.parametrize(("dtype", "threads", "steps"), [("float32", 1, 40), ("float64", 3, 300)])
@pytest.mark.parametrize("variant", VARIANTS)
def test_recurrent_layers(variant: str, dtype: str, threads: int, steps: int) -> None:
    """With and without a budget, both directions, two layers, ragged, with masks."""
    rc.set_num_threads(threads)
    case = Case(variant, 5, 17, 3, steps, 2, bidirectional=True, ragged=True, resets=True, seed=threads)
    problem = draw(case)
    layer = solver(problem, dtype)
    x, options, dstate = problem.x.astype(dtype), inputs(problem, dtype), pack(problem.dstate, dtype)

    def record(budget: int | None) -> Any:
        return layer.record(x, **options, seed=1, memory_budget=budget)

    budgets = [None, least(record)] if steps == 300 else [None]
    for budget in budgets:
        assert check_retries(layer, partial(record, budget), budget, dstate) >= 2


def lengths_for(rows: int, steps: int) -> Array:
    return np.array([steps, 0, *np.random.default_rng(0).integers(1, steps, rows - 2)])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", LAYERS)
def test_other_layers(name: str, dtype: str) -> None:
    layer = make(name, 17, dtype)
    x = np.random.default_rng(0).standard_normal((5, 23, 17)).astype(dtype)
    assert check_retries(layer, lambda: layer.record(x, lengths=lengths_for(5, 23), seed=3, training=False)) >= 1


def embedded(dtype: str) -> Any:
    """Embeddings that are shared, and run backwards before others do."""
    first, second = rc.Embedding(11, 8, dtype=dtype, seed=0), rc.Embedding(7, 8, dtype=dtype, seed=1)
    a, b = rc.Input(tokens=11), rc.Input(tokens=7)
    h = rc.LSTM(8, 12, dtype=dtype, seed=2)(first(a))
    again = first(a)
    return rc.Model((a, b), rc.Linear(12, 8, dtype=dtype, seed=3)(h) + second(b) + again)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_embeddings(dtype: str) -> None:
    rng = np.random.default_rng(0)
    alone = rc.Embedding(9, 5, dtype=dtype, seed=0)
    tokens = rng.integers(0, 7, (5, 30))
    assert check_retries(alone, lambda: alone.record(tokens, lengths=lengths_for(5, 30))) >= 1
    model = embedded(dtype)
    assert check_retries(model, lambda: model.record((tokens, tokens), lengths=(lengths_for(5, 30),) * 2)) >= 4


def test_an_embeddings_tape_counts_all_that_its_backward_takes() -> None:
    """A budget of what the tape holds at the end is enough, and a byte less is not."""
    model = rc.Sequential(rc.Embedding(9, 5), rc.Linear(5, 3), seed=0)
    tokens = np.random.default_rng(0).integers(0, 9, (5, 3000))
    tape = model.record(tokens)
    tape.backward(np.ones_like(tape.y))
    fewest = least(lambda budget: model.record(tokens, memory_budget=budget))
    assert fewest == tape.nbytes


@pytest.mark.parametrize(
    ("kind", "feeding"), [("additive", True), ("general", False), ("general", True), ("dot", True)]
)
def test_decoders(kind: str, feeding: bool) -> None:
    layer = decoder("lstm", kind, 8, "float32", input_feeding=feeding, seed=0)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 9, layer.input_size)).astype("float32")
    memory = rng.standard_normal((3, 13, layer.memory_size)).astype("float32")
    lengths = (lengths_for(3, 9), np.array([13, 4, 1]))
    assert check_retries(layer, lambda: layer.record((x, memory), lengths=lengths)) >= 3


def test_a_deep_model() -> None:
    """Everything in a row, with masks, batch norm in training among it."""
    model = rc.Sequential(
        rc.Embedding(20, 12),
        rc.Conv1d(12, 16, 3, padding="same"),
        rc.BatchNorm(16),
        rc.Activation("gelu"),
        rc.LSTM(16, 9, 2, bidirectional=True, dropout=0.3),
        rc.LayerNorm(18),
        rc.Dropout(0.2),
        rc.AttentionPool(18, 5),
        rc.Linear(18, 4),
        seed=0,
    )
    tokens = np.random.default_rng(0).integers(0, 20, (6, 50))
    assert check_retries(model, lambda: model.record(tokens, lengths=lengths_for(6, 50), seed=5)) >= 5


def test_an_interrupted_record_changes_nothing() -> None:
    model = rc.Sequential(rc.Embedding(20, 12), rc.BatchNorm(12), rc.LSTM(12, 9), rc.Linear(9, 4), seed=0)
    tokens = np.random.default_rng(0).integers(0, 20, (6, 50))
    before = model.state_dict()
    poll = 0
    while True:
        poll += 1
        try:
            with interrupted_at(poll):
                model.record(tokens)
        except KeyboardInterrupt:
            for name, array in model.state_dict().items():
                assert_same_bits(array, before[name], name)
        else:
            break
    assert poll > 4
