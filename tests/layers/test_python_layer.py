"""Layers written by users in Python, alone and between native ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import recurra as rc
from agreement import assert_same_bits
from array_types import DTYPES, Array
from cell_runs import unpack
from instructions import at_instructions
from single_thread import central_difference
from user_layers import Failing, Mean, Noise, Scale, Softsign

LENGTHS = np.array([7, 0, 3, 5])


def mixed(dtype: str = "float64", **options: Any) -> Any:
    """Two native runs with layers of a user between them and at the end."""
    return rc.Sequential(
        rc.LSTM(3, 5, dtype=dtype), Scale(5, dtype), Softsign(), rc.GRU(5, 4, 2, dtype=dtype), Mean(), seed=0, **options
    )


def numbers(dtype: str = "float64") -> Array:
    return np.random.default_rng(1).standard_normal((4, 7, 3)).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_mixed_model_is_its_layers_in_turn(dtype: str) -> None:
    model, x = mixed(dtype), numbers(dtype)
    x[LENGTHS[:, None] <= np.arange(7)] = np.nan
    y, state = model(x, lengths=LENGTHS)
    assert len(state) == 5
    expected: Array = x
    for layer, own in zip(model.layers, state, strict=True):
        expected, final = layer(expected, lengths=LENGTHS)
        assert (own is None) == (final is None)
        if own is not None:
            for one, other in zip(unpack(own), unpack(final), strict=True):
                assert_same_bits(one, other)
    assert y.shape == (4, 4)
    assert_same_bits(y, expected)
    assert not y[1].any()


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["dense", "ragged"])
def test_gradients_by_central_differences(lengths: Array | None) -> None:
    model, x = mixed(), numbers()
    dy = np.random.default_rng(2).standard_normal((4, 4))
    tape = model.record(x, lengths=lengths)
    dx, _ = tape.backward(dy)

    def check(name: str, actual: Array, variable: Array, f: Any) -> None:
        entries = np.random.default_rng(3).permutation(variable.size)[:40]
        expected = central_difference(f, variable, entries)
        # As in test_gradients.py: the differences are good to 1e-9.
        np.testing.assert_allclose(actual.flat[entries], expected, rtol=0, atol=1e-6, err_msg=name)

    check("dx", dx, x, lambda: float((model(x, lengths=lengths)[0] * dy).sum()))
    for name in model.params:
        variable = model.params[name].copy()

        def f(name: str = name, variable: Array = variable) -> float:
            model.params[name] = variable
            return float((model(x, lengths=lengths)[0] * dy).sum())

        check(name, model.grads[name], variable, f)
        f()


@pytest.mark.parametrize("dtype", DTYPES)
def test_padding_reaches_neither_method(dtype: str) -> None:
    model = rc.Sequential(Scale(3, dtype), rc.GRU(3, 5, dtype=dtype, seed=0))
    x, dy = numbers(dtype), np.ones((4, 7, 5), dtype)
    results = []
    for value in (0.0, np.nan):
        x[LENGTHS[:, None] <= np.arange(7)] = value
        dy[LENGTHS[:, None] <= np.arange(7)] = value
        model.zero_grad()
        tape = model.record(x, lengths=LENGTHS)
        dx, _ = tape.backward(dy)
        results.append([tape.y, dx, *(model.grads[name].copy() for name in model.grads)])
    for one, other in zip(*results, strict=True):
        assert np.isfinite(one).all()
        assert_same_bits(one, other)


def test_a_stateless_layer_streams() -> None:
    model = rc.Sequential(rc.LSTM(3, 5), Scale(5), Softsign(), rc.GRU(5, 4), seed=0)
    x = numbers("float32")
    reset = np.random.default_rng(4).random((4, 7)) < 0.3
    expected, _ = model(x, reset=reset)
    stream = model.stream(batch_size=4)
    steps = [stream.step(x[:, t], reset=reset[:, t]) for t in range(7)]
    assert_same_bits(np.stack(steps, axis=1), expected)
    stream = model.stream(batch_size=4)
    chunks = [stream.process(x[:, part], reset=reset[:, part]) for part in (slice(0, 3), slice(3, 7))]
    assert_same_bits(np.concatenate(chunks, axis=1), expected)
    out = np.empty((4, 4), np.float32)
    assert stream.step(x[:, 0], out=out) is out
    assert [entry is None for entry in stream.state()] == [False, True, True, False]
    assert stream.fork(2).batch_size == 8


def test_a_layer_that_looks_at_other_steps_does_not() -> None:
    with pytest.raises(ValueError, match="stateless"):
        rc.Sequential(rc.LSTM(3, 5), Mean()).stream(batch_size=1)
    with pytest.raises(ValueError, match="stateless"):
        rc.Sequential(rc.LSTM(3, 5), Noise())(numbers("float32"), reset=np.zeros((4, 7), bool))


def test_its_random_numbers_follow_the_seed() -> None:
    model = rc.Sequential(rc.GRU(3, 5, seed=0), Noise())
    x = numbers("float32")
    assert_same_bits(model.record(x, seed=5).y, model.record(x, seed=5).y)
    assert not np.array_equal(model.record(x, seed=5).y, model.record(x, seed=6).y)
    assert not np.array_equal(model.record(x).y, model.record(x).y)
    assert_same_bits(model.record(x, training=False).y, model(x)[0])


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_users_error_comes_out_and_changes_nothing(place: int) -> None:
    layers: list[Any] = [rc.GRU(3, 3, seed=0), rc.RNN(3, 3, seed=1)]
    layers.insert(place, Failing("backward"))
    model, x = rc.Sequential(*layers), numbers("float32")
    tape = model.record(x)
    model.grads[next(iter(model.grads))][...] = 7.0
    before = {name: model.grads[name].copy() for name in model.grads}
    with pytest.raises(RuntimeError, match="the user's own error"):
        tape.backward(np.ones_like(tape.y))
    for name, gradient in before.items():
        assert_same_bits(model.grads[name], gradient)
    with pytest.raises(RuntimeError, match="the user's own error"):
        rc.Sequential(rc.GRU(3, 3), Failing("forward"))(x)


def returning(y: Any, dx: Any) -> type[rc.PythonLayer]:
    """A layer whose methods give back something wrong."""

    class Wrong(rc.PythonLayer):
        def forward(self, x: Array, **_: Any) -> Any:
            return y(x)

        def backward(self, dy: Array, saved: Any) -> Any:
            return dx(dy)

    return Wrong


@pytest.mark.parametrize(
    "y",
    [
        lambda x: x,
        lambda x: None,
        lambda x: (x.tolist(), None),
        lambda x: (x.astype(np.float64), None),
        lambda x: (x[:, :-1], None),
        lambda x: (x[0], None),
        lambda x: (x > 0, None),
    ],
    ids=["no pair", "None", "list", "dtype", "steps", "rank", "bool"],
)
def test_a_wrong_output_is_explained(y: Any) -> None:
    model = rc.Sequential(rc.GRU(3, 3), returning(y, lambda dy: dy)())
    with pytest.raises((ValueError, TypeError), match=r"^Wrong.forward.*got.*expected"):
        model(numbers("float32"))


@pytest.mark.parametrize(
    "dx",
    [lambda dy: None, lambda dy: dy[:, :-1], lambda dy: dy.astype(np.float64), lambda dy: dy.tolist()],
    ids=["None", "steps", "dtype", "list"],
)
def test_a_wrong_gradient_is_explained(dx: Any) -> None:
    model = rc.Sequential(rc.GRU(3, 3), returning(lambda x: (x, None), dx)())
    tape = model.record(numbers("float32"))
    with pytest.raises((ValueError, TypeError), match=r"^Wrong.backward.*got.*expected"):
        tape.backward(np.ones_like(tape.y))


def test_a_wrong_constructor_is_explained() -> None:
    class Forgetful(Softsign):
        def __init__(self, size: int) -> None:
            pass

    with pytest.raises(TypeError, match=r"Forgetful.*size"):
        Forgetful(3).config()
    with pytest.raises((ValueError, TypeError), match="expected"):
        Softsign().add_parameter("x", np.zeros(3, np.int64))
    layer = Scale(3)
    with pytest.raises(ValueError, match="expected"):
        layer.add_parameter("scale", np.zeros(3, np.float32))


def test_it_trains() -> None:
    """A model with a user's layer in it learns what the layer has to learn: here, a factor of 3."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, 5, 2)).astype(np.float32)
    model = rc.Sequential(Scale(2))
    history = model.fit(
        x,
        3 * x,
        loss=rc.losses.MeanSquaredError(),
        optimizer=rc.optim.SGD(0.5),
        epochs=40,
        batch_size=16,
        seed=0,
        verbose=0,
    )
    assert history.history["loss"][-1] < 1e-6
    np.testing.assert_allclose(model.params["0.scale"], [3.0, 3.0], rtol=0, atol=1e-3)


class Fails(rc.PythonLayer):
    """Passes x on, until told otherwise."""

    stateless = True

    def __init__(self) -> None:
        self.error: BaseException | None = None

    def forward(self, x: Array, *, lengths: Any, training: bool, rng: np.random.Generator) -> tuple[Array, Any]:
        if self.error:
            raise self.error
        return x, None

    def backward(self, dy: Array, saved: Any) -> Array:
        return dy


@pytest.mark.parametrize("method", ["step", "process"])
def test_a_step_of_a_stream_is_whole_or_nothing(method: str) -> None:
    """The user's errors, Ctrl-C, and refused outputs: the layers before the one that failed have not moved either."""
    fails = Fails()
    model = rc.Sequential(rc.LSTM(3, 5), fails, rc.Conv1d(5, 4, 3), Fails(), rc.GRU(4, 2), seed=0)
    x = np.random.default_rng(0).standard_normal((4, 9, 3)).astype(np.float32)
    parts = [x[:, t] if method == "step" else x[:, t : t + 1] for t in range(9)]
    expected = np.swapaxes(model.stream(batch_size=4).process(x), 0, 1)
    stream = model.stream(batch_size=4)
    run = getattr(stream, method)
    for part, wanted in zip(parts, expected, strict=True):
        for error in (ValueError("the user's"), KeyboardInterrupt(), SystemExit(), MemoryError()):
            fails.error = error
            with pytest.raises(type(error)):
                run(part)
        fails.error = None
        for out in (np.zeros((4, 3), np.float32), np.zeros(wanted.shape), "text"):
            with pytest.raises((ValueError, TypeError)):
                run(part, out=out)
        assert_same_bits(run(part).reshape(wanted.shape), wanted)
    with pytest.raises(ValueError, match="expected"):
        stream.load_state([*stream.state()[:-1], np.zeros((1, 4, 9), np.float32)])
    state = stream.state()
    run(parts[0])
    wrong = [*state[:-1], np.zeros((1, 4, 9), np.float32)]
    before = stream.state()
    with pytest.raises(ValueError, match="shape"):
        stream.load_state(wrong)
    for one, other in zip(flat(stream.state()), flat(before), strict=True):
        assert_same_bits(one, other, "a state that does not fit changes no layer")


def flat(state: Any) -> list[Array]:
    if isinstance(state, list | tuple):
        return [array for one in state for array in flat(one)]
    return [] if state is None else [state]


def test_a_signal_at_any_bytecode_of_a_streams_step() -> None:
    """An exception between any two bytecodes: the step has been done, or nothing has moved."""
    model = rc.Sequential(rc.GRU(3, 5), Fails(), rc.LSTM(5, 2), seed=0)
    x = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    one = model.stream(batch_size=4)
    start = flat(one.state())
    one.step(x)
    end = flat(one.state())

    class Signal(BaseException):
        pass

    names = {"_run", "_run_pieces", "_written", "made", "process", "step"}
    for place in range(2000):
        stream = model.stream(batch_size=4)
        left = place

        def arrive() -> None:
            nonlocal left
            left -= 1
            if left < 0:  # which ends the tracing
                raise Signal

        finished = False
        try:
            at_instructions(lambda stream=stream: stream.step(x), arrive, lambda code: code.co_name in names)
            finished = True
        except Signal:
            pass
        state = flat(stream.state())
        moved = all(np.array_equal(a, b) for a, b in zip(state, end, strict=True))
        assert moved or all(np.array_equal(a, b) for a, b in zip(state, start, strict=True)), place
        if finished:
            break
    assert finished
    assert place > 100
