"""The binary Hopfield network: an associative memory of patterns of -1 and 1."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from recurra.common import checks, seeds
from recurra.common.typing import Array

if TYPE_CHECKING:
    import numpy.typing as npt


class HopfieldNetwork:
    """A network of units of -1 and 1 that falls to the stored pattern nearest to where it starts (Hopfield 1982).

        s_i <- sign(sum_j W_ij s_j - b_i)    energy = -s . W s / 2 + b . s

    W is symmetric, with a diagonal of 0, and b are thresholds. A unit whose sum is 0 stays as it is. With P patterns
    p_1, ..., p_P of n units, rows of X:

        hebb             W = X^T X / n (Hebb 1949): recalls up to about 0.138 n random patterns
        pseudo_inverse   W = X^+ X, the projection on the patterns' span (Personnaz, Guyon, Dreyfus 1986; Kanter and
                         Sompolinsky 1987): every pattern is a fixed point of the network, correlated ones too, while
                         P < n

    For continuous patterns, with gradients, as an attention: the layer `Hopfield`.

    Attributes: weights, (n, n) W in float64; thresholds, (n,) b; num_patterns, how many were stored.

    Args:
        size: n, the number of units.
        rule: "hebb" or "pseudo_inverse".
        thresholds: (n,) b; None for zeros.

    Example:
        >>> network = rc.HopfieldNetwork(6)
        >>> network.store([[1, 1, 1, -1, -1, -1], [1, -1, 1, -1, 1, -1]])
        >>> network.retrieve([1, 1, 1, -1, -1, 1])
        array([ 1,  1,  1, -1, -1, -1], dtype=int8)
    """

    def __init__(self, size: int, *, rule: str = "hebb", thresholds: npt.ArrayLike | None = None) -> None:
        name = type(self).__name__
        self.size = checks.integer(name, "size", size)
        self.rule: str = checks.choice(name, "rule", rule, ("hebb", "pseudo_inverse"))
        self.thresholds: Array = np.zeros(self.size)
        if thresholds is not None:
            given = np.array(checks.numeric(name, "thresholds", thresholds), np.float64)
            if given.shape != (self.size,) or not np.isfinite(given).all():
                raise ValueError(
                    f"{name}: got thresholds of shape {given.shape}, expected {self.size} finite numbers; give one for "
                    "each unit"
                )
            self.thresholds = given
        self._patterns: Array = np.zeros((0, self.size))
        self.weights: Array = np.zeros((self.size, self.size))

    @property
    def num_patterns(self) -> int:
        """How many patterns were stored."""
        return len(self._patterns)

    def store(self, patterns: npt.ArrayLike) -> None:
        """Store further patterns.

        Args:
            patterns: (P, n) or (n,) of -1 and 1, or bools, of which False stands for -1.

        Raises:
            ValueError, TypeError: other shapes or numbers; nothing is stored.
        """
        given = np.atleast_2d(self._states("store", "patterns", patterns)).astype(np.float64)
        stored = np.concatenate([self._patterns, given])
        projection = stored.T @ stored / self.size if self.rule == "hebb" else np.linalg.pinv(stored) @ stored
        projection = (projection + projection.T) / 2  # exactly symmetric, so that the energy can only fall
        np.fill_diagonal(projection, 0.0)
        self._patterns, self.weights = stored, projection

    def energy(self, states: npt.ArrayLike) -> Any:
        """-s . W s / 2 + b . s: (N,) float64 for states (N, n), one number for (n,).

        Raises:
            ValueError, TypeError: as in `store`.
        """
        s = self._states("energy", "states", states).astype(np.float64)
        return -((s @ self.weights) * s).sum(-1) / 2 + s @ self.thresholds

    def step(self, states: npt.ArrayLike, *, mode: str = "asynchronous", seed: int | None = None) -> Array:
        """One update of all units, int8, in the states' shape: see `retrieve`.

        Raises:
            ValueError, TypeError: as in `store`.
        """
        s = self._states("step", "states", states)
        rows = np.atleast_2d(s).copy()
        mode = checks.choice("HopfieldNetwork.step", "mode", mode, ("asynchronous", "synchronous"))
        self._update(rows, mode, seeds.resolve("HopfieldNetwork.step", seed), 0)
        return np.reshape(rows, s.shape)

    def retrieve(
        self,
        states: npt.ArrayLike,
        *,
        mode: str = "asynchronous",
        max_steps: int = 100,
        seed: int | None = 0,
    ) -> Array:
        """The states after updates until nothing changes, int8, in their shape.

        Args:
            states: (N, n) or (n,) of -1 and 1, or bools.
            mode: "asynchronous": unit after unit, in an order that is drawn for each step; every change lowers the
                energy, so this ends in a fixed point. "synchronous": all units at once; this may end in a cycle of two
                states, and then returns one of them.
            max_steps: the most updates of all units.
            seed: of the orders, which are those of all rows; None for a fresh seed.

        Raises:
            ValueError, TypeError: as in `store`; a mode that there is not.
        """
        name = "HopfieldNetwork.retrieve"
        s = self._states("retrieve", "states", states)
        mode = checks.choice(name, "mode", mode, ("asynchronous", "synchronous"))
        most, number = checks.integer(name, "max_steps", max_steps, 0), seeds.resolve(name, seed)
        rows = np.atleast_2d(s).copy()
        for step in range(most):
            if not self._update(rows, mode, number, step):
                break
        return np.reshape(rows, s.shape)

    def _update(self, rows: Array, mode: str, seed: int, step: int) -> bool:
        """Updates all units of all rows in place; whether any changed. A row's units do not depend on other rows."""
        before = rows.copy()
        if mode == "synchronous":
            rows[:] = self._signs(self._sums(before, slice(None)), before)
        else:
            for unit in seeds.generator(seeds.derive(seed, step)).permutation(self.size):
                rows[:, unit] = self._signs(self._sums(rows, unit), rows[:, unit])
        return bool((rows != before).any())

    def _sums(self, rows: Array, units: Any) -> Array:
        # einsum without BLAS: its order of a sum does not depend on the number of rows.
        weights = self.weights[units]
        sums = np.einsum("nj,...j->n...", rows.astype(np.float64), weights, optimize=False)
        return np.asarray(sums - self.thresholds[units])

    @staticmethod
    def _signs(sums: Array, before: Array) -> Array:
        return np.where(sums == 0, before, np.sign(sums)).astype(np.int8)

    def _states(self, method: str, name: str, states: npt.ArrayLike) -> Array:
        operation = f"{type(self).__name__}.{method}"
        given = checks.numeric(operation, name, states)
        if given.dtype.kind == "b":
            given = np.where(given, 1, -1)
        if given.ndim not in (1, 2) or given.shape[-1] != self.size:
            raise ValueError(
                f"{operation}: got {name} of shape {given.shape}, expected (N, {self.size}) or ({self.size},); give a "
                "number for each unit"
            )
        if not np.isin(given, (-1, 1)).all():
            raise ValueError(
                f"{operation}: got {name} with numbers other than -1 and 1, expected these alone; write "
                f"np.where({name} > 0, 1, -1)"
            )
        return given.astype(np.int8)
