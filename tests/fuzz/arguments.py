"""Fuzzes the arguments of every public callable: only the documented exceptions may come out, and nothing may crash or
hang.

python tests/fuzz/arguments.py --seconds 600
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import calls
import harness
import numpy as np
import values

import recurra as rc

#: What any call may raise for arguments that are wrong; MemoryError for sizes that no machine has.
ALLOWED = (ValueError, TypeError, MemoryError, OSError, FloatingPointError, rc.NonFiniteError)

#: Beside them: names that are not there, in mappings.
BY_NAME = {"params": (KeyError,), "grads": (KeyError,), "buffers": (KeyError,)}


def case(rng: np.random.Generator, report: Callable[[str], None]) -> str | None:
    """A call that would work, with some of its arguments replaced."""
    name = calls.NAMES[rng.integers(len(calls.NAMES))]
    call = calls.make(name, rng)
    arguments = dict(call.arguments)
    if call.pure and rng.random() < 0.3:
        return _elsewhere(name, call, rng, report)
    for _ in range(rng.integers(1, 3) if rng.random() < 0.9 else 0):
        _replace(arguments, rng)
    report(f"{name}({', '.join(f'{key}={_shown(value)}' for key, value in arguments.items())})")
    try:
        result = call.function(**arguments)
        if call.then is not None:
            call.then(result)
    except BaseException as error:  # noqa: BLE001 - whatever comes out is looked at
        return harness.unexpected(error, (*ALLOWED, *BY_NAME.get(name.rpartition(".")[2], ())))
    return None


def _elsewhere(name: str, call: calls.Call, rng: np.random.Generator, report: Callable[[str], None]) -> str | None:
    """The same call with the same arrays laid out otherwise in memory: the same bits, or a dtype that is refused."""
    moved = {key: _moved(value, rng) for key, value in call.arguments.items()}
    report(f"{name} of arrays laid out otherwise: {', '.join(f'{key}={_laid(value)}' for key, value in moved.items())}")
    expected = _arrays(call.function(**call.arguments))
    try:
        found = _arrays(call.function(**moved))
    except BaseException as error:  # noqa: BLE001 - whatever comes out is looked at
        return harness.unexpected(error, (TypeError,))
    same = len(found) == len(expected) and all(
        one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
        for one, other in zip(found, expected, strict=True)
    )
    return None if same else "another result"


def _moved(value: Any, rng: np.random.Generator) -> Any:
    if isinstance(value, np.ndarray):
        return values.layout(rng, value, same=True)
    return type(value)(_moved(one, rng) for one in value) if type(value) in (list, tuple) else value


def _laid(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"<{value.shape} {value.dtype} strides {value.strides} {type(value).__name__}>"
    return (
        f"{type(value).__name__}[{', '.join(map(_laid, value))}]" if isinstance(value, list | tuple) else _shown(value)
    )


def _arrays(value: Any) -> list[values.Array]:
    """All numbers of a result."""
    if isinstance(value, list | tuple):
        return [array for one in value for array in _arrays(one)]
    if isinstance(value, rc.losses.LossValue):
        return _arrays((value.sum, value.count, value.gradient))
    if isinstance(value, rc.Tape):
        return _arrays((value.y, value.state, value.backward(np.ones_like(value.y))))
    if hasattr(value, "scores"):  # hypotheses
        return _arrays((value.tokens, value.lengths, value.scores))
    return [] if value is None else [np.asarray(value)]


def _replace(arguments: dict[str, Any], rng: np.random.Generator) -> None:
    """One of them by something else, often something near."""
    if not arguments or rng.random() < 0.02:
        arguments["unknown"] = 1
        return
    key = list(arguments)[rng.integers(len(arguments))]
    value = arguments[key]
    if isinstance(value, np.ndarray) and value.size < 10**6 and rng.random() < 0.7:
        arguments[key] = _near(value, rng)
    elif isinstance(value, int | float) and rng.random() < 0.6:
        arguments[key] = values.number(rng)
    elif isinstance(value, list | tuple) and value and rng.random() < 0.6:
        changed = list(value)
        place = rng.integers(len(changed))
        inner = changed[place]
        changed[place] = _near(inner, rng) if isinstance(inner, np.ndarray) else values.anything(rng)
        arguments[key] = type(value)(changed) if type(value) in (list, tuple) else changed
    elif rng.random() < 0.05:
        del arguments[key]
    else:
        arguments[key] = values.anything(rng)


def _near(value: values.Array, rng: np.random.Generator) -> Any:
    """The same array laid out otherwise, of another dtype or shape, or with other elements."""
    kind = rng.integers(8)
    if kind == 0:
        return values.layout(rng, value)
    if kind == 1:
        return values.spoiled(rng, value)
    if kind == 2 and value.dtype.kind in "biuf":
        with np.errstate(all="ignore"):
            return value.astype(
                ["?", "b", "B", "h", "H", "i", "q", "Q", "e", "f", "d", "g", "F", ">f4", ">i8", "O"][rng.integers(16)]
            )
    if kind == 3 and value.ndim:
        axis = int(rng.integers(value.ndim))
        size = int(values.SIZES[rng.integers(len(values.SIZES))])
        return np.resize(value, (*value.shape[:axis], size, *value.shape[axis + 1 :]))
    if kind == 4:
        return value[None] if rng.random() < 0.5 or not value.ndim else value[0] if len(value) else value[..., None]
    if kind == 5:
        return value.tolist()
    if kind == 6 and value.ndim > 1:  # lengths are looked through one by one, however many
        return values.huge(rng, value)
    return values.anything(rng)


def _shown(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"<{value.shape} {value.dtype}>"
    try:
        return repr(value)[:80]
    except Exception:  # noqa: BLE001 - whatever the value's own repr raises
        return f"<{type(value).__name__}>"


if __name__ == "__main__":
    sys.exit(harness.main(__file__, case, memory=8 << 30))
