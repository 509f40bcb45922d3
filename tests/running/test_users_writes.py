"""Layers written in Python that write weights in `forward`, or wait for whoever does: no thread waits for ever."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import recurra as rc
from agreement import assert_same_bits
from array_types import Array

X = np.random.default_rng(0).standard_normal((4, 5, 3)).astype(np.float32)
#: Seconds after which a thread that has not come back is taken to wait for ever.
FOR_EVER = 60.0


class Calls(rc.PythonLayer):
    """Calls a function in each forward."""

    stateless = True

    def __init__(self, function: Callable[[], None]) -> None:
        self.function = function
        self.add_parameter("own", np.ones(4, np.float32))

    def forward(self, x: Array, *, lengths: Any, training: bool, rng: Any) -> tuple[Array, Array]:
        self.function()
        return x * self.params["own"], x

    def backward(self, dy: Array, x: Array) -> Array:
        self.grads["own"] += (dy * x).sum((0, 1))
        dx: Array = dy * self.params["own"]
        return dx


def model_with(function: Callable[[], None], *more: Any) -> Any:
    return rc.Sequential(rc.Linear(3, 4), *more, Calls(function), rc.Linear(4, 2), seed=0)


def run_all(*functions: Callable[[], Any]) -> list[Exception]:
    """Each on a thread of its own; -> what they raised."""
    errors: list[Exception] = []

    def run(function: Callable[[], Any]) -> None:
        try:
            function()
        except (ValueError, AssertionError) as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=[one], daemon=True) for one in functions]
    for one in threads:
        one.start()
    for one in threads:
        one.join(FOR_EVER)
    assert not any(one.is_alive() for one in threads), "a thread waits for ever"
    return errors


def meet(barrier: threading.Barrier) -> None:
    """Both threads are within their forward at once; not again, where one is called once more."""
    with contextlib.suppress(threading.BrokenBarrierError):
        barrier.wait(2.0)


WAYS: dict[str, Callable[[Any], Any]] = {
    "call": lambda model: model(X),
    "record": lambda model: model.record(X),
    "step": lambda model: model.stream(batch_size=4).step(X[:, 0]),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("target", ["own", "shared", "each other's", "another"])
def test_two_threads_whose_layers_write(target: str, way: str) -> None:
    barrier = threading.Barrier(2)
    models: list[Any] = []
    others = [rc.Linear(3, 4, seed=0) for _ in range(2)]
    turn = threading.local()

    def write() -> None:
        meet(barrier)
        which: int = turn.which
        if target == "another":
            others[which].params["bias"] = others[which].params["bias"] + 1
        else:
            layer = models[1 - which if target == "each other's" else which].layers[1]
            layer.params["own"] = layer.params["own"] * np.float32(0.5)
        meet(barrier)

    models += [model_with(write) for _ in range(2)]
    if target == "shared":
        models[1] = models[0]

    def work(which: int) -> None:
        turn.which = which
        for _ in range(3):
            WAYS[way](models[which])

    # Where each is written by the other in every try, one may be told so.
    errors = run_all(lambda: work(0), lambda: work(1))
    if target != "each other's":
        assert not errors
    assert all(isinstance(one, ValueError) and "another thread wrote" in str(one) for one in errors)


def within_a_thread(function: Callable[[], Any]) -> None:
    assert not run_all(function)


@pytest.mark.parametrize("way", WAYS)
def test_a_layer_that_waits_for_a_writer_of_another_model(way: str) -> None:
    other = rc.Linear(3, 4, seed=0)
    state = other.state_dict()
    calls = 0

    def write() -> None:
        nonlocal calls
        calls += 1
        within_a_thread(lambda: other.load_state_dict(state))

    assert not run_all(lambda: WAYS[way](model_with(write)))
    assert calls == 1


@pytest.mark.parametrize("way", WAYS)
def test_a_layer_that_waits_for_a_writer_of_its_own_model(way: str) -> None:
    """No try can be of one version: an error says so."""
    models: list[Any] = []
    calls = 0

    def write() -> None:
        nonlocal calls
        calls += 1
        within_a_thread(lambda: models[0].load_state_dict(state))

    models.append(model_with(write))
    state = models[0].state_dict()
    (error,) = run_all(lambda: WAYS[way](models[0]))
    assert isinstance(error, ValueError)
    assert str(error).startswith("Sequential")
    assert f"each of {calls} tries" in str(error)


@pytest.mark.parametrize("way", WAYS)
def test_writers_of_other_models_never_wait(way: str) -> None:
    """Not even for one that is called again and again, as its weights move."""
    other = rc.Linear(3, 4, seed=0)
    writes = tries = 0
    models: list[Any] = []

    def write_other() -> None:
        nonlocal writes
        other.params["bias"] = np.ones(4, np.float32)
        writes += 1

    def write() -> None:
        nonlocal tries
        tries += 1
        if tries <= 4:  # as if by chance
            within_a_thread(lambda: models[0].load_state_dict(state))
        within_a_thread(write_other)

    models.append(model_with(write))
    state = models[0].state_dict()
    assert not run_all(lambda: WAYS[way](models[0]))
    assert writes == tries == 5


def test_a_record_made_again_moves_running_statistics_once() -> None:
    tries = 0
    models: list[Any] = []

    def write() -> None:
        nonlocal tries
        tries += 1
        if tries <= 3:
            state = models[0].state_dict()
            within_a_thread(lambda: models[0].load_state_dict({"3.weight": state["3.weight"]}, strict=False))

    models.append(model_with(write, rc.BatchNorm(4)))
    expected = model_with(lambda: None, rc.BatchNorm(4))
    expected.record(X)
    tape = models[0].record(X)
    assert tries == 4
    for name, array in expected.buffers.items():
        assert_same_bits(models[0].buffers[name], array, name)
    tape.backward(np.ones_like(tape.y))


def test_a_record_that_fails_leaves_running_statistics() -> None:
    def fail() -> None:
        raise RuntimeError("the user's own error")

    model = model_with(fail, rc.BatchNorm(4))
    before = model.state_dict()
    with pytest.raises(RuntimeError, match="own error"):
        model.record(X)
    for name, array in before.items():
        assert_same_bits(model.state_dict()[name], array, name)


def test_two_fits_with_layers_that_keep_a_teacher() -> None:
    def fit() -> None:
        teacher = rc.Linear(3, 4, seed=0)

        def follow() -> None:
            teacher.params["bias"] = teacher.params["bias"] * np.float32(0.9) + np.float32(0.1)
            teacher(X)

        model = rc.Sequential(rc.LSTM(3, 4), Calls(follow), rc.Linear(4, 2), seed=0)
        options: Any = {"loss": rc.losses.CrossEntropy(), "optimizer": rc.optim.SGD(0.01), "verbose": 0}
        model.fit(X, np.zeros((4, 5), int), epochs=20, batch_size=1, **options)

    assert not run_all(fit, fit)
