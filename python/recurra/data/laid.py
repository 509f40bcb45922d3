"""Concatenated sequences, and batches of their pieces with carried state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from recurra.common import checks
from recurra.common.structure import ALONE, Structure
from recurra.common.typing import Array, Rows
from recurra.data.batch import Batch
from recurra.data.fingerprint import Fingerprint
from recurra.data.rows import is_list


class Laid(NamedTuple):
    """Sequences laid end to end: those of each input and of each output, in the structures `forms`; a weight at each
    step; bounds, the start of each sequence and the end of the last."""

    x: list[Array]
    y: list[Array]
    weight: Array | None
    bounds: Array
    forms: tuple[Structure, Structure]

    @classmethod
    def read(cls, operation: str, names: tuple[str, str], x: Any, y: Any, weight: Rows | None) -> Laid:
        """From one sequence, or a list of several, for each input and output; `names` are those of x and y in
        messages."""
        forms = (_structure(x), _structure(y))
        given: list[tuple[str, Any]] = [
            (form.label(name, index), one)
            for name, form, values in zip(names, forms, (x, y), strict=True)
            for index, one in enumerate(form.spread(operation, name, values))
        ]
        if not given:
            raise ValueError(f"{operation}: got no {names[0]} and no {names[1]}, expected some; give some data")
        inputs = forms[0].count or 1
        if weight is not None:
            given.append(("sample_weight", weight))
        first, several = given[0][0], is_list(given[0][1])
        parts: list[list[Array]] = []
        for name, values in given:
            if is_list(values) != several:
                forms_of = ("a list", "one array") if several else ("one array", "a list")
                raise ValueError(
                    f"{operation}: got {forms_of[0]} as {first} but {forms_of[1]} as {name}, expected the same form; "
                    f"give {forms_of[0]} as {name} too"
                )
            own = _parts(operation, name, values, several)
            _check_lengths(operation, name, own, first, parts[0] if parts else own, several)
            parts.append(own)
        flat = [own[0] if len(own) == 1 else np.concatenate(own) for own in parts]
        for (name, _values), one in zip(given[:inputs], flat, strict=False):
            if one.ndim > 2 or (one.ndim == 1 and one.dtype.kind not in "iu"):
                raise ValueError(
                    f"{operation}: got {name} of shape {one.shape} and {one.dtype}, expected (T, features), or "
                    f"integers (T,) for tokens; write {name}[:, None] if every step is a single number"
                )
        own_weight = None if weight is None else flat.pop()
        if own_weight is not None and own_weight.ndim != 1:
            raise ValueError(
                f"{operation}: got sample_weight of shape {own_weight.shape}, expected (T,); give a number for each "
                "step"
            )
        bounds = np.cumsum([0, *map(len, parts[0])])
        return cls(flat[:inputs], flat[inputs:], own_weight, bounds, forms)

    @property
    def steps(self) -> int:
        """Of all sequences together."""
        return int(self.bounds[-1])

    @property
    def fingerprint(self) -> str:
        """A digest of the content."""
        x, y = (form.join(parts) for form, parts in zip(self.forms, (self.x, self.y), strict=True))
        return Fingerprint().add((x, y, self.weight, self.bounds)).text

    def batches(self, begins: Array, counts: Array, steps: int, order: Array | None = None) -> Iterator[Batch]:
        """Batches of `steps` steps; over all of them, row n reads the steps begins[n] ... begins[n] + counts[n] - 1, of
        `order` if given."""
        starts = np.zeros(self.steps + 1, bool)
        starts[self.bounds] = True
        inputs, outputs = self.forms
        for at in range(0, int(counts.max()), steps):
            lengths = np.clip(counts - at, 0, steps)
            step = np.arange(lengths.max())
            valid = step < lengths[:, None]
            place = np.where(valid, begins[:, None] + at + step, 0)
            if order is not None:
                place = order[place]
            reset = starts[place] & valid
            if not at:
                reset[:, 0] = False  # the initial state is zero anyway
            yield Batch(
                inputs.join([_pick(one, place, valid) for one in self.x]),
                outputs.join([_pick(one, place, valid) for one in self.y]),
                None if valid.all() else _each(inputs, lengths),
                None if self.weight is None else _each(outputs, _pick(self.weight, place, valid)),
                _each(inputs, reset) if reset.any() else None,
                at > 0,
            )


def _structure(values: Any) -> Structure:
    """A tuple or a dict of the arrays or lists of several inputs or outputs, or a single one."""
    return Structure.of(values) if isinstance(values, tuple | Mapping) else ALONE


def _each(form: Structure, value: Array) -> Any:
    return form.join([value] * (form.count or 1))


def _parts(operation: str, name: str, values: Any, several: bool) -> list[Array]:
    """The arrays of one argument, which may differ only in their first axis."""
    labels = [f"{name}[{index}]" for index in range(len(values))] if several else [name]
    items = [
        checks.numeric(operation, label, value)
        for label, value in zip(labels, values if several else [values], strict=True)
    ]
    if not items:
        raise ValueError(f"{operation}: got an empty list as {name}, expected at least one sequence; give some data")
    first = next((item for item in items if item.ndim and len(item)), items[0])
    for label, item in zip(labels, items, strict=True):
        if item.ndim == 0:
            raise ValueError(
                f"{operation}: got {label} of shape (), expected (T, ...); write np.asarray({name}) if it is a "
                f"single sequence"
            )
        if len(item) and (item.shape[1:] != first.shape[1:] or item.dtype.kind != first.dtype.kind):
            raise ValueError(
                f"{operation}: got {label} of shape {item.shape} and {item.dtype}, expected (T, ...) with "
                f"{first.shape[1:]} at each step and numbers like {first.dtype}, as the others have; convert it"
            )
    return [item if len(item) else first[:0] for item in items]  # an empty list has no shape of its own


def _check_lengths(
    operation: str, name: str, items: list[Array], like_name: str, like: list[Array], several: bool
) -> None:
    """Refuse items whose lengths differ from those of x, called `like_name`."""
    if len(items) != len(like):
        raise ValueError(
            f"{operation}: got {len(items)} sequences as {name}, expected {len(like)}, as {like_name} has; give one "
            f"for each"
        )
    for index, (item, other) in enumerate(zip(items, like, strict=True)):
        if len(item) != len(other):
            place = f"[{index}]" if several else ""
            raise ValueError(
                f"{operation}: got {name}{place} of {len(item)} steps, expected {len(other)}, as {like_name}{place} "
                f"has; give a value for each step"
            )


def _pick(flat: Array, place: Array, valid: Array) -> Array:
    """The steps at `place`; 0 at padding."""
    picked = flat[place]
    picked[~valid] = 0
    return picked
