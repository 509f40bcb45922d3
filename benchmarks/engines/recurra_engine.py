"""recurra: `Stream.step` into a given array, a layer's call, `record` and `backward`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

import recurra as rc
from engines import Array, Problem, Runner, several
from workloads import KINDS, Workload

Layer = rc.LSTM | rc.GRU | rc.RNN


class RecurraEngine:
    name = "recurra"
    version = rc.__version__
    kinds = KINDS

    def __init__(self) -> None:
        self._threads = 1

    def set_num_threads(self, threads: int) -> None:
        self._threads = threads
        rc.set_num_threads(threads)

    def runners(self, problem: Problem) -> list[Runner]:
        """One, and for comparison the padded batch where it is ragged, and one thread where there are more."""
        workload = problem.workload
        layer = make_layer(workload)
        layer.load_state_dict(problem.weights)
        runners = [make_runner(layer, problem, problem.lengths if workload.ragged else None)]
        if workload.ragged:
            runners.append(replace(make_runner(layer, problem, None), variant="dense"))
        if self._threads > 1:
            runners.append(replace(runners[0], variant="1 thread", context=self._one_thread))
        return runners

    @contextmanager
    def _one_thread(self) -> Iterator[None]:
        rc.set_num_threads(1)
        try:
            yield
        finally:
            rc.set_num_threads(self._threads)


def make_layer(workload: Workload, **options: Any) -> Layer:
    """With parameters of its own still."""
    kind: Any = {"rnn": rc.RNN, "lstm": rc.LSTM, "gru": rc.GRU}[workload.cell]
    layer: Layer = kind(
        workload.input_size,
        workload.hidden_size,
        num_layers=workload.num_layers,
        bidirectional=workload.bidirectional,
        **options,
    )
    return layer


def make_runner(layer: Layer, problem: Problem, lengths: Array | None) -> Runner:
    if problem.workload.kind == "step":
        return _step(layer, problem)
    return (_training if problem.workload.trains else _forward)(layer, problem, lengths)


def _step(layer: Layer, problem: Problem) -> Runner:
    stream = layer.stream(batch_size=problem.workload.batch)
    x = np.ascontiguousarray(problem.x[:, 0])
    out = np.empty((problem.workload.batch, problem.workload.hidden_size), x.dtype)
    run: Callable[[], Array] = partial(stream.step, x, out=out)

    def result() -> Array:
        stream.reset()
        return several(problem.workload, run).copy()

    return Runner("Stream.step", run, result)


def _forward(layer: Layer, problem: Problem, lengths: Array | None) -> Runner:
    run = partial(layer, problem.x) if lengths is None else partial(layer, problem.x, lengths=lengths)
    rows, last = np.arange(problem.workload.batch), problem.lengths - 1
    return Runner("call", run, lambda: run()[0][rows, last])


def _training(layer: Layer, problem: Problem, lengths: Array | None) -> Runner:
    def run() -> None:
        layer.zero_grad()
        layer.record(problem.x, lengths=lengths, input_grad=problem.input_grad).backward(problem.dy)

    def result() -> Array:
        run()
        return np.array(layer.grads["weight_ih_l0"])

    return Runner("record, backward", run, result)
