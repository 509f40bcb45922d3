"""Contract 8, parameters: read-only views, a version, and no copy of the weights that is ever stale."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import recurra as rc
import torch_peer
from agreement import assert_same_bits
from array_types import DTYPES, Array
from cell_cases import Case, draw
from cell_runs import load, make_layer, solver
from cell_variants import CELLS


def fresh(**options: Any) -> Any:
    return rc.LSTM(3, 5, 2, bidirectional=True, seed=0, **options)


X = np.random.default_rng(0).standard_normal((4, 7, 3)).astype(np.float32)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("cell", torch_peer.MODULES)
def test_names_and_shapes_are_torchs(cell: str, bias: bool) -> None:
    case = Case(cell, 3, 5, num_layers=2, bidirectional=True, bias=bias)
    theirs = {name: tuple(value.shape) for name, value in torch_peer.module(case).state_dict().items()}
    layer = make_layer(case)
    assert {name: layer.params[name].shape for name in layer.params} == theirs
    assert {name: layer.grads[name].shape for name in layer.grads} == theirs
    assert list(layer.params) == list(theirs)


def test_names_and_shapes_of_the_other_layers() -> None:
    linear, embedding = rc.Linear(3, 5), rc.Embedding(7, 3)
    assert {name: linear.params[name].shape for name in linear.params} == {"weight": (5, 3), "bias": (5,)}
    assert {name: embedding.params[name].shape for name in embedding.params} == {"weight": (7, 3)}
    assert list(rc.Linear(3, 5, bias=False).params) == ["weight"]
    assert list(rc.Dropout(0.5).params) == []


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELLS)
def test_initial_values(cell: str, dtype: str) -> None:
    """U(-1/sqrt(H), 1/sqrt(H)), as PyTorch; the same from the same seed, others from another. Norms begin without
    effect."""
    layer, twin, other = (make_layer(Case(cell, 20, 64, seed=seed), dtype) for seed in (1, 1, 2))
    for name in layer.params:
        values = layer.params[name]
        assert values.dtype == dtype
        assert_same_bits(values, twin.params[name])
        if "_norm_" in name:
            assert (values == (1.0 if name.startswith("weight") else 0.0)).all()
            continue
        assert not np.array_equal(values, other.params[name])
        assert np.abs(values).max() <= 1 / 8
        # The mean of n draws of U(-b, b) has a deviation of b / sqrt(3 n): 5 of them, and the extremes come near b.
        assert abs(values.mean()) < 5 / 8 / np.sqrt(3 * values.size)
        assert np.abs(values).max() > 0.95 / 8


def test_no_seed_is_fresh_randomness() -> None:
    one, other = rc.GRU(3, 5), rc.GRU(3, 5)
    assert not np.array_equal(one.params["weight_hh_l0"], other.params["weight_hh_l0"])


def test_a_model_gives_its_layers_seeds_of_their_own() -> None:
    model, twin, other = (rc.Sequential(rc.GRU(5, 5), rc.GRU(5, 5), rc.Linear(5, 5), seed=seed) for seed in (0, 0, 1))
    first, second, _ = (layer.params for layer in model.layers)
    assert not np.array_equal(first["weight_hh_l0"], second["weight_hh_l0"])
    for layer, same, different in zip(model.layers, twin.layers, other.layers, strict=True):
        for name in layer.params:
            assert_same_bits(layer.params[name], same.params[name])
            assert not np.array_equal(layer.params[name], different.params[name])


def test_views_are_read_only_and_alive() -> None:
    layer = fresh()
    view = layer.params["bias_hh_l0"]
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 1.0
    with pytest.raises(ValueError, match=r"WRITEABLE|writeable"):
        view.flags.writeable = True
    layer.params["bias_hh_l0"] = np.ones(20, np.float32)
    assert (view == 1.0).all()
    kept = view.copy()
    del layer
    assert_same_bits(view, kept, "a view keeps its memory alive")


def test_an_assignment_copies() -> None:
    layer = fresh()
    array = np.ones(20, np.float32)
    layer.params["bias_hh_l0"] = array
    array[...] = 2.0
    assert (layer.params["bias_hh_l0"] == 1.0).all()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("bias_hh_l0", np.ones(19, np.float32)),
        ("bias_hh_l0", np.ones((20, 1), np.float32)),
        ("bias_hh_l0", np.float32(1.0)),
        ("bias_hh_l0", np.ones(20, np.float64)),
        ("bias_hh_l0", np.ones(20, np.int32)),
        ("bias_hh_l0", [1.0] * 20),
        ("bias_hh_l0", None),
    ],
    ids=["size", "rank", "scalar", "dtype", "integers", "list", "None"],
)
def test_a_wrong_assignment_changes_nothing(name: str, value: Any) -> None:
    layer = fresh()
    before, version = layer.params[name].copy(), layer.parameters.version
    with pytest.raises((ValueError, TypeError), match="expected"):
        layer.params[name] = value
    assert_same_bits(layer.params[name], before)
    assert layer.parameters.version == version


def test_unknown_names() -> None:
    layer = fresh()
    assert "weight" not in layer.params
    with pytest.raises(KeyError):
        layer.params["weight"]
    with pytest.raises((KeyError, ValueError), match="weight_ih_l0"):
        layer.params["weight"] = np.ones(3, np.float32)
    with pytest.raises((TypeError, AttributeError)):
        del layer.params["weight_ih_l0"]


def change_by_assignment(layer: Any) -> None:
    layer.params["weight_hh_l1"] = layer.params["weight_hh_l1"] * np.float32(0.5)


def change_by_editing(layer: Any) -> None:
    with layer.edit() as params:
        params["weight_hh_l1"][...] *= 0.5
        params["bias_ih_l0_reverse"][3] = 0.25


def change_by_loading(layer: Any) -> None:
    layer.load_state_dict({name: value * np.float32(0.5) for name, value in layer.state_dict().items()})


def change_by_training(layer: Any) -> None:
    tape = layer.record(X)
    tape.backward(np.ones_like(tape.y))
    rc.optim.SGD(0.1).step(layer)


CHANGES = [change_by_assignment, change_by_editing, change_by_loading, change_by_training]


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_moves_the_version_and_nothing_is_stale(change: Any) -> None:
    layer = fresh()
    model = rc.Sequential(layer, rc.Linear(10, 3, seed=1))
    before, model_before, version = layer(X)[0], model(X)[0], layer.parameters.version
    layer(X)
    assert layer.parameters.version == version, "a call changes nothing"
    change(layer)
    assert layer.parameters.version != version
    twin = load(fresh(), dict(layer.params), "float32")
    assert_same_bits(layer(X)[0], twin(X)[0])
    assert_same_bits(layer.record(X).y, twin(X)[0])
    assert_same_bits(model(X)[0], rc.Sequential(twin, model.layers[1])(X)[0])
    assert not np.array_equal(layer(X)[0], before)
    assert not np.array_equal(model(X)[0], model_before)


def test_reading_while_training_on_another_layer() -> None:
    """A layer in two models is one layer: a change through one is seen in the other."""
    shared = rc.GRU(3, 5, seed=0)
    one, other = rc.Sequential(shared, rc.Linear(5, 2, seed=0)), rc.Sequential(shared)
    before = other(X)[0]
    tape = one.record(X)
    tape.backward(np.ones_like(tape.y))
    rc.optim.Adam(0.1).step(one)
    assert not np.array_equal(other(X)[0], before)
    assert_same_bits(other(X)[0], shared(X)[0])


def test_an_edit_that_fails_changes_nothing() -> None:
    layer = fresh()
    before = layer.state_dict()

    def edit() -> None:
        with layer.edit() as params:
            params["weight_hh_l1"][...] = 0.0
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        edit()
    for name, array in before.items():
        assert_same_bits(layer.params[name], array, name)


def views_of(array: Array) -> dict[str, Any]:
    """Ways to get hold of the memory behind an array."""
    interface = dict(array.__array_interface__)
    return {
        "a view": array[:],
        "a view of a view": array[:][1:][::2],
        "a reshaped view": array.reshape(-1),
        "a transpose": array.T,
        "a memoryview": np.asarray(memoryview(array)),
        "DLPack": np.from_dlpack(array),
        "torch": torch.from_numpy(array).numpy(),
        "the array interface": np.asarray(type("Holder", (), {"__array_interface__": interface, "held": array})()),
        "bytes": array.view(np.uint8),
    }


def test_nothing_kept_from_an_edit_reaches_the_parameters_after_it() -> None:
    """Views of views were writable for ever: they changed the parameters, but not the weights packed for the
    kernels."""
    layer = fresh()
    with layer.edit() as params:
        kept = views_of(params["weight_hh_l1"])
        kept["a view"][0, 0] = 0.5
    assert layer.params["weight_hh_l1"][0, 0] == 0.5, "inside the block a view is as good"
    before, y = layer.state_dict(), layer(X)[0]
    for way, view in kept.items():
        try:
            view[...] = 77
        except ValueError:
            continue  # read-only, which is as good
        assert_same_bits(layer.params["weight_hh_l1"], before["weight_hh_l1"], way)
    assert_same_bits(layer(X)[0], y)


@pytest.mark.parametrize("get", ["params", "tape", "flat"])
def test_what_may_only_be_read_cannot_be_made_writable(get: str) -> None:
    layer = fresh()
    tape = layer.record(X)
    array = {"params": layer.params["weight_hh_l1"], "tape": tape.y, "flat": layer.parameters.values}[get]
    base: Any = array
    while base is not None:
        if isinstance(base, np.ndarray):
            with pytest.raises(ValueError, match=r"(?i)writ"):
                base.flags.writeable = True
        base = getattr(base, "base", None)
    assert memoryview(array).readonly
    assert not np.asarray(memoryview(array)).flags.writeable


def test_two_writers_of_one_edit_are_told() -> None:
    layer = fresh()

    def both() -> None:
        with layer.edit() as params:
            params["bias_ih_l0"][...] = 1.0
            layer.params["bias_ih_l0"] = np.full_like(layer.params["bias_ih_l0"], 2.0)

    with pytest.raises(ValueError, match=r"^edit: got 'bias_ih_l0' changed by another writer .* expected"):
        both()
    assert (layer.params["bias_ih_l0"] == 2.0).all()
    with layer.edit() as params:
        params["bias_ih_l0"][...] = 1.0
        layer.params["bias_hh_l0"] = np.full_like(layer.params["bias_hh_l0"], 2.0)
    assert (layer.params["bias_ih_l0"] == 1.0).all()
    assert (layer.params["bias_hh_l0"] == 2.0).all()


def test_gradients_may_be_written() -> None:
    layer = fresh()
    version = layer.parameters.version
    layer.grads["bias_hh_l0"][...] = 3.0
    assert (layer.grads["bias_hh_l0"] == 3.0).all()
    assert layer.parameters.version == version
    layer.zero_grad()
    assert not any(layer.grads[name].any() for name in layer.grads)


def test_state_dict_is_a_copy() -> None:
    layer = fresh()
    state = layer.state_dict()
    assert list(state) == list(layer.params)
    state["bias_hh_l0"][...] = 9.0
    assert not (layer.params["bias_hh_l0"] == 9.0).any()


@pytest.mark.parametrize("tensors", [False, True], ids=["arrays", "torch tensors"])
def test_a_torch_state_dict_loads(tensors: bool) -> None:
    case = Case("lstm", 3, 5, num_layers=2, bidirectional=True)
    module = torch_peer.module(case)
    mapping: dict[str, Any] = dict(module.state_dict())
    if not tensors:
        mapping = {name: value.numpy() for name, value in mapping.items()}
    layer = fresh()
    layer.load_state_dict(mapping)
    for name, value in module.state_dict().items():
        assert_same_bits(layer.params[name], value.numpy())
    with torch.no_grad():
        y, _ = module(torch.from_numpy(X))
    np.testing.assert_allclose(layer(X)[0], y.numpy(), rtol=0, atol=1e-6)  # a few units in the last place of 1


def broken(mapping: dict[str, Array], how: str) -> dict[str, Array]:
    if how == "missing":
        del mapping["bias_hh_l1"]
    elif how == "unexpected":
        mapping["weight_hr_l0"] = np.ones((2, 2), np.float32)
    elif how == "shape":
        mapping["bias_hh_l1"] = np.ones(3, np.float32)
    else:
        mapping["bias_hh_l1"] = mapping["bias_hh_l1"].astype(np.float64)
    return mapping


@pytest.mark.parametrize("how", ["missing", "unexpected", "shape", "dtype"])
def test_a_wrong_state_dict_changes_nothing(how: str) -> None:
    layer = fresh()
    before, version = layer.state_dict(), layer.parameters.version
    culprit = "weight_hr_l0" if how == "unexpected" else "bias_hh_l1"
    with pytest.raises((ValueError, TypeError), match=rf"^LSTM.load_state_dict: got(.|\n)*{culprit}"):
        layer.load_state_dict(broken({name: value + 1 for name, value in before.items()}, how))
    for name, value in before.items():
        assert_same_bits(layer.params[name], value)
    assert layer.parameters.version == version


def test_a_models_state_dict() -> None:
    model, other = (rc.Sequential(rc.GRU(3, 5), rc.Dropout(0.1), rc.Linear(5, 2), seed=seed) for seed in (0, 1))
    state = model.state_dict()
    assert len(state) == 6
    other.load_state_dict(state)
    assert_same_bits(other(X)[0], model(X)[0])


@pytest.mark.parametrize("cell", CELLS)
def test_layers_hold_no_sequence_state(cell: str) -> None:
    problem = draw(Case(cell, 3, 5, 4, 7, state=False))
    layer = solver(problem, "float32")
    x = problem.x.astype("float32")
    first, _ = layer(x)
    layer(x[:, ::-1].copy())
    assert_same_bits(layer(x)[0], first)
