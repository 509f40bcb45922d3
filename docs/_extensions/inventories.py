"""Links to the pages of numpy, PyTorch, scikit-learn and Python, from a list in this
folder instead of the network."""

from __future__ import annotations

import tempfile
import zlib
from pathlib import Path


def mapping(listed: Path) -> dict[str, tuple[str, str]]:
    """For `intersphinx_mapping`: the sites of `listed`, each with an inventory of its
    names.

    A site is a line `project URL`; below it, indented, are lines `role URI name ...`,
    in which $ stands for a name.
    """
    folder = Path(tempfile.mkdtemp(prefix="inventories-"))
    sites: dict[str, tuple[str, str]] = {}
    entries: dict[str, list[str]] = {}
    project = ""
    for line in listed.read_text().splitlines():
        if line.startswith(" "):
            role, uri, *names = line.split()
            entries[project] += [
                f"{name} py:{role} 1 {uri.replace('$', name)} -" for name in names
            ]
        elif line and not line.startswith("#"):
            project, url = line.split()
            sites[project], entries[project] = (url, str(folder / f"{project}.inv")), []
    for project, lines in entries.items():
        head = (
            f"# Sphinx inventory version 2\n# Project: {project}\n# Version: \n"
            "# compressed using zlib.\n"
        )
        Path(sites[project][1]).write_bytes(
            head.encode() + zlib.compress("\n".join([*lines, ""]).encode())
        )
    return sites
