"""Messages about non-finite values."""

from __future__ import annotations

from collections.abc import Sequence

_TIPS = {
    "input": "check how x is computed: missing values, a division by zero, the logarithm of zero; clean it, or leave "
    "the rows out",
    "state": "check where the state comes from, or start with state=None",
    "parameter": "it comes from an earlier training step or from a file: restore earlier parameters, then lower the "
    "learning rate or clip with clip_norm=1.0",
    "loss": "the predictions are finite, but the loss of them is not: check the targets, and whether the predictions "
    "are so far off that the loss overflows; lower the learning rate",
    "gradient": "clip with clip_norm=1.0, lower the learning rate, or shorten the sequences",
}


def message(
    where: str,
    name: str,
    parameter: str | None,
    rows: Sequence[int],
    step: int | None,
    count: int,
    kind: str,
    dtype: str,
    label: str,
) -> str:
    """The place of the first such values, the likely cause and what to try."""
    values = (
        f"{count} value{'s' if count > 1 else ''} that {'are' if count > 1 else 'is'} not finite "
        f"({kind}{' first' * (count > 1)})"
    )
    at = _rows(rows) + (f", from step {step} on" if step is not None else "")
    if where == "input":
        what = f"{name} holds {values} in {_rows(rows)}" + (f", the first at step {step}" if step is not None else "")
    elif where == "state":
        what = f"the initial state of the batch holds {values} in {_rows(rows)}"
    elif where == "parameter":
        what = f"the parameter {parameter} of {name} holds {values}"
    elif where == "output":
        what = f"the output of {name} has {values} in {at}, though its input is finite"
    elif where == "loss":
        what = f"the loss {name} is not finite ({kind}) for {_rows(rows)}"
    elif parameter is not None:
        what = f"the gradient of {parameter} has {values}"
    else:
        back = f", from step {step} on, backwards" if step is not None else ""
        what = f"the gradient of {name} has {values} in {_rows(rows)}{back}"
    return f"{what}; {_TIPS.get(where) or _of_output(label, kind, dtype)}"


def _of_output(label: str, kind: str, dtype: str) -> str:
    grown = (
        f"numbers overflowed {dtype} there" if kind == "infinity" else f"an overflow of {dtype} or a NaN arose there"
    )
    if label == "RNN":
        return (
            f'{grown}: a state may grow at every step with nonlinearity="relu"; use "tanh" or '
            f'recurrent_init="orthogonal", scale x down, lower the learning rate'
        )
    return (
        f"{grown}: check the size of its parameters and its input, scale x down, lower the learning rate, clip "
        "gradients"
    )


def _rows(rows: Sequence[int]) -> str:
    if not rows:
        return "no single row"
    shown = ", ".join(map(str, rows[:8])) + (f" and {len(rows) - 8} more" if len(rows) > 8 else "")
    return f"row{'s' if len(rows) > 1 else ''} {shown}"
