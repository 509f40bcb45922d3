"""Tokens, lengths, labels, weights and resets that another thread overwrites during the call: what was checked is used.

Each call may succeed or be refused. The process lives: the numbers that the other thread writes would lead far out of
the arrays.
"""

from __future__ import annotations

import textwrap

import pytest

from fresh_python import run_python

PRELUDE = """
    import sys
    import threading
    import numpy as np
    import recurra as rc
    from recurra import _core

    rng = np.random.default_rng(0)
    N, T = 16, 200
    tokens = rng.integers(0, 50, (N, T))
    lengths = rng.integers(T // 2, T + 1, N)
    labels = rng.integers(1, 20, (N, 30))
    weights = np.ones((N, T))
    reset = np.zeros((N, T), bool)
    rows = rng.permutation(N)
    done = threading.Event()
    sys.setswitchinterval(1e-4)

    def write(arrays):
        before = [a.copy() for a in arrays]
        while not done.is_set():
            for a, value in zip(arrays, (2**40, 2**20, 2**40, 0.0, True, -2**40)):
                a.reshape(-1)[::3] = value
            for a, old in zip(arrays, before):
                a[...] = old

    def tries(call, count=150):
        thread = threading.Thread(target=write, args=[(tokens, lengths, labels, weights, reset, rows)])
        done.clear()
        thread.start()
        fine = 0
        try:
            for _ in range(count):
                try:
                    call()
                    fine += 1
                except ValueError:
                    pass
        finally:
            done.set()
            thread.join()
        print("fine", fine)
"""

CALLS = {
    "predict": """
        model = rc.Sequential(rc.Embedding(50, 64), rc.LSTM(64, 64), rc.Linear(64, 20), seed=0)
        tries(lambda: model(tokens, lengths=lengths, reset=reset))
    """,
    "train": """
        model = rc.Sequential(rc.Embedding(50, 64), rc.GRU(64, 64), rc.Linear(64, 20), seed=0)
        def call():
            tape = model.record(tokens, lengths=lengths, reset=reset)
            tape.backward(tape.y)
        tries(call, 60)
    """,
    "process": """
        stream = rc.Sequential(rc.Embedding(50, 64), rc.LSTM(64, 64), rc.Conv1d(64, 64, 3), seed=0).stream(N)
        tries(lambda: stream.process(tokens, reset=reset))
    """,
    "step": """
        stream = rc.Sequential(rc.Embedding(50, 64), rc.LSTM(64, 256), seed=0).stream(N)
        tries(lambda: stream.step(tokens[:, 0], reset=reset[:, 0]), 3000)
    """,
    "rows": """
        stream = rc.Sequential(rc.Embedding(50, 64), rc.LSTM(64, 64), seed=0).stream(N)
        state = stream.state()
        tries(lambda: stream.step(tokens[:, 0], rows=rows), 1000)
        tries(lambda: stream.process(tokens[:, :9], rows=rows))
        tries(lambda: stream.load_state(stream.state(rows), rows), 1000)
        tries(lambda: stream.copy_rows(rows, rows[::-1]), 1000)
        tries(lambda: (stream.reset(rows), stream.fork(2, rows)), 1000)
        stream.load_state(state)
    """,
    "converted": """
        model = rc.Sequential(rc.LSTM(8, 16), rc.Linear(16, 4), seed=0)
        weights = rng.standard_normal((N, 20, 8))  # float64, for a model of float32
        tries(lambda: model(weights, lengths=lengths % 21))
        tries(lambda: model.stream(N).process(weights))
        tape_of = lambda: model.record(weights[:4].astype(np.float16))
        tries(lambda: tape_of().backward(np.ones((4, 20, 4))), 60)
    """,
    "convolve": """
        model = rc.Sequential(rc.Embedding(50, 64), rc.Conv1d(64, 64, 5, stride=2), rc.Pool("max"), seed=0)
        tries(lambda: model(tokens, lengths=lengths))
    """,
    "attend": """
        x, z = rc.Input(tokens=50), rc.Input(tokens=50)
        embed = rc.Embedding(50, 64)
        model = rc.Model((x, z), rc.AttentionDecoder(64, 64, 64)((embed(x), embed(z))), seed=0)
        tries(lambda: model((tokens, tokens), lengths=(lengths, lengths)), 20)
    """,
    "labels": """
        logits = rng.standard_normal((N, T, 500), np.float32)
        tokens[...] = rng.integers(0, 500, (N, T))
        tries(lambda: _core.softmax_cross_entropy(logits, tokens, lengths, weights, True))
    """,
    "ctc": """
        logits = rng.standard_normal((N, T, 20), np.float32)
        weights = np.ones(N)
        tries(lambda: _core.ctc(logits, labels, lengths, weights, True, 0))
        tries(lambda: _core.ctc_greedy(logits, lengths, 0))
        tries(lambda: _core.ctc_beam_search(logits, lengths, 0, 4, 1), 10)
    """,
    "metrics": """
        predictions = rng.standard_normal((N, 30, 50)).astype(np.float32)
        for metric in (rc.metrics.F1(), rc.metrics.Accuracy(), rc.metrics.Recall()):
            tries(lambda: metric.update(predictions, labels))
    """,
    "python layer": """
        class Take(rc.PythonLayer):
            stateless = True
            def forward(self, x, *, lengths, training, rng):
                assert lengths is None or (lengths <= T).all()
                return x + 1, None
            def backward(self, dy, saved):
                return dy
        model = rc.Sequential(rc.Embedding(50, 64), Take(), rc.LSTM(64, 64), seed=0)
        tries(lambda: model(tokens, lengths=lengths))
    """,
}


@pytest.mark.parametrize("name", CALLS)
def test_arrays_that_change_during_the_call(name: str) -> None:
    assert "fine" in run_python(textwrap.dedent(PRELUDE) + textwrap.dedent(CALLS[name]))
