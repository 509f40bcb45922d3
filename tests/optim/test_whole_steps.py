"""A step of an optimiser is whole or not begun, whatever arrives between two instructions: SIGTERM, SIGALRM, any
handler that raises. Here every instruction of a step raises once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import numpy as np
import pytest
from test_optim import OPTIMIZERS, gradients

import recurra as rc
from agreement import assert_same_bits
from fresh_python import run_python
from instructions import at_instructions
from user_layers import Scale


class Arrived(BaseException):
    """What a signal's handler raises."""


def raised_at(place: int, call: Callable[[], object]) -> bool:
    """Whether an exception that arrives before the place-th instruction of a call, its callees' included, finds one."""
    left = place

    def arrive() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise Arrived

    try:
        at_instructions(call, arrive)
    except Arrived:
        return True
    return False


def places(seed: int | None = None) -> Iterator[int]:
    """Every one; or, with a seed, about one in sixty."""
    if seed is None:
        return iter(count(1))
    return iter(np.cumsum(np.random.default_rng(seed).integers(1, 120, 10**4)).tolist())


def subjects() -> list[Any]:
    frozen = rc.Linear(1, 2, seed=2)
    frozen.trainable = False
    return [rc.Sequential(rc.Linear(3, 4), Scale(4), seed=0), rc.Linear(4, 2, seed=1), frozen]


def everything(optimizer: Any, models: list[Any]) -> dict[str, Any]:
    """All that a step may change."""
    found = {f"optimizer {name}": np.asarray(value) for name, value in optimizer.state_dict().items()}
    for index, model in enumerate(models):
        found |= {f"{index} {name}": array for name, array in model.state_dict().items()}
    return found


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return set(one) == set(other) and all(one[name].tobytes() == other[name].tobytes() for name in one)


@pytest.mark.parametrize("taken", [0, 2])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_instruction_of_a_step(name: str, taken: int) -> None:
    """The first step, which claims memory, and a later one; then the run goes on to the bits of one undisturbed. With
    Adam all of them, with the others some."""
    make, clipped = OPTIMIZERS[name], taken == 2
    options = {"clip_norm": 0.5, "clip_value": 0.9, "error_if_nonfinite": True} if clipped else {}

    class Run:
        def __init__(self) -> None:
            self.optimizer, self.models, self.index = make(), subjects(), 0
            while self.index < taken:
                self.draw()
                self.step()
                self.index += 1
            self.draw()

        def draw(self) -> None:
            for k, model in enumerate(self.models):
                gradients(model, 10 * self.index + k)

        def step(self) -> None:
            self.optimizer.step(self.models, **options)

        def now(self) -> dict[str, Any]:
            return everything(self.optimizer, self.models)

        def after_another(self) -> dict[str, Any]:
            self.index += 1
            self.draw()
            self.step()
            return self.now()

    whole = Run()
    before = whole.now()
    whole.step()
    after, end = whole.now(), whole.after_another()
    run = Run()
    done = 0
    for place in places(None if name == "Adam" else taken):
        if not raised_at(place, run.step):
            break
        now = run.now()
        assert same(now, after) or same(now, before), f"half a step, at instruction {place}"
        if same(now, after):
            done += 1
            if done % 7 == 1:
                assert same(run.after_another(), end)
            run = Run()
    assert place > 100
    assert done or name != "Adam", "some instructions come after the step"
    assert same(run.now(), after)
    assert same(run.after_another(), end)


def test_every_instruction_of_loading_an_optimiser() -> None:
    models = subjects()
    source = rc.optim.Adam(0.1)
    for k in range(2):
        gradients(models[0], k)
        source.step(models)
    wanted = source.state_dict()
    for place in places():
        optimizer = rc.optim.Adam(0.3)
        before = optimizer.state_dict()
        arrived = raised_at(place, lambda optimizer=optimizer: optimizer.load_state_dict(wanted))
        now = optimizer.state_dict()
        names = set(now)
        assert names in (set(before), set(wanted))
        for name in names:
            kept = before if names == set(before) else wanted
            assert np.asarray(now[name]).tobytes() == np.asarray(kept[name]).tobytes(), name
        if not arrived:
            break


@pytest.mark.parametrize("kind", ["native", "mixed"])
def test_every_instruction_of_a_backward(kind: str) -> None:
    layers = [rc.Linear(3, 4), Scale(4), rc.GRU(4, 3)] if kind == "mixed" else [rc.Linear(3, 4), rc.GRU(4, 3)]
    model = rc.Sequential(*layers, seed=0)
    x = np.random.default_rng(0).standard_normal((2, 5, 3)).astype("float32")

    def grads() -> bytes:
        return b"".join(array.tobytes() for array in model.grads.values())

    model.zero_grad()
    before = grads()
    tape = model.record(x)
    tape.backward(np.ones_like(tape.y))
    after = grads()
    states = set()
    for place in places():
        model.zero_grad()
        tape = model.record(x)
        dy = np.ones_like(tape.y)
        arrived = raised_at(place, lambda tape=tape, dy=dy: tape.backward(dy))
        now = grads()
        assert now in (before, after), f"half a backward, at instruction {place}"
        states.add(now == after)
        if not arrived:
            break
    assert states == {False, True}


def test_every_instruction_of_an_edit() -> None:
    layer = rc.Linear(3, 4, seed=0)
    start = {name: array.copy() for name, array in layer.params.items()}

    def edit() -> None:
        with layer.edit() as params:
            for name in params:
                params[name][...] = 2.0

    for place in places():
        layer.load_state_dict(start)
        arrived = raised_at(place, edit)
        values = {float(array.max()) == 2.0 for array in layer.params.values()}
        assert len(values) == 1, f"half an edit, at instruction {place}"
        if not arrived:
            break
    for name, array in layer.params.items():
        assert_same_bits(array, np.full_like(start[name], 2.0))


def test_every_instruction_of_loading_parameters_and_buffers() -> None:
    model = rc.Sequential(rc.Linear(3, 4), rc.BatchNorm(4), Scale(4), seed=0)
    before = model.state_dict()
    after = {name: array + 1 for name, array in before.items()}
    seen = set()
    for place in places():
        model.load_state_dict(before)
        arrived = raised_at(place, lambda: model.load_state_dict(after))
        now = model.state_dict()
        assert same(now, before) or same(now, after), f"half of it, at instruction {place}"
        seen.add(same(now, after))
        if not arrived:
            break
    assert seen == {False, True}


@pytest.mark.parametrize("number", ["SIGTERM", "SIGALRM", "SIGINT", "SIGUSR1"])
def test_signals_whose_handlers_raise(number: str) -> None:
    """As they come in a run: at random moments of steps over many layers. The steps that came about are whole ones."""
    output = run_python(
        f"""
import os, signal, threading, time
import numpy as np, recurra as rc
class Told(BaseException): pass
def tell(*_): raise Told
signal.signal(signal.{number}, tell)
models = [rc.Linear(20, 20, seed=k) for k in range(12)]
for model in models:
    for name in model.grads:
        model.grads[name][...] = 1.0
optimizer = rc.optim.SGD(1.0)
start = [model.params["bias"][0] for model in models]
hits = 0
for _ in range(60):
    stop = threading.Event()
    def send():
        time.sleep(0.002 * np.random.default_rng(hits).random())
        os.kill(os.getpid(), signal.{number})
    thread = threading.Thread(target=send)
    try:
        thread.start()
        while True:
            optimizer.step(models)
    except Told:
        hits += 1
    thread.join()
    steps = {{round(float(first - model.params["bias"][0])) for first, model in zip(start, models)}}
    assert steps == {{optimizer.steps}}, steps
print(hits)
""",
        timeout=100,
    )
    assert output.strip() == "60"
