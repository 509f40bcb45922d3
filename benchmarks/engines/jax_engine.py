"""JAX on the CPU: `lax.scan` over the steps, compiled. Training only.

The input's products are taken for all steps at once, before the scan; the weights are kept as (inputs, outputs), as
JAX's libraries keep them, which is the faster way.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # read when it is imported

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from engines import PARAMETERS, Problem, Runner
from workloads import Workload

Weights = dict[str, jax.Array]
UNROLL = (1, 2)  # steps in a turn of the loop; more were never faster


class JaxEngine:
    name = "jax"
    version = jax.__version__
    kinds = ("training",)

    def set_num_threads(self, threads: int) -> None:
        """There is no such setting: XLA has a thread for every CPU that the process may use when it starts."""
        cpus = len(os.sched_getaffinity(0))
        if cpus != threads:
            raise SystemExit(
                f"benchmarks: jax would use {cpus} threads, not {threads}; pin the process to {threads} CPUs"
            )

    def runners(self, problem: Problem) -> list[Runner]:
        return [_training(problem, unroll) for unroll in UNROLL]


def _training(problem: Problem, unroll: int) -> Runner:
    weights = {name: jnp.asarray(value.T) for name, value in problem.weights.items()}
    x, dy = (jnp.asarray(value.transpose(1, 0, 2)) for value in (problem.x, problem.dy))
    forward = partial(_forward, problem.workload, unroll)

    @jax.jit
    def gradients(weights: Weights, x: jax.Array, dy: jax.Array) -> Any:
        if problem.input_grad:
            return jax.vjp(forward, weights, x)[1](dy)
        return jax.vjp(lambda weights: forward(weights, x), weights)[1](dy)

    def run() -> Any:
        return jax.block_until_ready(gradients(weights, x, dy))

    return Runner(f"scan, {unroll} in a turn", run, lambda: np.asarray(run()[0]["weight_ih_l0"]).T)


def _forward(workload: Workload, unroll: int, weights: Weights, x: jax.Array) -> jax.Array:
    """(T, N, I) -> (T, N, directions * H), from zeros."""
    zeros = jnp.zeros((workload.batch, workload.hidden_size), x.dtype)
    state = (zeros, zeros) if workload.cell == "lstm" else (zeros,)
    for layer in range(workload.num_layers):
        outputs = []
        for direction in range(workload.directions):
            suffix = f"_l{layer}" + "_reverse" * direction
            w, r, bias, recurrent_bias = (weights[name + suffix] for name in PARAMETERS)
            if workload.cell == "gru":  # its reset gate comes between the two biases
                step = partial(_gru, r, recurrent_bias)
            else:
                step, bias = partial(CELLS[workload.cell], r), bias + recurrent_bias
            outputs.append(lax.scan(step, state, x @ w + bias, reverse=direction == 1, unroll=unroll)[1])
        x = jnp.concatenate(outputs, axis=-1)
    return x


def _rnn(r: jax.Array, state: Any, gates: jax.Array) -> Any:
    (h,) = state
    h = jnp.tanh(gates + h @ r)
    return (h,), h


def _lstm(r: jax.Array, state: Any, gates: jax.Array) -> Any:
    h, c = state
    i, f, g, o = jnp.split(gates + h @ r, 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jnp.tanh(c)
    return (h, c), h


def _gru(r: jax.Array, bias: jax.Array, state: Any, gates: jax.Array) -> Any:
    (h,) = state
    reset, update, candidate = jnp.split(gates, 3, axis=-1)
    h_reset, h_update, h_candidate = jnp.split(h @ r + bias, 3, axis=-1)
    update = jax.nn.sigmoid(update + h_update)
    candidate = jnp.tanh(candidate + jax.nn.sigmoid(reset + h_reset) * h_candidate)
    h = (1 - update) * candidate + update * h
    return (h,), h


CELLS: dict[str, Callable[..., Any]] = {"rnn": _rnn, "lstm": _lstm}
