"""What all optimisers have: the step over layers and models, clipping, the rate, the memory."""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
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

if TYPE_CHECKING:
    from typing_extensions import Self


#: What numbers of each dtype there are.
_INFO = {dtype: np.finfo(dtype) for dtype in ("float32", "float64")}
_LARGEST = {dtype: float(info.max) for dtype, info in _INFO.items()}


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

    def decaying(self, weight_decay: float) -> Rule:
        """With this decay."""
        return self if weight_decay == self.weight_decay else self._replace(weight_decay=weight_decay)

    def clipped(self, kept: Norm, bound: float, info: np.finfo[Any]) -> Rule:
        """With the factor that brings a gradient of norm `kept` down to `bound`. Where scale * gradient or the factor lies
        beyond the dtype's numbers, each takes half of the way, by a power of two."""
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
        self._memory = Memory()
        self._turns = _core.Turns()

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

    @keywords.explained_method
    def step(
        self,
        models: Layer | Sequence[Layer],
        scale: float = 1.0,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        error_if_nonfinite: bool = False,
    ) -> Step:
        """One step along the gradients in `grads`, which stay as they are. Ctrl-C takes effect before or after it.

        Threads that share an optimiser wait for each other. A signal's handler that comes during a step cannot wait for it
        and gets a ValueError.

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
            self._update(parameters, begin, end, rule.decaying(decay), slot)
            for (layer, prefix), parameters in zip(layers.items(), weights, strict=True)
            for slot, rule in [(memory.stepped(layer), rules[parameters.dtype])]
            for begin, end, decay in self._checked_spans(operation, prefix, layer)
        ]
        done = {"_steps": self._steps + 1, "_memory": memory}
        _core.write_whole(
            weights, _core.run_updates, updates, vars(self), done
        )  # all, or nothing, for other threads too
        return Step(length, clipped)

    def _checked_spans(self, operation: str, prefix: str, layer: LeafLayer) -> Sequence[tuple[int, int, float]]:
        parameters = layer.parameters
        if not self.no_decay and not parameters.sparse:
            return [(0, parameters.size, self.weight_decay)]
        spans = list(self._spans(prefix, parameters))
        if parameters.sparse:
            self._refuse_sparse(operation, prefix + layer.label)
            if any(decay for _begin, _end, decay in spans):
                raise ValueError(
                    f"{operation}: got weight_decay={self.weight_decay:g} for {prefix}{layer.label} with sparse=True, expected "
                    f"0, as decay moves every row at every step; add its name to no_decay, or make it with sparse=False"
                )
        return spans

    def _refuse_sparse(self, operation: str, label: str) -> None:
        """For the classes whose steps move rows that no gradient has reached."""
        raise ValueError(
            f"{operation}: got {label} with sparse=True, expected layers with dense gradients, as {type(self).__name__} moves "
            f"rows that have no gradient too; use SparseAdam, Adagrad or SGD without momentum, or make it with sparse=False"
        )

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

    @abstractmethod
    def _update(self, parameters: _core.Parameters, begin: int, end: int, rule: Rule, slot: Slot) -> _core.Update:
        """What the step does to elements [begin, end) of the flat buffers; `slot.steps` counts this one."""

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
        came, "0.steps", "0.parameters", a digest of its parameters, by which it is known again, and, once it has learnt,
        flat copies of "0.m", ... Layers that are gone are left out. Beside a step on another thread: all from before it or
        all from after it.
        """
        return self._turns.read(self._state_dict)

    def _state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = {"steps": self._steps}
        if not self._schedule:
            state["lr"] = self._lr
        return state | self._memory.state_dict()

    def load_state_dict(self, mapping: Mapping[str, Any], models: Layer | Sequence[Layer] | None = None) -> None:
        """Go on from a `state_dict()`, all or nothing.

        Args:
            mapping: the state.
            models: to whose layers its parts go, in this order. None: each part goes to the layer whose parameters are those
                that its own had when the state was taken, when that layer is stepped; so load the parameters that
                belong to the state, too.

        Raises:
            ValueError, TypeError: it is that of another class, or of other options; or it is not that of `models`. Without
                `models`, a step raises ValueError for a layer whose parameters are unknown to a state that waits.
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
        vars(self).update(_steps=steps, _lr=lr, _memory=memory)  # all, or nothing

    def _state_for(self, model: Layer) -> dict[str, Any]:
        """A `state_dict()` that also says, as "places", which of its parts is whose: a number, or None, for each layer of the
        model."""
        alive = self._memory.layers  # for as long as this takes: the numbers leave out those that are gone
        places = self._memory.places_of(list(self._leaves("state_dict", model)))
        state = {**self.state_dict(), "places": places}
        del alive
        return state

    def _load_state_for(self, state: Mapping[str, Any], model: Layer) -> None:
        """Go on from a `_state_for` this model, whatever happens to its parameters before the next step.

        What is left of the state waits for other models. A layer that is new to this optimiser then starts anew, as in a
        run without a break; one that it has met, and that the state does not know, is refused.
        """
        operation, before = f"{type(self).__name__}.load_state_dict", self._memory
        layers, places = list(self._leaves(operation, model)), state.get("places")
        self.load_state_dict({name: value for name, value in state.items() if name != "places"})
        taken = [one for one in places if one is not None] if isinstance(places, list) else [-1]
        count = len(self._memory)
        fit = all(type(one) is int and 0 <= one < count for one in taken) and len(set(taken)) == len(taken)
        if not fit or not isinstance(places, list) or len(places) != len(layers):
            raise ValueError(
                f"{operation}: got places={places!r:.200}, expected a number below {count} or None for each of {len(layers)} "
                f"layers, none twice; give what was saved"
            )
        self._memory = self._memory.given_back(operation, layers, places, before)

    def _twin(self, lr: float) -> Self:
        """An independent one with the same memory of the same layers, at another rate."""
        twin = object.__new__(type(self))
        twin.__dict__.update(self._turns.read(self._copied, Memory.copied), _schedule=None, _turns=_core.Turns())
        twin.lr = lr
        return twin

    def __getstate__(self) -> dict[str, Any]:
        """Copies carry the memory, not the layers."""
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
    """Numbers that all of them can hold."""
    return min((_LARGEST[one.dtype] for one in weights), default=_LARGEST["float64"])


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
