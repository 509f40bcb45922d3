"""The fuzzers find nothing: a fixed number of cases of one seed, and more with every run by hand (see tests/fuzz)."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

FUZZ = Path(__file__).parents[1] / "fuzz"


def harness() -> Any:
    spec = importlib.util.spec_from_file_location("fuzz_harness", FUZZ / "harness.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("target", "cases"),
    [
        ("arguments", 3000),
        ("files", 1500),
        ("programs", 300),
        ("checkpoints", 200),
        ("keras_files", 400),
        ("onnx_files", 300),
    ],
)
def test_nothing_is_found(target: str, cases: int) -> None:
    result = harness().run(str(FUZZ / f"{target}.py"), seed=1, cases=cases, show=False)
    assert result.cases == cases
    assert not result.found, "\n".join(result.found)


def test_crashes_and_wrong_exceptions_are_findings(tmp_path: Path) -> None:
    """Each with the number of its case; the ones behind it are run."""
    script = tmp_path / "target.py"
    script.write_text(
        "import os, signal, sys\n"
        f"sys.path.insert(0, {str(FUZZ)!r})\n"
        "import harness\n"
        "def case(rng, report):\n"
        "    what = rng.integers(1 << 30)\n"
        "    report(f'draws {what}')\n"
        "    if what % 7 == 0:\n"
        "        os.kill(os.getpid(), signal.SIGSEGV)\n"
        "    if what % 5 == 0:\n"
        "        return harness.unexpected(KeyError('x'), (ValueError,))\n"
        "    return harness.unexpected(ValueError('' if what % 3 == 0 else 'said'), (ValueError,))\n"
        "if __name__ == '__main__':\n"
        "    sys.exit(harness.main(__file__, case))\n"
    )
    module = harness()
    result = module.run(str(script), seed=3, cases=40, show=False)
    assert result.cases == 40
    texts = "\n".join(result.found)
    assert "ended the process with status -11" in texts
    assert "KeyError: 'x'" in texts
    assert "ValueError without a message" in texts
    again = module.run(str(script), seed=3, cases=40, show=False)
    assert [one.splitlines()[:2] for one in again.found] == [one.splitlines()[:2] for one in result.found]
