"""How far the gradient of the loss reaches back through time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from recurra.common import checks, html, seeds
from recurra.common.typing import Array
from recurra.diagnose.flow_advice import advice
from recurra.diagnose.flow_plot import draw
from recurra.diagnose.models import subject_of
from recurra.inspection.criterion import Objective
from recurra.inspection.subject import Part

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: A `ratio` below the first is called vanishing, a `growth` above the second exploding. docs/diagnose.md says why.
VANISHING, EXPLODING = 1e-3, 50.0


@dataclass(frozen=True)
class LayerFlow:
    """The gradient through one layer and direction.

    Steps are counted in the order in which the direction reads them: the reverse one starts at a row's end. "Back"
    counts from each row's last step, so that ragged rows are aligned where the gradient enters.

    Attributes:
        name: the layer and direction, as in `params`, such as "0.LSTM l1_reverse".
        layer: the index of the layer in the model.
        norms: (N, T) norm of the total derivative of the mean loss with respect to each step's h, by time; 0 past the
            lengths.
        lengths: (N,) valid steps.
        from_start: (T,) mean of `norms` over the rows that have the step, counted from their first step.
        from_end: (T,) the same, counted back from their last step.
        reach: (T,) the same, counted back, for the error at the last step only; equal to from_end with one output per
            row.
        ratio: median of `reach` over the first tenth of the steps / median over the last tenth without the last step.
        growth: median of `reach` over the first tenth / the larger of the median over the last tenth and the last
            step's value.
        rate: factor per step back, fitted to `reach` by least squares of its logarithm.
        half_life: steps back after which half is left; infinity if nothing is lost.
        verdict: "vanishing", "healthy" or "exploding".
        advice: what to try.

    Example:
        >>> model = rc.Sequential(
        ...     rc.LSTM(2, 8, return_sequences=False), rc.Linear(8, 1), seed=0
        ... )
        >>> x, y = np.random.default_rng(0).random((16, 50, 2), np.float32), np.ones((16, 1))
        >>> layer = rc.diagnose.gradient_flow(model, x, y, loss="mse").layers[0]
        >>> layer.norms.shape, len(layer.advice) > 0
        ((16, 50), True)
    """

    name: str
    layer: int
    norms: Array
    lengths: Array
    from_start: Array
    from_end: Array
    reach: Array
    ratio: float
    growth: float
    rate: float
    half_life: float
    verdict: str
    advice: tuple[str, ...]

    @property
    def steps(self) -> int:
        """T, the steps of the longest row."""
        return int(self.lengths.max(initial=0))

    def __str__(self) -> str:
        if not np.isfinite(self.reach).all():
            evidence = "the gradient is not finite"
        elif not self.reach.any():
            evidence = "no gradient arrives"
        elif self.steps < 3:
            evidence = f"{self.steps} steps are too few to tell"
        else:
            evidence = (
                f"the first of {self.steps} steps get {self.ratio:.1e} of what the last ones get, a factor of "
                f"{self.rate:.3f} per step"
            )
            if np.isfinite(self.half_life):
                evidence += f", half of it lost in {self.half_life:.3g}"
        tips = "".join(f"\n    try {tip}" for tip in self.advice)
        return f"{self.name}: {self.verdict} ({evidence}){tips}"


@dataclass(frozen=True, repr=False)
class GradientFlow:
    """The result of `gradient_flow`; print it.

    Attributes: layers, one entry per recurrent layer and direction, in the order in which they run; loss, the mean.

    Example:
        >>> model = rc.Sequential(
        ...     rc.LSTM(2, 8, return_sequences=False), rc.Linear(8, 1), seed=0
        ... )
        >>> x, y = np.random.default_rng(0).random((16, 50, 2), np.float32), np.ones((16, 1))
        >>> flow = rc.diagnose.gradient_flow(model, x, y, loss="mse")
        >>> [layer.name for layer in flow.layers]
        ['0.LSTM']
    """

    layers: tuple[LayerFlow, ...]
    loss: float

    @property
    def verdict(self) -> str:
        """The worst verdict of the layers: "exploding", "vanishing" or "healthy"."""
        found = {layer.verdict for layer in self.layers}
        return next((one for one in ("exploding", "vanishing") if one in found), "healthy")

    def __str__(self) -> str:
        return "\n".join([f"gradient flow: {self.verdict}, at a loss of {self.loss:.4g}", *map(str, self.layers)])

    def __repr__(self) -> str:
        return f"GradientFlow({self.verdict!r}, loss={self.loss:.4g}, layers={len(self.layers)})"

    def _repr_html_(self) -> str:
        """A row for each layer and direction, for notebooks."""
        rows = [("layer", "verdict", "first steps / last steps", "factor per step", "try")]
        rows += [
            (one.name, one.verdict, f"{one.ratio:.1e}", f"{one.rate:.3f}", "; ".join(one.advice)) for one in self.layers
        ]
        return html.table(rows, caption=f"gradient flow: {self.verdict}, at a loss of {self.loss:.4g}")

    def plot(self, ax: Any = None) -> Axes:
        """Draw `reach`, a line per layer and direction, on a logarithmic scale; time runs to the right.

        Args:
            ax: matplotlib axes to draw on; None makes a figure.

        Raises:
            ImportError: matplotlib is not installed.
        """
        return draw(self, ax)


def gradient_flow(
    model: Any,
    x: Any,
    y: Any,
    lengths: Any = None,
    *,
    loss: Any,
    loss_weights: Any = None,
    training: bool = True,
    seed: int | None = None,
) -> GradientFlow:
    """The gradient of the loss through time, in every recurrent layer, and whether it vanishes or explodes.

    Measures the norm of dL/dh_t, the total derivative, at each step t: the gradient from the layer above at t plus that
    from later steps. A norm that shrinks or grows by a factor per step makes long sequences hard to learn (Bengio,
    Simard, Frasconi 1994; Pascanu, Mikolov, Bengio 2013). The model and its gradients are left unchanged.

    Args:
        model: a model, or a layer alone.
        x, y, lengths, loss, loss_weights: a batch, as `fit` takes it; a few dozen rows are enough.
        training: whether dropout and zoneout draw masks, as in training.
        seed: for the masks; None for a fresh seed.

    Raises:
        ValueError, TypeError: data that do not fit the model, or a model without a recurrent layer.

    Example:
        >>> model = rc.Sequential(
        ...     rc.LSTM(2, 8, return_sequences=False), rc.Linear(8, 1), seed=0
        ... )
        >>> x, y = np.random.default_rng(0).random((16, 50, 2), np.float32), np.ones((16, 1))
        >>> flow = rc.diagnose.gradient_flow(model, x, y, loss="mse", seed=0)
        >>> flow.layers[0].verdict
        'vanishing'
    """
    subject = subject_of("gradient_flow", model, x, lengths)
    parts = subject.need_parts()
    objective = Objective(subject, y, loss, loss_weights)
    training = checks.flag("gradient_flow", "training", training)
    seed = seeds.resolve("gradient_flow", seed)

    def backward(choose: Callable[[Array], Array]) -> tuple[list[Array], float, bool]:
        """The norms of each part, the loss, and whether `choose` left all gradients of the outputs unchanged."""
        tape = subject.model.record(subject.x, lengths=subject.lengths, training=training, input_grad=False, seed=seed)
        pieces = {id(piece): piece for piece, _ in (subject.place_of(tape, part.node) for part in parts)}
        for piece in pieces.values():
            piece.keep_gradient_norms()
        values = objective.values(objective.outputs(tape.y))
        given, scale = objective.gradient(values)
        chosen = [None if one is None else choose(one) for one in given]
        same = all(one is other for one, other in zip(given, chosen, strict=True))
        tape.backward(objective.join(chosen))
        norms = []
        for part in parts:
            piece, index = subject.place_of(tape, part.node)
            found = piece.gradient_norms[index]
            assert found is not None
            norms.append(found[part.slot] * scale)
        return norms, objective.mean(values), same

    with subject.untouched():
        total, mean, _same = backward(lambda dy: dy)
        last, _mean, same = backward(_last)
        first = last if same else backward(_first)[0]
    flows = []
    for part, norms, *alone in zip(parts, total, last, first, strict=True):
        rows, steps = norms.shape
        own = subject.node_lengths(subject.graph.nodes[part.node], steps, rows)
        flows.append(_flow(part, norms, alone, own))
    return GradientFlow(tuple(flows), float(mean))


def _last(dy: Array) -> Array:
    """The gradient at each row's last step with a non-zero one; 0 elsewhere."""
    if dy.ndim < 3:
        return dy
    some = (dy != 0).any(-1)
    steps = dy.shape[1]
    at = steps - 1 - some[:, ::-1].argmax(1) if steps else np.zeros(len(dy), np.int64)
    return np.where((np.arange(steps) == at[:, None])[..., None], dy, dy.dtype.type(0))


def _first(dy: Array) -> Array:
    """The gradient at the first such step, which the reverse direction reads last."""
    return dy if dy.ndim < 3 else _last(dy[:, ::-1])[:, ::-1]


def _flow(part: Part, norms: Array, alone: Sequence[Array], lengths: Array) -> LayerFlow:
    start, end = _profile(norms, lengths, part.reverse)
    # Of the errors at the two ends of a row, the one at the step that this direction reads last.
    reach = max((_profile(one, lengths, part.reverse)[1] for one in alone), key=lambda one: float(one[:1].sum()))
    (ratio, growth), rate = _ratio(reach), _rate(reach)
    if not (np.isfinite(reach).all() and np.isfinite(norms).all()) or growth > EXPLODING:
        verdict = "exploding"
    else:
        verdict = "vanishing" if ratio < VANISHING else "healthy"
    half_life = float(np.log(0.5) / np.log(rate)) if 0 < rate < 1 else 0.0 if rate == 0 else np.inf
    tips = advice(part, verdict, len(reach), alive=bool(reach.any()))
    return LayerFlow(
        part.name, part.layer, norms, lengths, start, end, reach, ratio, growth, rate, half_life, verdict, tuple(tips)
    )


def _profile(norms: Array, lengths: Array, reverse: bool) -> tuple[Array, Array]:
    """Means over rows, counted from each row's first step and back from its last, in reading order."""
    longest = int(lengths.max(initial=0))
    sums = np.zeros((2, longest))
    for row, length in zip(norms, lengths, strict=True):
        read = row[:length][::-1] if reverse else row[:length]
        sums[0, :length] += read
        sums[1, :length] += read[::-1]
    start, end = sums / np.array([(lengths > step).sum() for step in range(longest)])
    return start, end


def _ratio(reach: Array) -> tuple[float, float]:
    """`ratio` and `growth` of `LayerFlow`. The ratio leaves out the step where the error enters, which says nothing
    about propagation; the growth includes it, in the larger value near the end."""
    if len(reach) < 3:
        return (1.0, 1.0) if reach.any() or not len(reach) else (0.0, 0.0)
    tenth = max(len(reach) // 10, 1)
    near, far = float(np.median(reach[1 : 1 + tenth])), float(np.median(reach[-tenth:]))
    most = max(near, float(reach[0]))
    return far / near if near else np.inf if far else 0.0, far / most if most else np.inf if far else 0.0


def _rate(reach: Array) -> float:
    """exp of the slope of log(reach), where it is finite and above 0."""
    steps = np.arange(1, len(reach))
    known = np.isfinite(reach[1:]) & (reach[1:] > 0)
    if known.sum() < 2:
        return 1.0 if len(reach) < 3 else 0.0 if np.isfinite(reach).all() else np.inf
    return float(np.exp(np.polyfit(steps[known], np.log(reach[1:][known]), 1)[0]))
