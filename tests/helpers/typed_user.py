"""A user's program, as a type checker sees it: test_types.py runs mypy --strict on it, and never runs it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import recurra as rc


def main(path: Path) -> float:
    model = rc.Sequential(
        rc.Embedding(256, 64),
        rc.LSTM(64, 128, num_layers=2, dropout=0.1),
        rc.Linear(128, 256),
        seed=0,
    )
    x = np.zeros((8, 20), np.int64)
    history = model.fit(
        x, x, loss=rc.losses.CrossEntropy(), optimizer=rc.optim.AdamW(3e-3, weight_decay=0.01), epochs=2, seed=0
    )
    model.save(path)
    stream = rc.load(path).stream(batch_size=1)
    logits = stream.step(x[:1, 0])
    symbol = rc.Input(features=3)
    drawn = rc.Model(symbol, {"y": rc.Linear(3, 2)(symbol) + rc.Linear(3, 2)(symbol)})
    losses = {"y": rc.losses.MeanSquaredError()}
    drawn.fit(x, {"y": x}, loss=losses, loss_weights={"y": 0.5}, optimizer=rc.optim.SGD(0.1))
    lstm = rc.LSTM(3, 5, bidirectional=True, dtype="float64")
    y, (h_n, c_n) = lstm(np.zeros((2, 7, 3)), lengths=[7, 3])
    tape = lstm.record(np.zeros((2, 7, 3)), input_grad=True, seed=1)
    dx, _ = tape.backward(np.ones_like(tape.y))
    lstm.params["weight_hh_l0"] = np.zeros((20, 5))
    rc.set_num_threads(2)
    shapes: tuple[int, ...] = y.shape + h_n.shape + c_n.shape
    assert dx is not None
    return float(logits[0, 0]) + float(dx.sum()) + history.history["loss"][-1] + sum(shapes) + rc.get_num_threads()
