"""What runs inside a backward may run another: a layer's own model, a signal's handler, threads that a layer waits
for."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import recurra as rc
from agreement import assert_same_bits
from array_types import Array
from fresh_python import run_python
from user_layers import Scale

X = np.random.default_rng(0).standard_normal((2, 5, 3)).astype(np.float32)


class Holder(rc.PythonLayer):
    """Holds a model with a layer written in Python; on a thread of its own if asked to."""

    def __init__(self, inner: Any, elsewhere: bool = False) -> None:
        self.inner, self.elsewhere = inner, elsewhere
        self.add_parameter("gain", np.ones(1, np.float32))

    def forward(
        self, x: Array, *, lengths: Array | None, training: bool, rng: np.random.Generator
    ) -> tuple[Array, Any]:
        tape = self.inner.record(x)
        return tape.y * self.params["gain"], tape

    def backward(self, dy: Array, saved: Any) -> Array:
        self.grads["gain"] += (dy * saved.y).sum()
        gradient = dy * self.params["gain"]
        if self.elsewhere:
            with ThreadPoolExecutor(1) as pool:
                dx: Array = pool.submit(saved.backward, gradient).result()[0]
        else:
            dx = saved.backward(gradient)[0]
        return dx


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_layer_that_holds_a_model_with_such_layers(elsewhere: bool) -> None:
    """It waited for its own lock for ever."""
    run_python(
        f"""
import numpy as np, recurra as rc
from test_reentrance import Holder, Scale, X
inner = rc.Sequential(rc.Linear(3, 3), Scale(3), seed=0)
model = rc.Sequential(rc.Linear(3, 3), Holder(inner, {elsewhere}), Scale(3), seed=1)
tape = model.record(X)
dx, _ = tape.backward(np.ones_like(tape.y))
plain = rc.Sequential(*model.layers[:1], *inner.layers, *model.layers[2:])
wanted = {{name: array.copy() for name, array in plain.grads.items()}}
gain = float(model.grads["1.gain"][0])
plain.zero_grad()
tape = plain.record(X)
expected, _ = tape.backward(np.ones_like(tape.y))
np.testing.assert_array_equal(dx, expected)
for name, array in plain.grads.items():
    np.testing.assert_array_equal(array, wanted[name], err_msg=name)
assert gain != 0
""",
        timeout=60,
    )


def test_a_handler_that_runs_calls_of_every_kind() -> None:
    """Every few polls of a long backward, and between the instructions of one through a Python layer."""
    run_python(
        """
import signal
import numpy as np, recurra as rc
from user_layers import Scale
rc.set_num_threads(2)
rng = np.random.default_rng(0)
long = rng.standard_normal((8, 400, 64), dtype=np.float32)
short = rng.standard_normal((2, 5, 64), dtype=np.float32)
native = rc.Sequential(rc.LSTM(64, 128), rc.Linear(128, 64), seed=0)
mixed = rc.Sequential(rc.LSTM(64, 128), rc.Linear(128, 64), Scale(64), seed=0)
other = rc.Sequential(rc.GRU(64, 16), Scale(16), rc.Linear(16, 3), seed=0)
optimizer = rc.optim.Adam(0.0)
stream = other.stream(2)
runs = 0

def train(model, x):
    tape = model.record(x, seed=0)
    return tape.backward(np.ones_like(tape.y))

def handler(*_):
    global runs
    runs += 1
    for model in (other, native, mixed):
        train(model, short)
        model(short)
    optimizer.step(other)
    stream.step(short[:, 0])
    other.load_state_dict(other.state_dict())
    with other.edit() as params:
        params["2.bias"][...] += 0
    try:
        busy.backward(np.ones_like(busy.y))  # the one under way
    except ValueError:
        pass
    signal.setitimer(signal.ITIMER_REAL, 0.05)  # not before this one is done: its own calls may be refused within it

signal.signal(signal.SIGALRM, handler)
for model in (native, mixed):
    model.zero_grad()
    busy = model.record(long, seed=0)
    dy = np.ones_like(busy.y)
    signal.setitimer(signal.ITIMER_REAL, 0.02)
    before = runs
    for _ in range(50):
        busy = model.record(long, seed=0)
        busy.backward(dy)
        if runs > before + 4:
            break
    signal.setitimer(signal.ITIMER_REAL, 0)
assert runs > 8
""",
        timeout=100,
    )


def test_a_failure_takes_away_nothing_but_its_own() -> None:
    """What another thread adds while a layer is at work, which then fails, stays; of the failing one nothing does."""
    entered, added = threading.Event(), threading.Event()

    class Slow(Scale):
        fails = False

        def backward(self, dy: Array, saved: Array) -> Array:
            dx = super().backward(dy, saved)
            if self.fails:
                entered.set()
                assert added.wait(60)
                raise RuntimeError("the user's own error")
            return dx

    slow = Slow(4)
    model = rc.Sequential(rc.Linear(3, 4), slow, rc.GRU(4, 3), seed=0)

    def train() -> None:
        tape = model.record(X)
        tape.backward(np.ones_like(tape.y))

    train()
    once = {name: array.copy() for name, array in model.grads.items()}
    model.zero_grad()
    slow.fails = True
    with ThreadPoolExecutor(1) as pool:
        failing = pool.submit(train)
        assert entered.wait(60)
        slow.fails = False  # of this thread's
        train()
        added.set()
        with pytest.raises(RuntimeError, match="own error"):
            failing.result()
    for name, array in model.grads.items():
        assert_same_bits(array, once[name], name)


def test_threads_add_all_of_theirs() -> None:
    """Backwards side by side through one Python layer: every contribution counts."""
    model = rc.Sequential(rc.Linear(3, 4), Scale(4), seed=0)

    def train(_: int) -> None:
        tape = model.record(X)
        tape.backward(np.ones_like(tape.y))

    train(0)
    once = {name: array.astype(np.float64) for name, array in model.grads.items()}
    model.zero_grad()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(train, range(64)))
    for name, array in model.grads.items():
        np.testing.assert_allclose(array, 64 * once[name], rtol=1e-5, err_msg=name)
