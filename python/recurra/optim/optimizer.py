"""The base class of optimisers: steps over layers and models, clipping, learning rate, state."""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from recurra import _core
from recurra.common import checks, keywords
from recurra.common.structure import plain
from recurra.layers.layer import Layer
from recurra.layers.leaf import LeafLayer
from recurra.optim.memory import Memory, Slot
from recurra.optim.norm import Norm
from recurra.optim.schedule import Rate, Schedule, find
from recurra.optim.spans import Groups, Span, multipliers

if TYPE_CHECKING:
    from typing_extensions import Self


#: The range of each dtype.
_INFO = {dtype: np.finfo(dtype) for dtype in ("float32", "float64")}
_LARGEST = {dtype: float(info.max) for dtype, info in _INFO.items()}


class Step(NamedTuple):
    """The result of `Optimizer.step`.

    Attributes: norm, of the scaled gradient before clipping; clipped, the fraction of the gradient that clipping
    changed: the fraction of elements for clip_value, 1.0 or 0.0 for clip_norm, the larger of the two for both.

    Example:
        >>> layer = rc.Linear(1, 1)
        >>> layer.grads["bias"][:] = 3.0
        >>> rc.optim.SGD(0.1).step(layer)
        Step(norm=3.0, clipped=0.0)
    """

    norm: float
    clipped: float


class Rule(NamedTuple):
    """Arguments of a native step, which uses clamp(scale * gradient, -limit, limit) * factor as the gradient."""

    lr: float
    weight_decay: float
    scale: float
    limit: float
    factor: float

    def of(self, weight_decay: float, factor: float) -> Rule:
        """The rule with this weight decay, and this factor of the learning rate."""
        if weight_decay == self.weight_decay and factor == 1.0:
            return self
        return self._replace(weight_decay=weight_decay, lr=self.lr * factor)

    def clipped(self, kept: Norm, bound: float, info: np.finfo[Any]) -> Rule:
        """The rule whose factor reduces a gradient of norm `kept` to `bound`. If scale * gradient or the factor is out
        of the dtype's range, a power of two moves between scale and factor, so that each does half of the work."""
        digits, exponent = bound / kept.root, -kept.exponent
        if not digits or not self.scale:
            return self._replace(factor=0.0)
        length = math.log2(digits) + exponent
        if kept.value <= float(info.max) and length >= info.minexp:
            return self._replace(factor=math.ldexp(digits, exponent))
        shift = round((length - math.log2(self.scale)) / 2)
        scale, limit = (math.ldexp(number, shift) for number in (self.scale, self.limit))
        return self._replace(scale=scale, limit=limit, factor=math.ldexp(digits, exponent - shift))


class Optimizer(ABC):
    """`step(model)` updates the parameters of all trainable layers from their gradients.

    Args:
        lr: learning rate: a number, after which the attribute `lr` can be set between steps; a schedule from
            `recurra.optim.schedules`; or a function step -> rate.
        weight_decay: see the class.
        no_decay: parameters whose name contains one of these strings are not decayed, such as ("bias",); in a model,
            names begin with the layer's place, "0.weight_ih_l0".
        lr_multipliers: factors of the learning rate by patterns of whole names (`fnmatch`), such as {"0.*": 0.1}; the
            first pattern that fits counts, and a name that none fits has 1.

    Example:
        >>> optimizer = rc.optim.Adam(1e-3)
        >>> layer = rc.Linear(3, 2)
        >>> tape = layer.record(np.ones((1, 4, 3), np.float32))
        >>> _ = tape.backward(np.ones_like(tape.y))
        >>> norm, clipped = optimizer.step(layer, clip_norm=1.0)
        >>> clipped, optimizer.steps
        (1.0, 1)
    """

    #: Names of the flat state arrays of each layer.
    memory: tuple[str, ...] = ()

    def __init__(
        self,
        lr: Rate,
        weight_decay: float,
        no_decay: Sequence[str],
        lr_multipliers: Mapping[str, float] | None = None,
    ) -> None:
        name = type(self).__name__
        self._schedule = find(name, "lr", lr) if isinstance(lr, Schedule) or callable(lr) else None
        self._lr = self._first_lr = 0.0 if self._schedule else checks.number(name, "lr", lr)
        self.weight_decay = checks.number(name, "weight_decay", weight_decay)
        if not isinstance(no_decay, tuple | list) or not all(isinstance(text, str) for text in no_decay):
            raise TypeError(f"{name}: got no_decay={no_decay!r}, expected a tuple of strings; write no_decay=('bias',)")
        self.no_decay = tuple(no_decay)
        self.lr_multipliers = multipliers(name, lr_multipliers)
        self._steps = 0
        self._memory = Memory()
        self._turns = _core.Turns()

    @property
    def lr(self) -> float:
        """The learning rate of the next step. It can be set, unless it comes from a schedule."""
        return self._schedule(self._steps) if self._schedule else self._lr

    @lr.setter
    def lr(self, value: float) -> None:
        name = type(self).__name__
        if self._schedule:
            raise TypeError(
                f"{name}: got lr={value!r} for an optimiser whose rate comes from {self._schedule!r}, expected a "
                f"constant rate; make the optimiser with lr={value!r}, or leave out what sets its rate"
            )
        self._lr = checks.number(name, "lr", value)

    @property
    def schedule(self) -> Schedule | None:
        """The learning rate schedule; None if the rate is a number."""
        return self._schedule

    @property
    def steps(self) -> int:
        """Number of steps taken."""
        return self._steps

    @keywords.explained_method
    def step(
        self,
        models: Layer | Sequence[Layer],
        scale: float = 1.0,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        error_if_nonfinite: bool = False,
    ) -> Step:
        """Take one step with the gradients in `grads`, which are unchanged. Ctrl-C takes effect before or after it.

        Threads that share an optimiser wait for each other. A signal handler that runs during a step cannot wait, and
        gets a ValueError.

        Args:
            models: a layer or model, or several; layers with trainable=False are unchanged.
            scale: factor for the gradients, applied first; 1 / count turns the gradient of a sum into that of a mean.
            clip_norm: maximum norm over all layers together; larger gradients are scaled down to it, after clip_value.
            clip_value: clips each element to [-clip_value, clip_value].
            error_if_nonfinite: whether to refuse gradients that are not finite.

        Returns:
            The norm of the scaled gradients before clipping, and the fraction that clipping changed.

        Raises:
            FloatingPointError: NaN or infinity in the gradients; nothing has changed. Without error_if_nonfinite they
                spread to the parameters, except an infinity that clip_value clips.
        """
        operation = f"{type(self).__name__}.step"
        return self._turns(operation, self._step, operation, models, scale, clip_norm, clip_value, error_if_nonfinite)

    def _step(
        self,
        operation: str,
        models: Layer | Sequence[Layer],
        scale: float,
        clip_norm: float | None,
        clip_value: float | None,
        error_if_nonfinite: bool,
    ) -> Step:
        scale = checks.number(operation, "scale", scale)
        limit = math.inf if clip_value is None else checks.number(operation, "clip_value", clip_value)
        bound = math.inf if clip_norm is None else checks.number(operation, "clip_norm", clip_norm)
        error_if_nonfinite = checks.flag(operation, "error_if_nonfinite", error_if_nonfinite)
        lr = self.lr
        leaves = self._leaves(operation, models)
        if self.lr_multipliers:
            names = [prefix + name for layer, prefix in leaves.items() for name in layer.parameters.names]
            self._groups.check(operation, names)
        layers = {layer: prefix for layer, prefix in leaves.items() if layer.is_trainable}
        weights = [layer.parameters for layer in layers]
        norm = Norm.of(weights).times(scale)
        length = norm.value
        if error_if_nonfinite:
            finite = norm.is_finite if clip_norm is not None else max(length, scale) <= _largest(weights)
            if not finite:
                raise FloatingPointError(f"{operation}: {_nonfinite(layers, length)}")
        clipped, kept = 0.0, norm
        if clip_value is not None:
            kept = Norm.of(weights, scale, limit)
            clipped = kept.outside / max(1, sum(one.size for one in weights))
        rules = dict.fromkeys({one.dtype for one in weights}, Rule(lr, self.weight_decay, scale, limit, 1.0))
        if kept.value > bound:
            rules = {name: rule.clipped(kept, bound, _INFO[name]) for name, rule in rules.items()}
            clipped = 1.0
        memory = self._memory.claim(operation, self.memory, list(leaves))
        updates = [
            self._update(parameters, begin, end, rule.of(decay, factor), slot)
            for (layer, prefix), parameters in zip(layers.items(), weights, strict=True)
            for slot, rule in [(memory.stepped(layer), rules[parameters.dtype])]
            for begin, end, decay, factor in self._checked_spans(operation, prefix, layer)
        ]
        done = {"_steps": self._steps + 1, "_memory": memory}
        _core.write_whole(weights, _core.run_updates, updates, vars(self), done)  # atomic, also for other threads
        return Step(length, clipped)

    @property
    def _groups(self) -> Groups:
        return Groups(self.no_decay, tuple(self.lr_multipliers.items()))

    def _checked_spans(self, operation: str, prefix: str, layer: LeafLayer) -> Sequence[Span]:
        parameters = layer.parameters
        if not self.no_decay and not self.lr_multipliers and not parameters.sparse:
            return [Span(0, parameters.size, self.weight_decay, 1.0)]
        spans = self._groups.spans(prefix, parameters, self.weight_decay)
        if parameters.sparse:
            self._refuse_sparse(operation, prefix + layer.label)
            if any(one.decay for one in spans):
                raise ValueError(
                    f"{operation}: got weight_decay={self.weight_decay:g} for {prefix}{layer.label} with sparse=True, "
                    "expected 0, as decay moves every row at every step; add its name to no_decay, or make it with "
                    "sparse=False"
                )
        return spans

    def _refuse_sparse(self, operation: str, label: str) -> None:
        """Refuse sparse layers; overridden by optimisers that do not move rows without a gradient."""
        raise ValueError(
            f"{operation}: got {label} with sparse=True, expected layers with dense gradients, as "
            f"{type(self).__name__} moves rows that have no gradient too; use SparseAdam, Adagrad or SGD without "
            "momentum, or make it with sparse=False"
        )

    def _leaves(self, operation: str, models: Layer | Sequence[Layer]) -> dict[LeafLayer, str]:
        """The layers that have parameters, each once, with the prefix of their parameters' names."""
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

    @abstractmethod
    def _update(self, parameters: _core.Parameters, begin: int, end: int, rule: Rule, slot: Slot) -> _core.Update:
        """The native update of elements [begin, end) of the flat buffers; `slot.steps` includes this step."""

    def config(self) -> dict[str, Any]:
        """Class and constructor arguments as plain data, fit for JSON; a rate set later is in `state_dict`."""
        names = [name for name in inspect.signature(type(self)).parameters if name != "lr"]
        return {
            "class": type(self).__name__,
            "lr": self._schedule.config() if self._schedule else self._first_lr,
            **{name: plain(getattr(self, name)) for name in names},
        }

    def state_dict(self) -> dict[str, Any]:
        """The optimiser's state, from which training resumes with the same bits.

        "steps", the number of steps taken; "lr", unless it comes from a schedule; and for each layer, in the order in
        which they were first stepped, "0.steps", "0.parameters", a digest of the parameters by which the layer is
        recognised, and, once it has been trained, copies of its flat arrays "0.m", ... Deleted layers are left out.
        While another thread takes a step, the state is from before or after that step, consistently.
        """
        return self._turns.read(self._state_dict)

    def _state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = {"steps": self._steps}
        if not self._schedule:
            state["lr"] = self._lr
        return state | self._memory.state_dict()

    def load_state_dict(self, mapping: Mapping[str, Any], models: Layer | Sequence[Layer] | None = None) -> None:
        """Restore the state from a `state_dict()`, all or nothing.

        Args:
            mapping: the state.
            models: the models whose layers, in order, the state belongs to. None: when a layer is first stepped, it
                gets the part whose layer had the same parameters when the state was taken; so load the matching
                parameters too.

        Raises:
            ValueError, TypeError: the state of another class or other options, or not of `models`. Without `models`, a
                step raises ValueError for a layer whose parameters match no part that is still waiting.
        """
        operation = f"{type(self).__name__}.load_state_dict"
        if not isinstance(mapping, Mapping):
            raise TypeError(f"{operation}: got {type(mapping).__name__}, expected a mapping; pass a state_dict()")
        names = {"steps"} if self._schedule else {"steps", "lr"}
        self._turns(operation, self._load, operation, mapping, names, models)

    def _load(
        self,
        operation: str,
        mapping: Mapping[str, Any],
        names: set[str],
        models: Layer | Sequence[Layer] | None,
    ) -> None:
        memory = Memory.loaded(operation, self.memory, mapping, names)
        lr = 0.0 if self._schedule else checks.number(operation, "lr", mapping["lr"])
        steps = checks.integer(operation, "steps", mapping["steps"], 0, 2**63 - 1)
        if models is not None:
            memory = memory.given_to(operation, list(self._leaves(operation, models)))
        vars(self).update(_steps=steps, _lr=lr, _memory=memory)  # all or nothing

    def _state_for(self, model: Layer) -> dict[str, Any]:
        """A `state_dict()` with "places": for each layer of the model, the number of its part of the state, or None."""
        alive = self._memory.layers  # keeps layers alive meanwhile: parts of deleted layers would not be numbered
        places = self._memory.places_of(list(self._leaves("state_dict", model)))
        state = {**self.state_dict(), "places": places}
        del alive
        return state

    def _load_state_for(self, state: Mapping[str, Any], model: Layer) -> None:
        """Restore the state from `_state_for(model)`, whatever happens to the model's parameters before the next step.

        The remaining parts of the state wait for other models. A layer that this optimiser has never stepped starts
        with fresh state, as in an uninterrupted run; one that it has stepped, but that matches no part, is refused.
        """
        operation, before = f"{type(self).__name__}.load_state_dict", self._memory
        layers, places = list(self._leaves(operation, model)), state.get("places")
        self.load_state_dict({name: value for name, value in state.items() if name != "places"})
        taken = [one for one in places if one is not None] if isinstance(places, list) else [-1]
        count = len(self._memory)
        fit = all(type(one) is int and 0 <= one < count for one in taken) and len(set(taken)) == len(taken)
        if not fit or not isinstance(places, list) or len(places) != len(layers):
            raise ValueError(
                f"{operation}: got places={places!r:.200}, expected a number below {count} or None for each of "
                f"{len(layers)} layers, none twice; give the state that was saved"
            )
        self._memory = self._memory.given_back(operation, layers, places, before)

    def _twin(self, lr: float) -> Self:
        """An independent copy with the same state for the same layers, at another rate."""
        twin = object.__new__(type(self))
        twin.__dict__.update(self._turns.read(self._copied, Memory.copied), _schedule=None, _turns=_core.Turns())
        twin.lr = lr
        return twin

    def __getstate__(self) -> dict[str, Any]:
        """The state to copy or pickle: slots are kept without their layers."""
        state = self._turns.read(self._copied, Memory.without_layers)
        del state["_turns"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _turns=_core.Turns())

    def _copied(self, copy: Callable[[Memory], Memory]) -> dict[str, Any]:
        return {**self.__dict__, "_memory": copy(self._memory)}

    def __repr__(self) -> str:
        names = [name for name in inspect.signature(type(self)).parameters if name != "lr"]
        arguments = {"lr": self._schedule or self._lr, **{name: getattr(self, name) for name in names}}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in arguments.items())})"


def _largest(weights: Sequence[_core.Parameters]) -> float:
    """The largest number that the dtypes of all `weights` can hold."""
    return min((_LARGEST[one.dtype] for one in weights), default=_LARGEST["float64"])


def _nonfinite(layers: Mapping[LeafLayer, str], norm: float) -> str:
    """The message about a non-finite gradient: the parameter concerned, or the norm if every element is finite."""
    for layer, prefix in layers.items():
        for name, gradient in layer.grads.items():
            if not np.isfinite(gradient).all():
                return (
                    f"got NaN or infinity in the gradient of {prefix}{name}, expected finite numbers; lower the rate, "
                    "clip the gradient, or look for what is not finite in the data"
                )
    dtype = next(iter(layers)).parameters.dtype
    return f"got a gradient of norm {norm:g}, expected one in the range of {dtype}; lower scale, or the loss"
