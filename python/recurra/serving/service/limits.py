"""What one caller may take, and all of them together."""

from __future__ import annotations

import ipaddress
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

from recurra.serving.service.problems import Problem, busy

if TYPE_CHECKING:
    from typing_extensions import Self


class Limits(NamedTuple):
    """body: bytes of a request or message; steps: in one of these; streams, per_client: that are open at once; memory:
    bytes that all requests hold together; body_seconds: for a body to arrive; step_seconds: until a stream's step must
    have begun, idle_seconds: between two messages of a stream, None for any time."""

    streams: int
    per_client: int
    body: int
    steps: int
    memory: int
    body_seconds: float
    step_seconds: float | None
    idle_seconds: float | None

    def check_body(self, size: int) -> None:
        """Refuse a body or message of so many bytes."""
        if size > self.body:
            raise Problem(
                413,
                "TooLarge",
                f"got {size} bytes or more, expected at most {self.body}; send the sequence in parts, as a stream",
                close=1009,
            )

    def check_steps(self, operation: str, steps: int) -> None:
        """Refuse so many steps, over all sequences of a request."""
        if steps > self.steps:
            raise Problem(
                413,
                "TooLarge",
                f"{operation}: got {steps} steps, expected at most {self.steps}; send the sequence in parts, as a "
                "stream",
            )


class Budget:
    """The bytes that all requests hold."""

    def __init__(self, total: int) -> None:
        self.total, self.used = total, 0

    def share(self) -> Share:
        """Of one request."""
        return Share(self)


class Share:
    """What one request holds, until the end of its block."""

    def __init__(self, budget: Budget) -> None:
        self._budget, self._held = budget, 0

    def add(self, size: int) -> None:
        """Hold so many bytes more.

        Raises:
            Problem: there are not so many.
        """
        if self._held + size > self._budget.total:
            raise Problem(
                413,
                "TooLarge",
                f"got a request that needs {self._held + size} bytes of memory or more, expected at most "
                f"{self._budget.total}; send the sequence in parts, as a stream",
            )
        if self._budget.used + size > self._budget.total:
            raise busy("got a request while others hold all memory allowed for them, expected fewer; try again later")
        self._held += size
        self._budget.used += size

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        self._budget.used -= self._held
        self._held = 0


def client_of(host: str | None) -> str:
    """Whom a connection from this address counts for: an IPv6 subscriber has a whole /64."""
    try:
        address = ipaddress.ip_address(host or "")
    except ValueError:
        return host or "local"
    if address.version == 6:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)
