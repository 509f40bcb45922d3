"""Schedules: torch's numbers where torch has the same, pure functions of the step, plain configurations."""

from __future__ import annotations

import functools
import json
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler

import recurra as rc
from recurra.optim import schedules


def sequential(optimizer: Any, parts: list[Any], milestones: list[int]) -> Any:
    return lr_scheduler.SequentialLR(optimizer, parts, milestones)


PAIRS: dict[str, tuple[schedules.Schedule, Callable[[Any], Any]]] = {
    "step": (schedules.StepDecay(0.5, 7, 0.3), lambda o: lr_scheduler.StepLR(o, 7, 0.3)),
    "exponential": (schedules.ExponentialDecay(0.5, 0.9), lambda o: lr_scheduler.ExponentialLR(o, 0.9)),
    "cosine": (schedules.CosineDecay(0.5, 40, 0.01), lambda o: lr_scheduler.CosineAnnealingLR(o, 40, 0.01)),
    "chain": (schedules.Chain([0.5, 0.05, 0.005], [5, 23]), lambda o: lr_scheduler.MultiStepLR(o, [5, 23], 0.1)),
    "warm-up": (
        schedules.Warmup(schedules.CosineDecay(0.5, 31), 9, 0.25),
        lambda o: sequential(
            o, [lr_scheduler.LinearLR(o, 0.25, total_iters=9), lr_scheduler.CosineAnnealingLR(o, 31)], [9]
        ),
    ),
}
for name, options in {
    "one cycle": {},
    "one cycle linear": {"anneal_strategy": "linear", "pct_start": 0.45, "div_factor": 10.0},
    "one cycle three phases": {"three_phase": True, "final_div_factor": 100.0},
}.items():
    PAIRS[name] = (
        schedules.OneCycle(0.5, 40, **options),  # type: ignore[arg-type]
        lambda o, options=options: lr_scheduler.OneCycleLR(o, 0.5, 40, cycle_momentum=False, **options),  # type: ignore[misc]
    )
ALL = [pair[0] for pair in PAIRS.values()]


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_the_rates_are_torchs(pair: Any) -> None:
    ours, make = pair
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.5)
    theirs = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, of its sequences
        peer = make(optimizer)
        for _ in range(40):
            theirs.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            peer.step() if len(theirs) < 40 else None
    # torch multiplies from step to step, with a rounding each time.
    np.testing.assert_allclose([ours(step) for step in range(40)], theirs, rtol=1e-12, atol=1e-16)


def test_the_ends_stay() -> None:
    assert schedules.CosineDecay(0.5, 40, 0.125)(40) == schedules.CosineDecay(0.5, 40, 0.125)(10**9) == 0.125
    one = schedules.OneCycle(0.5, 40)
    assert one(39) == one(40) == one(10**9) == pytest.approx(0.5 / 25 / 1e4, rel=1e-12)
    assert schedules.OneCycle(0.5, 1)(0) == one(39)
    assert schedules.Warmup(0.5, 4)(10**9) == 0.5
    assert schedules.StepDecay(0.5, 1)(10**9) == schedules.ExponentialDecay(0.5, 0.5)(10**9) == 0.0


def test_what_is_easy_to_say() -> None:
    assert [schedules.Warmup(0.5, 4)(t) for t in range(6)] == [0.0, 0.125, 0.25, 0.375, 0.5, 0.5]
    assert schedules.ExponentialDecay(1.0, 0.25, 10)(5) == pytest.approx(0.5, rel=1e-15)
    nested = schedules.Warmup(schedules.Chain([0.5, schedules.StepDecay(0.25, 2, 0.5)], [3]), 2)
    assert [nested(t) for t in range(9)] == [0.0, 0.25, 0.5, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125]


@pytest.mark.parametrize("schedule", ALL, ids=PAIRS)
def test_they_are_plain_data(schedule: schedules.Schedule) -> None:
    assert json.loads(json.dumps(schedule.config())) == schedule.config()
    again = pickle.loads(pickle.dumps(schedule))
    assert again == schedule
    assert hash(again) == hash(schedule)
    assert [again(step) for step in range(50)] == [schedule(step) for step in range(50)]
    assert [other == schedule for other in ALL].count(True) == 1
    assert type(schedule).__name__ in repr(schedule)


def halved(step: int, start: float = 1.0) -> float:
    return start / (1 + step)


class InverseRoot(schedules.Schedule):
    def __init__(self, lr: float) -> None:
        self.lr = lr

    def rate(self, step: int) -> float:
        return self.lr / np.sqrt(1 + step)


def test_any_function_will_do() -> None:
    assert rc.optim.SGD(halved).schedule == schedules.Function(halved)
    assert schedules.Warmup(halved, 2)(3) == 0.5
    assert schedules.Function(halved).config() == {"class": "Function", "function": f"{__name__}.halved"}
    bound = functools.partial(halved, start=3.0)
    assert schedules.Function(bound)(2) == 1.0
    assert schedules.Function(bound).config()["function"] == "functools.partial"
    assert rc.optim.SGD(InverseRoot(0.5)).config()["lr"] == {"class": "InverseRoot", "lr": 0.5}
    assert InverseRoot(0.5)(3) == 0.25


@pytest.mark.parametrize(
    "make",
    [
        lambda: schedules.Constant(-1.0),
        lambda: schedules.StepDecay(0.1, 0),
        lambda: schedules.StepDecay(0.1, 5, gamma=2.0),
        lambda: schedules.ExponentialDecay(0.1, -0.5),
        lambda: schedules.ExponentialDecay(0.1, 0.5, steps=1.5),
        lambda: schedules.CosineDecay(0.1, 10, floor=0.2),
        lambda: schedules.OneCycle(0.1, 0),
        lambda: schedules.OneCycle(0.1, 10, pct_start=1.0),
        lambda: schedules.OneCycle(0.1, 10, pct_start=0.5, three_phase=True),
        lambda: schedules.OneCycle(0.1, 10, anneal_strategy="cosine"),
        lambda: schedules.OneCycle(0.1, 10, div_factor=0.0),
        lambda: schedules.Warmup("cosine", 5),
        lambda: schedules.Warmup(schedules.CosineDecay, 5),
        lambda: schedules.Warmup(0.1, -1),
        lambda: schedules.Warmup(0.1, 5, 1.5),
        lambda: schedules.Chain(0.1, [5]),
        lambda: schedules.Chain([0.1, 0.2], []),
        lambda: schedules.Chain([0.1, 0.2, 0.3], [5, 5]),
        lambda: schedules.Function(0.1),
        lambda: schedules.Function(lambda step: float("nan"))(0),
        lambda: schedules.Function(lambda step: "fast")(0),
        lambda: schedules.Constant(0.1)(-1),
        lambda: schedules.Constant(0.1)(0.5),
    ],
)
def test_what_does_not_fit_is_explained(make: Callable[[], Any]) -> None:
    with pytest.raises((ValueError, TypeError), match=r"^[A-Z]\w+: got .*expected .*; "):
        make()


@pytest.mark.parametrize("make", [rc.optim.Adam, rc.optim.SGD, rc.optim.Adagrad, lambda lr: schedules.Warmup(lr, 5)])
@pytest.mark.parametrize("model", [rc.Linear(1, 1), rc.Sequential(rc.GRU(2, 3))])
def test_a_model_is_no_schedule_though_it_can_be_called(make: Callable[[Any], Any], model: Any) -> None:
    with pytest.raises(TypeError, match=rf"^\w+: got \w+=a {type(model).__name__}, expected .*; leave the model out"):
        make(model)
