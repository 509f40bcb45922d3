"""Cells defined by rc.cell, and their steps by the specification."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import recurra as rc
import reference
from array_types import Array
from cell_cases import Case, Problem
from reference import Cell, State, Weights, sigmoid


def ind_rnn(x: Array, seen: Array, state: State, w: Weights) -> State:
    """Li, Li, Cook, Zhu, Gao 2018, equation 3."""
    p = w.params
    return (np.maximum(p["W"] @ x + p["u"] * state[0] + p["b"], 0.0),)


def sru(x: Array, seen: Array, state: State, w: Weights) -> State:
    """Lei, Zhang, Wang, Dai, Artzi 2018, equations 1 to 4; where x has another size, `P @ x` takes its place."""
    p, c = w.params, state[1]
    f = sigmoid(p["W_f"] @ x + p["v_f"] * c + p["b_f"])
    r = sigmoid(p["W_r"] @ x + p["v_r"] * c + p["b_r"])
    c = f * c + (1.0 - f) * (p["W"] @ x)
    return r * c + (1.0 - r) * (p["P"] @ x if "P" in p else x), c


def gru(x: Array, seen: Array, state: State, w: Weights) -> State:
    """PyTorch's GRU."""
    p, h = w.params, state[0]
    r = sigmoid(p["W_r"] @ x + p["U_r"] @ h + p["b_r"])
    z = sigmoid(p["W_z"] @ x + p["U_z"] @ h + p["b_z"])
    n = np.tanh(p["W_n"] @ x + p["b_n"] + r * (p["U_n"] @ h + p["c_n"]))
    return ((1.0 - z) * n + z * h,)


def lstm(x: Array, seen: Array, state: State, w: Weights) -> State:
    """With a coupled gate (Greff et al. 2017), peepholes of the old c, and one vector in several places."""
    p, (h, c) = w.params, state
    f = sigmoid(p["W_f"] @ x + p["U_f"] @ h + p["q"] * c + p["b_f"])
    g = np.tanh(p["W_g"] @ x + p["U_g"] @ h)
    o = sigmoid(p["W_o"] @ x + p["U_o"] @ h + p["q"] * c)
    c = f * c + (1.0 - f) * g
    return o * np.tanh(c), c


_SRU = """
    f = sigmoid(W_f @ x + v_f * c + b_f)
    r = sigmoid(W_r @ x + v_r * c + b_r)
    c = f * c + (1 - f) * (W @ x)
    h = r * c + (1 - r) * {x}
"""

#: By name: the text, the step, and how many arrays the state has.
TEXTS: dict[str, tuple[str, Any, int]] = {
    "IndRNN": ("h = relu(W @ x + u * h + b)", ind_rnn, 1),
    "SRU": (_SRU.format(x="x"), sru, 2),
    "SRUOfAnySize": (_SRU.format(x="(P @ x)"), sru, 2),
    "OwnGRU": (
        """
        r = sigmoid(W_r @ x + U_r @ h + b_r)
        z = sigmoid(W_z @ x + U_z @ h + b_z)
        n = tanh(W_n @ x + b_n + r * (U_n @ h + c_n))
        h = (1 - z) * n + z * h
        """,
        gru,
        1,
    ),
    "CoupledLSTM": (
        """
        f = sigmoid(W_f @ x + U_f @ h + q * c + b_f)
        g = tanh(W_g @ x + U_g @ h)
        o = sigmoid(W_o @ x + U_o @ h + q * c)
        c = f * c + (1 - f) * g
        h = o * tanh(c)
        """,
        lstm,
        2,
    ),
}


@dataclass(frozen=True)
class OwnCase(Case):
    """A case whose `cell` is one of TEXTS."""

    @property
    def keywords(self) -> dict[str, Any]:
        return {}

    @property
    def spec(self) -> Cell:
        _text, step, parts = TEXTS[self.cell]
        return Cell(step, 1, parts)

    def layer(self, dtype: str) -> Any:
        """The layer, newly initialised."""
        options = {"num_layers": self.num_layers, "bidirectional": self.bidirectional}
        return made(self.cell)(self.input_size, self.hidden_size, **options, dtype=dtype, seed=self.seed)

    def parameter_shapes(self, layer: int) -> dict[str, tuple[int, ...]]:
        end, params = f"_l{layer}", self.layer("float32").params
        return {name.removesuffix(end): a.shape for name, a in params.items() if name.endswith(end)}


def made(name: str) -> Any:
    """The class of that name."""
    return rc.cell(name, TEXTS[name][0])


def load(problem: Problem, dtype: str) -> Any:
    """The layer of a problem."""
    case: Any = problem.case
    layer = case.layer(dtype)
    for name, value in problem.params.items():
        layer.params[name] = value.astype(dtype)
    return layer


def specified(problem: Problem, params: Mapping[str, Array]) -> tuple[Array, State]:
    """The outputs by the specification."""
    case = problem.case
    return reference.run(
        case.spec,
        params,
        problem.x,
        num_layers=case.num_layers,
        bidirectional=case.bidirectional,
        lengths=problem.lengths,
        reset=problem.reset,
        state=problem.state,
    )
