"""uvicorn, which serves until it is told to end, and then drains."""

from __future__ import annotations

import asyncio
import gc
import threading
from types import FrameType
from typing import Any

import uvicorn

from recurra.serving.service.problems import LOG
from recurra.serving.service.service import Service

#: Connections that are no streams.
_OTHERS = 256


class Server(uvicorn.Server):
    """Serves a `Service`. At the first SIGTERM or Ctrl-C it answers what came, saves the streams and ends; at the
    second one, at once."""

    def __init__(self, config: uvicorn.Config, service: Service, drain_seconds: float) -> None:
        super().__init__(config)
        self._service, self._seconds = service, drain_seconds
        self._loop: asyncio.AbstractEventLoop | None = None
        self._draining: asyncio.Task[None] | None = None
        self._told = threading.Event()

    async def startup(self, sockets: Any = None) -> None:
        """Begin to listen."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """At a signal, on the main thread."""
        if self._loop is None or self._told.is_set():
            self.should_exit = self.force_exit = True
            return
        self._told.set()
        self._loop.call_soon_threadsafe(self._begin)

    def _begin(self) -> None:
        self._draining = asyncio.get_running_loop().create_task(self._drain())

    async def _drain(self) -> None:
        try:
            await self._service.drain(self._seconds)
        except TimeoutError as error:
            LOG.warning("%s", error)
        finally:
            self.should_exit = True


def run(service: Service, *, drain_seconds: float, proxies: str, **options: Any) -> None:
    """Serve until a signal. options: of `uvicorn.Config`, such as host and port.

    One message of each connection is read ahead, and none is decompressed: a small one could become large.
    """
    config = uvicorn.Config(
        service,
        http="h11",
        ws="websockets-sansio",
        ws_max_size=service.limits.body,
        ws_per_message_deflate=False,
        ws_ping_timeout=60.0,
        limit_concurrency=service.limits.streams + _OTHERS,
        timeout_graceful_shutdown=5,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=proxies,
        access_log=False,
        server_header=False,
        **options,
    )
    gc.freeze()  # what is loaded by now stays, and is not to be looked at again in each full collection
    Server(config, service, drain_seconds).run()
