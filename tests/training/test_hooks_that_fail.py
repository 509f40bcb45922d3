"""Whatever raises in a fit, at whatever point, leaves model, gradients and optimiser as a whole step left them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import recurra as rc
from array_types import Array
from user_layers import Scale

RNG = np.random.default_rng(0)
X = RNG.standard_normal((6, 4, 3)).astype(np.float32)
Y = RNG.standard_normal((6, 4, 2)).astype(np.float32)


class HookError(Exception):
    """What a hook raises."""


class Trap:
    """Raises when a hook is called for the `at`-th time, counted from 1; 0 for never."""

    def __init__(self, at: int = 0, error: type[BaseException] = HookError) -> None:
        self.at, self.error, self.count = at, error, 0

    def hit(self) -> None:
        self.count += 1
        if self.count == self.at:
            raise self.error


class Trapped(Scale):
    """A layer of the user's with a trap in each direction."""

    forwards = backwards = Trap()

    def forward(self, *arguments: Any, **options: Any) -> Any:
        result = super().forward(*arguments, **options)
        self.forwards.hit()
        return result

    def backward(self, *arguments: Any) -> Array:
        result = super().backward(*arguments)
        self.backwards.hit()
        return result


class TrappedLoss(rc.losses.MeanSquaredError):
    trap = Trap()

    def value(self, *arguments: Any, **options: Any) -> Any:
        self.trap.hit()
        return super().value(*arguments, **options)


class TrappedMetric(rc.metrics.Metric):
    name, mode = "trapped", "min"

    def __init__(self, method: str, trap: Trap) -> None:
        self.method, self.trap = method, trap
        self.reset()

    def _hit(self, method: str) -> None:
        if method == self.method:
            self.trap.hit()

    def update(self, predictions: Array, targets: Any, lengths: Any = None) -> None:
        self._hit("update")

    def result(self) -> float:
        self._hit("result")
        return 0.0

    def reset(self) -> None:
        self._hit("reset")


EVENTS = (
    *("on_train_begin", "on_epoch_begin", "on_train_batch_begin", "on_train_batch_end"),
    *("on_epoch_end", "on_train_end"),
)
HOOKS = [
    *EVENTS, "loss", "metric update", "metric result", "metric reset", "schedule", "generator", "validation", "forward",
    "backward",
]  # fmt: skip


def batches(trap: Trap) -> Any:
    def epoch(number: int) -> Iterator[tuple[Array, Array]]:
        for begin in range(0, 6, 2):
            trap.hit()
            yield X[begin : begin + 2], Y[begin : begin + 2]

    return epoch


class State:
    """A model and its optimiser."""

    def __init__(self, hook: str, trap: Trap, accumulate: int) -> None:
        self.trapped = Trapped(4)
        if hook in ("forward", "backward"):
            setattr(self.trapped, hook + "s", trap)
        layers = rc.GRU(3, 4), rc.BatchNorm(4), self.trapped, rc.Linear(4, 2)
        self.model: Any = rc.Sequential(*layers, seed=0)
        self.loss = TrappedLoss()
        self.loss.trap = trap if hook == "loss" else Trap()
        self.trap, self.hook, self.accumulate = trap, hook, accumulate
        self.optimizer = rc.optim.Adam(self._rate)

    def _rate(self, step: int) -> float:
        if self.hook == "schedule":
            self.trap.hit()
        return 0.01 / (1 + step)

    def fit(self, *callbacks: Any) -> None:
        def event(*_: Any) -> None:
            self.trap.hit()

        own = [rc.callbacks.LambdaCallback(**{self.hook: event})] if self.hook in EVENTS else []
        method = self.hook.removeprefix("metric ")
        self.model.fit(
            batches(self.trap if self.hook == "generator" else Trap()), loss=self.loss, optimizer=self.optimizer,
            validation_data=batches(self.trap if self.hook == "validation" else Trap()), epochs=2, seed=0, verbose=0,
            metrics=[TrappedMetric(method, self.trap)] if method != self.hook else [], accumulate=self.accumulate,
            callbacks=[*callbacks, *own],
        )  # fmt: skip

    def bits(self) -> tuple[bytes, ...]:
        """Parameters, buffers, and the optimiser's memory."""
        memory = {name: np.asarray(value).tobytes() for name, value in self.optimizer.state_dict().items()}
        return *(array.tobytes() for array in self.model.state_dict().values()), *memory.values()

    def gradients(self) -> bytes:
        return b"".join(array.tobytes() for array in self.model.grads.values())


def whole_steps(accumulate: int) -> dict[tuple[bytes, ...], bytes]:
    """The gradients after each whole step, by everything else."""
    one = State("", Trap(), accumulate)
    found = {one.bits(): one.gradients()}

    def note(batch: int, logs: Any) -> None:
        found[one.bits()] = one.gradients()

    one.fit(rc.callbacks.LambdaCallback(on_train_batch_end=note))
    return found


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_that_fails_leaves_a_whole_step(hook: str, accumulate: int) -> None:
    """At each of its calls in turn, until a fit has no more of them; and a later fit works, from there."""
    known = whole_steps(accumulate)
    assert len(known) == 1 + 2 * (3 if accumulate == 1 else 2)
    none = bytes(len(next(iter(known.values()))))
    for at in range(1, 100):
        trap = Trap()
        one = State(hook, trap, accumulate)
        trap.count, trap.at = 0, at
        try:
            one.fit()
        except HookError:
            pass
        else:
            break
        assert one.bits() in known, f"call {at}"
        assert one.gradients() in (none, known[one.bits()]), f"call {at}"
        steps = one.optimizer.steps
        trap.at = 0
        one.fit()
        assert one.optimizer.steps == steps + len(known) - 1
    assert at > 1, "the hook was never called"
    assert one.bits() == list(known)[-1]


@pytest.mark.parametrize("error", [KeyboardInterrupt, StopIteration, GeneratorExit, FloatingPointError, SystemExit])
@pytest.mark.parametrize("hook", HOOKS)
def test_any_exception_comes_out_as_it_is(hook: str, error: type[BaseException]) -> None:
    """Nothing takes one for the end of the data, or for a gradient that is not finite."""
    known = whole_steps(1)
    trap = Trap()
    one = State(hook, trap, 1)
    trap.count, trap.at, trap.error = 0, 1 if hook in ("on_train_begin", "on_train_end") else 2, error
    # A generator cannot let StopIteration out: Python makes it a RuntimeError.
    expected = RuntimeError if error is StopIteration and hook in ("generator", "validation") else error
    with pytest.raises(expected) as found:
        one.fit()
    assert type(found.value) is expected
    assert one.bits() in known
