"""How Sphinx builds these pages: sphinx-build -W docs build/docs."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

import inventories
import short_types

short_types.shorten()
import recurra

project = "recurra"
copyright = "the recurra authors"
version = release = recurra.__version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
    "docstrings",
    "links",
    "notebooks",
    "summaries",
]
exclude_patterns = ["_extensions"]

html_theme = "furo"
html_title = f"recurra {version}"
html_static_path = ["_static"]
html_css_files = ["recurra.css"]
html_favicon = html_logo = "_static/logo.svg"
html_theme_options = {"sidebar_hide_name": False, "top_of_page_buttons": []}
html_show_copyright = html_show_sphinx = html_copy_source = False
pygments_style, pygments_dark_style = "friendly", "github-dark"

myst_enable_extensions = ["attrs_inline", "colon_fence"]
myst_heading_anchors = 3  # links to headings, as on GitHub
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

default_role = "code"  # `x` in a docstring
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
maximum_signature_line_length = 80
toc_object_entries_show_parents = "hide"
napoleon_use_ivar = True
napoleon_use_admonition_for_examples = False
python_use_unqualified_type_names = True
viewcode_line_numbers = True

#: Names that are linked to, and where they are: no network is needed to build the
#: pages.
intersphinx_mapping = inventories.mapping(
    Path(__file__).parent / "_extensions" / "inventories.txt"
)
