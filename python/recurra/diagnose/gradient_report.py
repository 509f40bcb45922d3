"""What a comparison of gradients found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recurra.common.typing import Array


@dataclass(frozen=True)
class ArrayCheck:
    """The comparison for one array.

    Attributes: name, of the input, state or parameter; shape; places, the indices of the entries compared, (K, axes);
    backward, (K,), their gradient by backward; differences, (K,), by central differences; errors, (K,), the relative
    differences of the two.

    Example:
        >>> array = rc.check_gradient(rc.Linear(3, 4), np.ones((2, 5, 3))).arrays[0]
        >>> array.name, array.shape
        ('x', (2, 5, 3))
    """

    name: str
    shape: tuple[int, ...]
    places: Array
    backward: Array
    differences: Array
    errors: Array

    @property
    def error(self) -> float:
        """The largest of the errors; infinite if a gradient is NaN."""
        return float(np.nan_to_num(self.errors, nan=math.inf).max(initial=0.0))

    @property
    def worst(self) -> int:
        """The entry with that error."""
        return int(np.nan_to_num(self.errors, nan=math.inf).argmax()) if len(self.errors) else 0

    def advice(self, tolerance: float) -> str:
        """What a wrong gradient looks like, as the predicate of a sentence."""
        a, n = self.backward, self.differences
        if not np.isfinite(a).all():
            return "is not finite"
        if not a.any():
            return "is 0: backward leaves it out"
        live = np.abs(n) > 1e-3 * np.abs(n).max()
        ratio = float(np.median(a[live] / n[live])) if live.any() else math.nan
        if live.sum() > 1 and np.allclose(a, ratio * n, rtol=1e-4, atol=1e-6 * np.abs(n).max()) and ratio:
            return f"is {ratio:.6g} times what it should be"
        wrong = int((np.nan_to_num(self.errors, nan=math.inf) > tolerance).sum())
        if wrong * 4 <= len(a):
            return f"differs at {wrong} of {len(a)} entries: a kink lies there, as of relu or max, or an index is wrong"
        return "differs"


@dataclass(frozen=True, repr=False)
class GradientCheck:
    """The report of `recurra.check_gradient`; printed, it is a table.

    Attributes: name, of the layer or loss; arrays, an `ArrayCheck` for each input, state and parameter; tolerance, the
    largest relative error that passes.

    Example:
        >>> report = rc.check_gradient(rc.Linear(3, 4), np.ones((2, 5, 3)))
        >>> [array.name for array in report.arrays]
        ['x', 'weight', 'bias']
    """

    name: str
    arrays: Sequence[ArrayCheck]
    tolerance: float

    @property
    def ok(self) -> bool:
        """Whether all gradients agree."""
        return self.error <= self.tolerance

    @property
    def error(self) -> float:
        """The largest relative error."""
        return max((one.error for one in self.arrays), default=0.0)

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        agree = "agree with" if self.ok else "differ from"
        first = f"{self.name}: the gradients {agree} central differences; largest relative error {self.error:.1e}"
        lines = [f"{first}, allowed {self.tolerance:.1e}"]
        rows = self._table()
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines += [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
        ]
        lines += [
            f"{one.name}: the gradient {one.advice(self.tolerance)}"
            for one in self.arrays
            if one.error > self.tolerance
        ]
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from recurra.common import html  # late: only notebooks need it

        return html.table(self._table(), caption=str(self).partition("\n")[0])

    def _table(self) -> list[tuple[str, ...]]:
        rows: list[tuple[str, ...]] = [("array", "shape", "compared", "error", "worst at", "backward", "differences")]
        for one in self.arrays:
            numbers: tuple[str, ...] = ("", "", "")
            if len(one.places):
                place = str(one.places[one.worst].tolist())
                numbers = (place, f"{one.backward[one.worst]:.6g}", f"{one.differences[one.worst]:.6g}")
            rows.append((one.name, str(one.shape), str(len(one.places)), f"{one.error:.1e}", *numbers))
        return rows
