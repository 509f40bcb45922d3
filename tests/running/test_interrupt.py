"""Contract 6: Ctrl-C inside one native call of two seconds."""

from __future__ import annotations

import pytest

from fresh_python import run_python

# `interrupt` runs a call and raises SIGINT in it after 0.5 s. How soon calls hear it is counted in test_polls.py.
PRELUDE = """
import os, signal, threading, time
import numpy as np
import recurra as rc

signal.signal(signal.SIGINT, signal.default_int_handler)

def timed(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start

def interrupt(call, delay=0.5):
    threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        call()
    except KeyboardInterrupt:
        return
    raise AssertionError("the call ended before Ctrl-C, or ignored it")

def frozen(layer):
    return {name: (layer.params[name].tobytes(), layer.grads[name].tobytes()) for name in layer.params}

def steps_for(seconds, rows, call):
    # The number of steps that makes call(x) last at least so long: by the fastest of a few calls, since a thread that
    # waits for its processor makes a short one many times as long.
    short = np.ones((rows, 100, layer.input_size), np.float32)
    return max(20, int(100 * seconds / min(timed(lambda: call(short)) for _ in range(6))))

layer = rc.LSTM(64, 256, num_layers=2, seed=0)
rng = np.random.default_rng(0)
"""


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("rows", [1, 32])
def test_forward(rows: int, threads: int) -> None:
    run_python(
        PRELUDE
        + f"""
rc.set_num_threads({threads})
steps = steps_for(2.5, {rows}, layer)
x = rng.standard_normal(({rows}, steps, 64), dtype=np.float32)
before = frozen(layer)
interrupt(lambda: layer(x))
assert frozen(layer) == before
y, _ = layer(x[:, :50])
assert np.isfinite(y).all(), "the layer still works"
"""
    )


@pytest.mark.parametrize("threads", [1, 2])
def test_backward(threads: int) -> None:
    """Parameters and gradients are the ones before the call."""
    run_python(
        PRELUDE
        + f"""
rc.set_num_threads({threads})
def train(x):
    tape = layer.record(x)
    tape.backward(np.ones_like(tape.y))

short = rng.standard_normal((32, 20, 64), dtype=np.float32)
train(short)
forward = timed(lambda: layer.record(short))
both = timed(lambda: train(short))
steps = int(20 * 2.5 / max(both - forward, 0.5 * both))
x = rng.standard_normal((32, steps, 64), dtype=np.float32)
layer.zero_grad()
train(short)
before = frozen(layer)
tape = layer.record(x)
dy = np.ones_like(tape.y)
interrupt(lambda: tape.backward(dy))
assert frozen(layer) == before
train(short)
"""
    )


def test_record() -> None:
    run_python(
        PRELUDE
        + """
rc.set_num_threads(1)
steps = steps_for(2.5, 8, layer.record)
x = rng.standard_normal((8, steps, 64), dtype=np.float32)
before = frozen(layer)
interrupt(lambda: layer.record(x))
assert frozen(layer) == before
"""
    )


def test_a_stream() -> None:
    """The state is the one before the call."""
    run_python(
        PRELUDE
        + """
rc.set_num_threads(1)
steps = steps_for(2.5, 1, layer)
x = rng.standard_normal((1, steps, 64), dtype=np.float32)
stream = layer.stream(batch_size=1)
stream.process(x[:, :10])
before = [part.tobytes() for part in stream.state()]
interrupt(lambda: stream.process(x))
assert [part.tobytes() for part in stream.state()] == before
"""
    )


def test_fit() -> None:
    """Ctrl-C inside fit: the model is the one after some whole step, and can go on."""
    run_python(
        PRELUDE
        + """
model = rc.Sequential(layer, rc.Linear(256, 3))
x = rng.standard_normal((64, 200, 64), dtype=np.float32)
y = rng.integers(0, 3, (64, 200))
options = {"loss": rc.losses.CrossEntropy(), "optimizer": rc.optim.Adam(1e-3), "seed": 0, "verbose": 0}
interrupt(lambda: model.fit(x, y, epochs=10**6, **options), delay=1.0)
assert all(np.isfinite(each.params[name]).all() for each in model.layers for name in each.params)
model.fit(x[:4], y[:4], epochs=1, **options)
"""
    )


def test_any_signal_handler_may_end_a_call() -> None:
    """What a handler raises comes out, as it does from time.sleep."""
    run_python(
        PRELUDE
        + """
class Expired(Exception):
    pass

def expire(*_):
    raise Expired

rc.set_num_threads(1)
steps = steps_for(2.5, 8, layer)
x = rng.standard_normal((8, steps, 64), dtype=np.float32)
signal.signal(signal.SIGALRM, expire)
signal.setitimer(signal.ITIMER_REAL, 0.3)
try:
    layer(x)
except Expired:
    pass
else:
    raise AssertionError("the handler was not run in time")
"""
    )


def test_a_call_on_another_thread_ends_in_peace() -> None:
    """Python delivers signals to its main thread; a call elsewhere goes on to its answer."""
    run_python(
        PRELUDE
        + """
steps = steps_for(1.0, 8, layer)
x = rng.standard_normal((8, steps, 64), dtype=np.float32)
results = []
worker = threading.Thread(target=lambda: results.append(layer(x)[0]))
worker.start()
def wait():
    while worker.is_alive():
        time.sleep(0.01)
interrupt(wait, delay=0.2)
worker.join()
assert np.isfinite(results[0]).all()
"""
    )


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    "call", ["loss(x, targets, gradient=False)", "rc.ctc.beam_search(x[:64, :500], beam_size=500)"]
)
def test_ctc(call: str, threads: int) -> None:
    run_python(
        PRELUDE
        + f"""
rc.set_num_threads({threads})
loss = rc.losses.CTC()
x = np.broadcast_to(rng.standard_normal((1, 4000, 64), dtype=np.float32), (4000, 4000, 64))
targets = rng.integers(1, 64, (4000, 900))
interrupt(lambda: {call})
assert loss(x[:1], targets[:1]).count == 1
"""
    )


def test_a_wide_beam_over_few_steps() -> None:
    """It takes seconds, and lets other threads run: the one that sends the signal is one of them."""
    run_python(
        PRELUDE
        + """
rc.set_num_threads(1)
x = rng.standard_normal((1, 300, 30))
interrupt(lambda: rc.ctc.beam_search(x, beam_size=30000))
"""
    )


def test_convolution() -> None:
    """One forward, and one backward, of a layer whose work per step is large enough to fill seconds."""
    run_python(
        PRELUDE
        + """
rc.set_num_threads(2)
layer = rc.Conv1d(128, 128, 65, padding="same", seed=0)
steps = steps_for(2.5, 4, layer)
x = rng.standard_normal((4, steps, 128), dtype=np.float32)
short = x[:, :100]
layer.record(short).backward(np.ones_like(short))
before = frozen(layer)
interrupt(lambda: layer(x))
tape = layer.record(x)
interrupt(lambda: tape.backward(np.ones_like(tape.y)), delay=1.0)
assert frozen(layer) == before
layer.record(short).backward(np.ones_like(short))
assert frozen(layer) != before, "the layer still works"
"""
    )


@pytest.mark.parametrize("attention", ["additive", "general"])
def test_decoder(attention: str) -> None:
    """Between the steps of a decoder, forwards and backwards; parameters and gradients are the ones before the call."""
    run_python(
        PRELUDE
        + f"""
rc.set_num_threads(1)
layer = rc.AttentionDecoder(8, 64, 64, attention={attention!r}, seed=0)
memory = rng.standard_normal((8, 100, 64), dtype=np.float32)
steps = steps_for(1.0, 8, lambda x: layer((x, memory)))
x = rng.standard_normal((8, steps, 8), dtype=np.float32)
before = frozen(layer)
interrupt(lambda: layer((x, memory)))
tape = layer.record((x, memory))
dy = np.ones_like(tape.y)
interrupt(lambda: tape.backward(dy))
assert frozen(layer) == before
y, _ = layer((x[:, :5], memory))
assert np.isfinite(y).all(), "the layer still works"
"""
    )


def test_a_long_memory() -> None:
    """A few queries that take long, since they look at much."""
    run_python(
        PRELUDE
        + """
rc.set_num_threads(1)
layer = rc.AdditiveAttention(8, 8, 512, seed=0)
x = rng.standard_normal((1, 500, 8), dtype=np.float32)
memory = rng.standard_normal((1, 40000, 8), dtype=np.float32)
before = frozen(layer)
interrupt(lambda: layer((x, memory)))
tape = layer.record((x, memory))
dy = np.ones_like(tape.y)
interrupt(lambda: tape.backward(dy))
assert frozen(layer) == before
"""
    )


def test_search() -> None:
    run_python(
        PRELUDE
        + """
rc.set_num_threads(1)
layers = rc.Embedding(500, 64), rc.GRU(64, 128), rc.Linear(128, 500)
def search(steps):
    return rc.search.beam_search(layers, start=0, end=None, max_steps=steps, beam_size=8, batch_size=16)
seconds = min(timed(lambda: search(20)) for _ in range(4))
interrupt(lambda: search(int(20 * 2.5 / seconds)))
assert len(search(5)) == 16
"""
    )


def test_handlers_that_raise_while_others_are_put_back() -> None:
    """At every instruction of a block that defers signals: all handlers are back after it, and none has been left
    out."""
    run_python(
        """
import signal
from instructions import at_instructions
from recurra.common import interrupts

numbers = [signal.SIGUSR1, signal.SIGALRM, signal.SIGTERM, signal.SIGUSR2]
ran = []

class Came(Exception):
    pass

def handler(number, frame):
    ran.append(number)
    raise Came(number)

def other(number, frame):
    pass

def put():
    for number in numbers:
        signal.signal(number, handler)

def block(at, installing):
    count = 0
    def arrive():
        nonlocal count
        count += 1
        if count == at:
            raised = None
            for number in numbers[::2]:
                try:
                    signal.raise_signal(number)
                except Came as error:
                    raised = error
            if raised:
                raise raised
    def work():
        with interrupts.deferred():
            if installing:
                signal.signal(signal.SIGUSR2, other)
    put()
    ran.clear()
    try:
        at_instructions(work, arrive, lambda code: code.co_filename == interrupts.__file__)
    except Came:
        pass
    assert sorted(ran) == sorted(numbers[::2]) or count < at, (at, ran)
    for number in numbers:
        own = other if installing and number == signal.SIGUSR2 else handler
        now = signal.getsignal(number)
        assert now is own or (own is other and now is handler and ran), (at, number, now)
    return count >= at

for installing in (False, True):
    at = 1
    while block(at, installing):
        at += 1
    assert at > 50, at

# At moments within the instruction that puts them back, too.
import random
moments = random.Random(0)
raised = 0
for turn in range(1500):
    put()
    ran.clear()
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, 2e-5 + moments.random() * 4e-4)
            with interrupts.deferred():
                pass
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except Came:
        raised += 1
    assert all(signal.getsignal(number) is handler for number in numbers), turn
assert raised > 50, raised

# While they are put back: the first raises in the place of the second's return, whose handler installs another.
def installs(number, frame):
    ran.append(number)
    signal.signal(signal.SIGTERM, other)
    raise Came(number)

put()
ran.clear()
signal.signal(signal.SIGALRM, installs)
try:
    with interrupts.deferred():
        for number in numbers[:2]:
            signal.raise_signal(number)
        assert not ran
except Came as error:
    assert isinstance(error.__context__, Came)
assert ran == numbers[:2], ran
assert signal.getsignal(signal.SIGTERM) is other and signal.getsignal(signal.SIGUSR1) is handler
"""
    )
