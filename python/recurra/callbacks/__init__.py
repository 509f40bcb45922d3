"""Callbacks of training: stopping, saving, logging, changing the learning rate. Names are Keras'.

model.fit(x, y, ..., callbacks=[rc.callbacks.EarlyStopping(patience=3)], validation_split=0.1)
"""

from __future__ import annotations

from recurra.callbacks.callback import Callback, LambdaCallback
from recurra.callbacks.logs import CSVLogger
from recurra.callbacks.pruning import OptunaPruning
from recurra.callbacks.rates import LearningRateScheduler, ReduceLROnPlateau
from recurra.callbacks.saving import BackupAndRestore, ModelCheckpoint
from recurra.callbacks.stopping import EarlyStopping, TerminateOnNaN
from recurra.callbacks.tensorboard import TensorBoard
from recurra.common import keywords as _keywords

__all__ = [
    "BackupAndRestore",
    "CSVLogger",
    "Callback",
    "EarlyStopping",
    "LambdaCallback",
    "LearningRateScheduler",
    "ModelCheckpoint",
    "OptunaPruning",
    "ReduceLROnPlateau",
    "TensorBoard",
    "TerminateOnNaN",
]

_keywords.explain_all(globals(), __all__)
