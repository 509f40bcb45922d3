"""Number of threads, instruction set and build information."""

from __future__ import annotations

from typing import Any

from recurra import _core
from recurra.common import checks


def set_num_threads(threads: int) -> None:
    """Use at most `threads` threads per call, from the next call on. Results do not depend on it, bit for bit.

    Args:
        threads: how many. The default is the number of cores this process may use: its affinity and its cgroup's quota.

    Example:
        >>> before = rc.get_num_threads()
        >>> rc.set_num_threads(1)
        >>> rc.get_num_threads()
        1
        >>> rc.set_num_threads(before)
    """
    _core.set_num_threads(checks.integer("set_num_threads", "threads", threads))


def get_num_threads() -> int:
    """The maximum number of threads a call uses.

    Example:
        >>> rc.get_num_threads() >= 1
        True
    """
    return _core.num_threads()


def isa() -> str:
    """The instruction set in use; the environment variable RECURRA_ISA forces one when it is set before the import.

    Example:
        >>> rc.isa() in rc.build_info()["isas_supported"]
        True
    """
    return _core.isa()


def build_info() -> dict[str, Any]:
    """How the native core was built, and what it runs on.

    `version`, `compiler`; `isas_built` and `isas_supported`, the instruction sets that this build has and this
    processor runs, and `isa`, the one in use; `threads`, where threads come from: "pool", the package's own, or
    "openmp"; `default_threads`, how many a call may use; `cuda`, whether the build has it.

    Example:
        >>> rc.build_info()["threads"] in ("pool", "openmp")
        True
    """
    return _core.build_info()
