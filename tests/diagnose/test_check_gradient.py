"""`check_gradient` passes what is right, and says of what is wrong how it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import layer_cases
import recurra as rc
import user_layers
from array_types import Array
from single_thread import one_thread

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 6, 3)).astype(np.float32)


class Wrong(rc.PythonLayer):
    """A scale whose gradients are wrong on request."""

    def __init__(self, what: str = "") -> None:
        self.what = what
        self.add_parameter("scale", np.linspace(0.5, 1.5, 3).astype(np.float32))

    def forward(
        self, x: Array, *, lengths: Array | None, training: bool, rng: np.random.Generator
    ) -> tuple[Array, Any]:
        return np.maximum(x * self.params["scale"], 0), x

    def backward(self, dy: Array, saved: Array) -> Array:
        dz = dy * (saved * self.params["scale"] > 0)
        if self.what != "left out":
            self.grads["scale"] += (dz * saved).sum((0, 1)) * (0.5 if self.what == "factor" else 1.0)
        dx: Array = dz * self.params["scale"]
        if self.what == "one entry":
            dx[0, 0, 0] += 1.0
        return dx * (np.nan if self.what == "nan" else 1.0)


def graph() -> Any:
    a, b = rc.Input(features=3), rc.Input(tokens=4)
    embedding, gru = rc.Embedding(4, 3, seed=0), rc.GRU(3, 5, seed=0)
    shared = rc.Linear(3, 2, seed=0)
    h = gru(a)
    return rc.Model({"a": a, "b": b}, (shared(embedding(b)), shared(a), rc.GRU(2, 5, seed=0)(shared(a), state=h.state)))


LAYERS: dict[str, Callable[[], Any]] = {
    "lstm": lambda: rc.LSTM(3, 4, 2, bidirectional=True, layer_norm=True, zoneout=0.2, dropout=0.3, seed=0),
    "gru": lambda: rc.GRU(3, 4, reset_after=False, return_sequences=False, seed=0),
    "time first": lambda: rc.RNN(3, 4, batch_first=False, seed=0),
    "min": lambda: rc.MinLSTM(3, 4, dtype="float64", seed=0),
    "nested": lambda: rc.Sequential(
        rc.Bidirectional(rc.GRU(3, 4, seed=0)), rc.Dropout(0.5), rc.BatchNorm(8), rc.Linear(8, 2, seed=0)
    ),
    "users": lambda: rc.Sequential(rc.Linear(3, 4, seed=0), user_layers.Scale(4), user_layers.Softsign()),
    "right": lambda: Wrong(),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_that_are_right(name: str) -> None:
    layer = LAYERS[name]()
    before = layer.state_dict()
    with one_thread():
        report = rc.check_gradient(layer, X, samples=4)
    assert report, report
    assert report.ok
    assert "agree" in str(report)
    assert {one.name.split(" ")[0] for one in report.arrays} <= {"x", "initial", *before}
    assert set(layer.params) <= {one.name for one in report.arrays}
    assert all((before[one] == array).all() for one, array in layer.state_dict().items())
    assert all(not gradient.any() for gradient in layer.grads.values())


@pytest.mark.parametrize("name", layer_cases.NAMES)
def test_every_other_layer(name: str) -> None:
    x = layer_cases.draw(name, (2, 6, 9))
    with one_thread():
        report = rc.check_gradient(layer_cases.make(name, 9, "float32"), x, samples=4)
    assert report, report


def test_models_with_several_inputs_states_and_lengths() -> None:
    with one_thread():
        given = {"a": X, "b": RNG.integers(0, 4, (2, 6))}
        report = rc.check_gradient(graph(), given, lengths={"a": [6, 2], "b": None}, samples=4)
        assert report, report
        state = RNG.standard_normal((1, 2, 4))
        report = rc.check_gradient(rc.GRU(3, 4, seed=0), X, lengths=[0, 5], state=state, samples=4)
        assert report, report
        assert rc.check_gradient(rc.Add(), (X, X), samples=4)
    assert [one.name for one in report.arrays][:2] == ["x", "initial state h"]


@pytest.mark.parametrize("turn", [np.asfortranarray, lambda a: np.swapaxes(np.swapaxes(a, 0, 1).copy(), 0, 1)])
def test_any_layout_in_memory(turn: Callable[[Array], Array]) -> None:
    x, state = turn(X.astype(np.float64)), turn(RNG.standard_normal((2, 2, 4)))
    broadcast = np.broadcast_to(X[0].astype(np.float64), X.shape)
    with one_thread():
        for given in (x, broadcast):
            assert not given.flags.c_contiguous
            report = rc.check_gradient(rc.GRU(3, 4, 2, seed=0), given, state=state, samples=4)
            assert report, report
            report = rc.check_gradient("mse", given, Y)
            assert report, report


@pytest.mark.parametrize("state", [None, np.full((2, 4), 0.5)])
def test_without_a_batch_axis(state: Array | None) -> None:
    model = rc.Sequential(rc.Conv1d(3, 3, 2, seed=0), rc.GRU(3, 4, seed=0), rc.Linear(4, 2, seed=0))
    with one_thread():
        report = rc.check_gradient(rc.GRU(3, 4, bidirectional=True, seed=0), X[0], lengths=4, state=state, samples=4)
        assert report, report
        assert [one.shape for one in report.arrays][:2] == [(6, 3), (2, 4)]
        report = rc.check_gradient(model, X[0], samples=4)
        assert report, report


@pytest.mark.parametrize("step", [0, 0.0, -1e-5, np.nan])
def test_a_step_that_is_none(step: float) -> None:
    with pytest.raises(ValueError, match=r"^check_gradient: got step="):
        rc.check_gradient(rc.GRU(3, 4, seed=0), X, step=step)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("left out", "scale: the gradient is 0: backward leaves it out"),
        ("factor", "scale: the gradient is 0.5 times what it should be"),
        ("one entry", "x: the gradient differs at 1 of 36 entries"),
        ("nan", "x: the gradient is not finite"),
    ],
)
def test_layers_that_are_wrong(what: str, message: str) -> None:
    with one_thread():
        report = rc.check_gradient(Wrong(what), X, samples=36)
    assert not report
    assert str(report).partition("\n")[0].startswith("Wrong: the gradients differ from central differences")
    assert message in str(report).splitlines()[-1]
    assert "differ" in report._repr_html_()


Y = RNG.standard_normal((2, 6, 3))
LABELS = RNG.integers(0, 3, (2, 6))
LOSSES: dict[str, tuple[Any, Any]] = {
    "mse": ("mse", Y),
    "class": (rc.losses.Huber, Y),
    "cross entropy": (rc.losses.CrossEntropy(label_smoothing=0.1, class_weights=[1, 2, 3]), LABELS),
    "bce": ("bce", LABELS[..., None] == np.arange(3)),
    "quantile": (rc.losses.Quantile([0.1, 0.5, 0.9]), Y[..., :1]),
    "ctc": ("ctc", [[1], [2, 1]]),
    "crf": (rc.losses.CRF(rc.CRF(3, dtype="float64", seed=0)), LABELS),
    "function": (lambda p, t: (np.square(p - t).mean(), 2 * (p - t) / p.size), Y),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_that_are_right(name: str) -> None:
    loss, y = LOSSES[name]
    report = rc.check_gradient(loss, X, y, [6, 4], weights=[1.0, 1.0])
    assert report, report


def test_a_loss_that_is_wrong() -> None:
    report = rc.check_gradient(lambda p, t: (np.square(p - t).mean(), p - t), X, Y)
    assert str(report).endswith("predictions: the gradient is 18 times what it should be")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rc.check_gradient(rc.Linear(3, 2), X, Y), "got targets or weights for a Linear"),
        (lambda: rc.check_gradient("mse", X), "got no targets for MeanSquaredError"),
        (lambda: rc.check_gradient("nonsense", X, Y), "check_gradient: got loss='nonsense'"),
        (lambda: rc.check_gradient(rc.Linear(3, 2), X, samples=0), "check_gradient: got samples=0"),
        (lambda: rc.check_gradient(rc.Linear(2, 2), X), "features, expected 2"),
    ],
)
def test_errors(call: Callable[[], Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        call()
