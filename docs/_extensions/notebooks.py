"""Every page with Python is a notebook, too: a link at its end."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_PYTHON = re.compile(r"^```python\n(.*?)^```$\n?", re.MULTILINE | re.DOTALL)
_FOLDER = "_notebooks"


def notebook(text: str) -> dict[str, Any] | None:
    """The notebook of a page in Markdown: its text, and a cell for each block of
    Python; None without any."""
    parts = _PYTHON.split(text)
    if len(parts) == 1:
        return None
    cells: list[dict[str, Any]] = []
    for number, part in enumerate(parts):
        code = number % 2 == 1
        source = part.strip("\n")
        if source:
            cell: dict[str, Any] = {
                "cell_type": "code" if code else "markdown",
                "metadata": {},
                "id": f"cell-{number}",
            }
            cell["source"] = source.splitlines(keepends=True)
            cells.append(
                cell | ({"execution_count": None, "outputs": []} if code else {})
            )
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {
        "cells": cells,
        "metadata": {"kernelspec": kernel},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def _write(
    app: Sphinx, page: str, _template: str, context: dict[str, Any], _doctree: object
) -> None:
    source = Path(app.srcdir) / f"{page}.md"
    made = notebook(source.read_text()) if source.exists() and page != "index" else None
    if made is None:
        return
    path = Path(app.outdir) / _FOLDER / f"{page}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(made, indent=1))
    link = context["pathto"](f"{_FOLDER}/{page}.ipynb", 1)
    context["body"] += (
        f'<p class="notebook"><a href="{link}" download>This page as a notebook</a></p>'
    )


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("html-page-context", _write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
