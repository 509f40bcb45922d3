"""The arguments that choose the activations inside a cell."""

from __future__ import annotations

from typing import Any, TypeAlias

from recurra.common import checks

#: A name, or ("hard_sigmoid", alpha, beta): clip(alpha * v + beta, 0, 1).
CellActivation: TypeAlias = str | tuple[str, float, float]

NAMES = ("tanh", "sigmoid", "relu", "hard_sigmoid", "softsign", "linear")
#: Bound on |alpha| and |beta|, so that their products fit float32.
_LARGEST = 1e6


def cell_activation(operation: str, name: str, value: Any) -> CellActivation:
    """`value`, checked, in the form that configurations hold."""
    if not isinstance(value, tuple | list):
        return str(checks.choice(operation, name, value, NAMES))
    if len(value) != 3 or value[0] != "hard_sigmoid":
        raise ValueError(
            f'{operation}: got {name}={value!r}, expected a name or ("hard_sigmoid", alpha, beta), which is '
            f"clip(alpha * v + beta, 0, 1); change {name}"
        )
    alpha = checks.number(operation, f"alpha of {name}", value[1], 0.0, _LARGEST)
    if not alpha > 0.0:
        raise ValueError(
            f"{operation}: got alpha of {name}={value[1]!r}, expected a number above 0, as the activation must "
            f"increase; change {name}"
        )
    return "hard_sigmoid", alpha, checks.number(operation, f"beta of {name}", value[2], -_LARGEST, _LARGEST)


def core_activation(value: CellActivation | None) -> tuple[str, float, float]:
    """`value` as (name, alpha, beta) for the core; the name is empty for None, the cell's default."""
    if isinstance(value, tuple):
        return value
    return ("hard_sigmoid", 1.0 / 6.0, 0.5) if value == "hard_sigmoid" else (value or "", 0.0, 0.0)
