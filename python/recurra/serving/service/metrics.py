"""Counts in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from recurra.serving.stats import Histogram, PoolStats

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_GAUGES = {
    "streams": "Open streams.",
    "evicted": "Open streams without a slot.",
    "queue": "Steps and chunks that wait.",
}
_COUNTERS = {
    "steps": "Steps computed.",
    "refused": "Steps and chunks that met a full queue.",
    "expired": "Steps and chunks dropped as their timeout passed.",
    "cancelled": "Steps and chunks dropped as their caller had left.",
    "failed": "Steps and chunks that ended with another error.",
    "evictions": "Slots taken from idle streams.",
}
_HISTOGRAMS = {
    "batch_sizes": ("batch_streams", "Streams in a native call."),
    "waiting": ("waiting_seconds", "From a request to the beginning of its computation."),
    "computing": ("computing_seconds", "Native calls."),
}


def text(
    stats: PoolStats | None, counters: Mapping[tuple[str, str], int], gauges: Mapping[str, tuple[float, str]]
) -> str:
    """A page for Prometheus. counters: requests by route and status; gauges: others of the service, with what they are."""
    lines = [
        "# HELP recurra_requests_total Requests and connections that have ended.",
        "# TYPE recurra_requests_total counter",
        *(
            f'recurra_requests_total{{route="{route}",status="{status}"}} {count}'
            for (route, status), count in sorted(counters.items())
        ),
    ]
    for name, (value, about) in gauges.items():
        lines += _one(f"recurra_{name}", "gauge", about, value)
    if stats is not None:
        for name, about in _GAUGES.items():
            lines += _one(f"recurra_pool_{name}", "gauge", about, getattr(stats, name))
        for name, about in _COUNTERS.items():
            lines += _one(f"recurra_pool_{name}_total", "counter", about, getattr(stats, name))
        for name, (label, about) in _HISTOGRAMS.items():
            lines += _histogram(f"recurra_pool_{label}", about, getattr(stats, name))
    return "\n".join(lines) + "\n"


def _one(name: str, kind: str, about: str, value: float) -> Iterator[str]:
    yield from (f"# HELP {name} {about}", f"# TYPE {name} {kind}", f"{name} {value}")


def _histogram(name: str, about: str, histogram: Histogram) -> Iterator[str]:
    yield from (f"# HELP {name} {about}", f"# TYPE {name} histogram")
    below = 0
    for bound, count in zip(histogram.bounds, histogram.counts, strict=False):  # counts has one more
        below += count
        yield f'{name}_bucket{{le="{bound:.9g}"}} {below}'
    yield from (f'{name}_bucket{{le="+Inf"}} {histogram.number}', f"{name}_sum {histogram.total}")
    yield f"{name}_count {histogram.number}"
