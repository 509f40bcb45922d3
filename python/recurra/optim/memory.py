"""An optimiser's state for each layer, and how a loaded state finds its layers again."""

from __future__ import annotations

import weakref
from collections import Counter, defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from recurra import _core
from recurra.common import checks
from recurra.common.typing import Array
from recurra.layers.leaf import LeafLayer


@dataclass(eq=False, slots=True)  # not frozen: steps create slots, and a frozen class is three times as slow to create
class Slot:
    """The optimiser state of one layer: the steps taken, and flat arrays shaped like its parameters.

    A layer that has always been frozen has no arrays yet. The layer is a weak reference; when it dies, the arrays are
    freed. A slot is replaced, never modified.

    Attributes: layer, None after loading until a step claims the slot; digest, of the layer's parameters when the
    loaded state was taken.
    """

    layer: weakref.ref[LeafLayer] | None
    steps: int = 0
    arrays: dict[str, Array] = field(default_factory=dict)
    digest: str = ""

    def given_to(self, layer: LeafLayer) -> Slot:
        """A copy that belongs to `layer`."""
        arrays = self.arrays
        return replace(self, layer=weakref.ref(layer, lambda _: arrays.clear()))

    @property
    def is_of_the_dead(self) -> bool:
        """Whether the slot's layer has been deleted."""
        return self.layer is not None and self.layer() is None

    def known_by(self) -> str:
        """The digest of the layer's parameters: now or, for a slot without a layer, when the state was taken."""
        layer = self.layer() if self.layer is not None else None
        return _digest(layer.parameters) if layer is not None else self.digest

    def fits(self, layer: LeafLayer) -> bool:
        """Whether the arrays have the size and dtype of the layer's parameters."""
        size, dtype = layer.parameters.size, layer.parameters.dtype
        return all(array.shape == (size,) and array.dtype == dtype for array in self.arrays.values())

    def is_like(self, other: Slot) -> bool:
        """Whether both slots seem to be of the same layer: the same arrays after as many steps, or equal parameters."""
        return (bool(self.arrays) and self.remembers_as(other)) or self.known_by() == other.known_by()

    def remembers_as(self, other: Slot) -> bool:
        """Whether both slots have the same arrays after as many steps."""
        names, arrays = self.arrays.keys(), other.arrays
        return (self.steps, names) == (other.steps, arrays.keys()) and all(
            np.array_equal(self.arrays[name], arrays[name], equal_nan=True) for name in names
        )

    def checked(self, operation: str, layer: LeafLayer) -> Slot:
        """The slot itself; raises ValueError if its arrays do not fit `layer`."""
        if not self.fits(layer):
            array, parameters = next(iter(self.arrays.values())), layer.parameters
            raise ValueError(
                f"{operation}: got a loaded state of {array.size} numbers of {array.dtype}, expected {parameters.size} "
                f"of {parameters.dtype} for a {layer.label}; give the models that the state came from, in the same "
                "order"
            )
        return self


class Memory:
    """An optimiser's slots, in the order in which their layers were first stepped. An optimiser replaces it as a whole.

    Args:
        slots: the slots; loaded ones may still wait for their layers.
        lost: layers that had a slot before the state was loaded, and so may own a waiting slot; other layers without a
            slot start with a fresh one. None: any layer may own a waiting slot, and is refused if none matches it.
    """

    def __init__(self, slots: Sequence[Slot] = (), lost: weakref.WeakSet[LeafLayer] | None = None) -> None:
        self._slots = [slot for slot in slots if not slot.is_of_the_dead]
        self._lost = lost
        self._places: dict[
            int, int
        ] = {}  # of layers at work, by id(): a slot's own reference says whether it is that layer

    def claim(self, operation: str, names: Sequence[str], layers: Sequence[LeafLayer]) -> Memory:
        """A copy in which each of `layers` has a slot, and trainable layers have the arrays `names`.

        Frozen layers have a slot too, so that the order does not depend on when they are unfrozen.
        """
        if self._knows(layers, len(names)):
            return self._twin()
        made = Memory(self._slots, self._lost)
        slots = made._slots
        places: dict[LeafLayer, int] = {}
        for place, slot in enumerate(slots):
            layer = slot.layer() if slot.layer is not None else None
            if layer is not None:
                places[layer] = place
        waiting = {place: slot for place, slot in enumerate(slots) if slot.layer is None}
        twins = _Twins(waiting, [layer for layer in layers if layer not in places])
        for layer in layers:
            if layer not in places:
                found = _place_of(operation, layer, twins, waiting, self._lost) if waiting else None
                place = len(slots) if found is None else found
                slot = waiting.pop(place, Slot(None))
                slots[place : place + 1] = [slot.checked(operation, layer).given_to(layer)]
                places[layer] = place
            if layer.is_trainable and len(slots[places[layer]].arrays) < len(names):
                size, dtype = layer.parameters.size, layer.parameters.dtype
                fresh = Slot(None, slots[places[layer]].steps, {name: np.zeros(size, dtype) for name in names})
                slots[places[layer]] = fresh.given_to(layer)
        made._places = {id(layer): place for layer, place in places.items()}
        return made

    def _knows(self, layers: Sequence[LeafLayer], arrays: int) -> bool:
        """Whether all `layers` have complete slots, as at every step but the first."""
        slots, places = self._slots, self._places
        for layer in layers:
            place = places.get(id(layer))
            if place is None:
                return False
            slot = slots[place]
            if slot.layer is None or slot.layer() is not layer or (len(slot.arrays) < arrays and layer.is_trainable):
                return False
        return True

    def _twin(self) -> Memory:
        """A shallow copy, whose slots can be replaced independently."""
        twin = object.__new__(Memory)
        twin._slots, twin._lost, twin._places = self._slots.copy(), self._lost, self._places
        return twin

    def stepped(self, layer: LeafLayer) -> Slot:
        """Count one more step in the slot of a claimed layer; returns the new slot."""
        place = self._places[id(layer)]
        old = self._slots[place]
        self._slots[place] = slot = Slot(old.layer, old.steps + 1, old.arrays)
        return slot

    def slot_of(self, layer: LeafLayer) -> Slot:
        """The slot of `layer`, which must have one."""
        return next(slot for slot in self._slots if slot.layer is not None and slot.layer() is layer)

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def layers(self) -> list[LeafLayer]:
        """The living layers that have a slot."""
        found = [slot.layer() for slot in self._slots if slot.layer is not None]
        return [layer for layer in found if layer is not None]

    def places_of(self, layers: Sequence[LeafLayer]) -> list[int | None]:
        """The index of each layer's slot in `state_dict`; None for a layer without a slot."""
        alive = [slot for slot in self._slots if not slot.is_of_the_dead]
        places = {slot.layer(): place for place, slot in enumerate(alive) if slot.layer is not None}
        return [places.get(layer) for layer in layers]

    def state_dict(self) -> dict[str, Any]:
        """The layers' part of an optimiser's `state_dict`."""
        state: dict[str, Any] = {}
        for index, slot in enumerate(slot for slot in self._slots if not slot.is_of_the_dead):
            state[f"{index}.steps"], state[f"{index}.parameters"] = slot.steps, slot.known_by()
            if slot.steps:
                state.update({f"{index}.{name}": array.copy() for name, array in slot.arrays.items()})
        return state

    @classmethod
    def loaded(cls, operation: str, names: Sequence[str], mapping: Mapping[str, Any], others: set[str]) -> Memory:
        """The slots in an optimiser's `state_dict()`, whose remaining keys must be `others`."""
        count = sum(str(name).endswith(".steps") for name in mapping)
        steps = [
            checks.integer(operation, name, mapping[name], 0, 2**63 - 1) if name in mapping else 0
            for name in (f"{index}.steps" for index in range(count))
        ]
        expected = set(others)
        for index, taken in enumerate(steps):  # no arrays before a layer's first step
            expected |= {f"{index}.{name}" for name in ("steps", "parameters", *(names if taken else ()))}
        if set(mapping) != expected:
            raise ValueError(
                f"{operation}: got a mapping that does not fit: missing "
                f"{sorted(expected - set(mapping)) or 'nothing'}, unknown "
                f"{sorted(set(mapping) - expected) or 'nothing'}, expected the state of an optimiser of this class and "
                "options; give its state_dict()"
            )
        slots = []
        for index, taken in enumerate(steps):
            arrays = {name: np.array(mapping[f"{index}.{name}"]) for name in (names if taken else ())}
            kinds = {(array.shape, array.dtype.str) for array in arrays.values()}
            if len(kinds) > 1 or any(a.ndim != 1 or a.dtype not in (np.float32, np.float64) for a in arrays.values()):
                got = ", ".join(f"{index}.{name} of shape {a.shape} and {a.dtype}" for name, a in arrays.items())
                raise ValueError(
                    f"{operation}: got {got}, expected flat arrays of float32 or float64 with as many numbers as their "
                    f"layer has; give its state_dict()"
                )
            slots.append(Slot(None, taken, arrays, str(mapping[f"{index}.parameters"])))
        return cls(slots)

    def given_to(self, operation: str, layers: Sequence[LeafLayer]) -> Memory:
        """A copy of this loaded memory with its slots assigned to `layers`, in order."""
        if len(layers) != len(self._slots):
            raise ValueError(
                f"{operation}: got models of {len(layers)} layers with parameters for a state of {len(self._slots)}, "
                "expected the same number; give the models that the state came from, in the same order"
            )
        pairs = zip(self._slots, layers, strict=True)
        return Memory([slot.checked(operation, layer).given_to(layer) for slot, layer in pairs])

    def given_back(
        self, operation: str, layers: Sequence[LeafLayer], places: Sequence[int | None], before: Memory
    ) -> Memory:
        """A copy of this loaded memory in which `layers` have the slots at `places`, and the other layers of the memory
        `before` get slots with matching content. The remaining slots wait for their layers; layers that neither memory
        knows start with a fresh slot.

        Raises:
            ValueError: a slot does not fit its layer.
        """
        slots = list(self._slots)
        for layer, place in zip(layers, places, strict=True):
            if place is not None:
                slots[place] = slots[place].checked(operation, layer).given_to(layer)
        lost: weakref.WeakSet[LeafLayer] = weakref.WeakSet()
        for layer in before.layers:
            if layer in layers:
                continue
            old = before.slot_of(layer)
            for place, slot in enumerate(slots):
                if slot.layer is None and slot.fits(layer) and slot.is_like(old):
                    slots[place] = slot.given_to(layer)
                    break
            else:
                lost.add(layer)
        return Memory(slots, lost)

    def copied(self) -> Memory:
        """A deep copy for the same layers."""
        copies = []
        for slot in self._slots:
            layer = slot.layer() if slot.layer is not None else None
            copy = Slot(None, slot.steps, {name: array.copy() for name, array in slot.arrays.items()}, slot.digest)
            copies.append(copy if layer is None else copy.given_to(layer))
        return Memory(copies, self._lost)

    def without_layers(self) -> Memory:
        """A deep copy whose slots wait for layers with the same parameters."""
        return Memory(
            [
                Slot(None, slot.steps, {name: array.copy() for name, array in slot.arrays.items()}, slot.known_by())
                for slot in self._slots
                if not slot.is_of_the_dead
            ]
        )


class _Twins:
    """Matches waiting slots to layers by their parameters' digests.

    Slots with the same digest go to the layers with that digest, in order. Fewer layers than such slots are refused,
    unless the slots are identical.
    """

    def __init__(self, waiting: Mapping[int, Slot], layers: Sequence[LeafLayer]) -> None:
        self._waiting = waiting
        self._digests = {layer: _digest(layer.parameters) for layer in layers} if waiting else {}
        self._layers = Counter(self._digests.values())
        self._places: dict[str, deque[int]] = defaultdict(deque)
        for place, slot in waiting.items():
            self._places[slot.digest].append(place)

    def take(self, operation: str, layer: LeafLayer) -> int | None:
        """The place of the layer's slot; None if no waiting slot has the digest of its parameters."""
        digest = self._digests[layer]
        places, layers = self._places[digest], self._layers[digest]
        self._layers[digest] -= 1
        if len(places) > layers:
            first, *others = (self._waiting[place] for place in places)
            if not all(first.remembers_as(one) for one in others):
                raise ValueError(
                    f"{operation}: got a {layer.label} whose parameters are those of {len(places)} layers in the "
                    "loaded state, expected those of one, as it is not clear which of their states to use; name the "
                    "models that the state belongs to: load_state_dict(state, models=...)"
                )
        return places.popleft() if places else None


def _place_of(
    operation: str,
    layer: LeafLayer,
    twins: _Twins,
    waiting: Mapping[int, Slot],
    lost: weakref.WeakSet[LeafLayer] | None,
) -> int | None:
    """The place of the waiting slot for `layer`: the first with the same parameters. None if it gets a fresh slot."""
    place = twins.take(operation, layer)
    if place is not None:
        return place
    if lost is not None:
        could_be = [slot for slot in waiting.values() if slot.arrays and slot.fits(layer)]
        if layer not in lost or not could_be:
            return None
    if all(not slot.fits(layer) for slot in waiting.values()):
        next(iter(waiting.values())).checked(operation, layer)  # raises a more specific error
    raise ValueError(
        f"{operation}: got a {layer.label} whose parameters are not those of any unclaimed layer in the loaded state, "
        f"expected the parameters from when the state was taken, so that no layer gets the state of another; load them "
        f"before this step, or name the models that the state belongs to: load_state_dict(state, models=...)"
    )


def _digest(parameters: _core.Parameters) -> str:
    """A digest of the parameters' values."""
    from hashlib import blake2b  # here, to keep `import recurra` fast

    return blake2b(parameters.values.data, digest_size=16).hexdigest()
