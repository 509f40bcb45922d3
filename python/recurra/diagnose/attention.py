"""A plot of attention weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from recurra.common import checks
from recurra.common.plots import axes_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_attention(
    weights: Any, source_labels: Sequence[Any] | None = None, target_labels: Sequence[Any] | None = None, ax: Any = None
) -> Axes:
    """Draw attention weights as a heat map, as in Bahdanau, Cho, Bengio 2015, figure 3: a row for each output.

    Args:
        weights: (T, Tm) of one sequence, such as `decoder.weights(...)[row]`: T outputs, Tm memory steps.
        source_labels: labels of the Tm memory steps, such as characters; a shorter list cuts off the rest, such as
            padding.
        target_labels: labels of the T outputs, likewise.
        ax: matplotlib axes to draw on; None makes a figure.

    Returns:
        The axes.

    Raises:
        ValueError: weights of another shape, or more labels than steps.
        ImportError: matplotlib is not installed.

    Example:
        >>> weights = np.full((3, 4), 0.25)  # of 3 target steps over 4 source steps
        >>> axes = rc.diagnose.plot_attention(weights, list("abcd"), list("xyz"))
    """
    array = checks.numeric("plot_attention", "weights", weights)
    if array.ndim != 2:
        raise ValueError(
            f"plot_attention: got weights of shape {array.shape}, expected (T, Tm) of one sequence; take a row, "
            f"weights[0]"
        )
    for name, labels, axis in (("target_labels", target_labels, 0), ("source_labels", source_labels, 1)):
        if labels is not None and len(labels) > array.shape[axis]:
            raise ValueError(
                f"plot_attention: got {len(labels)} {name}, expected at most {array.shape[axis]}, the steps of "
                "weights; leave the rest out"
            )
    outputs = array.shape[0] if target_labels is None else len(target_labels)
    steps = array.shape[1] if source_labels is None else len(source_labels)
    array = array[:outputs, :steps]
    axes = axes_of("plot_attention", ax, 1.6 + min(0.3 * max(steps, 6), 10), 1.2 + min(0.3 * max(outputs, 5), 8))
    image = axes.imshow(array, cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto", interpolation="nearest")
    axes.figure.colorbar(image, ax=axes, label="weight", fraction=0.05, pad=0.02)
    if source_labels is not None:
        wide = max((len(str(label)) for label in source_labels), default=0) > 2
        axes.set_xticks(range(steps), [str(label) for label in source_labels], rotation=90 if wide else 0)
        axes.xaxis.tick_top()
        axes.xaxis.set_label_position("top")
    if target_labels is not None:
        axes.set_yticks(range(outputs), [str(label) for label in target_labels])
    axes.set(xlabel="memory", ylabel="output")
    axes.tick_params(length=0)
    return axes
