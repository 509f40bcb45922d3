"""Sequences laid end to end in lanes, one lane per row of the batch, and cut into batches with carried state."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from recurra.common import checks, seeds
from recurra.common.typing import Rows
from recurra.data.batch import Batch, Batches
from recurra.data.laid import Laid
from recurra.data.rows import is_list


class Stateful(Batches):
    """The batches of `stateful`, the same in each epoch.

    Example:
        >>> batches = rc.data.stateful(np.arange(100), np.arange(100), batch_size=2, steps=10)
        >>> len(batches), next(iter(batches)).x.shape
        (5, (2, 10))
    """

    stay = True

    def __init__(self, laid: Laid, batch_size: int, steps: int) -> None:
        total = laid.steps
        self._laid, self._size = laid, steps
        self._counts = total // batch_size + (np.arange(batch_size) < total % batch_size)
        self._begins = np.cumsum(self._counts) - self._counts
        self.steps: int = -(-int(self._counts.max()) // steps)
        self._rows = batch_size

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Batch]:
        return self._laid.batches(self._begins, self._counts, self._size)

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of any epoch."""
        return iter(self)

    def config(self) -> dict[str, Any]:
        """Content and order."""
        return {"class": "Stateful", "batch_size": self._rows, "steps": self._size, "content": self._laid.fingerprint}


class Sessions(Batches):
    """The batches of `sessions`, epoch by epoch.

    Example:
        >>> visits = [np.array([3, 1, 4]), np.array([1, 5])]
        >>> source = rc.data.sessions(visits, visits, batch_size=2, steps=4, seed=0)
        >>> sum(1 for _ in source.epoch(0))
        1
    """

    stay = True

    steps = None  # depends on how the order fills the lanes

    def __init__(self, laid: Laid, batch_size: int, steps: int, seed: int | None, given: bool) -> None:
        self._laid, self._rows, self._size, self._seed = laid, batch_size, steps, seed
        self._seed_given = given
        self._lengths = np.diff(laid.bounds)

    def config(self) -> dict[str, Any]:
        """Content and order; a fresh seed is in `state_dict`."""
        seed = "fresh" if self._seed is not None and not self._seed_given else self._seed
        content = self._laid.fingerprint
        return {"class": "Sessions", "batch_size": self._rows, "steps": self._size, "seed": seed, "content": content}

    def state_dict(self) -> dict[str, Any]:
        """The seed of the orders; None without shuffling."""
        return {"seed": self._seed}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue with the orders of the run before."""
        seed = state["seed"]
        self._seed = None if seed is None else seeds.resolve("sessions", seed)

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of epoch `number`, from 0; with shuffling, each epoch has another order."""
        chosen = np.flatnonzero(self._lengths)
        if self._seed is not None:
            chosen = seeds.generator(seeds.derive(self._seed, number)).permutation(chosen)
        lanes: list[list[int]] = [[] for _ in range(self._rows)]
        ends = [(0, lane) for lane in range(self._rows)]
        for sequence, length in zip(chosen.tolist(), self._lengths[chosen].tolist(), strict=True):
            end, lane = ends[0]  # the lane that becomes free first
            lanes[lane].append(sequence)
            heapq.heapreplace(ends, (end + length, lane))
        chosen = np.concatenate([np.array(lane, np.int64) for lane in lanes])
        counts = np.array([self._lengths[lane].sum() for lane in lanes])
        lengths = self._lengths[chosen]
        order = np.repeat(self._laid.bounds[chosen] - (np.cumsum(lengths) - lengths), lengths) + np.arange(
            lengths.sum()
        )
        return self._laid.batches(np.cumsum(counts) - counts, counts, self._size, order)


def stateful(
    x: Rows | Mapping[str, Rows],
    y: Rows | Mapping[str, Rows],
    *,
    batch_size: int,
    steps: int,
    sample_weight: Rows | None = None,
) -> Stateful:
    """Batches of long sequences for truncated backpropagation through time.

    The sequence is cut into `batch_size` pieces whose lengths differ by one step at most. Row n of every batch reads
    the next `steps` steps of piece n, starting from its final state in the batch before: the state is carried through a
    whole piece, gradients flow through `steps` steps only (Williams and Peng 1990).

    Args:
        x: one long sequence, (T, features) or tokens (T,); or a list of several, which are laid end to end, with a zero
            state at the start of each. A single array is not copied and may be memory-mapped. For a model with several
            inputs a tuple or dict of such, all of the same steps.
        y: (T,) or (T, ...), the target at each step; a list of them if x is a list; for several outputs a tuple or dict
            of such. To predict the next token: x = text[:-1], y = text[1:].
        batch_size: number of pieces, and of rows of every batch.
        steps: number of steps of a batch.
        sample_weight: (T,), the weight of each step in the loss; a list if x is a list.

    Returns:
        An iterable that can be used repeatedly; its len() is the number of batches. It yields `Batch` objects, all but
        the first with carry=True. The last may be shorter, with lengths if the pieces differ in length.

    Raises:
        ValueError, TypeError: arrays whose shapes do not match, or fewer steps than batch_size.

    Example:
        >>> text = np.arange(101)
        >>> batches = rc.data.stateful(text[:-1], text[1:], batch_size=2, steps=10)
        >>> [batch.x[:, 0].tolist() for batch in batches][:2]
        [[0, 50], [10, 60]]
    """
    name = "stateful"
    batch_size, steps = checks.integer(name, "batch_size", batch_size), checks.integer(name, "steps", steps)
    laid = Laid.read(name, ("x", "y"), x, y, sample_weight)
    if laid.steps < batch_size:
        raise ValueError(
            f"{name}: got {laid.steps} steps in all for batch_size={batch_size}, expected at least one step for each "
            "row; lower batch_size"
        )
    return Stateful(laid, batch_size, steps)


def sessions(
    sequences: Sequence[npt.ArrayLike] | tuple[Any, ...] | Mapping[str, Any],
    targets: Sequence[npt.ArrayLike] | tuple[Any, ...] | Mapping[str, Any],
    *,
    batch_size: int,
    steps: int,
    shuffle: bool = True,
    seed: int | None = None,
    sample_weight: Sequence[npt.ArrayLike] | None = None,
) -> Sessions:
    """Session-parallel batches of many short sequences (Hidasi et al. 2016, Session-based recommendations with RNNs).

    The sequences are laid end to end in `batch_size` lanes, each sequence in the lane that becomes free first. Row n of
    every batch reads the next `steps` steps of lane n, with the state carried over; `reset` is true where a sequence
    starts. Padding, marked by lengths, occurs only when lanes run out.

    Args:
        sequences: a list of arrays, (T_n, features) or tokens (T_n,). Those without steps are left out. For a model
            with several inputs a tuple or dict of such lists, all of the same steps.
        targets: a list of arrays (T_n,) or (T_n, ...), the target at each step; for several outputs a tuple or dict of
            such lists. To predict the next item of a session s: s[:-1] as sequence, s[1:] as targets.
        batch_size: number of lanes, and of rows of every batch.
        steps: number of steps of a batch.
        shuffle: whether the order of the sequences is shuffled anew in each epoch.
        seed: of these orders: the same seed gives the same ones. None for a fresh seed; a resumed run takes over that
            of the first.
        sample_weight: a list of arrays (T_n,), the weight of each step in the loss.

    Returns:
        An object whose `epoch(number)` yields the `Batch` objects of an epoch, all but the first with carry=True.

    Raises:
        ValueError, TypeError: arrays whose shapes do not match, or fewer sequences than batch_size.

    Example:
        >>> visits = [np.array([3, 1, 4]), np.array([1, 5]), np.array([9, 2, 6, 5])]
        >>> following = [np.roll(items, -1) for items in visits]
        >>> source = rc.data.sessions(visits, following, batch_size=2, steps=4, shuffle=False)
        >>> batch = next(source.epoch(0))
        >>> batch.x.shape, batch.reset.shape
        ((2, 4), (2, 4))
    """
    name = "sessions"
    batch_size, steps = checks.integer(name, "batch_size", batch_size), checks.integer(name, "steps", steps)
    shuffle = checks.flag(name, "shuffle", shuffle)
    several = isinstance(sequences, tuple | Mapping)
    for one in (sequences.values() if isinstance(sequences, Mapping) else sequences) if several else (sequences,):
        if is_list(one):
            continue
        raise TypeError(
            f"{name}: got sequences of type {type(one).__name__}, expected a list of arrays; give one for each "
            f"sequence, or use stateful for a single long one"
        )
    laid = Laid.read(name, ("sequences", "targets"), sequences, targets, sample_weight)
    count = int(np.count_nonzero(np.diff(laid.bounds)))
    if count < batch_size:
        raise ValueError(
            f"{name}: got {count} non-empty sequences for batch_size={batch_size}, expected at least one for each "
            f"lane; lower batch_size"
        )
    return Sessions(laid, batch_size, steps, seeds.resolve(name, seed) if shuffle else None, seed is not None)
