"""Activations inside cells: definitions that other libraries have, defaults, ends, what is refused. Values, gradients,
bits, ragged batches and streams are in tests/contracts, whose variants choose activations."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import recurra as rc
from agreement import assert_same_bits
from array_types import DTYPES, Array
from reference import ACTIVATIONS, activation

pytestmark = pytest.mark.every_isa

X = np.random.default_rng(0).standard_normal((5, 9, 3)).astype(np.float32)
CELLS = {"RNN": rc.RNN, "LSTM": rc.LSTM, "GRU": rc.GRU}


def outcome(layer: Any, x: Array) -> list[Array]:
    """Outputs, the gradient of x and all parameters' gradients."""
    tape = layer.record(x)
    y = tape.y.copy()
    dx, _dstate = tape.backward(np.cos(np.arange(y.size, dtype=y.dtype)).reshape(y.shape))
    return [y, dx, *(layer.grads[name].copy() for name in layer.grads)]


def same(one: Any, other: Any, x: Array = X) -> None:
    for a, b in zip(outcome(one, x), outcome(other, x), strict=True):
        assert_same_bits(a, b)


def keras(v: float, version: int) -> float:
    """Hard sigmoid as Keras wrote it: keras.ops.hard_sigmoid is relu6(x + 3) / 6, keras 2's backend clips 0.2 x +
    0.5."""
    return min(max(v + 3.0, 0.0), 6.0) / 6.0 if version == 3 else min(max(0.2 * v + 0.5, 0.0), 1.0)


def gate_alone(value: float, **keywords: Any) -> tuple[float, float]:
    """The update gate's activation at `value`, and its derivative: h' = (1 - z) n + z h with n = 0 and h = 1 is z."""
    layer = rc.GRU(1, 1, dtype="float64", **keywords)
    for name in layer.params:
        layer.params[name] = np.zeros_like(layer.params[name])
    layer.params["weight_ih_l0"] = np.array([[0.0], [1.0], [0.0]])
    tape = layer.record(np.full((1, 1, 1), value), np.ones((1, 1, 1)))
    z = float(tape.y[0, 0, 0])
    dx, _dstate = tape.backward(np.ones((1, 1, 1)))
    return z, float(dx[0, 0, 0])


@pytest.mark.parametrize("reset_after", [True, False])
@pytest.mark.parametrize(
    ("name", "version", "slope", "end"), [("hard_sigmoid", 3, 1 / 6, 3.0), (("hard_sigmoid", 0.2, 0.5), 2, 0.2, 2.5)]
)
def test_both_hard_sigmoids(name: Any, version: int, slope: float, end: float, reset_after: bool) -> None:
    for value in (-1e30, -end - 1, -end - 1e-3, -end + 1e-3, -0.3, 0.0, 1.0, end - 1e-3, end + 1e-3, 7.0, 1e30):
        z, derivative = gate_alone(value, recurrent_activation=name, reset_after=reset_after)
        assert z == pytest.approx(keras(value, version), abs=1e-15)
        assert derivative == pytest.approx(slope if abs(value) < end else 0.0, abs=1e-15)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [*ACTIVATIONS, ("hard_sigmoid", 0.2, 0.5), ("hard_sigmoid", 3.0, -0.25)])
def test_every_activation_over_its_range(name: Any, dtype: str) -> None:
    """An RNN of one step is its activation; values are the specification's, NaN stays NaN."""
    values = np.concatenate([np.linspace(-30, 30, 4001), [0.0, -0.0, 1e4, -1e4, np.nan]]).astype(dtype)
    layer = rc.RNN(1, 1, nonlinearity=name, bias=False, dtype=dtype)
    layer.params["weight_ih_l0"] = np.ones((1, 1), dtype)
    y, _ = layer(values[:, None, None])
    with np.errstate(invalid="ignore"):
        expected = activation(name)(values.astype(np.float64))
    tolerance = 4 * np.finfo(dtype).eps
    np.testing.assert_allclose(y[:, 0, 0], expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_usual_ones_by_name_are_the_plain_cell(dtype: str) -> None:
    x = X.astype(dtype)
    usual = {"activation": "tanh", "recurrent_activation": "sigmoid"}
    same(rc.LSTM(3, 17, **usual, output_activation="tanh", dtype=dtype, seed=1), rc.LSTM(3, 17, dtype=dtype, seed=1), x)
    for form in (True, False):
        keywords: dict[str, Any] = {"reset_after": form, "dtype": dtype, "seed": 1}
        same(rc.GRU(3, 17, **usual, **keywords), rc.GRU(3, 17, **keywords), x)


@pytest.mark.parametrize("hidden", [5, 16, 17, 260])
@pytest.mark.parametrize("make", [rc.LSTM, rc.GRU, lambda *a, **k: rc.GRU(*a, reset_after=False, **k)])
def test_a_hard_sigmoid_is_its_two_numbers(make: Callable[..., Any], hidden: int) -> None:
    named, given = (
        make(3, hidden, recurrent_activation=name, seed=1)
        for name in ("hard_sigmoid", ("hard_sigmoid", 1.0 / 6.0, 0.5))
    )
    same(named, given)


def test_the_output_takes_the_activation_unless_it_has_its_own() -> None:
    same(
        rc.LSTM(3, 17, activation="softsign", seed=1),
        rc.LSTM(3, 17, activation="softsign", output_activation="softsign", seed=1),
    )
    plain, other = (rc.LSTM(3, 17, seed=1, **keywords) for keywords in ({}, {"output_activation": "linear"}))
    for one, two in zip(plain(X)[1], other(X)[1], strict=True):
        assert np.abs(one - two).max() > 1e-3


@pytest.mark.parametrize("make", [rc.LSTM, rc.GRU, rc.RNN])
def test_a_configuration_from_a_file_is_taken(make: Any) -> None:
    """JSON makes a list of a tuple."""
    name = "nonlinearity" if make is rc.RNN else "recurrent_activation"
    layer = make(3, 5, seed=1, **{name: ("hard_sigmoid", 1, 0.5)})
    assert layer.config()[name] == ("hard_sigmoid", 1.0, 0.5)
    twin = make.from_config({**layer.config(), name: ["hard_sigmoid", 1, 0.5]})
    assert twin.config() == layer.config()


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        (
            {"recurrent_activation": "hardsigmoid"},
            r"^LSTM: got recurrent_activation='hardsigmoid', expected one of 'tanh', ",
        ),
        ({"activation": None}, r"^LSTM: got activation=None, expected one of 'tanh', "),
        ({"activation": math.tanh}, r"^LSTM: got activation=<built-in function tanh>, expected one of "),
        (
            {"activation": ("tanh", 1.0, 0.0)},
            r'^LSTM: got activation=.*expected a name or \("hard_sigmoid", alpha, beta\)',
        ),
        ({"output_activation": ("hard_sigmoid", 0.2)}, r"^LSTM: got output_activation=.*expected a name or "),
        ({"activation": ("hard_sigmoid", 0.0, 0.5)}, r"^LSTM: got alpha of activation=0.0, expected a number above 0"),
        ({"activation": ("hard_sigmoid", -0.2, 0.5)}, r"^LSTM: got alpha of activation=-0.2, expected a finite number"),
        (
            {"activation": ("hard_sigmoid", 1e7, 0.5)},
            r"^LSTM: got alpha of activation=10000000.0, expected .* from 0 to 1e\+06",
        ),
        (
            {"activation": ("hard_sigmoid", 0.2, math.nan)},
            r"^LSTM: got beta of activation=nan, expected a finite number",
        ),
        (
            {"activation": ("hard_sigmoid", "0.2", 0.5)},
            r"^LSTM: got alpha of activation='0.2' of type str, expected a number",
        ),
    ],
)
def test_what_is_refused(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        rc.LSTM(3, 5, **keywords)


def test_a_decoder_keeps_the_activations_of_its_cell() -> None:
    with pytest.raises(
        ValueError, match=r"^AttentionDecoder: got nonlinearity='hard_sigmoid', expected one of 'tanh', 'relu', "
    ):
        rc.AttentionDecoder(3, 5, 4, cell="rnn", nonlinearity="hard_sigmoid")
    with pytest.raises(TypeError, match=r"^AttentionDecoder: got an unknown argument recurrent_activation"):
        rc.AttentionDecoder(3, 5, 4, cell="lstm", recurrent_activation="hard_sigmoid")  # type: ignore[call-arg]


def test_the_core_refuses_what_python_would_not_pass() -> None:
    from recurra import _core

    for cell, chosen, message in (
        ("min_gru", [("relu", 0.0, 0.0), ("", 0.0, 0.0), ("", 0.0, 0.0)], "for a cell that has none"),
        ("gru", [("", 0.0, 0.0), ("", 0.0, 0.0), ("relu", 0.0, 0.0)], "for a cell that has none"),
        ("lstm", [("step", 0.0, 0.0), ("", 0.0, 0.0), ("", 0.0, 0.0)], "expected tanh, sigmoid, relu"),
        ("lstm", [("hard_sigmoid", 0.0, 0.0), ("", 0.0, 0.0), ("", 0.0, 0.0)], "alpha 0"),
        ("lstm", [("hard_sigmoid", math.nan, 0.0), ("", 0.0, 0.0), ("", 0.0, 0.0)], "alpha"),
    ):
        with pytest.raises(ValueError, match=message):
            _core.Recurrent(cell, 3, 5, activations=chosen)


def test_saturation_knows_the_ends() -> None:
    layer = rc.LSTM(3, 8, activation="relu", recurrent_activation=("hard_sigmoid", 0.2, 0.5), seed=1)
    gates = rc.diagnose.saturation(layer, X).layers[0].gates
    assert [(gate.name, gate.kind) for gate in gates] == [
        ("i", "sigmoid"),
        ("f", "sigmoid"),
        ("g", "relu"),
        ("o", "sigmoid"),
    ]
    layer = rc.GRU(3, 8, activation="linear", recurrent_activation="softsign", seed=1)
    gates = rc.diagnose.saturation(layer, X).layers[0].gates
    assert [(gate.name, gate.kind) for gate in gates] == [("r", "tanh"), ("z", "tanh")]
