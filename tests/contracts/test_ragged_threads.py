"""Every native layer over every raggedness with every number of threads: what they share out changes no bit.

However few the rows, however short or unequal: no rows, one, fewer than threads, all empty, one long among others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from zlib import crc32

import numpy as np
import pytest

import recurra as rc
from agreement import assert_same_bits
from array_types import DTYPES, Array
from cell_cases import Case, draw
from cell_runs import solver
from cell_variants import VARIANTS
from conftest import THREADS
from layer_cases import LAYERS, STREAMED, make
from recurra import _core

COUNTS = [count for count in THREADS if count]
STEPS = 11

#: The lengths of a batch; None: all are full.
RAGGED: dict[str, list[int] | None] = {
    "no rows": [],
    "one row": [STEPS],
    "one empty row": [0],
    "two rows": [STEPS, 3],
    "all empty": [0] * 19,
    "one step each": [1] * 19,
    "one long, then empty": [STEPS, *[0] * 18],
    "one long, then short": [STEPS, *[1] * 18],
    "one long after short": [*[1] * 18, STEPS],
    "one long among empty": [*[0] * 9, STEPS, *[0] * 9],
    "two long, then empty": [STEPS, STEPS, *[0] * 70],
    "falling": [row // 2 for row in range(2 * STEPS, -1, -1)],
    "random": np.random.default_rng(3).integers(0, STEPS + 1, 19).tolist(),
    "dense": None,
}


def raggedness(test: Callable[..., None]) -> Callable[..., None]:
    return pytest.mark.parametrize("lengths", RAGGED.values(), ids=RAGGED)(test)  # type: ignore[no-any-return]


@pytest.fixture
def counts(request: pytest.FixtureRequest) -> list[int]:
    """A number of threads that follows from the test's name: between them the tests have all."""
    return [COUNTS[crc32(request.node.name.encode()) % len(COUNTS)]]


def assert_same_on_threads(run: Callable[[], dict[str, Array]], counts: Sequence[int], lengths: str = "") -> None:
    rc.set_num_threads(1)
    expected = run()
    _core.set_eager(True)
    for count in counts:
        rc.set_num_threads(count)
        for name, array in run().items():
            assert_same_bits(array, expected[name], f"{name} on {count} threads, {lengths}")


def recorded(layer: Any, x: Any, lengths: Any, **options: Any) -> dict[str, Array]:
    """Inference, a recorded forward and its backward: outputs, states and gradients, those of the state among them."""
    layer.zero_grad()
    y, state = outputs(layer(x, lengths=lengths, **options))
    tape = layer.record(x, lengths=lengths, training=False, **options)
    dy = np.random.default_rng(1).standard_normal(tape.y.shape).astype(tape.y.dtype)
    dx, dstate = tape.backward(dy, tape.state)
    found = {"y": y, "recorded y": tape.y, "dx": dx, **{f"d{name}": layer.grads[name].copy() for name in layer.grads}}
    for name, parts in (("state", state), ("recorded state", tape.state), ("dstate", dstate)):
        for index, part in enumerate(parts if isinstance(parts, tuple) else (parts,)):
            found[f"{name} {index}"] = part
    return {name: array for name, array in flat(found).items() if array is not None}


def outputs(made: Any) -> tuple[Any, Any]:
    """Of a call: y and the state, which layers without one do not return."""
    return made if isinstance(made, tuple) else (made, None)


def flat(arrays: dict[str, Any]) -> dict[str, Any]:
    """With the members of tuples under names of their own."""
    return {
        f"{name} {index}": member
        for name, array in arrays.items()
        for index, member in enumerate(array if isinstance(array, tuple) else (array,))
    }


def streamed(layer: Any, x: Array, rows: int) -> dict[str, Array]:
    stream = layer.stream(rows)
    parts = [stream.process(x[:, begin:end]) for begin, end in ((0, 5), (5, 6), (6, 6), (6, STEPS))]
    step = stream.step(x[:, 0])
    return {"parts": np.concatenate(parts, axis=1), "step": step}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", VARIANTS)
def test_recurrent_layers(cell: str, dtype: str) -> None:
    """Every cell with every option; two layers, both ways. Numbers of threads take turns over the raggednesses."""
    problem = draw(Case(cell, 3, 18, 80, STEPS, 2, bidirectional=True))
    layer = solver(problem, dtype)
    for turn, (name, lengths) in enumerate(RAGGED.items()):
        rows = 19 if lengths is None else len(lengths)
        reset = np.random.default_rng(2).random((rows, STEPS)) < 0.1
        run = partial(recorded, layer, problem.x[:rows].astype(dtype), lengths, reset=reset)
        assert_same_on_threads(run, COUNTS[turn % len(COUNTS) :][:1], name)


@pytest.mark.parametrize("dtype", DTYPES)
@raggedness
@pytest.mark.parametrize("cell", ["rnn_tanh", "lstm", "gru", "gru_reset_before", "min_gru"])
def test_recurrent_layers_whose_rows_are_few(
    cell: str, lengths: list[int] | None, dtype: str, counts: list[int]
) -> None:
    """Threads share the panels of wide layers, and training masks what it drops."""
    rows = 19 if lengths is None else len(lengths)
    problem = draw(Case(cell, 8, 100, max(rows, 1), STEPS))
    layer = solver(problem, dtype)
    x = problem.x[:rows].astype(dtype)
    assert_same_on_threads(lambda: recorded(layer, x, lengths), counts)
    if lengths is None:
        assert_same_on_threads(lambda: streamed(layer, x, rows), counts)
        assert_same_on_threads(lambda: streamed(layer, x[:1], 1), counts)
        assert_same_on_threads(lambda: streamed(layer, x[:0], 0), counts)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("others", [0, 1])
def test_one_long_row_among_64(others: int, dtype: str) -> None:
    """On every number of threads: fewer than the rows, more than the rows that go on."""
    layer = rc.LSTM(64, 128, dtype=dtype, seed=0)
    x = np.random.default_rng(3).standard_normal((64, 60, 64)).astype(dtype)
    assert_same_on_threads(lambda: recorded(layer, x, [60, *[others] * 63]), range(3, 17))


@pytest.mark.parametrize("dtype", DTYPES)
@raggedness
@pytest.mark.parametrize("name", LAYERS)
def test_other_layers(name: str, lengths: list[int] | None, dtype: str, counts: list[int]) -> None:
    layer = make(name, 17, dtype)
    rows = 19 if lengths is None else len(lengths)
    x = np.random.default_rng(4).standard_normal((rows, STEPS, 17)).astype(dtype)
    assert_same_on_threads(lambda: recorded(layer, x, lengths), counts)
    if lengths is None and name in STREAMED:
        assert_same_on_threads(lambda: streamed(layer, x, rows), counts)
        assert_same_on_threads(lambda: streamed(layer, x[:0], 0), counts)


#: Layers of two inputs of 17 features each, over one time axis or two.
OF_TWO: dict[str, Callable[[str], Any]] = {
    "Add": lambda dtype: rc.Add(dtype=dtype),
    "Multiply": lambda dtype: rc.Multiply(dtype=dtype),
    "Subtract": lambda dtype: rc.Subtract(dtype=dtype),
    "Average": lambda dtype: rc.Average(dtype=dtype),
    "Maximum": lambda dtype: rc.Maximum(dtype=dtype),
    "Concatenate": lambda dtype: rc.Concatenate(dtype=dtype),
    "AdditiveAttention": lambda dtype: rc.AdditiveAttention(17, 17, 9, dtype=dtype, seed=0),
    "MultiplicativeAttention": lambda dtype: rc.MultiplicativeAttention(17, 17, score="general", dtype=dtype, seed=0),
    "Hopfield, Attention": lambda dtype: rc.Hopfield(17, steps=3, tolerance=0.1, dtype=dtype),
    "AttentionDecoder": lambda dtype: rc.AttentionDecoder(17, 33, 17, dtype=dtype, seed=0),
    "AttentionDecoder, dot": lambda dtype: rc.AttentionDecoder(17, 17, 17, attention="dot", dtype=dtype, seed=0),
}


@pytest.mark.parametrize("dtype", DTYPES)
@raggedness
@pytest.mark.parametrize("name", OF_TWO)
def test_layers_of_two_inputs(name: str, lengths: list[int] | None, dtype: str, counts: list[int]) -> None:
    layer = OF_TWO[name](dtype)
    rows = 19 if lengths is None else len(lengths)
    x = tuple(np.random.default_rng(seed).standard_normal((rows, STEPS, 17)).astype(dtype) for seed in (5, 6))
    other = [STEPS - length for length in lengths] if "Attention" in name and lengths else lengths
    assert_same_on_threads(lambda: recorded(layer, x, None if lengths is None else (lengths, other)), counts)


@pytest.mark.parametrize("dtype", DTYPES)
@raggedness
def test_models(lengths: list[int] | None, dtype: str, counts: list[int]) -> None:
    """Tokens, dense layers, dropout, layers that read from the end, and the optimisers behind them."""
    model = rc.Sequential(
        rc.Embedding(30, 17, dtype=dtype, seed=0),
        rc.Reverse(dtype=dtype),
        rc.Dropout(0.3, dtype=dtype),
        rc.LSTM(17, 20, dtype=dtype, seed=1),
        rc.Linear(20, 300, dtype=dtype, seed=2),
    )
    rows = 19 if lengths is None else len(lengths)
    tokens = np.random.default_rng(7).integers(0, 30, (rows, STEPS))
    first = model.state_dict()

    def train() -> dict[str, Array]:
        model.load_state_dict(first)
        optimizer = rc.optim.Adam(0.01)
        for seed in range(2):
            tape = model.record(tokens, lengths=lengths, seed=seed)
            tape.backward(np.ones_like(tape.y))
            optimizer.step(model)
            model.zero_grad()
        return {name: array.copy() for name, array in model.state_dict().items()}

    assert_same_on_threads(train, counts)


@pytest.mark.parametrize("dtype", DTYPES)
@raggedness
def test_losses(lengths: list[int] | None, dtype: str, counts: list[int]) -> None:
    rng = np.random.default_rng(8)
    rows = 19 if lengths is None else len(lengths)
    scores = rng.standard_normal((rows, STEPS, 6)).astype(dtype)
    labels, values = rng.integers(0, 6, (rows, STEPS)), rng.random((rows, STEPS, 6)).astype(dtype)
    text = np.where(np.arange(9) < rng.integers(0, 10, (rows, 1)), rng.integers(1, 6, (rows, 9)), -1)
    losses = [
        (rc.losses.CrossEntropy(), labels),
        (rc.losses.MeanSquaredError(), values),
        (rc.losses.BinaryCrossEntropy(), values),
        (rc.losses.CTC(), text),
    ]

    def run() -> dict[str, Array]:
        found = {}
        for loss, targets in losses:
            got = loss(scores, targets, lengths=lengths)
            found |= {f"{loss} sum": np.float64(got.sum), f"{loss} gradient": got.gradient}
        found["greedy"] = np.array([repr(row) for row in rc.ctc.greedy(scores, lengths=lengths)])
        found["beam"] = np.array([repr(row) for row in rc.ctc.beam_search(scores, lengths=lengths, beam_size=4)])
        return found

    assert_same_on_threads(run, counts)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [0, 1, 2, 5, 19])
def test_search(rows: int, dtype: str, counts: list[int]) -> None:
    layers = (
        rc.Embedding(9, 5, dtype=dtype, seed=0),
        rc.AttentionDecoder(5, 7, 4, dtype=dtype, seed=1),
        rc.Linear(7, 9, dtype=dtype, seed=2),
    )
    memory = np.random.default_rng(9).standard_normal((rows, 6, 4)).astype(dtype)
    lengths = [6, *[0] * (rows - 1)][:rows]

    def run() -> dict[str, Array]:
        found = rc.search.beam_search(
            layers, start=0, end=1, max_steps=8, beam_size=3, memory=memory, memory_lengths=lengths
        )
        return {
            name: np.asarray(getattr(found, name)) for name in ("tokens", "lengths", "scores", "log_probs", "weights")
        }

    assert_same_on_threads(run, counts)
