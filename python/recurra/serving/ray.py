"""The service on a cluster: a Ray Serve application, whose replicas each have a pool of their own.

    from ray import serve
    from recurra.serving.ray import application

    serve.run(application("model.safetensors", {"num_replicas": 2}, snapshots="/shared/streams"))

Placement, restarts and the way from a port to a replica are Ray's. It needs `pip install 'recurra[ray]'`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from recurra.common import checks
from recurra.layers.layer import Layer
from recurra.saving.files import load
from recurra.serving.service.service import Service

#: Requests at once beside the streams.
_OTHERS = 256
#: Seconds between two snapshots of a stream.
_SNAPSHOT_SECONDS = 1.0

_service: Service | None = None  # of this process, which has one replica


def application(
    model: str | os.PathLike[str] | Layer | Callable[[], Layer],
    options: Mapping[str, Any] | None = None,
    *,
    max_streams: int = 1000,
    **service: Any,
) -> Any:
    """An application for `ray.serve.run`.

    A stream stays at the replica at which its WebSocket was opened. With a folder of snapshots that all replicas reach,
    `"resume"` finds it at any other, with the same bits: after the connection broke, and after Ray has stopped,
    replaced or lost the replica. Streams are saved when their connection ends, and each second while they run
    (`snapshot_seconds`): Ray waits `graceful_shutdown_timeout_s` for open WebSockets, and then kills the process.

    Args:
        model: a file that the replicas can read, a layer or model, or a function that makes one in the replica.
        options: of `ray.serve.deployment`, such as num_replicas, ray_actor_options, name.
        max_streams: open streams of each replica.
        service: other arguments of `Service`.

    Raises:
        ImportError: Ray Serve is not installed.
        ValueError, TypeError: a wrong argument. Those of the service are met in the replicas, whose deployment then
            fails.
    """
    try:
        from ray import serve
    except ImportError as error:
        raise ImportError("recurra.serving.ray: Ray Serve is not installed; run pip install 'recurra[ray]'") from error
    if not (isinstance(model, str | os.PathLike | Layer) or callable(model)):
        raise TypeError(
            f"recurra.serving.ray: got a {type(model).__name__} as the model, expected a file, a layer or model of "
            "recurra, or a function that returns one"
        )
    streams = checks.integer("application", "max_streams", max_streams)
    replica = serve.ingress(_application)(_Replica)
    made = serve.deployment(**{"name": "recurra", "max_ongoing_requests": streams + _OTHERS, **(options or {})})(
        replica
    )
    return made.bind(model, max_streams=streams, **{"snapshot_seconds": _SNAPSHOT_SECONDS, **service})


class _Replica:
    """Makes the service of its process."""

    def __init__(self, model: Any, **service: Any) -> None:
        global _service
        if isinstance(model, str | os.PathLike):
            model = load(model)
        elif not isinstance(model, Layer):
            model = model()
        _service = Service(model, **service)


class _Application:
    """The ASGI application of whatever service this process has. Ray pickles it, and not the service."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if _service is None:
            raise RuntimeError("recurra.serving.ray: got a request in a process without a replica")
        await _service(scope, receive, send)


_application = _Application()
