"""Evaluation of losses and metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recurra.common.progress import Progress
from recurra.common.typing import State
from recurra.objective.goal import Goal
from recurra.objective.metric_group import MetricGroup
from recurra.objective.sources import Source

if TYPE_CHECKING:
    from recurra.training.model import TrainableModel


def evaluate(
    model: TrainableModel,
    goal: Goal,
    source: Source,
    metrics: MetricGroup,
    *,
    show: bool = False,
    warn_as: str | None = "evaluate",
) -> dict[str, float]:
    """The mean loss and the metrics, exact for ragged rows. Warns, as `warn_as`, of rows that the losses leave out;
    None does not warn."""
    inputs, outputs = model.structures
    mean = goal.mean()
    state: State = None
    with Progress(source.steps, "evaluate", show) as bar:
        for work in source.epoch(0, 0):
            segment = work.whole
            x, lengths, reset = (inputs.join(one) for one in (segment.x, segment.lengths, segment.resets))
            y, state = model(x, state=state if work.carry else None, lengths=lengths, reset=reset)
            mean.add(goal.values(outputs.spread("evaluate", "y", y), segment, metrics, gradient=False))
            bar.update(loss=mean.value)
    if warn_as is not None:
        mean.warn(warn_as)
    return {"loss": mean.value, **metrics.results()}
