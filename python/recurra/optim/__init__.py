"""Optimisers that update the flat buffers of layers and models; learning rate schedules, and a learning rate finder."""

from __future__ import annotations

from recurra.common import keywords as _keywords
from recurra.optim import schedules
from recurra.optim.adagrad import Adagrad
from recurra.optim.adam import Adam, AdamW, SparseAdam
from recurra.optim.find import find
from recurra.optim.lr_finder import LRRangeTest, find_lr
from recurra.optim.optimizer import Optimizer, Step
from recurra.optim.rmsprop import RMSprop
from recurra.optim.sgd import SGD

__all__ = [
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "LRRangeTest",
    "Optimizer",
    "RMSprop",
    "SparseAdam",
    "Step",
    "find",
    "find_lr",
    "schedules",
]

_keywords.explain_all(globals(), __all__)
