"""Linear-chain conditional random fields, which add scores of tag transitions. The loss is `losses.CRF`."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from recurra import _core
from recurra.common import checks
from recurra.common.typing import Array, Lengths
from recurra.graph import forms
from recurra.layers.native import NativeLayer
from recurra.saving.registry import built_in

if TYPE_CHECKING:
    import numpy.typing as npt
    from typing_extensions import Self

    from recurra.layers.layer import Layer


class Constraints(NamedTuple):
    """What is allowed, as arrays of bool: transitions (K, K), [i, j] for tag i followed by j; start and end (K,)."""

    transitions: Array
    start: Array
    end: Array


#: For each scheme, the prefixes that begin, continue and end a span, and that of a span of one step.
_SCHEMES = {"BIO": ("B", "I", "", ""), "BIOES": ("B", "I", "E", "S"), "BILOU": ("B", "I", "L", "U")}

#: Rows of a list that are padded and decoded at a time.
_ROWS_AT_ONCE = 256


@built_in
class CRF(NativeLayer):
    """A linear-chain conditional random field (Lafferty, McCallum, Pereira 2001), as the last layer of a tagger.

    The score of a tagging k of a row of T steps is

        start_transitions[k_0] + sum over t >= 0 of x[t, k_t]
            + sum over t >= 1 of transitions[k_(t-1), k_t] + end_transitions[k_(T-1)]

    and its probability is exp(score), normalised over all taggings. `y, _ = crf(x)`: x (N, T, num_tags), the scores of
    each step's tags, passes through unchanged. `viterbi` and `marginals` decode the scores, `losses.CRF` trains.
    Parameters: transitions (num_tags, num_tags), [i, j] for i followed by j; start_transitions and end_transitions
    (num_tags).

    Args:
        num_tags: number of tags, numbered from 0.
        constraints: which transitions, first and last tags are allowed: three arrays of bool, (num_tags, num_tags),
            (num_tags) and (num_tags), each None if all are. A tagging that violates them has probability 0, in training
            too.
        dtype: float32 or float64.
        seed: for the parameters, drawn from U(-0.1, 0.1); None for a fresh seed.

    Example:
        >>> crf = rc.CRF(3)
        >>> model = rc.Sequential(rc.GRU(4, 8), rc.Linear(8, 3), crf)
        >>> scores, _ = model(np.ones((2, 5, 4), np.float32))
        >>> crf.viterbi(scores).shape
        (2, 5)
        >>> loss = rc.losses.CRF(crf)
    """

    def __init__(
        self, num_tags: int, *, constraints: Any = None, dtype: npt.DTypeLike = "float32", seed: int | None = None
    ) -> None:
        self.num_tags = checks.integer("CRF", "num_tags", num_tags)
        self.constraints = _read_constraints(constraints, self.num_tags)
        super().__init__(_core.CRF(self.num_tags, dtype=checks.dtype_name("CRF", dtype)), seed)

    @classmethod
    def for_tags(
        cls, tags: Sequence[str], scheme: str = "BIO", *, dtype: npt.DTypeLike = "float32", seed: int | None = None
    ) -> Self:
        """A CRF with the constraints of a span tagging scheme, with tags such as "O", "B-LOC", "I-LOC".

        Args:
            tags: the names of all tags, in the order of their numbers.
            scheme: "BIO", where I-x follows only B-x or I-x; "BIOES" or "BILOU", where a span B-x also continues with
                I-x until E-x (L-x), and S-x (U-x) is a span of one step.
            dtype, seed: as in the constructor.

        Raises:
            ValueError: a tag that is not in the scheme.
        """
        begin, inside, last, single = _SCHEMES[checks.choice("CRF.for_tags", "scheme", scheme, tuple(_SCHEMES))]
        parts = []
        for tag in tags:
            prefix, _, span = str(tag).partition("-")
            if not (tag == "O" or (span and prefix in (begin, inside, last, single))):
                known = ", ".join(f"{one}-..." for one in (begin, inside, last, single) if one)
                raise ValueError(
                    f"CRF.for_tags: got the tag {tag!r}, expected O or one of {known} in the scheme {scheme}; rename "
                    "the tag, or choose another scheme"
                )
            parts.append((prefix, span))
        goes_on = np.array([prefix in (inside, last) and bool(span) for prefix, span in parts], bool)
        open_after = np.array([prefix in (begin, inside) and bool(span) for prefix, span in parts], bool)
        spans = np.array([span for _prefix, span in parts])
        same = (spans[:, None] == spans) & open_after[:, None]
        unfinished = open_after if last else np.zeros_like(open_after)
        transitions = np.where(goes_on, same, ~unfinished[:, None])
        return cls(len(parts), constraints=(transitions, ~goes_on, ~unfinished), dtype=dtype, seed=seed)

    @property
    def input_size(self) -> int:
        """num_tags."""
        return self.num_tags

    @property
    def output_size(self) -> int:
        """num_tags."""
        return self.num_tags

    @classmethod
    def count_parameters(cls, config: Mapping[str, Any]) -> int:
        """Values of transitions, start_transitions and end_transitions."""
        tags = operator.index(config["num_tags"])
        return tags * (tags + 2)

    def config(self) -> dict[str, Any]:
        """The constructor's arguments as plain data; constraints as strings of 0 and 1."""
        texts: dict[str, Any] | None = None
        if self.constraints is not None:
            transitions, start, end = self.constraints
            texts = {"transitions": [_text(row) for row in transitions], "start": _text(start), "end": _text(end)}
        return {"num_tags": self.num_tags, "constraints": texts, "dtype": self.dtype.name}

    @property
    def allowed(self) -> Array | None:
        """The constraints in one flat array, laid out as the parameters; None without constraints."""
        return None if self.constraints is None else np.concatenate([part.ravel() for part in self.constraints])

    def viterbi(self, scores: Any, lengths: Lengths = None, mask: Any = None) -> Any:
        """The most probable tagging of each row (Viterbi 1967).

        Args:
            scores: (N, T, num_tags), the output of a model that ends in this layer; or a list of N arrays
                (T_n, num_tags), as `predict` returns for a list. -infinity marks a tag as impossible.
            lengths: (N,) valid steps of each row.
            mask: (N, T) bool in place of lengths, true at the valid steps; the chain of a row links its valid steps,
                wherever they are.

        Returns:
            (N, T) integers, 0 at padding; for a list, a list of N arrays (T_n,). Of equally probable taggings, the one
            with the lower tag at the last step where they differ.

        Raises:
            ValueError, TypeError: scores or lengths do not fit, or a row has no possible tagging.
        """
        return self._decode("CRF.viterbi", scores, lengths, mask, self._best_tags)

    def marginals(self, scores: Any, lengths: Lengths = None, mask: Any = None) -> Any:
        """The probability of each tag at each step, over all taggings of the row (forward-backward algorithm).

        Args:
            scores, lengths, mask: as for `viterbi`.

        Returns:
            (N, T, num_tags), 0 at padding; for a list, a list of N arrays (T_n, num_tags).

        Raises:
            ValueError, TypeError: as for `viterbi`.
        """
        return self._decode("CRF.marginals", scores, lengths, mask, self._marginals)

    def _decode(self, operation: str, scores: Any, lengths: Lengths, mask: Any, run: Any) -> Any:
        if not isinstance(scores, list | tuple):
            array = checks.array(operation, "scores", scores)
            if mask is None:
                return run(operation, *self._checked(operation, array, lengths))
            valid = forms.checked(operation, mask, array, lengths, 0)
            made = run(operation, *self._checked(operation, forms.to_front(array, valid), valid.sum(1)))
            return forms.to_places(made, valid)
        if lengths is not None or mask is not None:
            given = "lengths" if mask is None else "mask"
            raise ValueError(
                f"{operation}: got {given} with a list, expected none, as its rows have their own lengths; leave it out"
            )
        from recurra.data.rows import ragged

        items = [checks.array(operation, f"scores[{index}]", row) for index, row in enumerate(scores)]
        for index, item in enumerate(items):
            _check_floats(operation, f"scores[{index}]", item)
            if item.ndim != 2 or item.shape[1] != self.num_tags:
                raise ValueError(
                    f"{operation}: got scores[{index}] of shape {item.shape}, expected (T, {self.num_tags}); give "
                    "each row's scores"
                )
        found: list[Array] = []
        for begin in range(0, len(items), _ROWS_AT_ONCE):
            batch, valid = ragged(operation, items[begin : begin + _ROWS_AT_ONCE]).batch(slice(None))
            decoded = run(operation, *self._checked(operation, batch, valid))
            found += [row[:steps] for row, steps in zip(decoded, [len(one) for one in items[begin:]], strict=False)]
        return found

    def _checked(self, operation: str, scores: Array, lengths: Lengths) -> tuple[Array, Array | None]:
        _check_floats(operation, "scores", scores)
        if scores.ndim != 3 or scores.shape[2] != self.num_tags:
            raise ValueError(
                f"{operation}: got scores of shape {scores.shape}, expected (N, T, {self.num_tags}); write "
                "scores[None] if it is one row, and give the output of a model that ends in this layer"
            )
        valid = None if lengths is None else checks.lengths_within(operation, lengths, *scores.shape[:2])
        used = scores if valid is None else scores[checks.steps_within(valid, scores.shape[1])]
        if not (used < np.inf).all():
            raise ValueError(
                f"{operation}: got NaN or infinity in scores, expected finite numbers, or -infinity for an impossible "
                "tag; check the model that computed them"
            )
        return scores, valid

    def _best_tags(self, operation: str, scores: Array, lengths: Array | None) -> Array:
        tags, best = _core.crf_viterbi(scores, lengths, self._parameters, self.allowed)
        self._refuse_impossible(operation, ~np.isfinite(best))
        return tags

    def _marginals(self, operation: str, scores: Array, lengths: Array | None) -> Array:
        found = _core.crf_marginals(scores, lengths, self._parameters, self.allowed)
        self._refuse_impossible(operation, np.isnan(found.sum((1, 2))))
        return found

    def _refuse_impossible(self, operation: str, rows: Array) -> None:
        if rows.any():
            raise ValueError(
                f"{operation}: got row {np.flatnonzero(rows)[0]}, in which no tagging has a score above -infinity, "
                "expected a possible one; loosen the constraints, or check the scores and the layer's parameters"
            )

    def _draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        return rng.uniform(-0.1, 0.1, shape)


def check_in_model(operation: str, what: str, crf: CRF, model: Layer) -> None:
    """Raise if `what`, a loss or metric, is made from a CRF that is not a layer of the model."""
    if not any(layer is crf for _prefix, layer in model.leaves):
        raise ValueError(
            f"{operation}: got {what} of a layer that is not in the model, expected that of the model's CRF, whose "
            f"transitions it uses; write {what}(model.layers[-1]), with a CRF as the last layer"
        )


def _check_floats(operation: str, name: str, array: Array) -> None:
    if array.dtype not in (np.float32, np.float64):
        raise TypeError(
            f"{operation}: got {name} of {array.dtype}, expected float32 or float64; write {name}.astype(np.float32)"
        )


def _text(row: Array) -> str:
    return "".join("01"[int(one)] for one in row)


def _read_constraints(given: Any, tags: int) -> Constraints | None:
    """The constraints from the constructor's argument or from a `config`."""
    if given is None:
        return None
    names = Constraints._fields
    if isinstance(given, Mapping):
        parts = [given.get(name) for name in names]
        parts = [
            None
            if part is None
            else [[one == "1" for one in row] for row in part]
            if index == 0
            else [one == "1" for one in part]
            for index, part in enumerate(parts)
        ]
    elif isinstance(given, tuple | list) and len(given) == len(names):
        parts = list(given)
    else:
        raise TypeError(
            f"CRF: got constraints={given!r}, expected three arrays of bool: transitions, start and end; give None "
            "for an array that allows all"
        )
    found = []
    for name, part, shape in zip(names, parts, ((tags, tags), (tags,), (tags,)), strict=True):
        array = np.ones(shape, bool) if part is None else checks.array("CRF", f"constraints: {name}", part)
        if array.dtype != np.bool_ or array.shape != shape:
            raise ValueError(
                f"CRF: got constraints with {name} of shape {array.shape} and {array.dtype}, expected {shape} and "
                "bool; write True for what is allowed"
            )
        found.append(array.copy())
    return Constraints(*found)
