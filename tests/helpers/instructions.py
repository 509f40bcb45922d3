"""Exceptions that arrive between two instructions, as those of signal handlers do."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from dis import opname
from functools import cache
from types import CodeType, FrameType
from typing import Any

#: No handler runs before these. From Python 3.12 on the compiler leaves some jumps out of the `with` and `try` around
#: them; the others are what a generator does that is closed before its end, which swallows exceptions.
SILENT = {"JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT", "CALL_INTRINSIC_1", "RERAISE"}


@cache
def _instructions(code: CodeType) -> bytes:
    return code.co_code


def at_instructions(
    call: Callable[[], object], arrive: Callable[[], None], wanted: Callable[[CodeType], bool] = lambda _code: True
) -> None:
    """A call, with `arrive` before each instruction of the wanted functions below it; it may raise. Instructions at
    which no signal is handled are left out."""

    def trace(frame: FrameType, event: str, _argument: object) -> Any:
        if not wanted(frame.f_code):
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        if event == "opcode" and opname[_instructions(frame.f_code)[frame.f_lasti]] not in SILENT:
            arrive()
        return trace

    before = sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # Python 3.12 looks whether any frame wants them when tracing begins
    gc.disable()  # its callbacks, such as hypothesis', are no part of the call and swallow what is raised in them
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
        gc.enable()
