"""Streams: a state that is a value, in front of a model that is not touched."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import torch

import recurra as rc
from agreement import assert_same_bits
from array_types import DTYPES, Array
from cell_cases import Case, draw
from cell_runs import solver, unpack
from cell_variants import CELLS

ROWS, STEPS = 5, 12


def problem_and_layer(cell: str, dtype: str = "float32", **options: Any) -> tuple[Array, Any]:
    problem = draw(Case(cell, 3, 17, ROWS, STEPS, 2, state=False, **options))
    return problem.x.astype(dtype), solver(problem, dtype)


def small_model(**options: Any) -> Any:
    return rc.Sequential(rc.Embedding(11, 6), rc.LSTM(6, 17), rc.GRU(17, 5, 2), rc.Linear(5, 11), seed=0, **options)


def test_a_new_stream_starts_from_zero() -> None:
    _, layer = problem_and_layer("lstm")
    stream = layer.stream(batch_size=ROWS)
    assert stream.batch_size == ROWS
    for part in unpack(stream.state()):
        assert part.shape == (2, ROWS, 17)
        assert part.dtype == np.float32
        assert not part.any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELLS)
def test_the_state_is_the_layers_state(cell: str, dtype: str) -> None:
    x, layer = problem_and_layer(cell, dtype)
    stream = layer.stream(batch_size=ROWS)
    stream.process(x)
    _, expected = layer(x)
    for one, other in zip(unpack(stream.state()), unpack(expected), strict=True):
        assert_same_bits(one, other)


@pytest.mark.parametrize("cell", CELLS)
def test_a_saved_state_brings_the_same_future(cell: str) -> None:
    x, layer = problem_and_layer(cell)
    stream = layer.stream(batch_size=ROWS)
    stream.process(x[:, :5])
    saved = stream.state()
    copies = [part.copy() for part in unpack(saved)]
    future = stream.process(x[:, 5:]).copy()
    for part, copy in zip(unpack(saved), copies, strict=True):
        assert_same_bits(part, copy, "a state is a value: it does not move with its stream")
    stream.load_state(saved)
    assert_same_bits(stream.process(x[:, 5:]), future)
    other = layer.stream(batch_size=ROWS)
    other.load_state(saved)
    for part in unpack(saved):
        part[...] = 7.0
    assert_same_bits(other.process(x[:, 5:]), future, "nor its stream with it")
    _, state = layer(x[:, :5])
    other.load_state(state)
    assert_same_bits(other.process(x[:, 5:]), future, "a layer's state will do")


@pytest.mark.parametrize("cell", CELLS)
def test_reset_forgets_some_rows_or_all(cell: str) -> None:
    x, layer = problem_and_layer(cell)
    stream = layer.stream(batch_size=ROWS)
    fresh = stream.process(x).copy()
    stream.reset()
    assert_same_bits(stream.process(x), fresh)
    kept = stream.state()
    continued = stream.process(x).copy()
    for rows in ([1, 3], np.array([1, 3]), np.array([False, True, False, True, False])):
        stream.load_state(kept)
        stream.reset(rows)
        y = stream.process(x)
        assert_same_bits(y[[1, 3]], fresh[[1, 3]])
        assert_same_bits(y[[0, 2, 4]], continued[[0, 2, 4]])
    stream.load_state(kept)
    stream.reset([])
    assert_same_bits(stream.process(x), continued)


@pytest.mark.parametrize("cell", CELLS)
def test_reset_within_a_call(cell: str) -> None:
    """step(reset=(N,)) and process(reset=(N, t)): the state before that step is zero."""
    x, layer = problem_and_layer(cell)
    reset = np.random.default_rng(0).random((ROWS, STEPS)) < 0.4
    expected, _ = layer(x, reset=reset)
    stream = layer.stream(batch_size=ROWS)
    by_step = [stream.step(x[:, t], reset=reset[:, t]).copy() for t in range(STEPS)]
    assert_same_bits(np.stack(by_step, axis=1), expected)
    stream = layer.stream(batch_size=ROWS)
    assert_same_bits(stream.process(x, reset=reset), expected)


@pytest.mark.parametrize("copies", [1, 3])
@pytest.mark.parametrize("cell", CELLS)
def test_fork(cell: str, copies: int) -> None:
    """Row r becomes rows r * copies ... r * copies + copies - 1, which then go their own ways."""
    x, layer = problem_and_layer(cell)
    stream = layer.stream(batch_size=ROWS)
    stream.process(x[:, :5])
    twins = stream.fork(copies)
    assert twins.batch_size == ROWS * copies
    for one, other in zip(unpack(twins.state()), unpack(stream.state()), strict=True):
        assert_same_bits(one, np.repeat(other, copies, axis=1))
    expected = stream.process(x[:, 5:]).copy()
    assert_same_bits(twins.process(np.repeat(x[:, 5:], copies, axis=0)), np.repeat(expected, copies, axis=0))
    before = [part.copy() for part in unpack(stream.state())]
    twins.reset()
    for one, other in zip(unpack(stream.state()), before, strict=True):
        assert_same_bits(one, other)


@pytest.mark.parametrize("dtype", DTYPES)
def test_out_takes_the_result(dtype: str) -> None:
    x, layer = problem_and_layer("lstm", dtype)
    expected, _ = layer(x)
    stream = layer.stream(batch_size=ROWS)
    out = np.full((ROWS, 17), np.nan, dtype)
    for t in range(STEPS):
        assert stream.step(x[:, t], out=out) is out
        assert_same_bits(out, expected[:, t])
    stream.reset()
    whole = np.full((ROWS, STEPS, 17), np.nan, dtype)
    assert stream.process(x, out=whole) is whole
    assert_same_bits(whole, expected)


@pytest.mark.parametrize(
    "out",
    [
        np.zeros((ROWS, 18), np.float32),
        np.zeros((ROWS, 1, 17), np.float32),
        np.zeros((ROWS, 17), np.float64),
        np.zeros((17, ROWS), np.float32).T,
        np.broadcast_to(np.float32(0), (ROWS, 17)),
        [[0.0] * 17] * ROWS,
    ],
    ids=["shape", "rank", "dtype", "strides", "read-only", "list"],
)
def test_an_out_that_cannot_take_it(out: Any) -> None:
    """Refused before anything happens: the state is as it was."""
    x, layer = problem_and_layer("gru")
    stream = layer.stream(batch_size=ROWS)
    stream.step(x[:, 0])
    before = unpack(stream.state())[0].copy()
    with pytest.raises((ValueError, TypeError), match=r"^GRU\b.*\bout\b"):
        stream.step(x[:, 1], out=out)
    assert_same_bits(unpack(stream.state())[0], before)


class Tagged(np.ndarray):
    """A subclass of ndarray."""


def spread(array: Array) -> Array:
    """The same values with gaps between the rows."""
    return np.repeat(array, 2, axis=0)[::2]


def misaligned(array: Array) -> Array:
    raw = np.zeros(array.nbytes + 1, np.uint8)[1:]
    raw[:] = np.frombuffer(array.tobytes(), np.uint8)
    return raw.view(array.dtype).reshape(array.shape)


@pytest.mark.parametrize(
    "form",
    [
        lambda x: x,
        spread,
        misaligned,
        np.asfortranarray,
        lambda x: np.repeat(x, 2, axis=1)[:, ::2],
        lambda x: x[::-1].copy()[::-1],
        lambda x: x.view(Tagged),
        lambda x: x.astype(x.dtype.newbyteorder()).view(x.dtype.newbyteorder()).astype(x.dtype),
    ],
    ids=["plain", "gaps", "misaligned", "fortran", "columns apart", "reversed", "subclass", "swapped back"],
)
@pytest.mark.parametrize("rows", [1, ROWS])
def test_steps_take_arrays_however_they_lie(form: Any, rows: int) -> None:
    x, layer = problem_and_layer("gru")
    x = x[:rows]
    reset = np.random.default_rng(0).random((rows, STEPS)) < 0.4
    expected, _ = layer(x, reset=reset)
    stream = layer.stream(batch_size=rows)
    out = spread(np.zeros((rows, 17), np.float32))
    for t in range(STEPS):
        y = stream.step(form(x[:, t].copy()), reset[:, t], out if t % 2 else None)
        assert_same_bits(y, expected[:, t])


def test_steps_take_tokens_however_they_lie() -> None:
    model = small_model()
    tokens = np.random.default_rng(0).integers(0, 11, (ROWS, STEPS))
    expected, _ = model(tokens)
    for form in (np.copy, spread, misaligned, lambda x: x.astype(np.int32), lambda x: x.astype(">i8")):
        stream = model.stream(batch_size=ROWS)
        for t in range(3):
            assert_same_bits(stream.step(form(tokens[:, t].copy())), expected[:, t])
        for wrong in (-1, 11):
            with pytest.raises(ValueError, match=f"token {wrong}"):
                stream.step(np.full(ROWS, wrong))


def test_the_arguments_of_a_step() -> None:
    x, layer = problem_and_layer("gru")
    expected = layer(x)[0][:, 0]
    stream = layer.stream(batch_size=ROWS)
    step, out = x[:, 0], np.zeros((ROWS, 17), np.float32)
    names = {"X".lower(): step, "OUT".lower(): out}  # strings of their own
    for arguments, named in [((step,), {}), ((), {"x": step}), ((step, None), {"out": out}), ((), names)]:
        stream.reset()
        assert_same_bits(stream.step(*arguments, **named), expected)
    wrong: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        ((), {}),
        ((), {"out": out}),
        ((step, None, out, None, None), {}),
        ((step,), {"x": step}),
        ((step,), {"rest": None}),
    ]
    kept = stream.state()
    for arguments, named in wrong:
        with pytest.raises(TypeError, match="step"):
            stream.step(*arguments, **named)
    for one, other in zip(unpack(kept), unpack(stream.state()), strict=True):
        assert_same_bits(one, other)


def test_results_of_steps_are_the_callers_own() -> None:
    """Without out=, every result is an array of its own."""
    x, layer = problem_and_layer("gru")
    stream = layer.stream(batch_size=ROWS)
    first = stream.step(x[:, 0])
    kept = first.copy()
    stream.step(x[:, 1])
    assert_same_bits(first, kept)


def test_streams_of_one_model_do_not_meet() -> None:
    x, layer = problem_and_layer("lstm")
    expected, _ = layer(x)
    one, other = layer.stream(batch_size=ROWS), layer.stream(batch_size=2)
    for t in range(STEPS):
        assert_same_bits(one.step(x[:, t]), expected[:, t])
        assert_same_bits(other.step(x[3:, t]), expected[3:, t])


def test_a_stream_follows_its_models_weights() -> None:
    x, layer = problem_and_layer("gru")
    stream = layer.stream(batch_size=ROWS)
    stream.step(x[:, 0])
    layer.params["weight_ih_l0"] = layer.params["weight_ih_l0"] * np.float32(0.5)
    stream.reset()
    assert_same_bits(stream.process(x), layer(x)[0])


def test_steps_follow_the_weights_too() -> None:
    x, layer = problem_and_layer("gru")
    stream, other = layer.stream(batch_size=ROWS), layer.stream(batch_size=ROWS)
    for t in range(3):
        assert_same_bits(stream.step(x[:, t]), other.step(x[:, t]))
        layer.params["weight_ih_l0"] = layer.params["weight_ih_l0"] * np.float32(0.5)
    stream.reset()
    with layer.edit() as params:
        params["weight_hh_l0"][...] *= np.float32(0.5)
    assert_same_bits(np.stack([stream.step(x[:, t]) for t in range(STEPS)], axis=1), layer(x)[0])


def test_a_model_streams() -> None:
    model = small_model()
    tokens = np.random.default_rng(0).integers(0, 11, (ROWS, STEPS))
    expected, _ = model(tokens)
    stream = model.stream(batch_size=ROWS)
    by_step = [stream.step(tokens[:, t]) for t in range(STEPS)]
    assert by_step[0].shape == (ROWS, 11)
    assert_same_bits(np.stack(by_step, axis=1), expected)
    state = stream.state()
    assert len(state) == 4
    assert state[0] is None
    assert [part.shape for part in state[1]] == [(1, ROWS, 17)] * 2
    assert state[2].shape == (2, ROWS, 5)
    assert state[3] is None
    twins = stream.fork(3)
    stream.load_state(state)
    again = stream.process(tokens)
    assert_same_bits(twins.process(np.repeat(tokens, 3, axis=0)), np.repeat(again, 3, axis=0))


def test_dropout_is_for_training() -> None:
    layer = rc.LSTM(3, 17, 2, dropout=0.5, seed=0)
    x = draw(Case("lstm", 3, 17, ROWS, STEPS)).x.astype("float32")
    assert_same_bits(layer.stream(batch_size=ROWS).process(x), layer(x)[0])


@pytest.mark.parametrize(
    "make",
    [
        lambda: rc.LSTM(3, 5, bidirectional=True),
        lambda: rc.GRU(3, 5, return_sequences=False),
        lambda: rc.Sequential(rc.GRU(3, 5), rc.RNN(5, 5, bidirectional=True)),
    ],
    ids=["bidirectional", "last output only", "bidirectional in a model"],
)
def test_what_cannot_be_streamed(make: Any) -> None:
    with pytest.raises(ValueError, match=r"^\w+.stream: got .*expected .*; "):
        make().stream(batch_size=1)


def test_no_rows_and_no_steps() -> None:
    x, layer = problem_and_layer("lstm")
    empty = layer.stream(batch_size=0)
    assert empty.step(x[:0, 0]).shape == (0, 17)
    stream = layer.stream(batch_size=ROWS)
    stream.process(x[:, :5])
    before = [part.copy() for part in unpack(stream.state())]
    assert stream.process(x[:, :0]).shape == (ROWS, 0, 17)
    for one, other in zip(unpack(stream.state()), before, strict=True):
        assert_same_bits(one, other)


def test_a_stream_in_use_refuses_another_thread() -> None:
    """And goes on as if nothing had happened."""
    layer = rc.LSTM(32, 256, seed=0)
    x = np.random.default_rng(0).standard_normal((1, 5000, 32), dtype=np.float32)
    stream = layer.stream(batch_size=1)
    calls = {
        "step": lambda: stream.step(x[:, 0]),
        "process": lambda: stream.process(x[:, :2]),
        "state": stream.state,
        "reset": stream.reset,
        "load_state": lambda: stream.load_state(layer.init_state(1)),
        "fork": lambda: stream.fork(2),
    }
    refused: set[str] = set()
    with ThreadPoolExecutor(1) as pool:
        for _ in range(100):  # until all have met the other thread
            future = pool.submit(stream.process, x)
            while not future.done() and refused != set(calls):
                for name, call in calls.items():
                    try:
                        call()
                    except ValueError as error:
                        assert "in use by a call that is under way" in str(error)  # noqa: PT017 - only some calls raise
                        refused.add(name)
            if refused == set(calls):
                break
        future.exception()  # it may have come too late itself
    assert refused == set(calls)
    stream.reset()
    assert_same_bits(stream.process(x[:, :9]), layer(x[:, :9])[0])


def test_one_stream_on_two_threads_does_not_crash() -> None:
    """Its calls may be refused or take turns; the process and the stream survive."""
    x, layer = problem_and_layer("lstm")
    stream = layer.stream(batch_size=ROWS)

    def work() -> None:
        for _ in range(200):
            with suppress(ValueError, RuntimeError):
                assert np.isfinite(stream.process(x)).all()
                stream.fork(2)
                stream.reset()

    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(work) for _ in range(4)]:
            future.result()
    stream.reset()
    assert_same_bits(stream.process(x), layer(x)[0])


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_torch_tensors_are_states_too(cell: str) -> None:
    """As they are x."""
    x, layer = problem_and_layer(cell)
    _, state = layer(x)
    tensors = torch.from_numpy(state) if cell == "gru" else tuple(torch.from_numpy(one) for one in state)
    assert_same_bits(layer(torch.from_numpy(x), tensors)[0], layer(x, state)[0])
    one, other = layer.stream(batch_size=ROWS), layer.stream(batch_size=ROWS)
    one.load_state(tensors)
    other.load_state(state)
    assert_same_bits(one.process(x), other.process(x))
    results = []
    for dstate in (state, tensors):
        tape = layer.record(x, dstate)
        results.append(tape.backward(tape.y, dstate)[0])
    assert_same_bits(*results)
