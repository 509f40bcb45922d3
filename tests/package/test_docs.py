"""The documentation is true: its Python runs, its shapes are those that come out, and the reference names all there
is."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import recurra as rc
from public import public_objects

ROOT = Path(__file__).parents[2]
FOLDERS = ["benchmarks", "cpp_tests", "docs", "examples", "python", "src", "tests"]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path) -> Iterator[tuple[int, str]]:
    """The page's Python, each block behind its number of lines above."""
    text = page.read_text()
    for found in re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield text.count("\n", 0, found.start(1)), found[1]


def claimed_shapes(line: str) -> list[tuple[int, ...]]:
    """Those that a comment at the end of the line begins with: `y, h = gru(x)  # (8, 20, 64), (1, 8, 64)`."""
    comment = re.search(r"# ((?:\(\d+(?:, \d+)*\)(?:, )?)+)", line)
    shapes = re.findall(r"\(([^)]*)\)", comment[1]) if comment else []
    return [tuple(map(int, shape.split(","))) for shape in shapes]


def shapes_of(value: Any) -> list[tuple[int, ...]]:
    if isinstance(value, tuple | list):
        return [shape for part in value for shape in shapes_of(part)]
    return [value.shape] if hasattr(value, "shape") else []


@pytest.mark.parametrize("page", [page for page in PAGES if any(blocks(page))], ids=lambda page: page.name)
def test_code_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the page's first block to its last, as one program in an empty folder."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": page.stem}
    for above, code in blocks(page):
        lines = code.splitlines()
        for statement in ast.parse(code).body:
            claimed = claimed_shapes(lines[(statement.end_lineno or 0) - 1])
            ast.increment_lineno(statement, above)
            exec(compile(ast.Module([statement], []), str(page), "exec"), names)  # noqa: S102 - the code is our own
            if claimed and isinstance(statement, ast.Assign):
                assert shapes_of(eval(ast.unparse(statement.targets[0]), names))[: len(claimed)] == claimed


def test_all_python_is_found() -> None:
    """No block hides behind another spelling of its language, and none is marked as not to be run."""
    for page in PAGES:
        languages = re.findall(r"^ *(?:```|~~~)(\S.*)$", page.read_text(), re.MULTILINE)
        assert {language for language in languages if "py" in language} <= {"python"}, page.name
        assert languages.count("python") == sum(1 for _ in blocks(page)), page.name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_fits_its_column(page: Path) -> None:
    """90 characters at the width of a laptop; what is longer scrolls."""
    for _, code in re.findall(r"^```([^\n]*)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL):
        assert not [line for line in code.splitlines() if len(line) > 88]


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"], ids=lambda page: page.name)
def test_the_files_it_names_are_there(page: Path) -> None:
    """As a path, or as the end of one."""
    for name in re.findall(r"`([\w./-]+\.(?:py|h|cpp|md|json))`", page.read_text()):
        where = [path for folder in FOLDERS for path in (ROOT / folder).rglob(Path(name).name)]
        where += [ROOT / name]
        assert any(path.exists() and str(path).endswith(f"/{name}") for path in where), name


def test_the_reference_names_everything() -> None:
    """Each public name has its place on one page of docs/api."""
    text = "\n".join(page.read_text() for page in (ROOT / "docs" / "api").glob("*.md"))
    named = re.findall(r"^\.\. auto(?:class|function|exception):: (?:recurra\.)?(\S+)$", text, re.MULTILINE)
    named += re.findall(r"^\.\. automodule:: recurra\.(?:decoding\.)?(\S+)$", text, re.MULTILINE)
    assert len(named) == len(set(named))
    assert set(rc.__all__) - {"__version__"} == {name for name in named if "." not in name}  # with a dot: shared bases


def test_the_index_names_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tables that are made of the pages of docs/api have all classes and functions."""
    monkeypatch.syspath_prepend(ROOT / "docs" / "_extensions")
    from summaries import names

    listed = [name for page in (ROOT / "docs" / "api").glob("*.md") for name in names(page.read_text())]
    assert sorted(listed) == sorted(public_objects())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_its_notebook_has_all_of_it(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The code as `test_code_runs` has run it, and the text between, in the order of the page."""
    monkeypatch.syspath_prepend(ROOT / "docs" / "_extensions")
    from notebooks import notebook

    text, code = page.read_text(), [code for _, code in blocks(page)]
    made = notebook(text)
    assert (made is None) == (not code)
    if made is not None:
        cells = [("".join(cell["source"]), cell["cell_type"]) for cell in made["cells"]]
        assert [source + "\n" for source, kind in cells if kind == "code"] == code
        rest = re.sub(r"^```python\n.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
        assert "\n".join(source for source, kind in cells if kind == "markdown").split() == rest.split()
        assert len({cell["id"] for cell in made["cells"]}) == len(cells)
