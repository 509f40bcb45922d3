"""Fuzzes programs: random models give the same bits however they are run, and the same again from a file.

python tests/fuzz/programs.py --seconds 600
"""

from __future__ import annotations

import pickle
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness
import numpy as np
import numpy.typing as npt

import models
import recurra as rc

Array = npt.NDArray[Any]


def case(rng: np.random.Generator, report: Callable[[str], None]) -> str | None:
    """All agreements of one model on one batch."""
    model, batch = models.draw(rng)
    report(f"{model!r} on {batch}")
    try:
        for check in (_calls, _rows, _gradients, _stream, _copies):
            if found := check(model, batch, rng):
                return f"{check.__name__}: {found}"
    except BaseException as error:  # noqa: BLE001 - whatever comes out is looked at
        return harness.unexpected(error, ())
    finally:
        rc.set_num_threads(2)
    return None


def _same(what: str, one: Array, other: Array) -> str | None:
    if one.shape != other.shape or one.dtype != other.dtype:
        return f"{what}: {one.shape} {one.dtype} beside {other.shape} {other.dtype}"
    if one.tobytes() == other.tobytes() or np.array_equal(_bits(one), _bits(other)):
        return None
    return f"{what}: {np.count_nonzero(_bits(one) != _bits(other))} of {one.size} numbers differ"


def _bits(array: Array) -> Array:
    return np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}")


def _calls(model: Any, batch: models.Batch, rng: np.random.Generator) -> str | None:
    """A call twice, on other numbers of threads, and a recorded one."""
    y, state = model(batch.x, batch.state, batch.lengths, batch.reset)
    if batch.lengths is not None and y.ndim == 3:
        valid = model.output_lengths(batch.lengths)
        if valid is not None and y[np.arange(y.shape[1]) >= valid[:, None]].any():
            return "the output is not 0 past the lengths"
    for threads in (1, 3, 16):
        rc.set_num_threads(threads)
        again, end = model(batch.x, batch.state, batch.lengths, batch.reset)
        found = _same(f"a call on {threads} threads", again, y)
        for one, other in zip(models.flat(end), models.flat(state), strict=True):
            found = found or _same(f"the state on {threads} threads", one, other)
        if found:
            return found
    tape = model.record(batch.x, batch.state, batch.lengths, batch.reset, training=False)
    found = _same("a recorded call", tape.y, y)
    for one, other in zip(models.flat(tape.state), models.flat(state), strict=True):
        found = found or _same("the state of a recorded call", one, other)
    return found


def _rows(model: Any, batch: models.Batch, rng: np.random.Generator) -> str | None:
    """Rows alone, in another order, and with other padding."""
    y, _ = model(batch.x, batch.state, batch.lengths, batch.reset)
    if not batch.rows:
        return None
    order = rng.permutation(batch.rows)
    found = _same("rows in another order", model(*batch.take(order))[0], y[order])
    row = int(rng.integers(batch.rows))
    found = found or _same("a row alone", model(*batch.take(np.array([row])))[0], y[row : row + 1])
    longer = batch.padded(3)
    if longer is not None:
        padded = model(*longer)[0]
        found = found or _same("longer padding", padded[:, : y.shape[1]] if y.ndim == 3 else padded, y)
    return found


def _gradients(model: Any, batch: models.Batch, rng: np.random.Generator) -> str | None:
    """Of a retried backward, on other numbers of threads, and within a budget."""
    first: dict[str, Array] | None = None
    dy: Array | None = None
    least = None
    for threads, budgeted in ((1, False), (3, False), (2, True)):
        rc.set_num_threads(threads)
        model.zero_grad()
        options: dict[str, Any] = {"training": batch.training, "seed": 7, "input_grad": batch.x.dtype.kind == "f"}
        if budgeted:
            if not all(layer.native for _, layer in model.leaves):
                continue
            least = least or _least_budget(model, batch, options)
            options["memory_budget"] = least
        try:
            tape = model.record(batch.x, batch.state, batch.lengths, batch.reset, **options)
        except ValueError as error:
            if "one has no variance" in str(error):  # of batch norm in training
                return None
            raise
        if budgeted and tape.nbytes > least:
            return f"a tape of {tape.nbytes} bytes for a budget of {least}"
        if dy is None:
            dy = rng.standard_normal(tape.y.shape).astype(tape.y.dtype)
        dx, dstate = tape.backward(dy)
        found = {**{name: one.copy() for name, one in model.grads.items()}}
        found |= {f"dstate[{index}]": one for index, one in enumerate(models.flat(dstate))}
        if dx is not None:
            found["dx"] = dx
            if batch.lengths is not None and dx[np.arange(dx.shape[1]) >= batch.lengths[:, None]].any():
                return "dx is not 0 past the lengths"
        if first is None:
            first = found
        for name, one in found.items():
            if wrong := _same(
                f"{name} on {threads} threads{', within a budget' if budgeted else ''}", one, first[name]
            ):
                return wrong
    return None


def _least_budget(model: Any, batch: models.Batch, options: dict[str, Any]) -> int:
    """The smallest that works, as the message about one that does not says."""
    try:
        model.record(batch.x, batch.state, batch.lengths, batch.reset, **options, memory_budget=0)
    except ValueError as error:
        numbers = [int(word.strip(",.;")) for word in str(error).split() if word.strip(",.;").isdigit()]
        return max(numbers)
    return 0


def _stream(model: Any, batch: models.Batch, rng: np.random.Generator) -> str | None:
    """Chunks and steps, with the resets, are the whole."""
    try:
        stream = model.stream(batch.rows)
    except ValueError:
        return None  # it has said why
    x = np.maximum(batch.x, 0) if batch.x.dtype.kind == "i" else np.nan_to_num(batch.x)  # a stream knows no padding
    whole, _ = model(x, batch.state, None, batch.reset)
    if batch.state is not None:
        stream.load_state(batch.state)
    outputs, at, steps = [], 0, x.shape[1]
    while at < steps:
        if rng.random() < 0.5:
            reset = None if batch.reset is None else np.ascontiguousarray(batch.reset[:, at])
            outputs.append(stream.step(np.ascontiguousarray(x[:, at]), reset)[:, None].copy())
            at += 1
        else:
            end = min(steps, at + int(rng.integers(1, 5)))
            reset = None if batch.reset is None else batch.reset[:, at:end]
            outputs.append(stream.process(x[:, at:end], reset).copy())
            at = end
    return _same("a stream", np.concatenate(outputs, 1), whole) if outputs else None


def _copies(model: Any, batch: models.Batch, rng: np.random.Generator) -> str | None:
    """From a file, and pickled."""
    y, _ = model(batch.x, batch.state, batch.lengths, batch.reset)
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "model")
        loaded = rc.load(Path(folder) / "model", custom={"Doubled": models.Doubled})
    for what, other in (("from a file", loaded), ("pickled", pickle.loads(pickle.dumps(model)))):
        if found := _same(what, other(batch.x, batch.state, batch.lengths, batch.reset)[0], y):
            return found
    return None


if __name__ == "__main__":
    sys.exit(harness.main(__file__, case, memory=8 << 30))
