"""Names of other libraries: the message about each says what stands for it, and that is there."""

from __future__ import annotations

import importlib
import re
import warnings
from typing import Any

import numpy as np
import pytest

import recurra as rc
from recurra.common import habits

MODULES = [(module, name, use) for module, names in habits._OF_MODULES.items() for name, use in names.items()]


def layer() -> rc.Sequential:
    return rc.Sequential(rc.GRU(3, 4, return_sequences=False), rc.Linear(4, 1), seed=0)


def found(module: str) -> Any:
    value: Any = rc
    for part in module.split(".") if module else []:
        value = getattr(value, part)
    return value


@pytest.mark.parametrize(("module", "name", "use"), MODULES)
def test_a_modules_name(module: str, name: str, use: str) -> None:
    with pytest.raises(AttributeError, match=re.escape(f"has no attribute {name!r}; use {use}")):
        getattr(found(module), name)


@pytest.mark.parametrize(("module", "name", "use"), MODULES)
def test_what_is_named_is_there(module: str, name: str, use: str) -> None:
    words = [
        word for word in re.findall(r"\b[A-Za-z_][\w.]*", use) if word[0].isupper() or word.startswith("callbacks.")
    ]
    for word in words:
        owner = found(module)
        if word.startswith("callbacks."):
            owner, word = rc.callbacks, word.split(".")[1]
        assert word == "False" or hasattr(owner, word), f"{use}: no {word}"


@pytest.mark.parametrize(("name", "use"), habits._OF_LAYERS.items())
def test_a_layers_name(name: str, use: str) -> None:
    for one in (layer(), rc.LSTM(2, 3)):
        if not hasattr(type(one), name):
            with pytest.raises(AttributeError, match=re.escape(f"has no attribute {name!r}; use {use}")):
                getattr(one, name)


def test_completion_shows_public_names() -> None:
    sklearn = importlib.import_module("recurra.sklearn")
    for module in (rc.losses, rc.optim, rc.optim.schedules, rc.ctc, sklearn):
        assert dir(module) == sorted(module.__all__)


def test_other_names() -> None:
    with pytest.raises(AttributeError, match=r"^'Sequential' object has no attribute 'nothing'$"):
        _ = layer().nothing  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match=r"^module 'recurra.losses' has no attribute 'Nothing'$"):
        _ = rc.losses.Nothing  # type: ignore[attr-defined]
    assert not hasattr(layer(), "__array__")
    assert getattr(layer(), "nothing", 3) == 3


def test_a_propertys_own_error_is_seen() -> None:
    class Broken(rc.PythonLayer):
        @property
        def half(self) -> int:
            return self._not_there  # type: ignore[attr-defined, no-any-return]

        def forward(self, x: Any) -> Any:
            return x

        def backward(self, dy: Any) -> Any:
            return dy

    with pytest.raises(AttributeError, match="_not_there"):
        _ = Broken().half


@pytest.mark.parametrize(
    "names", ["y_true, y_pred", "true, pred", "actual, predicted", "y, yhat", "t, p", "labels, logits"]
)
def test_a_loss_of_the_target_first(names: str) -> None:
    function = eval(f"lambda {names}: 0")
    with pytest.raises(TypeError, match=f"got a function of {names}, expected the prediction first"):
        rc.losses.Function(function)


@pytest.mark.parametrize("names", ["prediction, target", "p, t", "y, t", "a, b", "x, y", "output, target"])
def test_a_loss_of_the_prediction_first(names: str) -> None:
    rc.losses.Function(eval(f"lambda {names}: 0"))


def test_keras_third_argument() -> None:
    x, y = np.zeros((4, 5, 3), np.float32), np.zeros((4, 1), np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match="write batch_size=2"):
            layer().fit(x, y, 2, loss="mse", optimizer="adam")
        with pytest.raises(ValueError, match="write batch_size=2"):
            layer().predict(x, 2)
