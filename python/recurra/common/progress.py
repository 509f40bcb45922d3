"""The progress bar."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self

    from recurra.common.lines import LinesAbove


class Progress:
    """A tqdm bar, in terminals and notebooks, below what is printed meanwhile; does nothing if `shown` is False."""

    def __init__(self, total: int | None, description: str, shown: bool, done: int = 0) -> None:
        self.done = done
        self._bar: Any = None
        self._lines: LinesAbove | None = None
        if shown:
            from tqdm.auto import tqdm  # late, to keep `import recurra` cheap

            self._bar = tqdm(total=total, desc=description, unit="batch", dynamic_ncols=True, initial=done)

    def update(self, count: int = 1, **numbers: float) -> None:
        """Advance by `count` batches and show `numbers`."""
        self.done += count
        if self._bar is not None and not (self._lines and self._lines.unfinished):
            self._show(numbers)
            self._bar.update(self.done - self._bar.n)

    def finish(self, whole: bool, /, **numbers: float) -> None:
        """Show the final `numbers`; if it is `whole`, `done` is all that there was to do."""
        if self._bar is not None:
            self._close_lines()
            self._show(numbers)
            self._bar.n = self.done
            if whole:
                self._bar.total = self.done
            self._bar.refresh()

    def _show(self, numbers: dict[str, float]) -> None:
        self._bar.set_postfix({name: f"{value:.4g}" for name, value in numbers.items()}, refresh=False)

    def _close_lines(self) -> None:
        if self._lines is not None:
            self._lines.close()
            self._lines = None

    def __enter__(self) -> Self:
        if self._bar is not None and not hasattr(self._bar, "container"):  # a notebook's bar is apart from its text
            from recurra.common.lines import LinesAbove  # late, as tqdm is

            self._lines = LinesAbove(self._bar.clear)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._close_lines()
            self._bar.close()
