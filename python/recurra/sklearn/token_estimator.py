"""The base of the estimators that take tokens, too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from recurra.common import checks
from recurra.common.docstrings import with_inherited_arguments
from recurra.layers.basic import Embedding
from recurra.sklearn import rows, tokens
from recurra.sklearn.base import SequenceEstimator

if TYPE_CHECKING:
    from recurra.layers.leaf import LeafLayer
    from recurra.models.sequential import Sequential


@with_inherited_arguments
@dataclass(kw_only=True, eq=False, repr=False)
class TokenEstimator(SequenceEstimator):
    """The base of the estimators that read sequences of numbers, or, with `embedding_dim`, of tokens.

    Tokens are integers from 0, such as `SequenceEncoder` makes of words and characters. X is then a list (or array of
    objects) of N sequences (T_n,), or a table (N, T), all of whose steps are read. For each token the model learns a
    vector, `recurra.Embedding`.

    Args:
        embedding_dim: None for sequences of numbers; for tokens, the size of their vectors.
        num_embeddings: how many tokens there are; None for one more than the largest in `fit`. The first call of
            `partial_fit` needs it, as later parts may have others.

    Attributes are those of `SequenceEstimator` and `num_embeddings_`, the number of tokens, None without.
    """

    embedding_dim: int | None = None
    num_embeddings: int | None = None

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        if self.embedding_dim is not None:
            tags.input_tags.three_d_array = False
            tags.input_tags.categorical = tags.input_tags.positive_only = True
        return tags

    def _given(self, X: Any, *, reset: bool, part: bool = False) -> Any:  # noqa: N803
        """X, checked; of a `part` of the data the number of tokens is not concluded."""
        name = type(self).__name__
        if not reset and self.num_embeddings_ is not None:
            return tokens.read(self, X, reset=False, count=self.num_embeddings_)[0]
        if not reset or self.embedding_dim is None:
            if reset and self.num_embeddings is not None:
                raise ValueError(
                    f"{name}: got num_embeddings={self.num_embeddings!r} with embedding_dim=None, expected both for "
                    "tokens; give embedding_dim, or leave num_embeddings out"
                )
            tokens.refuse_text(name, X)
            if reset:
                tokens.warn_of_whole_numbers(name, X)
            x = rows.read(self, X, reset=reset)
            if reset:
                self.num_embeddings_: int | None = None
            return x
        checks.integer(name, "embedding_dim", self.embedding_dim)
        count = self.num_embeddings
        if count is not None:
            checks.integer(name, "num_embeddings", count)
        elif part:
            raise ValueError(
                f"{name}.partial_fit: got num_embeddings=None on the first call, expected the number of tokens, as "
                "later parts may have others; give it to the constructor"
            )
        x, self.num_embeddings_ = tokens.read(self, X, reset=True, count=count)
        return x

    def _steps(self, x: Any) -> Any:
        """What `_given` has read, as the model takes it."""
        return x if self.num_embeddings_ is not None else rows.steps(x)

    def _model(self, x: Any, outputs: int, sequences: bool, seed: int, last: Sequence[LeafLayer] = ()) -> Sequential:
        """The model for rows like x."""
        if self.num_embeddings_ is None:
            return self._network(x[0].shape[-1], outputs, sequences, seed, last=last)
        assert self.embedding_dim is not None
        embedding = Embedding(self.num_embeddings_, self.embedding_dim)
        return self._network(self.embedding_dim, outputs, sequences, seed, first=[embedding], last=last)
