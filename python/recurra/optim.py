"""Optimisers: they work on the flat buffers of layers and models."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from recurra import _core, checks, interrupts
from recurra.layer import Layer
from recurra.leaf import LeafLayer
from recurra.typing import Array

__all__ = ["SGD", "Adam", "AdamW", "Optimizer"]


@dataclass(eq=False)
class _Slot:
    """What an optimiser remembers about one layer: the steps taken, and flat arrays like its parameters."""

    layer: LeafLayer | None  # None after loading, until a step claims it
    steps: int = 0
    arrays: dict[str, Array] = field(default_factory=dict)


class Optimizer(ABC):
    """`step(model)` moves the parameters of all trainable layers along their gradients.

    Args:
        lr: learning rate; the attribute `lr` may be changed between steps.
        weight_decay: see the class.
        no_decay: parameters whose name contains one of these texts are not decayed, such as ("bias",); a model's names
            begin with the layer's place, "0.weight_ih_l0".
    """

    #: Names of the flat arrays kept for each layer.
    memory: tuple[str, ...] = ()

    def __init__(self, lr: float, weight_decay: float, no_decay: Sequence[str]) -> None:
        name = type(self).__name__
        self.lr = checks.number(name, "lr", lr)
        self.weight_decay = checks.number(name, "weight_decay", weight_decay)
        if isinstance(no_decay, str) or not all(isinstance(text, str) for text in no_decay):
            raise TypeError(f"{name}: got no_decay={no_decay!r}, expected a tuple of texts; write no_decay=('bias',)")
        self.no_decay = tuple(no_decay)
        self._slots: list[_Slot] = []

    def step(self, models: Layer | Sequence[Layer], scale: float = 1.0, clip_norm: float | None = None) -> float:
        """One step along the gradients in `grads`. Ctrl-C takes effect before or after it.

        Args:
            models: a layer or model, or several; layers with trainable=False stay as they are.
            scale: multiplies the gradients first; 1 / count makes the gradient of a mean from that of a sum.
            clip_norm: if their norm, over all layers together, is then larger, they are scaled down to it.

        Returns:
            The norm of the scaled gradients, before clipping.
        """
        operation = f"{type(self).__name__}.step"
        scale = checks.number(operation, "scale", scale)
        layers = self._trainable(operation, models)
        norm = scale * math.sqrt(sum(_core.squared_norm(layer.parameters) for layer in layers))
        if clip_norm is not None and norm > checks.number(operation, "clip_norm", clip_norm):
            scale *= clip_norm / norm
        with interrupts.deferred():  # all layers, or none
            slots = [self._slot(layer) for layer in layers]
            for (layer, prefix), slot in zip(layers.items(), slots, strict=True):
                slot.steps += 1
                for begin, end, weight_decay in self._spans(prefix, layer.parameters):
                    self._update(layer.parameters, begin, end, slot, weight_decay, scale)
        return norm

    def _trainable(self, operation: str, models: Layer | Sequence[Layer]) -> dict[LeafLayer, str]:
        """The layers to move, each once, and what stands before their parameters' names."""
        found: dict[LeafLayer, str] = {}
        several = list(models) if isinstance(models, list | tuple) else [models]
        for model in several:
            if not isinstance(model, Layer):
                raise TypeError(
                    f"{operation}: got {type(model).__name__}, expected a layer or model, or a list of them; "
                    f"pass the model itself"
                )
            found |= {
                layer: prefix
                for prefix, layer in model.leaves
                if layer.is_trainable and layer.parameters.size and layer not in found
            }
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

    def _slot(self, layer: LeafLayer) -> _Slot:
        """The layer's memory; loaded memory goes to layers in the order in which they come."""
        for slot in self._slots:
            if slot.layer is layer:
                return slot
        parameters = layer.parameters
        slot = next((slot for slot in self._slots if slot.layer is None), _Slot(None))
        for name in self.memory:
            array = slot.arrays.setdefault(name, np.zeros(parameters.size, parameters.dtype))
            if array.shape != (parameters.size,) or array.dtype != parameters.dtype:
                raise ValueError(
                    f"{type(self).__name__}.step: got a loaded state of {array.size} numbers of {array.dtype}, expected "
                    f"{parameters.size} of {parameters.dtype} for a {layer.label}; step the models that the state came "
                    f"from, in their order"
                )
        if slot not in self._slots:
            self._slots.append(slot)
        slot.layer = layer
        return slot

    @abstractmethod
    def _update(
        self, parameters: _core.Parameters, begin: int, end: int, slot: _Slot, weight_decay: float, scale: float
    ) -> None:
        """The native call for elements [begin, end) of the flat buffers."""

    def state_dict(self) -> dict[str, Any]:
        """What the optimiser remembers: "0.steps", "0.m", ... for each layer, in the order of their first steps."""
        state: dict[str, Any] = {}
        for index, slot in enumerate(self._slots):
            state[f"{index}.steps"] = slot.steps
            state.update({f"{index}.{name}": array.copy() for name, array in slot.arrays.items()})
        return state

    def load_state_dict(self, mapping: Mapping[str, Any]) -> None:
        """Go on from a `state_dict()`; its parts go to the layers of the next steps, in their order."""
        count = sum(name.endswith(".steps") for name in mapping)
        expected = {f"{index}.{name}" for index in range(count) for name in ("steps", *self.memory)}
        if set(mapping) != expected:
            raise ValueError(
                f"{type(self).__name__}.load_state_dict: got a mapping that does not fit: missing "
                f"{sorted(expected - set(mapping)) or 'nothing'}, not known {sorted(set(mapping) - expected) or 'nothing'}; "
                f"give the state_dict() of an optimiser of this class and options"
            )
        self._slots = [
            _Slot(
                None,
                int(mapping[f"{index}.steps"]),
                {name: np.array(mapping[f"{index}.{name}"]) for name in self.memory},
            )
            for index in range(count)
        ]

    def __getstate__(self) -> dict[str, Any]:
        """Copies carry the memory, not the layers."""
        slots = [_Slot(None, slot.steps, slot.arrays) for slot in self._slots]
        return {**self.__dict__, "_slots": slots}


class SGD(Optimizer):
    """Stochastic gradient descent; with momentum v' = momentum * v + g, w' = w - lr * v' (nesterov: w - lr * (g +
    momentum * v')), as PyTorch's (Sutskever et al. 2013).

    Args:
        lr: learning rate.
        momentum: from 0 (none) to 1.
        nesterov: whether to look ahead; needs momentum.
        weight_decay: adds weight_decay * w to the gradient.
        no_decay: texts in the names of parameters that are not decayed.
    """

    def __init__(
        self,
        lr: float,
        *,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        no_decay: Sequence[str] = (),
    ) -> None:
        super().__init__(lr, weight_decay, no_decay)
        self.momentum = checks.number("SGD", "momentum", momentum, 0.0, 1.0)
        self.nesterov = checks.flag("SGD", "nesterov", nesterov)
        if self.nesterov and not self.momentum:
            raise ValueError("SGD: got nesterov=True without momentum, expected both; set momentum, such as 0.9")
        self.memory = ("velocity",) if self.momentum else ()

    def _update(
        self, parameters: _core.Parameters, begin: int, end: int, slot: _Slot, weight_decay: float, scale: float
    ) -> None:
        velocity = slot.arrays.get("velocity")
        _core.sgd_step(parameters, begin, end, velocity, self.lr, self.momentum, self.nesterov, weight_decay, scale)


class Adam(Optimizer):
    """Adam (Kingma and Ba 2015): m' = b1 m + (1 - b1) g, v' = b2 v + (1 - b2) g^2,
    w' = w - lr * (m' / (1 - b1^t)) / (sqrt(v' / (1 - b2^t)) + eps).

    Args:
        lr: learning rate.
        betas: (b1, b2), each from 0 to 1, less than 1.
        eps: keeps the division finite.
        weight_decay: adds weight_decay * w to the gradient.
        no_decay: texts in the names of parameters that are not decayed.
    """

    memory = ("m", "v")
    _decoupled = False

    def __init__(
        self,
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        no_decay: Sequence[str] = (),
    ) -> None:
        super().__init__(lr, weight_decay, no_decay)
        name = type(self).__name__
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise TypeError(f"{name}: got betas={betas!r}, expected a pair of numbers; write betas=(0.9, 0.999)")
        below_one = math.nextafter(1.0, 0.0)
        first, second = (checks.number(name, "betas", beta, 0.0, below_one) for beta in betas)
        self.betas = (first, second)
        self.eps = checks.number(name, "eps", eps)

    def _update(
        self, parameters: _core.Parameters, begin: int, end: int, slot: _Slot, weight_decay: float, scale: float
    ) -> None:
        m, v = slot.arrays["m"], slot.arrays["v"]
        numbers = (self.lr, *self.betas, self.eps, weight_decay, self._decoupled, scale)
        _core.adam_step(parameters, begin, end, m, v, slot.steps, *numbers)


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019): first w -= lr * weight_decay * w, then as Adam.

    Arguments as in `Adam`; weight_decay is 0.01 if not given.
    """

    _decoupled = True

    def __init__(
        self,
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        no_decay: Sequence[str] = (),
    ) -> None:
        super().__init__(lr, betas=betas, eps=eps, weight_decay=weight_decay, no_decay=no_decay)
