"""A character n-gram model with interpolated Witten-Bell smoothing: the baseline of the language model example."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

Symbols = npt.NDArray[np.int64]


class WittenBell:
    """Predicts a symbol from the `order - 1` symbols before it.

    With c(.) the count of a string in the training text, T(h) the number of different symbols seen after the context h,
    and h' the context h without its oldest symbol,

        P(s | h) = (c(h s) + T(h) P(s | h')) / (c(h) + T(h)),    P(s | h') = 1 / vocabulary below the empty context

    (Witten and Bell 1991; in this form Chen and Goodman 1999). A document is a 1-D array of symbols in [0, vocabulary).
    Its first symbol is context only, as if it had been repeated for ever before; all the others are predicted.

    Strings are counted as numbers in base `vocabulary`, so `vocabulary ** order` must be below 2 ** 63.
    """

    def __init__(self, documents: Iterable[Symbols], *, order: int, vocabulary: int) -> None:
        if order < 1 or vocabulary < 1 or vocabulary**order >= 2**63:
            raise ValueError(
                f"WittenBell: got order {order} and vocabulary {vocabulary}, expected both to be at least 1 and "
                "vocabulary ** order below 2 ** 63; take a lower order"
            )
        self.order = order
        self.vocabulary = vocabulary
        documents = list(documents)
        self._levels = [self._count(documents, length) for length in range(1, order + 1)]

    def bits_per_symbol(self, documents: Sequence[Symbols]) -> float:
        """The mean of -log2 P over all symbols of `documents` but the first of each."""
        logs = np.concatenate([np.log2(self.probabilities(document)) for document in documents])
        return float(-logs.mean())

    def probabilities(self, document: Symbols) -> npt.NDArray[np.float64]:
        """P of `document[1:]`, each symbol given those before it: (len(document) - 1,)."""
        result = np.full(max(len(document) - 1, 0), 1.0 / self.vocabulary)
        for length, (strings, contexts) in enumerate(self._levels, start=1):
            codes = self._codes(document, length)
            seen = _look_up(strings, codes, 0)
            context = codes // self.vocabulary
            total = _look_up(contexts, context, 0)
            types = _look_up(contexts, context, 1)
            mixed = (seen + types * result) / np.maximum(total + types, 1)
            result = np.where(total > 0, mixed, result)
        return result

    def _codes(self, document: Symbols, length: int) -> Symbols:
        """The number of the string of `length` symbols that ends at each predicted symbol."""
        if len(document) < 2:
            return np.zeros(0, np.int64)
        padded = np.concatenate([np.full(length, document[0]), document[1:]]).astype(np.int64)
        count = len(document) - 1
        codes = np.zeros(count, np.int64)
        for offset in range(length):
            codes = codes * self.vocabulary + padded[1 + offset : 1 + offset + count]
        return codes

    def _count(self, documents: Sequence[Symbols], length: int) -> tuple[Symbols, Symbols]:
        """Tables (see `_look_up`) of the strings, with their counts, and of their contexts, with c(h) and T(h)."""
        codes = np.concatenate([self._codes(document, length) for document in documents])
        strings, counts = np.unique(codes, return_counts=True)
        contexts, where = np.unique(strings // self.vocabulary, return_inverse=True)
        totals = np.bincount(where, weights=counts).astype(np.int64)
        types = np.bincount(where)
        return np.stack([strings, counts]), np.stack([contexts, totals, types])


def _look_up(table: Symbols, keys: Symbols, column: int) -> Symbols:
    """Row `1 + column` of `table` where its sorted row 0 equals `keys`, and 0 where it holds no such key."""
    index = np.minimum(np.searchsorted(table[0], keys), table.shape[1] - 1)
    return np.where(table[0][index] == keys, table[1 + column][index], 0)
