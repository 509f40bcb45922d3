"""Contract 5: threads, forks, idleness and the floating-point mode."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

import recurra as rc
from agreement import assert_same_bits
from cell_cases import Case, draw
from cell_runs import Outcome, assert_same_outcome, solve, solver
from fresh_python import IN_A_CHILD, run_python

# The start of every script that needs a fresh process: a call big enough for threads, and its answer.
PRELUDE = """
import os, sys, threading, time
import numpy as np
import recurra as rc

rc.set_num_threads(2)
layer = rc.LSTM(32, 64, seed=0)
x = np.random.default_rng(0).standard_normal((64, 100, 32), dtype=np.float32)

def answer():
    tape = layer.record(x)
    dx, _ = tape.backward(np.ones_like(tape.y))
    return tape.y.tobytes() + dx.tobytes()

def check_in_a_child(expected):
    in_a_child(lambda: answer() == expected or os._exit(1))
"""


def script(body: str) -> str:
    return run_python(
        PRELUDE + IN_A_CHILD + body, PYTHONWARNINGS="ignore::DeprecationWarning"
    )  # Python warns of fork with threads


def test_threads_are_started_for_large_work_only() -> None:
    """So the tests of invariance above one thread do compare threads."""
    script(
        """
count = lambda: len(os.listdir("/proc/self/task"))
before = count()
small = rc.LSTM(8, 16)
small(x[:1, :4, :8].copy())
stream = small.stream(1)
stream.step(x[0, :1, :8].copy())
assert count() == before, "small work stays on its caller"
rc.set_num_threads(1)
answer()
assert count() == before, "one thread is the caller"
rc.set_num_threads(2)
answer()
assert count() > before, "large work is shared"
"""
    )


def test_sixteen_python_threads_on_one_model() -> None:
    problem = draw(Case("lstm", 20, 45, 13, 33, 2, bidirectional=True, ragged=True, resets=True))
    layer = solver(problem, "float32")
    expected = layer(np.nan_to_num(problem.x.astype("float32")), lengths=problem.lengths)[0]
    barrier = threading.Barrier(16)

    def call() -> Any:
        barrier.wait(10)
        return [layer(problem.x.astype("float32"), lengths=problem.lengths)[0] for _ in range(8)]

    with ThreadPoolExecutor(16) as pool:
        for results in [future.result() for future in [pool.submit(call) for _ in range(16)]]:
            for y in results:
                assert_same_bits(y, expected)


@pytest.mark.parametrize("make", [rc.LSTM, rc.GRU, rc.Linear])
def test_calls_see_one_version_of_parameters_that_are_trained_meanwhile(make: Any) -> None:
    """What is made of parameters takes the memory of what was made before, but never from a call that still reads
    it."""
    layer = make(24, 96, seed=0)
    x = np.random.default_rng(0).standard_normal((3, 40, 24)).astype(np.float32)
    turn = rc.optim.SGD(1.0, weight_decay=2.0)  # without a gradient: w - 2 w, exactly
    done = threading.Event()

    def answer() -> bytes:
        y = layer(x)
        return bytes((y[0] if isinstance(y, tuple) else y).tobytes())

    def call() -> set[bytes]:
        seen = set()
        while not done.is_set():
            seen.add(answer())
        return seen

    expected = {answer()}
    turn.step(layer)
    expected.add(answer())
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(call) for _ in range(4)]
        for _ in range(400):
            turn.step(layer)
        done.set()
        for future in calls:
            assert future.result() <= expected


def test_sixteen_python_threads_each_training_a_model_of_its_own() -> None:
    problem = draw(Case("gru", 20, 45, 33, 33, 2, bidirectional=True, ragged=True))
    expected = solve(problem, "float32")
    barrier = threading.Barrier(16)

    def call() -> Outcome:
        layer = solver(problem, "float32")
        barrier.wait(10)
        return solve(problem, "float32", layer)

    with ThreadPoolExecutor(16) as pool:
        for future in [pool.submit(call) for _ in range(16)]:
            assert_same_outcome(future.result(), expected)


def test_twenty_forks_after_a_threaded_call() -> None:
    script(
        """
expected = answer()
for _ in range(20):
    check_in_a_child(expected)
assert answer() == expected, "the parent still has its threads"
"""
    )


def test_forks_while_another_thread_is_inside_a_call() -> None:
    """At forty different moments of a thread that packs weights, runs forwards and backwards and adds gradients."""
    script(
        """
expected = answer()
stop = threading.Event()
calls = []
def work():
    while not stop.is_set():
        with layer.edit():
            pass  # the weights are as they were, but have to be packed again
        calls.append(answer() == expected)
worker = threading.Thread(target=work, daemon=True)
worker.start()
for k in range(40):
    time.sleep(0.0007 * k)
    check_in_a_child(expected)
stop.set()
worker.join()
assert calls and all(calls)
"""
    )


def test_a_forked_child_may_fork_and_thread_again() -> None:
    script(
        """
expected = answer()
child = os.fork()
if child == 0:
    results = []
    workers = [threading.Thread(target=lambda: results.append(answer() == expected)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(20)
    check_in_a_child(expected)
    os._exit(0 if results == [True] * 4 else 1)
assert os.waitpid(child, 0)[1] == 0
"""
    )


def test_a_child_has_its_streams_though_another_thread_was_using_them() -> None:
    """The stream goes on from the state before the call that did not survive; the tape cannot, and says so."""
    script(
        """
model = rc.Sequential(layer, rc.LSTM(64, 64, seed=1))
stream, twin = model.stream(1), model.stream(1)
for each in (stream, twin):
    each.process(x[:1])
state = stream.state()
expected = twin.step(x[:1, 0]).tobytes()
tape = model.record(np.repeat(x, 15, axis=1))
dy = np.ones_like(tape.y)
busy = [
    threading.Thread(target=lambda: stream.process(np.repeat(x[:1], 600, axis=1))),
    threading.Thread(target=lambda: tape.backward(dy)),
]

def complaint(call):
    try:
        call()
    except ValueError as error:
        return str(error)
    return ""

for thread in busy:
    thread.start()
while "in use by a call that is under way" not in complaint(stream.state):
    pass
time.sleep(0.1)
child = os.fork()
if child == 0:
    np.testing.assert_equal(stream.state(), state)
    assert stream.step(x[:1, 0]).tobytes() == expected
    stream.reset()
    assert stream.step(x[:1, 0]).tobytes() != expected
    assert "when this process was forked; record again" in complaint(lambda: tape.backward(dy))
    assert tape.closed and "closed" in complaint(lambda: tape.y)
    tape.close()
    del tape, stream
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert tape.nbytes, "the parent's calls were under way"
for thread in busy:
    thread.join()
assert "works once" in complaint(lambda: tape.backward(dy)) and complaint(stream.state) == ""
"""
    )


@pytest.mark.parametrize("before", ["", "import recurra"])
def test_a_sub_interpreter_refuses_the_import(before: str) -> None:
    """Whether it is the first import or not; the main interpreter can import it all the same."""
    run_python(
        f"""
{before}
try:
    import _interpreters as interpreters
except ModuleNotFoundError:
    import _xxsubinterpreters as interpreters

code = '''
try:
    import recurra._core
except ImportError as error:
    assert "sub-interpreter, expected the main interpreter" in str(error), error
else:
    raise AssertionError("it was imported")
'''
failed = interpreters.run_string(interpreters.create(), code)
assert failed is None, failed
import recurra as rc
rc.LSTM(2, 3)
""",
        timeout=30,
    )


def test_helpers_let_faults_and_profilers_signals_through() -> None:
    """The others are for the threads that were there before. A signal that a helper's creator blocks stays blocked."""
    run_python(
        """
import os, signal
import numpy as np
import recurra as rc

before = set(os.listdir("/proc/self/task"))
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTRAP})
rc.set_num_threads(2)
rc.LSTM(64, 128)(np.zeros((64, 60, 64), np.float32))
(helper,) = set(os.listdir("/proc/self/task")) - before
with open(f"/proc/self/task/{helper}/status") as status:
    blocked = int(next(line.split()[1] for line in status if line.startswith("SigBlk")), 16)
own = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT, signal.SIGPROF}
for each in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
    if each < 32:
        assert bool(blocked >> (each - 1) & 1) == (each not in own | {signal.SIGSYS}), each
"""
    )


def test_faulthandler_sees_a_helpers_fault() -> None:
    code = """
import ctypes, faulthandler, os, signal, time
import numpy as np
import recurra as rc

before = set(os.listdir("/proc/self/task"))
rc.set_num_threads(2)
rc.LSTM(64, 128)(np.zeros((64, 60, 64), np.float32))
(helper,) = set(os.listdir("/proc/self/task")) - before
faulthandler.enable()
tgkill = 234 if os.uname().machine == "x86_64" else 131
ctypes.CDLL(None).syscall(tgkill, os.getpid(), int(helper), int(signal.SIGSEGV))
time.sleep(5)
"""
    died = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert died.returncode == -signal.SIGSEGV, died
    assert "Fatal Python error: Segmentation fault" in died.stderr


def test_a_process_may_end_while_a_daemon_thread_is_inside_a_call() -> None:
    """Its exit status is 0: the thread that comes back to an interpreter that is gone does not take it down."""
    script(
        """
def work():
    while True:
        layer(x)
for _ in range(2):
    threading.Thread(target=work, daemon=True).start()
time.sleep(0.05)
"""
    )


@pytest.mark.parametrize("rows", [1, 64])  # a team, and rows of their own
def test_a_process_may_take_its_time_to_end_meanwhile(rows: int) -> None:
    """What the thread asks Python for in a process that is ending would end the thread, in the midst of the call."""
    script(
        f"""
class Slow:
    def __del__(self, sleep=time.sleep):
        sleep(0.3)
slow = Slow()
large = rc.LSTM(64, 256)
x = np.zeros(({rows}, 100000 // {rows}, 64), np.float32)
def work():
    while True:
        large(x)
threading.Thread(target=work, daemon=True).start()
time.sleep(0.1)
"""
    )


def test_the_process_is_idle_after_a_call() -> None:
    """Helpers go to sleep, and nothing wakes them: between two looks they get no turn on a processor."""
    script(
        """
mine = set(os.listdir("/proc/self/task"))
answer()
helpers = set(os.listdir("/proc/self/task")) - mine
assert helpers

def turns(helper):
    with open(f"/proc/self/task/{helper}/status") as status:
        lines = dict(line.split(":", 1) for line in status)
    return lines["State"].split()[0], lines["voluntary_ctxt_switches"], lines["nonvoluntary_ctxt_switches"]

deadline = time.monotonic() + 20
while any(turns(helper)[0] != "S" for helper in helpers):
    assert time.monotonic() < deadline, "they stay awake"
    time.sleep(0.005)
before = [turns(helper) for helper in helpers]
time.sleep(0.1)
assert [turns(helper) for helper in helpers] == before
"""
    )


@pytest.mark.parametrize("cpus", ["all", "one"])
def test_threads_may_still_run_everywhere_after_calls(cpus: str) -> None:
    """A thread that is woken is kept off its caller's processor, but only until it is awake."""
    run_python(
        f"""
import os, time
import numpy as np
import recurra as rc

if "{cpus}" == "one":
    os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}})
allowed, before = os.sched_getaffinity(0), os.listdir("/proc/self/task")
rc.set_num_threads(2)
layer, x = rc.LSTM(128, 128), np.zeros((32, 50, 128), np.float32)
for _ in range(10):
    layer(x)
    time.sleep(0.01)  # longer than threads stay awake
threads = [int(task) for task in os.listdir("/proc/self/task") if task not in before]
assert threads, "another thread came"
deadline = time.monotonic() + 20
while any(os.sched_getaffinity(thread) != allowed for thread in threads):
    assert time.monotonic() < deadline, "one is still kept off a processor"
    time.sleep(0.005)  # a busy machine lets a thread that was woken wait
"""
    )


def test_the_default_count_respects_affinity_and_the_environment() -> None:
    code = "import os; os.sched_setaffinity(0, {%d}); import recurra; print(recurra.get_num_threads())"
    assert run_python(code % min(os.sched_getaffinity(0))).strip() == "1"
    show = "import recurra; print(recurra.get_num_threads())"
    assert 1 <= int(run_python(show)) <= len(os.sched_getaffinity(0))
    assert run_python(show, OMP_NUM_THREADS="1").strip() == "1"


def test_the_count_can_be_set() -> None:
    for threads in (1, 2, 5):
        rc.set_num_threads(threads)
        assert rc.get_num_threads() == threads


def test_denormals_are_flushed_inside_a_call_only() -> None:
    layer = rc.RNN(1, 1, nonlinearity="relu", bias=False)
    layer.params["weight_ih_l0"] = np.zeros((1, 1), np.float32)
    layer.params["weight_hh_l0"] = np.full((1, 1), 0.5, np.float32)
    x, smallest = np.zeros((1, 3, 1), np.float32), np.finfo(np.float32).tiny
    y, _ = layer(x, state=np.full((1, 1, 1), 1.5 * smallest, np.float32))
    assert not y.any(), "half of it is denormal: 0 in a native call"
    solve(draw(Case("lstm", 32, 64, 64, 20)), "float32")
    assert np.full(100, smallest, np.float32).dot(np.full(100, 0.5 / 100, np.float32)) > 0, "but not in numpy"
    assert np.float64(1e-310) * np.float64(0.5) > 0


def test_the_floating_point_mode_of_the_caller_is_restored() -> None:
    """Also when the caller itself flushes denormals, as torch can be told to."""
    layer = rc.GRU(3, 5)
    tiny = np.full(8, 1e-40, np.float32)
    if not torch.set_flush_denormal(True):
        raise AssertionError("this machine cannot flush denormals")
    try:
        layer(np.ones((1, 2, 3), np.float32))
        assert not (tiny * np.float32(0.5)).any()
    finally:
        torch.set_flush_denormal(False)
    layer(np.ones((1, 2, 3), np.float32))
    with pytest.raises(ValueError, match="expected"):
        layer(np.ones((1, 2, 4), np.float32))
    assert (tiny * np.float32(0.5)).all()
