"""Orders of gates: there and back, by name and by letters."""

from __future__ import annotations

import numpy as np
import pytest

import recurra as rc
from recurra.interop.gate_orders import ORDERS


@pytest.mark.parametrize("cell", ORDERS)
def test_every_order_there_and_back(cell: str) -> None:
    letters = ORDERS[cell]["recurra"]
    for source, order in ORDERS[cell].items():
        own = np.repeat([ord(letter) for letter in order], 3).reshape(-1, 1) + np.zeros((1, 2))
        found = rc.interop.gates(own, cell, source)
        assert [chr(int(one)) for one in found[::3, 0]] == list(letters)
        np.testing.assert_array_equal(rc.interop.gates(found, cell, "recurra", source), own)
        np.testing.assert_array_equal(rc.interop.gates(own.T, cell, order, letters, axis=-1), found.T)


def test_other_letters_mean_the_same() -> None:
    a = np.arange(4)
    np.testing.assert_array_equal(rc.interop.gates(a, "LSTM", "iofc"), rc.interop.gates(a, "LSTM", "onnx"))
    np.testing.assert_array_equal(rc.interop.gates(a[:3], "GRU", "urc"), rc.interop.gates(a[:3], "GRU", "keras"))


def test_what_is_no_order_is_refused() -> None:
    for cell, order in (("LSTM", "ifg"), ("GRU", "ifgo"), ("GRU", "rrz"), ("LSTM", 3), ("RNN", "torch")):
        with pytest.raises(ValueError, match=r"^gates: got"):
            rc.interop.gates(np.zeros(12), cell, order)
    with pytest.raises(ValueError, match="multiple of 4"):
        rc.interop.gates(np.zeros((3, 4)), "LSTM", "keras")
