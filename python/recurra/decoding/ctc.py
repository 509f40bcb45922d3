"""Decoding of connectionist temporal classification: from logits to labels. The loss is `losses.CTC`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from recurra import _core
from recurra.common import checks, errors, keywords
from recurra.common.typing import Array, Lengths
from recurra.data.rows import padded

__all__ = ["Hypothesis", "beam_search", "greedy"]


class Hypothesis(NamedTuple):
    """A label sequence of a row.

    Attributes: labels, (S,) int64, without blanks; log_prob, its log-probability, in nats.

    Example:
        >>> logits = 10 * np.eye(3, dtype=np.float32)[[[0, 1, 1, 0, 2]]]  # 0 is the blank
        >>> hypothesis = rc.ctc.greedy(logits)[0]
        >>> hypothesis.labels.tolist(), hypothesis.log_prob < 0
        ([1, 2], True)
    """

    labels: npt.NDArray[np.int64]
    log_prob: float


def greedy(logits: Array | Sequence[Array], lengths: Lengths = None, *, blank: int = 0) -> list[Hypothesis]:
    """The labels of each row's most probable path.

    Args:
        logits: (N, T, C), float32 or float64, or a list of arrays (T_n, C), as `predict` returns them; softmax is
            applied here. Of probabilities p the labels are the same, but log_prob is not: give np.log(p), which a
            warning says where they sum to 1.
        lengths: (N,) valid steps of each row; not with a list.
        blank: the class of the blank.

    Returns:
        N hypotheses, each with the log-probability of that one path. Of equal logits, the first class wins.

    Raises:
        ValueError, TypeError: logits, lengths or blank do not fit.

    Example:
        >>> logits = 10 * np.eye(3, dtype=np.float32)[[[0, 1, 1, 0, 2]]]  # 0 is the blank
        >>> rc.ctc.greedy(logits)[0].labels.tolist()
        [1, 2]
    """
    logits, valid, blank = _checked("ctc.greedy", logits, lengths, blank)
    return [Hypothesis(*pair) for pair in _core.ctc_greedy(logits, valid, blank)]


def beam_search(
    logits: Array | Sequence[Array], lengths: Lengths = None, *, beam_size: int = 16, blank: int = 0, n_best: int = 1
) -> list[list[Hypothesis]]:
    """The most probable labels of each row, by prefix beam search (Graves 2012; Hannun et al. 2014).

    After each step, the `beam_size` most probable prefixes are kept, each with the sum over its paths. Ties go to
    prefixes that were in the beam before, then to extensions of better prefixes, then to those whose last label is more
    probable, then to the lower label.

    Args:
        logits: (N, T, C), float32 or float64, or a list of arrays (T_n, C), as `predict` returns them; softmax is
            applied here. Of probabilities p give np.log(p), or the search finds other labels; a warning says so where
            they sum to 1.
        lengths: (N,) valid steps of each row; not with a list.
        beam_size: number of prefixes kept; if large enough, the result is exact.
        blank: the class of the blank.
        n_best: number of hypotheses to return, at most `beam_size`.

    Returns:
        For each of N rows, up to `n_best` hypotheses, the most probable first; ties go to the lower labels. The
        probabilities sum over the paths that the search followed, so they are at most the true ones.

    Raises:
        ValueError, TypeError: logits, lengths, blank or sizes do not fit.

    Example:
        >>> logits = 10 * np.eye(3, dtype=np.float32)[[[0, 1, 1, 0, 2]]]  # 0 is the blank
        >>> best, second = rc.ctc.beam_search(logits, n_best=2)[0]
        >>> best.labels.tolist(), best.log_prob > second.log_prob
        ([1, 2], True)
    """
    operation = "ctc.beam_search"
    logits, valid, blank = _checked(operation, logits, lengths, blank)
    beam_size = checks.integer(operation, "beam_size", beam_size, maximum=2**20)
    n_best = checks.integer(operation, "n_best", n_best, maximum=beam_size)
    rows = _core.ctc_beam_search(logits, valid, blank, beam_size, n_best)
    return [[Hypothesis(*pair) for pair in row] for row in rows]


def _checked(operation: str, logits: Any, lengths: Lengths, blank: int) -> tuple[Array, Array | None, int]:
    together = padded(operation, "logits", logits)
    if together is not None:
        if lengths is not None:
            raise ValueError(
                f"{operation}: got lengths with a list of logits, expected none, as each row has its own length; "
                f"leave lengths "
                "out"
            )
        logits, lengths = together
    logits = checks.array(operation, "logits", logits)
    if logits.dtype not in (np.float32, np.float64):
        raise TypeError(
            f"{operation}: got logits of {logits.dtype}, expected float32 or float64; write logits.astype(np.float32)"
        )
    if logits.ndim != 3 or not logits.shape[2]:
        raise ValueError(
            f"{operation}: got logits of shape {logits.shape}, expected (N, T, C); write logits[None] if it is one row"
        )
    valid = None if lengths is None else checks.lengths_within(operation, lengths, *logits.shape[:2])
    used = logits if valid is None else logits[checks.steps_within(valid, logits.shape[1])]
    if not (used < np.inf).all():
        raise ValueError(
            f"{operation}: got NaN or infinity in logits, expected finite numbers, or -infinity for an impossible "
            "class; check the model that computed them"
        )
    if (used == -np.inf).all(-1).any():
        raise ValueError(
            f"{operation}: got a step whose logits are all -infinity, expected a possible class at each step; give "
            f"lengths"
        )
    if used.size and (used >= 0).all() and (abs(used.sum(-1) - 1) < 1e-3).all() and (used != np.floor(used)).any():
        errors.warn(
            f"{operation}: got logits that sum to 1 at each step, as probabilities do, expected logits, of which the "
            "softmax is taken here; write np.log(probabilities)"
        )
    return logits, valid, checks.integer(operation, "blank", blank, 0, logits.shape[2] - 1)


keywords.explain_all(globals(), __all__)
