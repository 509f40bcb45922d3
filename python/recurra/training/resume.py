"""Resuming from a checkpoint: what must match, what is warned about, and restoring all parts or none."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from recurra import _core
from recurra.common import errors, interrupts
from recurra.common.errors import ModelFormatError, ResumeWarning
from recurra.layers.layer import Layer
from recurra.optim import Optimizer
from recurra.saving import registry


class Stateful(Protocol):
    """An object with a saved state: callbacks, metrics, sources of batches."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


@dataclass(frozen=True)
class OptimizerOf:
    """An optimiser's state, by the layers of the model."""

    optimizer: Optimizer
    model: Layer

    def state_dict(self) -> dict[str, Any]:
        """See `Optimizer.state_dict`."""
        return self.optimizer._state_for(self.model)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Assigns the state to the layers at once, as parameters may be replaced before the next step."""
        self.optimizer._load_state_for(state, self.model)


@dataclass(frozen=True)
class Setup:
    """Model and optimiser without their arrays, including what callbacks may change between epochs: which layers are
    trainable, and the optimiser's options."""

    model: Layer
    optimizer: Optimizer

    def description(self) -> dict[str, Any]:
        """Both as plain data."""
        return {"model": registry.describe(self.model), "optimizer": self.optimizer.config()}

    def state_dict(self) -> dict[str, Any]:
        """The current description and flags."""
        return {**self.description(), "trainable": [leaf.trainable for _prefix, leaf in self.model.leaves]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the flags and options."""
        now = self.state_dict()
        if not _is_like(state, now):
            raise ValueError(f"got {state!r:.200}, expected a description like {now!r:.200}")
        options = {name: getattr(self.optimizer, name) for name in now["optimizer"] if name not in ("class", "lr")}
        differing = [name for name in _differ(state["optimizer"], now["optimizer"]) if name in options]
        if differing:
            options |= {name: state["optimizer"][name] for name in differing}
            checked = type(self.optimizer)(1.0, **options)  # the constructor refuses invalid options
            vars(self.optimizer).update({name: getattr(checked, name) for name in differing})
        for (_prefix, leaf), trainable in zip(self.model.leaves, state["trainable"], strict=True):
            leaf.trainable = trainable


#: The entries of a checkpoint and their types.
_KINDS: dict[str, Any] = {
    "settings": dict,
    "setup": dict,
    "circumstances": dict,
    "metrics": list,
    "data": dict,
    "validation": dict | None,
    "state": object,
    "optimizer": dict,
    "callbacks": list,
}


def check(path: str | os.PathLike[str], state: Any, progress: Mapping[str, Any]) -> None:
    """Refuse a state that lacks an entry, or whose progress differs in structure from `progress`."""
    problem = _problem(state, progress)
    if problem is not None:
        refuse(path, problem)


def refuse(path: str | os.PathLike[str], got: str) -> NoReturn:
    """Raise the error for a file with wrong content."""
    raise ModelFormatError(
        f"fit: {os.fspath(path)}: got {got}, expected what BackupAndRestore writes; delete the file, or choose another "
        f"directory"
    )


def _problem(state: Any, progress: Mapping[str, Any]) -> str | None:
    if not isinstance(state, dict):
        return f"a state of type {type(state).__name__}"
    if missing := [name for name in (*_KINDS, *progress) if name not in state]:
        return f"a state without {', '.join(missing)}"
    wrong = [name for name, kind in _KINDS.items() if not isinstance(state[name], kind)]
    wrong += [name for name, like in progress.items() if not _is_like(state[name], like)]
    if wrong:
        return f"{wrong[0]}={state[wrong[0]]!r:.100}"
    if any(not _is_like(column, [0.0] * len(state["epochs"])) for column in state["history"].values()):
        return "a history whose columns are not numbers, one for each epoch"
    if any(type(one) is not int for one in state["epochs"]):
        return f"epochs={state['epochs']!r:.100}"
    return None


def _is_like(value: Any, like: Any) -> bool:
    """Whether `value` has the structure of `like`: the same types, lists of the same length unless `like` is empty,
    ints not negative."""
    if isinstance(like, bool):
        return isinstance(value, bool)
    if isinstance(like, int):
        return type(value) is int and 0 <= value < 1 << 63
    if isinstance(like, float):
        return type(value) in (int, float)
    if isinstance(like, Mapping):
        return (
            isinstance(value, dict)
            and (not like or value.keys() == like.keys())
            and all(_is_like(value[name], one) for name, one in like.items())
        )
    if isinstance(like, list | tuple):
        return (
            isinstance(value, list)
            and (not like or len(value) == len(like))
            and all(_is_like(one, other) for one, other in zip(value, like, strict=False))
        )
    return True


def circumstances(validation: Any, callbacks: Sequence[Any]) -> dict[str, Any]:
    """What may differ in a resumed run, with a warning."""
    options = [(type(one).__name__, one.config()) for one in callbacks]
    return {
        "library version": _core.__version__,
        "instruction set": _core.isa(),
        "validation data": validation,
        "callbacks": [[name, config] for name, config in options if config],
    }


def plain(state: Mapping[str, Any]) -> Any:
    """`state` as JSON would return it."""
    return json.loads(json.dumps(state))


def _differ(own: Mapping[Any, Any], other: Mapping[Any, Any]) -> list[Any]:
    """The names whose values differ, compared as JSON, in which NaN equals NaN."""
    return [
        name
        for name in {**own, **other}  # in this order
        if json.dumps(own.get(name), sort_keys=True) != json.dumps(other.get(name), sort_keys=True)
    ]


def _where_they_differ(own: Any, other: Any) -> tuple[Any, ...]:
    """Only the differing parts of dicts and lists, by key or index, as whole models are too long for a message. Of
    lists of different lengths, what lies between their common beginning and end."""
    if isinstance(own, list) and isinstance(other, list):
        if len(own) != len(other):
            first = _common(own, other)
            last = _common(own[first:][::-1], other[first:][::-1])
            return tuple(dict(enumerate(one[first : len(one) - last], first)) for one in (own, other))
        own, other = dict(enumerate(own)), dict(enumerate(other))
    if not isinstance(own, dict) or not isinstance(other, dict):
        return own, other
    if own.get("class") != other.get("class") or own.get("type") != other.get("type"):  # options of another thing
        return own, other
    differ = _differ(own, other)
    pairs = {name: _where_they_differ(own[name], other[name]) for name in differ if name in own and name in other}
    return tuple(
        {name: pairs[name][side] if name in pairs else one[name] for name in differ if name in one}
        for side, one in enumerate((own, other))
    )


def _common(own: Sequence[Any], other: Sequence[Any]) -> int:
    """How many items from the first are the same."""
    pairs = [
        (json.dumps(one, sort_keys=True), json.dumps(two, sort_keys=True)) for one, two in zip(own, other, strict=False)
    ]
    return next((index for index, (one, two) in enumerate(pairs) if one != two), len(pairs))


def compare(path: str | os.PathLike[str], own: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    """Refuse to resume a run whose fingerprint differs."""
    for name in _differ(own, other):
        got, expected = _where_they_differ(own.get(name), other.get(name))
        raise ValueError(
            f"fit: got {name}={got!r}, expected {expected!r}, as in the run of {os.fspath(path)}"
            f"; give the same data and arguments, or another directory"
        )


def warn(path: str | os.PathLike[str], own: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    """Warn of differing circumstances."""
    for name in _differ(own, other):
        got, expected = _where_they_differ(own.get(name), other.get(name))
        errors.warn(
            f"fit: got {name} {got!r}, expected {expected!r}, as in the run of {os.fspath(path)}: "
            f"the run resumes, but its results may differ from those of an uninterrupted run",
            ResumeWarning,
        )


def load(path: str | os.PathLike[str], what: str, one: Stateful, state: Any) -> None:
    """Restore one part; an error names the part that refused its state."""
    try:
        one.load_state_dict(state)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ModelFormatError(
            f"fit: {os.fspath(path)}: got a state that {what} refuses ({type(error).__name__}: {error}), expected what "
            f"its state_dict() returned; delete the file, or choose another directory"
        ) from error


@contextmanager
def all_or_nothing(model: Layer, optimizer: Optimizer, parts: Sequence[Stateful]) -> Iterator[None]:
    """Restore model, optimiser and the other parts if the block fails."""
    weights, memory = model.state_dict(), dict(vars(optimizer))
    states = [copy.deepcopy(one.state_dict()) for one in parts]
    try:
        yield
    except BaseException:
        with interrupts.deferred():
            model.load_state_dict(weights)
            vars(optimizer).clear()
            vars(optimizer).update(memory)
            for one, state in zip(parts, states, strict=True):
                with suppress(Exception):  # the part that has failed may fail again
                    one.load_state_dict(state)
        raise
