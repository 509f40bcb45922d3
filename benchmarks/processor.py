"""Which processor this is, for the names of the tables in `results/`."""

from __future__ import annotations

import platform
import re
from pathlib import Path

# Of /proc/cpuinfo: vendor, family and models, and what its makers call them. Servers of one name differ in clock and
# cores alone, which ratios hardly show.
KNOWN = (
    ("AuthenticAMD", 23, range(0x30, 0x100), "zen2"),
    ("AuthenticAMD", 25, (*range(0x10), *range(0x20, 0x60)), "zen3"),
    ("AuthenticAMD", 25, (*range(0x10, 0x20), *range(0x60, 0x80), *range(0xA0, 0xB0)), "zen4"),
    ("AuthenticAMD", 26, range(0x100), "zen5"),
    ("GenuineIntel", 6, (0x55,), "skylake-server"),
    ("GenuineIntel", 6, (0x6A, 0x6C), "ice-lake-server"),
    ("GenuineIntel", 6, (0x8F,), "sapphire-rapids"),
    ("GenuineIntel", 6, (0xCF,), "emerald-rapids"),
    ("GenuineIntel", 6, (0xAD, 0xAE), "granite-rapids"),
)
RESULTS = Path(__file__).resolve().parent / "results"


def cpu_name() -> str:
    """As the system calls it."""
    return _of_first_cpu().get("model name", platform.machine())


def microarchitecture() -> str:
    """A short name, such as "zen4"; of an unknown processor its vendor, family and model."""
    cpu = _of_first_cpu()
    if not {"vendor_id", "cpu family", "model"} <= cpu.keys():
        return re.sub(r"\W+", "-", platform.machine().lower())
    vendor, family, model = cpu["vendor_id"], int(cpu["cpu family"]), int(cpu["model"])
    for known_vendor, known_family, models, name in KNOWN:
        if (vendor, family) == (known_vendor, known_family) and model in models:
            return name
    return f"{vendor.lower()}-{family}-{model}"


def own_table() -> Path:
    """The table of ratios measured on such a processor, whether there is one or not."""
    return RESULTS / f"{microarchitecture()}.json"


def _of_first_cpu() -> dict[str, str]:
    path = Path("/proc/cpuinfo")
    first = path.read_text(encoding="utf-8").partition("\n\n")[0] if path.exists() else ""
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}
