"""The service's routes, by Starlette."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from recurra import _core
from recurra.serving.service import metrics, page, problems
from recurra.serving.service.limits import client_of
from recurra.serving.service.predict import JSON, SAFETENSORS, Forms, read_body
from recurra.serving.service.problems import Problem
from recurra.serving.service.session import Session

if TYPE_CHECKING:
    from recurra.serving.service.service import Service


def application(service: Service) -> Starlette:
    """An ASGI application that answers for `service`, and closes it when it ends by itself."""

    async def predict(request: Request) -> Response:
        service.check_takes()
        forms = Forms.of(request.headers)
        with service.calling(), service.budget.share() as share:
            length = request.headers.get("content-length")
            body = await read_body(request.stream(), length, service.limits, share, forms.body)
            made = await service.call(service.predictor.answer, body, forms, share)
        return Response(made, media_type=JSON if forms.answer else SAFETENSORS)

    async def model(_request: Request) -> Response:
        return JSONResponse(_description(service))

    async def health(_request: Request) -> Response:
        status = "draining" if service.draining else "ok"
        return JSONResponse({"status": status}, 503 if service.draining else 200)

    async def statistics(_request: Request) -> Response:
        return Response(service.statistics(), headers={"Content-Type": metrics.CONTENT_TYPE})

    async def start(_request: Request) -> Response:
        return HTMLResponse(page.text(), headers=page.headers())

    async def stream(socket: WebSocket) -> None:
        await _stream(service, socket)

    @asynccontextmanager
    async def lifespan(_application: Starlette) -> AsyncIterator[None]:
        async with service:
            yield

    return Starlette(
        routes=[
            Route("/", start),
            Route("/health", health),
            Route("/metrics", statistics),
            Route("/v1/model", model),
            Route("/v1/predict", _answered(service, "predict", predict), methods=["POST"]),
            WebSocketRoute("/v1/stream", stream),
        ],
        exception_handlers={HTTPException: _unknown},
        lifespan=lifespan,
    )


def _answered(
    service: Service, route: str, answer: Callable[[Request], Awaitable[Response]]
) -> Callable[[Request], Awaitable[Response]]:
    """`answer`, or what its error says."""

    async def guarded(request: Request) -> Response:
        try:
            response = await answer(request)
        except ClientDisconnect:
            response = Response(status_code=400)  # to nobody
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets an answer
            response = _refusal(problems.of(error))
        service.count(route, response.status_code)
        return response

    return guarded


def _refusal(problem: Problem) -> Response:
    headers = {"Retry-After": "1"} if problem.status in (429, 503) else None
    return JSONResponse({"error": problem.plain()}, problem.status, headers)


async def _unknown(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    got = f"{request.method} {request.url.path}"[:200]
    problem = Problem(
        status, "NotFound", f"got {got}, expected GET /, /health, /metrics, /v1/model or POST /v1/predict"
    )
    return JSONResponse({"error": problem.plain()}, status, getattr(error, "headers", None))


def _description(service: Service) -> dict[str, object]:
    model, limits = service.model, service.limits
    return {
        "recurra": _core.__version__,
        "model": repr(model),
        "parameters": sum(one.size for one in model.params.values()),
        "inputs": service.values.describe(),
        "outputs": service.values.output_names,
        "streams": service.pool is not None,
        "limits": {
            "max_body": limits.body,
            "max_steps": limits.steps,
            "max_streams": limits.streams,
            "streams_per_client": limits.per_client,
        },
    }


def _is_welcome(service: Service, socket: WebSocket) -> bool:
    """Whether the page that opens this connection may: browsers let any page open one to any host."""
    origin = socket.headers.get("origin")
    if origin is None or "*" in service.origins or origin in service.origins:
        return True
    try:
        return urlsplit(origin).netloc == socket.headers.get("host")
    except ValueError:
        return False


async def _stream(service: Service, socket: WebSocket) -> None:
    if not _is_welcome(service, socket):
        service.count("stream", 403)
        await socket.close(1008)  # before it is accepted, this is 403
        return
    client = client_of(socket.client.host if socket.client else None)
    await socket.accept()
    try:
        service.check_room(client)
    except Problem as problem:
        service.count("stream", problem.status)
        with suppress(WebSocketDisconnect, OSError, RuntimeError):
            await socket.send_text(json.dumps({"error": problem.plain()}))
            await socket.close(problem.close or 1008, "see the message before")
        return
    session = Session(service, socket, client)
    service.admit(session)
    service.count("stream", 101)
    await session.run()
