"""What all optimisers have: the step over layers and models, clipping, the rate, the memory."""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from recurra import _core, checks, interrupts
from recurra.layer import Layer
from recurra.leaf import LeafLayer
from recurra.optim.schedule import Rate, Schedule, find
from recurra.structure import plain
from recurra.typing import Array

if TYPE_CHECKING:
    from typing_extensions import Self


_FLOAT32, _FLOAT64 = (float(np.finfo(dtype).max) for dtype in (np.float32, np.float64))


class Step(NamedTuple):
    """What `Optimizer.step` returns.

    Attributes: norm, of the scaled gradient, before clipping; clipped, the part of the gradient that clipping changed: by
    value the share of elements that were cut, by norm 1.0 or 0.0, by both the larger.
    """

    norm: float
    clipped: float


class Rule(NamedTuple):
    """What a native step is told; the gradient that it sees is clamp(scale * gradient, -limit, limit) * factor."""

    lr: float
    weight_decay: float
    scale: float
    limit: float
    factor: float


@dataclass(eq=False)
class Slot:
    """What an optimiser remembers about one layer: the steps taken, and flat arrays like its parameters.

    A layer that was frozen so far has no arrays yet.
    """

    layer: LeafLayer | None  # None after loading, until a step claims it
    steps: int = 0
    arrays: dict[str, Array] = field(default_factory=dict)

    def copied(self) -> dict[str, Array]:
        """Arrays of their own."""
        return {name: array.copy() for name, array in self.arrays.items()}


class Optimizer(ABC):
    """`step(model)` moves the parameters of all trainable layers along their gradients.

    Args:
        lr: learning rate: a number, then the attribute `lr` may be changed between steps; or a schedule from
            `recurra.optim.schedules` or a function step -> rate.
        weight_decay: see the class.
        no_decay: parameters whose name contains one of these texts are not decayed, such as ("bias",); a model's names
            begin with the layer's place, "0.weight_ih_l0".
    """

    #: Names of the flat arrays kept for each layer.
    memory: tuple[str, ...] = ()

    def __init__(self, lr: Rate, weight_decay: float, no_decay: Sequence[str]) -> None:
        name = type(self).__name__
        self._schedule = find(name, "lr", lr) if isinstance(lr, Schedule) or callable(lr) else None
        self._lr = self._first_lr = 0.0 if self._schedule else checks.number(name, "lr", lr)
        self.weight_decay = checks.number(name, "weight_decay", weight_decay)
        if not isinstance(no_decay, tuple | list) or not all(isinstance(text, str) for text in no_decay):
            raise TypeError(f"{name}: got no_decay={no_decay!r}, expected a tuple of texts; write no_decay=('bias',)")
        self.no_decay = tuple(no_decay)
        self._steps = 0
        self._slots: list[Slot] = []

    @property
    def lr(self) -> float:
        """The rate of the next step. It can be set, unless it comes from a schedule."""
        return self._schedule(self._steps) if self._schedule else self._lr

    @lr.setter
    def lr(self, value: float) -> None:
        name = type(self).__name__
        if self._schedule:
            raise TypeError(
                f"{name}: got lr={value!r} for an optimiser whose rate is {self._schedule!r}, expected no other; make it "
                f"with a number, lr={value!r}, or leave out what sets the rate"
            )
        self._lr = checks.number(name, "lr", value)

    @property
    def schedule(self) -> Schedule | None:
        """Where the rate comes from, if not from a number."""
        return self._schedule

    @property
    def steps(self) -> int:
        """How many steps were taken."""
        return self._steps

    def step(
        self,
        models: Layer | Sequence[Layer],
        scale: float = 1.0,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        error_if_nonfinite: bool = False,
    ) -> Step:
        """One step along the gradients in `grads`, which stay as they are. Ctrl-C takes effect before or after it.

        Args:
            models: a layer or model, or several; layers with trainable=False stay as they are.
            scale: multiplies the gradients first; 1 / count makes the gradient of a mean from that of a sum.
            clip_norm: if their norm, over all layers together, is then larger, they are scaled down to it.
            clip_value: before that, each element is cut to lie between -clip_value and clip_value.
            error_if_nonfinite: whether to refuse gradients that are not finite.

        Returns:
            The norm of the scaled gradients before clipping, and how much clipping changed.

        Raises:
            FloatingPointError: there is NaN or infinity in the gradients; nothing has changed. Without
                error_if_nonfinite it spreads to the parameters, but for an infinity that clip_value cuts.
        """
        operation = f"{type(self).__name__}.step"
        scale = checks.number(operation, "scale", scale)
        limit, bound = (
            math.inf if value is None else checks.number(operation, name, value)
            for name, value in (("clip_value", clip_value), ("clip_norm", clip_norm))
        )
        error_if_nonfinite = checks.flag(operation, "error_if_nonfinite", error_if_nonfinite)
        lr = self.lr
        leaves = self._leaves(operation, models)
        layers = {layer: prefix for layer, prefix in leaves.items() if layer.is_trainable}
        norm = scale * math.sqrt(sum(_core.squared_norm(layer.parameters) for layer in layers))
        if error_if_nonfinite and not max(norm, scale) <= _largest(layers):
            raise FloatingPointError(f"{operation}: {_nonfinite(layers, norm)}")
        clipped, kept = 0.0, norm
        if clip_value is not None:
            sums = [_core.clipped_norm(layer.parameters, scale, limit) for layer in layers]
            kept = math.sqrt(sum(square for square, _count in sums))
            clipped = sum(count for _square, count in sums) / max(1, sum(layer.parameters.size for layer in layers))
        factor = 1.0
        if kept > bound:
            factor, clipped = bound / kept, 1.0
        slots = self._claim(operation, list(leaves))
        with interrupts.deferred():  # all layers, or none
            self._steps += 1
            for layer, prefix in layers.items():
                slots[layer].steps += 1
                for begin, end, weight_decay in self._spans(prefix, layer.parameters):
                    rule = Rule(lr, weight_decay, scale, limit, factor)
                    self._update(layer.parameters, begin, end, rule, slots[layer])
        return Step(norm, clipped)

    def _leaves(self, operation: str, models: Layer | Sequence[Layer]) -> dict[LeafLayer, str]:
        """The layers that have parameters, each once, and what stands before their parameters' names."""
        found: dict[LeafLayer, str] = {}
        several = list(models) if isinstance(models, list | tuple) else [models]
        for model in several:
            if not isinstance(model, Layer):
                raise TypeError(
                    f"{operation}: got {type(model).__name__}, expected a layer or model, or a list of them; "
                    f"pass the model itself"
                )
            found |= {layer: prefix for prefix, layer in model.leaves if layer.parameters.size and layer not in found}
        return found

    def _spans(self, prefix: str, parameters: _core.Parameters) -> Iterator[tuple[int, int, float]]:
        """The flat buffer, cut where the weight decay changes."""
        begin, end, current = 0, 0, self.weight_decay
        for name in parameters.names:
            first, last = parameters.span(name)
            decay = 0.0 if any(text in prefix + name for text in self.no_decay) else self.weight_decay
            if decay != current:
                if end > begin:
                    yield begin, end, current
                begin, current = first, decay
            end = last
        yield begin, end, current

    def _claim(self, operation: str, layers: Sequence[LeafLayer]) -> dict[LeafLayer, Slot]:
        """The layers' memory, all or none; loaded memory goes to layers in the order in which they come.

        Frozen layers have their place in it too, so that the order does not depend on when they are thawed.
        """
        known = {slot.layer: slot for slot in self._slots if slot.layer is not None}
        if all(
            layer in known and (not layer.is_trainable or len(known[layer].arrays) == len(self.memory))
            for layer in layers
        ):
            return known
        loaded = iter([slot for slot in self._slots if slot.layer is None])
        found = {layer: known.get(layer) or next(loaded, None) or Slot(None) for layer in layers}
        fresh: dict[LeafLayer, dict[str, Array]] = {}
        for layer, slot in found.items():
            parameters = layer.parameters
            for array in slot.arrays.values():
                if array.shape != (parameters.size,) or array.dtype != parameters.dtype:
                    raise ValueError(
                        f"{operation}: got a loaded state of {array.size} numbers of {array.dtype}, expected "
                        f"{parameters.size} of {parameters.dtype} for a {layer.label}; step the models that the state "
                        f"came from, in their order"
                    )
            if layer.is_trainable and not slot.arrays:
                fresh[layer] = {name: np.zeros(parameters.size, parameters.dtype) for name in self.memory}
        with interrupts.deferred():
            for layer, slot in found.items():
                slot.layer = layer
                slot.arrays |= fresh.get(layer, {})
                if slot not in self._slots:
                    self._slots.append(slot)
        return found

    @abstractmethod
    def _update(self, parameters: _core.Parameters, begin: int, end: int, rule: Rule, slot: Slot) -> None:
        """The native call for elements [begin, end) of the flat buffers."""

    def config(self) -> dict[str, Any]:
        """Class and constructor's arguments as plain data, fit for JSON; a rate that was set since is in `state_dict`."""
        names = [name for name in inspect.signature(type(self)).parameters if name != "lr"]
        return {
            "class": type(self).__name__,
            "lr": self._schedule.config() if self._schedule else self._first_lr,
            **{name: plain(getattr(self, name)) for name in names},
        }

    def state_dict(self) -> dict[str, Any]:
        """What the optimiser remembers, to go on from with the same bits.

        "steps", how many it took; "lr", unless it comes from a schedule; and for each layer, in the order in which they
        came, "0.steps" and, once it has learnt, flat copies of "0.m", ...
        """
        state: dict[str, Any] = {"steps": self._steps}
        if not self._schedule:
            state["lr"] = self._lr
        for index, slot in enumerate(self._slots):
            state[f"{index}.steps"] = slot.steps
            if slot.steps:
                state.update({f"{index}.{name}": array.copy() for name, array in slot.arrays.items()})
        return state

    def load_state_dict(self, mapping: Mapping[str, Any]) -> None:
        """Go on from a `state_dict()`, all or nothing; its parts go to the layers of the next steps, in their order.

        Raises:
            ValueError, TypeError: it is that of another class, or of other options.
        """
        operation = f"{type(self).__name__}.load_state_dict"
        if not isinstance(mapping, Mapping):
            raise TypeError(f"{operation}: got {type(mapping).__name__}, expected a mapping; pass a state_dict()")
        count = sum(str(name).endswith(".steps") for name in mapping)
        steps = {
            name: checks.integer(operation, name, mapping[name], 0, 2**63 - 1)
            for name in ("steps", *(f"{index}.steps" for index in range(count)))
            if name in mapping
        }
        expected = {"steps"} if self._schedule else {"steps", "lr"}
        for index in range(count):
            own = self.memory if steps.get(f"{index}.steps") else ()  # a layer that has not learnt has no arrays
            expected |= {f"{index}.{name}" for name in ("steps", *own)}
        if set(mapping) != expected:
            raise ValueError(
                f"{operation}: got a mapping that does not fit: missing {sorted(expected - set(mapping)) or 'nothing'}, not "
                f"known {sorted(set(mapping) - expected) or 'nothing'}, expected that of an optimiser of this class and "
                f"options; give its state_dict()"
            )
        lr = 0.0 if self._schedule else checks.number(operation, "lr", mapping["lr"])
        slots = [
            Slot(
                None,
                steps[f"{index}.steps"],
                {name: np.array(mapping[f"{index}.{name}"]) for name in self.memory if f"{index}.{name}" in mapping},
            )
            for index in range(count)
        ]
        with interrupts.deferred():
            self._steps, self._lr, self._slots = steps["steps"], lr, slots

    def _twin(self, lr: float) -> Self:
        """An independent one with the same memory of the same layers, at another rate."""
        twin = object.__new__(type(self))
        slots = [Slot(slot.layer, slot.steps, slot.copied()) for slot in self._slots]
        twin.__dict__.update(self.__dict__, _schedule=None, _slots=slots)
        twin.lr = lr
        return twin

    def __getstate__(self) -> dict[str, Any]:
        """Copies carry the memory, not the layers."""
        return {**self.__dict__, "_slots": [Slot(None, slot.steps, slot.copied()) for slot in self._slots]}

    def __repr__(self) -> str:
        names = [name for name in inspect.signature(type(self)).parameters if name != "lr"]
        arguments = {"lr": self._schedule or self._lr, **{name: getattr(self, name) for name in names}}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in arguments.items())})"


def _largest(layers: Mapping[LeafLayer, str]) -> float:
    """Numbers that all of them can hold."""
    return _FLOAT32 if any(layer.parameters.dtype == "float32" for layer in layers) else _FLOAT64


def _nonfinite(layers: Mapping[LeafLayer, str], norm: float) -> str:
    """What is wrong with a gradient of this norm, and where."""
    for layer, prefix in layers.items():
        for name, gradient in layer.grads.items():
            if not np.isfinite(gradient).all():
                return (
                    f"got NaN or infinity in the gradient of {prefix}{name}, expected finite numbers; lower the rate, clip "
                    f"the gradient, or look for what is not finite in the data"
                )
    dtype = next(iter(layers)).parameters.dtype
    return f"got a gradient of norm {norm:g}, expected one that {dtype} holds; lower scale, or the loss"
