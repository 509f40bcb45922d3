"""What messages advise to write is code that runs, and helps."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import recurra as rc

X = np.zeros((2, 5, 3), np.float32)
LSTM = rc.LSTM(3, 4, seed=0)


def advised(call: Callable[[], object]) -> str:
    """The code in what a failing call says."""
    with pytest.raises((TypeError, ValueError)) as found:
        call()
    code = re.search(r"(?:write|convert it with) (.+?)(?:,? or |, as |$|; | if |\n)", str(found.value))
    assert code is not None, str(found.value)
    return code[1]


@pytest.mark.parametrize(
    ("call", "given"),
    [
        (lambda predictions: rc.losses.L1()(predictions, X), X.astype(np.float16)),
        (lambda targets: rc.losses.CrossEntropy()(X, targets), np.zeros((2, 5))),
        (lambda targets: rc.losses.CrossEntropy()(X, targets), np.eye(3)[np.zeros((2, 5), int)]),
        (lambda targets: rc.losses.L1()(X[..., :1], targets), X[..., 0]),
        (lambda targets: rc.losses.CTC()(X, targets), np.ones((2, 2))),
        (lambda out: LSTM.stream(2).step(X[:, 0], out=out), np.zeros((2, 4))),
    ],
)
def test_an_array_to_convert(call: Callable[[Any], object], given: Any) -> None:
    code = advised(lambda: call(given))
    name = re.match(r"\w+", code)
    assert name is not None
    call(eval(code, {"np": np, name[0]: given}))


@pytest.mark.parametrize(
    ("name", "value"), [("hidden_size", 4.0), ("hidden_size", "4"), ("num_layers", np.float32(2)), ("dropout", "0.25")]
)
def test_a_number_of_another_type(name: str, value: Any) -> None:
    def make(**options: Any) -> Any:
        return rc.LSTM(**{"input_size": 3, "hidden_size": 4, "num_layers": 2, **options})

    made = eval(f"make({advised(lambda: make(**{name: value}))})", {"make": make})
    assert getattr(made, name) == float(value)
    with pytest.raises((TypeError, ValueError), match=f"change {name}$"):
        make(**{name: "many"})


@pytest.mark.parametrize("bad", [[-1, 2], [[1, 2]], 3, [1.5, 2.0], ["a"]])
@pytest.mark.parametrize("layer", [LSTM, rc.Conv1d(3, 4, 3), rc.Sequential(LSTM, rc.Conv1d(4, 2, 3, stride=2))])
def test_output_lengths_checks_its_argument(layer: Any, bad: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"output_lengths: got lengths"):
        layer.output_lengths(bad)
    assert layer.output_lengths(None) is None
    assert layer.output_lengths([5, 0]).dtype == np.int64


def test_a_parameter_of_another_dtype() -> None:
    mapping = LSTM.state_dict()
    mapping["bias_hh_l0"] = mapping["bias_hh_l0"].astype(np.float64)
    mapping["bias_hh_l0"] = eval(advised(lambda: LSTM.load_state_dict(mapping)), {"mapping": mapping})
    LSTM.load_state_dict(mapping)

    class Own(rc.PythonLayer):
        def __init__(self, array: Any) -> None:
            self.add_parameter("scale", array)

        def forward(self, x: Any, **_: Any) -> Any:
            return x, None

        def backward(self, dy: Any, saved: Any) -> Any:
            return dy

    given = np.arange(3)
    code = advised(lambda: Own(given))
    assert Own(eval(code, {"np": np, "array": given})).params["scale"].dtype == np.float32


def fitted(**options: Any) -> object:
    model = rc.Sequential(rc.Linear(3, 3))
    return model.fit(X, X, **{"loss": rc.losses.L1(), "optimizer": rc.optim.SGD(0.1), "verbose": 0, **options})


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("loss", rc.losses.MixtureDensity),
        ("callbacks", rc.callbacks.TerminateOnNaN),
        ("forward", rc.GRU),
        ("truncate", rc.TruncatedBPTT),
        ("optimizer", rc.optim.SGD),
    ],
)
def test_a_class_in_place_of_an_object(name: str, given: type) -> None:
    def call(value: Any) -> object:
        return rc.Bidirectional(value) if name == "forward" else fitted(**{name: value})

    code = advised(lambda: call(given))
    assert code.startswith(f"{given.__name__}(")
    if "..." not in code:
        call(eval(code, {given.__name__: given}))
    else:
        with pytest.raises(TypeError, match=rf"^{given.__name__}: got no "):
            given()


@pytest.mark.parametrize(
    ("name", "given", "package", "some"),
    [
        ("loss", 5, rc.losses, ("MeanSquaredError", "L1")),
        ("loss", rc.optim.Adam, rc.losses, ("MeanSquaredError", "L1")),
        ("optimizer", rc.optim.Optimizer, rc.optim, ("Adam", "SGD")),
        ("callbacks", print, rc.callbacks, ("EarlyStopping", "CSVLogger")),
    ],
)
def test_something_else_in_place_of_an_object(name: str, given: Any, package: Any, some: tuple[str, str]) -> None:
    with pytest.raises(TypeError, match=rf"^fit: got {name}=.*; give one of {package.__name__}: ") as found:
        fitted(**{name: given})
    there = str(found.value).rpartition(": ")[2].split(", ")
    assert set(some) <= set(there)
    assert all(isinstance(getattr(package, one), type) for one in there)
    with pytest.raises(TypeError, match=r"^fit: got truncate=5, expected an instance of TruncatedBPTT; make one$"):
        fitted(truncate=5)


def test_ctc_padded_by_the_blank_says_what_pads() -> None:
    padded = np.array([[1, 2, 0], [1, 0, 0]])
    with pytest.raises(ValueError, match=r"got the blank, 0, .*use -1 or give a list"):
        rc.losses.CTC()(np.zeros((2, 5, 3), np.float32), padded)


def test_a_metric_of_steps_with_ctc() -> None:
    model = rc.Sequential(rc.LSTM(3, 4), rc.Linear(4, 3))
    for name in ("accuracy", "f1", "mae"):
        with pytest.raises(ValueError, match=rf"got the metric '{name}' with CTC, .*metrics=\['edit_distance'\]"):
            model.fit(X, [[1], [2]], loss="ctc", optimizer="adam", metrics=[name])
    model.fit(X, [[1], [2]], loss="ctc", optimizer="adam", metrics=["edit_distance"], verbose=0)


def test_class_weight_of_binary_cross_entropy() -> None:
    model = rc.Sequential(rc.LSTM(3, 4), rc.Pool("last"), rc.Linear(4, 1))
    with pytest.raises(TypeError, match=r"class_weight for BinaryCrossEntropy, .*BinaryCrossEntropy\(pos_weight=\)"):
        model.fit(X, np.zeros((2, 1)), loss="bce", optimizer="adam", class_weight={0: 1, 1: 2})


@pytest.mark.parametrize("prompt", [[1, 2], np.zeros((1, 2)), [[1, 50]]])
def test_a_prompt_is_called_that(prompt: Any) -> None:
    model = rc.Sequential(rc.Embedding(12, 8), rc.GRU(8, 16), rc.Linear(16, 12), seed=0)
    with pytest.raises((TypeError, ValueError), match=r"^generate: (got )?prompt "):
        rc.generate(model, prompt, 5)


def test_beta_that_overflows() -> None:
    with pytest.raises(ValueError, match=r"^Hopfield: got beta=1e\+39"):
        rc.Hopfield(4, beta=1e39)
    x = X[..., :1].repeat(4, -1) + 1
    assert np.isfinite(rc.Hopfield(4, beta=1e18)((x, x))[0]).all()


def test_the_default_of_dropout_is_shown() -> None:
    assert repr(rc.Dropout()) == "Dropout(p=0.5)"
