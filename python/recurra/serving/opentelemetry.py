"""A pool's `stats()` as metrics of OpenTelemetry.

    from recurra.serving.opentelemetry import observe

    observe(pool)

It needs `pip install 'recurra[otel]'`; what is done with the metrics is the application's, and its SDK's, matter.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from time import monotonic
from typing import Any

from recurra.serving.pool import Pool
from recurra.serving.service.metrics import COUNTERS, GAUGES, HISTOGRAMS
from recurra.serving.stats import Histogram, PoolStats

#: One look at the pool serves all instruments of a collection.
_SECONDS = 0.05


def observe(pool: Pool, meter: Any = None, attributes: Mapping[str, str] | None = None) -> None:
    """Make instruments that look at the pool whenever metrics are collected; nothing is recorded in between.

    Names begin with `recurra.pool.`: gauges `streams`, `evicted`, `queue`; counters `steps`, `refused`, `expired`,
    `cancelled`, `failed`, `evictions`. OpenTelemetry has no histograms that are observed, so each of `batch_streams`,
    `waiting_seconds` and `computing_seconds` is three counters, as Prometheus has them: `.count`, `.sum`, and `.bucket`
    with an attribute `le`, the number of values up to it.

    Args:
        pool: it may be forgotten; there are no values of it then.
        meter: of OpenTelemetry; None for that of the global provider.
        attributes: of all values, as a process with several pools has to tell them apart.

    Raises:
        ImportError: opentelemetry-api is not installed.
        TypeError: no pool.
    """
    try:
        from opentelemetry import metrics
    except ImportError as error:
        raise ImportError(
            "recurra.serving.opentelemetry: opentelemetry-api is not installed; run pip install 'recurra[otel]'"
        ) from error
    if not isinstance(pool, Pool):
        raise TypeError(f"observe: got a {type(pool).__name__}, expected a Pool")
    look = _Look(pool, dict(attributes or {}))
    meter = _meter() if meter is None else meter
    if meter in _watched:
        _watched[meter][:] = [*(one for one in _watched[meter] if one.alive), look]
    else:
        _watched[meter] = [look]
        _instrument(meter, _watched[meter], metrics.Observation)


#: What the instruments of each meter look at; the SDK would refuse a second one of the same name.
_watched: weakref.WeakKeyDictionary[Any, list[_Look]] = weakref.WeakKeyDictionary()


@cache
def _meter() -> Any:
    """That of the global provider, also of one that is set later."""
    from opentelemetry import metrics

    return metrics.get_meter("recurra")


def _instrument(meter: Any, watched: list[_Look], observation: Callable[..., Any]) -> None:
    def callback(values: Callable[[PoolStats], Iterable[tuple[float, dict[str, str]]]]) -> list[Any]:
        def observed(_options: Any) -> list[Any]:
            return [
                observation(value, {**look.attributes, **more})
                for look in list(watched)
                if (stats := look()) is not None
                for value, more in values(stats)
            ]

        return [observed]

    for name, about in GAUGES.items():
        meter.create_observable_gauge(_named(name), callback(_plain(name)), description=about)
    for name, about in COUNTERS.items():
        meter.create_observable_counter(_named(name), callback(_plain(name)), description=about)
    for name, (label, about) in HISTOGRAMS.items():
        for part, values in (("count", _count), ("sum", _sum), ("bucket", _buckets)):
            meter.create_observable_counter(_named(label, part), callback(_of(name, values)), description=about)


def _named(*parts: str) -> str:
    return ".".join(("recurra", "pool", *parts))


class _Look:
    """What the pool says, without keeping it alive."""

    def __init__(self, pool: Pool, attributes: dict[str, str]) -> None:
        self.attributes = attributes
        self._pool = weakref.ref(pool)
        self._last: tuple[float, PoolStats] | None = None

    @property
    def alive(self) -> bool:
        return self._pool() is not None

    def __call__(self) -> PoolStats | None:
        pool = self._pool()
        if pool is None:
            return None
        last, now = self._last, monotonic()
        if last is None or now - last[0] > _SECONDS:
            self._last = last = now, pool.stats()
        return last[1]


def _plain(name: str) -> Callable[[PoolStats], list[tuple[float, dict[str, str]]]]:
    return lambda stats: [(getattr(stats, name), {})]


def _of(
    name: str, values: Callable[[Histogram], list[tuple[float, dict[str, str]]]]
) -> Callable[[PoolStats], list[tuple[float, dict[str, str]]]]:
    return lambda stats: values(getattr(stats, name))


def _count(histogram: Histogram) -> list[tuple[float, dict[str, str]]]:
    return [(histogram.number, {})]


def _sum(histogram: Histogram) -> list[tuple[float, dict[str, str]]]:
    return [(histogram.total, {})]


def _buckets(histogram: Histogram) -> list[tuple[float, dict[str, str]]]:
    return [(below, {"le": bound}) for bound, below in histogram.cumulative()]
