"""Gradients of layers and losses, compared with central differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from recurra.common import checks
from recurra.common.typing import Array, Lengths, State
from recurra.diagnose.differentiable import Checked, CheckedLayer, CheckedLoss
from recurra.diagnose.gradient_report import ArrayCheck, GradientCheck
from recurra.layers.layer import Layer
from recurra.losses.find import named


def check_gradient(
    subject: Any,
    x: Any,
    y: Any = None,
    lengths: Lengths = None,
    *,
    weights: npt.ArrayLike | None = None,
    state: State = None,
    training: bool = True,
    samples: int = 10,
    step: float = 1e-5,
    tolerance: float = 1e-5,
    seed: int = 0,
) -> GradientCheck:
    """Compare the gradients of a layer, a model or a loss with central differences, in float64.

        print(rc.check_gradient(MyLayer(8), x))
        assert rc.check_gradient(MyLoss(), predictions, targets)

    Of a layer or model: those with respect to x, the initial state and every parameter, of a sum of its outputs and
    final states with random weights. It is copied to float64 before, and left as it is. Of a loss: that of its sum,
    with respect to the predictions.

    The error of an entry is `|a - n| / max(|a|, |n|)`, or, where both are small, relative to a thousandth of the
    largest of the array, or to what the rounding error of the differences allows. An entry that fails is tried again
    with a smaller step, as a kink may lie within the step.

    Args:
        subject: a layer or model, built in or of your own; or a loss, in any form that `fit` takes.
        x: the inputs, as in a call; for a loss, the predictions.
        y: for a loss, the targets. Not for a layer.
        lengths: as in a call of either.
        weights: as in a call of a loss; None for 1 each.
        state: the initial state of a layer; None for zeros.
        training: whether dropout and zoneout draw masks (the same each time) and batch norm uses the batch's
            statistics.
        samples: entries of each array to compare, chosen at random; all where there are fewer.
        step: by which an entry is moved, times its absolute value where that is above 1.
        tolerance: the largest relative error with which the report is `ok`.
        seed: of the choice, the weights and the masks.

    Returns:
        A report that is true where all gradients agree, and a table when printed.

    Raises:
        ValueError, TypeError: arguments that do not fit the layer or the loss.

    Example:
        >>> report = rc.check_gradient(rc.GRU(3, 4), np.random.default_rng(0).random((2, 5, 3)))
        >>> bool(report)
        True
    """
    name = "check_gradient"
    samples = checks.integer(name, "samples", samples)
    step, tolerance = checks.positive(name, "step", step), checks.number(name, "tolerance", tolerance)
    rng = np.random.default_rng(checks.integer(name, "seed", seed, 0))
    if isinstance(subject, Layer):
        if y is not None or weights is not None:
            raise TypeError(
                f"{name}: got targets or weights for a {subject.label}, expected them for a loss; leave them out"
            )
        checked: Checked = CheckedLayer(subject, x, lengths, state, checks.flag(name, "training", training), rng)
        label = subject.label
    else:
        loss = named(name, subject)
        if y is None:
            raise TypeError(f"{name}: got no targets for {type(loss).__name__}, expected some; give y")
        checked = CheckedLoss(name, loss, x, y, lengths, weights)
        label = type(loss).__name__
    gradients = checked.gradients()
    found = []
    for array, values in checked.arrays.items():
        entries = rng.permutation(values.size)[:samples]
        backward = gradients[array].reshape(-1)[entries]
        found.append(_compared(array, values, entries, backward, checked, step, tolerance))
    return GradientCheck(label, found, tolerance)


def _compared(
    name: str, values: Array, entries: Array, backward: Array, checked: Checked, step: float, tolerance: float
) -> ArrayCheck:
    flat = values.reshape(-1)

    def difference(entry: int, size: float) -> float:
        before = flat[entry]
        moved = size * max(1.0, abs(before))
        ends = []
        for sign in (1, -1):
            flat[entry] = before + sign * moved
            ends.append(checked.value(name))
        flat[entry] = before
        return float((ends[0] - ends[1]) / (2 * moved))

    differences = np.array([difference(entry, step) for entry in entries])
    rounding = 2 * np.finfo(np.float64).eps * checked.magnitude / step
    scale = max(1e-3 * float(np.abs(differences).max(initial=0.0)), rounding / (tolerance or 1.0)) or 1.0

    def errors() -> Array:
        found: Array = np.abs(backward - differences) / np.maximum(
            np.maximum(np.abs(backward), np.abs(differences)), scale
        )
        return found

    for index in np.flatnonzero(errors() > tolerance):
        again = difference(entries[index], step / 10)
        if abs(again - backward[index]) < abs(differences[index] - backward[index]):
            differences[index] = again
    checked.value(name)  # with all entries as they were
    places = np.stack(np.unravel_index(entries, values.shape), -1) if values.ndim else np.zeros((len(entries), 0), int)
    return ArrayCheck(name, values.shape, places, backward, differences, errors())
