"""One optimiser used by several threads, or from a signal's handler during a step: every step counts, none is half
done."""

from __future__ import annotations

import copy
import pickle
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import recurra as rc
from agreement import assert_same_bits
from fresh_python import run_python
from recurra import _core

OPTIMIZERS: dict[str, Callable[[], Any]] = {
    "SGD": lambda: rc.optim.SGD(0.1, momentum=0.9),
    "RMSprop": lambda: rc.optim.RMSprop(0.01, momentum=0.9, centered=True),
    "Adam": lambda: rc.optim.Adam(0.01),
    "Adagrad": lambda: rc.optim.Adagrad(0.1),
}


@pytest.fixture(autouse=True)
def _threads_that_take_turns_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def model(seed: int) -> Any:
    made = rc.Sequential(*[rc.Linear(8, 8) for _ in range(4)], seed=seed)
    for name in made.grads:
        made.grads[name][...] = 0.1 + seed
    return made


def together(*calls: Callable[[], None]) -> None:
    """On threads of their own; whatever one of them raises."""
    errors = []

    def run(call: Callable[[], None]) -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - for the thread that asserts
            errors.append(error)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_threads_with_a_model_each(make: Callable[[], Any]) -> None:
    optimizer, steps = make(), 150
    models = [model(seed) for seed in range(3)]

    def train(one: Any) -> None:
        for _ in range(steps):
            optimizer.step(one)

    together(*[lambda one=one: train(one) for one in models])  # type: ignore[misc]
    assert optimizer.steps == 3 * steps
    for seed, one in enumerate(models):
        alone, twin = make(), model(seed)
        for _ in range(steps):
            alone.step(twin)
        for name, array in twin.params.items():
            assert_same_bits(one.params[name], array, f"model {seed}, {name}")


def test_threads_with_one_model() -> None:
    optimizer, steps = rc.optim.Adam(0.01), 100
    one, alone, twin = model(0), rc.optim.Adam(0.01), model(0)

    def train() -> None:
        for _ in range(steps):
            optimizer.step(one)

    together(train, train)
    for _ in range(2 * steps):
        alone.step(twin)
    for name, array in alone.state_dict().items():
        assert_same_bits(np.asarray(optimizer.state_dict()[name]), np.asarray(array), name)


@pytest.mark.parametrize("read", ["state_dict", "pickle", "deepcopy"])
def test_what_is_read_beside_a_step_is_of_one_step(read: str) -> None:
    """All layers have the same gradient, and so the same moments after each step."""
    layers = [rc.Linear(300, 300, seed=seed) for seed in range(4)]
    for layer in layers:
        for name in layer.grads:
            layer.grads[name][...] = 1.0
    optimizer = rc.optim.Adam(0.01)
    optimizer.step(layers)
    readers: dict[str, Callable[[], Any]] = {
        "state_dict": optimizer.state_dict,
        "pickle": lambda: pickle.loads(pickle.dumps(optimizer)).state_dict(),
        "deepcopy": lambda: copy.deepcopy(optimizer).state_dict(),
    }
    done = threading.Event()

    def train() -> None:
        while not done.is_set():
            optimizer.step(layers)
            time.sleep(0.001)  # a backward would come here

    def look() -> None:
        try:
            for _ in range(10):
                state = readers[read]()
                assert {state[f"{index}.steps"] for index in range(4)} == {state["steps"]}
                for name in ("m", "v"):
                    values = np.concatenate([state[f"{index}.{name}"] for index in range(4)])
                    assert (values == values[0]).all(), (state["steps"], name)
        finally:
            done.set()

    together(train, look)


def test_a_handler_is_refused_and_loses_nothing() -> None:
    """It may read, but not step or load, while its own thread is in a step."""
    run_python(
        """
import signal
import numpy as np, recurra as rc
from test_shared_optimizer import model
one, other = model(0), model(1)
optimizer = rc.optim.Adam(0.01)
counts = {"steps": 0, "other": 0, "refused": 0, "states": 0}
state = None

def handler(*_):
    global state
    found = optimizer.state_dict()
    assert len({found[f"{index}.steps"] for index in range(4)}) == 1 or not optimizer.steps
    counts["states"] += 1
    try:
        optimizer.step(other)
        counts["other"] += 1
    except ValueError as error:
        assert str(error).startswith("Adam.step: ") and "in use by another call on this thread" in str(error), error
        counts["refused"] += 1
        try:
            optimizer.load_state_dict(found, models=one)
        except ValueError as error:
            assert str(error).startswith("Adam.load_state_dict: "), error
            assert "in use by another call on this thread" in str(error), error
        else:
            raise AssertionError("a load inside a step")

signal.signal(signal.SIGALRM, handler)
optimizer.step(one)
signal.setitimer(signal.ITIMER_REAL, 0.0007, 0.0011)
while min(counts["refused"], counts["states"]) < 20 or counts["steps"] < 200:
    optimizer.step(one)
    counts["steps"] += 1
signal.setitimer(signal.ITIMER_REAL, 0)
alone, twin, second = rc.optim.Adam(0.01), model(0), model(1)
for _ in range(counts["steps"] + 1):
    alone.step(twin)
for _ in range(counts["other"]):
    alone.step(second)
assert optimizer.steps == alone.steps, (optimizer.steps, alone.steps)
for a, b in ((one, twin), (other, second)):
    for name in a.params:
        np.testing.assert_array_equal(a.params[name], b.params[name], err_msg=name)
"""
    )


def test_a_schedule_that_steps_is_refused() -> None:
    optimizer: Any = rc.optim.SGD(lambda step: float(optimizer.step(model(0)).norm))
    with pytest.raises(ValueError, match=r"^SGD\.step: .*in use by another call on this thread"):
        optimizer.step(model(0))
    assert optimizer.steps == 0
    optimizer = rc.optim.SGD(lambda step: 0.1 * len(optimizer.state_dict()))
    optimizer.step(model(0))
    assert optimizer.steps == 1


def test_a_child_steps_whatever_the_parents_threads_did() -> None:
    run_python(
        """
import os, threading
import numpy as np, recurra as rc
from test_shared_optimizer import model
rc.set_num_threads(1)
ready, leave = threading.Event(), threading.Event()

def schedule(step):
    ready.set()
    leave.wait()
    return 0.01

optimizer = rc.optim.Adam(lambda step: schedule(step) if threading.current_thread() is busy else 0.01)
one, other, busy = model(0), model(1), None
optimizer.step(other)
busy = threading.Thread(target=optimizer.step, args=(one,))
busy.start()
ready.wait()
children = []
for _ in range(3):
    child = os.fork()
    if child == 0:
        optimizer.step(other)
        threads = [threading.Thread(target=optimizer.step, args=(other,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert optimizer.steps == 5 and optimizer.state_dict()["steps"] == 5
        os._exit(0)
    children.append(child)
for child in children:
    assert os.waitpid(child, 0)[1] == 0
leave.set()
busy.join()
assert optimizer.steps == 2
""",
        timeout=60,
    )


def test_an_object_without_its_constructor_is_free() -> None:
    turns = _core.Turns.__new__(_core.Turns)
    assert turns.read(lambda: 3) == 3
    with pytest.raises(TypeError, match="cannot be pickled or copied"):
        copy.copy(turns)
