"""Optimisers by their names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from recurra.common import names
from recurra.optim.adagrad import Adagrad
from recurra.optim.adam import Adam, AdamW, SparseAdam
from recurra.optim.optimizer import Optimizer
from recurra.optim.rmsprop import RMSprop
from recurra.optim.sgd import SGD

NAMES: dict[str, Callable[[], Optimizer]] = {
    "adagrad": Adagrad,
    "adam": Adam,
    "adamw": AdamW,
    "rmsprop": RMSprop,
    "sgd": lambda: SGD(0.01),
    "sparse_adam": SparseAdam,
}


def find(optimizer: str | type[Optimizer] | Optimizer) -> Optimizer:
    """The optimiser that is meant.

    Args:
        optimizer: an optimiser, which is returned as it is; the name of one with its default options ("sgd" at the rate
            0.01), such as "adam"; or the class of one that needs no arguments. A name or class makes a new one each time.

    Raises:
        ValueError: there is no such name. TypeError: it is something else.
    """
    return named("optim.find", optimizer)


def named(operation: str, optimizer: Any) -> Optimizer:
    """`find`, for an operation with which its errors begin."""
    return names.found(operation, "optimizer", optimizer, Optimizer, "recurra.optim", NAMES)
