"""Metrics by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from recurra.common import checks
from recurra.losses import CTC, BinaryCrossEntropy, Loss
from recurra.losses.labels import LabelLoss
from recurra.metrics import auc, classes, correct, edits, errors, means, quantiles
from recurra.metrics.metric import Metric

NAMES: dict[str, Callable[[], Metric]] = {
    "acc": correct.Accuracy,
    "accuracy": correct.Accuracy,
    "auc": auc.AUC,
    "binary_accuracy": correct.BinaryAccuracy,
    "coverage": quantiles.Coverage,
    "edit_distance": edits.EditDistance,
    "f1": classes.F1,
    "mae": means.MeanAbsoluteError,
    "mape": errors.MeanAbsolutePercentageError,
    "mean_absolute_error": means.MeanAbsoluteError,
    "mean_absolute_percentage_error": errors.MeanAbsolutePercentageError,
    "mean_squared_error": means.MeanSquaredError,
    "mse": means.MeanSquaredError,
    "perplexity": means.Perplexity,
    "pinball": means.Pinball,
    "precision": classes.Precision,
    "r2": errors.R2,
    "recall": classes.Recall,
    "rmse": means.RootMeanSquaredError,
    "root_mean_squared_error": means.RootMeanSquaredError,
    "sequence_accuracy": correct.SequenceAccuracy,
    "smape": errors.SymmetricMeanAbsolutePercentageError,
    "symmetric_mean_absolute_percentage_error": errors.SymmetricMeanAbsolutePercentageError,
}


def find(metric: str | Metric | Loss) -> Metric:
    """The metric for an object, a loss or a name.

    Args:
        metric: a metric, returned as it is; a loss, for its mean; or the name of a metric with its default options,
            which becomes the metric's `name`: "mae" appears as "mae" in results.

    Raises:
        ValueError: unknown name. TypeError: none of these.

    Example:
        >>> type(rc.metrics.find("accuracy")).__name__
        'Accuracy'
    """
    return named("metrics.find", metric)


def named(operation: str, metric: Any, loss: Loss | None = None) -> Metric:
    """`find`, with `operation` at the beginning of its error messages. The `loss` of the same output, if any, decides
    what a name means: the kind of targets, the ignored label, the blank."""
    if isinstance(metric, Metric):
        return metric
    if isinstance(metric, Loss):
        return means.LossMean(metric)
    if isinstance(metric, str):
        if metric not in NAMES:
            import difflib

            longer = [name for name in NAMES if metric and name.startswith(metric.lower())]
            words = [name for name in NAMES if f"_{name}_" in f"_{metric.lower()}_"]  # as in "categorical_accuracy"
            words += ["perplexity"] if metric.lower() == "ppl" else []
            close = longer or words or difflib.get_close_matches(metric.lower(), NAMES, 1, 0.7)
            guess = f"write {close[0]!r}" if close else "choose one of them"
            raise ValueError(
                f"{operation}: got the metric {metric!r}, expected one of {', '.join(NAMES)}; {guess}, or give an "
                "instance of a class in recurra.metrics"
            )
        found = _following(operation, metric, loss)
        found.name = metric
        return found
    is_metric = isinstance(metric, type) and issubclass(metric, Metric) and not inspect.isabstract(metric)
    if is_metric and checks.needs_no_arguments(metric):
        made: Metric = metric()
        return made
    if isinstance(metric, type) and issubclass(metric, Metric | Loss):
        raise TypeError(
            f"{operation}: got the class {metric.__name__}, expected an instance; write {metric.__name__}()"
        )
    raise TypeError(
        f"{operation}: got a metric of type {type(metric).__name__}, expected a name such as 'accuracy', or an "
        f"instance of a class in recurra.metrics; write metrics=['accuracy']"
    )


#: The metrics that names stand for if targets are 0 or 1.
_BINARY: dict[Any, Callable[[], Metric]] = {
    correct.Accuracy: correct.BinaryAccuracy,
    classes.F1: lambda: classes.F1(threshold=0.5),
    classes.Precision: lambda: classes.Precision(threshold=0.5),
    classes.Recall: lambda: classes.Recall(threshold=0.5),
}


def _following(operation: str, name: str, loss: Loss | None) -> Metric:
    made: Any = NAMES[name]
    if isinstance(loss, CTC) and made is not edits.EditDistance:
        raise ValueError(
            f"{operation}: got the metric {name!r} with CTC, whose targets have no place in time, expected one that "
            "compares sequences; write metrics=['edit_distance'], the label error rate"
        )
    if isinstance(loss, BinaryCrossEntropy):
        return _BINARY.get(made, made)()  # type: ignore[no-any-return]
    options = {}
    if isinstance(loss, LabelLoss) and loss.ignore_index is not None:
        options["ignore_index"] = loss.ignore_index
    if isinstance(loss, CTC):
        options["blank"] = loss.blank
    taken = inspect.signature(made).parameters
    return made(**{option: value for option, value in options.items() if option in taken})  # type: ignore[no-any-return]
