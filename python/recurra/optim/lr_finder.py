"""The learning rate range test."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

from recurra.common import checks, errors, interrupts, plots, seeds
from recurra.common.progress import Progress
from recurra.common.typing import Array
from recurra.optim.adam import Adam
from recurra.optim.optimizer import Optimizer

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from recurra.layers.layer import Layer
    from recurra.objective.goal import Goal, Losses, Weights
    from recurra.objective.sources import Source
    from recurra.objective.trainable import Trainable

_SMOOTHING = 0.9
#: Standard deviations of the noise by which a fitted line must fall.
_SIGNIFICANT = 4.5


@dataclass(frozen=True, eq=False)
class LRRangeTest:
    """The result of `find_lr`; the arrays have one element per step.

    Attributes: rates; losses, each batch's mean loss before its step; smoothed, their exponential moving average;
    suggestion, the rate at which the loss fell fastest, None if it never fell by more than its noise; diverged, whether
    the test ended early because the loss grew or became non-finite.

    Example:
        >>> model = rc.Sequential(rc.GRU(1, 4, seed=0), rc.Linear(4, 1, seed=1))
        >>> x = np.random.default_rng(0).standard_normal((64, 5, 1), np.float32)
        >>> found = rc.optim.find_lr(model, x, x, loss="mse", steps=20, seed=0, verbose=0)
        >>> len(found.rates) == len(found.losses)
        True
    """

    rates: Array
    losses: Array
    smoothed: Array
    suggestion: float | None
    diverged: bool

    def plot(self, ax: Axes | None = None) -> Axes:
        """Plot the losses over the rates, with the suggestion.

        Args:
            ax: matplotlib axes to draw on; None makes a figure.

        Returns:
            The axes.

        Raises:
            ImportError: matplotlib is not installed.
        """
        ax = plots.axes_of("plot", ax)
        ax.plot(self.rates, self.losses, color="0.75", label="batch")
        ax.plot(self.rates, self.smoothed, label="smoothed")
        if self.suggestion is not None:
            ax.axvline(self.suggestion, color="C1", linestyle="--", label=f"suggestion {self.suggestion:.2g}")
        ax.set(xscale="log", xlabel="learning rate", ylabel="loss")
        if len(self.losses):  # limits from the smoothed losses: at the end, single batches may lie far above
            low, high = float(self.losses.min()), float(self.smoothed.max())
            margin = 0.05 * (high - low) or 0.5
            ax.set_ylim(low - margin, high + margin)
        ax.legend()
        return ax


def find_lr(
    model: Trainable,
    x: Any,
    y: Any,
    lengths: Any = None,
    *,
    loss: Losses,
    optimizer: Optimizer | None = None,
    loss_weights: Weights = None,
    start: float = 1e-6,
    stop: float = 10.0,
    steps: int = 100,
    batch_size: int = 32,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    diverge: float = 1.0,
    shuffle: bool = True,
    seed: int | None = None,
    verbose: int = 1,
) -> LRRangeTest:
    """Learning rate range test: train with a learning rate that grows with every step and record the loss (Smith 2017).

    Afterwards, however the test ends, model and optimiser are as before: weights, buffers, gradients and optimiser
    state. It ends early when the smoothed loss exceeds its minimum by `diverge` times the first loss (its absolute
    value, or the fall since then, whichever is larger), or when the loss or the gradient is not finite.

    The suggestion is the rate in the middle of the window in which a least squares line through the losses over
    log(rate) falls fastest; a window has a tenth of the steps and lies before the minimum of the smoothed loss. It is
    meant as the maximum of a schedule; a constant rate, or an optimiser with much momentum, often needs a third to a
    tenth of it. If the loss never falls by more than the noise between batches, there is no suggestion, only a warning.

    Args:
        model: the model to test; it is not changed.
        x, y, lengths, loss, loss_weights, batch_size, clip_norm, clip_value, shuffle: as in `fit`.
        optimizer: the optimiser to test with; None for a fresh `Adam()`. Its own rate or schedule is ignored.
        start: the first rate, above 0.
        stop: the last rate, above start.
        steps: number of batches, at least 20; the data are repeated as often as needed.
        diverge: see above.
        seed: of the shuffling and of dropout; None for a fresh seed.
        verbose: 1 shows a progress bar.

    Raises:
        ValueError, TypeError: data that do not fit the model, before training starts.

    Example:
        >>> model = rc.Sequential(rc.GRU(1, 4, seed=0), rc.Linear(4, 1, seed=1))
        >>> x = np.random.default_rng(0).standard_normal((64, 5, 1), np.float32)
        >>> found = rc.optim.find_lr(
        ...     model, x, x, loss="mse", optimizer=rc.optim.Adam(), seed=0, verbose=0
        ... )
        >>> optimizer = rc.optim.Adam(found.suggestion or 1e-3)
    """
    name = "find_lr"
    from recurra.objective.goal import Goal  # here, to keep `import recurra` fast
    from recurra.objective.sources import make_source
    from recurra.objective.trainable import Trainable
    from recurra.optim.find import named

    checks.kind(name, "model", model, Trainable, "recurra")
    if optimizer is not None:
        optimizer = named(name, optimizer)
    start = checks.positive(name, "start", start)
    stop = checks.positive(name, "stop", stop)
    if not start < stop:
        raise ValueError(f"{name}: got start={start!r} and stop={stop!r}, expected start below stop; swap them")
    steps = checks.integer(name, "steps", steps, 20)
    batch_size = checks.integer(name, "batch_size", batch_size)
    diverge = checks.positive(name, "diverge", diverge)
    if clip_norm is not None:
        clip_norm = checks.number(name, "clip_norm", clip_norm)
    if clip_value is not None:
        clip_value = checks.number(name, "clip_value", clip_value)
    shuffle = checks.flag(name, "shuffle", shuffle)
    seed = seeds.resolve(name, seed)
    verbose = checks.choice(name, "verbose", verbose, (0, 1))
    goal = Goal(name, model, loss, loss_weights)
    source = make_source(name, model, goal, x, y, lengths, batch_size=batch_size, shuffle=shuffle, endless=True)

    rates = np.geomspace(start, stop, steps)
    twin = (Adam() if optimizer is None else optimizer)._twin(start)
    losses: list[float] = []
    smoothed: list[float] = []
    diverged = False
    batches = _losses(model, goal, source, seed)
    with Progress(steps, name, verbose == 1) as bar, _restored(model), np.errstate(over="ignore", invalid="ignore"):
        for rate in rates:
            value, scale = next(batches)
            if not math.isfinite(value):
                diverged = True
                break
            losses.append(value)
            average = (smoothed[-1] if smoothed else 0.0) * (1 - _SMOOTHING ** (len(losses) - 1))
            average = _SMOOTHING * average + (1 - _SMOOTHING) * value
            smoothed.append(average / (1 - _SMOOTHING ** len(losses)))
            bar.update(loss=smoothed[-1], lr=rate)
            lowest = min(smoothed)
            if smoothed[-1] - lowest > diverge * max(abs(smoothed[0]), smoothed[0] - lowest):
                diverged = True
                break
            twin.lr = float(rate)
            if not math.isfinite(twin.step(model, scale, clip_norm, clip_value).norm):
                diverged = True
                break
    tried = rates[: len(losses)]
    suggestion = _steepest(tried, losses, smoothed, steps // 10)
    if suggestion is None:
        errors.warn(
            f"{name}: found no rate: the loss never fell by more than the noise between batches; look at the plot, and "
            f"try more steps, larger batches, or other bounds than start={start:g} and stop={stop:g}"
        )
    return LRRangeTest(tried, np.array(losses), np.array(smoothed), suggestion, diverged)


def _losses(model: Trainable, goal: Goal, source: Source, seed: int) -> Iterator[tuple[float, float]]:
    """Yields each batch's mean loss and the factor for its gradients, which are in the model; repeats the data."""
    from recurra.objective.recorder import Recorder

    for epoch in count():
        own = seeds.derive(seed, epoch)
        found = False
        for index, work in enumerate(source.epoch(epoch, seed)):
            model.zero_grad()
            recorder = Recorder(model, goal)
            values = recorder.record(work.piece, None, seeds.derive(own, index))
            if any(recorder.counts):
                found = True
                yield goal.mean(values).value_of_counted, goal.scale(recorder.counts)
        if not found:
            raise ValueError(
                "find_lr: got data in which nothing counts, expected some steps to learn from; give some data"
            )


@contextmanager
def _restored(model: Layer) -> Iterator[None]:
    """Restore parameters, buffers and gradients when the block ends, also by an exception."""
    state, grads = model.state_dict(), {name: array.copy() for name, array in model.grads.items()}
    try:
        yield
    finally:
        with interrupts.deferred():
            model.load_state_dict(state)
            for name, array in grads.items():
                model.grads[name] = array


def _steepest(rates: Array, losses: list[float], smoothed: list[float], width: int) -> float | None:
    """The rate in the middle of the window in which the least squares line through the losses falls fastest; None if no
    line, however long, falls by more than the noise of single batches explains."""
    end = int(np.argmin(smoothed)) + 1 if smoothed else 0
    if end < max(width, 3):
        return None
    before = np.array(losses[:end])
    seen = np.arange(1, end + 1)
    # The noise up to each step, from second differences, as for independent losses around a line.
    noise = np.sqrt(np.append([0.0, 0.0], np.cumsum(np.diff(before, 2) ** 2) / (6 * seen[:-2])))
    size = max(width, 3)
    while True:
        slopes, last = _slopes(before, size), slice(size - 1, end)
        # The margin allows for the many lines tried, and for a noise estimate from few losses.
        beyond = -slopes - (_SIGNIFICANT + 20 / seen[last]) * noise[last]
        first = int(np.argmax(beyond))
        if beyond[first] > 0:
            best = first + int(np.argmin(_slopes(before[first : first + size], width)))
            return float(np.sqrt(rates[best + (width - 1) // 2] * rates[best + width // 2]))
        if size == end:
            return None
        size = min(2 * size, end)


def _slopes(losses: Array, width: int) -> Array:
    """The slopes of least squares lines through every `width` consecutive losses, over evenly spaced log(rate), scaled
    so that for pure noise they have the standard deviation of the noise."""
    places = np.arange(width) - (width - 1) / 2
    result: Array = np.convolve(losses, places[::-1], "valid") / np.sqrt((places**2).sum())
    return result
