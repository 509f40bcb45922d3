"""Metrics of predictions, accumulated exactly over any number of batches, also ragged ones."""

from __future__ import annotations

from recurra.common import keywords as _keywords
from recurra.metrics.auc import AUC
from recurra.metrics.classes import F1, ClassScore, Precision, Recall
from recurra.metrics.correct import Accuracy, BinaryAccuracy, SequenceAccuracy
from recurra.metrics.edits import EditDistance, edit_distance
from recurra.metrics.errors import (
    R2,
    MeanAbsolutePercentageError,
    MeanAbsoluteScaledError,
    SymmetricMeanAbsolutePercentageError,
)
from recurra.metrics.find import find
from recurra.metrics.means import (
    LossMean,
    MeanAbsoluteError,
    MeanSquaredError,
    Perplexity,
    Pinball,
    RootMeanSquaredError,
)
from recurra.metrics.metric import Metric
from recurra.metrics.quantiles import Coverage
from recurra.metrics.viterbi import Viterbi

__all__ = [
    "AUC",
    "F1",
    "R2",
    "Accuracy",
    "BinaryAccuracy",
    "ClassScore",
    "Coverage",
    "EditDistance",
    "LossMean",
    "MeanAbsoluteError",
    "MeanAbsolutePercentageError",
    "MeanAbsoluteScaledError",
    "MeanSquaredError",
    "Metric",
    "Perplexity",
    "Pinball",
    "Precision",
    "Recall",
    "RootMeanSquaredError",
    "SequenceAccuracy",
    "SymmetricMeanAbsolutePercentageError",
    "Viterbi",
    "edit_distance",
    "find",
]

_keywords.explain_all(globals(), __all__)
