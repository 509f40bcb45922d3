"""Memory: docs/memory.md's formula against what tapes hold, and no growth, whatever shapes calls have."""

from __future__ import annotations

import json
import re
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import recurra as rc
from cell_cases import Case
from cell_runs import make_layer
from fresh_python import run_python
from scripts import load_script

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
CELLS = {
    "lstm": "LSTM",
    "gru": "GRU",
    "gru_reset_before": "GRU_RESET_BEFORE",
    "rnn_tanh": "RNN",
    "min_gru": "MIN_GRU",
    "min_lstm": "MIN_LSTM",
}
SIZES = [(3, 5, 13, 17), (1, 24, 64, 40), (40, 67, 33, 20), (17, 129, 9, 30), (8, 40, 1, 500)]  # I, H, N, T
SLACK = 64 << 10  # arrays begin at lines and pages
MEBIBYTE = 1 << 20


@pytest.fixture(scope="module")
def memory() -> ModuleType:
    return load_script("benchmarks/memory.py")


def assert_near(actual: int, expected: int) -> None:
    assert abs(actual - expected) <= 0.1 * expected + SLACK, (actual, expected)


def shape(memory: ModuleType, case: Case, dtype: str, lengths: Any) -> Any:
    valid = case.rows * case.steps if lengths is None else int(lengths.sum())
    longest = case.steps if lengths is None else int(lengths.max())
    directions = case.slots // case.num_layers
    sizes = (case.input_size, case.hidden_size, case.num_layers, directions, case.rows, case.steps, valid, longest)
    cell, vector = getattr(memory, CELLS[case.cell]), memory.VECTOR_BYTES[rc.isa()]
    return memory.Shape(cell, *sizes, e=np.dtype(dtype).itemsize, vector=vector)


@pytest.mark.every_isa
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("cell", CELLS)
def test_the_formula_says_what_a_tape_holds(memory: ModuleType, cell: str, dtype: str) -> None:
    """Before its backward, and after it with the gradients it has summed up."""
    options = product(SIZES, (1, 3), (False, True), (False, True))
    for k, (size, layers, bidirectional, ragged) in enumerate(options):
        case = Case(cell, *size, layers, bidirectional)
        lengths = np.random.default_rng(k).integers(1, case.steps + 1, case.rows) if ragged else None
        layer = make_layer(case, dtype, dropout=0.5 if k % 3 == 0 and layers > 1 else 0.0)
        x = np.ones((case.rows, case.steps, case.input_size), dtype)
        reset = np.zeros(x.shape[:2], bool) if k % 5 == 0 else None
        state = layer(x[:, :1])[1] if k % 2 else None
        tape = layer.record(x, state, lengths=lengths, reset=reset)
        s = shape(memory, case, dtype, lengths)
        expected = memory.tape(
            s, state=state is not None, lengths=ragged, reset=reset is not None, dropout=k % 3 == 0 and layers > 1
        )
        before = tape.nbytes
        assert_near(before, expected)
        tape.backward(np.ones_like(tape.y))
        assert_near(tape.nbytes - before, memory.gradients(s))


def test_only_valid_steps_have_saved_values(memory: ModuleType) -> None:
    """Half of the area costs half of what is not x and y."""
    case = Case("lstm", 8, 64, 32, 100)
    layer, x = make_layer(case), np.ones((32, 100, 8), np.float32)
    dense, half = (layer.record(x, lengths=np.full(32, steps)).nbytes for steps in (100, 50))
    assert_near(dense - half, 4 * 32 * 50 * 64 * 5)


LINUX = pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux")


def growth(call: str) -> dict[str, int]:
    """In a process of its own: what other tests have left would be found again here."""
    folder = str(BENCHMARKS)
    printed = run_python(f"import sys, json; sys.path.insert(0, {folder!r}); import memory; print(json.dumps({call}))")
    result: dict[str, int] = json.loads(printed)
    return result


@LINUX
def test_calls_of_many_shapes_do_not_grow() -> None:
    """Plain, recorded and run backwards, streamed; all cells; rows, steps and lengths drawn anew for every call."""
    assert growth("memory.measure_growth(4000)")["growth"] < MEBIBYTE


@LINUX
def test_big_calls_do_not_grow() -> None:
    """Of megabytes, where arenas are made of huge pages and the allocator asks the system."""
    assert growth("memory.measure_growth(150, rows=256, steps=150, warm_up=60)")["growth"] < MEBIBYTE


@LINUX
def test_a_stream_does_not_grow() -> None:
    """Nothing is allocated from step to step, nor from chunk to chunk."""
    assert growth("memory.measure_stream_growth(100_000)")["growth"] < MEBIBYTE / 8


def test_want_of_memory_says_what_wanted_how_much() -> None:
    code = """
        import resource
        import numpy as np
        import recurra as rc
        layer = rc.LSTM(64, 64)
        resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
        x = np.broadcast_to(np.zeros(64, np.float32), (64, 200000, 64))
        long = np.broadcast_to(np.zeros(2, np.float32), (1, 10**8, 2))
        tags = np.broadcast_to(0, (1, 10**8))
        crf = rc.losses.CRF(rc.CRF(2))
        for call in (lambda: layer.record(x), lambda: rc.Linear(1 << 15, 1 << 15), lambda: layer.stream(1 << 30),
                     lambda: crf(long, tags)):
            try:
                call()
            except MemoryError as error:
                print(error)
    """
    first, second, *others = run_python(code).splitlines()
    assert re.match(r"LSTM: no memory for \d+ bytes, with x of shape \(64, 200000, 64\); give fewer rows", first)
    assert re.match(
        r"Parameters: no memory for \d+ bytes: there are 1073774592 numbers, .*; make the layer smaller", second
    )
    assert len(others) == 2
    for one in others:
        assert re.search("(no memory for .*; give fewer rows|Unable to allocate)", one), one
