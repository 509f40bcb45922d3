"""What a caller of the service is told when a request cannot be answered."""

from __future__ import annotations

import logging
from typing import Any

from recurra.serving.errors import Overloaded

LOG = logging.getLogger("recurra.serving")
#: Characters of a message, which may name what a caller has sent.
_LONGEST = 1000


class Problem(Exception):  # noqa: N818 - the answer to a request, not a fault of the program
    """An answer that refuses.

    Attributes:
        status: of HTTP.
        kind: the error's type in the answer.
        close: the code that a WebSocket is closed with; None if it stays open.
    """

    def __init__(self, status: int, kind: str, message: str, close: int | None = None) -> None:
        super().__init__(message)
        self.status, self.kind, self.close = status, kind, close

    def plain(self) -> dict[str, Any]:
        """As it goes into JSON."""
        return {"type": self.kind, "message": str(self)[:_LONGEST]}


def busy(message: str, close: int | None = None) -> Problem:
    """The service has no room for now."""
    return Problem(503, "Overloaded", message, close)


def of(error: BaseException) -> Problem:
    """The answer to an error of the library. What nobody expects is logged, and its text kept from the caller."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, Overloaded):
        return busy(str(error))
    if isinstance(error, TimeoutError):
        return Problem(503, "TimeoutError", str(error))
    if isinstance(error, MemoryError):
        return busy("got a request that does not fit in memory now, expected a smaller one; try again later")
    if isinstance(error, ValueError | TypeError):
        return Problem(422, type(error).__name__, str(error))
    LOG.error("a request failed", exc_info=error)
    return Problem(500, "InternalError", "got an error inside the service, expected none; its log has the details")
