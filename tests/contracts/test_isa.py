"""Every instruction set, of which RECURRA_ISA forces one at import: the others get processes of their own."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

import recurra as rc
from fresh_python import run_python
from other_isas import ISAS, OTHERS, RUNS


def test_the_machine_is_used() -> None:
    """No ISA is missing from the list, hence from the tests below, that this machine has."""
    if platform.machine() == "aarch64":
        assert ISAS == ["neon"]
    else:
        assert "baseline" in ISAS
    assert rc.isa() in ISAS
    if platform.machine() == "x86_64":
        flags = set(Path("/proc/cpuinfo").read_text().partition("flags")[2].partition("\n")[0].split())
        assert ("avx2" in ISAS) == ({"avx2", "fma"} <= flags)
        assert ("avx512" in ISAS) == ({"avx512f", "avx512bw", "avx512dq", "avx512vl"} <= flags)
    if "RECURRA_ISA" not in os.environ:
        assert rc.isa() == ISAS[0], "the best one is the default"


@pytest.mark.parametrize("isa", ISAS)
def test_a_forced_isa_is_the_one_that_runs(isa: str) -> None:
    assert run_python("import recurra; print(recurra.isa())", RECURRA_ISA=isa).strip() == isa


@pytest.mark.parametrize("isa", OTHERS)
def test_the_contracts_hold(isa: str) -> None:
    """In a process that conftest.py has started before the first test; this one is the last."""
    status, output = RUNS[isa].result(timeout=1800)
    assert status == 0, f"with RECURRA_ISA={isa}:\n{output[-20000:]}"
    assert f"recurra isa: {isa};" in output  # conftest.py: what rc.isa() said in there
    assert " passed" in output
    assert "skipped" not in output


def test_optimisers_give_the_same_bits_on_every_isa() -> None:
    steps = """
        import hashlib
        import numpy as np
        import recurra as rc

        optim = rc.optim
        digest = hashlib.sha256()
        for dtype in ("float32", "float64"):
            for optimizer in (
                optim.SGD(0.1, momentum=0.9, nesterov=True),
                optim.AdamW(0.01),
                optim.RMSprop(0.01, centered=True, momentum=0.5),
            ):
                layer = rc.GRU(7, 19, seed=0, dtype=dtype)
                for seed in range(5):
                    rng = np.random.default_rng(seed)
                    for grad in layer.grads.values():
                        grad[:] = rng.standard_normal(grad.shape)
                    norm, clipped = optimizer.step(layer, clip_value=1.5, clip_norm=4.0)
                    digest.update(np.array([norm, clipped]))
                for value in layer.params.values():
                    digest.update(value)
        print(digest.hexdigest())
        """
    assert len({run_python(steps, RECURRA_ISA=isa) for isa in ISAS}) == 1


@pytest.mark.parametrize("name", ["sse9", "AVX2 ", "avx2,avx512"])
def test_an_unknown_isa_is_an_error_that_names_the_valid_ones(name: str) -> None:
    output = run_python(
        """
        try:
            import recurra
        except (ImportError, ValueError) as error:
            print(error)
        """,
        RECURRA_ISA=name,
    )
    assert "RECURRA_ISA" in output
    assert name in output
    assert all(isa in output for isa in ISAS)
