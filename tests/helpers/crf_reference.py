"""A linear-chain CRF by enumeration of all taggings, and by the recursion in logarithms: plain float64 numpy."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from loss_reference import log_sum

Array = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Chain:
    """The scores shared by all rows; -infinity forbids a transition."""

    transitions: Array
    start: Array
    end: Array

    def score(self, x: Array, tags: tuple[int, ...] | Labels) -> float:
        """The score of a tagging of x (T, K)."""
        if not len(tags):
            return 0.0
        total = self.start[tags[0]] + self.end[tags[-1]] + sum(x[t, tag] for t, tag in enumerate(tags))
        return float(total + sum(self.transitions[i, j] for i, j in itertools.pairwise(tags)))

    def log_partition(self, x: Array) -> float:
        """The logarithm of the sum over all taggings, step by step."""
        if not len(x):
            return 0.0
        alpha = self.start + x[0]
        for step in x[1:]:
            alpha = np.array([log_sum(column) for column in (alpha[:, None] + self.transitions).T]) + step
        return log_sum(alpha + self.end)

    def taggings(self, x: Array) -> dict[tuple[int, ...], float]:
        """The score of every tagging."""
        return {tags: self.score(x, tags) for tags in itertools.product(range(x.shape[1]), repeat=len(x))}

    def loss(self, x: Array, tags: Labels, ignored: int | None = None) -> float:
        """-log p of the tags: of all taggings that agree with the known tags."""
        clamped = np.array(x, np.float64)
        for step, tag in enumerate(tags):
            if tag != ignored:
                clamped[step, np.arange(x.shape[1]) != tag] = -np.inf
        return self.log_partition(x) - self.log_partition(clamped)
