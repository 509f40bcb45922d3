"""Every public class and function has an example, and what it says comes out."""

from __future__ import annotations

import doctest
import importlib.util
import inspect
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recurra as rc
from public import public_objects

NEEDS = {"callbacks.OptunaPruning": "optuna", "callbacks.TensorBoard": "tensorboardX"}
OBJECTS = public_objects()


def keras_model(path: Path) -> None:
    """The file that the example of `from_keras` reads: a Dense(4, "tanh") on (20, 3)."""
    layers = [
        {"class_name": "InputLayer", "config": {"name": "x", "batch_shape": [None, 20, 3]}},
        {"class_name": "Dense", "config": {"name": "dense", "units": 4, "activation": "tanh"}},
    ]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps({"class_name": "Sequential", "config": {"layers": layers}}))
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.15.1"}))
        with archive.open("model.weights.npz", "w") as file:
            np.savez(file, **{"layers/dense/vars/0": np.ones((3, 4)), "layers/dense/vars/1": np.zeros(4)})


@pytest.mark.parametrize("name", sorted(OBJECTS))
def test_the_example_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needed = NEEDS.get(name)
    if needed is not None and importlib.util.find_spec(needed) is None:
        pytest.skip(f"{needed} is not installed")
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.chdir(tmp_path)
    if name in ("from_keras", "interop.keras_layers"):
        keras_model(tmp_path / "model.keras")
    found: Any = OBJECTS[name]
    names = {"np": np, "rc": rc}
    test = doctest.DocTestParser().get_doctest(inspect.getdoc(found) or "", names, name, None, None)
    assert test.examples, f"{name}: its docstring needs an example, as those of its neighbours have"
    said: list[str] = []
    assert not doctest.DocTestRunner(verbose=False).run(test, out=said.append).failed, "".join(said)
