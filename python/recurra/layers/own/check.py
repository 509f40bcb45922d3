"""A new cell, as it runs, against its text, as numpy runs it: values, and gradients by central differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from recurra.common.typing import Array
from recurra.layers.own.equations import Equations

_STEP = 1e-5
_ROWS, _STEPS, _ENTRIES = 2, 3, 4


def _clip(x: Any, low: Any, high: Any) -> Any:
    return np.minimum(np.maximum(x, low), high)


def _sigmoid(x: Any) -> Any:
    return 1.0 / (1.0 + np.exp(-x))


#: The functions of equations, in numpy.
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "tanh": np.tanh,
    "sigmoid": _sigmoid,
    "relu": lambda x: np.maximum(x, 0.0),
    "exp": np.exp,
    "sqrt": np.sqrt,
    "softsign": lambda x: x / (1.0 + np.abs(x)),
    "hard_sigmoid": lambda x: _clip(x / 6.0 + 0.5, 0.0, 1.0),
    "silu": lambda x: x * _sigmoid(x),
    "abs": np.abs,
    "minimum": np.minimum,
    "maximum": np.maximum,
    "clip": _clip,
    "where": np.where,
}


def specified(
    equations: Equations, values: dict[str, Array], x: Array, states: list[Array]
) -> tuple[Array, list[Array]]:
    """The text as Python runs it, in float64: x (N, T, I), states (N, H) -> y (N, T, H), states.

    `values`: the parameters by the names of the text.
    """
    code = compile(equations.tree, "equations", "exec")  # of the checked nodes alone
    names = ["h"] if equations.state is None else ["h", equations.state]
    y = np.zeros((*x.shape[:2], states[0].shape[1]))
    ends = [state.copy() for state in states]
    for n in range(len(x)):
        now = {name: end[n] for name, end in zip(names, ends, strict=True)}
        for t in range(x.shape[1]):
            scope = {"__builtins__": {}, **FUNCTIONS, **values, **now, "x": x[n, t]}
            exec(code, scope)  # noqa: S102
            now = {name: np.asarray(scope[name], np.float64) for name in names}
            y[n, t] = now["h"]
        for name, end in zip(names, ends, strict=True):
            end[n] = now[name]
    return y, ends


def check_cell(operation: str, equations: Equations, layer: Any) -> None:
    """Compare one step after the other of a small float64 layer with the text.

    Raises:
        RuntimeError: they disagree, which no text should bring about.
    """
    rng = np.random.default_rng(0)
    units = layer.hidden_size
    x = rng.standard_normal((_ROWS, _STEPS, layer.input_size))
    states = [rng.standard_normal((_ROWS, units)) for _name in layer.state_names]
    weights = [rng.standard_normal((_ROWS, _STEPS, units)), *(rng.standard_normal((_ROWS, units)) for _state in states)]
    values = {name.rpartition("_l")[0]: np.array(array) for name, array in layer.params.items()}

    def loss() -> float:
        y, ends = specified(equations, values, x, states)
        return sum(float((w * v).sum()) for w, v in zip(weights, [y, *ends], strict=True))

    def nest(arrays: list[Array]) -> Any:
        stacked = tuple(array[None] for array in arrays)
        return stacked if len(stacked) > 1 else stacked[0]

    with np.errstate(all="ignore"):
        tape = layer.record(x, nest(states))
        expected, _ends = specified(equations, values, x, states)
        _compare(operation, "y", np.asarray(tape.y), expected)
        dx, of_states = tape.backward(weights[0], nest(weights[1:]))
        found = of_states if isinstance(of_states, tuple) else (of_states,)
        gradients = {"x": (x, dx)}
        gradients |= {name: (a, b[0]) for name, a, b in zip(layer.state_names, states, found, strict=True)}
        gradients |= {name: (values[name], layer.grads[f"{name}_l0"]) for name in values}
        for name, (array, gradient) in gradients.items():
            _compare_slopes(operation, name, loss, array, np.asarray(gradient), rng)


def _compare(operation: str, name: str, got: Array, expected: Array) -> None:
    finite = np.isfinite(expected)
    scale = max(1.0, float(np.abs(expected[finite]).max(initial=0.0)))
    worst = float(np.abs(got - expected)[finite].max(initial=0.0))
    if not worst <= 1e-9 * scale:
        raise RuntimeError(
            f"{operation}: got {name} that differs by {worst:.3g} from what the equations say, expected at most 1e-9 "
            f"of its scale; try another compiler by CXX, and report the equations"
        )


def _compare_slopes(
    operation: str, name: str, loss: Callable[[], float], array: Array, gradient: Array, rng: np.random.Generator
) -> None:
    flat = array.reshape(-1)
    scale = max(1.0, float(np.abs(gradient).max(initial=0.0)))
    for entry in rng.permutation(flat.size)[:_ENTRIES]:
        kept = flat[entry]
        here = loss()
        flat[entry] = kept + _STEP
        above = loss()
        flat[entry] = kept - _STEP
        below = loss()
        flat[entry] = kept
        right, left = (above - here) / _STEP, (here - below) / _STEP
        if not np.isfinite([above, below]).all() or abs(right - left) > 1e-2 * scale:
            continue  # outside the equations' domain, or at a kink
        difference = abs(gradient.flat[entry] - (right + left) / 2)
        if not difference <= 1e-5 * scale:
            raise RuntimeError(
                f"{operation}: got a gradient of {name} that is {difference:.3g} from the central difference, expected "
                f"at most 1e-5 of its scale; try another compiler by CXX, and report the equations"
            )
