"""Counts in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from recurra.serving.stats import Histogram, PoolStats

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
GAUGES = {
    "streams": "Open streams.",
    "evicted": "Open streams without a slot.",
    "queue": "Steps and chunks that wait.",
}
COUNTERS = {
    "steps": "Steps computed.",
    "refused": "Steps and chunks that met a full queue.",
    "expired": "Steps and chunks dropped as their timeout passed.",
    "cancelled": "Steps and chunks dropped as their caller had left.",
    "failed": "Steps and chunks that ended with another error.",
    "evictions": "Slots taken from idle streams.",
}
HISTOGRAMS = {
    "batch_sizes": ("batch_streams", "Streams in a native call."),
    "waiting": ("waiting_seconds", "From a request to the beginning of its computation."),
    "computing": ("computing_seconds", "Native calls."),
}


def text(
    stats: PoolStats | None, counters: Mapping[tuple[str, str], int], gauges: Mapping[str, tuple[float, str]]
) -> str:
    """A page for Prometheus. counters: requests by route and status; gauges: others of the service, with what they
    are."""
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
        for name, about in GAUGES.items():
            lines += _one(f"recurra_pool_{name}", "gauge", about, getattr(stats, name))
        for name, about in COUNTERS.items():
            lines += _one(f"recurra_pool_{name}_total", "counter", about, getattr(stats, name))
        for name, (label, about) in HISTOGRAMS.items():
            lines += _histogram(f"recurra_pool_{label}", about, getattr(stats, name))
    return "\n".join(lines) + "\n"


def _one(name: str, kind: str, about: str, value: float) -> Iterator[str]:
    yield from (f"# HELP {name} {about}", f"# TYPE {name} {kind}", f"{name} {value}")


def _histogram(name: str, about: str, histogram: Histogram) -> Iterator[str]:
    yield from (f"# HELP {name} {about}", f"# TYPE {name} histogram")
    for bound, below in histogram.cumulative():
        yield f'{name}_bucket{{le="{bound}"}} {below}'
    yield f"{name}_sum {histogram.total}"
    yield f"{name}_count {histogram.number}"
