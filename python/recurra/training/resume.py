"""Going on from a checkpoint: what must be the same, what is warned of, and all of it or nothing."""

from __future__ import annotations

import copy
import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Protocol

from recurra import _core, interrupts
from recurra.errors import ModelFormatError, ResumeWarning
from recurra.layer import Layer
from recurra.optim import Optimizer


class Stateful(Protocol):
    """What is saved and restored: callbacks, metrics, sources of batches."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


#: What a checkpoint holds, and of what kind.
_KINDS: dict[str, type | tuple[type, ...]] = {
    "settings": dict,
    "circumstances": dict,
    "seed": int,
    "history": dict,
    "epochs": list,
    "position": list,
    "step": int,
    "ended": bool,
    "mean": list,
    "running": dict,
    "metrics": list,
    "source": dict,
    "validation": (dict, type(None)),
    "state": object,
    "optimizer": dict,
    "callbacks": list,
}


def check(path: str | os.PathLike[str], state: Any) -> None:
    """Refuse what lacks a part."""
    problem = None
    if not isinstance(state, dict):
        problem = f"a state of type {type(state).__name__}"
    elif missing := [name for name in _KINDS if name not in state]:
        problem = f"a state without {', '.join(missing)}"
    elif wrong := [name for name, kind in _KINDS.items() if not isinstance(state[name], kind)]:
        problem = f"{wrong[0]}={state[wrong[0]]!r:.100}"
    elif len(state["position"]) != 3 or any(
        type(one) is not int or one < 0 for one in (*state["position"], state["step"], *state["epochs"])
    ):
        problem = f"position={state['position']!r:.100}, step={state['step']}, epochs={state['epochs']!r:.100}"
    elif any(not isinstance(one, list) or len(one) != len(state["epochs"]) for one in state["history"].values()):
        problem = "a history whose columns are not as long as its epochs"
    if problem is not None:
        raise ModelFormatError(
            f"fit: {os.fspath(path)}: got {problem}, expected what BackupAndRestore writes; delete the file, or choose another "
            f"directory"
        )


def circumstances(validation: Any, callbacks: Sequence[Any]) -> dict[str, Any]:
    """What may differ between runs that go on, but not without a word."""
    options = [(type(one).__name__, one.config()) for one in callbacks]
    return {
        "library version": _core.__version__,
        "instruction set": _core.isa(),
        "validation data": validation,
        "callbacks": [[name, config] for name, config in options if config],
    }


def plain(state: Mapping[str, Any]) -> Any:
    """As JSON gives it back."""
    return json.loads(json.dumps(state))


def _differ(own: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The names of what is not the same; as text, in which NaN is the same as NaN."""
    return [
        name
        for name in {**own, **other}  # in this order
        if json.dumps(own.get(name), sort_keys=True) != json.dumps(other.get(name), sort_keys=True)
    ]


def compare(path: str | os.PathLike[str], own: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    """Refuse a run that differs in what all runs that go on must have in common."""
    for name in _differ(own, other):
        raise ValueError(
            f"fit: got {name}={own.get(name)!r}, expected {other.get(name)!r}, as in the run that {os.fspath(path)} "
            f"is of; give the same data and arguments, or another directory"
        )


def warn(path: str | os.PathLike[str], own: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    """Say what else differs."""
    for name in _differ(own, other):
        warnings.warn(
            f"fit: got {name} {own.get(name)!r}, expected {other.get(name)!r}, as in the run that {os.fspath(path)} is "
            f"of: the run goes on, but may not have the bits of one without a break",
            ResumeWarning,
            stacklevel=2,
        )


def load(what: str, one: Stateful, state: Any) -> None:
    """One part, with an error that says which if it does not take the state."""
    try:
        one.load_state_dict(state)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ModelFormatError(
            f"got a state that {what} does not take ({type(error).__name__}: {error}), expected what its state_dict() "
            f"returned; delete the file, or choose another directory"
        ) from error


@contextmanager
def all_or_nothing(model: Layer, optimizer: Optimizer, parts: Sequence[Stateful]) -> Iterator[None]:
    """Put everything back as it was if the block fails."""
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
                with suppress(Exception):  # of the part that has failed already
                    one.load_state_dict(state)
        raise
