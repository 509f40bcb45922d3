"""What a pool refuses."""

from __future__ import annotations


class Overloaded(RuntimeError):  # noqa: N818 - as queue.Full
    """A pool has no room: its queue is full, or all its slots are taken.

    Example:
        >>> model = rc.Sequential(rc.LSTM(3, 8), rc.Linear(8, 2))
        >>> pool = rc.serving.Pool(model, max_streams=1)
        >>> stream = pool.open()
        >>> try:
        ...     pool.open()
        ... except rc.serving.Overloaded:
        ...     print("try again later")
        try again later
        >>> pool.close()
    """


def expired(operation: str) -> TimeoutError:
    """The error of a request whose deadline passed before it was computed."""
    return TimeoutError(
        f"{operation}: got no turn before its timeout, expected one; it was not computed, and the stream is as before: "
        "try again, or allow more time"
    )
