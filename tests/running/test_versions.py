"""Weights that change beside calls on other threads: every answer is that of one version of the whole model."""

from __future__ import annotations

import copy
import os
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import recurra as rc
from array_types import Array
from fresh_python import run_python
from user_layers import Scale

X = np.random.default_rng(0).standard_normal((3, 7, 6)).astype(np.float32)
LONG = np.random.default_rng(0).standard_normal((16, 100, 64)).astype(np.float32)
TOKENS = np.random.default_rng(0).integers(0, 40, (4, 9))


def several() -> Any:
    x = rc.Input(features=6)
    h = rc.GRU(6, 6)(x)
    return rc.Model(x, rc.Linear(6, 6)(h) + rc.LayerNorm(6)(x), seed=0)


def attending() -> Any:
    x = rc.Input(features=6)
    return rc.Model(x, rc.AttentionDecoder(6, 6, 6)((x, rc.Linear(6, 6)(x))), seed=0)


MODELS: dict[str, tuple[Callable[[], Any], Array]] = {
    "linear": (lambda: rc.Sequential(*[rc.Linear(6, 6) for _ in range(6)], seed=0), X),
    "recurrent": (lambda: rc.Sequential(rc.LSTM(6, 8, 2), rc.GRU(8, 6), rc.Linear(6, 2), seed=0), X),
    "norms": (lambda: rc.Sequential(rc.LayerNorm(6), rc.BatchNorm(6), rc.Linear(6, 6), rc.LayerNorm(6), seed=0), X),
    "embedding": (lambda: rc.Sequential(rc.Embedding(40, 6), rc.Conv1d(6, 6, 3), rc.Linear(6, 40), seed=0), TOKENS),
    "graph": (several, X),
    "attending": (attending, X),
    "pool": (lambda: rc.Sequential(rc.GRU(6, 8), rc.AttentionPool(8, 4), rc.Linear(8, 3), seed=0), X),
    "python": (lambda: rc.Sequential(rc.Linear(6, 6), Scale(6), rc.BatchNorm(6), Scale(6), rc.GRU(6, 3), seed=0), X),
    "long": (lambda: rc.Sequential(rc.LSTM(64, 128), rc.Linear(128, 64), rc.LayerNorm(64), seed=0), LONG),
}


def call(model: Any, x: Array) -> Array:
    y: Array = model(x)[0]
    return y


def record(model: Any, x: Array) -> Array:
    return np.array(model.record(x, training=False).y)


def process(model: Any, x: Array) -> Array:
    y: Array = model.stream(batch_size=len(x)).process(x)
    return y


def step(model: Any, x: Array) -> Array:
    """Each step of a stream is a call: that of a fresh state."""
    y: Array = model.stream(batch_size=len(x)).step(x[:, 0])
    return y


WAYS = {"call": call, "record": record, "process": process, "step": step}


def by_loading(model: Any, state: dict[str, Array]) -> None:
    model.load_state_dict(state)


def by_editing(model: Any, state: dict[str, Array]) -> None:
    with model.edit() as params:
        for name in params:
            params[name] = state[name]
    if model.buffers:
        model.load_state_dict(state)


def versions_of(model: Any) -> list[dict[str, Array]]:
    first = model.state_dict()
    return [first, {name: array * np.float32(-0.5) + np.float32(1.0) for name, array in first.items()}]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", MODELS)
def test_an_answer_is_of_one_version(name: str, way: str) -> None:
    make, x = MODELS[name]
    if way in ("process", "step") and name in ("attending", "pool"):
        pytest.skip("these are not streamed")
    model, ask = make(), WAYS[way]
    states = versions_of(model)
    expected = set()
    for state in states:
        model.load_state_dict(state)
        expected.add(ask(model, x).tobytes())
    assert len(expected) == 2
    done = threading.Event()

    def look() -> int:
        count = 0
        while not done.is_set():
            assert ask(model, x).tobytes() in expected
            count += 1
        return count

    with ThreadPoolExecutor(3) as pool:
        looks = [pool.submit(look) for _ in range(3)]
        try:
            for turn in range(40):
                by_loading(model, states[turn % 2])
                if not model.buffers:
                    by_editing(model, states[(turn + 1) % 2])
        finally:
            done.set()
        assert all(one.result() > 0 for one in looks)


def test_one_stream_goes_on_beside_writes() -> None:
    """With the same stream, too: steps from a state of zeros."""
    model = rc.Sequential(*[rc.Linear(6, 6) for _ in range(8)], seed=0)
    states = versions_of(model)
    expected = set()
    for state in states:
        model.load_state_dict(state)
        expected.add(model.stream(batch_size=3).step(X[:, 0]).tobytes())
    done = threading.Event()

    def look() -> int:
        stream = model.stream(batch_size=3)
        count = 0
        while not done.is_set():
            assert stream.step(X[:, 0]).tobytes() in expected
            count += 1
        return count

    with ThreadPoolExecutor(2) as pool:
        looks = [pool.submit(look) for _ in range(2)]
        for turn in range(200):
            model.load_state_dict(states[turn % 2])
        done.set()
        assert all(one.result() > 0 for one in looks)


@pytest.mark.parametrize("make", [lambda: rc.optim.SGD(1.0, weight_decay=2.0)])
def test_an_optimisers_step_is_one_change(make: Any) -> None:
    """Without a gradient it turns the sign of all weights, of all layers at once."""
    model = rc.Sequential(*[rc.Linear(6, 6) for _ in range(5)], rc.GRU(6, 4), seed=0)
    optimizer, expected = make(), {call(model, X).tobytes()}
    optimizer.step(model)
    expected.add(call(model, X).tobytes())
    done = threading.Event()

    def look() -> bool:
        while not done.is_set():
            assert call(model, X).tobytes() in expected
        return True

    with ThreadPoolExecutor(3) as pool:
        looks = [pool.submit(look) for _ in range(3)]
        for _ in range(300):
            optimizer.step(model)
        done.set()
        assert all(one.result() for one in looks)


def test_writers_take_turns() -> None:
    """Two that load at once leave one of the two, whole."""
    model = rc.Sequential(rc.Linear(6, 6), rc.BatchNorm(6), rc.GRU(6, 4), seed=0)
    states = versions_of(model)
    barrier = threading.Barrier(2)

    def load(which: int) -> None:
        for _ in range(100):
            model.load_state_dict(states[which])

    for _ in range(5):
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda which: (barrier.wait(), load(which)), range(2)))
        now = model.state_dict()
        assert any(all(np.array_equal(now[name], state[name]) for name in state) for state in states)


def _graph() -> Any:
    x = rc.Input(features=6)
    return rc.Model(x, rc.Linear(6, 6)(rc.Sequential(rc.Linear(6, 6), rc.BatchNorm(6))(rc.Linear(6, 6)(x))), seed=0)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
@pytest.mark.parametrize("make", [lambda: rc.Sequential(*[rc.Linear(6, 6) for _ in range(9)], seed=0), _graph])
def test_a_copy_is_of_one_version(make: Callable[[], Any], copied: Callable[[Any], Any]) -> None:
    """However the writer comes in between: here after every layer's turn."""
    model = make()
    states = versions_of(model)
    layers = [layer for _prefix, layer in model.leaves]
    kind = type(layers[0])
    reduce = rc.Layer.__reduce__
    for turn in range(len(layers) + 1):
        model.load_state_dict(states[0])
        met: list[Any] = []

        def write_in_turn(self: Any, met: list[Any] = met, turn: int = turn) -> Any:
            if len(met) == turn:
                model.load_state_dict(states[1])
            met.append(self)
            return reduce(self)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(kind, "__reduce__", write_in_turn)
            twin, again = copied([model, model])
        assert len(met) >= len(layers) - 1
        assert again is twin
        now = twin.state_dict()
        assert any(all(np.array_equal(now[name], state[name]) for name in state) for state in states)
        assert [layer.trainable for _prefix, layer in twin.leaves] == [layer.trainable for layer in layers]


def test_copies_beside_a_writer() -> None:
    model = rc.Sequential(*[rc.Linear(6, 6) for _ in range(5)], rc.BatchNorm(6), seed=0)
    states = versions_of(model)
    done = threading.Event()

    def write() -> None:
        while not done.is_set():
            for state in states:
                model.load_state_dict(state)

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        try:
            for _ in range(50):
                now = copy.deepcopy(model).state_dict()
                assert any(all(np.array_equal(now[name], state[name]) for name in state) for state in states)
        finally:
            done.set()
        writing.result()


def test_an_edit_is_whole_or_nothing() -> None:
    model = rc.Sequential(rc.Linear(6, 6), rc.Linear(6, 6), seed=0)
    before = model.state_dict()

    def fail() -> None:
        with model.edit() as params:
            params["0.weight"][...] = 0.0
            np.testing.assert_array_equal(model.params["0.weight"], before["0.weight"])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    for name, array in model.params.items():
        np.testing.assert_array_equal(array, before[name])
    with model.edit() as params:
        view = params["0.weight"].reshape(-1)[3:]
        params["1.bias"] += 1.0
    view[...] = 7.0  # a view of a view: of a copy that nobody reads any more
    np.testing.assert_array_equal(model.params["0.weight"], before["0.weight"])
    np.testing.assert_array_equal(model.params["1.bias"], before["1.bias"] + 1.0)


def test_a_state_dict_of_views() -> None:
    """Arrays of the model itself, given to each other's names."""
    model = rc.Sequential(rc.Linear(3, 3, seed=0), rc.Linear(3, 3, seed=1))
    before = model.state_dict()
    other = {name: ("1." if name[0] == "0" else "0.") + name[2:] for name in before}
    model.load_state_dict({name: model.params[other[name]] for name in before})
    for name in before:
        np.testing.assert_array_equal(model.params[name], before[other[name]])
    model.params["0.weight"] = model.params["0.weight"].T
    np.testing.assert_array_equal(model.params["0.weight"], before["1.weight"].T)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_fork_beside_writes_leaves_a_model_that_answers_and_learns() -> None:
    code = """
        import os, threading
        import numpy as np
        import recurra as rc
        model = rc.Sequential(*[rc.Linear(16, 16) for _ in range(20)], seed=0)
        x = np.ones((1, 16), np.float32)
        stop = threading.Event()
        optimizer = rc.optim.SGD(0.0)
        def write():
            while not stop.is_set():
                optimizer.step(model)
        def read():
            while not stop.is_set():
                model(x)
        threads = [threading.Thread(target=one) for one in (write, read)]
        for one in threads:
            one.start()
        for _ in range(40):
            pid = os.fork()
            if pid == 0:
                model(x)
                model.load_state_dict(model.state_dict())
                rc.optim.SGD(0.1).step(model)
                model(x)
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
        stop.set()
        for one in threads:
            one.join()
        print("fine")
    """
    assert "fine" in run_python(code, timeout=60.0)


class Counts(rc.PythonLayer):
    """Writes a parameter of its own in every forward."""

    stateless = True

    def __init__(self) -> None:
        self.calls = 0
        self.add_parameter("calls", np.zeros(1, np.float32))

    def forward(self, x: Array, *, lengths: Any, training: bool, rng: Any) -> tuple[Array, None]:
        self.calls += 1
        self.params["calls"] = self.params["calls"] + 1
        return x, None

    def backward(self, dy: Array, saved: Any) -> Array:
        return dy


def test_a_layer_that_writes_while_it_is_called_is_called_once() -> None:
    layer = Counts()
    model = rc.Sequential(rc.Linear(6, 6), layer, rc.Linear(6, 6), seed=0)
    model(X)
    model.stream(batch_size=3).step(X[:, 0])
    assert layer.calls == 2
