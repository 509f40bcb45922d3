"""How Sphinx builds these pages: sphinx-build -W docs build/docs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import recurra

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "recurra"
copyright = "the recurra authors"
version = release = recurra.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

html_theme = "alabaster"
html_theme_options = {"page_width": "1100px", "description": "Recurrent neural networks on CPUs"}
html_show_copyright = False

myst_heading_anchors = 3  # links to headings, as on GitHub
default_role = "code"  # `x` in a docstring
autodoc_member_order = "bysource"
napoleon_use_ivar = True
autodoc_typehints = "none"  # docstrings say dtypes and shapes


def _literal_blocks(_app: Sphinx, what: str, _name: str, _object: object, _options: object, lines: list[str]) -> None:
    """A block behind an empty line that is indented deeper than the text above is code, equations or a table."""
    if what in ("attribute", "property"):
        lines[:0] = ["..", ""]  # or napoleon takes all before a colon for a type
    before = 0  # indentation of the last paragraph
    marked = []
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if line and marked and not marked[-1] and indent > before and not re.match(r" *[-*] ", line):
            marked += [" " * before + "::", ""]
        if line:
            before = indent
        marked.append(line)
    lines[:] = marked


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-docstring", _literal_blocks, priority=400)  # before napoleon sees them
