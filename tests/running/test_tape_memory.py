"""A tape in memory of the caller's: the same bits, wherever its bytes are moved, however often it is opened."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_memory_budget import MODES, least, lengths_for, models

import recurra as rc
from agreement import assert_same_bits
from array_types import Array
from cell_cases import Case, draw
from cell_runs import inputs, pack, solver
from cell_variants import VARIANTS
from fresh_python import run_python
from layer_cases import LAYERS as PLAIN_LAYERS
from layer_cases import decoder
from user_layers import Scale

GUARD, FILL = 256, 0xA5


class Room:
    """Bytes for a tape, `shift` behind a multiple of 64, between others that nothing may touch."""

    def __init__(self, size: int, shift: int = 0) -> None:
        self.whole = np.full(size + 2 * GUARD + 64, FILL, np.uint8)
        begin = -self.whole.ctypes.data % 64 + GUARD + shift
        self.bytes = self.whole[begin : begin + size]
        self._around = (self.whole[:begin], self.whole[begin + size :])

    def is_untouched_outside(self) -> bool:
        return all((part == FILL).all() for part in self._around)


def moved(memory: Array, shift: int = 64) -> Array:
    """A copy elsewhere, only to be read; what it is a copy of is spoilt."""
    room = Room(memory.size, shift)
    room.bytes[...] = memory
    memory[...] = FILL
    room.bytes.flags.writeable = False
    return room.bytes


def parts(value: Any) -> list[Array]:
    """The arrays in what a call takes or gives."""
    if isinstance(value, tuple | list):
        return [array for one in value for array in parts(one)]
    return [] if value is None else [value]


def finish(layer: Any, tape: Any, dstate: Any = None) -> list[Array]:
    """All that a tape gives, its backward included."""
    layer.zero_grad()
    y = [one.copy() for one in parts(tape.y)]
    dy = [np.random.default_rng(1).standard_normal(one.shape).astype(one.dtype) for one in y]
    dx, dinitial = tape.backward(tuple(dy) if len(dy) > 1 else dy[0], dstate)
    found = [*y, *parts(tape.state), *parts(dx), *parts(dinitial)]
    return found + [layer.grads[name].copy() for name in layer.grads]


def assert_same(found: list[Array], expected: list[Array]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert_same_bits(one, other)


def check_memory(layer: Any, x: Any, dstate: Any = None, budget: int | None = None, **options: Any) -> None:
    """By a tape of its own; by one in a room of just its size; by that, moved and opened again, with a call between."""
    shape = tuple(one.shape for one in x) if isinstance(x, tuple) else x.shape
    given = {name: options.get(name) is not None for name in ("reset", "state")}
    size = layer.tape_bytes(shape, options.get("lengths"), **given, memory_budget=budget)
    options |= {"seed": 3, "memory_budget": budget}
    start = layer.state_dict()
    expected = finish(layer, layer.record(x, **options), dstate)
    room = Room(size)
    for less in (1, 64, size):
        with pytest.raises(ValueError, match=rf"got memory of {size - less} bytes.*expected at least {size};"):
            layer.record(x, **options, memory=room.bytes[: size - less])
    layer.load_state_dict(start)  # running statistics
    assert_same(finish(layer, layer.record(x, **options, memory=room.bytes), dstate), expected)
    assert room.is_untouched_outside()
    memory = moved(room.bytes)
    before = memory.copy()
    layer.record(x, **{**options, "seed": 4}, memory=room.bytes)
    once, again = layer.open_tape(memory), layer.open_tape(memory)
    assert_same(finish(layer, again, dstate), expected)
    assert_same(finish(layer, once, dstate), expected)
    assert_same(finish(layer, layer.open_tape(moved(before.copy(), 1)), dstate), expected)  # not aligned
    assert_same_bits(memory, before)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_cell_keeps_its_bits(variant: str) -> None:
    """With its options: layers, directions, lengths, resets, states, masks, both types; and checkpointed."""
    for k, (bidirectional, stacked, ragged, resets) in enumerate(MODES):
        dtype = ["float32", "float64"][k // 2 % 2]
        case = Case(variant, 3, 17, 4, 90, 2 if stacked else 1, bidirectional, ragged, resets, state=k % 2 == 0, seed=k)
        problem = draw(case)
        layer = solver(problem, dtype)
        x, options = problem.x.astype(dtype), inputs(problem, dtype)
        options = {name: value for name, value in options.items() if value is not None}
        dstate = pack(problem.dstate, dtype)
        check_memory(layer, x, dstate, **options)
        fewest = least(
            lambda budget, *, layer=layer, x=x, options=options: layer.record(x, **options, memory_budget=budget)
        )
        check_memory(layer, x, dstate, fewest + 4096, **options)  # with what the bytes say about themselves


@pytest.mark.parametrize("name", PLAIN_LAYERS)
def test_every_layer_keeps_its_bits(name: str) -> None:
    layer = PLAIN_LAYERS[name](6, "float32")
    check_memory(layer, np.random.default_rng(0).standard_normal((4, 23, 6), dtype=np.float32))


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("name", models())
def test_models_keep_their_bits(name: str, ragged: bool) -> None:
    model, x = models()[name]()
    lengths = lengths_for(x) if ragged else None
    check_memory(model, x, lengths=lengths)


@pytest.mark.parametrize("score", ["additive", "dot", "general"])
def test_decoders_keep_their_bits(score: str) -> None:
    layer = decoder("lstm", score, 9, "float32")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 12, layer.input_size), dtype=np.float32)
    memory = rng.standard_normal((3, 8, 9 if score == "dot" else 4), dtype=np.float32)
    check_memory(layer, (x, memory), lengths=(np.array([5, 0, 9]), np.array([8, 2, 7])))


def test_the_size_for_dense_rows_is_enough_for_any() -> None:
    """A framework that compiles for shapes does not know the lengths yet."""
    rng = np.random.default_rng(0)
    model = rc.Sequential(
        rc.Embedding(11, 5),
        rc.Conv1d(5, 6, 3, padding="causal"),
        rc.LSTM(6, 9, bidirectional=True),
        rc.Linear(18, 2),
        seed=0,
    )
    for _ in range(60):
        rows, steps = int(rng.integers(0, 9)), int(rng.integers(1, 300))
        lengths = rng.integers(0, steps + 1, rows)
        size = model.tape_bytes((rows, steps))
        assert model.tape_bytes((rows, steps), lengths) <= size
        x = rng.integers(0, 11, (rows, steps))
        dense = Room(size)
        tape = model.record(x, lengths=lengths, seed=0, memory=dense.bytes)
        assert_same(finish(model, tape), finish(model, model.record(x, lengths=lengths, seed=0)))
        assert_same(finish(model, model.open_tape(moved(dense.bytes))), finish(model, model.record(x, lengths=lengths)))


X = np.random.default_rng(0).standard_normal((4, 20, 3), dtype=np.float32)


@pytest.mark.parametrize("count", [2, 3, 11])
def test_a_layer_of_any_number_of_inputs_opens_it_as_recorded(count: int) -> None:
    """Also one that has not been called with as many, as in another process."""
    x = tuple(X + index for index in range(count))
    memory = Room(rc.Add().tape_bytes((X.shape,) * count)).bytes
    rc.Add().record(x, memory=memory)
    dx, _state = rc.Add().open_tape(memory).backward(np.ones_like(X))
    assert len(dx) == count
    with pytest.raises(ValueError, match=r"^Multiply: got memory"):
        rc.Multiply().open_tape(memory)


def recorded(layer: Any, x: Array = X, **options: Any) -> Array:
    memory = Room(layer.tape_bytes(x.shape)).bytes
    layer.record(x, **options, memory=memory)
    return memory


def test_memory_that_does_not_fit_is_refused() -> None:
    layer = rc.LSTM(3, 5, seed=0)
    size = layer.tape_bytes(X.shape)
    with pytest.raises(ValueError, match=r"^LSTM: got memory that begins 3 bytes behind a multiple of 64"):
        layer.record(X, memory=Room(size, 3).bytes)
    frozen = Room(size).bytes
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match=r"^LSTM\.record: got memory that is read-only"):
        layer.record(X, memory=frozen)
    with pytest.raises(TypeError, match=r"^LSTM\.record: got memory of float32, expected uint8"):
        layer.record(X, memory=np.zeros(size, np.float32))
    for wrong in (np.zeros((2, size), np.uint8), np.zeros(2 * size, np.uint8)[::2]):
        with pytest.raises(ValueError, match=r"^LSTM\.record: .*expected one contiguous axis"):
            layer.record(X, memory=wrong)
    with pytest.raises(ValueError, match=r"^LSTM\.record: got a mask, or x without a batch axis"):
        layer.record(X[0], memory=Room(size).bytes)
    with pytest.raises(ValueError, match=r"^LSTM\.record: got a mask, or x without a batch axis"):
        layer.record(X, mask=np.ones((4, 20), bool), memory=Room(size).bytes)
    with pytest.raises(ValueError, match="without a batch axis"):
        layer.tape_bytes(X.shape[1:])
    with pytest.raises(TypeError, match=r"^LSTM\.tape_bytes: got shape 5, expected a shape"):
        layer.tape_bytes(5)
    with pytest.raises(ValueError, match="expected 3"):
        layer.tape_bytes((4, 20, 7))


def test_layers_written_in_python_are_refused() -> None:
    model = rc.Sequential(rc.GRU(3, 4), Scale(4), seed=0)
    for call in (
        lambda: model.tape_bytes(X.shape),
        lambda: model.record(X, memory=np.zeros(64, np.uint8)),
        lambda: model.open_tape(np.zeros(64, np.uint8)),
    ):
        with pytest.raises(ValueError, match=r"^Sequential\.\w+: got .*written in Python, expected native layers only"):
            call()


def test_bytes_that_are_no_tape_are_refused() -> None:
    layer = rc.LSTM(3, 5, seed=0)
    memory = recorded(layer)
    for bytes_ in (np.zeros(0, np.uint8), np.zeros(size := memory.size, np.uint8), np.full(size, FILL, np.uint8)):
        with pytest.raises(ValueError, match=r"^LSTM: got memory that holds no tape"):
            layer.open_tape(bytes_)
    with pytest.raises(ValueError, match=rf"got {size - 1} bytes of a tape of {size}"):
        layer.open_tape(memory[:-1])
    facts = int(memory[16:24].view(np.int64)[0]) * 8
    for at in np.random.default_rng(0).integers(0, facts, 200):
        spoilt = memory.copy()
        spoilt[at] ^= 1 << at % 8
        with pytest.raises(ValueError, match="holds no tape"):
            layer.open_tape(spoilt)


@pytest.mark.parametrize(
    "other",
    [
        lambda: rc.LSTM(3, 5, dtype="float64", seed=0),
        lambda: rc.LSTM(3, 5, zoneout=0.1, seed=0),
        lambda: rc.GRU(3, 5, seed=0),
        lambda: rc.Sequential(rc.LSTM(3, 5), rc.Linear(5, 5), seed=0),
    ],
)
def test_a_tape_of_another_model_is_refused(other: Any) -> None:
    memory = recorded(rc.LSTM(3, 5, seed=0))
    with pytest.raises(ValueError, match="a tape of another model"):
        other().open_tape(memory)


def test_a_tape_needs_its_weights() -> None:
    """Their values count, not when they were written: a framework loads them before each call."""
    layer = rc.LSTM(3, 5, seed=0)
    memory = recorded(layer)
    expected = finish(layer, layer.open_tape(memory))
    weights = layer.state_dict()
    layer.params["bias_ih_l0"] = weights["bias_ih_l0"] + 1
    with pytest.raises(ValueError, match=r"^LSTM: got memory with a tape that other weights have recorded"):
        layer.open_tape(memory)
    layer.load_state_dict(weights)
    tape = layer.open_tape(memory)
    assert_same(finish(layer, layer.open_tape(memory)), expected)
    layer.load_state_dict(weights)
    with pytest.raises(ValueError, match="changed"):
        tape.backward(None)
    same = rc.LSTM(3, 5, seed=9)
    same.load_state_dict(weights)
    assert_same(finish(same, same.open_tape(memory)), expected)


def test_batch_norm_moves_its_statistics_once_and_remembers_what_they_are_of() -> None:
    layer = rc.BatchNorm(3)
    expected = finish(layer, layer.record(X))
    layer.load_state_dict(rc.BatchNorm(3).state_dict())
    memory = recorded(layer)
    statistics = {name: array.copy() for name, array in layer.buffers.items()}
    layer.trainable = False  # frozen now, and not when it was recorded
    assert_same(finish(layer, layer.open_tape(memory)), expected)
    for name, array in layer.buffers.items():
        assert_same_bits(array, statistics[name])


def test_the_output_keeps_the_memory_alive() -> None:
    layer = rc.LSTM(3, 5, seed=0)
    y = layer.record(X, memory=Room(layer.tape_bytes(X.shape)).bytes).y
    opened = layer.open_tape(recorded(layer)).y
    gc.collect()
    Room(1 << 16)
    expected, _ = layer(X)
    assert_same_bits(y, expected)
    assert_same_bits(opened, expected)
    assert not y.flags.writeable


def test_one_memory_serves_several_threads() -> None:
    layer = rc.Sequential(rc.LSTM(3, 16, num_layers=2), rc.Linear(16, 2), seed=0)
    memory = recorded(layer, np.repeat(X, 10, axis=1))
    dy = np.ones((4, 200, 2), np.float32)

    def backward(_index: int) -> Array:
        return layer.open_tape(memory).backward(dy)[0]

    with ThreadPoolExecutor(3) as pool:
        first, *others = pool.map(backward, range(9))
    for one in others:
        assert_same_bits(one, first)


@pytest.mark.parametrize("cell", ["LSTM", "GRU"])
def test_another_process_finishes_it(cell: str, tmp_path: Path) -> None:
    layer = getattr(rc, cell)(3, 5, num_layers=2, dropout=0.3, seed=0)
    memory = recorded(layer, seed=7)
    expected = finish(layer, layer.open_tape(memory))
    layer.save(tmp_path / "model.safetensors")
    np.save(tmp_path / "tape.npy", memory)
    run_python(
        f"""
        import numpy as np, recurra as rc
        layer = rc.load({str(tmp_path / "model.safetensors")!r})
        tape = layer.open_tape(np.load({str(tmp_path / "tape.npy")!r}))
        dy = np.random.default_rng(1).standard_normal((4, 20, 5)).astype(np.float32)
        dx, _ = tape.backward(dy)
        np.save({str(tmp_path / "dx.npy")!r}, dx)
        """
    )
    dx = np.load(tmp_path / "dx.npy")
    assert any(dx.shape == one.shape and (dx == one).all() for one in expected)
