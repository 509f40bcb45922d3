"""From requests to outcomes, for whoever has the scheduler's turn."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import CancelledError
from time import perf_counter

from recurra.serving.errors import expired
from recurra.serving.requests import Request
from recurra.serving.rows import Rows
from recurra.serving.stats import Tally


class Batches:
    """Begins requests, and computes those that have begun."""

    def __init__(self, rows: Rows, tally: Tally) -> None:
        self._rows, self._tally = rows, tally

    def begin(self, request: Request, now: float) -> bool:
        """Whether the request, or the rest of its chunk, is to be computed. If not, it is done: the caller has left, it
        is too late, the stream is closed; or it was a call."""
        if not (request.is_wanted() if request.begun else request.start()):
            self._tally.cancelled += 1
            if request.at and request.stream is not None:
                self._rows.restore(request, request.stream.take_slot())
            request.fail(CancelledError())
            return False
        if request.begun:
            return True
        request.begun = True
        if request.deadline is not None and now > request.deadline:
            self._tally.expired += 1
            request.fail(expired("PoolStream"))
            return False
        try:
            if request.call is not None:
                request.finish(request.call())
                return False
            if request.stream is not None:
                request.stream.take_slot()
        except BaseException as error:  # noqa: BLE001 - it is the caller's
            self._tally.failed += 1
            request.fail(error)
            return False
        self._tally.waited(now - request.born)
        return True

    def compute(self, batch: Sequence[Request]) -> None:
        """Steps, and the next part of chunks, of requests that have begun, one of each stream."""
        if not batch:
            return
        streams = [one.stream for one in batch if one.stream is not None]
        self._rows.run(batch, [stream.take_slot() for stream in streams])
        now = perf_counter()
        for stream, request in zip(streams, batch, strict=True):
            stream.used = now
            if request.error is not None:
                self._tally.failed += 1
