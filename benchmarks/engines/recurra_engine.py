"""recurra: `Stream.step` into a given array, a layer's call, `record` and `backward`."""

from __future__ import annotations

from functools import partial

import numpy as np

import recurra as rc
from engines import Array, Problem, Runner


class RecurraEngine:
    name = "recurra"
    version = rc.__version__

    def set_num_threads(self, threads: int) -> None:
        rc.set_num_threads(threads)

    def runners(self, problem: Problem) -> list[Runner]:
        workload = problem.workload
        kind = {"rnn": rc.RNN, "lstm": rc.LSTM, "gru": rc.GRU}[workload.cell]
        layer = kind(
            workload.input_size,
            workload.hidden_size,
            num_layers=workload.num_layers,
            bidirectional=workload.bidirectional,
        )
        layer.load_state_dict(problem.weights)
        if workload.kind == "step":
            return [_step(layer, problem)]
        if workload.kind == "sequence":
            return [Runner("call", partial(layer, problem.x), lambda: layer(problem.x)[0][:, -1])]
        return [_training(layer, problem)]


def _step(layer: rc.LSTM | rc.GRU | rc.RNN, problem: Problem) -> Runner:
    stream = layer.stream(batch_size=problem.workload.batch)
    x = np.ascontiguousarray(problem.x[:, 0])
    out = np.empty((problem.workload.batch, problem.workload.hidden_size), np.float32)

    def result() -> Array:
        stream.reset()
        return stream.step(x, out=out).copy()

    return Runner("Stream.step", partial(stream.step, x, out=out), result)


def _training(layer: rc.LSTM | rc.GRU | rc.RNN, problem: Problem) -> Runner:
    def run() -> None:
        layer.zero_grad()
        layer.record(problem.x, input_grad=problem.input_grad).backward(problem.dy)

    def result() -> Array:
        run()
        return np.array(layer.grads["weight_ih_l0"])

    return Runner("record, backward", run, result)
