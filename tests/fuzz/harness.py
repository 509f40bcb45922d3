"""Runs numbered random cases in child processes, so that a crash or a hang is a finding like a wrong exception.

A fuzz target is a script with a function `case(rng, report)`. Its child says which case it begins, so that the parent
knows which one killed it, and goes on behind that. Case i of seed s is always the same: `--seed s --only i` runs it
here, alone.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

#: A case is told what it does, for the reader of a finding, and gives what it found wrong.
Case = Callable[[np.random.Generator, Callable[[str], None]], str | None]

HUNG_AFTER = 120  # seconds without a new case: no case takes one, on a busy machine either


@dataclass
class Findings:
    """What went wrong, with how to see it again; `cases` were run."""

    cases: int = 0
    found: list[str] = field(default_factory=list)


def main(script: str, case: Case, memory: int = 4 << 30) -> int:
    """The command line of a target."""
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="for how long new cases are begun")
    parser.add_argument("--cases", type=int, help="so many cases instead")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of all cases")
    parser.add_argument("--only", type=int, help="this case alone, in this process")
    parser.add_argument("--first", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    sys.path[:] = [str(Path(path).absolute()) for path in sys.path]
    if given.only is not None or given.first is not None:
        with tempfile.TemporaryDirectory() as folder:  # what cases write is left there
            os.chdir(folder)
            if given.only is None:
                _child(case, given.seed, given.first, given.cases, memory)
            else:
                print(_one(case, given.seed, given.only, print) or "nothing was wrong")
            os.chdir("/")
        return 0
    result = run(script, given.seed, given.cases, None if given.cases else given.seconds)
    print(f"{result.cases} cases of seed {given.seed}: {len(result.found)} findings")
    return 1 if result.found else 0


def run(script: str, seed: int, cases: int | None, seconds: float | None = None, show: bool = True) -> Findings:
    """Run cases 0, 1, ...; until so many are done, or so many seconds are over."""
    result, stop_at = Findings(), None if seconds is None else time.monotonic() + seconds
    while (cases is None or result.cases < cases) and (stop_at is None or time.monotonic() < stop_at):
        count = 10**9 if cases is None else cases - result.cases
        _batch(script, seed, count, stop_at, result, show)
    return result


def _batch(script: str, seed: int, count: int, stop_at: float | None, result: Findings, show: bool) -> None:
    """One child, until its cases are done or one of them kills it."""
    first = result.cases
    command = [sys.executable, script, "--seed", str(seed), "--first", str(first), "--cases", str(count)]
    paths = [str(Path(path).absolute()) for path in sys.path if path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        errors: list[str] = []
        reader = threading.Thread(target=lambda pipe=child.stderr: errors.extend(pipe))
        reader.start()
        clock = _Watchdog(child)
        done, what, ended = first, "", False
        for line in child.stdout:
            clock.touch()
            kind, _, text = line.rstrip("\n").partition(" ")
            if kind == "begin":
                done, what = int(text), ""
                if stop_at is not None and time.monotonic() > stop_at:
                    ended = True
                    child.kill()
                    break
            elif kind == "what":
                what = text
            elif kind == "found":
                _add(result, script, seed, done, what, text.replace("\\n", "\n"), show)
            ended = kind == "end"
        clock.stop()
        code = child.wait()
        reader.join()
    result.cases = done if ended and stop_at is not None else done + 1
    if not ended:
        why = "hung" if clock.expired else f"ended the process with status {code}"
        _add(result, script, seed, done, what, f"{why}\n{''.join(errors[-25:])}", show)


def _add(result: Findings, script: str, seed: int, case: int, what: str, text: str, show: bool) -> None:
    finding = f"python {os.path.relpath(script)} --seed {seed} --only {case}\n  {what}\n  {text}"
    result.found.append(finding)
    if show:
        print(finding, flush=True)


class _Watchdog:
    """Kills a child that has begun no case for long."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        self._child, self._last, self.expired = child, time.monotonic(), False
        self._stopped = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def touch(self) -> None:
        self._last = time.monotonic()

    def stop(self) -> None:
        self._stopped.set()

    def _watch(self) -> None:
        while not self._stopped.wait(1):
            if time.monotonic() - self._last > HUNG_AFTER:
                self.expired = True
                self._child.kill()
                return


def _child(case: Case, seed: int, first: int, count: int, memory: int) -> None:
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    say = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what the cases print is no message
    for number in range(first, first + count):
        say.write(f"begin {number}\n")
        found = _one(case, seed, number, lambda what: say.write(f"what {what!r}\n") and None)
        if found:
            say.write("found " + found.replace("\n", "\\n") + "\n")
    say.write("end\n")


def _one(case: Case, seed: int, number: int, report: Callable[[str], None]) -> str | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return case(np.random.default_rng([seed, number]), report)
        except Exception as error:  # noqa: BLE001 - the fuzzer's own fault is a finding, too
            return f"the fuzzer itself: {unexpected(error, ())}"


def damaged(
    rng: np.random.Generator,
    report: Callable[[str], None],
    originals: Sequence[bytes],
    damages: Sequence[Callable[[np.random.Generator, bytes], bytes]],
    times: Sequence[int] = (1,),
) -> bytes:
    """One of the files, damaged as many times as one of `times` says."""
    original = content = originals[rng.integers(len(originals))]
    names = []
    for _ in range(rng.choice(times)):
        if content:
            chosen = damages[rng.integers(len(damages))]
            content = chosen(rng, content)
            names.append(chosen.__name__)
    report(f"{' and '.join(names)} of a file of {len(original)} bytes")
    return content


def read(content: bytes, reader: Callable[[Path], object], allowed: Sequence[type[BaseException]]) -> str | None:
    """Why a file should not have been read as it was; None if it may."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        path.write_bytes(content)
        try:
            reader(path)
        except BaseException as error:  # noqa: BLE001 - whatever comes out is looked at
            return unexpected(error, allowed)
    return None


def unexpected(error: BaseException, allowed: Sequence[type[BaseException]]) -> str | None:
    """Why an exception should not have come out; None if it may. A message must say something."""
    if isinstance(error, tuple(allowed)):
        return None if str(error).strip() else f"{type(error).__name__} without a message"
    last = traceback.extract_tb(error.__traceback__)[-4:]
    where = "; ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.line}" for frame in last)
    return f"{type(error).__name__}: {error}\n  at {where}"
