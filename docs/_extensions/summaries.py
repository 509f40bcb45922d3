"""The tables of docs/api/index.md: the names on each page of the reference."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING

import recurra as rc

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_ENTRY = re.compile(
    r"^\.\. auto(?:class|function|exception):: (?:recurra\.)?(\S+)$"
    r"|^\.\. automodule:: (\S+)\n   :members:\n(?:   :exclude-members: (.*))?",
    re.MULTILINE,
)


def names(page: str) -> list[str]:
    """Those that users write behind `rc.`, in the order of the page's text; bases of
    theirs are left out."""
    found: list[str] = []
    for name, path, left_out in _ENTRY.findall(page):
        if path:
            module, own = importlib.import_module(path), path.removeprefix("recurra.")
            found += [
                f"{own}.{one}"
                for one in getattr(module, "__all__", ())
                if one not in left_out.split(", ")
                and not inspect.ismodule(getattr(module, one))
            ]
        else:
            found.append(name)
    return [name for name in found if _is_public(name)]


def _is_public(name: str) -> bool:
    home = name.rpartition(".")[0]
    return home in ("", "optim.schedules", "sklearn") or home in rc.__all__


def _summary(name: str) -> str:
    """The first sentence of its docstring."""
    found: object = (
        importlib.import_module("recurra.sklearn")
        if name.startswith("sklearn.")
        else rc
    )
    for part in name.removeprefix("sklearn.").split("."):
        found = getattr(found, part)
    first = " ".join((inspect.getdoc(found) or "").split("\n\n")[0].split())
    return re.split(r"(?<![\s.])(?<!et al)[.:](?= |$)", first)[0] + "."


def _fill(app: Sphinx, page: str, source: list[str]) -> None:
    if page != "api/index":
        return
    tables = []
    for theme in re.findall(
        r"^([a-z]+)$", source[0].rpartition("{toctree}")[2], re.MULTILINE
    ):
        text = (Path(app.srcdir) / "api" / f"{theme}.md").read_text()
        title = re.search(r"^# (.*)$", text, re.MULTILINE)
        assert title is not None
        lines = "".join(
            f"   * - :py:obj:`~recurra.{name}`\n     - {_summary(name)}\n"
            for name in names(text)
        )
        options = "   :class: summaries\n   :widths: auto\n"
        table = f"```{{eval-rst}}\n.. list-table::\n{options}\n{lines}```\n"
        tables.append(f"## [{title[1]}]({theme}.md)\n\n{table}")
    source[0] = source[0].replace("<!-- tables -->", "\n".join(tables))


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", _fill)
    return {"parallel_read_safe": True}
