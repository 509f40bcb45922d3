"""Argument checks. Each returns the value in a plain form, fit for a configuration or the core."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import math
import numbers
import operator
import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from recurra.common.typing import Array

#: The largest count or size that an argument may ask for.
LARGEST = 2**31 - 1


def integer(operation: str, name: str, value: Any, minimum: int = 1, maximum: int = LARGEST) -> int:
    """`value` as an int from `minimum` to `maximum`."""
    try:
        result = operator.index(value)
    except TypeError:
        raise TypeError(
            f"{operation}: got {name}={value!r} of type {type(value).__name__}, expected an integer; "
            f"{_written(name, value, int)}"
        ) from None
    if isinstance(value, bool) or not minimum <= result <= maximum:
        raise ValueError(
            f"{operation}: got {name}={value!r}, expected an integer from {minimum} to {maximum}; change {name}"
        )
    return result


def _written(name: str, value: Any, form: Callable[[Any], Any]) -> str:
    """How to mend a `value` that is right but for its type."""
    same = None
    with contextlib.suppress(Exception):  # the value's own conversion may raise anything
        same = form(float(value)) if form(float(value)) == float(value) else None
    return f"write {name}={same!r}" if same is not None and name.isidentifier() else f"change {name}"


def in_code(label: str) -> str:
    """The variable in a message's label: x of "a row of x"."""
    return label.rsplit(" ", 1)[-1]


def number(operation: str, name: str, value: Any, low: float = 0.0, high: float = math.inf) -> float:
    """`value` as a finite float with low <= value <= high."""
    if type(value) is float and low <= value <= high and value < math.inf:  # at once: small calls feel what follows
        return value
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(
            f"{operation}: got {name}={value!r} of type {type(value).__name__}, expected a number; "
            f"{_written(name, value, float)}"
        )
    try:
        result = float(value)
    except OverflowError:
        result = math.inf
    if not (math.isfinite(result) and low <= result <= high):
        bounds = f"at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
        raise ValueError(f"{operation}: got {name}={value!r}, expected a finite number {bounds}; change {name}")
    return result


def positive(operation: str, name: str, value: Any) -> float:
    """`value` as a finite float above 0."""
    result = number(operation, name, value)
    if not result > 0.0:
        raise ValueError(f"{operation}: got {name}={value!r}, expected a number above 0; change {name}")
    return result


def chance(operation: str, name: str, value: Any) -> float:
    """`value` as a probability of dropping something: 0 <= value < 1."""
    result = number(operation, name, value, 0.0, 1.0)
    if result == 1.0:
        raise ValueError(
            f"{operation}: got {name}={value!r}, expected 0 <= {name} < 1, as 1 would drop everything; lower it"
        )
    return result


def flag(operation: str, name: str, value: Any) -> bool:
    """`value` as a bool. Nothing else passes, so that a misplaced positional argument is found."""
    if not isinstance(value, (bool, np.bool_)):  # a union type would be built on every call
        raise TypeError(f"{operation}: got {name}={value!r}, expected True or False; pass {name} by keyword")
    return bool(value)


def choice(operation: str, name: str, value: Any, allowed: tuple[Any, ...]) -> Any:
    """`value`, one of `allowed`."""
    if not any(type(value) is type(one) and value == one for one in allowed):
        words = ", ".join(map(repr, allowed))
        raise ValueError(f"{operation}: got {name}={value!r}, expected one of {words}; change {name}")
    return value


def needs_no_arguments(cls: type) -> bool:
    """Whether `cls()` makes an object."""
    arguments = inspect.signature(cls).parameters.values()
    return all(a.default is not a.empty or a.kind in (a.VAR_POSITIONAL, a.VAR_KEYWORD) for a in arguments)


def kind(operation: str, name: str, value: Any, expected: type, package: str) -> None:
    """Refuse a `value` that is not an instance of `expected`; `package` exports the classes to name in the message."""
    if isinstance(value, expected):
        return
    if isinstance(value, type) and issubclass(value, expected) and not inspect.isabstract(value):
        raise TypeError(
            f"{operation}: got {name}=the class {value.__name__}, expected an instance of it; write "
            f"{value.__name__}({'' if needs_no_arguments(value) else '...'})"
        )
    home = importlib.import_module(package)
    classes = {one: getattr(home, one) for one in home.__all__}
    there = [one for one, found in classes.items() if isinstance(found, type) and issubclass(found, expected)]
    there = [one for one in there if classes[one] is not expected] or there
    got = f"the class {value.__name__}" if isinstance(value, type) else repr(value)
    hint = "make one" if there == [expected.__name__] else f"give one of {package}: {', '.join(there)}"
    raise TypeError(f"{operation}: got {name}={got}, expected an instance of {expected.__name__}; {hint}")


def path(operation: str, name: str, value: Any) -> str:
    """`value`, a str or an `os.PathLike`, as a str."""
    result = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(result, str) or not result:
        raise TypeError(f"{operation}: got {name}={value!r}, expected a path; write {name}='runs/name'")
    return result


def array(operation: str, name: str, value: Any) -> Array:
    """`value` as an array, whatever its dtype."""
    if type(value) is np.ndarray:  # fast path: what follows would slow small calls down
        return value
    masks = sys.modules.get("numpy.ma")  # np.ma would take the lock of an import, which a fork may leave locked
    if masks is not None and masks.is_masked(value):
        raise ValueError(
            f"{operation}: got {name} with masked elements, expected none, as the mask would be lost; fill them with "
            f"{in_code(name)}.filled(0), or leave steps out with lengths or with weights of 0"
        )
    if isinstance(value, list | tuple) and not value:
        return np.zeros(0, np.int64)  # numpy would make it float64, and an empty row of tokens would not fit
    try:
        return np.asarray(value)
    except Exception as error:  # the value's own conversion may raise anything
        raise TypeError(
            f"{operation}: got {name} of type {type(value).__name__}, expected an array; convert it with np.asarray "
            f"({error})"
        ) from error


def numeric(operation: str, name: str, value: Any) -> Array:
    """`value` as an array of real numbers, bools among them."""
    try:
        result = array(operation, name, value)
    except TypeError:
        if not isinstance(value, list | tuple):
            raise
        result = np.empty(0, object)  # nested lists of different lengths; the error below says what to do
    if result.dtype.kind == "O" and not result.ndim and result.item() is None:
        raise TypeError(f"{operation}: got {name}=None, expected an array of real numbers; pass one")
    if result.dtype.kind in "US":
        raise TypeError(
            f"{operation}: got text in {name}, expected numbers; encode it, classes with "
            f"np.unique({in_code(name)}, return_inverse=True)[1]"
        )
    if result.dtype.kind not in "biuf":
        raise TypeError(f"{operation}: got {name} {_not_real(in_code(name), result)}")
    return result


def _not_real(code: str, array: Array) -> str:
    """What is wrong with an array that has no real numbers, and what to do."""
    if array.dtype.kind == "c":
        return (
            f"of {array.dtype}, expected real numbers; write np.concatenate([{code}.real, {code}.imag], axis=-1) for "
            "both parts as features"
        )
    ragged = array.dtype.kind == "O" and (not array.size or np.ndim(array.flat[0]) > 0)
    if not ragged:
        return f"of dtype {array.dtype}, expected real numbers; convert it, as with {code}.astype(float)"
    return (
        "that is not an array of real numbers, expected one; if rows differ in length, give fit, evaluate and predict "
        "a list of arrays as x and, with a target at every step, as y, and a call an array that is padded, with lengths"
    )


def floats(operation: str, name: str, value: Any, dtype: npt.DTypeLike, padded: bool = False) -> Array:
    """`value` as an array of `dtype`, float32 or float64: what `fit`, calls and streams do with lists, other floats,
    integers and bools. `padded`: too large numbers become infinite, and `in_range` refuses them where they count."""
    given = numeric(operation, name, value)
    with np.errstate(over="ignore"):
        made = int64(given) if np.dtype(dtype).kind == "i" else given.astype(dtype, copy=False)
    if not padded:
        in_range(operation, name, given, made)
    return made


def in_range(operation: str, name: str, given: Array, made: Array, valid: Array | None = None) -> None:
    """Refuse numbers of `given` too large for the dtype of `made`, its conversion, at the steps that are `valid`."""
    wrong = np.isinf(made) if made is not given and made.dtype.kind == "f" else np.zeros(0, bool)
    if not wrong.any():
        return
    wrong &= np.isfinite(given)
    if valid is not None:
        wrong[~valid] = False
    if wrong.any():
        raise ValueError(
            f"{operation}: got numbers in {name} too large for {made.dtype}, expected at most "
            f"{np.finfo(made.dtype).max:.2g}; scale {name}, or make the model with dtype='float64'"
        )


def lengths(operation: str, value: Any) -> Array:
    """`value` as an array of int64, since differences of small or unsigned integers may overflow. The core or the
    caller checks it against x."""
    result = array(operation, "lengths", value)
    if result.dtype.kind not in "iu":
        raise TypeError(
            f"{operation}: got lengths of {result.dtype}, expected integers; give the number of valid steps of every "
            f"row"
        )
    return int64(result)


def int64(integers: Array) -> Array:
    """`integers` as int64. Those above its range become its largest number, which no check of a range lets pass, and
    not negative."""
    if integers.dtype.kind == "u" and integers.dtype.itemsize == 8:
        integers = np.asarray(np.minimum(integers, np.iinfo(np.int64).max))
    return integers.astype(np.int64, copy=False)


def valid_steps(operation: str, value: Any) -> Array:
    """`value` as lengths, (N,) of int64, at least 0; the number of steps is not known here."""
    result = lengths(operation, value)
    if result.ndim != 1 or (result.size and result.min() < 0):
        got = f"of shape {result.shape}" if result.ndim != 1 else f"[{result.argmin()}] = {result.min()}"
        raise ValueError(
            f"{operation}: got lengths{' ' if result.ndim != 1 else ''}{got}, expected (N,) numbers, 0 or more; give "
            "the number of valid steps of every row"
        )
    return result


def steps_within(lengths: Array, steps: int) -> Array:
    """(N, steps) of bool: which steps are valid."""
    result: Array = np.arange(steps) < lengths[:, None]
    return result


def lengths_within(operation: str, value: Any, rows: int, steps: int) -> Array:
    """`value` as lengths of `rows` rows, each from 0 to `steps`."""
    if isinstance(value, int) and operation in ("fit", "evaluate", "predict"):  # Keras' third argument
        raise ValueError(
            f"{operation}: got lengths={value}, expected ({rows},) numbers; give the valid steps of every row, or "
            f"write batch_size={value}"
        )
    result = lengths(operation, value)
    if result.shape != (rows,):
        raise ValueError(
            f"{operation}: got lengths of shape {result.shape}, expected ({rows},); give the valid steps of every row"
        )
    wrong = np.flatnonzero((result < 0) | (result > steps))
    if len(wrong):
        raise ValueError(
            f"{operation}: got lengths[{wrong[0]}] = {result[wrong[0]]}, expected 0 to {steps}, the number of steps; "
            f"correct it, or pad the data"
        )
    return result


def weights(operation: str, value: Any, shape: tuple[int, ...], lengths: Array | None = None) -> Array:
    """`value` as the weights of rows or, where `shape` is (N, T), of steps: float64, at least 0; 0 past `lengths`."""
    result = numeric(operation, "weights", value).astype(np.float64)
    if result.shape not in (shape, shape[:1]):
        expected = " or ".join(str(one) for one in dict.fromkeys((shape[:1], shape)))
        raise ValueError(
            f"{operation}: got weights of shape {result.shape}, expected {expected}; give a weight for each row"
            + (", or for each step" if len(shape) > 1 else "")
        )
    if lengths is not None and result.ndim == 2:
        result[~steps_within(lengths, shape[1])] = 0.0
    return not_negative(operation, "weights", result)


def not_negative(operation: str, name: str, weights: Array) -> Array:
    """`weights`, each 0 or more and finite even as float32, the dtype in which it may multiply a gradient."""
    largest = np.finfo(np.float32).max
    wrong = np.argwhere(~((weights >= 0) & (weights <= largest)))
    if len(wrong):
        place = f"[{', '.join(map(str, wrong[0]))}]" if weights.ndim else ""
        raise ValueError(
            f"{operation}: got {name}{place} = {weights[tuple(wrong[0])]:g}, expected finite numbers from 0 to "
            f"{largest:.2g}; change it, or use 0 to leave it out"
        )
    return weights


def dtype_name(operation: str, dtype: Any) -> str:
    """The name of `dtype`, float32 or float64."""
    name = repr(dtype)
    if dtype is not None:  # numpy reads None as float64
        try:
            name = str(np.dtype(dtype).name)
        except Exception:  # noqa: BLE001 - numpy raises different types for invalid dtypes
            name = repr(dtype)
    if name not in ("float32", "float64"):
        raise ValueError(f"{operation}: got dtype {name}, expected float32 or float64; choose one of the two")
    return name
