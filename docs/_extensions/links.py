"""Names in running text become links to the reference: `rc.LSTM`, `losses.CTC`,
`model.fit(...)`, `torch.nn.GRU`."""

from __future__ import annotations

import inspect
import re
from functools import cache
from typing import TYPE_CHECKING

from docutils import nodes
from sphinx import addnodes
from sphinx.transforms import SphinxTransform

import recurra as rc

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_NAME = re.compile(r"([A-Za-z_][\w.]*)(?:\(.*\))?")
_PAGE = re.compile(r"docs/([\w/]+)\.md")
_LINKED = nodes.title | nodes.reference | addnodes.pending_xref | nodes.term
#: What pages call objects of a class.
_OBJECTS = {
    "model": "recurra.Sequential",
    "stream": "recurra.Stream",
    "tape": "recurra.Tape",
}
_OTHERS = {
    "np": "numpy",
    "nn": "torch.nn",
    "torch": "torch",
    "numpy": "numpy",
    "sklearn": "sklearn",
}


#: Pages whose bare names are another library's.
_SPEAKS_OF = {"from_torch": "torch.nn", "from_keras": "keras"}


@cache
def public_names() -> dict[str, str]:
    """What people write, behind `rc.` or not, to what the reference calls it."""
    names: dict[str, str] = {}
    for package in sorted(rc.__all__):
        module = getattr(rc, package)
        if inspect.ismodule(module):
            for name in getattr(module, "__all__", ("beam_search", "greedy")):
                names.setdefault(f"{package}.{name}", f"recurra.{package}.{name}")
                if name[0].isupper() or "_" in name:
                    names.setdefault(name, f"recurra.{package}.{name}")
    for name in rc.__all__:
        if name[0].isupper() or "_" in name:
            names[name] = f"recurra.{name}"
    return names


def target(text: str, page: str) -> str | None:
    """The full name of what a literal speaks of, if it is a name, or a call of one."""
    found = _NAME.fullmatch(text)
    if found is None:
        return None
    first, _, rest = found[1].removeprefix("rc.").partition(".")
    if first in _OBJECTS and rest:
        inherited = first == "model" and hasattr(rc.Layer, rest)
        return f"recurra.Layer.{rest}" if inherited else f"{_OBJECTS[first]}.{rest}"
    if first in _OTHERS and rest:
        return f"{_OTHERS[first]}.{rest}"
    if found[1].startswith(("rc.", "recurra.")):
        return "recurra." + found[1].partition(".")[2]
    own = _SPEAKS_OF.get(page)
    return public_names().get(found[1]) if own is None else f"{own}.{found[1]}"


class LinkedLiterals(SphinxTransform):
    """Puts a reference around such literals; one without a target stays as it is."""

    default_priority = 500

    def apply(self, **_options: object) -> None:
        here = self.env.docname
        for literal in list(self.document.findall(nodes.literal)):
            if isinstance(literal.parent, _LINKED):
                continue
            text = literal.astext()
            page = _PAGE.fullmatch(text)
            kind, name = ("std", f"/{page[1]}") if page else ("py", target(text, here))
            if name is not None:
                options = {
                    "refdomain": kind,
                    "reftype": "doc" if page else "obj",
                    "reftarget": name,
                    "refdoc": here,
                }
                reference = addnodes.pending_xref(
                    "", refexplicit=True, refwarn=False, **options
                )
                literal.replace_self(reference)
                reference += literal


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_transform(LinkedLiterals)
    return {"parallel_read_safe": True}
