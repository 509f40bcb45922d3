"""The run of a fit: epochs, pieces, steps; what callbacks see."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from recurra import _core
from recurra.callbacks.callback import Callback
from recurra.callbacks.group import CallbackGroup
from recurra.common import log, seeds
from recurra.common.errors import NonFiniteError
from recurra.common.progress import Progress
from recurra.common.typing import State
from recurra.objective.goal import Goal
from recurra.objective.metric_group import MetricGroup
from recurra.objective.pieces import Piece
from recurra.objective.shards import make_recorder
from recurra.objective.sources import Source
from recurra.optim import Optimizer
from recurra.training import guard
from recurra.training.checkpointer import Checkpointer, Running
from recurra.training.evaluation import evaluate
from recurra.training.history import History
from recurra.training.logs import LazyLogs
from recurra.training.places import Place, groups
from recurra.training.settings import Settings

if TYPE_CHECKING:
    from recurra.training.model import TrainableModel


class Training:
    """A running fit; callbacks access it as `self.training`.

    Attributes: model, optimizer, history, in their current state; epochs, the number of epochs to run; epoch, the
    current epoch, from 0; step, the number of optimiser steps so far; seed, which repeats the run; stop_training: set
    it to True to end training after the current step. The latter is not saved: a callback that has ended a run for good
    sets it again in load_state_dict.
    """

    def __init__(
        self,
        model: TrainableModel,
        optimizer: Optimizer,
        goal: Goal,
        source: Source,
        validation: Source | None,
        metrics: MetricGroup,
        callbacks: Sequence[Callback],
        settings: Settings,
        seed: int | None,
    ) -> None:
        self.model, self.optimizer = model, optimizer
        model.stop_training = False
        self.history = History(seeds.resolve("fit", seed))
        self._seed_given = seed is not None
        self.epoch = self.step = 0
        self._ended = False  # by NaN or infinity: the run is over, even if fit is called again
        self._cut = False  # a callback stopped training within the epoch
        self._goal, self._source, self._validation, self._metrics = goal, source, validation, metrics
        self._settings = settings
        #: A gradient for each shard of a batch, which is summed before the step.
        self._shards = [model.new_grads() for _ in range(settings.shards)] if settings.shards > 1 else []
        self._callbacks = CallbackGroup(callbacks, self)
        self._mean, self._running = goal.mean(), Running()
        self._buffers = list(model.buffers.values())
        self._state: State = None
        self._batches: int | None = None  # of the last whole epoch: what a source of unknown length may have again
        self._told = False  # whether the warning about rows that the losses leave out was given
        # The next piece: epoch, batch, and index in the batch; where a checkpoint resumes.
        self._next = (0, 0, 0)
        self._checkpointer = Checkpointer(self)

    @property
    def stop_training(self) -> bool:
        """Whether to end after the step at work; it is the model's attribute of that name, as in Keras."""
        return self.model.stop_training

    @stop_training.setter
    def stop_training(self, value: bool) -> None:
        self.model.stop_training = value

    @property
    def params(self) -> dict[str, int | None]:
        """What Keras tells its callbacks."""
        settings = self._settings
        return {"epochs": settings.epochs, "steps": self._source.steps, "verbose": settings.verbose}

    @property
    def epochs(self) -> int:
        """The number of epochs to run."""
        return self._settings.epochs

    @property
    def seed(self) -> int:
        """The seed, which repeats the run."""
        return self.history.seed

    @property
    def position(self) -> tuple[int, int, int]:
        """Where the run continues: the epoch, the batch and, with truncated BPTT, the window, all from 0."""
        return self._next

    @property
    def epoch_is_whole(self) -> bool:
        """False if a callback stopped the current epoch between two of its steps."""
        return not self._cut

    @property
    def ended(self) -> bool:
        """Whether the run is over for good, ended by a callback because of NaN or infinity."""
        return self._ended

    @property
    def over(self) -> bool:
        """Whether calling the same fit again would have nothing to do: all epochs are complete, or the run was ended
        for good. A callback that only sets `stop_training` ends this call alone."""
        done = self._next[0] >= self.epochs and not self._cut
        return done or self._ended or any(one.has_ended_run() for one in self._callbacks.all)

    @property
    def _where(self) -> str:
        return f"epoch {self.epoch + 1}, step {self._running.groups + 1}"

    def mode(self, name: str) -> str | None:
        """ "min" or "max", whichever is better for a number of the logs, a loss or a metric; None if unknown."""
        plain = name.removeprefix("val_")
        return "min" if plain == "loss" else self._metrics.mode(plain)

    @property
    def step_log_names(self) -> list[str]:
        """The names of the numbers available after a step."""
        return ["loss", *self._metrics.names, "lr", "grad_norm", "clipped"]

    @property
    def log_names(self) -> list[str]:
        """The names of the numbers available after an epoch."""
        names = self.step_log_names
        if self._validation is not None:
            names += [f"val_{name}" for name in ("loss", *self._metrics.names)]
        return names + self._callbacks.log_names

    def run(self) -> History:
        """Run the remaining epochs."""
        self._callbacks.begin()
        self.epoch = self._next[0]
        while self.epoch < self.epochs and not self.stop_training:
            self._run_epoch()
            self.epoch += 1
        self._callbacks.call("on_train_end")
        return self.history

    def watch_data(self) -> None:
        """From here on, record what generators yield, so that a resumed run is warned if they yield something else. For
        callbacks that take snapshots."""
        self._checkpointer.note_origin()
        self._source.watch()
        if self._validation is not None:
            self._validation.watch()

    def snapshot(self) -> bytes:
        """The content of a file from which `restore` resumes, and from which `recurra.load` reads the model."""
        return self._checkpointer.snapshot()

    def restore(self, path: str | os.PathLike[str]) -> None:
        """Resume from a file with a `snapshot()` of the same fit; where that fails, nothing has changed.

        What differs without being refused, or cannot be compared, is a `recurra.ResumeWarning`.

        Raises:
            ModelFormatError: the file is no checkpoint, or is damaged.
            ValueError: it is of another run.
        """
        self._checkpointer.restore(path)

    def _run_epoch(self) -> None:
        epoch, first, settings = self.epoch, self._next[1:], self._settings
        seed = seeds.derive(self.seed, epoch)
        self._cut = False
        if first == (0, 0):
            self._mean, self._running = self._goal.mean(), Running()
            self._metrics.reset()
            self._callbacks.call("on_epoch_begin", epoch)
        title = f"epoch {epoch + 1}/{self.epochs}"
        total = self._batches if self._source.steps is None else self._source.steps
        with Progress(total, title, settings.verbose == 1, done=first[0]) as bar:
            for group in groups(self._source, settings.truncate, settings.accumulate, epoch, self.seed, *first):
                self._run_group(seed, group)
                bar.update(self._next[1] - bar.done, loss=self._mean.value)
                if self.stop_training:
                    whole = self._next[1:] == (self._source.steps, 0)  # stopped by the epoch's last step
                    self._cut = not self._ended and not whole
                    break
            logs = self._validated()
            whole = self.epoch_is_whole and not self._ended
            bar.finish(whole, **logs)
        if whole:
            self._batches = bar.done
        self._end_epoch(logs)  # behind the bar, as callbacks print
        if settings.verbose == 2:
            log.say(f"{title}: " + ", ".join(f"{name} {value:.4g}" for name, value in logs.items()))

    def _run_group(self, seed: int, group: Sequence[Place]) -> None:
        """The pieces between two steps of the optimiser, and the step."""
        number = self._running.groups
        self.model.zero_grad()  # so that a step that fails can restore them
        self._callbacks.call("on_train_batch_begin", number)
        try:
            with self._whole_steps():
                self._learn(seed, [place.piece for place in group])
        except NonFiniteError as error:
            if not self._callbacks.ends_quietly(error):
                raise
            self.stop_training = self._ended = True
        self._next = (self.epoch, *group[-1].following)
        self._callbacks.call("on_train_batch_end", number, LazyLogs(self._logs))

    def _validated(self) -> dict[str, float]:
        """The epoch's logs, those of validation included, before callbacks add theirs."""
        burn_in = 0 if self._settings.truncate is None else self._settings.truncate.burn_in
        if burn_in and not self._running.steps and not self.stop_training:  # else the loss of 0 would look very good
            raise ValueError(
                f"fit: epoch {self.epoch + 1}: got burn_in={burn_in}, which leaves no step to learn from, expected "
                "fewer than the steps of the sequences; lower it"
            )
        told, self._told = self._told, True
        if not told:  # of rows that every epoch leaves out
            self._mean.warn("fit")
        logs = self._logs()
        if self._validation is not None:
            warn_as = None if told else "fit: validation"
            found = evaluate(self.model, self._goal, self._validation, self._metrics.fresh(), warn_as=warn_as)
            logs |= {f"val_{name}": value for name, value in found.items()}
        return logs

    def _end_epoch(self, logs: dict[str, float]) -> None:
        """Callbacks and history."""
        epoch = self.epoch
        self._next = (epoch + 1, 0, 0)
        for callback in self._callbacks.all:  # each sees in the history the numbers that those before it have added
            self.history.append(epoch, logs)
            callback.on_epoch_end(epoch, logs)
        self.history.append(epoch, logs)

    def _logs(self) -> dict[str, float]:
        running = self._running
        steps = running.steps or math.nan
        return {
            "loss": self._mean.value,
            **self._metrics.results(),
            "lr": self.optimizer.lr,
            "grad_norm": running.norm / steps,
            "clipped": running.clipped / steps,
        }

    @contextmanager
    def _whole_steps(self) -> Iterator[None]:
        """Restore buffers and gradients, which recording changes, if the block fails before the optimiser has
        stepped."""
        kept, steps = [array.copy() for array in self._buffers], self.optimizer.steps
        try:
            yield
        except BaseException:
            if self.optimizer.steps == steps:
                _core.assign([], list(zip(self._buffers, kept, strict=True)))  # all, or none
                self.model.zero_grad()
            raise

    def _learn(self, seed: int, group: Sequence[Piece]) -> None:
        """One optimiser step, or none if no row counts in the loss."""
        settings = self._settings
        self.model.zero_grad()
        recorder = make_recorder(self.model, self._goal, self._metrics, settings.memory_budget, self._shards)
        totals = recorder.totals(group)
        for place, piece in enumerate(group):
            begin = self._state if piece.carry else None
            values = recorder.record(piece, begin, seeds.derive(seed, self._running.groups, place), totals)
            self._state = recorder.state
            self._mean.add(values)
            if settings.nan_guard and not all(math.isfinite(value.sum) for value in values):
                guard.explain(self.model, self._goal, recorder.done, self._where)
        running = self._running
        if any(recorder.counts):  # not so for a batch of empty rows
            recorder.finish()
            try:
                norm, clipped = self.optimizer.step(
                    self.model,
                    scale=self._goal.scale(recorder.counts),
                    clip_norm=settings.clip_norm,
                    clip_value=settings.clip_value,
                    error_if_nonfinite=settings.nan_guard,
                )
            except FloatingPointError as error:
                if not str(error).startswith(f"{type(self.optimizer).__name__}.step: "):  # raised by a user's schedule
                    raise
                guard.explain(self.model, self._goal, recorder.done, self._where)
            self.step += 1
            running.steps += 1
            running.norm += norm
            running.clipped += clipped
        running.groups += 1
