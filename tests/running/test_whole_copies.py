"""Copies of all weights that are made while another thread writes them: of one version, whole."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import recurra as rc
from array_types import Array


def readers() -> Sequence[tuple[str, Callable[[Any, Any], dict[str, Array]]]]:
    def saved(model: Any, path: Any) -> dict[str, Array]:
        model.save(path)
        state: dict[str, Array] = rc.load(path, custom={"Shift": Shift}).state_dict()
        return state

    return [
        ("state_dict", lambda model, _path: model.state_dict()),
        ("save", saved),
    ]


class Shift(rc.PythonLayer):
    """A parameter and a buffer."""

    stateless = True

    def __init__(self) -> None:
        self.add_parameter("shift", np.zeros(300, np.float32))
        self.add_buffer("seen", np.zeros(300, np.float32))

    def forward(self, x: Array, *, lengths: Any, training: bool, rng: Any) -> tuple[Array, None]:
        return x + self.params["shift"][0], None

    def backward(self, dy: Array, saved: Any) -> Array:
        return dy


@pytest.mark.parametrize("writer", ["load", "step"])
@pytest.mark.parametrize(("name", "read"), readers(), ids=[name for name, _read in readers()])
def test_what_is_saved_is_of_one_version(name: str, read: Any, writer: str, tmp_path: Any) -> None:
    """Each write makes all numbers the same; the threads change places often."""
    layers = [rc.Linear(300, 300), Shift(), rc.BatchNorm(300), *[rc.Linear(300, 300) for _ in range(4)]]
    model = rc.Sequential(*(layers if writer == "load" else layers[3:]), seed=0)
    states = [{one: np.full_like(array, value) for one, array in model.state_dict().items()} for value in (0, 1)]
    model.load_state_dict(states[0])
    done = threading.Event()

    def write() -> None:
        optimizer, turn = rc.optim.SGD(1.0), 0
        while not done.is_set():
            turn = 1 - turn
            if writer == "load":
                model.load_state_dict(states[turn])
            else:
                for one in model.grads:
                    model.grads[one][...] = -1 if turn else 1
                optimizer.step(model)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(20 if name == "save" else 60):
            found = {
                float(value) for array in read(model, tmp_path / "m.safetensors").values() for value in array.flat[::7]
            }
            assert len(found) == 1, "half old, half new"
    finally:
        done.set()
        thread.join()
        sys.setswitchinterval(interval)
