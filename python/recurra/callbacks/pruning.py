"""Optuna's pruning of trials that promise little."""

from __future__ import annotations

from typing import Any

from recurra.callbacks.callback import Callback
from recurra.callbacks.monitor import Monitor


class OptunaPruning(Callback):
    """Reports a number to a trial of Optuna after each epoch, and ends the fit with `optuna.TrialPruned` where the
    study's pruner says that the trial promises too little.

    The exception leaves the objective, and the study goes on with the next trial. (`pip install "recurra[tune]"`)

    Args:
        trial: what the objective got, an `optuna.trial.Trial`, or a `FixedTrial`, which is never pruned.
        monitor: the number's name in the history. The study must minimise it if it is a loss, and maximise it if more
            is better, as is known of metrics.

    `fit` raises ImportError without Optuna, and ValueError for a number that is not in its history or whose better
    direction is not the study's.

    Example:
        >>> import optuna
        >>> optuna.logging.set_verbosity(optuna.logging.WARNING)
        >>> x = np.ones((8, 5, 1), np.float32)
        >>> def objective(trial):
        ...     size = trial.suggest_int("hidden_size", 2, 8)
        ...     model = rc.Sequential(rc.GRU(1, size), rc.Linear(size, 1), seed=0)
        ...     history = model.fit(
        ...         x,
        ...         x,
        ...         loss="mse",
        ...         optimizer="adam",
        ...         epochs=3,
        ...         callbacks=rc.callbacks.OptunaPruning(trial, "loss"),
        ...         verbose=0,
        ...     )
        ...     return history.history["loss"][-1]
        >>> study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
        >>> study.optimize(objective, n_trials=2)
        >>> len(study.trials)
        2
    """

    def __init__(self, trial: Any, monitor: str = "val_loss") -> None:
        name = type(self).__name__
        if not (callable(getattr(trial, "report", None)) and callable(getattr(trial, "should_prune", None))):
            raise TypeError(
                f"{name}: got trial of type {type(trial).__name__}, expected an optuna.trial.Trial; give the one that "
                "the objective is called with"
            )
        self.trial = trial
        self._monitor = Monitor(name, monitor)

    def on_train_begin(self) -> None:
        """An ImportError without Optuna; checks the number and its direction."""
        _pruned()
        self._monitor.begin(self.training)
        study = getattr(self.trial, "study", None)  # a FixedTrial has none
        if study is None:
            return
        if len(study.directions) > 1:
            raise ValueError(
                f"OptunaPruning: got a study of {len(study.directions)} objectives, expected one, as Optuna prunes no "
                "others; leave the callback out"
            )
        wanted = "MINIMIZE" if self._monitor.sign > 0 else "MAXIMIZE"
        if study.direction.name != wanted:
            raise ValueError(
                f"OptunaPruning: got monitor={self._monitor.name!r} in a study that wants to "
                f"{study.direction.name.lower()}, expected one of the same direction; create the study with "
                f"direction={wanted.lower()!r}, or monitor another number"
            )

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Reports the number, and raises `optuna.TrialPruned` where the trial is pruned."""
        value = self._monitor.value(logs)
        self.trial.report(value, step=epoch)
        if self.trial.should_prune():
            raise _pruned()(f"{self._monitor.name} {value:.6g} after epoch {epoch + 1}")

    def config(self) -> dict[str, Any]:
        """The options, without the trial."""
        return self._monitor.config()


def _pruned() -> Any:
    """Optuna's exception."""
    try:
        from optuna import TrialPruned
    except ImportError as error:
        raise ImportError("OptunaPruning: optuna is not installed; run pip install 'recurra[tune]'") from error
    return TrialPruned
