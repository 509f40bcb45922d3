"""fit, evaluate and predict, for every kind of model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, overload

from recurra.common import checks, keywords
from recurra.common.progress import Progress
from recurra.common.typing import Array, Output
from recurra.data import order
from recurra.data.feed import Feed, Outputs
from recurra.data.rows import is_list
from recurra.objective.trainable import Trainable

if TYPE_CHECKING:
    from recurra.callbacks import Callback
    from recurra.losses import Loss
    from recurra.metrics import Metric
    from recurra.objective.goal import ClassWeights, Losses, Weights
    from recurra.optim import Optimizer
    from recurra.training.history import History
    from recurra.training.truncation import TruncatedBPTT


#: One metric, or several: objects, names or classes; for several outputs one of these for each.
Metrics: TypeAlias = (
    "str | Metric | type[Metric] | Sequence[str | Metric | type[Metric]] | tuple[Any, ...] | Mapping[str, Any]"
)


class TrainableModel(Trainable, Generic[Output]):
    """A model that learns from data."""

    #: Those of the last fit, not a part of copies and files.
    _fitted_losses: Sequence[Loss] = ()
    #: Set to True by a callback, it ends the fit at work after the step.
    stop_training: bool = False

    @keywords.explained
    def fit(
        self,
        x: Any,
        y: Any = None,
        lengths: Any = None,
        *,
        loss: Losses,
        optimizer: Optimizer | str | type[Optimizer],
        loss_weights: Weights = None,
        metrics: Any = (),
        weighted_metrics: Any = (),
        epochs: int = 1,
        batch_size: int = 32,
        sample_weight: Any = None,
        mask: Any = None,
        class_weight: ClassWeights = None,
        validation_data: Any = None,
        validation_split: float = 0.0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        drop_last: bool = False,
        callbacks: Callback | Sequence[Callback] | None = (),
        clip_norm: float | None = None,
        clip_value: float | None = None,
        accumulate: int = 1,
        shards: int = 1,
        bucket: bool | int = False,
        truncate: TruncatedBPTT | None = None,
        memory_budget: int | None = None,
        shuffle: bool = True,
        nan_guard: bool = True,
        seed: int | None = None,
        verbose: int = 1,
    ) -> History:
        """Train on all rows, `epochs` times.

        Args:
            x: (N, T, features) or tokens (N, T), converted to the model's dtype; or a list of N ragged arrays (T_n,
                features) or (T_n,), padded batch by batch. Without y: a source of batches, an iterable or a function of
                the epoch that returns one, each batch a `recurra.data.Batch` or a tuple (x, y[, lengths[,
                sample_weight]]).
            y: targets. With an output at every step, (N, T) or (N, T, features), or a list of arrays if x is a list;
                else (N,) or (N, features). The loss defines dtype and shape. For CTC, a list of arrays of any lengths.
            lengths: (N,) valid steps of each row of an array x; padding is ignored.
            loss: an object of `recurra.losses`; the name of one with its default options, such as "mse"; or a function,
                see `recurra.losses.Function`.
            optimizer: one of `recurra.optim`; it keeps its state from one fit to the next. Or the name of one, such as
                "adam", for a new optimiser.
            loss_weights: weights of the outputs' mean losses in their sum; None for 1 each.
            metrics: of `recurra.metrics`, or their names: one, or a list. Names follow the loss: "accuracy" is that of
                `BinaryCrossEntropy` or of `CrossEntropy`, with its ignored label; objects say it themselves. They see
                training and validation batches; with truncate, each window is a batch. They ignore weights.
            weighted_metrics: the same, weighted by sample_weight and class_weight; the name is prefixed with
                `weighted_` if metrics has it, too.
            epochs: number of epochs.
            batch_size: rows of a batch.
            sample_weight: (N,), the weight of each row or, with an output at every step, (N, T) or a list of arrays,
                that of each step. The mean loss is the weighted mean. A target of weight 0 may be anything, also NaN.
            mask: (N, T) bool, true at the valid steps of each row of an array x, instead of lengths: padding may
                precede, follow or separate them. y and sample_weight have their steps where x has them. See a layer's
                call.
            class_weight: {label: weight}, or a number for each label: the weight of rows or steps with that label; 1
                for labels not named. It multiplies sample_weight, also in validation.
            validation_data: (x, y), (x, y, lengths) or (x, y, lengths, sample_weight) to evaluate after each epoch; or
                an iterable of batches.
            validation_split: without validation_data, the fraction of rows, the last ones, to hold out for validation.
            steps_per_epoch: number of batches of an epoch; the next epoch continues after them, and data that end
                start again. None: an epoch ends with the data; a generator of `while True` needs a number.
            validation_steps: the number of batches of validation_data, of which each epoch uses the first ones.
            drop_last: whether to leave out rows that do not fill a batch, others in each epoch if shuffled. Batch norm
                may need that: a single row has no variance.
            callbacks: of `recurra.callbacks`, or of your own classes: one, or a list.
            clip_norm: the maximum norm of the gradient of a step's mean loss, over all parameters together.
            clip_value: the maximum absolute value of that gradient's elements, applied before clip_norm.
            accumulate: number of batches whose gradients make one optimiser step: the same step as for one batch of
                them all, up to rounding.
            shards: the gradient of a step is the sum over so many parts of its batches, equal ranges of rows, by a
                balanced binary tree: the same bits on any number of workers that compute parts of the tree each (see
                `docs/gradients.md`). Each shard takes as much memory as the parameters, and metrics see it as a batch.
            bucket: whether to batch rows of similar lengths together, in an order that is still random. A number bounds
                the steps of a batch, padding included, so that long rows form smaller batches.
            truncate: backpropagation in windows, with carried state; see `recurra.TruncatedBPTT`.
            memory_budget: maximum bytes of a batch's tape; a larger one is recomputed in parts. See `record`.
            shuffle: whether the order of the rows is shuffled anew in each epoch.
            nan_guard: whether a NaN or infinity in a loss or gradient ends training before it changes the parameters.
            seed: of the order and of dropout: the same seed gives the same bits, on any number of threads. None for a
                fresh seed.
            verbose: 0 silent, 1 a progress bar per epoch, 2 a line per epoch. Lines, those of callbacks too, are
                records of the logger "recurra" if the program has configured `logging`, else they are printed.

        With several inputs or outputs, x, lengths, y, loss, metrics and weights have one item for each, in the
        structure of the model's inputs or outputs: a tuple, or a dict.

        Returns:
            The history. On Ctrl-C, KeyboardInterrupt leaves the model and the optimiser as after a complete step.

        Raises:
            ValueError, TypeError: data that do not fit the model, before training starts.
            NonFiniteError: a loss or a gradient is NaN or infinite; the message names the layer, the rows and the step.
        """
        # Late, to keep `import recurra` cheap.
        from recurra.callbacks.group import listed
        from recurra.objective.crf_losses import warn_of_untrained
        from recurra.objective.goal import Goal
        from recurra.objective.metric_group import MetricGroup
        from recurra.objective.shards import check_shardable
        from recurra.objective.sources import make_source
        from recurra.optim.find import named
        from recurra.training.batch_check import check_batches
        from recurra.training.loop import Training
        from recurra.training.settings import Settings
        from recurra.training.truncation import check_truncatable
        from recurra.training.validation import validation_source

        name = "fit"
        optimizer = named(name, optimizer)
        settings = Settings(
            epochs=epochs,
            clip_norm=clip_norm,
            clip_value=clip_value,
            accumulate=accumulate,
            shards=shards,
            truncate=truncate,
            memory_budget=memory_budget,
            nan_guard=nan_guard,
            verbose=verbose,
        )
        if settings.shards > 1:
            check_shardable(self)
        batch_size = checks.integer(name, "batch_size", batch_size)
        told = listed(name, callbacks)
        goal = Goal(name, self, loss, loss_weights, class_weight)
        warn_of_untrained(name, self, goal.losses)
        counting = MetricGroup(name, self, metrics, weighted_metrics, goal.losses)
        if truncate is not None:
            check_truncatable(self, goal, truncate)
        source = make_source(
            name,
            self,
            goal,
            x,
            y,
            lengths,
            metrics=counting,
            batch_size=batch_size,
            sample_weight=sample_weight,
            mask=mask,
            shuffle=checks.flag(name, "shuffle", shuffle),
            bucket=bucket if bucket is True or bucket is False else checks.integer(name, "bucket", bucket),
            drop_last=checks.flag(name, "drop_last", drop_last),
            epochs=settings.epochs,
            steps=("steps_per_epoch", steps_per_epoch),
            endless=bool(told),  # a callback may end it
        )
        validation = validation_source(
            self,
            goal,
            source,
            counting,
            validation_data,
            validation_split,
            batch_size,
            settings.epochs,
            validation_steps,
        )
        training = Training(self, optimizer, goal, source, validation, counting, told, settings, seed)
        check_batches(name, self, source, truncate, training.seed)
        self._fitted_losses = goal.losses
        return training.run()

    @overload
    def evaluate(
        self,
        x: Any,
        y: Any = None,
        lengths: Any = None,
        *,
        loss: Losses,
        loss_weights: Weights = None,
        metrics: tuple[()] | None = (),
        weighted_metrics: tuple[()] | None = (),
        sample_weight: Any = None,
        mask: Any = None,
        batch_size: int = 32,
        steps: int | None = None,
        verbose: int = 0,
    ) -> float: ...
    @overload
    def evaluate(
        self,
        x: Any,
        y: Any = None,
        lengths: Any = None,
        *,
        loss: Losses,
        loss_weights: Weights = None,
        metrics: Metrics = (),
        weighted_metrics: Metrics = (),
        sample_weight: Any = None,
        mask: Any = None,
        batch_size: int = 32,
        steps: int | None = None,
        verbose: int = 0,
    ) -> dict[str, float]: ...
    @keywords.explained
    def evaluate(
        self,
        x: Any,
        y: Any = None,
        lengths: Any = None,
        *,
        loss: Losses,
        loss_weights: Weights = None,
        metrics: Any = (),
        weighted_metrics: Any = (),
        sample_weight: Any = None,
        mask: Any = None,
        batch_size: int = 32,
        steps: int | None = None,
        verbose: int = 0,
    ) -> Any:
        """The mean loss over all valid elements, exact for ragged rows.

        Args:
            steps: the number of batches to use, the first ones; None for all.

        All others as in `fit`.

        Returns:
            The loss, a float; with metrics, a dict with "loss" and each of them.
        """
        from recurra.objective.goal import Goal
        from recurra.objective.metric_group import MetricGroup
        from recurra.objective.sources import make_source
        from recurra.training import evaluation

        name = "evaluate"
        batch_size = checks.integer(name, "batch_size", batch_size)
        show = checks.choice(name, "verbose", verbose, (0, 1)) == 1
        goal = Goal(name, self, loss, loss_weights)
        counting = MetricGroup(name, self, metrics, weighted_metrics, goal.losses)
        source = make_source(
            name,
            self,
            goal,
            x,
            y,
            lengths,
            metrics=counting,
            batch_size=batch_size,
            sample_weight=sample_weight,
            mask=mask,
            steps=("steps", steps),
        )
        found = evaluation.evaluate(self, goal, source, counting, show=show)
        return found if counting.names else found["loss"]

    @overload
    def predict(
        self,
        x: Array,
        lengths: Any = None,
        *,
        mask: Any = None,
        batch_size: int = 32,
        steps: int | None = None,
        verbose: int = 0,
    ) -> Output: ...
    @overload
    def predict(
        self: TrainableModel[Array],
        x: Any,
        lengths: Any = None,
        *,
        mask: Any = None,
        batch_size: int = 32,
        steps: int | None = None,
        verbose: int = 0,
    ) -> Array | list[Array]: ...
    @overload
    def predict(
        self,
        x: Any,
        lengths: Any = None,
        *,
        mask: Any = None,
        batch_size: int = 32,
        steps: int | None = None,
        verbose: int = 0,
    ) -> Any: ...
    @keywords.explained
    def predict(
        self,
        x: Any,
        lengths: Any = None,
        *,
        mask: Any = None,
        batch_size: int = 32,
        steps: int | None = None,
        verbose: int = 0,
    ) -> Any:
        """The outputs for all rows, `batch_size` of them at a time; each row's bits do not depend on the others.

        Args:
            x, lengths, mask: as in `fit`; with a mask, outputs are at the places of the valid steps, 0 elsewhere. A
                source of batches yields x alone, or the same as for `fit`, with targets ignored; batches with
                carry=True continue their rows in time.
            steps: the number of batches to use, the first ones; None for all.
            verbose: 1 shows a progress bar.

        Returns:
            An array (N, T, features) or (N, features). With an output at every step, for a list of ragged arrays, and
            for batches with lengths or with different numbers of steps, a list with an array for each row. With several
            outputs, one for each.
        """
        from recurra.data.sources import is_source
        from recurra.training.prediction import predict_batches

        batch_size = checks.integer("predict", "batch_size", batch_size)
        verbose = checks.choice("predict", "verbose", verbose, (0, 1))
        if is_list(x) and not len(x):
            return []
        if mask is not None:
            return self._predict_masked(x, lengths, mask, batch_size, steps, verbose)
        limit = None if steps is None else checks.integer("predict", "steps", steps)
        if is_source(x):
            if lengths is not None:
                raise ValueError(
                    f"predict: got lengths beside batches made by {type(x).__name__}, expected none, as every batch "
                    "has its own; yield data.Batch(x, None, lengths)"
                )
            return predict_batches(self, x, limit, show=verbose == 1)
        rows = Feed("predict", self, x, lengths)
        outputs = Outputs(self, rows.parts)
        batches = []
        total = -(-len(rows) // batch_size)
        with Progress(total if limit is None else min(limit, total), "predict", verbose == 1) as bar:
            batched = order.batches(len(rows), batch_size, None) if len(rows) else iter([slice(0, 0)])
            for chosen in islice(batched, limit):
                batch, valid = rows.batch(chosen)
                y, _state = self(batch, lengths=valid)
                batches.append(outputs.split(y, valid))
                bar.update()
        return outputs.join(batches)

    @overload
    def predict_proba(
        self,
        x: Array,
        lengths: Any = None,
        *,
        loss: Losses | None = None,
        mask: Any = None,
        batch_size: int = 32,
        steps: int | None = None,
        verbose: int = 0,
    ) -> Output: ...
    @overload
    def predict_proba(
        self,
        x: Any,
        lengths: Any = None,
        *,
        loss: Losses | None = None,
        mask: Any = None,
        batch_size: int = 32,
        steps: int | None = None,
        verbose: int = 0,
    ) -> Any: ...
    @keywords.explained
    def predict_proba(
        self,
        x: Any,
        lengths: Any = None,
        *,
        loss: Losses | None = None,
        mask: Any = None,
        batch_size: int = 32,
        steps: int | None = None,
        verbose: int = 0,
    ) -> Any:
        """`predict`, as probabilities: the softmax or sigmoid that is a part of the loss is applied.

        Args:
            loss: what the model was trained with, such as "cross_entropy"; None for that of the last `fit` of this
                object.
            x, lengths, mask, batch_size, steps, verbose: as in `predict`.

        Returns:
            As `predict`: of `CrossEntropy` each class's probability, of `BinaryCrossEntropy` each feature's, of `CTC`
            those of the symbols at every step, of `CRF` each tag's marginal at every step.

        Raises:
            ValueError: no loss is known. TypeError: it is another one.
        """
        from recurra.objective.goal import Goal  # here: as in fit
        from recurra.training.prediction import probabilities

        name = "predict_proba"
        if loss is None and not self._fitted_losses:
            raise ValueError(
                f"{name}: got no loss for a model that fit has not trained since it was made or loaded, expected the "
                "loss that it was trained with; write predict_proba(x, loss='cross_entropy') or loss='bce'"
            )
        losses = self._fitted_losses if loss is None else Goal(name, self, loss).losses
        y = self.predict(x, lengths, mask=mask, batch_size=batch_size, steps=steps, verbose=verbose)
        if mask is not None and any(loss.whole_rows and not loss.unaligned for loss in losses):
            raise ValueError(
                f"{name}: got mask for a model of the loss CRF, expected none; give lengths, or a list of arrays"
            )
        return probabilities(name, self.structures[1], losses, y, self.output_lengths(lengths))

    def _predict_masked(self, x: Any, lengths: Any, mask: Any, batch_size: int, steps: int | None, verbose: int) -> Any:
        from recurra.data.masks import Masked  # here: as in fit

        masked = Masked("predict", self, x, lengths, mask)
        y = self.predict(masked.x, masked.lengths, batch_size=batch_size, steps=steps, verbose=verbose)
        return masked.predictions(y)
