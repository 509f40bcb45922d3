"""What diagnosis says is so: gradients by finite differences, gates by the specification, planted NaN by where they
were put."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import matplotlib
import numpy as np
import pytest

import recurra as rc
import reference
from agreement import assert_same_bits
from array_types import Array
from cell_cases import Case, Problem, draw
from cell_runs import solver
from cell_variants import VARIANTS
from recurra.inspection.subject import Subject
from user_layers import Scale

matplotlib.use("Agg")

MSE = rc.losses.MeanSquaredError()


def adding(rows: int, steps: int, seed: int = 0) -> tuple[Array, Array]:
    """The adding problem (Hochreiter and Schmidhuber 1997): values with a marker beside two of them, whose sum is asked
    for."""
    rng = np.random.default_rng(seed)
    x = np.zeros((rows, steps, 2), np.float32)
    x[:, :, 0] = rng.random((rows, steps))
    every = np.arange(rows)
    first, second = rng.integers(0, steps // 2, rows), rng.integers(steps // 2, steps, rows)
    x[every, first, 1] = x[every, second, 1] = 1
    return x, (x[every, first, 0] + x[every, second, 0])[:, None]


def adder(layer: Any, seed: int = 1) -> rc.Sequential:
    return rc.Sequential(layer, rc.Linear(layer.output_size, 1, seed=seed))


def state_of(model: Any) -> dict[str, Array]:
    return {**model.state_dict(), **{f"grad {name}": array.copy() for name, array in model.grads.items()}}


# Gradient flow


class Nudge:
    """`reference.zone_out`, which every step calls for h and then for c, adding to h after one call for it."""

    def __init__(self, parts: int, call: int, delta: Array) -> None:
        self.parts, self.call, self.delta, self.count = parts, call, delta, itertools.count()

    def __call__(self, new: Array, old: Array, share: Array) -> Array:
        result = np.where(share == 0.0, new, new + share * (old - new))
        count = next(self.count)
        return result + self.delta if count == self.call * self.parts else result


def norms_by_differences(case: Case, monkeypatch: pytest.MonkeyPatch, target: Array) -> Array:
    """(slots, N, T): the norm of dL/dh after every step of the specification, L the mean squared error."""
    problem = draw(case)
    valid = problem.valid()
    lengths = valid.sum(1)

    def loss(call: int, delta: Array) -> float:
        monkeypatch.setattr(reference, "zone_out", Nudge(case.spec.parts, call, delta))
        y, _ = reference.run(
            case.variant.cell,
            problem.params,
            problem.x,
            num_layers=case.num_layers,
            bidirectional=case.bidirectional,
            lengths=lengths,
            options=case.options,
            seed=case.seed,
        )
        return float(((y - target)[valid] ** 2).sum() / (valid.sum() * y.shape[2]))

    norms, call = np.zeros((case.slots, case.rows, case.steps)), 0
    for slot in range(case.slots):
        for row in range(case.rows):
            order = range(lengths[row])
            for step in reversed(order) if slot % case.directions else order:
                nudges = 1e-5 * np.eye(case.units)
                slopes = [(loss(call, nudge) - loss(call, -nudge)) / 2e-5 for nudge in nudges]
                norms[slot, row, step] = np.linalg.norm(slopes)
                call += 1
    return norms


FLOWS = [
    *(Case(cell, 2, 3, 2, 4, state=False, seed=3) for cell in reference.CELLS),
    Case("rnn_tanh", 2, 3, 3, 4, 2, True, True, state=False, seed=4),
    Case("lstm", 2, 3, 3, 4, 2, True, True, state=False, seed=5),
    Case("gru", 2, 3, 3, 4, 2, True, True, state=False, seed=6),
    Case("min_lstm", 2, 3, 3, 4, 2, True, True, state=False, seed=6),
    *(
        Case(cell, 2, 4, 2, 4, 1 + index % 2, ragged=True, state=False, seed=7)
        for index, cell in enumerate(name for name in VARIANTS if name.endswith(("+all", "-zoneout", "regularised")))
    ),
]


@pytest.mark.every_isa
@pytest.mark.parametrize("case", FLOWS, ids=str)
def test_norms_are_those_of_finite_differences(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = draw(case)
    target = np.random.default_rng(0).standard_normal((case.rows, case.steps, case.directions * case.units))
    layer = solver(problem, "float64")
    flow = rc.diagnose.gradient_flow(layer, problem.x, target, problem.lengths, loss=MSE, seed=case.seed)
    expected = norms_by_differences(case, monkeypatch, target)
    assert len(flow.layers) == case.slots
    for one, norms in zip(flow.layers, expected, strict=True):
        np.testing.assert_allclose(one.norms, norms, rtol=1e-6, atol=1e-9)
        np.testing.assert_array_equal(one.lengths, problem.valid().sum(1))


def test_rows_are_aligned_where_they_end() -> None:
    x, lengths = np.random.default_rng(0).standard_normal((3, 6, 2)).astype(np.float32), np.array([6, 2, 0])
    model = adder(rc.GRU(2, 5, bidirectional=True, return_sequences=False, seed=0))
    forward, backward = rc.diagnose.gradient_flow(model, x, np.ones((3, 1)), lengths, loss=MSE).layers
    for flow, order in ((forward, slice(None)), (backward, slice(None, None, -1))):
        long, short = flow.norms[0][order], flow.norms[1, :2][order]
        np.testing.assert_allclose(flow.from_start, [*(long[:2] + short) / 2, *long[2:]])
        np.testing.assert_allclose(flow.from_end, [*(long[-2:] + short)[::-1] / 2, *long[:-2][::-1]])
        np.testing.assert_array_equal(flow.reach, flow.from_end)  # one output a row


def test_reach_is_that_of_the_last_error_alone() -> None:
    x = np.random.default_rng(0).standard_normal((2, 30, 2)).astype(np.float32)
    layer, y = rc.RNN(2, 5, bidirectional=True, seed=0, dtype="float64"), np.zeros((2, 30, 10))
    forward, backward = rc.diagnose.gradient_flow(layer, x, y, loss=MSE).layers
    output, _ = layer(x.astype(np.float64))
    for flow, columns, last in ((forward, slice(0, 5), -1), (backward, slice(5, 10), 0)):
        entered = np.linalg.norm(2 * output[:, last, columns] / output.size, axis=-1).mean()
        np.testing.assert_allclose(flow.reach[0], entered, rtol=1e-12)
        assert flow.from_end[-1] > 1e-3 * flow.from_end[1]  # errors at every step hide
        assert flow.reach[-1] < 1e-3 * flow.reach[1]  # that none comes far


def test_a_ragged_list_is_the_padded_array() -> None:
    rng = np.random.default_rng(0)
    rows = [rng.standard_normal((steps, 2)).astype(np.float32) for steps in (5, 3)]
    targets = [rng.standard_normal((len(row), 4)) for row in rows]
    model = rc.Sequential(rc.LSTM(2, 4, seed=0))
    padded, y = np.zeros((2, 5, 2), np.float32), np.zeros((2, 5, 4))
    for index, (row, target) in enumerate(zip(rows, targets, strict=True)):
        padded[index, : len(row)], y[index, : len(row)] = row, target
    one = rc.diagnose.gradient_flow(model, rows, targets, loss=MSE)
    other = rc.diagnose.gradient_flow(model, padded, y, [5, 3], loss=MSE)
    assert_same_bits(one.layers[0].norms, other.layers[0].norms)


@pytest.mark.parametrize(("hidden", "seed"), [(32, 0), (128, 1)])
def test_the_adding_problem(hidden: int, seed: int) -> None:
    """T = 200: a plain RNN's gradient does not arrive; an LSTM's does if its gates keep for as long, and only then."""
    x, y = adding(4, 200)

    def verdict(layer: Any) -> str:
        return rc.diagnose.gradient_flow(adder(layer), x, y, loss=MSE).verdict

    options: dict[str, Any] = {"return_sequences": False, "seed": seed}
    assert verdict(rc.RNN(2, hidden, **options)) == "vanishing"
    assert verdict(rc.LSTM(2, hidden, **options)) == "vanishing"
    assert verdict(rc.LSTM(2, hidden, forget_bias=np.log(200), **options)) == "healthy"
    for nonlinearity in ("tanh", "relu"):
        scaled = rc.RNN(2, hidden, nonlinearity=nonlinearity, **options)
        scaled.params["weight_hh_l0"] = scaled.params["weight_hh_l0"] * 4
        assert verdict(scaled) == "exploding"


def test_what_is_said_of_a_flow() -> None:
    x, y = adding(4, 50)
    plain = rc.diagnose.gradient_flow(adder(rc.RNN(2, 16, return_sequences=False, seed=0)), x, y, loss=MSE)
    (layer,) = plain.layers
    assert (layer.name, layer.layer, layer.steps, layer.norms.shape) == ("0.RNN", 0, 50, (4, 50))
    assert layer.rate == pytest.approx(0.5 ** (1 / layer.half_life))
    slope = (np.log(layer.reach[-1]) - np.log(layer.reach[1])) / 48
    assert layer.rate == pytest.approx(np.exp(slope), rel=0.05)
    assert str(plain).startswith("gradient flow: vanishing, at a loss of ")
    assert "LSTM with forget_bias up to 3.9" in str(plain)
    stack = rc.Sequential(rc.GRU(2, 8, 2, bidirectional=True, seed=0), rc.LSTM(16, 8, return_sequences=False, seed=1))
    names = [one.name for one in rc.diagnose.gradient_flow(stack, x, np.zeros((4, 8)), loss=MSE).layers]
    assert names == ["0.GRU l0", "0.GRU l0_reverse", "0.GRU l1", "0.GRU l1_reverse", "1.LSTM"]
    dead = rc.RNN(2, 4, nonlinearity="relu", return_sequences=False, seed=0)
    dead.params["bias_ih_l0"] = np.full(4, -9, np.float32)
    none = rc.diagnose.gradient_flow(adder(dead), x, y, loss=MSE).layers[0]
    assert (none.verdict, none.ratio) == ("vanishing", 0.0)


def test_a_decoder_and_several_outputs() -> None:
    """The gradient of a decoder's h, by way of attention too, is that of the decoder stepped by finite differences."""
    a, memory = rc.Input(features=2, name="a"), rc.Input(features=3, name="b")
    encoder = rc.GRU(3, 4, seed=1, dtype="float64")
    encoded = encoder(memory)
    for attention in ("additive", "general"):
        decoder = rc.AttentionDecoder(2, 4, 4, attention=attention, seed=2, dtype="float64")
        y = decoder((a, encoded))
        model = rc.Model((a, memory), (y, rc.Linear(4, 1, seed=3, dtype="float64")(y)))
        rng = np.random.default_rng(0)
        x = (rng.standard_normal((3, 3, 2)), rng.standard_normal((3, 4, 3)))
        lengths = (np.array([2, 3, 1]), np.array([4, 2, 3]))
        targets = (np.zeros((3, 3, 4)), np.ones((3, 3, 1)))
        flow = rc.diagnose.gradient_flow(model, x, targets, lengths, loss=MSE, loss_weights=(0.5, 2.0))
        assert [layer.name for layer in flow.layers] == ["0.GRU", "1.AttentionDecoder"]
        np.testing.assert_array_equal(flow.layers[1].lengths, lengths[0])
        assert ((flow.layers[1].norms > 0) == (np.arange(3) < lengths[0][:, None])).all()
        assert ((flow.layers[0].norms > 0) == (np.arange(4) < lengths[1][:, None])).all()
        # A row alone has the same gradients, but for the mean over so many.
        counts = [lengths[0].sum() / lengths[0][row] for row in range(3)]
        for row, count in enumerate(counts):
            own = tuple(one[row : row + 1] for one in x)
            single = rc.diagnose.gradient_flow(
                model,
                own,
                tuple(one[row : row + 1] for one in targets),
                tuple(one[row : row + 1] for one in lengths),
                loss=MSE,
                loss_weights=(0.5, 2.0),
            )
            for one, whole in zip(single.layers, flow.layers, strict=True):
                np.testing.assert_allclose(one.norms[0], whole.norms[row] * count, rtol=1e-9)


# Nothing changes


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_stays_as_it_was(fails: bool) -> None:
    model = rc.Sequential(
        rc.LSTM(2, 4, dropout=0.5, num_layers=2, seed=0), rc.BatchNorm(4), Scale(4), rc.Linear(4, 1, seed=1)
    )
    for array in model.grads.values():
        array[...] = 3.0
    before, version = state_of(model), model.layers[0].parameters.version
    x, y = adding(4, 9)
    targets = np.repeat(y[:, None], 9, 1)
    if fails:
        model.layers[2].backward = lambda dy, saved: 1 / 0  # type: ignore[method-assign, attr-defined]
    for look in (
        lambda: rc.diagnose.gradient_flow(model, x, targets, loss=MSE),
        lambda: rc.diagnose.nonfinite(model, x, targets, loss=MSE),
    ):
        if fails:
            with pytest.raises(ZeroDivisionError):
                look()
        else:
            look()
        for name, array in state_of(model).items():
            assert_same_bits(array, before[name], name)
    rc.diagnose.saturation(model, x)
    rc.diagnose.hidden_states(model, x)
    for name, array in state_of(model).items():
        assert_same_bits(array, before[name], name)
    assert model.layers[0].parameters.version == version


# Numbers that are not finite


def counter(steps: int, *, begin: int, rows: int = 3) -> tuple[Any, Array]:
    """A unit that doubles at every step, from 1 at step `begin` of row 1 on: it overflows 128 steps later."""
    layer = rc.RNN(1, 1, nonlinearity="relu", bias=False, seed=0)
    layer.params["weight_ih_l0"] = np.ones((1, 1), np.float32)
    layer.params["weight_hh_l0"] = np.full((1, 1), 2, np.float32)
    x = np.zeros((rows, steps, 1), np.float32)
    x[1, begin] = 1
    return layer, x


def test_an_overflow_is_named_where_it_begins() -> None:
    layer, x = counter(400, begin=317 - 128)
    model = rc.Sequential(rc.LSTM(1, 1, seed=0), layer, rc.Linear(1, 1, seed=0))
    model.params["0.weight_hh_l0"] = np.zeros((4, 1), np.float32)
    model.params["0.weight_ih_l0"] = np.array([[0], [0], [1], [0]], np.float32)  # what follows sees x at its own scale
    model.params["0.bias_ih_l0"] = np.array([20, -200, 0, 20], np.float32)
    model.params["0.bias_hh_l0"] = np.zeros(4, np.float32)
    model.params["1.weight_ih_l0"] = np.full((1, 1), 1 / np.tanh(np.tanh(1)), np.float32)
    report = rc.diagnose.nonfinite(model, x)
    assert report is not None
    assert (report.where, report.layer, report.name) == ("output", 1, "1.RNN")
    y, _ = rc.Sequential(*model.layers[:2])(x)
    rows, steps = np.nonzero(~np.isfinite(y[..., 0]))
    assert (report.rows, report.step, report.count) == ((1,), steps.min(), len(steps))
    assert set(rows) == {1}
    assert 316 <= steps.min() <= 318
    assert "row 1, from step" in str(report)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_stack_names_its_layer(place: int) -> None:
    layer = rc.RNN(1, 1, 3, nonlinearity="relu", bias=False, seed=0)
    for index in range(3):
        layer.params[f"weight_ih_l{index}"] = np.ones((1, 1), np.float32)
        layer.params[f"weight_hh_l{index}"] = np.full((1, 1), 2 if index == place else 0, np.float32)
    x = np.zeros((3, 400, 1), np.float32)
    x[1, 317 - 128] = 1
    report = rc.diagnose.nonfinite(rc.Sequential(layer), x, lengths=[400, 350, 0])
    assert report is not None
    assert (report.name, report.rows, report.step, report.kind) == (f"0.RNN l{place}", (1,), 317, "infinity")
    assert report.count == 350 - 317
    assert rc.diagnose.nonfinite(layer, x, lengths=[400, 317, 0]) is None


def test_the_reverse_direction_begins_at_the_end() -> None:
    layer = rc.RNN(1, 1, nonlinearity="relu", bidirectional=True, bias=False, seed=0)
    for name in layer.params:
        layer.params[name] = np.full((1, 1), {"weight_hh_l0": 0, "weight_hh_l0_reverse": 2}.get(name, 1), np.float32)
    x = np.zeros((2, 200, 1), np.float32)
    x[0, 150] = 1
    report = rc.diagnose.nonfinite(layer, x)
    assert report is not None
    assert (report.name, report.rows, report.step) == ("RNN l0_reverse", (0,), 150 - 128)


def test_a_nan_in_the_input_and_in_padding() -> None:
    model = rc.Sequential(rc.GRU(2, 3, seed=0))
    x = np.zeros((4, 9, 2), np.float32)
    x[2, 5, 1] = np.nan
    x[3, 7] = np.inf
    report = rc.diagnose.nonfinite(model, x)
    assert report is not None
    assert (report.where, report.rows, report.step, report.count, report.kind) == ("input", (2, 3), 5, 3, "NaN")
    assert rc.diagnose.nonfinite(model, x, lengths=[9, 9, 5, 7]) is None
    state = [np.zeros((1, 4, 3), np.float32)]
    state[0][0, 1, 2] = np.inf
    report = rc.diagnose.nonfinite(model, np.zeros_like(x), state=state)
    assert report is not None
    assert (report.where, report.rows) == ("state", (1,))


def test_a_nan_in_a_parameter() -> None:
    model = rc.Sequential(rc.Linear(2, 2, seed=0), rc.LSTM(2, 3, 3, seed=0))
    weights = model.params["1.weight_hh_l1"].copy()
    weights[4, 2] = weights[5, 0] = np.nan
    model.params["1.weight_hh_l1"] = weights
    report = rc.diagnose.nonfinite(model, np.zeros((1, 2, 2), np.float32))
    assert report is not None
    assert (report.where, report.layer, report.parameter, report.count) == ("parameter", 1, "1.weight_hh_l1", 2)
    assert "1.weight_hh_l1" in report.message


def test_behind_dropout_the_failing_run_is_repeated() -> None:
    """Which values overflow depends on the masks: in native layers, inside a stack and around a layer in Python."""
    big = np.full((2, 2), 2e38, np.float32)
    for python in (False, True):
        layers: list[Any] = [rc.Linear(3, 2, seed=0), rc.Dropout(0.5), rc.Linear(2, 2, seed=1)]
        if python:
            layers.insert(1, Scale(2))
        model = rc.Sequential(*layers)
        model.params["0.weight"] = np.ones((2, 3), np.float32) * 0.5
        model.params[f"{len(layers) - 1}.weight"] = big
        x = np.full((6, 5, 3), 0.5, np.float32)
        found = set()
        for seed in range(4):
            y = model.record(x, seed=seed).y
            bad = ~np.isfinite(y)
            report = rc.diagnose.nonfinite(model, x, seed=seed)
            assert report is not None
            assert report.rows == tuple(np.flatnonzero(bad.any((1, 2))))
            assert report.step == np.flatnonzero(bad.any((0, 2)))[0]
            assert report.count == bad.sum()
            found.add(report.count)
        assert len(found) > 1
    stack = rc.RNN(1, 4, 2, nonlinearity="relu", dropout=0.5, recurrent_dropout=0.5, input_dropout=0.5, seed=0)
    stack.params["weight_hh_l1"] = np.full((4, 4), 3, np.float32)
    x = np.ones((5, 60, 1), np.float32)
    for seed in range(3):
        bad = ~np.isfinite(stack.record(x, seed=seed).y)
        report = rc.diagnose.nonfinite(stack, x, seed=seed)
        assert (report is None) == (not bad.any())
        if report is not None:
            assert report.name == "RNN l1"
            assert report.rows == tuple(np.flatnonzero(bad.any((1, 2))))
            assert (report.step, report.count) == (np.flatnonzero(bad.any((0, 2)))[0], bad.sum())


def test_a_loss_and_a_gradient() -> None:
    model = rc.Sequential(rc.Linear(1, 1, seed=0), rc.RNN(1, 1, nonlinearity="relu", bias=False, seed=0))
    for name in ("0.weight", "1.weight_ih_l0"):
        model.params[name] = np.ones((1, 1), np.float32)
    model.params["0.bias"] = np.zeros(1, np.float32)
    model.params["1.weight_hh_l0"] = np.full((1, 1), 2, np.float32)
    x, y = np.zeros((3, 140, 1), np.float32), np.zeros((3, 140, 1), np.float32)
    x[1] = 1e-30  # so that the sum of doubles stays finite, but gradients double at every step back
    report = rc.diagnose.nonfinite(model, x, y, loss=MSE)
    assert report is not None
    assert (report.where, report.layer, report.name) == ("gradient", 1, "1.RNN, with respect to h")
    flow = rc.diagnose.gradient_flow(model, x, y, loss=MSE)
    assert flow.verdict == "exploding"
    steps = np.flatnonzero(~np.isfinite(flow.layers[0].norms).all(0))
    assert (report.rows, report.step) == ((1,), steps[-1])
    assert rc.diagnose.nonfinite(model, x, y, lengths=[140, steps[-1], 140], loss=MSE) is None
    plain = rc.Sequential(rc.Linear(1, 1, seed=0))
    plain.params["0.weight"] = np.full((1, 1), 3e38, np.float32)
    x = np.zeros((3, 4, 1), np.float32)
    x[2, 1] = 1
    far = np.zeros((3, 4, 1), np.float32)
    far[2, 1] = -3e38
    report = rc.diagnose.nonfinite(plain, x, far, loss=MSE)
    assert report is not None
    assert report.where in ("loss", "gradient")
    assert report.rows == (2,)


def test_all_is_finite() -> None:
    x, y = adding(4, 9)
    model = adder(rc.LSTM(2, 4, 2, dropout=0.3, return_sequences=False, seed=0))
    assert rc.diagnose.nonfinite(model, x, y, loss=MSE, reset=np.zeros((4, 9), bool), training=True) is None


# Gates and states


def gates_of_the_specification(problem: Problem) -> list[dict[str, Array]]:
    """[slot] name -> (valid steps, H), from the states that the specification gives. One layer, without options."""
    case, lengths = problem.case, problem.valid().sum(1)
    y, _ = reference.run(
        case.variant.cell, problem.params, problem.x, bidirectional=case.bidirectional, lengths=lengths
    )
    sigmoid, found = reference.sigmoid, []
    for direction in range(case.directions):
        w = reference.Weights.of(problem.params, "_l0" + ("_reverse" if direction else ""))
        gates: dict[str, list[Array]] = {}
        for row in range(case.rows):
            order = list(range(lengths[row]))[:: -1 if direction else 1]
            h = np.zeros(case.hidden_size)
            for step in order:
                a, after = problem.x[row, step], y[row, step].reshape(case.directions, -1)[direction]
                cell = case.variant.cell
                if cell.startswith("rnn"):
                    named = {"h": after}
                elif cell == "lstm":
                    i, f, g, o = np.split(w.product("ih", a) + w.product("hh", h), 4)
                    named = {"i": sigmoid(i), "f": sigmoid(f), "g": np.tanh(g), "o": sigmoid(o)}
                elif cell == "gru":
                    (ir, iz, i_n), (hr, hz, hn) = np.split(w.product("ih", a), 3), np.split(w.product("hh", h), 3)
                    r = sigmoid(ir + hr)
                    named = {"r": r, "z": sigmoid(iz + hz), "n": np.tanh(i_n + r * hn)}
                elif cell == "gru_reset_before":
                    ir, iz, i_n = np.split(w.product("ih", a) + w.params["bias_hh"], 3)
                    w_r, w_z, w_n = np.split(w.params["weight_hh"], 3)
                    r = sigmoid(ir + w_r @ h)
                    named = {"r": r, "z": sigmoid(iz + w_z @ h), "n": np.tanh(i_n + w_n @ (r * h))}
                elif cell.startswith("min_gru"):
                    named = {"z": sigmoid(np.split(w.product("ih", a), 2)[0])}
                else:
                    f, i, _ = np.split(w.product("ih", a), 3)
                    named = {"i/(f+i)": sigmoid(i) / (sigmoid(f) + sigmoid(i))}
                for name, value in named.items():
                    gates.setdefault(name, []).append(value)
                h = after
        found.append({name: np.array(values) for name, values in gates.items()})
    return found


@pytest.mark.every_isa
@pytest.mark.parametrize("cell", reference.CELLS)
def test_saturation_is_that_of_the_specification(cell: str) -> None:
    case = Case(cell, 3, 21, 5, 9, 1, True, True, state=False, seed=1)
    problem = draw(case)
    for name in problem.params:
        problem.params[name] *= 3  # so that some gates are near their ends
    layer = solver(problem, "float64")
    expected = gates_of_the_specification(problem)
    found = rc.diagnose.saturation(layer, problem.x, problem.lengths)
    assert [one.name.split()[-1] for one in found.layers] == ["l0", "l0_reverse"]
    for one, gates in zip(found.layers, expected, strict=True):
        assert [gate.name for gate in one.gates] == list(gates)
        for gate in one.gates:
            values = gates[gate.name]
            low, high = {
                "sigmoid": (values < 0.05, values > 0.95),
                "tanh": (values < -0.95, values > 0.95),
                "relu": (values == 0, values > np.inf),
            }[gate.kind]
            assert (gate.low, gate.high) == pytest.approx((low.mean(), high.mean()))
            assert gate.mean == pytest.approx(values.mean(), rel=1e-9)
            np.testing.assert_allclose(gate.units, (low | high).mean(0))


@pytest.mark.parametrize("cell", [name for name in VARIANTS if "+" in name])
def test_gates_of_cells_with_options(cell: str) -> None:
    """The states that follow from the gates are those of the specification: so the gates are the cell's own."""
    case = Case(cell, 3, 20, 4, 6, 2, True, True, state=False, seed=2)
    problem = draw(case)
    layer = solver(problem, "float64")
    subject = Subject("test", rc.Sequential(layer), problem.x, problem.lengths)
    tape = subject.model.record(subject.x, lengths=subject.lengths, training=False)
    valid = problem.valid()
    states = list(subject.activity(tape))
    for one, other in zip(states, rc.diagnose.hidden_states(layer, problem.x, problem.lengths).layers, strict=True):
        assert_same_bits(one.h, other.h)
        assert not one.h[~valid].any()
        if case.variant.cell != "lstm" or case.keywords.get("layer_norm"):
            continue
        i, f, g, _o = np.moveaxis(one.kept, 2, 0)
        c, order = np.zeros((case.rows, case.hidden_size)), range(case.steps)
        for step in reversed(order) if one.part.reverse else order:
            now = valid[:, step, None]
            made = np.clip(f[:, step] * c + i[:, step] * g[:, step], -case.options.cell_clip, case.options.cell_clip)
            share = case.options.zoneout_cell
            kept = made + share * (c - made)
            assert one.c is not None
            np.testing.assert_allclose(np.where(now, one.c[:, step], 0), np.where(now, kept, 0), atol=1e-12)
            c = np.where(now, kept, c)
    y, _ = layer(problem.x, lengths=problem.lengths)
    last = np.concatenate([one.h for one in states[-case.directions :]], -1)
    assert_same_bits(last, y)


def test_hidden_states_of_a_stack() -> None:
    case = Case("lstm", 3, 5, 3, 6, 2, False, True, state=False, seed=2)
    problem = draw(case)
    layer = solver(problem, "float64")
    below = rc.LSTM(3, 5, dtype="float64")
    for name in below.params:
        below.params[name] = problem.params[name]
    first, second = rc.diagnose.hidden_states(layer, problem.x, problem.lengths).layers
    assert_same_bits(first.h, below(problem.x, lengths=problem.lengths)[0])
    y, (_h, c_n) = layer(problem.x, lengths=problem.lengths)
    assert_same_bits(second.h, y)
    assert second.c is not None
    assert problem.lengths is not None
    for row, length in enumerate(problem.lengths):
        if length:
            assert_same_bits(second.c[row, length - 1], c_n[1, row])


def test_what_is_said_of_saturation() -> None:
    x = np.random.default_rng(0).standard_normal((3, 20, 2)).astype(np.float32)
    lstm = rc.LSTM(2, 4, seed=0, forget_bias=-20.0)
    assert "f closed: the cell forgets at every step" in rc.diagnose.saturation(lstm, x).verdict
    assert rc.diagnose.saturation(rc.LSTM(2, 4, seed=0), x).verdict == "no gate is saturated"
    rnn = rc.RNN(2, 4, seed=0)
    rnn.params["weight_ih_l0"] = rnn.params["weight_ih_l0"] * 100
    assert "scale the input down" in rc.diagnose.saturation(rnn, x).verdict
    relu = rc.RNN(2, 4, nonlinearity="relu", seed=0)
    relu.params["bias_ih_l0"] = np.array([-99, 0, 0, -99], np.float32)
    (gate,) = rc.diagnose.saturation(relu, x).layers[0].gates
    assert gate.dead == 2
    assert "2 units are dead" in gate.note


# Pictures and errors


def test_pictures() -> None:
    import matplotlib.pyplot as plt

    x, _ = adding(4, 20)
    model = rc.Sequential(rc.LSTM(2, 4, 2, bidirectional=True, seed=0), rc.RNN(8, 3, return_sequences=False, seed=1))
    flow = rc.diagnose.gradient_flow(model, x, np.zeros((4, 3)), loss=MSE)
    axes = flow.plot()
    assert axes.get_yscale() == "log"
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels[:5] == [f"{layer.name}: {layer.verdict}" for layer in flow.layers]
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), -np.arange(20))
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), flow.layers[0].reach)
    _figure, own = plt.subplots()
    assert flow.plot(ax=own) is own
    bars = rc.diagnose.saturation(model, x).plot()
    assert len(bars.patches) == 3 * (4 * 4 + 1)
    states = rc.diagnose.hidden_states(model, x, [20, 9, 0, 20])
    image = states.plot(row=1, layer=1, values="c").images[0].get_array()
    np.testing.assert_array_equal(image, states.layers[1].c[1, :9].T)
    weights = np.full((3, 5), 0.2)
    heat = rc.diagnose.plot_attention(weights, list("abcd"), list("xyz"))
    assert heat.images[0].get_array().shape == (3, 4)
    assert [text.get_text() for text in heat.get_xticklabels()] == list("abcd")
    for number in plt.get_fignums():
        plt.figure(number).canvas.draw()
    plt.close("all")


ERRORS: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "no recurrent layer": (
        lambda: rc.diagnose.saturation(rc.Sequential(rc.Linear(2, 2)), np.zeros((1, 2))),
        ValueError,
        "saturation: got a model of Linear, expected one with a recurrent layer",
    ),
    "no model": (
        lambda: rc.diagnose.hidden_states("model", np.zeros((1, 2, 2))),
        TypeError,
        "hidden_states: got model='model', expected a model or a layer",
    ),
    "several inputs": (
        lambda: rc.diagnose.hidden_states(rc.Add(), (np.zeros((1, 2, 2)),) * 2),
        TypeError,
        "hidden_states: got a Add alone, expected a model",
    ),
    "features": (
        lambda: rc.diagnose.gradient_flow(rc.GRU(2, 3), np.zeros((1, 4, 3)), 0, loss=MSE),
        ValueError,
        r"gradient_flow: got x of shape \(1, 4, 3\), expected",
    ),
    "targets": (
        lambda: rc.diagnose.gradient_flow(rc.GRU(2, 3), np.zeros((1, 4, 2)), np.zeros((1, 4, 2)), loss=MSE),
        ValueError,
        r"gradient_flow: got y of shape \(1, 4, 2\), expected \(1, 4, 3\)",
    ),
    "loss": (
        lambda: rc.diagnose.gradient_flow(rc.GRU(2, 3), np.zeros((1, 4, 2)), 0, loss=rc.losses.MixtureDensity),
        TypeError,
        "gradient_flow: got loss=the class MixtureDensity",
    ),
    "no rows": (
        lambda: rc.diagnose.nonfinite(rc.GRU(2, 3), np.zeros((0, 4, 2))),
        ValueError,
        "nonfinite: got x without rows",
    ),
    "y alone": (
        lambda: rc.diagnose.nonfinite(rc.GRU(2, 3), np.zeros((1, 4, 2)), y=np.zeros((1, 4, 3))),
        ValueError,
        "nonfinite: got y without loss, expected both or neither",
    ),
    "a row": (
        lambda: rc.diagnose.hidden_states(rc.GRU(2, 3), np.zeros((1, 4, 2))).plot(row=1),
        ValueError,
        "plot: got row=1",
    ),
    "an empty row": (
        lambda: rc.diagnose.hidden_states(rc.GRU(2, 3), np.zeros((1, 4, 2)), [0]).plot(),
        ValueError,
        "plot: got row=0, which has no valid steps, expected a row with at least one",
    ),
    "a cell's c": (
        lambda: rc.diagnose.hidden_states(rc.GRU(2, 3), np.zeros((1, 4, 2))).plot(values="c"),
        ValueError,
        "plot: got values='c', expected one of 'h'",
    ),
    "a batch of weights": (
        lambda: rc.diagnose.plot_attention(np.zeros((1, 2, 3))),
        ValueError,
        r"plot_attention: got weights of shape \(1, 2, 3\)",
    ),
    "labels": (
        lambda: rc.diagnose.plot_attention(np.zeros((2, 3)), source_labels="abcd"),
        ValueError,
        "plot_attention: got 4 source_labels, expected at most 3",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name: str) -> None:
    call, error, text = ERRORS[name]
    with pytest.raises(error, match=text):
        call()


def test_sequences_without_steps() -> None:
    model = rc.Sequential(rc.LSTM(3, 4), rc.Linear(4, 1), seed=0)
    x, y = np.zeros((2, 0, 3), np.float32), np.zeros((2, 0, 1))
    assert rc.diagnose.nonfinite(model, x, y, loss=MSE) is None
    assert rc.diagnose.hidden_states(model, x).layers[0].h.shape == (2, 0, 4)
    assert "0.LSTM" in str(rc.diagnose.saturation(model, x))


@pytest.mark.parametrize("sparse", [False, True])
def test_sparse_gradients(sparse: bool) -> None:
    """Diagnosis writes them as their layer wants it, puts all back, and `fit` says where NaN comes from."""
    x = np.random.default_rng(0).integers(0, 50, (16, 9))
    loss = rc.losses.CrossEntropy()
    model = rc.Sequential(rc.Embedding(50, 6, sparse=sparse), rc.GRU(6, 5), rc.BatchNorm(5), rc.Linear(5, 2), seed=0)
    tape = model.record(x, seed=0)
    tape.backward(np.ones_like(tape.y))
    before = state_of(model)
    twin = rc.Sequential(rc.Embedding(50, 6), rc.GRU(6, 5), rc.BatchNorm(5), rc.Linear(5, 2), seed=0)
    twin.load_state_dict(model.state_dict())
    found, expected = (rc.diagnose.gradient_flow(each, x, x % 2, loss=loss) for each in (model, twin))
    assert str(found) == str(expected)
    for name, array in state_of(model).items():
        assert_same_bits(np.asarray(array), np.asarray(before[name]), name)
    if sparse:
        assert_same_bits(model.layers[0].grad_rows, np.unique(x))
    steep = rc.Sequential(rc.Embedding(50, 6, sparse=sparse), rc.Activation("sqrt"), rc.Linear(6, 2), seed=0)
    steep.params["0.weight"] = np.zeros((50, 6), np.float32)
    with pytest.raises(FloatingPointError, match="gradient"):
        steep.fit(x, x % 2, loss=loss, optimizer=rc.optim.SGD(0.1), verbose=0, seed=0)
