"""Learning rate schedules for `lr=`: pure functions of the number of steps taken.

Steps are calls of the optimiser's `step`, counted from 0; an epoch of `fit` has ceil(rows / batch_size) steps, fewer
with `accumulate`, more with `truncate`. In the equations t is the step.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from itertools import pairwise

from recurra.common import checks, keywords
from recurra.optim.schedule import Constant, Function, Rate, Schedule, find

__all__ = [
    "Chain",
    "Constant",
    "CosineDecay",
    "ExponentialDecay",
    "Function",
    "OneCycle",
    "Schedule",
    "StepDecay",
    "Warmup",
]


class StepDecay(Schedule):
    """lr * gamma^floor(t / step_size), as torch's StepLR.

    Args:
        lr: the first rate.
        step_size: number of steps between decays.
        gamma: factor of each decay, from 0 to 1.

    Example:
        >>> schedule = rc.optim.schedules.StepDecay(0.01, step_size=10, gamma=0.5)
        >>> [round(schedule(step), 5) for step in (9, 10, 20)]
        [0.01, 0.005, 0.0025]
    """

    def __init__(self, lr: float, step_size: int, gamma: float = 0.1) -> None:
        self.lr = checks.number("StepDecay", "lr", lr)
        self.step_size = checks.integer("StepDecay", "step_size", step_size)
        self.gamma = checks.number("StepDecay", "gamma", gamma, 0.0, 1.0)

    def rate(self, step: int) -> float:
        """See the class."""
        return float(self.lr * self.gamma ** (step // self.step_size))


class ExponentialDecay(Schedule):
    """lr * gamma^(t / steps), as Keras' of this name; with steps=1 as torch's ExponentialLR.

    Args:
        lr: the first rate.
        gamma: factor of the decay over `steps` steps, from 0 to 1.
        steps: number of steps for a decay by gamma.

    Example:
        >>> schedule = rc.optim.schedules.ExponentialDecay(0.01, gamma=0.5, steps=10)
        >>> [round(schedule(step), 5) for step in (0, 10, 20)]
        [0.01, 0.005, 0.0025]
    """

    def __init__(self, lr: float, gamma: float, steps: int = 1) -> None:
        self.lr = checks.number("ExponentialDecay", "lr", lr)
        self.gamma = checks.number("ExponentialDecay", "gamma", gamma, 0.0, 1.0)
        self.steps = checks.integer("ExponentialDecay", "steps", steps)

    def rate(self, step: int) -> float:
        """See the class."""
        return float(self.lr * self.gamma ** (step / self.steps))


class CosineDecay(Schedule):
    """floor + (lr - floor) * (1 + cos(pi t / steps)) / 2, then floor (Loshchilov and Hutter 2017, one period).

    As torch's CosineAnnealingLR up to its T_max.

    Args:
        lr: the first rate.
        steps: number of steps until the floor is reached.
        floor: the final rate, at most lr.

    Example:
        >>> schedule = rc.optim.schedules.CosineDecay(0.01, steps=100, floor=0.001)
        >>> [round(schedule(step), 5) for step in (0, 50, 100)]
        [0.01, 0.0055, 0.001]
    """

    def __init__(self, lr: float, steps: int, floor: float = 0.0) -> None:
        self.lr = checks.number("CosineDecay", "lr", lr)
        self.steps = checks.integer("CosineDecay", "steps", steps)
        self.floor = checks.number("CosineDecay", "floor", floor, 0.0, self.lr)

    def rate(self, step: int) -> float:
        """See the class."""
        return _cosine(self.lr, self.floor, min(step / self.steps, 1.0))


class OneCycle(Schedule):
    """Up to a large rate and down to a tiny one (Smith and Topin 2018), as torch's OneCycleLR; momentum is constant.

    The rate grows from max_lr / div_factor to max_lr in the first fraction pct_start of the steps, then falls to
    max_lr / (div_factor * final_div_factor) at step total_steps - 1, where it stays. With three_phase, as in the paper,
    it first returns to max_lr / div_factor in as many steps as it took to grow.

    Args:
        max_lr: the largest rate, such as the suggestion of `find_lr`.
        total_steps: number of steps of the whole training: epochs * ceil(rows / batch_size).
        pct_start: fraction of the steps in which the rate grows, above 0 and below 1; with three_phase below 0.5.
        anneal_strategy: "cos" or "linear".
        div_factor: max_lr divided by the initial rate, above 0.
        final_div_factor: the initial rate divided by the final one, above 0.
        three_phase: see above.

    Example:
        >>> schedule = rc.optim.schedules.OneCycle(0.01, total_steps=100)
        >>> [round(schedule(step), 5) for step in (0, 29, 99)]
        [0.0004, 0.01, 0.0]
    """

    def __init__(
        self,
        max_lr: float,
        total_steps: int,
        *,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
    ) -> None:
        self.max_lr = checks.number("OneCycle", "max_lr", max_lr)
        self.total_steps = checks.integer("OneCycle", "total_steps", total_steps)
        self.pct_start = checks.positive("OneCycle", "pct_start", pct_start)
        self.anneal_strategy = checks.choice("OneCycle", "anneal_strategy", anneal_strategy, ("cos", "linear"))
        self.div_factor = checks.positive("OneCycle", "div_factor", div_factor)
        self.final_div_factor = checks.positive("OneCycle", "final_div_factor", final_div_factor)
        self.three_phase = checks.flag("OneCycle", "three_phase", three_phase)
        bound = 0.5 if self.three_phase else 1.0
        if not self.pct_start < bound:
            raise ValueError(
                f"OneCycle: got pct_start={pct_start!r}, expected less than {bound:g}, so that steps are left for the "
                "decay; lower it"
            )

    def rate(self, step: int) -> float:
        """See the class."""
        top, initial = self.max_lr, self.max_lr / self.div_factor
        up, last = self.pct_start * self.total_steps - 1, self.total_steps - 1
        points = [(0.0, initial), (up, top)]
        if self.three_phase:
            points.append((2 * up, initial))
        points.append((last, initial / self.final_div_factor))
        anneal = _cosine if self.anneal_strategy == "cos" else _line
        for (begin, first), (end, second) in pairwise(points):
            if step <= end:
                return anneal(first, second, (step - begin) / (end - begin) if end > begin else 1.0)
        return points[-1][1]


class Warmup(Schedule):
    """Linear warmup to the first rate of another schedule, which follows: its step 0 is step `steps`.

    schedule(0) * (start_factor + (1 - start_factor) * t / steps), then schedule(t - steps): as torch's LinearLR before
    another schedule in a SequentialLR.

    Args:
        schedule: the schedule that follows; a number for a constant rate.
        steps: number of warmup steps.
        start_factor: the initial rate divided by schedule(0), from 0 to 1; with 0 the first step changes no parameters.

    Example:
        >>> schedules = rc.optim.schedules
        >>> schedule = schedules.Warmup(schedules.Constant(0.01), 10)
        >>> schedule(0), schedule(5), schedule(10)
        (0.0, 0.005, 0.01)
    """

    def __init__(self, schedule: Rate, steps: int, start_factor: float = 0.0) -> None:
        self.schedule = find("Warmup", "schedule", schedule)
        self.steps = checks.integer("Warmup", "steps", steps)
        self.start_factor = checks.number("Warmup", "start_factor", start_factor, 0.0, 1.0)

    def rate(self, step: int) -> float:
        """See the class."""
        if step >= self.steps:
            return self.schedule(step - self.steps)
        return self.schedule(0) * _line(self.start_factor, 1.0, step / self.steps)


class Chain(Schedule):
    """Schedules in sequence, each from its own step 0, as torch's SequentialLR.

    `Chain([1e-3, 1e-4], [5000])` lowers the rate once.

    Args:
        schedules: at least one schedule; numbers for constant rates.
        milestones: the steps, increasing, at which the second and later schedules start.

    Example:
        >>> schedules = rc.optim.schedules
        >>> schedule = schedules.Chain(
        ...     [schedules.Constant(0.01), schedules.Constant(0.001)], [50]
        ... )
        >>> schedule(49), schedule(50)
        (0.01, 0.001)
    """

    def __init__(self, schedules: Sequence[Rate], milestones: Sequence[int]) -> None:
        if not isinstance(schedules, list | tuple) or not isinstance(milestones, list | tuple):
            raise TypeError(
                f"Chain: got schedules of type {type(schedules).__name__} and milestones of type "
                f"{type(milestones).__name__}, expected lists; write Chain([first, second], [1000])"
            )
        self.schedules = tuple(find("Chain", f"schedules[{k}]", one) for k, one in enumerate(schedules))
        self.milestones = tuple(checks.integer("Chain", f"milestones[{k}]", m) for k, m in enumerate(milestones))
        if len(self.schedules) != len(self.milestones) + 1:
            raise ValueError(
                f"Chain: got {len(self.schedules)} schedules and {len(self.milestones)} milestones, expected one "
                "schedule more than milestones; give the step at which each schedule but the first starts"
            )
        if any(second <= first for first, second in pairwise(self.milestones)):
            raise ValueError(f"Chain: got milestones={milestones!r}, expected increasing steps; sort them")

    def rate(self, step: int) -> float:
        """See the class."""
        index = bisect.bisect_right(self.milestones, step)
        return self.schedules[index](step - (self.milestones[index - 1] if index else 0))


def _line(first: float, last: float, part: float) -> float:
    return first + (last - first) * part


def _cosine(first: float, last: float, part: float) -> float:
    return last + (first - last) * (1 + math.cos(math.pi * part)) / 2


keywords.explain_all(globals(), __all__)
