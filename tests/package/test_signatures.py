"""What an editor and `help` show: every argument by its name, with what it is for, and no name that is not public."""

from __future__ import annotations

import importlib
import inspect
import sys
from dataclasses import is_dataclass
from typing import Any

import pytest

import recurra as rc
from fresh_python import run_python
from public import PACKAGES
from recurra.common.docstrings import described_arguments

#: Nobody calls these; functions return them.
MADE = (
    *(rc.FlatGradients, rc.Gradients, rc.History, rc.Stream, rc.Symbol, rc.Tape, rc.data.Sessions, rc.data.Stateful),
    rc.serving.PoolStream,
)


def public() -> list[Any]:
    """Every public function and class of the package."""
    found = {}
    for name in PACKAGES:
        module = importlib.import_module(name)
        for own in getattr(module, "__all__", dir(module)):
            thing = getattr(module, own)
            home = "recurra" if hasattr(module, "__all__") else name
            if callable(thing) and getattr(thing, "__module__", "").startswith(home) and not own.startswith("_"):
                found[f"{name}.{own}"] = thing
    return [pytest.param(thing, id=name) for name, thing in found.items()]


def plain_data(thing: type) -> bool:
    return is_dataclass(thing) and "fit" not in dir(thing)


def methods(thing: Any) -> list[Any]:
    own = inspect.getmembers(thing, inspect.isroutine) if inspect.isclass(thing) else []
    return [
        method
        for name, method in own
        if (not name.startswith("_") or name == "__call__") and getattr(method, "__module__", "").startswith("recurra")
    ]


@pytest.mark.parametrize("thing", public())
def test_no_argument_hides_in_a_dict(thing: Any) -> None:
    if thing is rc.from_onnx:
        return  # its keywords are the inputs of the graph at hand
    for function in [thing, *methods(thing)]:
        try:
            arguments = inspect.signature(function).parameters.values()
        except (TypeError, ValueError):
            continue
        hidden = [one.name for one in arguments if one.kind is one.VAR_KEYWORD]
        assert not hidden, f"{function}: {hidden}"


@pytest.mark.skipif(sys.flags.optimize > 1, reason="no docstrings")
@pytest.mark.parametrize("thing", public())
def test_every_argument_is_described(thing: Any) -> None:
    """In the Args of the class or function itself, so that hovering over it is enough."""
    if inspect.isclass(thing) and (issubclass(thing, BaseException | tuple) or thing in MADE or plain_data(thing)):
        assert thing.__doc__  # a dataclass' arguments are its attributes
        return
    names = list(inspect.signature(thing).parameters)
    text = described_arguments(thing.__doc__)
    missing = [name for name in names if name not in text]
    assert not missing, missing


def test_a_class_that_adds_nothing_takes_its_bases_text() -> None:
    text = described_arguments(rc.MinGRU.__doc__)
    assert list(text) == list(inspect.signature(rc.MinGRU).parameters)
    assert "units of each layer" in text["hidden_size"]


LAYER = [
    "bias",
    "bidirectional",
    "buffers",
    "config",
    "dtype",
    "edit",
    "from_config",
    "grads",
    "init_state",
    "input_kind",
    "input_size",
    "load_state_dict",
    "new_grads",
    "num_layers",
    "open_tape",
    "output_lengths",
    "output_size",
    "params",
    "record",
    "reset_parameters",
    "return_sequences",
    "save",
    "state_dict",
    "to_onnx",
    "to_torch",
    "stream",
    "tape_bytes",
    "trainable",
    "zero_grad",
]


@pytest.mark.parametrize(
    ("layer", "own"),
    [
        (rc.LSTM(2, 3), [*inspect.signature(rc.LSTM).parameters, "num_directions"]),
        (rc.Linear(2, 3), list(inspect.signature(rc.Linear).parameters)),
        (
            rc.Sequential(rc.Linear(2, 3)),
            ["evaluate", "fit", "layers", "predict", "predict_proba", "stop_training", "summary"],
        ),
    ],
)
def test_completion_shows_public_names(layer: rc.Layer, own: list[str]) -> None:
    shown = {name for name in dir(layer) if not name.startswith("_")}
    assert shown <= {*LAYER, *own}
    assert {"params", "record", "save", "stream", "trainable"} <= shown


def test_completion_of_the_package_shows_public_names() -> None:
    """Also before and after the modules behind them are brought in."""
    code = (
        "import recurra as rc; before = dir(rc); rc.losses, rc.History; print(before == dir(rc) == sorted(rc.__all__))"
    )
    assert run_python(code).strip() == "True"
