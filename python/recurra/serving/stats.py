"""What a pool counts, at the price of a few additions for each batch."""

from __future__ import annotations

from itertools import accumulate
from typing import NamedTuple

_SIZES = tuple(float(2**k) for k in range(17))
_SECONDS = tuple(1e-6 * 2**k for k in range(25))
#: Lengths in bits of all numbers of microseconds that there may be.
_PLACES = 64


class Histogram(NamedTuple):
    """Counts of values in ranges: counts[0] of those up to bounds[0], counts[i] of those from bounds[i - 1] to
    bounds[i], and a last one of those above all bounds.

    Attributes: bounds, the upper ends, each twice the one before; counts, one more than bounds; total, the sum of all
    values.

    Example:
        >>> times = rc.serving.Histogram(
        ...     bounds=(1.0, 2.0, 4.0), counts=(90, 5, 4, 1), total=90.0
        ... )
        >>> times.number, times.quantile(0.5), times.quantile(0.95)
        (100, 1.0, 2.0)
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float

    @property
    def number(self) -> int:
        """How many values there were."""
        return sum(self.counts)

    def cumulative(self) -> list[tuple[str, int]]:
        """The number of values up to each bound, as Prometheus writes it; the last one is up to "+Inf"."""
        names = [*(f"{bound:.9g}" for bound in self.bounds), "+Inf"]
        return list(zip(names, accumulate(self.counts), strict=True))

    def quantile(self, q: float) -> float:
        """The upper end of the range that the q-quantile falls into, 0 <= q <= 1; infinity above all bounds, 0 if there
        were no values."""
        left = q * self.number
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            left -= count
            if left <= 0 and count:
                return bound
        return 0.0


class PoolStats(NamedTuple):
    """What a pool did since it was made.

    Attributes:
        streams: open now, evicted ones included.
        evicted: of these, those without a slot.
        queue: steps and chunks that wait now.
        steps: single steps computed, those of chunks included, over all streams.
        refused: requests that met a full queue (`Overloaded`).
        expired: requests dropped as their timeout passed.
        cancelled: requests dropped as their caller had left.
        failed: requests that ended with another error.
        evictions: how often `evict_idle` took a slot away.
        batch_sizes: streams in each native call.
        waiting: seconds from a request to the beginning of its computation.
        computing: seconds of each native call, with gathering its inputs and copying its outputs.

    Example:
        >>> model = rc.Sequential(rc.LSTM(3, 8), rc.Linear(8, 2))
        >>> pool = rc.serving.Pool(model, max_streams=100)
        >>> with pool, pool.open() as stream:
        ...     _ = stream.process(np.ones((5, 3), np.float32))
        ...     stats = pool.stats()
        >>> stats.streams, stats.steps
        (1, 5)
    """

    streams: int
    evicted: int
    queue: int
    steps: int
    refused: int
    expired: int
    cancelled: int
    failed: int
    evictions: int
    batch_sizes: Histogram
    waiting: Histogram
    computing: Histogram


class Tally:
    """The counters, written by whoever has the scheduler's turn; `refused` and `left` under a lock, by others.

    Attributes: left, requests that expired before they came into the queue.
    """

    def __init__(self) -> None:
        self.refused = self.left = self.expired = self.cancelled = self.failed = self.evictions = 0
        self._steps = self._rows = self._alone = 0
        self._waited = self._computed = 0.0
        self._sizes = [0] * (len(_SIZES) + 1)
        self._waiting, self._computing = [0] * _PLACES, [0] * _PLACES

    def alone(self, steps: int, seconds: float) -> None:
        """A call of one stream that did not wait."""
        self._alone += 1
        self._steps += steps
        self._computed += seconds
        self._computing[int(seconds * 1e6).bit_length()] += 1

    def batch(self, rows: int, steps: int, seconds: float) -> None:
        """A native call of `steps` steps of so many rows."""
        self._rows += rows
        self._steps += rows * steps
        self._sizes[min((rows - 1).bit_length(), len(_SIZES))] += 1
        self._computed += seconds
        self._computing[int(seconds * 1e6).bit_length()] += 1

    def waited(self, seconds: float) -> None:
        """A request's time in the queue."""
        self._waited += seconds
        self._waiting[int(seconds * 1e6).bit_length()] += 1

    def joined(self, cancelled: int, seconds: float, lengths: list[tuple[int, int]]) -> None:
        """The times of a group of requests: their sum, and how many had each length in bits of their microseconds."""
        self.cancelled += cancelled
        self._waited += seconds
        for length, count in lengths:
            self._waiting[length] += count

    def stats(self, streams: int, evicted: int, queue: int) -> PoolStats:
        """Everything so far."""
        sizes = (self._sizes[0] + self._alone, *self._sizes[1:])
        return PoolStats(
            *(
                streams,
                evicted,
                queue,
                self._steps,
                self.refused,
                self.expired + self.left,
                self.cancelled,
                self.failed,
            ),
            self.evictions,
            Histogram(_SIZES, sizes, self._rows + self._alone),
            _of_seconds([self._waiting[0] + self._alone, *self._waiting[1:]], self._waited),
            _of_seconds(self._computing, self._computed),
        )


def _of_seconds(counts: list[int], total: float) -> Histogram:
    return Histogram(_SECONDS, (*counts[: len(_SECONDS)], sum(counts[len(_SECONDS) :])), total)
