"""The node tests of the onnx package: its own examples of every operator."""

from __future__ import annotations

import importlib
import pkgutil
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import recurra as rc
from recurra.interop.onnx.ops import OPERATORS

#: What examples ask for that operators in numpy do not do; each is an error that says so.
REFUSED = {
    *("ceil_last_window_starts_on_pad", "count_include_pad_is_1_ceil_mode_is_True", "training_mode", "output_shape"),
    *("convtranspose_kernel_shape", "autopad_same", "linear_blocked", "_blocked_", "batch_dim1", "with_argmax"),
    *("scatter_elements_with_reduction", "duplicate_indices", "empty_set"),
}


@pytest.fixture(scope="module")
def examples() -> list[Any]:
    """Of the operators that are known here; those of others, which are most of the time, are never made."""
    from onnx.backend.test.case import node

    known = {name.lower() for _domain, name in OPERATORS} | {"rnn", "gru", "lstm"}
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for module in pkgutil.iter_modules(node.__path__):
            if module.name.replace("_", "") in known:
                importlib.import_module(f"{node.__name__}.{module.name}")
    return [one for one in node._NodeTestCases if one.model is not None]


def of(examples: list[Any], wanted: Any) -> Iterator[tuple[str, bytes, dict[str, Any], list[Any]]]:
    """Name, model, inputs by name and outputs of the examples with a single node of such an operator."""
    for one in examples:
        nodes = one.model.graph.node
        if len(nodes) != 1 or not wanted(nodes[0]):
            continue
        for inputs, outputs in one.data_sets:
            names = [value.name for value in one.model.graph.input]
            if all(isinstance(array, np.ndarray) and array.dtype.kind in "fiub" for array in (*inputs, *outputs)):
                yield one.name, one.model.SerializeToString(), dict(zip(names, inputs, strict=True)), outputs


def run(model: Any, given: dict[str, Any]) -> list[Any]:
    y, _state = model({name: given[name] for name in model.inputs})
    return list(y) if isinstance(y, tuple) else [y]


@pytest.mark.filterwarnings("ignore")
def test_recurrent_nodes_agree(examples: list[Any]) -> None:
    """With weights as inputs, and with weights that are known, then as layers."""
    count = 0
    for name, model, given, wanted in of(examples, lambda node: node.op_type in ("RNN", "GRU", "LSTM")):
        count += 1
        weights = {key: value for key, value in given.items() if key in "WRBP"}
        for known in ({}, weights):
            imported = rc.from_onnx(model, states={}, **known)
            for array, expected in zip(run(imported, given), wanted, strict=True):
                np.testing.assert_allclose(array, expected, atol=1e-6, rtol=1e-6, err_msg=name)
            assert ("0 nodes in numpy" in imported.import_report()) == bool(known)
    assert count >= 18


@pytest.mark.filterwarnings("ignore")
def test_operators_in_numpy_agree(examples: list[Any]) -> None:
    seen = set()
    for name, model, given, wanted in of(examples, lambda node: (node.domain, node.op_type) in OPERATORS):
        operator = name.split("_")[1]
        try:
            made = run(rc.from_onnx(model, states={}), given)
        except (ValueError, TypeError) as error:
            if (
                not any(part in name for part in REFUSED)
                and "data type" not in str(error)
                and "got operator set 1" not in str(error)
            ):
                raise
            continue
        seen.add(operator)
        for array, expected in zip(made, wanted, strict=True):
            assert array.shape == expected.shape, name
            assert array.dtype == expected.dtype, name
            loose = {"atol": 1e-3, "rtol": 1e-2} if expected.dtype == np.float16 else {"atol": 1e-5, "rtol": 1e-4}
            np.testing.assert_allclose(array.astype(float), expected.astype(float), err_msg=name, **loose)
    assert len(seen) > 100
