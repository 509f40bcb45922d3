"""Optimisers by name."""

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
    """The optimiser for an object, a name or a class.

    Args:
        optimizer: an optimiser, returned as it is; the name of one, such as "adam", made with its default options
            ("sgd" with lr=0.01); or a class that can be called without arguments. A name or class makes a new one each
            time.

    Raises:
        ValueError: unknown name. TypeError: none of these.

    Example:
        >>> type(rc.optim.find("adam")).__name__
        'Adam'
    """
    return named("optim.find", optimizer)


def named(operation: str, optimizer: Any) -> Optimizer:
    """`find`, with `operation` at the beginning of its error messages."""
    return names.found(operation, "optimizer", optimizer, Optimizer, "recurra.optim", NAMES)
