"""The content of checkpoints, and resuming from them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from recurra.training import resume, snapshot

if TYPE_CHECKING:
    from recurra.training.loop import Training


@dataclass
class Running:
    """Sums over an epoch so far.

    Attributes: groups, of pieces between steps; steps, the groups that made a step of the optimiser; norm, clipped,
    sums over these steps.
    """

    groups: int = 0
    steps: int = 0
    norm: float = 0.0
    clipped: float = 0.0


class Checkpointer:
    """Reads and writes the state of a `Training`, of which it is a part."""

    def __init__(self, training: Training) -> None:
        self._training = training
        self._setup = resume.Setup(training.model, training.optimizer)
        self._origin: dict[str, Any] = {}  # the setup at the start of the run, before callbacks changed it
        self._asked_to_stop: bool | None = None  # stop_training before the first restore; None until then

    def note_origin(self) -> None:
        """Remember the setup at the start of the run."""
        if not self._origin:
            self._origin = self._setup.description()

    def snapshot(self) -> bytes:
        """See `Training.snapshot`."""
        training = self._training
        validation = training._validation
        state = {
            "settings": self._fingerprint(),
            "setup": self._setup.state_dict(),
            "circumstances": self._circumstances(),
            **self._progress(),
            "metrics": [metric.state_dict() for _name, metric in training._metrics.metrics()],
            "data": training._source.state_dict(),
            "validation": None if validation is None else validation.state_dict(),
            "state": training._state,
            "optimizer": resume.OptimizerOf(training.optimizer, training.model).state_dict(),
            "callbacks": [one.state_dict() for one in training._callbacks.all],
        }
        return snapshot.pack(training.model, state)

    def restore(self, path: str | os.PathLike[str]) -> None:
        """See `Training.restore`."""
        training = self._training
        parameters, state = snapshot.unpack(path)
        resume.check(path, state, self._progress())
        self._check_same_run(path, state)
        parts = self._parts(path, state)
        stop = training.stop_training
        if self._asked_to_stop is None:
            self._asked_to_stop = stop
        training.stop_training = False
        try:
            with resume.all_or_nothing(training.model, training.optimizer, [one for one, _kept in parts.values()]):
                resume.load(path, "the model", training.model, parameters)
                optimizer = resume.OptimizerOf(training.optimizer, training.model)
                resume.load(path, "the optimizer", optimizer, state["optimizer"])
                for what, (one, kept) in parts.items():
                    resume.load(path, what, one, kept)
        except BaseException:
            training.stop_training = stop
            raise
        self._origin = {name: state["settings"][name] for name in self._origin}
        self._load_progress(state)
        training.stop_training = training.stop_training or training._ended or self._asked_to_stop
        epoch, batch, _window = training._next
        if epoch < training.epochs and not training.stop_training:
            resume.warn(path, resume.plain(self._circumstances()), state["circumstances"])
            training._source.go_on(batch)

    def _check_same_run(self, path: str | os.PathLike[str], state: Mapping[str, Any]) -> None:
        """Refuse a checkpoint of another run."""
        training = self._training
        own, other = resume.plain(self._fingerprint()), state["settings"]
        for name in self._origin:  # the objects are the same, and callbacks had changed them
            if name in other and own[name] == state["setup"].get(name):
                own[name] = other[name]
        if training._seed_given:
            own, other = {**own, "seed": training.seed}, {**other, "seed": state["seed"]}
        resume.compare(path, own, other)

    def _parts(self, path: str | os.PathLike[str], state: Mapping[str, Any]) -> dict[str, tuple[resume.Stateful, Any]]:
        """What is restored beside parameters and optimiser state: name in messages -> (object, state)."""
        training = self._training
        callbacks, metrics = training._callbacks.all, training._metrics.metrics()
        if (len(state["metrics"]), len(state["callbacks"])) != (len(metrics), len(callbacks)):
            resume.refuse(path, f"states of {len(state['metrics'])} metrics and {len(state['callbacks'])} callbacks")
        parts: dict[str, tuple[resume.Stateful, Any]] = {
            "the data": (training._source, state["data"]),
            "the model or the optimizer": (self._setup, state["setup"]),
        }
        if training._validation is not None:
            parts["the validation data"] = (training._validation, state["validation"])
        for (name, metric), kept in zip(metrics, state["metrics"], strict=True):
            parts[f"the metric {name!r}"] = (metric, kept)
        for index, (callback, kept) in enumerate(zip(callbacks, state["callbacks"], strict=True)):
            parts[f"callback {index}, {type(callback).__name__},"] = (callback, kept)
        return parts

    def _progress(self) -> dict[str, Any]:
        """The progress of the run as plain data."""
        training = self._training
        mean, history = training._mean, training.history
        return {
            "seed": training.seed,
            "history": history.history,
            "epochs": history.epoch,
            "position": training._next,
            "step": training.step,
            "ended": training._ended,
            "mean": [mean.sums, mean.counts, mean.left_out],
            "running": asdict(training._running),
        }

    def _load_progress(self, state: Mapping[str, Any]) -> None:
        training = self._training
        mean, history = training._mean, training.history
        history.seed, history.history, history.epoch = state["seed"], state["history"], state["epochs"]
        mean.sums, mean.counts, mean.left_out = state["mean"]
        training._running, training._state = Running(**state["running"]), state["state"]
        training.step, training._ended = state["step"], state["ended"]
        epoch, batch, window = state["position"]
        training._next = (epoch, batch, window)

    def _fingerprint(self) -> dict[str, Any]:
        """What a resumed run must have in common with the original one. The number of epochs may differ."""
        training = self._training
        settings = training._settings
        self.note_origin()
        return {
            **self._origin,
            "loss": training._goal.config(),
            "data": training._source.config(),
            "validation": training._validation is not None,
            "callbacks": [type(one).__name__ for one in training._callbacks.all],
            "metrics": training._metrics.config(),
            "clip_norm": settings.clip_norm,
            "clip_value": settings.clip_value,
            "accumulate": settings.accumulate,
            "shards": settings.shards,
            "truncate": None if settings.truncate is None else asdict(settings.truncate),
        }

    def _circumstances(self) -> dict[str, Any]:
        validation = self._training._validation
        config = None if validation is None else validation.config()
        return resume.circumstances(config, self._training._callbacks.all)
