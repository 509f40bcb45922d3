"""The service of one model, as an ASGI application."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from recurra.common import checks
from recurra.layers.layer import Layer
from recurra.serving.door import seconds
from recurra.serving.pool import Pool
from recurra.serving.service import metrics
from recurra.serving.service.limits import Budget, Limits
from recurra.serving.service.predict import Predictor
from recurra.serving.service.problems import LOG, Problem, busy
from recurra.serving.service.store import Kept, Store
from recurra.serving.service.values import Values

if TYPE_CHECKING:
    from typing_extensions import Self

    from recurra.serving.service.session import Session

#: The code that a WebSocket without messages is closed with.
IDLE = 4000
#: Whole sequences that are computed at once; each call uses all threads where it is large.
_CALLS = 2
#: Streams on disk for each that may be open.
_KEPT = 10
#: Seconds between two looks for files that are too old.
_SWEEP_SECONDS = 60.0

R = TypeVar("R")


class Service:
    """A model behind HTTP and WebSocket: an ASGI application, to be run by uvicorn or mounted in another application.

    It has whole sequences at `/v1/predict`, streams of a `Pool` at the WebSocket `/v1/stream`, `/v1/model`, `/health`,
    `/metrics` for Prometheus, and at `/` a page on which people try the model. docs/serving.md has the protocol. It
    needs `pip install 'recurra[serve]'`; `python -m recurra serve model.safetensors` runs it by itself.

    `async with service:` in the lifespan of the application around it drains it at the end; run by itself, it does so
    on its own.

    Args:
        model: a layer or model. One that does not stream has whole sequences alone.
        max_streams: open streams. The pool's memory is taken at once.
        streams_per_client: of these, for one address (an IPv6 /64).
        max_batch: streams in one native call at most; None for no limit.
        max_body: bytes of a body or message.
        max_steps: steps in one of them, over all its sequences.
        max_memory: bytes that all bodies and messages, with what is made of them, hold together; an estimate.
        body_timeout: seconds for a body to arrive.
        step_timeout: seconds until a stream's step must have begun; None for any time.
        idle_timeout: seconds after which a stream is closed that sends no messages, or reads no answers; None for any
            time.
        snapshots: a folder for the states of streams, so that they go on after their connection broke or the process
            ended; None for none. Several processes may share it.
        snapshot_seconds: seconds between two snapshots of a stream that runs.
        keep_seconds: seconds for which a stream is kept there that nobody resumes.
        origins: web pages, such as "https://example.org", that may open streams, beside those of the same host; "*"
            for all.

    Raises:
        ImportError: Starlette is not installed.
        ValueError, TypeError: a wrong argument.
        OSError: the folder cannot be made.

    Example:
        >>> model = rc.Sequential(rc.LSTM(3, 8), rc.Linear(8, 2))
        >>> app = rc.serving.Service(model, max_streams=100)  # uvicorn.run(app)
        >>> app.pool.max_streams
        100
    """

    def __init__(
        self,
        model: Layer,
        *,
        max_streams: int = 1000,
        streams_per_client: int = 100,
        max_batch: int | None = None,
        max_body: int = 4 * 2**20,
        max_steps: int = 100_000,
        max_memory: int = 2**30,
        body_timeout: float = 30.0,
        step_timeout: float | None = None,
        idle_timeout: float | None = None,
        snapshots: str | os.PathLike[str] | None = None,
        snapshot_seconds: float = 10.0,
        keep_seconds: float = 3600.0,
        origins: Sequence[str] = (),
    ) -> None:
        routes = _routes()
        if not isinstance(model, Layer):
            raise TypeError(f"Service: got a {type(model).__name__} as the model, expected a layer or model of recurra")
        if isinstance(origins, str) or not all(isinstance(one, str) for one in origins):
            raise TypeError(
                f"Service: got origins={origins!r}, expected a list of texts; write ['https://example.org']"
            )
        self.limits = Limits(
            streams=checks.integer("Service", "max_streams", max_streams),
            per_client=checks.integer("Service", "streams_per_client", streams_per_client),
            body=checks.integer("Service", "max_body", max_body),
            steps=checks.integer("Service", "max_steps", max_steps),
            memory=checks.integer("Service", "max_memory", max_memory, maximum=2**63),
            body_seconds=checks.positive("Service", "body_timeout", body_timeout),
            step_seconds=None if step_timeout is None else checks.positive("Service", "step_timeout", step_timeout),
            idle_seconds=None if idle_timeout is None else checks.positive("Service", "idle_timeout", idle_timeout),
        )
        self._snapshot_seconds = checks.positive("Service", "snapshot_seconds", snapshot_seconds)
        keep_seconds = checks.positive("Service", "keep_seconds", keep_seconds)
        self.origins = frozenset(origins)
        self.model = model
        self.pool: Pool | None = None
        self._why_no_streams = ""
        try:
            self.pool = Pool(model, max_streams, max_batch)
        except ValueError as error:
            if max_batch is not None:
                checks.integer("Service", "max_batch", max_batch)
            self._why_no_streams = str(error)
        self._store = None
        if snapshots is not None:
            self._store = Store(checks.path("Service", "snapshots", snapshots), keep_seconds, _KEPT * max_streams)
        self.values = Values(model)
        self.budget = Budget(self.limits.memory)
        self.predictor = Predictor(model, self.values, self.limits)
        self._threads = ThreadPoolExecutor(_CALLS, "recurra-predict")
        self._disk = ThreadPoolExecutor(1, "recurra-snapshots")
        self._sessions: set[Session] = set()
        self._names: dict[str, Session] = {}
        self._clients: Counter[str] = Counter()
        self._counts: Counter[tuple[str, str]] = Counter()
        self._calls = 0
        self._draining = False
        self._tending: asyncio.Task[None] | None = None
        self._swept = -_SWEEP_SECONDS
        self._application = routes.application(self)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request or connection, by the rules of ASGI."""
        await self._application(scope, receive, send)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()

    @property
    def draining(self) -> bool:
        """Whether it takes no more requests."""
        return self._draining

    async def drain(self, timeout: float | None = None) -> None:
        """Take no more requests, answer those that came, and end the streams, after saving them if there is a folder.

        Args:
            timeout: seconds to wait; None for any time.

        Raises:
            TimeoutError: some are not done. The streams that do not compute are saved nevertheless.
        """
        timeout = seconds("Service.drain", timeout)
        end = None if timeout is None else monotonic() + timeout
        self._draining = True
        ends = [asyncio.create_task(one.end(1012, "the service restarts")) for one in list(self._sessions)]
        while self._sessions or self._calls:
            if end is not None and monotonic() >= end:
                await asyncio.gather(*(self._save(one) for one in list(self._sessions) if not one.computing))
                raise TimeoutError(
                    f"Service.drain: {len(self._sessions) + self._calls} callers remain after {timeout} seconds"
                )
            await asyncio.sleep(0.01)
        await asyncio.gather(*ends)

    async def close(self) -> None:
        """Drain, and close the pool."""
        await self.drain()
        if self._tending is not None and not self._tending.done():
            self._tending.cancel()
        if self.pool is not None:
            await self.pool.aclose()
        self._threads.shutdown()
        self._disk.shutdown()

    def statistics(self) -> str:
        """What `/metrics` shows: the pool's `stats()` and counts of requests, as Prometheus reads them."""
        gauges = {
            "connections": (float(len(self._sessions)), "WebSockets that are open."),
            "calls": (float(self._calls), "Whole sequences that are read, wait or are computed."),
            "request_memory_bytes": (float(self.budget.used), "Held by bodies and messages, estimated."),
        }
        return metrics.text(None if self.pool is None else self.pool.stats(), self._counts, gauges)

    # For its routes and sessions

    def count(self, route: str, status: int) -> None:
        """Of one more request, for the statistics."""
        self._counts[route, str(status)] += 1

    def check_takes(self) -> None:
        """Refuse requests while it is draining."""
        if self._draining:
            raise busy("got a request while the service ends, expected it before; try again", close=1012)

    @contextmanager
    def calling(self) -> Iterator[None]:
        """During the block a request is answered, which `drain` waits for."""
        self._calls += 1
        try:
            yield
        finally:
            self._calls -= 1

    async def call(self, function: Callable[..., R], *args: Any) -> R:
        """`function(*args)` on one of the threads for whole sequences."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *args)

    @property
    def streams(self) -> Pool:
        """The pool.

        Raises:
            Problem: the model has no streams.
        """
        if self.pool is None:
            raise Problem(422, "ValueError", self._why_no_streams, close=1008)
        return self.pool

    def check_room(self, client: str) -> None:
        """Refuse one more stream of this client, if need be."""
        self.check_takes()
        _ = self.streams
        if len(self._sessions) >= self.limits.streams:
            raise busy(
                f"got a stream while {self.limits.streams} are open, expected fewer; try again later", close=1013
            )
        if self._clients[client] >= self.limits.per_client:
            raise Problem(
                429,
                "Overloaded",
                f"got a stream while this client has {self.limits.per_client} open, expected fewer; close some",
                close=1008,
            )

    def admit(self, session: Session) -> None:
        """From now on it counts."""
        self._sessions.add(session)
        self._names[session.name] = session
        self._clients[session.client] += 1
        if self._tending is None or self._tending.done():
            self._tending = asyncio.get_running_loop().create_task(self._tend())

    def rename(self, session: Session, name: str) -> Session | None:
        """Give a session another name; the one that had it."""
        if self._names.get(session.name) is session:
            del self._names[session.name]
        old = self._names.get(name)
        session.name = name
        self._names[name] = session
        return old

    def forget(self, session: Session) -> None:
        """It has ended."""
        self._sessions.discard(session)
        if self._names.get(session.name) is session:
            del self._names[session.name]
        self._clients[session.client] -= 1
        if not self._clients[session.client]:
            del self._clients[session.client]

    # Snapshots

    @property
    def keeps(self) -> bool:
        """Whether streams are saved on disk."""
        return self._store is not None

    async def read(self, name: str) -> Kept | None:
        """A stream on disk."""
        return None if self._store is None else await self._on_disk(self._store.read, name)

    async def write(self, name: str, kept: Kept) -> bool:
        """Save a stream; False if that failed, which the log has."""
        if self._store is None:
            return False
        try:
            await self._on_disk(self._store.write, name, kept)
        except OSError as error:
            LOG.error("a stream could not be saved: %s", error)
            self.count("snapshot", 500)
            return False
        return True

    async def remove(self, name: str) -> None:
        """Forget a stream on disk."""
        if self._store is not None:
            await self._on_disk(self._store.remove, name)

    async def _on_disk(self, function: Callable[..., R], *args: Any) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._disk, function, *args)

    async def _tend(self) -> None:
        """While there are sessions: end those that are idle, and save the others now and then."""
        ends: set[asyncio.Task[None]] = set()
        while self._sessions:
            await asyncio.sleep(min(1.0, self._snapshot_seconds, self.limits.idle_seconds or 1.0))
            now = monotonic()
            saves = []
            for one in list(self._sessions):
                if self.limits.idle_seconds and not one.computing and one.used < now - self.limits.idle_seconds:
                    if one.busy:
                        one.give_up()
                        continue
                    task = asyncio.create_task(one.end(IDLE, "no message came for long"))
                    ends.add(task)
                    task.add_done_callback(ends.discard)
                elif self._store and (one.saved is None or one.saved[2] <= now - self._snapshot_seconds):
                    saves.append(self._save(one))
            await asyncio.gather(*saves)
            if self._store is not None and self._swept <= now - _SWEEP_SECONDS:
                self._swept = now
                try:
                    await self._on_disk(self._store.sweep)
                except OSError as error:
                    LOG.error("old streams could not be removed: %s", error)

    async def _save(self, session: Session) -> None:
        if self._store is None:
            return
        try:
            await session.save()
        except Exception as error:  # noqa: BLE001 - others are to be saved
            LOG.error("a stream could not be saved", exc_info=error)


def _routes() -> Any:
    try:
        from recurra.serving.service import routes  # late: it needs Starlette
    except ImportError as error:
        raise ImportError("Service: starlette is not installed; run pip install 'recurra[serve]'") from error
    return routes
