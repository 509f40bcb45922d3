"""A client of ASGI applications without a network: it counts what they read, and leaves in the middle."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple

#: In place of an hour, in case that an application never answers.
PATIENCE = 60.0


class Reply(NamedTuple):
    """read: chunks of the body that the application has taken."""

    status: int
    headers: dict[str, str]
    body: bytes
    read: int

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        return str(self.json["error"]["message"])


class Closed(NamedTuple):
    """The end of a WebSocket. accepted: whether there was one at all."""

    code: int
    reason: str
    accepted: bool


def _scope(kind: str, path: str, headers: Mapping[str, str], host: str) -> dict[str, Any]:
    return {
        "type": kind,
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "http" if kind == "http" else "ws",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()],
        "client": (host, 50000),
        "server": ("testserver", 80),
        "subprotocols": [],
        "extensions": {},
    }


async def request(
    app: Any,
    method: str,
    path: str,
    body: bytes | Iterable[bytes] = b"",
    *,
    host: str = "203.0.113.9",
    whole: bool = True,
    **headers: str,
) -> Reply:
    """A request, with underscores in place of hyphens in headers' names. body: in chunks, if it is no bytes. If not
    `whole`, the client leaves after the body."""
    chunks = [body] if isinstance(body, bytes) else list(body)
    sent: list[dict[str, Any]] = []
    read = 0

    async def receive() -> dict[str, Any]:
        nonlocal read
        if read < len(chunks):
            read += 1
            more = read < len(chunks) or not whole
            return {"type": "http.request", "body": chunks[read - 1], "more_body": more}
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    plain = {name.replace("_", "-"): value for name, value in headers.items()}
    scope = _scope("http", path, plain, host) | {"method": method}
    await asyncio.wait_for(app(scope, receive, send), PATIENCE)
    found = {key.decode(): value.decode() for key, value in sent[0]["headers"]}
    return Reply(sent[0]["status"], found, b"".join(one.get("body", b"") for one in sent[1:]), read)


async def predict(app: Any, x: Any, **more: Any) -> Reply:
    """x, and more, as JSON to /v1/predict."""
    body = json.dumps({"x": x, **more}).encode()
    return await request(app, "POST", "/v1/predict", body, content_type="application/json")


class Socket:
    """One WebSocket."""

    def __init__(self) -> None:
        self.to_app: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.to_us: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.task: asyncio.Task[None] | None = None
        self._accepted = self._gone = False
        #: Cleared, the client reads nothing, and what is sent to it waits.
        self.reads = asyncio.Event()
        self.reads.set()

    async def _send(self, message: dict[str, Any]) -> None:
        await self.reads.wait()
        if self._gone:
            raise OSError("the client is gone")
        self.to_us.put_nowait(message)
        if message["type"] == "websocket.close":
            self.to_app.put_nowait({"type": "websocket.disconnect", "code": message.get("code", 1000), "reason": ""})

    def send(self, message: str | bytes | dict[str, Any]) -> None:
        """A message; objects as JSON."""
        kind = "bytes" if isinstance(message, bytes) else "text"
        plain = json.dumps(message) if isinstance(message, dict) else message
        self.to_app.put_nowait({"type": "websocket.receive", kind: plain})

    async def receive(self) -> Any:
        """What comes next: bytes, the value of a JSON text, or `Closed`."""
        message = await asyncio.wait_for(self.to_us.get(), PATIENCE)
        if message["type"] == "websocket.accept":
            self._accepted = True
            return await self.receive()
        if message["type"] == "websocket.close":
            return Closed(message.get("code", 1000), message.get("reason") or "", self._accepted)
        return json.loads(message["text"]) if message.get("text") is not None else message["bytes"]

    async def ask(self, message: str | bytes | dict[str, Any] | None = None, **fields: Any) -> Any:
        """The answer to a message, or to an object with these fields."""
        self.send(fields if message is None else message)
        return await self.receive()

    def vanish(self) -> None:
        """The connection breaks."""
        self._gone = True
        self.reads.set()
        self.to_app.put_nowait({"type": "websocket.disconnect", "code": 1006, "reason": ""})

    async def ended(self) -> None:
        """Once the application has done all that it does for this connection."""
        assert self.task is not None
        await asyncio.wait_for(asyncio.shield(self.task), PATIENCE)


@asynccontextmanager
async def connected(
    app: Any, path: str = "/v1/stream", *, host: str = "203.0.113.9", **headers: str
) -> AsyncIterator[Socket]:
    """A WebSocket, which leaves at the end of the block."""
    socket = Socket()
    socket.to_app.put_nowait({"type": "websocket.connect"})
    socket.task = asyncio.create_task(app(_scope("websocket", path, headers, host), socket.to_app.get, socket._send))
    try:
        yield socket
    finally:
        socket.vanish()
        with suppress(OSError):  # of an application that tells a client who has gone
            await socket.ended()
