"""pickle and deepcopy: the same layer again, and its own."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
import pytest

import recurra as rc
from agreement import assert_same_bits
from user_layers import Scale

X = np.random.default_rng(0).standard_normal((4, 7, 3)).astype(np.float32)
MODELS: dict[str, Callable[[], Any]] = {
    "RNN": lambda: rc.RNN(3, 5, nonlinearity="relu", seed=0),
    "LSTM": lambda: rc.LSTM(3, 5, 2, bidirectional=True, dropout=0.25, bias=False, seed=0),
    "GRU": lambda: rc.GRU(3, 5, reset_after=False, return_sequences=False, seed=0),
    "options": lambda: rc.LSTM(
        *(3, 5, 2), proj_size=2, peepholes=True, layer_norm=True, zoneout=0.1, zoneout_cell=0.1, cell_clip=0.5, seed=0
    ),
    "MinGRU": lambda: rc.MinGRU(3, 5, 2, dropout=0.25, positive=True, seed=0),
    "MinLSTM": lambda: rc.MinLSTM(3, 5, bidirectional=True, seed=0),
    "Linear": lambda: rc.Linear(3, 5, seed=0),
    "Dropout": lambda: rc.Dropout(0.25),
    "Sequential": lambda: rc.Sequential(rc.GRU(3, 5), rc.Dropout(0.5), Scale(5), rc.Linear(5, 2), seed=0),
}


def by_pickle(item: Any) -> Any:
    return pickle.loads(pickle.dumps(item))


def by_old_pickle(item: Any) -> Any:
    return pickle.loads(pickle.dumps(item, protocol=2))


COPIES: list[Callable[[Any], Any]] = [copy.deepcopy, by_pickle, by_old_pickle]


@pytest.mark.parametrize("again", COPIES)
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_the_same_again(make: Callable[[], Any], again: Callable[[Any], Any]) -> None:
    model = make()
    twin = again(model)
    assert type(twin) is type(model)
    assert twin.config() == model.config()
    for name in model.params:
        assert_same_bits(twin.params[name], model.params[name])
    assert_same_bits(twin(X)[0], model(X)[0])
    assert_same_bits(twin.record(X, seed=3).y, model.record(X, seed=3).y)


@pytest.mark.parametrize("again", COPIES)
def test_a_copy_is_its_own(again: Callable[[Any], Any]) -> None:
    model = MODELS["Sequential"]()
    before = model(X)[0]
    twin = again(model)
    tape = twin.record(X)
    tape.backward(np.ones_like(tape.y))
    rc.optim.SGD(0.1).step(twin)
    assert not np.array_equal(twin(X)[0], before)
    assert_same_bits(model(X)[0], before)
    assert not any(model.grads[name].any() for name in model.grads)


def test_frozen_layers_stay_frozen() -> None:
    model = MODELS["Sequential"]()
    model.layers[0].trainable = False
    assert [layer.trainable for layer in copy.deepcopy(model).layers] == [False, True, True, True]


def apply(model: Any) -> Any:
    return model(X)[0]


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_to_another_process_and_back(method: str) -> None:
    model = MODELS["LSTM"]()
    with ProcessPoolExecutor(1, mp_context=get_context(method)) as pool:
        assert_same_bits(pool.submit(apply, model).result(60), model(X)[0])


def test_float64() -> None:
    layer = rc.GRU(3, 5, dtype="float64", seed=0)
    twin = copy.deepcopy(layer)
    assert twin.dtype == np.float64
    assert_same_bits(twin(X.astype(np.float64))[0], layer(X.astype(np.float64))[0])


@pytest.mark.parametrize("again", [copy.deepcopy, by_pickle])
def test_views_say_what_to_copy_instead(again: Callable[[Any], Any]) -> None:
    model = rc.Sequential(rc.Linear(2, 3), seed=0)
    with pytest.raises(TypeError, match=r"^params: .*take state_dict\(\)"):
        again(model.params)
    with pytest.raises(TypeError, match=r"^grads: .*array.copy\(\)"):
        again(model.grads)
