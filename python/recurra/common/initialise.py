"""Initialisation of parameters. Values are drawn in double precision, so that a seed gives the same ones in both
dtypes."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from recurra.common.typing import Array


class _Drawing(threading.local):
    on = True


_drawing = _Drawing()


@contextmanager
def drawing(on: bool) -> Iterator[None]:
    """Within the block, whether native layers created by this thread initialise their parameters. Loading turns it off,
    as it writes all of them anyway."""
    before, _drawing.on = _drawing.on, on
    try:
        yield
    finally:
        _drawing.on = before


def is_drawing() -> bool:
    """Whether a layer created now initialises its parameters."""
    return _drawing.on


def uniform(rng: np.random.Generator, shape: tuple[int, ...], fan: int) -> Array:
    """U(-1/sqrt(fan), 1/sqrt(fan)), as PyTorch draws recurrent and linear layers."""
    bound = 1.0 / math.sqrt(fan)
    return rng.uniform(-bound, bound, shape)


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """N(0, 1), as PyTorch draws embeddings."""
    return rng.standard_normal(shape)


def orthogonal(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
    """A uniformly distributed matrix with orthonormal columns, or rows if there are fewer rows.

    Saxe, McClelland, Ganguli: Exact solutions to the nonlinear dynamics of learning in deep linear networks, 2014. The
    orthogonal factor of a normal matrix, with the signs that make R's diagonal positive (Mezzadri 2007).
    """
    long, short = max(shape), min(shape)
    q, r = np.linalg.qr(rng.standard_normal((long, short)))
    q *= np.where(np.diagonal(r) < 0, -1.0, 1.0)
    return q if shape[0] >= shape[1] else q.T


def orthogonal_gates(rng: np.random.Generator, shape: tuple[int, ...], gates: int) -> Array:
    """A recurrent weight (gates * H, n) with an orthogonal block for each gate."""
    return np.concatenate([orthogonal(rng, (shape[0] // gates, shape[1])) for _gate in range(gates)])


def set_forget_bias(value: Array, name: str, hidden_size: int, forget_bias: float) -> None:
    """Write the forget gate's part of an LSTM's bias: all of it into bias_ih, 0 into bias_hh."""
    value[hidden_size : 2 * hidden_size] = forget_bias if name.startswith("bias_ih") else 0.0
