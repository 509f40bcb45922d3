"""What fit says of generators: which of them never end, and which argument bounds them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import recurra as rc
from recurra.data.sources import never_ends

BATCH = (np.zeros((2, 3, 1), np.float32), np.zeros((2, 3, 1), np.float32))


def ends_in_an_error() -> Iterator[Any]:
    for _ in range(3):
        yield BATCH
    raise OSError("the connection is gone")


def ends_in_the_loop() -> Iterator[Any]:
    while True:
        yield BATCH
        raise OSError("the connection is gone")


def endless() -> Iterator[Any]:
    while True:
        yield BATCH


def endless_with_a_check() -> Iterator[Any]:
    while True:
        for part in BATCH:
            if part.ndim != 3:
                raise ValueError("not a batch")
        yield BATCH


def test_an_error_is_an_end() -> None:
    assert [never_ends(one) for one in (ends_in_an_error, ends_in_the_loop)] == [False, False]
    assert [never_ends(one) for one in (endless, endless_with_a_check)] == [True, True]


def test_an_error_of_the_generator_is_its_own() -> None:
    with pytest.raises(OSError, match="the connection is gone"):
        fit(ends_in_an_error())


def fit(x: Any, **more: Any) -> Any:
    options: dict[str, Any] = {"loss": rc.losses.MeanSquaredError(), "optimizer": rc.optim.SGD(0.1), "verbose": 0}
    return rc.Sequential(rc.Linear(1, 1), seed=0).fit(x, **options, **more)


def test_each_generator_hears_of_its_own_argument() -> None:
    with pytest.raises(ValueError, match=r"fit: got a generator.*or steps_per_epoch="):
        fit((BATCH for _ in range(2)), epochs=2)
    with pytest.raises(ValueError, match=r"fit: validation_data: got a generator.*or validation_steps="):
        fit([BATCH], validation_data=(BATCH for _ in range(2)), epochs=2)
    with pytest.raises(
        ValueError, match=r"fit: validation_data: .*run out of batches.*lower epochs or validation_steps"
    ):
        fit([BATCH], validation_data=(BATCH for _ in range(3)), validation_steps=2, epochs=2)
