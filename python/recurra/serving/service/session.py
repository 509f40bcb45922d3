"""One WebSocket: a stream of the pool, and the messages that step it."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.websockets import WebSocket, WebSocketDisconnect

from recurra.common.typing import Array
from recurra.serving.pool_stream import PoolStream
from recurra.serving.service import problems
from recurra.serving.service.limits import Share
from recurra.serving.service.problems import Problem
from recurra.serving.service.store import Kept, is_name
from recurra.serving.service.values import JSON_COST, read_json, to_bytes

if TYPE_CHECKING:
    from recurra.serving.service.service import Service

#: The code that a WebSocket is closed with whose stream another has taken.
_RESUMED_ELSEWHERE = 4001
#: Bytes or numbers whose conversion would keep the event loop for long.
_MANY = 1 << 15

R = TypeVar("R")
A = TypeVar("A", str, bytes)


async def _beside(size: int, function: Callable[..., R], *args: Any) -> R:
    """`function(*args)`, on another thread if there is much to do."""
    return function(*args) if size < _MANY else await asyncio.to_thread(function, *args)


class Session:
    """Answers the messages of one connection, one after the other, until it ends.

    Attributes:
        name: of its stream, for `resume`; who knows it may have the stream.
        steps, resets: that the stream has seen since it was opened.
        busy: whether a message is being answered.
        used: when the last message came, in seconds of `monotonic`.
        ending: the code and reason to close the connection with, after the present message.
        saved: steps and resets of the file, and when it was written; None if there is none.
    """

    def __init__(self, service: Service, socket: WebSocket, client: str) -> None:
        self._service, self._socket, self.client = service, socket, client
        self.name = secrets.token_hex(16)
        self._stream: PoolStream | None = None
        self.steps = self.resets = 0
        self._last: str | bytes = ""  # the answer to the last message that changed the state
        self._lost = False  # whether a step was cancelled, and nobody knows whether it was computed
        self._state, self._saving = asyncio.Lock(), asyncio.Lock()  # the latter is taken before the former
        self._task: asyncio.Task[None] | None = None
        self._given_up = False
        self.busy = False
        self.used = monotonic()
        self.ending: tuple[int, str] | None = None
        self.saved: tuple[int, int, float] | None = None
        self._ops: dict[str, Callable[[dict[str, Any], Share], Any]] = {
            "open": self._open,
            "resume": self._resume,
            "step": self._step,
            "process": self._process,
            "reset": self._reset,
            "close": self._close_stream,
        }

    @property
    def computing(self) -> bool:
        """Whether the stream is in use."""
        return self._state.locked()

    async def run(self) -> None:
        """Until either side ends it."""
        self._task = asyncio.current_task()
        try:
            while self.ending is None:
                message = await self._socket.receive()
                if message["type"] == "websocket.disconnect":
                    return
                self.busy, self.used = True, monotonic()
                try:
                    answer = await self._answer(message.get("text"), message.get("bytes"))
                    await self._send(answer)
                finally:
                    self.busy = False
            await self._close()
        except (WebSocketDisconnect, OSError):
            pass
        except asyncio.CancelledError:
            if not self._given_up:
                raise
        finally:
            await self._leave()

    def give_up(self) -> None:
        """End without closing in order, as the other side reads nothing."""
        if self._task is not None and not self._given_up:
            self._given_up = True
            self._task.cancel()

    async def end(self, code: int, reason: str) -> None:
        """Close the connection; the message that is being answered is answered first."""
        if self.ending is None:
            self.ending = code, reason
            if not self.busy:
                await self._close()

    async def _send(self, answer: str | bytes) -> None:
        await (self._socket.send_text(answer) if isinstance(answer, str) else self._socket.send_bytes(answer))

    async def _close(self) -> None:
        assert self.ending is not None
        with suppress(RuntimeError, OSError, WebSocketDisconnect):  # the other side was faster
            await self._socket.close(*self.ending)

    # Messages

    async def _answer(self, text: str | None, data: bytes | None) -> str | bytes:
        about: dict[str, Any] = {}
        try:
            with self._service.budget.share() as share:
                if text is None:
                    x = self._from_bytes(data or b"", share)
                    if len(x) == 1:
                        return await self._run("message", x[0], None, to_bytes, share)
                    return await self._run("message", x, len(x), to_bytes, share)
                size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
                self._service.limits.check_body(size)
                share.add(size * (1 + JSON_COST))
                given = await _beside(len(text), read_json, "message", text)
                about = _about(given)
                op = about.get("op")
                if not isinstance(op, str) or op not in self._ops or not isinstance(about.get("id"), str | int | None):
                    raise ValueError(
                        f'message: got no object with "op", expected one of {", ".join(self._ops)}, and a number or '
                        'text as "id" if any; write {"op": "step", "x": [...]}'
                    )
                made: str = await self._ops[op](given, share)
                return made
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets an answer
            problem = problems.of(error)
            self._service.count("stream", problem.status)
            if problem.close is not None:
                self.ending = self.ending or (problem.close, "see the message before")
            known = {key: one for key, one in about.items() if isinstance(one, str | int)}
            return json.dumps({**known, "error": problem.plain()})

    def _from_bytes(self, data: bytes, share: Share) -> Array:
        self._service.limits.check_body(len(data))
        share.add(3 * len(data))
        return self._service.values.from_bytes("message", data)

    async def _step(self, given: dict[str, Any], share: Share) -> str:
        arrays = self._service.values.from_json("step", _x("step", given), chunk=False)
        x = self._service.values.inputs.join(arrays)
        return await self._run("step", x, None, lambda y: self._encode(given, y), share)

    async def _process(self, given: dict[str, Any], share: Share) -> str:
        values = self._service.values
        arrays = await _beside(_length(given), values.from_json, "process", _x("process", given))
        x = values.inputs.join(arrays)
        return await self._run("process", x, len(arrays[0]), lambda y: self._encode(given, y), share)

    def _encode(self, given: dict[str, Any], y: Any) -> str:
        return json.dumps({**_about(given), "y": self._service.values.to_json(y)})

    async def _run(self, operation: str, x: Any, steps: int | None, encode: Callable[[Any], A], share: Share) -> A:
        """The answer to a step, or to a chunk of so many steps."""
        limits, count = self._service.limits, 1 if steps is None else steps
        limits.check_steps(operation, count)
        cost = self._service.values.cost(count, as_json=True)
        share.add(cost)
        async with self._state:
            stream = self._stream
            if stream is None or self.ending is not None:
                stream = await self._opened()
            self._lost = True
            try:
                y = await (stream.astep if steps is None else stream.aprocess)(x, timeout=limits.step_seconds)
            except Exception:
                self._lost = False
                raise
            self.steps += count
            self._lost = False
            answer = encode(y) if cost < _MANY else await asyncio.to_thread(encode, y)
            self._last = answer
            return answer

    async def _open(self, given: dict[str, Any], _share: Share) -> str:
        async with self._state:
            await self._opened()
            return self._told(given)

    async def _opened(self) -> PoolStream:
        """The stream. For whoever has the lock of the state."""
        if self.ending is not None:
            raise problems.busy(
                "message: got one after the end of the stream, expected it before", close=self.ending[0]
            )
        if self._stream is None:
            self._stream = await self._service.streams.aopen()
        return self._stream

    def _told(self, given: dict[str, Any], **more: Any) -> str:
        named = {"stream": self.name, "steps": self.steps, "resets": self.resets}
        return json.dumps({**_about(given), **named, **more})

    async def _reset(self, given: dict[str, Any], _share: Share) -> str:
        async with self._state:
            stream = await self._opened()
            await stream.areset()
            self.resets += 1
            self._last = self._told(given)
            return self._last

    async def _resume(self, given: dict[str, Any], _share: Share) -> str:
        name = given.get("stream")
        if not isinstance(name, str) or not is_name(name):
            raise ValueError('resume: got no "stream", expected what the answer to "open" has called the stream')
        async with self._state:
            if self._stream is not None:
                raise ValueError(
                    "resume: got it after other messages, expected it as the first; open another connection"
                )
            old = self._service.rename(self, name)
            try:
                if old is None or not await old.give(self):
                    await self._restore(name)
            except BaseException:
                self._service.rename(self, secrets.token_hex(16))
                raise
            last = self._last_text()
            return self._told(given, last=json.loads(last) if last else None)

    async def _restore(self, name: str) -> None:
        kept = await self._service.read(name)
        if kept is None:
            raise Problem(
                404, "NotFound", "resume: got the name of no stream that is kept, expected one; open another stream"
            )
        self._stream = await self._service.streams.arestore(kept.snapshot)
        self.steps, self.resets, self._last = kept.steps, kept.resets, kept.last
        self.saved = kept.steps, kept.resets, monotonic()

    async def give(self, other: Session) -> bool:
        """Leave the stream to another session, as that of the same caller, whose connection broke."""
        await self.end(_RESUMED_ELSEWHERE, "the stream was resumed on another connection")
        async with self._saving, self._state:
            if self._stream is None or self._lost:
                return False
            other._stream, self._stream = self._stream, None
            other.steps, other.resets, other._last = self.steps, self.resets, self._last
            other.saved = self.saved
            return True

    async def _close_stream(self, given: dict[str, Any], _share: Share) -> str:
        async with self._saving:
            async with self._state:
                stream, self._stream = self._stream, None
                self.ending = self.ending or (1000, "")
                if stream is not None:
                    await stream.aclose()
            await self._service.remove(self.name)
            return self._told(given)

    # Snapshots

    def _last_text(self) -> str:
        last = self._last
        return last if isinstance(last, str) else json.dumps({"bytes": base64.b64encode(last).decode()})

    async def save(self) -> None:
        """Write the state to disk, if it has changed since."""
        async with self._saving:
            await self._write()

    async def _write(self) -> None:
        async with self._state:
            stream, counts = self._stream, (self.steps, self.resets)
            if stream is None or self._lost or (self.saved is not None and self.saved[:2] == counts):
                return
            data = await stream.asnapshot()
            kept = Kept(data, *counts, self._last_text())
        if await self._service.write(self.name, kept):
            self.saved = (*counts, monotonic())

    async def _leave(self) -> None:
        """Save the state, and give the slot back."""
        try:
            async with self._saving:
                try:
                    if self._service.keeps:
                        await self._write()
                finally:
                    stream, self._stream = self._stream, None
                    if stream is not None:
                        await stream.aclose()
        finally:
            self._service.forget(self)


def _about(given: Any) -> dict[str, Any]:
    """What an answer repeats of a message."""
    return {key: given[key] for key in ("op", "id") if key in given} if isinstance(given, dict) else {}


def _x(operation: str, given: dict[str, Any]) -> Any:
    if "x" not in given:
        raise ValueError(f'{operation}: got no "x", expected the numbers; see /v1/model')
    return given["x"]


def _length(given: dict[str, Any]) -> int:
    x = given.get("x")
    return len(x) * 8 if isinstance(x, list | dict) else 0
