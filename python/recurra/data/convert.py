"""Converts the caller's x and y, checked, to the rows that a model and a loss read."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from recurra.common import checks
from recurra.common.typing import Array, Lengths
from recurra.data.rows import ArrayRows, RaggedRows, Rows, cut, flat, is_list, ragged

if TYPE_CHECKING:
    from recurra.data.feed import InputInfo, OutputInfo
    from recurra.losses import Loss


def inputs(operation: str, model: InputInfo, x: Any, lengths: Lengths) -> Rows:
    """x, checked and converted to rows that the model reads."""
    if is_list(x):
        if lengths is not None:
            raise ValueError(
                f"{operation}: got lengths with a list of arrays, expected none, as each array has its own length; "
                f"leave lengths out"
            )
        items = [_converted_input(operation, model, row, f"x[{index}]", 1) for index, row in enumerate(x)]
        for index, item in enumerate(items):
            _check_tokens(operation, model, f"x[{index}]", item)
        return ragged(operation, items)
    if lengths is None:
        array = _converted_input(operation, model, x, "x", 2)
        _check_tokens(operation, model, "x", array)
        return ArrayRows(array)
    given, dtype = _input(operation, model, x, "x", 2)
    array = checks.floats(operation, "x", given, dtype, padded=True)
    if not ArrayRows(array).has_time:
        raise ValueError(
            f"{operation}: got lengths for x of shape {array.shape}, expected none without a time axis; leave lengths "
            f"out"
        )
    valid = checks.lengths_within(operation, lengths, *array.shape[:2])
    if model.input_kind == "tokens" or array is not given:  # steps_within is large
        within = checks.steps_within(valid, array.shape[1])
        checks.in_range(operation, "x", given, array, within)
        _check_tokens(operation, model, "x", array[within])
    return ArrayRows(array, valid)


def _check_tokens(operation: str, model: InputInfo, name: str, tokens: Array) -> None:
    """Refuse tokens out of range before training starts, not at the batch that contains them."""
    if model.input_kind != "tokens" or model.input_size is None or not tokens.size:
        return
    low, high = int(tokens.min()), int(tokens.max())
    if low < 0 or high >= model.input_size:
        raise ValueError(
            f"{operation}: got tokens from {low} to {high} in {name}, expected 0 to {model.input_size - 1}; "
            f"number the tokens from 0, or make the embedding with {high + 1} of them"
        )


def _converted_input(operation: str, model: InputInfo, x: Any, name: str, lead: int) -> Array:
    given, dtype = _input(operation, model, x, name, lead)
    return checks.floats(operation, name, given, dtype)


def _input(operation: str, model: InputInfo, x: Any, name: str, lead: int) -> tuple[Array, npt.DTypeLike]:
    """One array of x, and the dtype to convert it to. `lead`: 2 if its leading axes are (N, T), 1 for (T)."""
    array = checks.numeric(operation, name, x)
    axes = "N, T" if lead == 2 else "T"
    integers = array.dtype.kind in "iu"
    if model.input_kind == "tokens" and not integers:
        raise TypeError(
            f"{operation}: got {name} of {array.dtype}, expected integers, as the model takes tokens; "
            f"write {name}.astype(np.int64)"
        )
    tokens = integers and model.input_kind != "features"
    if tokens and array.ndim != lead:
        raise ValueError(
            f"{operation}: got tokens {name} of shape {array.shape}, expected ({axes}); "
            f"reshape {name}" + (f", with {name}[None] if it is one row" if lead == 2 else "")
        )
    if not tokens:
        wanted = f"({axes}, {model.input_size or 'features'})"
        one_row = f", {name}[None] if it is one row" if lead == 2 else ""
        vectors = lead == 2 and array.ndim == 2 and not model.needs_sequences
        if array.ndim != lead + 1 and not vectors:
            raise ValueError(
                f"{operation}: got {name} of shape {array.shape}, expected {wanted}; "
                f"write {name}[..., None] if every step is a single number{one_row}"
            )
        if model.input_size not in (None, array.shape[-1]):
            raise ValueError(
                f"{operation}: got {name} of shape {array.shape}, expected {wanted}; change {name}, or the input size "
                "of the first layer"
            )
    return array, np.int64 if tokens else model.dtype


def targets(operation: str, model: OutputInfo, x: Rows, y: Any, loss: Loss) -> Rows:
    """y, with the rows and steps of x, converted to what the loss reads. `target_checks` checks its values."""
    if not is_list(y):
        y = np.atleast_1d(checks.numeric(operation, "y", y))
    if len(y) != len(x):
        raise ValueError(
            f"{operation}: got y with {len(y)} rows, expected {len(x)}, as x has; give one target for each row"
        )
    sequences = model.has_steps(x)
    if loss.whole_rows and not sequences:
        raise ValueError(
            f"{operation}: got {type(loss).__name__} for a model with one output per row, expected an output at every "
            f"step; give it sequences, and make the last recurrent layer with return_sequences=True"
        )
    if loss.unaligned and is_list(y):
        return unaligned(operation, "y", y, model.dtype, loss)
    if isinstance(x, RaggedRows) and sequences and not loss.unaligned:
        rows = [checks.numeric(operation, f"y[{index}]", row) for index, row in enumerate(y)]
        items = _converted(operation, "y", rows, model.dtype, loss)
        for index, (item, steps) in enumerate(zip(items, output_lengths(model, x.lengths).tolist(), strict=True)):
            if item.shape[:1] != (steps,):
                raise ValueError(
                    f"{operation}: got y[{index}] of shape {item.shape}, expected {steps} steps, as the output for "
                    f"x[{index}] "
                    f"has; give a target for every step, or make the last recurrent layer with return_sequences=False"
                )
        return ragged(operation, items)
    _check_whole(operation, y, sequences)
    return ArrayRows(loss.convert(operation, "y", checks.numeric(operation, "y", y), model.dtype))


def _converted(operation: str, name: str, rows: list[Array], dtype: np.dtype[Any], loss: Loss) -> list[Array]:
    """Rows of targets as the loss reads them, converted together if they have one dtype and shape."""
    together = None if loss.unaligned else flat(rows)
    if together is not None:
        with contextlib.suppress(ValueError, TypeError):  # raised again below, with the row
            values = loss.convert(operation, name, together, dtype)
            return rows if values.dtype == together.dtype else cut(values, np.array([len(row) for row in rows]))
    return [loss.convert(operation, f"{name}[{index}]", row, dtype) for index, row in enumerate(rows)]


def _check_whole(operation: str, y: Any, sequences: bool) -> None:
    """Refuse rows of different lengths where y must be one array."""
    if not is_list(y):
        return
    sizes = {len(row) for row in y if isinstance(row, list | tuple) or (isinstance(row, np.ndarray) and row.ndim)}
    if len(sizes) < 2:
        return
    if sequences:
        raise ValueError(
            f"{operation}: got y with rows of different lengths, expected one array, as x is one; give x as a list of "
            "arrays, too, or pad y to the steps of x and give lengths"
        )
    raise ValueError(
        f"{operation}: got y with rows of different lengths, expected one target for each row, as the model has one "
        "output per row; for a target at every step, leave return_sequences=True in the recurrent layers"
    )


def unaligned(operation: str, name: str, rows: Any, dtype: np.dtype[Any], loss: Loss) -> RaggedRows:
    """Rows of targets with lengths independent of x, converted to what the loss reads."""
    arrays = [checks.numeric(operation, f"{name}[{index}]", row) for index, row in enumerate(rows)]
    items = _converted(operation, name, arrays, dtype, loss)
    for index, item in enumerate(items):
        if item.ndim != 1:
            raise ValueError(
                f"{operation}: got {name}[{index}] of shape {item.shape}, expected (labels,); give an array of labels "
                "for each row"
            )
    return ragged(operation, items, loss.padding)


def output_lengths(model: OutputInfo, lengths: Array) -> Array:
    """The lengths of a sequence output, given those of its source."""
    result = model.output_lengths(lengths)
    return lengths if result is None else result
