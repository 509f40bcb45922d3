"""Saturation of gates."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from recurra.common import checks
from recurra.common.plots import COLORS, axes_of
from recurra.common.typing import Array
from recurra.diagnose.models import subject_of
from recurra.inspection.subject import Activity

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Below LOW or above HIGH, the slope of a sigmoid is less than a fifth of its maximum; beyond +-TANH, that of a tanh is
#: less than a tenth.
LOW, HIGH, TANH = 0.05, 0.95, 0.95


class Gate(NamedTuple):
    """A gate of a cell: its index among the values saved for backward, and its activation."""

    name: str
    kept: int
    kind: str


_GRU = (Gate("r", 0, "sigmoid"), Gate("z", 1, "sigmoid"), Gate("n", 2, "tanh"))
#: The gates of each cell, in the order of its equations. minGRU's candidate is unbounded and cannot saturate.
GATES = {
    "rnn_tanh": (Gate("h", 0, "tanh"),),
    "rnn_relu": (Gate("h", 0, "relu"),),
    "rnn_sigmoid": (Gate("h", 0, "sigmoid"),),
    "lstm": (Gate("i", 0, "sigmoid"), Gate("f", 1, "sigmoid"), Gate("g", 2, "tanh"), Gate("o", 3, "sigmoid")),
    "gru": _GRU,
    "gru_reset_before": _GRU,
    "min_gru": (Gate("z", 0, "sigmoid"),),
    "min_lstm": (Gate("i/(f+i)", 2, "sigmoid"),),
}

#: (cell or "", gate, end) -> (share of values at that end above which the note applies, note)
_MEANING = {
    ("", "tanh", "both"): (0.5, "the tanh lets little gradient through: scale the input down, or use layer_norm=True"),
    ("rnn_sigmoid", "h", "both"): (0.5, "the sigmoid lets little gradient through: scale the input down"),
    ("lstm", "i", "low"): (0.9, "closed: next to nothing is written to the cell"),
    ("lstm", "f", "low"): (0.9, "closed: the cell forgets at every step; try forget_bias=1.0 or more"),
    ("lstm", "f", "high"): (0.9, "open: the cell keeps its content, which is right for long sequences"),
    ("lstm", "o", "low"): (0.9, "closed: next to nothing of the cell is output"),
    ("gru", "z", "high"): (0.9, "the state is kept and takes in little"),
    ("gru", "z", "low"): (0.9, "the state is overwritten at every step"),
    ("gru", "r", "low"): (0.9, "closed: the candidate does not see the state"),
    ("min_gru", "z", "high"): (0.9, "the state is overwritten at every step"),
    ("min_gru", "z", "low"): (0.9, "the state is kept and takes in little"),
    ("min_lstm", "i/(f+i)", "high"): (0.9, "the state is overwritten at every step"),
    ("min_lstm", "i/(f+i)", "low"): (0.9, "the state is kept and takes in little"),
}


#: For each activation that a layer may choose, the one with the same saturated ends; others have none.
_LIKE = {"tanh": "tanh", "softsign": "tanh", "sigmoid": "sigmoid", "hard_sigmoid": "sigmoid", "relu": "relu"}


@dataclass(frozen=True)
class GateShare:
    """The distribution of a gate's values over all units and all valid steps.

    Attributes: name, as in the layer's equations, h for a plain RNN's activation; kind, "sigmoid", "tanh" or "relu";
    low, the share of values below 0.05 (tanh: -0.95; relu: at 0); high, the share above 0.95 (relu: 0); mean; units,
    (H,), each unit's share of low and high values; note, an interpretation if the shares are unusual, else "".

    Example:
        >>> model = rc.Sequential(rc.LSTM(2, 8), rc.Linear(8, 1), seed=0)
        >>> found = rc.diagnose.saturation(model, np.ones((4, 10, 2), np.float32))
        >>> gate = found.layers[0].gates[0]
        >>> gate.name, gate.kind, 0 <= gate.low + gate.high <= 1
        ('i', 'sigmoid', True)
    """

    name: str
    kind: str
    low: float
    high: float
    mean: float
    units: Array
    note: str

    @property
    def saturated(self) -> float:
        """low + high."""
        return self.low + self.high

    @property
    def dead(self) -> int:
        """Number of units that were low or high at every step; for a relu, units that were never above 0."""
        return int((self.units == 1.0).sum())

    def __str__(self) -> str:
        low, high = {"sigmoid": ("< 0.05", "> 0.95"), "tanh": ("< -0.95", "> 0.95")}.get(self.kind, ("= 0", ""))
        ends = f"{self.low:6.1%} {low}" + (f", {self.high:6.1%} {high}" if high else "")
        stuck = f", {self.dead} of {len(self.units)} units always" if self.dead else ""
        return f"{self.name}: {ends}{stuck}" + (f" ({self.note})" if self.note else "")


@dataclass(frozen=True)
class LayerSaturation:
    """The gates of one layer and direction.

    Attributes: name, as in `params`, such as "0.LSTM l1_reverse"; gates, in the order of the layer's equations.

    Example:
        >>> model = rc.Sequential(rc.LSTM(2, 8), rc.Linear(8, 1), seed=0)
        >>> found = rc.diagnose.saturation(model, np.ones((4, 10, 2), np.float32))
        >>> layer = found.layers[0]
        >>> len(layer.gates)
        4
    """

    name: str
    gates: tuple[GateShare, ...]

    def __str__(self) -> str:
        return "\n".join([self.name, *(f"  {gate}" for gate in self.gates)])


@dataclass(frozen=True)
class Saturation:
    """The result of `saturation`; print it.

    Attributes: layers, one entry per recurrent layer and direction, in the order in which they run.

    Example:
        >>> model = rc.Sequential(rc.LSTM(2, 8), rc.Linear(8, 1), seed=0)
        >>> found = rc.diagnose.saturation(model, np.ones((4, 10, 2), np.float32))
        >>> [layer.name for layer in found.layers]
        ['0.LSTM']
    """

    layers: tuple[LayerSaturation, ...]

    @property
    def verdict(self) -> str:
        """The notes, one per line."""
        notes = [f"{layer.name}: {gate.name} {gate.note}" for layer in self.layers for gate in layer.gates if gate.note]
        return "\n".join(notes) or "no gate is saturated"

    def __str__(self) -> str:
        return "\n".join(["saturation of gates, over the valid steps", *map(str, self.layers)])

    def plot(self, ax: Any = None) -> Axes:
        """Draw the shares as bars, one per gate.

        Args:
            ax: matplotlib axes to draw on; None makes a figure.

        Raises:
            ImportError: matplotlib is not installed.
        """
        bars = [(f"{layer.name}  {gate.name}", gate) for layer in self.layers for gate in layer.gates]
        axes = axes_of("plot", ax, 7.0, 1.3 + 0.3 * len(bars))
        low, high = np.array([gate.low for _, gate in bars]), np.array([gate.high for _, gate in bars])
        places = np.arange(len(bars))
        axes.barh(places, low, color=COLORS[0], label="at the lower end")
        axes.barh(places, 1.0 - low - high, left=low, color="#e3e6ea", label="between")
        axes.barh(places, high, left=1.0 - high, color=COLORS[1], label="at the upper end")
        axes.set_yticks(places, [name for name, _ in bars])
        axes.invert_yaxis()
        axes.set(xlim=(0, 1), xlabel="share of values")
        axes.set_title("Saturation of gates", loc="left")
        axes.legend(
            frameon=False, fontsize="small", ncols=3, loc="lower right", bbox_to_anchor=(1, 1), columnspacing=1,
            borderaxespad=0.2, handlelength=1
        )  # fmt: skip
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        axes.tick_params(axis="y", length=0)
        return axes


def saturation(model: Any, x: Any, lengths: Any = None) -> Saturation:
    """The share of saturated gate activations, per gate, layer and direction, in inference. A saturated gate passes no
    gradient, and what it controls does not depend on the data. Of a cell from `recurra.cell` no gate is known.

    Args:
        model: a model, or a layer alone.
        x, lengths: a batch, as `predict` takes it.

    Raises:
        ValueError, TypeError: data that do not fit the model, or a model without a recurrent layer.

    Example:
        >>> model = rc.Sequential(
        ...     rc.LSTM(2, 8, return_sequences=False), rc.Linear(8, 1), seed=0
        ... )
        >>> found = rc.diagnose.saturation(model, np.ones((4, 10, 2), np.float32))
        >>> [gate.name for gate in found.layers[0].gates]
        ['i', 'f', 'g', 'o']
    """
    subject = subject_of("saturation", model, x, lengths)
    subject.need_parts()
    tape = subject.model.record(subject.x, lengths=subject.lengths, training=False, input_grad=False, seed=0)
    nodes = subject.graph.nodes
    return Saturation(tuple(_layer(one, nodes[one.part.node].layer) for one in subject.activity(tape)))


def _gates(cell: str, layer: Any) -> list[Gate]:
    """The cell's gates with the layer's activations, without gates that cannot saturate."""
    candidate = getattr(layer, "activation", getattr(layer, "nonlinearity", None))
    recurrent = getattr(layer, "recurrent_activation", None)
    gates = []
    for gate in GATES.get(cell, ()):  # of a user's cell none is known
        chosen = (candidate if gate.name in ("g", "n", "h") else recurrent) or gate.kind
        kind = _LIKE.get(chosen if isinstance(chosen, str) else chosen[0])
        if kind is not None:
            gates.append(gate._replace(kind=kind))
    return gates


def _layer(activity: Activity, layer: Any) -> LayerSaturation:
    valid = checks.steps_within(activity.lengths, activity.h.shape[1])
    cell = activity.part.cell.removesuffix("_positive")
    shares = tuple(_share(cell, gate, activity.kept[:, :, gate.kept][valid]) for gate in _gates(cell, layer))
    return LayerSaturation(activity.part.name, shares)


def _share(cell: str, gate: Gate, values: Array) -> GateShare:
    """The share of a gate, given its values (steps, H)."""
    below, above = {"sigmoid": (LOW, HIGH), "tanh": (-TANH, TANH), "relu": (0.0, np.inf)}[gate.kind]
    low = values <= below if gate.kind == "relu" else values < below
    high = values > above
    if not values.size:
        return GateShare(gate.name, gate.kind, 0.0, 0.0, 0.0, np.zeros(values.shape[1]), "")
    ends = (float(low.mean()), float(high.mean()))
    found = GateShare(gate.name, gate.kind, *ends, float(values.mean(dtype=np.float64)), (low | high).mean(0), "")
    return replace(found, note=_note(cell, gate, found))


def _note(cell: str, gate: Gate, share: GateShare) -> str:
    if gate.kind == "relu":
        count = len(share.units)
        return f"{share.dead} units are dead: lower the learning rate" if share.dead * 10 > count else ""
    own = "gru" if cell.startswith("gru") else cell
    for end, found in (("both", share.saturated), ("low", share.low), ("high", share.high)):
        for key in ((own, gate.name, end), ("", gate.kind, end)):
            limit, note = _MEANING.get(key, (1.0, ""))
            if found > limit:
                return note
    return ""
