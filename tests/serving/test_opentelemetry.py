"""What a pool tells OpenTelemetry is what its stats() say."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest

import recurra as rc
from recurra.serving import Pool

export = pytest.importorskip("opentelemetry.sdk.metrics.export", reason="opentelemetry-sdk is not installed")
sdk = pytest.importorskip("opentelemetry.sdk.metrics")
from recurra.serving.opentelemetry import observe

X = np.zeros((7, 3), np.float32)


def collected(reader: Any) -> dict[str, list[tuple[dict[str, str], float]]]:
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    data = reader.get_metrics_data()
    for resource in data.resource_metrics if data else ():
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                points = [(dict(point.attributes), point.value) for point in metric.data.data_points]
                found.setdefault(metric.name, []).extend(points)
    return found


def test_metrics_are_the_stats() -> None:
    reader = export.InMemoryMetricReader()
    meter = sdk.MeterProvider([reader]).get_meter("test")
    pool, other = Pool(rc.GRU(3, 4, seed=0), 5), Pool(rc.GRU(3, 4, dtype="float64", seed=0), 2)
    observe(pool, meter, {"model": "one"})
    observe(other, meter, {"model": "other"})
    streams = [pool.open() for _ in range(3)]
    streams[0].process(X)
    for stream in streams:
        stream.step(X[0])
    stats = pool.stats()
    found = collected(reader)
    one = {"model": "one"}
    for name in ("streams", "evicted", "queue", "steps", "refused", "expired", "cancelled", "failed", "evictions"):
        assert (one, getattr(stats, name)) in found[f"recurra.pool.{name}"]
        assert len(found[f"recurra.pool.{name}"]) == 2
    assert (one, 4) in found["recurra.pool.batch_streams.count"]
    assert (one, stats.computing.total) in found["recurra.pool.computing_seconds.sum"]
    buckets = [value for about, value in found["recurra.pool.computing_seconds.bucket"] if about["model"] == "one"]
    assert buckets == sorted(buckets)
    assert buckets[-1] == 4
    assert ({**one, "le": "+Inf"}, 4) in found["recurra.pool.computing_seconds.bucket"]
    del pool, stream, streams
    gc.collect()
    assert all(about["model"] == "other" for points in collected(reader).values() for about, _ in points)


def test_what_is_no_pool() -> None:
    with pytest.raises(TypeError, match="got a GRU, expected a Pool"):
        observe(rc.GRU(1, 1))  # type: ignore[arg-type]
