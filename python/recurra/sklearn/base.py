"""The base of the estimators: builds a recurrent network from plain parameters and trains it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state

from recurra.callbacks import EarlyStopping
from recurra.common import checks, seeds
from recurra.common.typing import Array
from recurra.layers.basic import Dropout, Linear
from recurra.layers.recurrent.cell_names import cell_name
from recurra.layers.recurrent.gru import GRU
from recurra.layers.recurrent.lstm import LSTM
from recurra.layers.recurrent.min_rnn import MinGRU, MinLSTM
from recurra.layers.recurrent.recurrent import Recurrent
from recurra.layers.recurrent.rnn import RNN
from recurra.losses import Loss
from recurra.models.sequential import Sequential
from recurra.optim import AdamW
from recurra.sklearn import rows

if TYPE_CHECKING:
    from recurra.layers.leaf import LeafLayer
    from recurra.training.model import TrainableModel

_CELLS: dict[str, type[Recurrent[Any]]] = {"lstm": LSTM, "gru": GRU, "rnn": RNN, "mingru": MinGRU, "minlstm": MinLSTM}

#: The indices of the training rows and of the held-out rows.
Split: TypeAlias = "tuple[Array, Array] | None"

#: Rows per batch of inference; results do not depend on it.
_INFERENCE_ROWS = 256


# The dataclass generates the constructor that scikit-learn expects: named parameters, stored unchanged.
@dataclass(kw_only=True, eq=False, repr=False)
class SequenceEstimator(BaseEstimator):  # type: ignore[misc]
    """The base of the estimators: a recurrent layer and a linear layer, trained with AdamW.

    Args:
        cell: "lstm", "gru", "rnn", "mingru" or "minlstm": `recurra.LSTM` and so on, whose names work too.
        hidden_size: units of each layer and direction.
        num_layers: stacked recurrent layers.
        bidirectional: whether the layers also read the sequences backwards.
        dropout: probability, below 1, that training zeroes an output between two layers or before the linear layer.
        max_iter: maximum number of epochs. Reaching it gives no warning.
        batch_size: rows per optimiser step.
        learning_rate: of AdamW.
        weight_decay: of AdamW, decoupled.
        clip_norm: gradients with a larger norm are scaled to it; None for no clipping.
        early_stopping: whether to hold out `validation_fraction` of the rows, monitor their loss and restore the
            weights with the lowest. Otherwise the training loss is monitored, and the last weights are kept.
        validation_fraction: share of the rows, between 0 and 1.
        n_iter_no_change: epochs in a row without an improvement of the monitored loss by `tol` after which training
            ends.
        tol: the least change that counts as an improvement.
        verbose: 0 silent, 1 (or True) a progress bar per epoch, 2 a line per epoch.
        random_state: seeds weights, shuffling, dropout and the split: with an int, runs are bitwise reproducible, on
            any number of threads.

    Attributes: `model_`, the `recurra.Sequential` (with static or future covariates of a forecaster a
    `recurra.Model`); `history_`, the `recurra.History` of its training, which has `plot`; `n_iter_`, the epochs run;
    `loss_curve_`, the training loss of each epoch; `validation_loss_curve_`, that of the held-out rows (None without
    early stopping); `n_features_in_`; and, after fitting DataFrames, `feature_names_in_`.

    Runs on recurra's threads: all cores, shared by concurrent calls; in `n_jobs` processes, joblib limits them.
    """

    cell: str = "lstm"
    hidden_size: int = 32
    num_layers: int = 1
    bidirectional: bool = False
    dropout: float = 0.0
    max_iter: int = 100
    batch_size: int = 32
    learning_rate: float = 0.01
    weight_decay: float = 0.0
    clip_norm: float | None = 1.0
    early_stopping: bool = False
    validation_fraction: float = 0.1
    n_iter_no_change: int = 10
    tol: float = 1e-4
    verbose: int = 0
    random_state: Any = None
    _table: bool = field(init=False)
    #: The seed, the optimiser of `partial_fit` and the passes so far, of which `fit` is one.
    _passes: tuple[int, AdamW | None, int] = field(init=False)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    def _network(
        self,
        inputs: int,
        outputs: int,
        sequences: bool,
        seed: int,
        *,
        first: Sequence[LeafLayer] = (),
        last: Sequence[LeafLayer] = (),
    ) -> Sequential:
        """A model from (N, T, inputs), which `first` makes, to (N, outputs), with `sequences` to (N, T, outputs), of
        which `last` makes the model's."""
        recurrent, between = self._layers(inputs, sequences)
        return Sequential(*first, recurrent, *between, Linear(recurrent.output_size, outputs), *last, seed=seed)

    def _layers(self, inputs: int, sequences: bool) -> tuple[Recurrent[Any], list[Dropout]]:
        """The recurrent layer, and the dropout behind it, if any."""
        name = f"{type(self).__name__}.fit"
        layer = _CELLS[cell_name(name, self.cell, _CELLS)]
        layers = checks.integer(name, "num_layers", self.num_layers)
        dropout = checks.chance(name, "dropout", self.dropout)
        recurrent = layer(
            inputs,
            checks.integer(name, "hidden_size", self.hidden_size),
            layers,
            bidirectional=checks.flag(name, "bidirectional", self.bidirectional),
            dropout=dropout if layers > 1 else 0.0,
            return_sequences=sequences,
        )
        return recurrent, [Dropout(dropout)] if dropout else []

    def _seed(self) -> int:
        return int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))

    def _train(
        self,
        model: TrainableModel[Array],
        x: Any,
        y: Any,
        loss: Loss,
        seed: int,
        *,
        sample_weight: Array | None = None,
        split: Split = None,
    ) -> None:
        """Train `model`; `split`, from `_split`, is for early stopping."""
        name = f"{type(self).__name__}.fit"
        optimizer = self._optimizer(name)
        stopping = EarlyStopping(
            "loss" if split is None else "val_loss",
            min_delta=checks.number(name, "tol", self.tol),
            patience=checks.integer(name, "n_iter_no_change", self.n_iter_no_change),
            restore_best_weights=split is not None,
        )
        parts: list[Any] = [x, y, None, sample_weight]  # in the order of `fit`; no lengths
        validation = None
        if split is not None:
            parts, validation = ([None if one is None else rows.take(one, chosen) for one in parts] for chosen in split)
        history = model.fit(
            *parts[:3],
            loss=loss,
            optimizer=optimizer,
            epochs=checks.integer(name, "max_iter", self.max_iter),
            batch_size=checks.integer(name, "batch_size", self.batch_size),
            sample_weight=parts[3],
            validation_data=validation,
            callbacks=[stopping],
            clip_norm=None if self.clip_norm is None else checks.positive(name, "clip_norm", self.clip_norm),
            seed=seeds.derive(seed, 1),
            verbose=self._verbosity(name),
        )
        self.model_, self.history_ = model, history
        self._passes = seed, None, 1
        self.loss_curve_ = history.history["loss"]
        self.validation_loss_curve_ = history.history.get("val_loss")
        self.n_iter_ = len(self.loss_curve_)

    def _is_new(self) -> bool:
        """Whether neither `fit` nor `partial_fit` was called."""
        return not hasattr(self, "_passes")

    def _begin(self, make: Callable[[int], Sequential]) -> None:
        """The model for the first `partial_fit`, made from a seed; and its optimiser, also after `fit`."""
        name = f"{type(self).__name__}.partial_fit"
        if self._is_new():
            self._passes = self._seed(), None, 0
            self.model_ = make(self._passes[0])
            self.loss_curve_, self.validation_loss_curve_ = [], None
        seed, optimizer, count = self._passes
        self._passes = seed, optimizer or self._optimizer(name), count

    def _pass(self, x: Any, y: Any, loss: Loss, sample_weight: Array | None = None) -> None:
        """One pass over the rows, for `partial_fit`."""
        name = f"{type(self).__name__}.partial_fit"
        seed, optimizer, count = self._passes
        assert optimizer is not None
        self.history_ = self.model_.fit(
            x,
            y,
            loss=loss,
            optimizer=optimizer,
            batch_size=checks.integer(name, "batch_size", self.batch_size),
            sample_weight=sample_weight,
            clip_norm=None if self.clip_norm is None else checks.positive(name, "clip_norm", self.clip_norm),
            seed=seeds.derive(seed, 1, count),
            verbose=self._verbosity(name),
        )
        self._passes = seed, optimizer, count + 1
        self.loss_curve_ = self.loss_curve_ + self.history_.history["loss"]
        self.n_iter_ = len(self.loss_curve_)

    def _verbosity(self, name: str) -> int:
        value: int = checks.choice(name, "verbose", 1 if self.verbose is True else self.verbose or 0, (0, 1, 2))
        return value

    def _optimizer(self, name: str) -> AdamW:
        return AdamW(
            checks.positive(name, "learning_rate", self.learning_rate),
            weight_decay=checks.number(name, "weight_decay", self.weight_decay),
        )

    def _split(self, count: int, seed: int, stratify: Array | None = None) -> Split:
        """The indices of the training and the held-out rows; None without early stopping."""
        if not self._stops_early():
            return None
        kept, out = train_test_split(
            np.arange(count), test_size=self.validation_fraction, random_state=seed, stratify=stratify
        )
        return kept, out

    def _stops_early(self) -> bool:
        """`early_stopping`, checked together with `validation_fraction`."""
        name = f"{type(self).__name__}.fit"
        fraction = checks.number(name, "validation_fraction", self.validation_fraction, 0.0, 1.0)
        stops = checks.flag(name, "early_stopping", self.early_stopping)
        if stops and not 0.0 < fraction < 1.0:
            raise ValueError(
                f"{name}: got validation_fraction={fraction:g} with early_stopping=True, expected a number between 0 "
                "and 1; change validation_fraction"
            )
        return stops

    def _run(self, x: Any) -> Any:
        """The model's outputs for the rows `x`."""
        return self.model_.predict(x, batch_size=_INFERENCE_ROWS)


def weights(name: str, sample_weight: Any, count: int) -> Array | None:
    """`sample_weight`, checked: (count,), non-negative and not all 0; None stays None."""
    if sample_weight is None:
        return None
    array = checks.numeric(f"{name}.fit", "sample_weight", sample_weight).astype(np.float64)
    if array.shape != (count,):
        raise ValueError(
            f"{name}.fit: got sample_weight of shape {array.shape}, expected ({count},); give a number for each row"
        )
    if not checks.not_negative(f"{name}.fit", "sample_weight", array).any():
        raise ValueError(f"{name}.fit: got sample_weight that is zero everywhere, expected some above 0; change it")
    return array
