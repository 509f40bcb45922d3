"""The rules of the house as greps, and what an import costs."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

import pytest

import recurra as rc
from fresh_python import run_python
from recurra import _core

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src"

# The ladder, lowest rung first: a file includes from its own rung and from lower ones.
LADDER = [
    {"platform"},
    {"kernels"},
    {"device"},
    {"cpu", "cuda"},
    {"losses", "optim"},
    {"layers"},
    {"program", "search"},
    {"bindings"},
]


def sources(*folders: str) -> list[Path]:
    found = [path for folder in folders for path in sorted((SRC / folder).rglob("*")) if path.suffix in (".h", ".cpp")]
    assert found, f"no sources in {folders}"
    return found


def includes(path: Path) -> list[str]:
    return re.findall(r'^\s*#\s*include\s*([<"][^>"]+)[>"]', path.read_text(), re.MULTILINE)


def mentions(pattern: str, paths: list[Path]) -> list[str]:
    """Lines of code, comments aside, that match."""
    lines = [(path, line.partition("//")[0]) for path in paths for line in path.read_text().splitlines()]
    return [f"{path.relative_to(ROOT)}: {line.strip()}" for path, line in lines if re.search(pattern, line)]


def everything_but(*kept: str) -> list[Path]:
    return [
        path for path in sources(*(p.name for p in SRC.iterdir())) if not str(path.relative_to(SRC)).startswith(kept)
    ]


def test_every_folder_of_src_is_on_the_ladder() -> None:
    folders = {path.name for path in SRC.iterdir() if path.is_dir()}
    assert folders == set().union(*LADDER)


@pytest.mark.parametrize("rung", range(len(LADDER)), ids=lambda rung: "+".join(sorted(LADDER[rung])))
def test_nothing_includes_from_a_rung_above(rung: int) -> None:
    allowed = set().union(*LADDER[: rung + 1])
    for path in sources(*LADDER[rung]):
        for include in includes(path):
            if include.startswith('"'):
                folder, slash, _ = include[1:].partition("/")
                assert slash, f"{path}: {include}: includes name their folder"
                assert folder in allowed, f"{path.relative_to(SRC)} includes {include}"


@pytest.mark.parametrize("folder", ["losses", "optim", "layers", "program", "search", "bindings"])
def test_what_lies_above_the_seam_knows_no_device(folder: str) -> None:
    """Memory and operations are those of the device that a layer was made for. The bindings choose one, and tell about
    the machine."""
    of_machine = {"bindings/module.cpp", "bindings/runtime.cpp"}
    paths = [path for path in sources(folder) if str(path.relative_to(SRC)) not in of_machine]
    for path in paths:
        for include in includes(path):
            assert not include.startswith(('"cpu/', '"cuda/', '"kernels/')), (
                f"{path.relative_to(SRC)} includes {include}"
            )
    chooses = "" if folder == "bindings" else r"|\bcpu_devices?\b"
    assert not mentions(r"\bkernels<|\bcpu_device\b|\bcuda_device\b" + chooses, paths)


def test_the_seam_takes_only_plain_data_from_kernels() -> None:
    """What a device and its kernels share lies in kernels/, which includes nothing else; their own calls stay there."""
    shared = {
        "cells/cell_info.h": "RecurrentSpec, Device::cell",
        "cells/scan_call.h": "OwnCell",
        "cells/sequence.h": "Sequence, StateRows",
        "gemm/call.h": "ProductCall",
        "rows/call.h": "ActivationKind, ClassWeights",
        "rows/optim_call.h": "SgdCall, AdamCall, RmspropCall",
    }
    included = {include for path in sources("device") for include in includes(path)}
    assert {include for include in included if include.startswith('"kernels/')} == {
        f'"kernels/{header}' for header in shared
    }
    seen, waiting = set(), set(shared)
    while waiting:  # also by way of one another
        header = waiting.pop()
        seen.add(header)
        own = {include[9:] for include in includes(SRC / "kernels" / header) if include.startswith('"kernels/')}
        waiting |= own - seen
    assert not {"cells/call.h", "cells/table.h", "cells/layout.h"} & seen
    assert not mentions(r"\b(Forward|Backward|Gradient)Call\b", sources("device", "layers", "program", "search"))


def test_every_native_layer_runs_behind_the_fence() -> None:
    bindings = (SRC / "bindings/layers.cpp").read_text()
    layers = set(re.findall(r"(?:make|register_plain)<Py\w+, (\w+)>", bindings))
    assert len(layers) > 25
    tested = (ROOT / "cpp_tests/fence_test.cpp").read_text()
    assert {layer for layer in layers if not re.search(rf"\b{layer}\b(?:<T>)?>", tested)} == set()


#: What is compiled once for each instruction set; the lowest first.
KERNELS = ["simd", "rows", "gemm", "cells"]


@pytest.mark.parametrize("folder", KERNELS)
def test_per_isa_code_includes_almost_nothing(folder: str) -> None:
    """Rule 1: each other, three headers of C and three of platform/; so nothing that leaves a weak symbol."""
    allowed = (
        "<stddef.h",
        "<stdint.h",
        "<arm_neon.h",
        '"platform/barrier.h',
        '"platform/caches.h',
        '"platform/parallel.h',
    )
    below = KERNELS[: KERNELS.index(folder) + 1]
    for path in sources(f"kernels/{folder}"):
        for include in includes(path):
            own = include.startswith(tuple(f'"kernels/{name}/' for name in below))
            assert own or include in allowed, f"{path.name}: {include}"
    assert not mentions(r"\bstd::", sources(f"kernels/{folder}"))


def test_one_folder_knows_threads() -> None:
    assert not mentions(r"std::thread|<thread>|pthread_create|OpenMP|#\s*pragma\s+omp", everything_but("platform/"))


def test_one_folder_knows_cuda() -> None:
    assert not mentions(r"\bcuda[A-Z]\w+\(|__global__|__device__|<cuda|<cudnn", everything_but("cuda/"))


def test_one_folder_knows_python() -> None:
    assert not mentions(r"pybind|Python\.h|\bPy(_|[A-Z][a-z]+_)\w+", everything_but("bindings/"))


def test_nothing_is_left_to_do() -> None:
    paths = everything_but()
    paths += [path for folder in ("python", "examples", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    left = [path for path in paths if re.search(r"\b(TODO|FIXME|XXX|HACK)\b", path.read_text())]
    assert not left


def test_every_header_is_guarded_once() -> None:
    for path in everything_but():
        if path.suffix == ".h":
            assert path.read_text().count("#pragma once") == 1, path


def test_versions_agree() -> None:
    assert rc.__version__ == _core.__version__ == version("recurra")


def test_an_import_is_cheap() -> None:
    """It brings in at most 80 modules of its own and 25 of others beside numpy's; the time is a benchmark."""
    count = "import sys, {}; print(sum(name.startswith('recurra') for name in sys.modules), len(sys.modules))"
    own, everything = map(int, run_python(count.format("recurra")).split())
    of_numpy = int(run_python(count.format("numpy")).split()[1])
    assert own <= 80
    assert everything - own - of_numpy <= 25


def test_an_import_brings_nothing_that_it_does_not_need() -> None:
    loaded = run_python("import sys, recurra; print(*sorted({name.partition('.')[0] for name in sys.modules}))").split()
    assert not {"torch", "onnx", "onnxruntime", "matplotlib", "sklearn", "pandas", "scipy"} & set(loaded)


def test_everything_public_is_documented() -> None:
    """The docstring of a public class or function is there, and so are those of its public methods."""
    for name in rc.__all__:
        item = getattr(rc, name)
        if callable(item):
            assert item.__doc__, name
        for attribute, method in vars(item).items() if isinstance(item, type) else ():
            if not attribute.startswith("_") and callable(method):
                inherited = (getattr(getattr(base, attribute, None), "__doc__", None) for base in item.__mro__)
                assert any(inherited), f"{name}.{attribute}"
