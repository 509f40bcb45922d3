"""Greedy and beam search: generates sequences token by token, in one native call for all rows and steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from recurra import _core
from recurra.common import checks, keywords
from recurra.common.typing import Array, Lengths, State
from recurra.layers.native import NativeLayer
from recurra.models.sequential import Sequential
from recurra.running.state import StateLayout

if TYPE_CHECKING:
    import numpy.typing as npt


@dataclass(frozen=True)
class Hypotheses:
    """The result of a search over N rows, each row's best hypothesis first.

    Attributes:
        tokens: (N, n_best, L) integers: the tokens after the start, including the end token; 0 past the lengths.
        lengths: (N, n_best); 0 where a row has fewer than n_best hypotheses.
        scores: (N, n_best), float64: the sum of log-probabilities over the length penalty; -inf for missing hypotheses.
        log_probs: (N, n_best, L), the log-probability of each token.
        weights: (N, n_best, L, Tm), the attention weights over the memory at the step that generated each token; None
            without a memory.

    Example:
        >>> layers = rc.Sequential(
        ...     rc.Embedding(12, 8), rc.GRU(8, 16), rc.Linear(16, 12), seed=0
        ... )
        >>> found = rc.search.greedy(layers, start=10, end=11, max_steps=5, batch_size=2)
        >>> len(found.lists()), found.lengths.shape, found.scores.shape
        (2, (2, 1), (2, 1))
    """

    tokens: Array
    lengths: Array
    scores: Array
    log_probs: Array
    weights: Array | None

    def __len__(self) -> int:
        return len(self.tokens)

    def lists(self, rank: int = 0) -> list[list[int]]:
        """The tokens of each row's hypothesis of that rank, as plain lists."""
        return [row[rank, : lengths[rank]].tolist() for row, lengths in zip(self.tokens, self.lengths, strict=True)]


def greedy(
    layers: Any,
    *,
    start: int,
    end: int | None,
    max_steps: int,
    memory: npt.ArrayLike | None = None,
    memory_lengths: Lengths = None,
    state: State = None,
    batch_size: int | None = None,
) -> Hypotheses:
    """The most probable token at each step: `beam_search` with a beam of 1.

    Args:
        layers: native layers in sequence that compute the scores of the next token from a token; see `beam_search`.
        start, end, max_steps: the start token, the end token (None if there is none), the maximum length.
        memory, memory_lengths: the memory of an `AttentionDecoder` among the layers, (N, Tm, memory_size), and its
            valid steps.
        state: the initial state of the layers; None for zeros.
        batch_size: N, if neither a memory nor a state is given.

    Raises:
        ValueError, TypeError: as in `beam_search`.

    Example:
        >>> layers = rc.Sequential(
        ...     rc.Embedding(12, 8), rc.GRU(8, 16), rc.Linear(16, 12), seed=0
        ... )
        >>> found = rc.search.greedy(layers, start=10, end=11, max_steps=5, batch_size=2)
        >>> len(found.lists())
        2
    """
    return _search(
        "greedy",
        layers,
        beam_size=1,
        n_best=1,
        length_penalty=0.0,
        start=start,
        end=end,
        max_steps=max_steps,
        memory=memory,
        memory_lengths=memory_lengths,
        state=state,
        batch_size=batch_size,
    )


def beam_search(
    layers: Any,
    *,
    start: int,
    end: int | None,
    max_steps: int,
    beam_size: int = 5,
    n_best: int = 1,
    length_penalty: float = 0.0,
    memory: npt.ArrayLike | None = None,
    memory_lengths: Lengths = None,
    state: State = None,
    batch_size: int | None = None,
) -> Hypotheses:
    """The most probable sequences found by beam search.

        layers = (embedding, decoder, linear)
        hypotheses = rc.search.beam_search(layers, start=1, end=2, max_steps=50, memory=memory,
                                           memory_lengths=lengths, state=state)

    At each step, the `beam_size` best extensions of a row's hypotheses are kept. Hypotheses that end leave the beam;
    those that have not ended after `max_steps` are cut there. They are ranked by the sum of their log-probabilities
    over ((5 + length) / 6)^length_penalty (Wu et al. 2016). Ties go to the extension of the earlier hypothesis, then to
    the smaller token. Rows are searched independently.

    Args:
        layers: native layers in sequence that compute the scores of the next token from a token: an Embedding first;
            the last outputs a score (logit) for each token. One may be an `AttentionDecoder`. The layers of a trained
            model, or a `Sequential`.
        beam_size: number of hypotheses per row.
        n_best: number of hypotheses to return.
        length_penalty: 0 for none, 0.6 to 1 to favour longer sequences.
        start: the start token, which precedes the first.
        end: the end token; None if there is none.
        max_steps: maximum length of a sequence, including the end token.
        memory: (N, Tm, memory_size), the memory of the `AttentionDecoder`.
        memory_lengths: (N,) valid steps of the memory.
        state: the initial state of the layers: if only one has a state, that layer's state as its call takes it, else a
            list with one entry per layer. None for zeros.
        batch_size: N, if neither a memory nor a state is given.

    Raises:
        ValueError, TypeError: wrong layers, shapes or numbers.

    Example:
        >>> layers = rc.Sequential(
        ...     rc.Embedding(12, 8), rc.GRU(8, 16), rc.Linear(16, 12), seed=0
        ... )
        >>> found = rc.search.beam_search(
        ...     layers, start=10, end=11, max_steps=5, beam_size=4, n_best=2, batch_size=3
        ... )
        >>> found.tokens.shape[:2], found.scores.shape
        ((3, 2), (3, 2))
    """
    return _search(
        "beam_search",
        layers,
        beam_size=beam_size,
        n_best=n_best,
        length_penalty=length_penalty,
        start=start,
        end=end,
        max_steps=max_steps,
        memory=memory,
        memory_lengths=memory_lengths,
        state=state,
        batch_size=batch_size,
    )


def _search(
    operation: str,
    layers: Any,
    *,
    beam_size: int,
    n_best: int,
    length_penalty: float,
    start: int,
    end: int | None,
    max_steps: int,
    memory: npt.ArrayLike | None = None,
    memory_lengths: Lengths = None,
    state: State = None,
    batch_size: int | None = None,
) -> Hypotheses:
    chain = _native_layers(operation, layers)
    if memory is None and memory_lengths is not None:
        raise ValueError(
            f"{operation}: got memory_lengths without a memory, expected both; give memory, or leave it out"
        )
    looked_at = None if memory is None else checks.array(operation, "memory", memory)
    valid = None if memory_lengths is None else checks.lengths(operation, memory_lengths)
    arrays = _state_arrays(operation, layers, chain, state)
    found = _core.search(
        [layer.core for layer in chain],
        _rows(operation, looked_at, arrays, batch_size),
        arrays,
        looked_at,
        valid,
        start=checks.integer(operation, "start", start, 0),
        end=-1 if end is None else checks.integer(operation, "end", end, 0),
        max_steps=checks.integer(operation, "max_steps", max_steps),
        beam_size=checks.integer(operation, "beam_size", beam_size),
        n_best=checks.integer(operation, "n_best", n_best),
        length_penalty=checks.number(operation, "length_penalty", length_penalty),
    )
    return Hypotheses(*found)


def _native_layers(operation: str, layers: Any) -> list[NativeLayer]:
    chain = list(_in_a_row(layers)) if isinstance(layers, Sequential) else layers
    if not isinstance(chain, list | tuple) or not chain:
        raise TypeError(
            f"{operation}: got {type(layers).__name__} as layers, expected layers in sequence; write (embedding, ..., "
            f"linear)"
        )
    for index, layer in enumerate(chain):
        if not isinstance(layer, NativeLayer):
            raise TypeError(
                f"{operation}: got {type(layer).__name__} as layer {index}, expected native layers, as the search runs "
                "in the core; write (embedding, ..., linear)"
            )
    return list(chain)


def _in_a_row(model: Sequential) -> Iterator[Any]:
    for layer in model.layers:
        yield from _in_a_row(layer) if isinstance(layer, Sequential) else [layer]


def _state_arrays(operation: str, layers: Any, chain: Sequence[NativeLayer], state: State) -> list[Array | None]:
    owner = layers.label if isinstance(layers, Sequential) else f"Sequential({', '.join(one.label for one in chain)})"
    layout = StateLayout(owner, [layer._graph().nodes[0] for layer in chain], alone=False)
    with_state = [index for index, layer in enumerate(chain) if layer.state_names]
    if state is not None and len(with_state) == 1 and not (isinstance(state, list) and len(state) == len(chain)):
        entries: list[State] = [None] * len(chain)
        entries[with_state[0]] = state
        state = entries
    flat = layout.arrays(operation, state)
    count = sum(len(layer.state_names) for layer in chain)
    return (
        [None] * count
        if flat is None
        else [None if one is None else checks.array(operation, "state", one) for one in flat]
    )


def _rows(operation: str, memory: Array | None, arrays: Sequence[Array | None], batch_size: int | None) -> int:
    if batch_size is not None:
        return checks.integer(operation, "batch_size", batch_size, 0)
    if memory is not None and memory.ndim:
        return len(memory)
    for array in arrays:
        if array is not None and array.ndim > 1:
            return int(array.shape[1])
    raise ValueError(f"{operation}: got no memory, state or batch_size, expected one of them; give batch_size")


keywords.explain_all(globals(), ("Hypotheses", "beam_search", "greedy"))
