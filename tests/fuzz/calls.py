"""Calls of everything public that work: a function and arguments by name, made small and anew for each case."""

from __future__ import annotations

import inspect
import io
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import recurra as rc

Generator = np.random.Generator


@dataclass
class Call:
    """`then` goes on with the result; a `pure` function gives the same for the same arguments."""

    function: Callable[..., Any]
    arguments: dict[str, Any]
    then: Callable[[Any], Any] | None = None
    pure: bool = False


N, T, F = 3, 5, 4
_MAKERS: dict[str, Callable[[Generator], Call]] = {}


def maker(name: str) -> Callable[[Callable[[Generator], Call]], Callable[[Generator], Call]]:
    def keep(make: Callable[[Generator], Call]) -> Callable[[Generator], Call]:
        _MAKERS[name] = make
        return make

    return keep


def make(name: str, rng: Generator) -> Call:
    return _MAKERS[name](rng)


# Layers: their constructors, and what all of them can do.

CONSTRUCTORS: dict[str, dict[str, Any]] = {
    "LSTM": {
        "input_size": F,
        "hidden_size": 3,
        "num_layers": 2,
        "bias": True,
        "bidirectional": True,
        "dropout": 0.1,
        "proj_size": 2,
        "peepholes": True,
        "layer_norm": True,
        "zoneout": 0.1,
        "cell_clip": 1.0,
        "activation": "relu",
        "recurrent_activation": ("hard_sigmoid", 0.2, 0.5),
        "dtype": "float32",
        "seed": 1,
        "return_sequences": True,
        "batch_first": True,
        "recurrent_init": "orthogonal",
    },
    "GRU": {"input_size": F, "hidden_size": 3, "reset_after": False, "input_dropout": 0.1, "recurrent_dropout": 0.1},
    "RNN": {"input_size": F, "hidden_size": 3, "nonlinearity": "tanh", "dtype": "float64"},
    "MinGRU": {"input_size": F, "hidden_size": 3, "num_layers": 2},
    "MinLSTM": {"input_size": F, "hidden_size": 3, "bidirectional": True},
    "Linear": {"in_features": F, "out_features": 2, "bias": True, "dtype": "float32", "seed": 0},
    "Embedding": {"num_embeddings": 7, "embedding_dim": 3, "dtype": "float32"},
    "Dropout": {"p": 0.5, "dtype": "float32"},
    "Activation": {"name": "gelu", "dtype": "float64"},
    "Permute": {"shape": (2, 2), "dims": (1, 0)},
    "PReLU": {"num_parameters": F, "init": 0.1},
    "Conv1d": {"in_channels": F, "out_channels": 2, "kernel_size": 2, "stride": 1, "dilation": 2, "padding": "causal"},
    "ConvTranspose1d": {"in_channels": F, "out_channels": 2, "kernel_size": 3, "stride": 2, "padding": 1},
    "GroupNorm": {"num_groups": 2, "num_channels": F},
    "InstanceNorm1d": {"features": F, "affine": True},
    "Conv2d": {"in_channels": 1, "out_channels": 2, "kernel_size": (3, 2), "padding": (1, "causal"), "height": F},
    "MaxPool2d": {"kernel_size": (2, 1), "stride": 1, "channels": 1, "height": F},
    "AvgPool2d": {"kernel_size": 2, "padding": 1, "channels": 1, "height": 1, "width": F},
    "BatchNorm2d": {"channels": F, "eps": 1e-5, "momentum": 0.1},
    "Pool": {"mode": "mean"},
    "AttentionPool": {"features": F, "hidden_size": 2},
    "LayerNorm": {"features": F, "eps": 1e-5, "affine": True},
    "BatchNorm": {"features": F, "eps": 1e-5, "momentum": 0.1},
    "CRF": {"num_tags": F, "constraints": None, "dtype": "float32", "seed": 3},
    "AdditiveAttention": {"query_size": F, "memory_size": F, "hidden_size": 3},
    "MultiplicativeAttention": {"query_size": F, "memory_size": F},
    "AttentionDecoder": {"cell": "gru", "input_size": F, "hidden_size": 3, "memory_size": F, "attention": "dot"},
    "Hopfield": {"size": F, "beta": 2.0, "steps": 3, "tolerance": 1e-3},
    "Add": {},
    "Multiply": {},
    "Concatenate": {},
    "Reverse": {},
    **{name: {} for name in ("Subtract", "Average", "Maximum", "Minimum", "Dot")},
    "RepeatVector": {"n": 3},
    "LearntVector": {"features": 3, "init": "uniform"},
    "Slice": {"start": 1, "stop": 3, "step": 1},
    "AvgPool1d": {"kernel_size": 2, "stride": 1, "padding": "same", "features": F},
    "MaxPool1d": {"kernel_size": 2},
}
SEVERAL = {"Add", "Multiply", "Concatenate", "Subtract", "Average", "Maximum", "Minimum", "Dot"}
SEVERAL |= {"AdditiveAttention", "MultiplicativeAttention", "AttentionDecoder", "Hopfield"}


def layer(name: str, dtype: str = "float32", **changed: Any) -> Any:
    """One of them as it should be."""
    arguments = {**CONSTRUCTORS[name], **changed}
    known = inspect.signature(getattr(rc, name).__init__).parameters
    if "dtype" in known or any(one.kind is one.VAR_KEYWORD for one in known.values()):
        arguments["dtype"] = dtype
    if name == "AttentionDecoder":
        arguments |= {"attention": "additive", "cell": "lstm"}
    return getattr(rc, name)(**arguments)


def inputs(name: str, rng: Generator, dtype: str = "float32") -> Any:
    """x for it."""
    if name == "Embedding":
        return rng.integers(0, 7, (N, T))
    if name == "RepeatVector":
        return rng.standard_normal((N, F)).astype(dtype)
    x = rng.standard_normal((N, T, F)).astype(dtype)
    return (x, x[::-1].copy()) if name in SEVERAL else x


def lengths(rng: Generator) -> Any:
    return rng.integers(0, T + 1, N)


def _lengths_for(name: str, rng: Generator) -> Any:
    if name == "RepeatVector":
        return None
    given = lengths(rng)
    return (given, given) if isinstance(inputs(name, rng), tuple) else given


WITHOUT_RESET = ("ConvTranspose1d", "GroupNorm", "InstanceNorm1d", "MaxPool1d", "RepeatVector")

for _name in CONSTRUCTORS:

    @maker(f"rc.{_name}")
    def _construct(_rng: Generator, name: str = _name) -> Call:
        return Call(getattr(rc, name), dict(CONSTRUCTORS[name]), repr)

    @maker(f"rc.{_name}()")
    def _call(rng: Generator, name: str = _name) -> Call:
        arguments = {"x": inputs(name, rng), "state": None, "lengths": _lengths_for(name, rng)}
        if rng.random() < 0.3 and not isinstance(arguments["x"], tuple) and name not in WITHOUT_RESET:
            arguments["reset"] = rng.random((N, T)) < 0.3
        if rng.random() < 0.2 and isinstance(arguments["x"], np.ndarray) and arguments["x"].ndim == 3:
            del arguments["lengths"]
            arguments["mask"] = np.cumsum(rng.random((N, T)) < 0.5, 1) == 1  # one stretch, anywhere
        return Call(layer(name), arguments, pure=True)

    @maker(f"rc.{_name}.record")
    def _record(rng: Generator, name: str = _name) -> Call:
        arguments = {"x": inputs(name, rng), "lengths": _lengths_for(name, rng), "training": True, "input_grad": True}
        return Call(layer(name).record, {**arguments, "seed": 1, "memory_budget": 1 << 20}, _backward, pure=True)

    @maker(f"rc.{_name}.backward")
    def _tape(rng: Generator, name: str = _name) -> Call:
        tape = layer(name).record(inputs(name, rng), lengths=_lengths_for(name, rng), training=False)
        dy = rng.standard_normal(tape.y.shape).astype(tape.y.dtype)
        return Call(tape.backward, {"dy": dy, "dstate": tape.state})

    @maker(f"rc.{_name}.load_state_dict")
    def _load(rng: Generator, name: str = _name) -> Call:
        one = layer(name)
        state = one.state_dict()
        if state and rng.random() < 0.7:
            key = list(state)[rng.integers(len(state))]
            return Call(
                lambda value, strict: one.load_state_dict({**state, key: value}, strict),
                {"value": state[key], "strict": True},
            )
        return Call(one.load_state_dict, {"mapping": state, "strict": True})


def _backward(tape: Any) -> None:
    tape.backward(np.ones_like(tape.y))
    _ = (tape.closed, tape.nbytes)


# Models and their streams.


def tagger(rng: Generator) -> rc.Sequential:
    return rc.Sequential(rc.LSTM(F, 3), rc.Linear(3, 2), seed=0)


@maker("Stream.step")
def _step(rng: Generator) -> Call:
    x = rng.standard_normal((N, F)).astype(np.float32)
    out = np.zeros((N, 2), np.float32)
    return Call(tagger(rng).stream(N).step, {"x": x, "reset": rng.random(N) < 0.5, "out": out})


@maker("Stream.process")
def _process(rng: Generator) -> Call:
    x = rng.standard_normal((N, T, F)).astype(np.float32)
    out = np.zeros((N, T, 2), np.float32)
    return Call(tagger(rng).stream(N).process, {"x": x, "reset": rng.random((N, T)) < 0.5, "out": out})


@maker("Stream.step rows")
def _step_rows(rng: Generator) -> Call:
    rows = rng.permutation(N)[: rng.integers(N + 1)]
    x, out = rng.standard_normal((len(rows), F)), np.zeros((len(rows), 2), np.float32)
    return Call(tagger(rng).stream(N).step, {"x": x, "reset": rng.random(len(rows)) < 0.5, "out": out, "rows": rows})


@maker("Stream.process rows")
def _process_rows(rng: Generator) -> Call:
    x = rng.standard_normal((2, T, F)).astype(np.float32)
    return Call(tagger(rng).stream(N).process, {"x": x, "reset": None, "rows": [2, 0]})


@maker("Stream.state")
def _state_rows(rng: Generator) -> Call:
    return Call(tagger(rng).stream(N).state, {"rows": rng.random(N) < 0.5})


@maker("Stream.copy_rows")
def _copy_rows(rng: Generator) -> Call:
    return Call(tagger(rng).stream(N).copy_rows, {"source": [1, 2], "target": [0, 1]})


@maker("Stream")
def _stream(rng: Generator) -> Call:
    return Call(tagger(rng).stream, {"batch_size": N}, lambda stream: stream.batch_size < 99 and stream.state())


@maker("Stream.reset")
def _reset(rng: Generator) -> Call:
    return Call(tagger(rng).stream(N).reset, {"rows": np.array([0, 2])})


@maker("Stream.load_state")
def _state(rng: Generator) -> Call:
    stream = tagger(rng).stream(N)

    def write(state: Any) -> None:
        stream.load_state(state)
        stream.step(np.zeros((N, F), np.float32))

    return Call(write, {"state": stream.state()})


@maker("Stream.fork")
def _fork(rng: Generator) -> Call:
    return Call(tagger(rng).stream(N).fork, {"copies": 2, "rows": [2, 0]})


@maker("state=")
def _with_state(rng: Generator) -> Call:
    h, c = (rng.standard_normal((1, N, 3)).astype(np.float32) for _ in range(2))
    model = rc.LSTM(F, 3)
    x = inputs("LSTM", rng)
    return Call(lambda h, c: model(x, (h, c)), {"h": h, "c": c})


@maker("init_state")
def _init_state(rng: Generator) -> Call:
    return Call(tagger(rng).init_state, {"batch_size": N})


@maker("output_lengths")
def _output_lengths(rng: Generator) -> Call:
    one = rc.Conv1d(F, 2, 2, stride=2, padding="valid")
    return Call(one.output_lengths, {"lengths": lengths(rng)})


@maker("params")
def _params(rng: Generator) -> Call:
    params = rc.Linear(F, 2).params
    return Call(lambda name, value: params.__setitem__(name, value), {"name": "weight", "value": np.ones((2, F), "f")})


@maker("edit")
def _edit(rng: Generator) -> Call:
    def write(name: Any, value: Any) -> None:
        with rc.Linear(F, 2).edit() as params:
            params[name][...] = value

    call = Call(write, {"name": "weight", "value": np.ones((2, F), np.float32)})
    call.arguments.pop("name")
    return Call(lambda value: write("weight", value), call.arguments)


@maker("trainable")
def _trainable(rng: Generator) -> Call:
    return Call(lambda value: setattr(rc.Linear(F, 2), "trainable", value), {"value": True})


@maker("reset_parameters")
def _reset_parameters(rng: Generator) -> Call:
    return Call(tagger(rng).reset_parameters, {"seed": 3})


@maker("Sequential")
def _sequential(rng: Generator) -> Call:
    return Call(
        lambda a, b, seed: rc.Sequential(a, b, seed=seed), {"a": rc.LSTM(F, 3), "b": rc.Linear(3, 2), "seed": 0}
    )


@maker("Model")
def _model(rng: Generator) -> Call:
    x = rc.Input(features=F)
    return Call(rc.Model, {"inputs": x, "outputs": rc.Linear(3, 2)(rc.LSTM(F, 3)(x)), "seed": 0})


@maker("Input")
def _input(rng: Generator) -> Call:
    return Call(rc.Input, {"features": F}, lambda x: rc.Model(x, rc.Linear(F, 2)(x)))


@maker("Bidirectional")
def _bidirectional(rng: Generator) -> Call:
    return Call(lambda a, b: rc.Bidirectional(a, b), {"a": rc.GRU(F, 3), "b": rc.GRU(F, 3)})


@maker("Residual")
def _residual(rng: Generator) -> Call:
    return Call(lambda a: rc.Residual(a), {"a": rc.GRU(F, F)})


@maker("set_num_threads")
def _threads(rng: Generator) -> Call:
    before = rc.get_num_threads()
    return Call(rc.set_num_threads, {"threads": 2}, lambda _: rc.set_num_threads(before))


@maker("from_torch")
def _from_torch(rng: Generator) -> Call:
    return Call(rc.from_torch, {"source": None})


@maker("from_keras")
def _from_keras(rng: Generator) -> Call:
    return Call(rc.from_keras, {"source": None, "skip_padding": False})


@maker("interop.torch_layers")
def _torch_layers(rng: Generator) -> Call:
    state = {"a.weight": rng.random((2, 3)), "a.bias": rng.random(2)}
    return Call(rc.interop.torch_layers, {"source": state, "options": {"a": {"type": "Linear"}}})


@maker("interop.gates")
def _gates(rng: Generator) -> Call:
    given = {"array": rng.random((12, 2)), "cell": "LSTM", "source": "keras", "target": "onnx", "axis": 0}
    return Call(rc.interop.gates, given, pure=True)


# Training.


def _fit_arguments(rng: Generator) -> dict[str, Any]:
    optional: dict[str, Any] = {
        "epochs": 1,
        "batch_size": 2,
        "sample_weight": rng.random(N),
        "class_weight": {0: 1.0, 1: 2.0},
        "validation_split": 0.4,
        "metrics": ["accuracy"],
        "callbacks": [rc.callbacks.TerminateOnNaN()],
        "clip_norm": 1.0,
        "clip_value": 1.0,
        "accumulate": 2,
        "bucket": True,
        "truncate": rc.TruncatedBPTT(2, 3),
        "memory_budget": 1 << 20,
        "shuffle": True,
        "nan_guard": True,
        "loss_weights": 1.0,
        "seed": 0,
    }
    chosen = {key: value for key, value in optional.items() if rng.random() < 0.3}
    x: Any = rng.standard_normal((N, T, F)).astype(np.float32)
    y: Any = rng.integers(0, 2, (N, T))
    given: Any = {"lengths": lengths(rng)}
    if rng.random() < 0.4:
        x, y, given = list(x), list(y), {}
    loss, optimizer = rc.losses.CrossEntropy(), rc.optim.Adam(0.01)
    return {"x": x, "y": y, **given, "loss": loss, "optimizer": optimizer, **chosen, "verbose": 0}


@maker("fit")
def _fit(rng: Generator) -> Call:
    return Call(tagger(rng).fit, _fit_arguments(rng))


@maker("evaluate")
def _evaluate(rng: Generator) -> Call:
    taken = ("x", "y", "lengths", "loss", "sample_weight", "metrics", "batch_size", "verbose", "loss_weights")
    return Call(tagger(rng).evaluate, {key: value for key, value in _fit_arguments(rng).items() if key in taken})


@maker("predict")
def _predict(rng: Generator) -> Call:
    taken = ("x", "lengths", "batch_size", "verbose")
    given = {key: value for key, value in _fit_arguments(rng).items() if key in taken}
    return Call(tagger(rng).predict, given, pure=True)


@maker("find_lr")
def _find_lr(rng: Generator) -> Call:
    given = {
        key: value for key, value in _fit_arguments(rng).items() if key in ("x", "y", "lengths", "loss", "optimizer")
    }
    return Call(rc.optim.find_lr, {"model": tagger(rng), **given, "steps": 12})


LOSSES: dict[str, dict[str, Any]] = {
    "CrossEntropy": {"label_smoothing": 0.1, "ignore_index": -1, "class_weights": np.ones(F)},
    "BinaryCrossEntropy": {},
    "MeanSquaredError": {},
    "L1": {},
    "Huber": {"delta": 1.0},
    "Quantile": {"quantiles": (0.1, 0.9)},
    "GaussianNLL": {"eps": 1e-6},
    "MixtureDensity": {"components": 2, "features": 2, "correlated": True, "end_of_stroke": True, "eps": 1e-3},
    "PolicyGradient": {"distribution": "categorical", "entropy": 0.1, "eps": 1e-6},
    "PPO": {"distribution": "gaussian", "clip": 0.2, "entropy": 0.1, "eps": 1e-6},
    "ValueFunction": {"clip": 0.2},
    "CTC": {"blank": 0, "infeasible": "ignore"},
    "CRF": {"crf": rc.CRF(F), "ignore_index": -1},
}


def _loss_arguments(name: str, loss: Any, rng: Generator) -> dict[str, Any]:
    width = {"Quantile": 4, "GaussianNLL": 4, "PPO": 4, "MixtureDensity": getattr(loss, "prediction_size", F)}.get(
        name, F
    )
    predictions = rng.standard_normal((N, T, width)).astype(np.float32)
    fields = {
        "Quantile": 2,
        "GaussianNLL": 2,
        "MixtureDensity": 3,
        "PolicyGradient": 2,
        "PPO": 4,
        "ValueFunction": 2 * F,
    }
    targets: Any = rng.random((N, T, fields.get(name, F)))
    if name == "PolicyGradient":
        targets[..., 0] = rng.integers(0, F, (N, T))
    if name == "MixtureDensity":
        targets[..., -1] = targets[..., -1] > 0.5
    if name in ("CrossEntropy", "CRF"):
        targets = rng.integers(0, F, (N, T))
    if name == "CTC":
        targets = rng.integers(1, F, (N, 2)) if rng.random() < 0.5 else [rng.integers(1, F, n) for n in (0, 1, 2)]
    arguments = {"predictions": predictions, "targets": targets, "lengths": lengths(rng), "gradient": True}
    return {**arguments, "weights": rng.random(N)} if rng.random() < 0.5 else arguments


for _name in LOSSES:

    @maker(f"losses.{_name}")
    def _make_loss(_rng: Generator, name: str = _name) -> Call:
        return Call(getattr(rc.losses, name), dict(LOSSES[name]), repr)

    @maker(f"losses.{_name}()")
    def _loss(rng: Generator, name: str = _name) -> Call:
        loss = getattr(rc.losses, name)(**LOSSES[name])
        return Call(loss, _loss_arguments(name, loss, rng), pure=True)

    @maker(f"losses.{_name}.count")
    def _count(rng: Generator, name: str = _name) -> Call:
        loss = getattr(rc.losses, name)(**LOSSES[name])
        given = _loss_arguments(name, loss, rng)
        given["shape"] = given.pop("predictions").shape
        given.pop("gradient")
        return Call(loss.count, given, pure=True)


@maker("CRF.viterbi")
def _viterbi(rng: Generator) -> Call:
    crf = rc.CRF(F)
    scores: Any = rng.standard_normal((N, T, F)).astype(np.float32)
    if rng.random() < 0.3:
        return Call(crf.marginals, {"scores": list(scores)}, pure=True)
    decode = crf.viterbi if rng.random() < 0.5 else crf.marginals
    return Call(decode, {"scores": scores, "lengths": lengths(rng)}, pure=True)


@maker("CRF.for_tags")
def _for_tags(rng: Generator) -> Call:
    return Call(rc.CRF.for_tags, {"tags": ["O", "B-x", "I-x"], "scheme": "BIO", "seed": 1})


@maker("ctc.greedy")
def _greedy(rng: Generator) -> Call:
    return Call(rc.ctc.greedy, {"logits": inputs("LSTM", rng), "lengths": lengths(rng), "blank": 0}, pure=True)


@maker("ctc.beam_search")
def _beam(rng: Generator) -> Call:
    given = {"logits": inputs("LSTM", rng), "lengths": lengths(rng), "blank": 0, "beam_size": 3, "n_best": 2}
    return Call(rc.ctc.beam_search, given, pure=True)


@maker("search.beam_search")
def _search(rng: Generator) -> Call:
    chain = (rc.Embedding(6, F), rc.GRU(F, 3), rc.Linear(3, 6))
    given = {"layers": chain, "start": 1, "end": 2, "max_steps": 4, "batch_size": N, "beam_size": 2, "n_best": 2}
    return Call(rc.search.beam_search, {**given, "length_penalty": 0.5, "state": None})


# Metrics, optimisers, schedules, callbacks, data: their constructors by what is known of them, and their work.

METRICS = [name for name in rc.metrics.__all__ if isinstance(getattr(rc.metrics, name), type) and name != "Metric"]
_METRIC_ARGUMENTS: dict[str, dict[str, Any]] = {
    "MeanAbsoluteScaledError": {"series": np.arange(9.0), "season": 1},
    "Pinball": {"quantiles": (0.1, 0.9)},
    "Coverage": {"quantiles": (0.1, 0.9)},
    "LossMean": {"loss": rc.losses.MeanSquaredError()},
    "Viterbi": {"crf": rc.CRF(F), "metric": "accuracy"},
    "F1": {"average": "macro", "labels": [0, 1], "ignore_index": -1},
    "Accuracy": {"top_k": 2, "ignore_index": -1, "name": "a"},
    "EditDistance": {"blank": 0, "normalize": True},
}

for _name in METRICS:
    if inspect.isabstract(getattr(rc.metrics, _name)) or _name == "ClassScore":
        continue

    @maker(f"metrics.{_name}")
    def _make_metric(_rng: Generator, name: str = _name) -> Call:
        return Call(getattr(rc.metrics, name), dict(_METRIC_ARGUMENTS.get(name, {"name": "m"})), repr)

    @maker(f"metrics.{_name}.update")
    def _metric(rng: Generator, name: str = _name) -> Call:
        metric = getattr(rc.metrics, name)(**_METRIC_ARGUMENTS.get(name, {}))
        predictions, targets = rng.standard_normal((N, T, F)).astype(np.float32), rng.integers(0, 2, (N, T, F))
        if name in ("Accuracy", "SequenceAccuracy", "F1", "Precision", "Recall", "Perplexity", "Viterbi"):
            targets = rng.integers(0, F, (N, T))
        if name == "EditDistance":
            targets = rng.integers(1, F, (N, 2))
        if name in ("Pinball", "Coverage"):
            targets = rng.random((N, T, 2))
        given = {"predictions": predictions, "targets": targets, "lengths": lengths(rng)}
        return Call(metric.update, given, lambda _: metric.result())


@maker("metrics.edit_distance")
def _edit_distance(rng: Generator) -> Call:
    rows = [rng.integers(0, 3, n) for n in (0, 2, 4)]
    return Call(rc.metrics.edit_distance, {"one": rows, "other": rows[::-1]}, pure=True)


@maker("metrics.find")
def _find(rng: Generator) -> Call:
    return Call(rc.metrics.find, {"metric": "accuracy"})


_OPTIMIZERS: dict[str, dict[str, Any]] = {
    "SGD": {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    "RMSprop": {"lr": 0.1, "weight_decay": 0.1},
    "Adam": {"lr": 0.1, "weight_decay": 0.1},
    "AdamW": {"lr": 0.1, "weight_decay": 0.1},
}
for _name in _OPTIMIZERS:

    @maker(f"optim.{_name}")
    def _make_optimizer(_rng: Generator, name: str = _name) -> Call:
        return Call(getattr(rc.optim, name), dict(_OPTIMIZERS[name]), repr)

    @maker(f"optim.{_name}.step")
    def _optimizer_step(rng: Generator, name: str = _name) -> Call:
        optimizer, model = getattr(rc.optim, name)(**_OPTIMIZERS[name]), tagger(rng)
        given = {"model": model, "scale": 0.5, "clip_norm": 1.0, "clip_value": 0.5, "error_if_nonfinite": True}
        return Call(optimizer.step, given)

    @maker(f"optim.{_name}.load_state_dict")
    def _optimizer_load(rng: Generator, name: str = _name) -> Call:
        optimizer, model = getattr(rc.optim, name)(**_OPTIMIZERS[name]), tagger(rng)
        optimizer.step(model)
        return _dict_call(optimizer.load_state_dict, optimizer.state_dict(), rng)


def _dict_call(function: Callable[[Any], Any], state: dict[str, Any], rng: Generator) -> Call:
    """A call with a mapping of which one entry is an argument."""
    if not state or rng.random() < 0.2:
        return Call(function, {next(iter(inspect.signature(function).parameters)): state})
    key = list(state)[rng.integers(len(state))]
    return Call(lambda value: function({**state, key: value}), {"value": state[key]})


def _by_signature(scope: Any, prefix: str) -> None:
    """Constructors and functions of which nothing more is known than the names and defaults of their arguments."""
    known: dict[str, Any] = {
        "steps": 10,
        "lr": 0.1,
        "factor": 0.5,
        "total_steps": 10,
        "warmup": 2,
        "rate": 0.5,
        "size": 3,
        "step_size": 2,
        "max_lr": 0.1,
        "gamma": 0.9,
        "patience": 1,
        "monitor": "loss",
        "mode": "min",
        "path": None,
        "function": abs,
    }
    for name in scope.__all__:
        value = getattr(scope, name)
        if not callable(value) or f"{prefix}.{name}" in _MAKERS or inspect.isabstract(value):
            continue
        try:
            parameters = list(inspect.signature(value).parameters.values())
        except ValueError:
            continue
        arguments = {
            one.name: known.get(one.name, 1) if one.default is one.empty else one.default
            for one in parameters
            if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)
        }

        @maker(f"{prefix}.{name}")
        def _guess(_rng: Generator, value: Any = value, arguments: dict[str, Any] = arguments) -> Call:
            return Call(value, dict(arguments))


@maker("load")
def _load_file(rng: Generator) -> Call:
    folder = Path(tempfile.gettempdir())
    return Call(rc.load, {"path": str(folder / "there-is-no-such-file"), "custom": None})


@maker("save")
def _save(rng: Generator) -> Call:
    return Call(tagger(rng).save, {"path": str(Path(tempfile.gettempdir()) / "recurra-fuzz.safetensors")})


@maker("from_config")
def _from_config(rng: Generator) -> Call:
    name = list(CONSTRUCTORS)[rng.integers(len(CONSTRUCTORS))]
    one = layer(name)
    return _dict_call(type(one).from_config, one.config(), rng)


@maker("data.windows")
def _windows(rng: Generator) -> Call:
    scope = rc.data
    names = ["Batch", "bucket_batches", "sessions", "stateful", "windows"]  # the other classes are what these give
    value = getattr(scope, names[rng.integers(len(names))])
    series = rng.standard_normal((20, F)).astype(np.float32)
    parameters = inspect.signature(value).parameters.values()
    guesses = {
        "x": series,
        "series": series,
        "y": series[:, 0],
        "lengths": None,
        "sequences": list(rng.random((3, 9, 2))),
    }
    arguments = {
        one.name: guesses.get(one.name, 2) if one.default is one.empty else one.default
        for one in parameters
        if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)
    }

    def use(made: Any) -> None:
        if hasattr(made, "__iter__") and not isinstance(made, np.ndarray | io.IOBase):
            for _place, _item in zip(range(3), made, strict=False):
                pass

    return Call(value, arguments, use)


DIAGNOSES = ["gradient_flow", "saturation", "hidden_states", "nonfinite"]

for _name in DIAGNOSES:
    if not hasattr(rc.diagnose, _name):
        continue

    @maker(f"diagnose.{_name}")
    def _diagnose(rng: Generator, name: str = _name) -> Call:
        function = getattr(rc.diagnose, name)
        x, y = inputs("LSTM", rng), rng.integers(0, 2, (N, T))
        guesses = {"model": tagger(rng), "x": x, "y": y, "loss": rc.losses.CrossEntropy(), "lengths": lengths(rng)}
        parameters = inspect.signature(function).parameters.values()
        arguments = {
            one.name: guesses.get(one.name, None if one.default is one.empty else one.default) for one in parameters
        }
        return Call(function, arguments, str)


_by_signature(rc.optim.schedules, "schedules")
_by_signature(rc.callbacks, "callbacks")
NAMES = list(_MAKERS)
