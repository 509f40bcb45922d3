"""Docstrings as this library writes them: blocks that are indented are code, equations
or tables."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx


def _literal_blocks(
    _app: Sphinx,
    what: str,
    _name: str,
    _object: object,
    _options: object,
    lines: list[str],
) -> None:
    """A block behind an empty line that is indented deeper than the text above is
    literal, but for examples."""
    if what in ("attribute", "property"):
        lines[:0] = ["..", ""]  # or napoleon takes all before a colon for a type
    before = 0  # indentation of the last paragraph
    marked: list[str] = []
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if (
            line
            and marked
            and not marked[-1]
            and indent > before
            and not re.match(r" *([-*]|>>>) ", line)
        ):
            marked += [" " * before + "::", ""]
        if line:
            before = indent
        marked.append(line)
    lines[:] = marked


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect(
        "autodoc-process-docstring", _literal_blocks, priority=400
    )  # before napoleon sees them
    return {"parallel_read_safe": True}
