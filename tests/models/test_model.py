"""Models drawn as graphs: branches, shared layers, states between layers, several inputs and outputs."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import recurra as rc
from agreement import assert_same_bits
from array_types import DTYPES, Array
from cell_runs import unpack
from recurra.saving import registry
from single_thread import central_difference
from user_layers import Failing, Mean, Noise, Scale, Softsign

pytestmark = pytest.mark.every_isa

ROWS, LONG, SHORT = 4, 7, 5
LENGTHS = (np.array([7, 0, 3, 5]), np.array([2, 5, 0, 4]))


def residual(dtype: str) -> Any:
    """A fan-out, joined again; one layer twice."""
    x = rc.Input(features=3)
    shared = rc.Linear(3, 3, dtype=dtype)
    a = shared(x)
    b = rc.GRU(3, 3, 2, dtype=dtype)(shared(a))
    return rc.Model(x, rc.Linear(3, 2, dtype=dtype)(a + b * x), seed=0)


def translator(dtype: str) -> Any:
    """A state that begins another layer, over another time axis."""
    source, target = rc.Input(features=3, name="source"), rc.Input(features=3, name="target")
    h = rc.LSTM(3, 5, dtype=dtype)(source)
    d = rc.LSTM(3, 5, 1, dtype=dtype)(target, state=h.state)
    return rc.Model((source, target), rc.Linear(5, 2, dtype=dtype)(d), seed=0)


def two_headed(dtype: str) -> Any:
    """Several outputs, a state among them; half of a state passed on."""
    x, z = rc.Input(features=3), rc.Input(features=3)
    encoder = rc.GRU(3, 4, bidirectional=True, dtype=dtype)
    h = encoder(x)
    d = rc.LSTM(3, 8, dtype=dtype)(z, state=(h.state, None))
    both = rc.Concatenate(dtype=dtype)((d, rc.Reverse(dtype=dtype)(z)))
    return rc.Model({"a": x, "b": z}, {"y": both, "state": h.state, "h": h}, seed=0)


def shared_encoder(dtype: str) -> Any:
    """The same recurrent layer on two inputs; vectors behind it."""
    a, b = rc.Input(features=3), rc.Input(features=3)
    encoder = rc.GRU(3, 4, return_sequences=False, dtype=dtype)
    product = encoder(a) * encoder(b)
    v = rc.Input(features=2, sequence=False)
    joined = rc.Concatenate(dtype=dtype)((product, rc.Linear(2, 3, dtype=dtype)(v)))
    return rc.Model((a, b, v), (rc.Linear(7, 2, dtype=dtype)(joined),), seed=0)


def with_python(dtype: str) -> Any:
    """Layers of a user between native runs, in a branch, with fan-outs and states across them."""
    x, z = rc.Input(features=3), rc.Input(features=3)
    h = rc.GRU(3, 3, dtype=dtype)(x)
    s = Scale(3, dtype)(h)
    b = rc.RNN(3, 3, dtype=dtype)(s + h)
    d = rc.GRU(3, 3, dtype=dtype)(Softsign()(z), state=b.state)
    return rc.Model((x, z), (Mean()(s + b * h), d), seed=0)


MODELS = [residual, translator, two_headed, shared_encoder, with_python]
Make = Callable[[str], Any]


def inputs_of(model: Any, dtype: str, rows: int = ROWS, seed: int = 1) -> list[Array]:
    """Sequences of LONG steps, then SHORT ones; vectors where the input is one. With one time axis all have as many."""
    rng = np.random.default_rng(seed)
    found = []
    for index, info in enumerate(model.input_infos()):
        time = ((LONG, SHORT)[index % 2],) if info.needs_sequences else ()
        found.append(rng.standard_normal((rows, *time, info.input_size)).astype(dtype))
    return found


def lengths_of(model: Any) -> list[Array | None]:
    return [LENGTHS[index % 2] if info.needs_sequences else None for index, info in enumerate(model.input_infos())]


def written(model: Any, parts: Any, which: int = 0) -> Any:
    """As a call takes inputs (0) or outputs (1)."""
    return model.structures[which].join(list(parts))


def spread(model: Any, parts: Any, which: int) -> list[Any]:
    return list(model.structures[which].spread("test", "parts", parts))


def flat_state(state: Any) -> list[Array]:
    return [array for entry in state if entry is not None for array in unpack(entry)]


def solve(model: Any, x: list[Array], lengths: list[Any], dy: list[Any], **options: Any) -> dict[str, Array]:
    """Outputs, final states and all gradients."""
    model.zero_grad()
    tape = model.record(written(model, x), lengths=written(model, lengths), **options)
    found = {f"y{i}": y for i, y in enumerate(spread(model, tape.y, 1))}
    found |= {f"state{i}": array for i, array in enumerate(flat_state(tape.state))}
    dx, dstate = tape.backward(written(model, dy, 1))
    found |= {f"dx{i}": one for i, one in enumerate(spread(model, dx, 0))}
    found |= {f"dstate{i}": array for i, array in enumerate(flat_state(dstate))}
    return found | {name: model.grads[name].copy() for name in model.grads}


def gradients_like(outputs: list[Array], seed: int = 2) -> list[Array]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(y.shape).astype(y.dtype) for y in outputs]


@pytest.mark.parametrize("ragged", [False, True], ids=["dense", "ragged"])
@pytest.mark.parametrize("make", MODELS)
def test_gradients_by_central_differences(make: Make, ragged: bool) -> None:
    model = make("float64")
    x = inputs_of(model, "float64")
    lengths = lengths_of(model) if ragged else [None] * len(x)
    state = [
        None if entry is None else tuple(np.random.default_rng(5).standard_normal(a.shape) for a in unpack(entry))
        for entry in model.init_state(ROWS)
    ]
    own = [one if one is None or len(one) > 1 else one[0] for one in state]

    def outputs() -> list[Array]:
        y, _ = model(written(model, x), state=own, lengths=written(model, lengths))
        return spread(model, y, 1)

    dy = gradients_like(outputs())
    model.zero_grad()
    tape = model.record(written(model, x), state=own, lengths=written(model, lengths))
    for one, other in zip(spread(model, tape.y, 1), outputs(), strict=True):
        assert_same_bits(one, other)
    dx, dstate = tape.backward(written(model, dy, 1))

    def loss() -> float:
        return sum(float((y * d).sum()) for y, d in zip(outputs(), dy, strict=True))

    def check(name: str, actual: Array, variable: Array, f: Callable[[], float]) -> None:
        entries = np.random.default_rng(3).permutation(variable.size)[:12]
        expected = central_difference(f, variable, entries)
        # As in test_gradients.py: the differences are good to 1e-9.
        np.testing.assert_allclose(actual.flat[entries], expected, rtol=0, atol=1e-6, err_msg=name)

    for index, (one, gradient) in enumerate(zip(x, spread(model, dx, 0), strict=True)):
        check(f"dx{index}", gradient, one, loss)
    for one, gradient in zip(flat_state(own), flat_state(dstate), strict=True):
        check("dstate", gradient, one, loss)
    for name in model.params:
        variable = model.params[name].copy()

        def f(name: str = name, variable: Array = variable) -> float:
            model.params[name] = variable
            return loss()

        check(name, model.grads[name], variable, f)
        f()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_graph_is_its_layers_in_turn(dtype: str) -> None:
    """Bit for bit, with a state handed over and one layer at work twice."""
    source, target = rc.Input(features=3), rc.Input(features=3)
    shared = rc.Linear(3, 3, dtype=dtype, seed=0)
    encoder, decoder = rc.LSTM(3, 4, 2, dtype=dtype, seed=1), rc.LSTM(3, 4, 2, dtype=dtype, seed=2)
    h = encoder(shared(source))
    model = rc.Model((source, target), decoder(shared(target), state=h.state) * decoder(target))
    x = inputs_of(model, dtype)
    y, state = model(tuple(x), lengths=LENGTHS)
    _, handed = encoder(shared(x[0])[0], lengths=LENGTHS[0])
    one, _ = decoder(shared(x[1])[0], state=handed, lengths=LENGTHS[1])
    other, own = decoder(x[1], lengths=LENGTHS[1])
    valid = np.arange(SHORT) < LENGTHS[1][:, None]
    assert_same_bits(y[valid], (one * other)[valid])
    assert not y[~valid].any()
    assert [entry is None for entry in state] == [True, False, True, True, False, True]
    for a, b in zip(flat_state(state), [*unpack(handed), *unpack(own)], strict=True):
        assert_same_bits(a, b)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_sequential_is_a_model_of_the_same_layers(dtype: str) -> None:
    """The same bits, dropout included."""

    def layers() -> list[Any]:
        made = [
            rc.Embedding(11, 6, dtype=dtype),
            rc.LSTM(6, 5, 2, dropout=0.3, dtype=dtype),
            rc.Dropout(0.5, dtype=dtype),
        ]
        return [*made, Scale(5, dtype), rc.GRU(5, 4, dtype=dtype), rc.Linear(4, 3, dtype=dtype)]

    line = rc.Sequential(*layers(), seed=7)
    x = rc.Input(tokens=11)
    value: Any = x
    for layer in layers():
        value = layer(value)
    drawn = rc.Model(x, value, seed=7)
    wrapped = rc.Model(x, rc.Sequential(*layers())(x), seed=7)
    tokens = np.random.default_rng(0).integers(0, 11, (ROWS, LONG))
    results = []
    for model in (line, drawn, wrapped):
        y = model(tokens, lengths=LENGTHS[0])[0]
        results.append({"y": y, **solve(model, [tokens], [LENGTHS[0]], gradients_like([y]), seed=3, input_grad=False)})
        assert results[-1].pop("dx0") is None
    for other in results[1:]:
        for name, array in results[0].items():
            assert_same_bits(other[name], array, name)


def take(parts: list[Any], rows: Any) -> list[Any]:
    return [None if part is None else part[rows] for part in parts]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("make", MODELS)
def test_rows_do_not_know_each_other_nor_padding(make: Make, dtype: str) -> None:
    """Outputs, states and input gradients of a row are the same bits alone, among others, and with NaN in padding."""
    model = make(dtype)
    x, lengths = inputs_of(model, dtype), lengths_of(model)
    dy = gradients_like(spread(model, model(written(model, x), lengths=written(model, lengths))[0], 1))
    whole = solve(model, x, lengths, dy)

    def compare(other: dict[str, Array], rows: Any) -> None:
        for name, array in whole.items():
            if name.startswith(("y", "dx")):
                assert_same_bits(other[name], array[rows], name)
            elif "state" in name:
                assert_same_bits(other[name], array[:, rows], name)

    for rows in ([2], [3, 0], [1, 2, 3, 0]):
        compare(solve(model, take(x, rows), take(lengths, rows), take(dy, rows)), rows)
    padded = [one.copy() for one in x]
    for one, valid in zip(padded, lengths, strict=True):
        if valid is not None:
            one[np.arange(one.shape[1]) >= valid[:, None]] = np.nan
    spoilt = [one.copy() for one in dy]
    for one, y in zip(spoilt, spread(model, model.output_lengths(written(model, lengths)), 1), strict=True):
        if y is not None:
            one[np.arange(one.shape[1]) >= y[:, None]] = np.nan
    again = solve(model, padded, lengths, spoilt)
    compare(again, slice(None))
    for name in model.params:
        assert_same_bits(again[name], whole[name], name)


@pytest.mark.parametrize("make", MODELS)
def test_threads_change_no_bit(make: Make) -> None:
    model = make("float32")
    x, lengths = (
        inputs_of(model, "float32", rows=ROWS * 400),
        [None if one is None else np.tile(one, 400) for one in lengths_of(model)],
    )
    dy = gradients_like(spread(model, model(written(model, x), lengths=written(model, lengths))[0], 1))
    before = rc.get_num_threads()
    results = []
    try:
        for threads in (1, 2):
            rc.set_num_threads(threads)
            results.append(solve(model, x, lengths, dy))
    finally:
        rc.set_num_threads(before)
    for name, array in results[0].items():
        assert_same_bits(results[1][name], array, name)


@pytest.mark.parametrize("make", MODELS)
def test_nothing_to_do(make: Make) -> None:
    """No rows, no steps, no valid steps: shapes as ever, zero gradients for the parameters of what has not run."""
    model = make("float32")
    x = inputs_of(model, "float32")
    for few in ([one[:0] for one in x], [one[:, :0] if one.ndim == 3 else one for one in x]):
        y = spread(model, model(written(model, few))[0], 1)
        found = solve(model, few, [None] * len(few), [np.ones_like(one) for one in y])
        for index, one in enumerate(few):
            assert found[f"dx{index}"].shape == one.shape
    tape = model.record(written(model, x))
    model.zero_grad()
    dx, dstate = tape.backward(None)
    for one in [*spread(model, dx, 0), *flat_state(dstate), *model.grads.values()]:
        assert not one.any()


def streamed(dtype: str = "float32") -> Any:
    """Two inputs, two outputs, branches."""
    x, z = rc.Input(features=3), rc.Input(features=3)
    h = rc.LSTM(3, 5, dtype=dtype)(x)
    d = rc.Concatenate(dtype=dtype)((h, rc.Linear(3, 3, dtype=dtype)(z), x))
    g = rc.GRU(11, 4, 2, dtype=dtype)(d)
    return rc.Model((x, z), (rc.Linear(4, 3, dtype=dtype)(g) + z * x, g), seed=0)


def streamed_with_python(dtype: str = "float32") -> Any:
    x, z = rc.Input(features=3), rc.Input(features=3)
    h = rc.LSTM(3, 3, dtype=dtype)(x)
    g = rc.GRU(3, 3, dtype=dtype)(Scale(3, dtype)(h) + z)
    return rc.Model({"x": x, "z": z}, {"g": g, "h": h, "s": Softsign()(h * g)}, seed=0)


@pytest.mark.parametrize("make", [streamed, streamed_with_python])
def test_streams(make: Make) -> None:
    model = make("float32")
    rng = np.random.default_rng(0)
    x = [rng.standard_normal((ROWS, LONG, 3)).astype(np.float32) for _ in range(2)]
    reset = rng.random((ROWS, LONG)) < 0.3
    y, final = model(written(model, x), reset=written(model, [reset, reset]))
    expected = spread(model, y, 1)
    stream = model.stream(batch_size=ROWS)
    outs = [np.zeros((ROWS, one.shape[2]), np.float32) for one in expected]
    for t in range(LONG):
        out = written(model, outs, 1) if t % 2 else None
        step = stream.step(written(model, [one[:, t] for one in x]), reset[:, t], out)
        for index, (one, whole) in enumerate(zip(spread(model, step, 1), expected, strict=True)):
            assert_same_bits(one, whole[:, t])
            assert out is None or one is outs[index]
    for one, other in zip(flat_state(stream.state()), flat_state(final), strict=True):
        assert_same_bits(one, other)
    stream.reset()
    chunks = [
        spread(model, stream.process(written(model, [one[:, part] for one in x]), reset[:, part]), 1)
        for part in (slice(0, 1), slice(1, 5), slice(5, 5), slice(5, LONG))
    ]
    for index, whole in enumerate(expected):
        assert_same_bits(np.concatenate([chunk[index] for chunk in chunks], axis=1), whole)
    twins = stream.fork(2)
    one = spread(model, stream.step(written(model, [part[:, 0] for part in x])), 1)
    two = spread(model, twins.step(written(model, [np.repeat(part[:, 0], 2, axis=0) for part in x])), 1)
    for a, b in zip(one, two, strict=True):
        assert_same_bits(np.repeat(a, 2, axis=0), b)


def test_one_input_and_output_stream_by_the_short_way() -> None:
    model = residual("float32")
    x = inputs_of(model, "float32")[0]
    expected, _ = model(x)
    stream = model.stream(batch_size=ROWS)
    assert_same_bits(np.stack([stream.step(x[:, t]) for t in range(LONG)], axis=1), expected)


@pytest.mark.parametrize("make", [translator, two_headed, shared_encoder])
def test_what_cannot_be_streamed(make: Make) -> None:
    with pytest.raises(ValueError, match=r"^Model.stream: got .*expected .*; "):
        make("float32").stream()


@pytest.mark.parametrize("make", [*MODELS, streamed_with_python])
def test_files_and_copies(make: Make, tmp_path: Any) -> None:
    model = make("float32")
    model.layers[1].trainable = False
    x = inputs_of(model, "float32")
    if make is streamed_with_python:
        x[1] = x[0]
    expected = spread(model, model(written(model, x))[0], 1)
    path = tmp_path / "model.safetensors"
    model.save(path)
    custom: dict[str, Any] = {"Scale": Scale, "Softsign": Softsign, "Mean": Mean}
    for other in (rc.load(path, custom=custom), pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert type(other) is rc.Model
        assert repr(other) == repr(model)
        assert other.config() == model.config()
        assert [layer.trainable for layer in other.layers] == [layer.trainable for layer in model.layers]
        for one, whole in zip(spread(other, other(written(model, x))[0], 1), expected, strict=True):
            assert_same_bits(one, whole)
        with other.edit() as params:
            next(iter(params.values()))[...] = 0
    for one, whole in zip(spread(model, model(written(model, x))[0], 1), expected, strict=True):
        assert_same_bits(one, whole, "copies share nothing")


def test_damaged_files_are_explained(tmp_path: Any) -> None:
    model = translator("float32")
    config = model.config()
    good = tmp_path / "good.safetensors"
    model.save(good)
    with safe_open(good, framework="numpy") as file:
        metadata = file.metadata()
    changes: list[Callable[[dict[str, Any]], Any]] = [
        lambda c: c["nodes"][0].__setitem__(0, 9),
        lambda c: c["nodes"][0].__setitem__(1, [9]),
        lambda c: c["nodes"].pop(),
        lambda c: c.__setitem__("outputs", [0]),
        lambda c: c.__setitem__("structure", [["a"], None]),
        lambda c: c.__setitem__("inputs", []),
        lambda c: c["inputs"][0].__setitem__("size", 4),
        lambda c: c["nodes"][1].__setitem__(2, [0, 0]),
        lambda c: c.__setitem__("nodes", 3),
    ]
    for index, change in enumerate(changes):
        broken = copy.deepcopy(config)
        broken["layers"] = [registry.describe(layer) for layer in model.layers]
        change(broken)
        path = tmp_path / f"{index}.safetensors"
        save_file(load_file(good), path, {**metadata, "config": json.dumps({"type": "Model", "config": broken})})
        with pytest.raises(rc.ModelFormatError, match=r"got.*expected"):
            rc.load(path)


def test_parameters_are_named_by_place() -> None:
    model = residual("float32")
    assert [type(layer).__name__ for layer in model.layers] == ["Linear", "GRU", "Multiply", "Add", "Linear"]
    assert list(model.params)[:3] == ["0.weight", "0.bias", "1.weight_ih_l0"]
    assert "4.bias" in model.params
    again = residual("float32")
    for name in model.params:
        assert_same_bits(again.params[name], model.params[name], "the seed draws them")


def test_lists_in_lists_out() -> None:
    model = translator("float32")
    rng = np.random.default_rng(0)
    a = [rng.standard_normal((steps, 3)).astype(np.float32) for steps in (4, 0, 7)]
    b = [rng.standard_normal((steps, 3)).astype(np.float32) for steps in (2, 3, 1)]
    outputs, _ = model((a, b))
    assert [one.shape for one in outputs] == [(2, 2), (3, 2), (1, 2)]
    predicted = model.predict((a, b), batch_size=2)
    for index, output in enumerate(outputs):
        assert_same_bits(output, model((a[index][None], b[index][None]))[0][0])
        assert_same_bits(predicted[index], output)


def test_it_trains() -> None:
    """Two outputs with losses of their own; the reported loss is their weighted sum."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((48, 6, 2)).astype(np.float32)
    inputs = rc.Input(features=2)
    h = rc.GRU(2, 12)(inputs)
    model = rc.Model(inputs, {"sign": rc.Linear(12, 2)(h), "sum": rc.Linear(12, 1)(h.state)}, seed=0)
    y = {"sign": (x.sum(axis=2) > 0).astype(np.int64), "sum": x.sum(axis=(1, 2))[:, None]}
    losses = {"sign": rc.losses.CrossEntropy(), "sum": rc.losses.MeanSquaredError()}
    weights = {"sign": 1.0, "sum": 0.25}
    options: dict[str, Any] = {"loss": losses, "loss_weights": weights, "batch_size": 16}
    lengths = rng.integers(1, 7, 48)
    history = model.fit(
        x, y, optimizer=rc.optim.Adam(2e-2), epochs=60, seed=0, verbose=0, validation_data=(x, y), **options
    )
    assert history.history["loss"][-1] < 0.2 * history.history["loss"][0]
    assert history.history["val_loss"][-1] == model.evaluate(x, y, **options)
    outputs = model.predict(x, lengths, batch_size=7)
    parts = [losses["sign"](outputs["sign"], y["sign"], lengths), losses["sum"](outputs["sum"], y["sum"])]
    expected = sum(weight * part.mean for weight, part in zip((1.0, 0.25), parts, strict=True))
    assert model.evaluate(x, y, lengths, **options) == pytest.approx(expected, rel=1e-6)


def test_training_a_sequential_and_a_model_gives_the_same_bits() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((20, 6, 2)).astype(np.float32), rng.integers(0, 3, (20, 6))
    lengths = rng.integers(0, 7, 20)
    inputs = rc.Input(features=2)
    drawn = rc.Model((inputs,), (rc.Linear(5, 3)(rc.Dropout(0.2)(rc.LSTM(2, 5)(inputs))),), seed=0)
    line = rc.Sequential(rc.LSTM(2, 5), rc.Dropout(0.2), rc.Linear(5, 3), seed=0)
    options: dict[str, Any] = {"epochs": 2, "batch_size": 8, "seed": 1, "verbose": 0, "clip_norm": 0.5}
    one = line.fit(x, y, lengths, loss=rc.losses.CrossEntropy(), optimizer=rc.optim.Adam(1e-2), **options)
    two = drawn.fit((x,), (y,), (lengths,), loss=(rc.losses.CrossEntropy(),), optimizer=rc.optim.Adam(1e-2), **options)
    assert one.history == two.history
    for name in line.params:
        assert_same_bits(drawn.params[name], line.params[name], name)


def test_a_users_error_changes_nothing() -> None:
    x = rc.Input(features=3)
    h = rc.GRU(3, 3)(x)
    model = rc.Model(x, (Failing("backward")(h), rc.Linear(3, 2)(h)), seed=0)
    tape = model.record(np.ones((2, 3, 3), np.float32))
    for gradient in model.grads.values():
        gradient[...] = 7.0
    with pytest.raises(RuntimeError, match="the user's own error"):
        tape.backward(tuple(np.ones_like(one) for one in tape.y))
    assert all((gradient == 7.0).all() for gradient in model.grads.values())
    assert tape.closed


def test_random_numbers_follow_the_seed() -> None:
    x = rc.Input(features=3)
    dropout = rc.Dropout(0.5)
    a, b = dropout(x), dropout(x)
    model = rc.Model(x, (a, b, Noise()(a)))
    ones = np.ones((4, 5, 3), np.float32)
    first = model.record(ones, seed=1).y
    assert not np.array_equal(first[0], first[1]), "each call of a layer has masks of its own"
    for one, other in zip(model.record(ones, seed=1).y, first, strict=True):
        assert_same_bits(one, other)


def test_resets_go_both_ways() -> None:
    """A layer behind two Reverses is that layer, and between them it is the reverse direction of a bidirectional
    one."""
    rng = np.random.default_rng(0)
    both = rc.GRU(3, 4, bidirectional=True, dtype="float64", seed=0)
    forward, backward = rc.GRU(3, 4, dtype="float64"), rc.GRU(3, 4, dtype="float64")
    for name in forward.params:
        forward.params[name] = both.params[name]
        backward.params[name] = both.params[name + "_reverse"]
    x = rc.Input(features=3)
    turn = rc.Reverse(dtype="float64")
    made = rc.Model(x, rc.Concatenate(dtype="float64")((forward(x), turn(backward(turn(x))))))
    halves = rc.Model(x, (turn(Scale(3, "float64")(turn(x))), forward(turn(Scale(3, "float64")(turn(x))))))
    array = rng.standard_normal((ROWS, LONG, 3))
    for lengths in (None, LENGTHS[0]):
        for reset in (None, rng.random((ROWS, LONG)) < 0.4):
            options = {"lengths": lengths, "reset": reset}
            assert_same_bits(made(array, **options)[0], both(array, **options)[0])
            if reset is not None:
                reset[:, 0] = False  # what turning twice forgets, as nothing lies before it
            scaled, out = halves(array, **options)[0]
            assert_same_bits(out, forward(scaled, **options)[0])


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_two_layers_make_a_bidirectional_one(dtype: str) -> None:
    rng = np.random.default_rng(0)
    for sequences in (True, False):
        options: dict[str, Any] = {"return_sequences": sequences, "dtype": dtype}
        both = rc.LSTM(3, 4, bidirectional=True, seed=0, **options)
        forward, backward = rc.LSTM(3, 4, **options), rc.LSTM(3, 4, **options)
        for name in forward.params:
            forward.params[name], backward.params[name] = both.params[name], both.params[name + "_reverse"]
        model = rc.Bidirectional(forward, backward)
        x = rng.standard_normal((ROWS, LONG, 3)).astype(dtype)
        y, _ = model(x, lengths=LENGTHS[0])
        assert_same_bits(y, both(x, lengths=LENGTHS[0])[0])
        one, other = (layer.record(x, lengths=LENGTHS[0]).backward(y)[0] for layer in (model, both))
        np.testing.assert_allclose(one, other, rtol=0, atol=100 * np.finfo(dtype).eps)
    with pytest.raises(ValueError, match="expected 5"):
        rc.Bidirectional(rc.GRU(3, 4), rc.GRU(5, 4))
    with pytest.raises(ValueError, match="vector"):
        rc.Bidirectional(rc.GRU(3, 4), rc.GRU(3, 4, return_sequences=False))
    with pytest.raises(ValueError, match="tokens"):
        rc.Bidirectional(rc.Embedding(3, 4), rc.Embedding(3, 4))
    wrong: Any
    for wrong in (None, rc.GRU, 3):
        for pair in ((rc.GRU(3, 4), wrong), (wrong, rc.GRU(3, 4))):
            with pytest.raises(TypeError, match=r"Bidirectional: got (forward|backward)=.*expected"):
                rc.Bidirectional(*pair)


def test_any_layer_with_a_shortcut() -> None:
    x = np.random.default_rng(0).standard_normal((ROWS, LONG, 3)).astype(np.float32)
    for layer in (rc.GRU(3, 3), rc.Sequential(rc.LSTM(3, 5), Scale(5), rc.Linear(5, 3)), Scale3()):
        model = rc.Residual(layer)
        assert_same_bits(model(x)[0], x + layer(x)[0])
        symbol = rc.Input(features=3)
        outer = rc.Model(symbol, rc.Linear(3, 2)(model(symbol)))
        assert list(outer.params)[:-2] == list(model.params), "one block among others"
    with pytest.raises(ValueError, match="3 and 4 features"):
        rc.Residual(rc.GRU(3, 4))
    with pytest.raises(ValueError, match="input_size"):
        rc.Residual(rc.Dropout(0.5))
    wrong: Any
    for wrong in (None, rc.GRU, 3):
        with pytest.raises(TypeError, match=r"Residual: got layer=.*expected"):
            rc.Residual(wrong)


class Scale3(Scale):
    input_size = output_size = 3

    def __init__(self) -> None:
        super().__init__(3)


def test_summary(capsys: pytest.CaptureFixture[str]) -> None:
    model = translator("float32")
    model.layers[0].trainable = False
    model.summary()
    assert capsys.readouterr().out.splitlines() == [
        "        layer             reads                                       output     parameters",
        "source  Input (features)                                              (N, T, 3)",
        "target  Input (features)                                              (N, T, 3)",
        "v0      0: LSTM           source                                      (N, T, 5)  200",
        "v1      1: LSTM           target, state=v0.state.h, state=v0.state.c  (N, T, 5)  200",
        "v2      2: Linear         v1                                          (N, T, 2)  12",
        "412 parameters, 200 of them not trainable",
    ]
    rc.Sequential(rc.Embedding(7, 4), rc.GRU(4, 3, return_sequences=False), rc.Linear(3, 2)).summary()
    out = capsys.readouterr().out
    for shape in ("(N, T)", "(N, T, 4)", "(N, 3)", "(N, 2)"):
        assert shape in out
    residual("float32").summary()
    assert "as above" in capsys.readouterr().out


def test_merging_layers_alone() -> None:
    rng = np.random.default_rng(0)
    for shape in ((2, 5, 3), (2, 3)):
        a, b, c = (rng.standard_normal(shape).astype(np.float32) for _ in range(3))
        assert_same_bits(rc.Add()((a, b, c))[0], a + b + c)
        assert_same_bits(rc.Multiply()((a, b, c))[0], a * b * c)
        assert_same_bits(rc.Concatenate()((a, b))[0], np.concatenate([a, b], axis=-1))
    tape = rc.Multiply().record((a, a))
    dx, _ = tape.backward(b)
    assert_same_bits(dx[0], b * a)
    x = rng.standard_normal((2, 5, 3))
    expected = x[:, ::-1].copy()
    expected[1] = 0
    expected[1, :2] = x[1, :2][::-1]
    assert_same_bits(rc.Reverse(dtype="float64")(x, lengths=[5, 2])[0], expected)


def symbol(**options: Any) -> Any:
    return rc.Input(**(options or {"features": 3}))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: rc.Input(), "features"),
        (lambda: rc.Input(features=3, tokens=5), "one of the two"),
        (lambda: rc.Input(features=0), "features"),
        (lambda: rc.Input(tokens=5, sequence=False), "sequence"),
        (lambda: rc.LSTM(4, 5)(symbol()), "3 features, expected 4"),
        (lambda: rc.LSTM(3, 5)(symbol(tokens=3)), "Embedding"),
        (lambda: rc.Embedding(3, 5)(symbol()), "tokens"),
        (lambda: rc.Embedding(7, 5)(symbol(tokens=9)), "9 different tokens, expected 7"),
        (lambda: rc.LSTM(3, 5)(symbol(features=3, sequence=False)), "expected sequences"),
        (lambda: rc.GRU(3, 5)(rc.GRU(3, 3, return_sequences=False)(symbol())), "return_sequences"),
        (lambda: rc.GRU(3, 5, batch_first=False)(symbol()), "batch_first"),
        (lambda: rc.GRU(3, 5)(symbol(), lengths=[1]), "when the model is called"),
        (lambda: rc.GRU(3, 5)(symbol(), state=rc.GRU(3, 4)(symbol()).state), r"expected \(None, 5\)"),
        (lambda: rc.GRU(3, 5)(symbol(), state=rc.LSTM(3, 5)(symbol()).state), "state of GRU"),
        (lambda: rc.GRU(3, 5)(symbol(), state=np.zeros((1, 2, 5))), "Input"),
        (lambda: rc.GRU(3, 5)(symbol(), state=symbol(features=5)), "state h"),
        (lambda: rc.Linear(3, 5)(symbol()) + rc.Linear(3, 4)(symbol()), "5 and 4 features"),
        (lambda: rc.Add()((symbol(), symbol(features=3, sequence=False))), "vector"),
        (lambda: rc.Add()(symbol()), "tuple"),
        (lambda: rc.Add()((symbol(), np.zeros((1, 2, 3)))), "Input"),
        (lambda: rc.Linear(3, 5)(symbol()) + 1, "unsupported"),
        (lambda: rc.Sequential(rc.Add()), "several inputs"),
        (lambda: np.asarray(symbol()), "Model"),
        (lambda: bool(symbol()), "Model"),
        (lambda: rc.Model(symbol(), np.zeros(3)), "outputs"),
        (lambda: rc.Model(3, rc.Linear(3, 2)(symbol())), "Input"),
        (lambda: rc.Model(symbol(), rc.Linear(3, 2)(symbol(features=3, name="other"))), "'other'"),
        (lambda: rc.Model((), rc.Linear(3, 2)(symbol())), "no inputs"),
    ],
)
def test_mistakes_are_explained(make: Callable[[], Any], text: str) -> None:
    with pytest.raises((ValueError, TypeError), match=text):
        make()


def test_mistakes_with_models_are_explained() -> None:
    x, z = symbol(), symbol()
    y = rc.Linear(3, 2)(x)
    for inputs, outputs, text in [
        (x, x, "call a layer"),
        (x, (y, y), "twice"),
        ((x, x), y, "twice"),
        ((x, z), y, "no output depends on"),
        (y, rc.Linear(2, 2)(y), "output of a layer"),
        (x, (), "no outputs"),
        (x, rc.Linear(2, 2, dtype="float64")(y), "float64"),
    ]:
        with pytest.raises((ValueError, TypeError), match=text):
            rc.Model(inputs, outputs)
    with pytest.raises(AttributeError, match="have a state"):
        y.state  # noqa: B018
    model = translator("float32")
    a, b = inputs_of(model, "float32")
    loss, optimizer = rc.losses.MeanSquaredError(), rc.optim.SGD(0.1)
    calls: list[tuple[Callable[[], Any], str]] = [
        (lambda: model(a), "tuple of 2"),
        (lambda: model((a,)), "tuple of 2"),
        (lambda: model((a, b[:2])), "rows"),
        (lambda: model((a, b), lengths=[3]), "lengths"),
        (lambda: model((a, b[..., :2])), r"x\[1\].*expected 3"),
        (lambda: model((a, b.astype(complex))), r"x\[1\].*real numbers"),
        (lambda: model((a, b), state=[None]), "3 layers"),
        (lambda: model.fit((a, b[:2]), b[..., :2], loss=loss, optimizer=optimizer), "rows"),
        (lambda: model.fit(a, b, loss=loss, optimizer=optimizer), "tuple of 2"),
        (lambda: model.fit((a, b), b, loss=loss, optimizer=optimizer), r"expected \(4, 5, 2\)"),
        (lambda: model.fit((a, b), b, loss=rc.losses.MixtureDensity, optimizer=optimizer), "class"),
        (lambda: model.record((a, b)).backward(np.ones((4, 7, 2), np.float32)), "dy"),
        (lambda: two_headed("float32")({"a": a, "c": b}), "'b'"),
        (lambda: rc.Add()((a, b)), "7 steps and sequences of 5"),
        (lambda: rc.Add()((a, a[..., :2])), "features"),
        (lambda: with_python("float32")((a, b), reset=(np.zeros(3, bool), None)), "reset"),
        (lambda: with_python("float32")((a, b), lengths=(None, [1, 2])), "lengths"),
        (lambda: rc.Add()((a, a), lengths=([1, 2, 3, 4], [1, 2, 3, 3])), "lengths differ"),
    ]
    for call, text in calls:
        with pytest.raises((ValueError, TypeError), match=text):
            call()
