"""The core is not public, but within reach: no argument of any of its functions, and no half-made object, ends the
process.

What is called is what the module holds, so a new class or function is tried without being named here; it needs a line
in `GOOD_CALLS` of garbage.py, and this test says so.
"""

from __future__ import annotations

import inspect

import pytest

from fresh_python import run_python
from garbage import GOOD_CALLS
from recurra import _core

FUNCTIONS = [name for name, each in vars(_core).items() if inspect.isbuiltin(each)]
CLASSES = [name for name, each in vars(_core).items() if inspect.isclass(each)]
#: They change how the tests themselves run, or take a second.
LEFT_OUT = {"set_patient", "set_eager", "interrupt_at", "measure_peak"}


def tried(body: str) -> None:
    """In a process of its own, with little memory, whose last line of output before a crash says what it was doing."""
    run_python(
        """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
import garbage
from recurra import _core
"""
        + body
    )


def test_every_function_and_method_is_tried() -> None:
    called = {name for name, _make in GOOD_CALLS}
    methods = {
        f"{name}.{attribute}"
        for name in CLASSES
        for attribute, each in vars(getattr(_core, name)).items()
        if (attribute == "__init__" and name != "Layer") or (callable(each) and not attribute.startswith("_"))
    } - {"Tape.__init__", "Stream.__init__", "Update.__init__"}
    assert set(FUNCTIONS) - LEFT_OUT | methods <= called


@pytest.mark.parametrize("name", CLASSES)
def test_objects_made_by_new_alone(name: str) -> None:
    """In every method and property, and as an argument of every function."""
    tried(f"garbage.try_unmade(_core.{name})")


@pytest.mark.parametrize("name", sorted({name for name, _make in GOOD_CALLS}))
def test_garbage_for_each_argument(name: str) -> None:
    tried(f"garbage.try_arguments({name!r})")
