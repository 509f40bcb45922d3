"""The same services behind WebSockets, in a process of their own.

`recurra serve`'s application for the pool of a model; for the others, and for a graph from ONNX, one that only answers
a step's bytes by those of its output. All run under the same server with the same options.
"""

from __future__ import annotations

import argparse
import gc
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from websockets.asyncio.client import connect

from callers.networks import Network, Silero
from callers.services import SERVICES, RecurraPool, Service
from engines import Array

FOLDER = Path(__file__).parents[1]


class OverSocket(Service):
    """A service in another process, on another CPU, to which each caller has a connection."""

    def __init__(self, name: str, network: Network, streams: int, cpu: int) -> None:
        self.name = name
        listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        listener.set_inheritable(True)
        self._port = listener.getsockname()[1]
        command = [sys.executable, "-m", "callers.sockets", name, str(streams), str(cpu), str(listener.fileno())]
        sizes = [] if isinstance(network, Silero) else [str(network.features), str(network.outputs)]
        path = os.pathsep.join([str(FOLDER), os.environ.get("PYTHONPATH", "")])
        self._process = subprocess.Popen(
            [*command, *sizes], pass_fds=[listener.fileno()], env=os.environ | {"PYTHONPATH": path}
        )
        listener.close()

    async def join(self) -> Any:
        return await connect(f"ws://127.0.0.1:{self._port}/v1/stream", compression=None, open_timeout=60, proxy=None)

    async def step(self, caller: Any, x: Array) -> Array:
        await caller.send(x.tobytes())
        return np.frombuffer(await caller.recv(), np.float32)

    async def leave(self, caller: Any) -> None:
        await caller.close()

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()


def plain(service: Service) -> Any:
    """An application of the fewest lines around a service."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket":
            raise ValueError(f"sockets: got a connection of type {scope['type']}, expected a WebSocket")
        await receive()
        await send({"type": "websocket.accept"})
        caller = await service.join()
        while (message := await receive())["type"] == "websocket.receive":
            y = await service.step(caller, np.frombuffer(message["bytes"], np.float32))
            await send({"type": "websocket.send", "bytes": y.tobytes()})
        await service.leave(caller)

    return application


def main() -> None:
    """Of the server's process."""
    parser = argparse.ArgumentParser(description="Serve a network over WebSockets.")
    parser.add_argument("service", choices=SERVICES)
    parser.add_argument("streams", type=int)
    parser.add_argument("cpu", type=int)
    parser.add_argument("fd", type=int)
    parser.add_argument("sizes", type=int, nargs="*")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, [arguments.cpu])
    network = Network(*arguments.sizes) if arguments.sizes else Silero()
    most = 2 * arguments.streams + 100
    application: Any
    if arguments.service == RecurraPool.name and arguments.sizes:
        import recurra as rc

        application = rc.serving.Service(network.model(), max_streams=most, streams_per_client=most)
    else:
        application = plain(SERVICES[arguments.service](network, arguments.streams))
    # As `recurra serve` has it.
    gc.freeze()
    options: dict[str, Any] = {"ws": "websockets-sansio", "ws_per_message_deflate": False, "ws_ping_timeout": 60.0}
    uvicorn.run(application, fd=arguments.fd, http="h11", lifespan="off", log_level="warning", **options)


if __name__ == "__main__":
    main()
