"""The ladder of the Python package: a room imports from its own files and from rooms below, also inside functions."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "python" / "recurra"
#: The lowest first. `recurra/__init__.py` stands above them all: it gives the public names.
LADDER = [
    "common",
    "saving",
    "graph",
    "running",
    "data",
    "layers",
    "losses",
    "metrics",
    "objective",
    "optim",
    "callbacks",
    "inspection",
    "training",
    "models",
    "decoding",
    "interop",
    "diagnose",
    "sklearn",
    "serving",
]


def imported(tree: ast.AST) -> Iterator[str]:
    """Dotted names that a file imports when it runs, or that it names in strings for others to import."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue  # what only a type checker reads makes nothing depend on anything
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports name their room"
            yield from (f"{node.module}.{one.name}" for one in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from re.findall(r"^recurra\.[\w.]+$", node.value)
        yield from imported(node)


def rooms(path: Path) -> set[str]:
    """The rooms that a file imports from."""
    parts = [name.split(".") for name in imported(ast.parse(path.read_text()))]
    return {name[1] for name in parts if name[0] == "recurra" and len(name) > 1 and not name[1].startswith("_")}


def test_every_room_is_on_the_ladder() -> None:
    assert {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"} == set(LADDER)
    assert {path.name for path in PACKAGE.glob("*.py")} == {"__init__.py", "__main__.py"}


@pytest.mark.parametrize("room", LADDER)
def test_nothing_imports_from_a_room_above(room: str) -> None:
    allowed = set(LADDER[: LADDER.index(room) + 1])
    above = {str(path.relative_to(PACKAGE)): rooms(path) - allowed for path in (PACKAGE / room).rglob("*.py")}
    assert not {path: found for path, found in above.items() if found}
