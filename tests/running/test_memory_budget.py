"""A tape within a memory budget: no more bytes, not a bit of difference."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from test_interrupt import PRELUDE

import recurra as rc
from agreement import assert_same_bits
from array_types import Array
from cell_cases import Case, Problem, draw
from cell_runs import Outcome, assert_same_outcome, inputs, make_layer, pack, solver, unpack
from cell_variants import VARIANTS
from fresh_python import run_python
from layer_cases import LAYERS as PLAIN_LAYERS
from layer_cases import decoder
from user_layers import Scale

MODES = [(False, False, False, False), (True, False, True, True), (False, True, True, False), (True, True, True, True)]


def least(record: Callable[[int], Any]) -> int:
    """The fewest bytes that work: an error says so, and it is right."""
    with pytest.raises(ValueError, match=r"memory_budget is 0 bytes, expected at least \d+") as error:
        record(0)
    number = re.search(r"at least (\d+)", str(error.value))
    assert number is not None
    bytes_ = int(number[1])
    with pytest.raises(ValueError, match=f"expected at least {bytes_} "):
        record(bytes_ - 1)
    return bytes_


def train(problem: Problem, dtype: str, layer: Any, budget: int | None) -> tuple[Outcome, int]:
    """What training gives, with masks, and the bytes that the tape held."""
    layer.zero_grad()
    x, dy, seed = problem.x.astype(dtype), problem.dy.astype(dtype), problem.case.seed
    tape = layer.record(x, **inputs(problem, dtype), seed=seed, memory_budget=budget)
    y, state = tape.y, unpack(tape.state)
    x[...] = np.nan  # a tape owns its memory
    before = tape.nbytes
    dx, dstate = tape.backward(dy, pack(problem.dstate, dtype))
    after = tape.nbytes
    assert budget is None or before <= after <= budget
    return Outcome(y, state, dx, unpack(dstate), {name: layer.grads[name].copy() for name in problem.params}), after


def check_budgets(case: Case, dtype: str) -> None:
    problem = draw(case)
    layer = solver(problem, dtype)
    expected, whole = train(problem, dtype, layer, None)
    x, options = problem.x.astype(dtype), inputs(problem, dtype)
    fewest = least(lambda budget: layer.record(x, **options, memory_budget=budget))
    assert fewest < whole, "the case is long enough to save something"
    for budget in (fewest, (fewest + whole) // 2, whole - 1, whole):
        outcome, held = train(problem, dtype, layer, budget)
        assert_same_outcome(outcome, expected)
        assert (held == whole) == (budget == whole), "it is counted to the byte what a plain tape takes"


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_keep_their_bits(variant: str) -> None:
    """Every cell with its options: layers, directions, lengths, resets, masks; blocks that end anywhere."""
    rng = np.random.default_rng(sum(map(ord, variant)))
    for k, (bidirectional, stacked, ragged, resets) in enumerate(MODES):
        rows = int(rng.integers(2, 14))
        size = (int(rng.integers(1, 20)), int(rng.integers(2, 40)), rows, 800 // rows)
        rc.set_num_threads(1 + k % 2)
        case = Case(variant, *size, 2 if stacked else 1, bidirectional, ragged, resets, state=k % 2 == 0, seed=k)
        check_budgets(case, ["float32", "float64"][k // 2 % 2])


@pytest.mark.every_isa
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("size", [(33, 20, 1, 1300), (9, 17, 3, 500), (3, 130, 2, 700), (1, 5, 300, 9)])
@pytest.mark.parametrize("cell", ["lstm", "gru_reset_before", "min_lstm"])
def test_few_rows_and_many(cell: str, size: tuple[int, int, int, int], threads: int) -> None:
    """Where the input's product is made ahead, where threads share a row's units, where a step is a block."""
    rc.set_num_threads(threads)
    check_budgets(Case(cell, *size, ragged=size[2] > 2, seed=3), "float32")


@pytest.mark.every_isa
def test_a_stretch_of_one_step() -> None:
    """Blocks are counted from the end: the first one of 257 steps is a step alone, made again like the others."""
    check_budgets(Case("lstm", 8, 128, 1, 257, seed=3), "float32")


def test_long_sequences_take_an_eighth() -> None:
    """Of what is not the caller's. LSTM 64 to 128 on 8 rows, a tenth as long as benchmarks/memory_budget.py."""
    layer = rc.LSTM(64, 128, seed=0)
    x = np.ones((8, 2000, 64), np.float32)
    tape = layer.record(x)
    y, tape_bytes = tape.y.nbytes, tape.nbytes
    fewest = least(lambda budget: layer.record(x, memory_budget=budget))
    assert fewest - y < (tape_bytes - y) / 8
    assert fewest - y - x.nbytes < (tape_bytes - y - x.nbytes) / 20


def lengths_for(x: Any) -> Any:
    """Those of the rows of models()."""
    lengths = np.array([150, 3, 0, 70, 149, 150, 20])
    return (lengths, lengths[::-1].copy()) if isinstance(x, tuple) else lengths


def models() -> dict[str, Callable[[], tuple[Any, Any]]]:
    """Models and what they read."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((7, 150, 6), dtype=np.float32)
    tokens = rng.integers(0, 11, (7, 150))

    def tagger() -> Any:
        rnn = rc.GRU(12, 9, bidirectional=True, seed=2)
        parts = [rc.LSTM(6, 12, seed=1), rc.LayerNorm(12), rc.Dropout(0.3), rc.BatchNorm(12), rnn, rc.Linear(18, 3)]
        return rc.Sequential(rc.Embedding(11, 6, seed=0), *parts)

    def attending() -> Any:
        a, b = rc.Input(features=6), rc.Input(features=6)
        memory = rc.GRU(6, 8, seed=0)(b)
        looked = rc.AdditiveAttention(10, 8, 7, seed=1)((rc.LSTM(6, 10, seed=2)(a), memory))
        decoded = rc.AttentionDecoder(6, 8, 8, cell="lstm", attention="general", seed=3)((a, memory))
        return rc.Model((a, b), (looked, decoded))

    def classifier() -> Any:
        return rc.Sequential(rc.LSTM(6, 20, num_layers=2, return_sequences=False, seed=0), rc.Linear(20, 4, seed=1))

    def stated() -> Any:
        a = rc.Input(features=6)
        first = rc.GRU(6, 10, seed=0)
        y = first(a)
        return rc.Model(a, rc.GRU(10, 10, seed=1)(y, y.state))

    return {
        "tagger": lambda: (tagger(), tokens),
        "attending": lambda: (attending(), (x, x[:, ::-1].copy())),
        "classifier": lambda: (classifier(), x),
        "stated": lambda: (stated(), x),
    }


def outcome(model: Any, x: Any, budget: int | None, lengths: Any = None) -> tuple[list[Array], int]:
    model.zero_grad()
    tape = model.record(x, lengths=lengths, seed=5, memory_budget=budget)
    y = tape.y if isinstance(tape.y, tuple) else (tape.y,)
    dy = [np.random.default_rng(1).standard_normal(one.shape, dtype=one.dtype) for one in y]
    dx, _ = tape.backward(tuple(dy) if len(dy) > 1 else dy[0])
    dx = dx if isinstance(dx, tuple) else (dx,)
    found = [*y, *(one for one in dx if one is not None), *(model.grads[name].copy() for name in model.grads)]
    return found, tape.nbytes


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("name", models())
def test_models(name: str, ragged: bool) -> None:
    """Batch norm sees its whole batch, attention its whole memory, as they keep what they need."""
    model, x = models()[name]()
    lengths = lengths_for(x) if ragged else None
    start = model.state_dict()
    expected, whole = outcome(model, x, None, lengths)
    fewest = least(lambda budget: model.record(x, lengths=lengths, memory_budget=budget))
    for budget in (fewest, (fewest + whole) // 2, whole - 1, whole):
        model.load_state_dict(start)  # the running statistics
        found, held = outcome(model, x, budget, lengths)
        assert held <= budget
        for one, other in zip(found, expected, strict=True):
            assert_same_bits(one, other)


@pytest.mark.parametrize("name", PLAIN_LAYERS)
def test_the_bytes_of_every_layer_are_known_ahead(name: str) -> None:
    """A budget of what its tape holds fits, one byte less does not."""
    layer = PLAIN_LAYERS[name](6, "float32")
    x = np.random.default_rng(0).standard_normal((4, 23, 6), dtype=np.float32)
    _, held = outcome(layer, x, None)
    outcome(layer, x, held)
    with pytest.raises(ValueError, match=f"is {held - 1} bytes, expected at least {held} "):
        layer.record(x, memory_budget=held - 1)


@pytest.mark.parametrize("score", ["additive", "dot", "general"])
@pytest.mark.parametrize("layer_kind", ["attention", "decoder"])
def test_the_bytes_of_attention_are_known_ahead(layer_kind: str, score: str) -> None:
    rng = np.random.default_rng(0)
    if layer_kind == "decoder":
        layer: Any = decoder("lstm", score, 9, "float32")
    else:
        layer = rc.AdditiveAttention(9, 9, 7) if score == "additive" else rc.MultiplicativeAttention(9, 9, score=score)
    x = rng.standard_normal((3, 12, layer.input_size), dtype=np.float32)
    memory = rng.standard_normal((3, 8, 9 if layer_kind != "decoder" or score == "dot" else 4), dtype=np.float32)
    for lengths in (None, (np.array([5, 0, 9]), np.array([8, 2, 7]))):
        _, held = outcome(layer, (x, memory), None, lengths)
        outcome(layer, (x, memory), held, lengths)
        with pytest.raises(ValueError, match=f"expected at least {held} "):
            layer.record((x, memory), lengths=lengths, memory_budget=held - 1)


CASE = Case("lstm", 6, 17, 5, 300, 2, ragged=True, seed=4)


def small(problem: Problem, layer: Any) -> int:
    """A budget that makes nearly all again."""
    x, options = problem.x.astype("float32"), inputs(problem, "float32")
    return least(lambda budget: layer.record(x, **options, memory_budget=budget))


def test_tapes_are_used_in_any_order_on_any_thread() -> None:
    problem = draw(CASE)
    layer = solver(problem, "float32")
    expected, _ = train(problem, "float32", layer, None)
    budget = small(problem, layer)
    tapes = [
        layer.record(problem.x.astype("float32"), **inputs(problem, "float32"), memory_budget=budget) for _ in range(4)
    ]
    dy, dstate = problem.dy.astype("float32"), pack(problem.dstate, "float32")
    with ThreadPoolExecutor(2) as pool:
        for dx, _ in pool.map(lambda tape: tape.backward(dy, dstate), reversed(tapes)):
            assert_same_bits(dx, expected.dx)


def test_a_part_of_the_output() -> None:
    """dy of few steps, of none but a dstate, and no gradient of x."""
    layer = rc.LSTM(3, 9, seed=0)
    x = np.random.default_rng(0).standard_normal((4, 400, 3), dtype=np.float32)
    dy = np.zeros((4, 400, 9), np.float32)
    dy[:, 250:260] = 1
    budget = least(lambda budget: layer.record(x, memory_budget=budget))
    for gradient, dstate, input_grad in [(dy, None, True), (None, (None, dy[None, :, 251]), True), (dy, None, False)]:
        found = []
        for limit in (None, budget):
            layer.zero_grad()
            dx, _ = layer.record(x, memory_budget=limit, input_grad=input_grad).backward(gradient, dstate)
            found.append([layer.grads[name].copy() for name in layer.grads] + ([dx] if input_grad else []))
        for one, other in zip(*found, strict=True):
            assert_same_bits(one, other)


def test_changed_weights_and_closed_tapes_are_refused() -> None:
    problem = draw(CASE)
    layer = solver(problem, "float32")
    budget = small(problem, layer)
    x, dy = problem.x.astype("float32"), problem.dy.astype("float32")
    tapes = [layer.record(x, lengths=problem.lengths, memory_budget=budget) for _ in range(2)]
    tapes[1].close()
    assert tapes[1].nbytes == 0
    layer.params["bias_ih_l0"] = layer.params["bias_ih_l0"]
    with pytest.raises(ValueError, match=r"^LSTM.*changed.*record again"):
        tapes[0].backward(dy)
    with pytest.raises(ValueError, match=r"^LSTM.*closed.*record again"):
        tapes[1].backward(dy)
    assert not any(layer.grads[name].any() for name in layer.grads)


def test_batches_without_steps() -> None:
    layer = rc.LSTM(3, 5)
    for rows, steps in [(0, 4), (2, 0), (2, 3)]:
        x = np.ones((rows, steps, 3), np.float32)
        lengths = np.zeros(rows, np.int64)
        held = outcome(layer, x, None, lengths)[1]
        outcome(layer, x, held, lengths)


def test_what_does_not_work() -> None:
    layer, x = rc.LSTM(3, 5), np.ones((2, 4, 3), np.float32)
    with pytest.raises(
        ValueError, match=r"^LSTM: memory_budget is 7 bytes, expected at least \d+ for 2 rows of 4 steps"
    ):
        layer.record(x, memory_budget=7)
    with pytest.raises(ValueError, match=r"^LSTM.record: .*memory_budget.*-1"):
        layer.record(x, memory_budget=-1)
    for wrong in (1.5, "1 GB"):
        with pytest.raises(TypeError, match=r"^LSTM.record: .*memory_budget"):
            layer.record(x, memory_budget=wrong)
    with pytest.raises(ValueError, match=r"^Sequential.record: got memory_budget.*Scale.*written in Python"):
        rc.Sequential(layer, Scale(5)).record(x, memory_budget=10**9)


def test_memory_is_given_back() -> None:
    """Tapes of a budget leave nothing behind."""
    layer, x = make_layer(Case("lstm", 8, 64)), np.ones((16, 200, 8), np.float32)
    budget = least(lambda budget: layer.record(x, memory_budget=budget))

    def resident() -> int:
        with open("/proc/self/statm") as file:  # noqa: PTH123
            return int(file.read().split()[1]) * 4096

    def use() -> None:
        tape = layer.record(x, memory_budget=budget)
        tape.backward(np.ones_like(tape.y))

    for _ in range(5):
        use()
    gc.collect()
    before = resident()
    for _ in range(40):
        use()
    assert resident() - before < 2e6


@pytest.mark.parametrize(("rows", "hidden"), [(1, 16), (16, 256)])
def test_interrupts(rows: int, hidden: int) -> None:
    """Blocks so short that none of them looks at the clock, and long ones; what is left works on."""
    run_python(
        PRELUDE
        + f"""
rc.set_num_threads(1)
layer = rc.LSTM(16, {hidden}, seed=0)

def least(x):
    try:
        layer.record(x, memory_budget=0)
    except ValueError as error:
        return int(str(error).split("at least ")[1].split()[0])

def train(x):
    tape = layer.record(x, memory_budget=least(x))
    tape.backward(np.ones_like(tape.y))

def input_of(steps):
    return np.zeros(({rows}, steps, 16), np.float32)

short = input_of(3000 // {rows})
train(short)
forward = min(timed(lambda: layer.record(short)) for _ in range(4))
steps = int(0.5 / forward * short.shape[1])  # of backward, two or three times as long
x = input_of(steps)
before, budget = frozen(layer), least(x)
tape = layer.record(x, memory_budget=budget)
dy = np.ones_like(tape.y)
interrupt(lambda: tape.backward(dy), 0.3)
assert frozen(layer) == before
if {hidden} == 256:  # else most of a record is the copy of x
    interrupt(lambda: layer.record(x, memory_budget=budget), 0.1)
train(short)
"""
    )
