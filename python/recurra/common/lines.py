"""Lines above a progress bar, which shares the terminal with them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import TextIO


class _Lines:
    """A text stream that hides the bar before it writes, and writes whole lines; flushing writes the rest, too."""

    def __init__(self, stream: TextIO, hide: Callable[[], None]) -> None:
        self.stream, self._hide = stream, hide
        self._text = ""
        self.unfinished = False  # the terminal's last line has text, and may get more

    def write(self, text: str) -> int:
        lines, end, self._text = (self._text + text).rpartition("\n")
        if end:
            self._put(lines + end)
        return len(text)

    def flush(self) -> None:
        if self._text:
            text, self._text = self._text, ""
            self._put(text)
        self.stream.flush()

    def _put(self, text: str) -> None:
        if not self.unfinished:
            self._hide()
        self.stream.write(text)
        self.stream.flush()  # in order with what the bar writes to the other stream
        self.unfinished = not text.endswith(("\n", "\r"))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class LinesAbove:
    """Until `close()`, what is printed, warned of or logged to stdout and stderr appears above the bar.

    Args:
        hide: takes the bar away; whoever draws it again first asks `unfinished`.
    """

    def __init__(self, hide: Callable[[], None]) -> None:
        streams = {name: getattr(sys, name) for name in ("stdout", "stderr")}
        self._lines = {name: _Lines(stream, hide) for name, stream in streams.items() if stream is not None}
        self._handlers: list[tuple[Any, _Lines]] = []
        for name, lines in self._lines.items():
            setattr(sys, name, lines)
            self._redirect_logs(lines)

    def _redirect_logs(self, lines: _Lines) -> None:
        """Handlers of the root logger and of the library's hold the stream itself."""
        logging = sys.modules.get("logging")
        loggers = [logging.getLogger(), logging.getLogger("recurra")] if logging else []
        for handler in [handler for logger in loggers for handler in logger.handlers]:
            if getattr(handler, "stream", None) is lines.stream and hasattr(handler, "setStream"):
                handler.setStream(lines)
                self._handlers.append((handler, lines))

    @property
    def unfinished(self) -> bool:
        """Whether the terminal's last line is text without an end, into which a bar would print."""
        return any(lines.unfinished for lines in self._lines.values())

    def close(self) -> None:
        """Write what is left, and end its line."""
        for handler, lines in self._handlers:
            if handler.stream is lines:
                handler.setStream(lines.stream)
        for name, lines in self._lines.items():
            lines.flush()
            if lines.unfinished:
                lines.write("\n")
            if getattr(sys, name) is lines:  # nobody has put another one in front of it
                setattr(sys, name, lines.stream)
