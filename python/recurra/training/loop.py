"""The run of a fit: epochs, pieces, steps; what callbacks look at, what a checkpoint holds."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from recurra import _core
from recurra.callbacks.callback import Callback
from recurra.callbacks.group import CallbackGroup
from recurra.common import seeds
from recurra.common.errors import NonFiniteError
from recurra.common.progress import Progress
from recurra.common.typing import State
from recurra.objective.goal import Goal
from recurra.objective.metric_group import MetricGroup
from recurra.objective.pieces import Piece
from recurra.objective.recorder import Recorder
from recurra.objective.sources import Source
from recurra.optim import Optimizer
from recurra.training import guard, resume, snapshot
from recurra.training.evaluation import evaluate
from recurra.training.history import History
from recurra.training.logs import LazyLogs
from recurra.training.places import groups
from recurra.training.settings import Settings

if TYPE_CHECKING:
    from recurra.training.model import TrainableModel


@dataclass
class _Running:
    """The sums of an epoch so far: groups of pieces, and those of them that made a step of the optimiser."""

    groups: int = 0
    steps: int = 0
    norm: float = 0.0
    clipped: float = 0.0


class Training:
    """A fit at work; callbacks find it as `self.training`.

    Attributes: model, optimizer, history, as they are at the moment; epochs, how many there shall be; epoch, the one at work,
    from 0; step, the optimiser's steps so far; seed, which repeats the run; stop_training: set it to True to end after the
    step at work. The latter is not saved: a callback for which a run is over for good sets it again in load_state_dict.
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
        self.history = History(seeds.resolve("fit", seed))
        self._seed_given = seed is not None
        self.epoch = self.step = 0
        self.stop_training = False
        self._ended = False  # by numbers that are not finite: a run that is over, however often it is called again
        self._cut = False  # a callback stopped in the middle of the epoch
        self._asked_to_stop: bool | None = None  # before anything was restored; None until then
        self._goal, self._source, self._validation, self._metrics = goal, source, validation, metrics
        self._settings = settings
        self._callbacks = CallbackGroup(callbacks, self)
        self._mean, self._running = goal.mean(), _Running()
        self._buffers = list(model.buffers.values())
        self._state: State = None
        self._told = False  # what the losses leave out
        self._setup = resume.Setup(model, optimizer)
        self._origin: dict[str, Any] = {}  # the setup where the run began, before callbacks changed it
        # The next piece: its epoch, batch, and place in the batch; where a checkpoint goes on.
        self._next = (0, 0, 0)

    @property
    def epochs(self) -> int:
        """How many there shall be."""
        return self._settings.epochs

    @property
    def seed(self) -> int:
        """What repeats the run."""
        return self.history.seed

    @property
    def position(self) -> tuple[int, int, int]:
        """Where the run goes on: the epoch, the batch and, with truncated BPTT, the window in it, all from 0."""
        return self._next

    @property
    def epoch_is_whole(self) -> bool:
        """Whether the epoch at work was not stopped by a callback between two of its steps."""
        return not self._cut

    @property
    def ended(self) -> bool:
        """Whether the run is over for good: numbers were not finite, and a callback ended it quietly."""
        return self._ended

    @property
    def over(self) -> bool:
        """Whether nothing is left to do, however often the same fit is called: all epochs are whole, or the run was ended for
        good. A callback that only sets `stop_training` ends this call alone."""
        done = self._next[0] >= self.epochs and not self._cut
        return done or self._ended or any(one.has_ended_run() for one in self._callbacks.all)

    @property
    def _where(self) -> str:
        return f"epoch {self.epoch + 1}, step {self._running.groups + 1}"

    def mode(self, name: str) -> str | None:
        """ "min" or "max", which way a number of the logs is better: a loss or a metric; None where nothing says so."""
        plain = name.removeprefix("val_")
        return "min" if plain == "loss" else self._metrics.mode(plain)

    @property
    def step_log_names(self) -> list[str]:
        """The names of the numbers that are known after a step."""
        return ["loss", *self._metrics.names, "lr", "grad_norm", "clipped"]

    @property
    def log_names(self) -> list[str]:
        """The names of the numbers that an epoch gives."""
        names = self.step_log_names
        if self._validation is not None:
            names += [f"val_{name}" for name in ("loss", *self._metrics.names)]
        return names + self._callbacks.log_names

    def run(self) -> History:
        """All epochs that are left."""
        self._callbacks.call("on_train_begin")
        self.epoch = self._next[0]
        while self.epoch < self.epochs and not self.stop_training:
            self._run_epoch()
            self.epoch += 1
        self._callbacks.call("on_train_end")
        return self.history

    def watch_data(self) -> None:
        """From here on follow what generators yield, so that a run that goes on can be told where they yield something else;
        for callbacks that will ask for snapshots."""
        self._note_origin()
        self._source.watch()
        if self._validation is not None:
            self._validation.watch()

    def _note_origin(self) -> None:
        if not self._origin:
            self._origin = self._setup.description()

    def snapshot(self) -> bytes:
        """The content of a file from which `restore` goes on, and `recurra.load` reads the model."""
        validation = self._validation
        state = {
            "settings": self._fingerprint(),
            "setup": self._setup.state_dict(),
            "circumstances": self._circumstances(),
            **self._progress(),
            "metrics": [metric.state_dict() for _name, metric in self._metrics.metrics()],
            "data": self._source.state_dict(),
            "validation": None if validation is None else validation.state_dict(),
            "state": self._state,
            "optimizer": resume.OptimizerOf(self.optimizer, self.model).state_dict(),
            "callbacks": [one.state_dict() for one in self._callbacks.all],
        }
        return snapshot.pack(self.model, state)

    def _progress(self) -> dict[str, Any]:
        """How far it is."""
        return {
            "seed": self.seed,
            "history": self.history.history,
            "epochs": self.history.epoch,
            "position": self._next,
            "step": self.step,
            "ended": self._ended,
            "mean": [self._mean.sums, self._mean.counts, self._mean.left_out],
            "running": asdict(self._running),
        }

    def restore(self, path: str | os.PathLike[str]) -> None:
        """Go on from a file with a `snapshot()` of the same fit; where it cannot be done, nothing has changed.

        What differs without being refused, or cannot be compared, is a `recurra.ResumeWarning`.

        Raises:
            ModelFormatError: the file is none, or is damaged.
            ValueError: it is of another run.
        """
        parameters, state = snapshot.unpack(path)
        callbacks, metrics = self._callbacks.all, self._metrics.metrics()
        resume.check(path, state, self._progress())
        own, other = resume.plain(self._fingerprint()), state["settings"]
        for name in self._origin:  # of the same objects, as they were left
            if name in other and own[name] == state["setup"].get(name):
                own[name] = other[name]
        if self._seed_given:
            own, other = {**own, "seed": self.seed}, {**other, "seed": state["seed"]}
        resume.compare(path, own, other)
        if (len(state["metrics"]), len(state["callbacks"])) != (len(metrics), len(callbacks)):
            resume.refuse(path, f"states of {len(state['metrics'])} metrics and {len(state['callbacks'])} callbacks")
        parts: dict[str, tuple[resume.Stateful, Any]] = {
            "the data": (self._source, state["data"]),
            "the model or the optimizer": (self._setup, state["setup"]),
        }
        if self._validation is not None:
            parts["the validation data"] = (self._validation, state["validation"])
        for (name, metric), kept in zip(metrics, state["metrics"], strict=True):
            parts[f"the metric {name!r}"] = (metric, kept)
        for index, (callback, kept) in enumerate(zip(callbacks, state["callbacks"], strict=True)):
            parts[f"callback {index}, {type(callback).__name__},"] = (callback, kept)
        stop = self.stop_training
        if self._asked_to_stop is None:
            self._asked_to_stop = stop
        self.stop_training = False
        try:
            with resume.all_or_nothing(self.model, self.optimizer, [one for one, _kept in parts.values()]):
                resume.load(path, "the model", self.model, parameters)
                optimizer = resume.OptimizerOf(self.optimizer, self.model)
                resume.load(path, "the optimizer", optimizer, state["optimizer"])
                for what, (one, kept) in parts.items():
                    resume.load(path, what, one, kept)
        except BaseException:
            self.stop_training = stop
            raise
        history = self.history
        self._origin = {name: other[name] for name in self._origin}
        history.seed, history.history, history.epoch = state["seed"], state["history"], state["epochs"]
        self._mean.sums, self._mean.counts, self._mean.left_out = state["mean"]
        self._running, self._state = _Running(**state["running"]), state["state"]
        self.step, self._ended = state["step"], state["ended"]
        self.stop_training = self.stop_training or self._ended or self._asked_to_stop
        epoch, batch, window = state["position"]
        self._next = (epoch, batch, window)
        if epoch < self.epochs and not self.stop_training:
            resume.warn(path, resume.plain(self._circumstances()), state["circumstances"])
            self._source.go_on(batch)

    def _fingerprint(self) -> dict[str, Any]:
        """What runs that go on must have in common; more epochs are welcome."""
        settings = self._settings
        self._note_origin()
        return {
            **self._origin,
            "loss": self._goal.config(),
            "data": self._source.config(),
            "validation": self._validation is not None,
            "callbacks": [type(one).__name__ for one in self._callbacks.all],
            "metrics": self._metrics.config(),
            "clip_norm": settings.clip_norm,
            "clip_value": settings.clip_value,
            "accumulate": settings.accumulate,
            "truncate": None if settings.truncate is None else asdict(settings.truncate),
        }

    def _circumstances(self) -> dict[str, Any]:
        validation = None if self._validation is None else self._validation.config()
        return resume.circumstances(validation, self._callbacks.all)

    def _run_epoch(self) -> None:
        epoch, first, settings = self.epoch, self._next[1:], self._settings
        own = seeds.derive(self.seed, epoch)
        self._cut = False
        if first == (0, 0):
            self._mean, self._running = self._goal.mean(), _Running()
            self._metrics.reset()
            self._callbacks.call("on_epoch_begin", epoch)
        title = f"epoch {epoch + 1}/{self.epochs}"
        with Progress(self._source.steps, title, settings.verbose == 1, done=first[0]) as bar:
            for group in groups(self._source, settings.truncate, settings.accumulate, epoch, self.seed, *first):
                number = self._running.groups
                self.model.zero_grad()  # so that a step that fails leaves them as it found them
                self._callbacks.call("on_train_batch_begin", number)
                try:
                    with self._whole_steps():
                        self._learn(own, [place.piece for place in group])
                except NonFiniteError as error:
                    if not self._callbacks.ends_quietly(error):
                        raise
                    self.stop_training = self._ended = True
                self._next = (epoch, *group[-1].following)
                self._callbacks.call("on_train_batch_end", number, LazyLogs(self._logs))
                bar.update(self._next[1] - bar.done, loss=self._mean.value)
                if self.stop_training:
                    whole = self._next[1:] == (self._source.steps, 0)  # stopped by the epoch's last step
                    self._cut = not self._ended and not whole
                    break
            burn_in = 0 if self._settings.truncate is None else self._settings.truncate.burn_in
            if burn_in and not self._running.steps and not self.stop_training:  # its loss, 0, would look very good
                raise ValueError(
                    f"fit: epoch {epoch + 1}: got burn_in={burn_in}, which leaves no step to learn from, expected less than "
                    f"the steps of the sequences; lower it"
                )
            told, self._told = self._told, True
            if not told:  # of what every epoch leaves out
                self._mean.warn("fit")
            logs = self._logs()
            if self._validation is not None:
                found = evaluate(
                    self.model,
                    self._goal,
                    self._validation,
                    self._metrics.fresh(),
                    warn_as=None if told else "fit: validation",
                )
                logs |= {f"val_{name}": value for name, value in found.items()}
            self._next = (epoch + 1, 0, 0)
            for callback in self._callbacks.all:  # each finds in the history what those before it have added
                self.history.append(epoch, logs)
                callback.on_epoch_end(epoch, logs)
            self.history.append(epoch, logs)
            bar.finish(**logs)
        if settings.verbose == 2:
            print(f"{title}: " + ", ".join(f"{name} {value:.4g}" for name, value in logs.items()), flush=True)

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
        """Buffers and gradients, which move when a batch is recorded, are put back if no step of the optimiser comes of it."""
        kept, steps = [array.copy() for array in self._buffers], self.optimizer.steps
        try:
            yield
        except BaseException:
            if self.optimizer.steps == steps:
                _core.assign([], list(zip(self._buffers, kept, strict=True)))  # all, or none
                self.model.zero_grad()
            raise

    def _learn(self, seed: int, group: Sequence[Piece]) -> None:
        """One step of the optimiser, or none if there was nothing to count."""
        settings = self._settings
        self.model.zero_grad()
        recorder = Recorder(self.model, self._goal, self._metrics, settings.memory_budget)
        totals = recorder.totals(group)
        for place, piece in enumerate(group):
            begin = self._state if piece.carry else None
            values = recorder.record(piece, begin, seeds.derive(seed, self._running.groups, place), totals)
            self._state = recorder.state
            self._mean.add(values)
            if settings.nan_guard and not all(math.isfinite(value.sum) for value in values):
                guard.explain(self.model, self._goal, recorder.done, self._where)
        running = self._running
        if any(recorder.counts):  # a batch of empty rows has nothing to say
            try:
                norm, clipped = self.optimizer.step(
                    self.model,
                    scale=self._goal.scale(recorder.counts),
                    clip_norm=settings.clip_norm,
                    clip_value=settings.clip_value,
                    error_if_nonfinite=settings.nan_guard,
                )
            except FloatingPointError as error:
                if not str(error).startswith(f"{type(self.optimizer).__name__}.step: "):  # of a schedule of the user's
                    raise
                guard.explain(self.model, self._goal, recorder.done, self._where)
            self.step += 1
            running.steps += 1
            running.norm += norm
            running.clipped += clipped
        running.groups += 1
