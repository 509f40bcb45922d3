"""What an optimiser remembers of layers follows the layers, and costs little at every step."""

from __future__ import annotations

import gc

import numpy as np
import pytest

import recurra as rc
from recurra.optim import memory


def with_gradient(seed: int) -> rc.Linear:
    layer = rc.Linear(3, 2, seed=seed)
    for name in layer.grads:
        layer.grads[name][...] = np.random.default_rng(seed).standard_normal(layer.grads[name].shape)
    return layer


@pytest.mark.parametrize("seed", range(5))
def test_layers_that_come_and_go_learn_as_alone(seed: int) -> None:
    """Also where a new layer lies in memory where an old one did, which the memory's places are kept by."""
    gc.freeze()  # the collections below look at what this test makes, not at every module that was imported
    rng = np.random.default_rng(seed)
    shared, pairs, ids, reused = rc.optim.Adam(0.1), [], set(), 0
    for number in range(60):
        if len(pairs) < 4:
            pair = (with_gradient(number), with_gradient(number), rc.optim.Adam(0.1))
            reused += id(pair[0]) in ids
            ids.add(id(pair[0]))
            pairs.append(pair)
            del pair
        chosen = [one for one in pairs if rng.random() < 0.7] or pairs[:1]
        shared.step([layer for layer, _twin, _own in chosen])
        for layer, twin, own in chosen:
            own.step(twin)
            for name, value in twin.params.items():
                np.testing.assert_array_equal(layer.params[name], value)
        if rng.random() < 0.4:
            pairs.pop(int(rng.integers(len(pairs))))
        del chosen, layer, twin, own
        gc.collect()
    assert reused
    assert sum(name.endswith(".m") for name in shared.state_dict()) == len(pairs)


def test_a_step_looks_for_a_layers_memory_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps after the first make no new memory: a small step's time was mostly that."""
    sought = []
    place_of = memory.Memory.__init__
    monkeypatch.setattr(memory.Memory, "__init__", lambda self, *given: (sought.append(1), place_of(self, *given))[1])
    layers, optimizer = [with_gradient(0), with_gradient(1)], rc.optim.Adam(0.1)
    for _ in range(5):
        optimizer.step(layers)
    assert len(sought) == 2  # an empty one, and that of the first step
    layers[0].trainable = False
    optimizer.step(layers)
    optimizer.step(layers[1])
    assert len(sought) == 2
    optimizer.step([*layers, with_gradient(2)])
    assert len(sought) == 3
