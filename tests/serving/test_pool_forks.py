"""Processes that fork, as servers do that load a model before they start their workers."""

from __future__ import annotations

import textwrap

from fresh_python import IN_A_CHILD, run_python

PRELUDE = """
import asyncio, os, signal, sys, threading, time
import numpy as np
import recurra as rc

model = rc.Sequential(rc.LSTM(5, 64), rc.GRU(64, 64), seed=0)
x = np.random.default_rng(0).standard_normal((40, 5)).astype(np.float32)
expected = model.stream(1).process(x[None])[0]

def check(pool, stream=None, at=0):
    stream = stream or pool.open()
    for k in range(at, 10):
        assert stream.step(x[k]).tobytes() == expected[k].tobytes()
    assert stream.submit_process(x[10:20]).result(20).tobytes() == expected[10:20].tobytes()
    async def main():
        for k in range(20, 40):
            assert (await stream.astep(x[k])).tobytes() == expected[k].tobytes()
    asyncio.run(main())
"""


def script(body: str) -> None:
    run_python(
        PRELUDE + IN_A_CHILD + textwrap.dedent(body), PYTHONWARNINGS="ignore::DeprecationWarning"
    )  # of fork with threads


def test_children_of_an_idle_pool_go_on_from_its_streams() -> None:
    script(
        """
        pool = rc.serving.Pool(model, 8)
        stream = pool.open()
        stream.submit_step(x[0]).result()  # there is a worker
        for _ in range(5):
            in_a_child(lambda: (check(pool, stream, 1), check(pool), pool.close()))
        check(pool, stream, 1)
        in_a_child(lambda: (check(pool), pool.close()))
        """
    )


def test_a_fork_while_streams_step() -> None:
    script(
        """
        pool = rc.serving.Pool(model, 40)
        done = threading.Event()
        def caller():
            with pool.open() as stream:
                while not done.is_set():
                    steps = [stream.submit_process(x[:3]) for _ in range(3)]
                    stream.step(x[0])
                    for step in steps:
                        step.result(20)
        def loop():
            async def main():
                async def one():
                    with pool.open() as stream:
                        while not done.is_set():
                            await stream.astep(x[0])
                await asyncio.gather(*(one() for _ in range(5)))
            asyncio.run(main())
        threads = [threading.Thread(target=caller) for _ in range(4)] + [threading.Thread(target=loop)]
        for thread in threads:
            thread.start()
        for _ in range(12):
            time.sleep(0.01)
            in_a_child(lambda: (check(pool), check(pool), pool.close()))
        done.set()
        for thread in threads:
            thread.join(20)
        check(pool)
        pool.close()
        """
    )


def test_a_fork_in_a_signal_handler_while_the_thread_waits() -> None:
    """In the child, the call that waited for the parent's worker says so."""
    script(
        """
        class Slow(rc.PythonLayer):
            stateless = True
            def forward(self, x, **options):
                time.sleep(0.3)
                return x, None
            def backward(self, dy, saved):
                return dy
        slow = rc.serving.Pool(rc.Sequential(rc.GRU(5, 5), Slow()), 2)
        first, second = slow.open(), slow.open()
        parent = os.getpid()
        children = []
        def handler(*_):
            child = os.fork()
            if child:
                children.append(child)
        signal.signal(signal.SIGALRM, handler)
        first.submit_step(x[0])
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        try:
            second.step(x[0])
        except RuntimeError as error:
            assert os.getpid() != parent and "this process was forked" in str(error), error
            second.step(x[0])
            os._exit(0)
        assert os.getpid() == parent
        assert os.waitpid(children[0], 0)[1] == 0
        """
    )
