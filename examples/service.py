"""A model's service inside an application of your own, with its check of who may ask, beside routes of its own.

    pip install 'recurra[serve]'
    TOKEN=secret uvicorn --app-dir examples service:app

    curl -H 'Authorization: Bearer secret' -H 'Content-Type: application/json' \
        -d '{"x": [[1, 2, 3]]}' http://127.0.0.1:8000/model/v1/predict
"""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send

import recurra as rc

model = rc.Sequential(rc.LSTM(3, 32), rc.Linear(32, 2), seed=0)  # or rc.load("model.safetensors")
service = rc.serving.Service(model, max_streams=100, snapshots=os.environ.get("SNAPSHOTS"))


class Authorised:
    """Lets in who brings the token; a WebSocket that does not is refused with 403."""

    def __init__(self, app: ASGIApp) -> None:
        self._app, self._expected = app, f"Bearer {os.environ['TOKEN']}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            given = HTTPConnection(scope).headers.get("authorization", "").encode()
            if not secrets.compare_digest(given, self._expected):
                refusal = PlainTextResponse("no token", 401)
                await (refusal(scope, receive, send) if scope["type"] == "http" else send({"type": "websocket.close"}))
                return
        await self._app(scope, receive, send)


@asynccontextmanager
async def lifespan(_app: Starlette) -> AsyncIterator[None]:
    """At the end, streams are saved, and calls answered."""
    async with service:
        yield


app = Starlette(routes=[Mount("/model", service)], middleware=[Middleware(Authorised)], lifespan=lifespan)
