"""Losses: each returns the sum over the valid elements, their count and the gradient of the sum.

The mean is sum / count, which is exact over ragged batches, accumulated gradients and several workers.
"""

from __future__ import annotations

from recurra.common import keywords as _keywords
from recurra.losses.advantages import gae
from recurra.losses.crf import CRF
from recurra.losses.ctc import CTC
from recurra.losses.custom import CustomLoss
from recurra.losses.find import find
from recurra.losses.function import Function
from recurra.losses.labels import BinaryCrossEntropy, CrossEntropy
from recurra.losses.loss import Loss, LossValue
from recurra.losses.mixture import MixtureDensity
from recurra.losses.numbers import L1, GaussianNLL, Huber, MeanSquaredError, Quantile
from recurra.losses.policy import PPO, PolicyGradient, ValueFunction

__all__ = [
    "CRF",
    "CTC",
    "L1",
    "PPO",
    "BinaryCrossEntropy",
    "CrossEntropy",
    "CustomLoss",
    "Function",
    "GaussianNLL",
    "Huber",
    "Loss",
    "LossValue",
    "MeanSquaredError",
    "MixtureDensity",
    "PolicyGradient",
    "Quantile",
    "ValueFunction",
    "find",
    "gae",
]

_keywords.explain_all(globals(), __all__)
