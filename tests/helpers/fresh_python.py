"""Code in a Python process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

#: For the code of `run_python`: in_a_child(work) forks and runs it in the child.
IN_A_CHILD = """
import os, sys, time

def in_a_child(work):
    # Runs it in a child, which says by its exit status how it went; one that hangs is killed after 20 s.
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(1)
        os._exit(0)
    deadline = time.monotonic() + 20
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert status == 0, f"child: status {status}"
            return
        if time.monotonic() > deadline:
            os.kill(child, 9)
            os.waitpid(child, 0)
            sys.exit("a child hangs")
        time.sleep(0.002)
"""


def run_python(code: str, *, timeout: float = 120.0, **environment: str) -> str:
    """Run code in a fresh interpreter that can import these tests; return its output, fail if it fails."""
    tests = str(Path(__file__).parents[1])
    paths = [*(path for path in sys.path if path.startswith(tests)), os.environ.get("PYTHONPATH", "")]
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), **environment}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    try:
        done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired as error:
        raise AssertionError(f"no end after {timeout} s\n{error.stdout!r}\n{error.stderr!r}") from None
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout
