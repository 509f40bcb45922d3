"""Contract 7: whatever is passed in, a call works or says what was wrong; nothing else is raised, nothing crashes."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import recurra as rc

# Examples are small as they are; shrinking one would only take minutes.
SETTINGS = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)

NUMBERS = st.one_of(
    st.integers(-3, 9),
    st.sampled_from([2**31, 2**63, -(2**63), 2**64, 2**40]),
    st.floats(allow_nan=True, allow_infinity=True),
    st.booleans(),
    st.sampled_from([np.int8(3), np.uint64(2), np.float32(0.5), np.bool_(True)]),
)
DTYPES = st.sampled_from(
    [
        "float32",
        "float64",
        "float16",
        ">f4",
        "longdouble",
        "int8",
        "uint8",
        "int32",
        "int64",
        "uint64",
        "bool",
        "complex64",
        "object",
        "U3",
        "datetime64[s]",
    ]
)


@st.composite
def arrays(draw: Any, dtypes: Any = DTYPES) -> Any:
    """Small arrays of any type, rank and layout; values out of range, NaN and infinities among them."""
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
    dtype = np.dtype(draw(dtypes))
    rng = np.random.default_rng(draw(st.integers(0, 9)))
    values = rng.choice(np.array([-(10.0**10), -1.0, 0.0, 1.0, 2.0, 3.0, 200.0]), shape)
    with np.errstate(all="ignore"):
        if dtype.kind in "OU":
            array = np.full(shape, "abc", dtype)
        elif dtype.kind == "M":
            array = np.zeros(shape, dtype)
        else:
            array = values.astype(dtype)
    if dtype.kind == "f" and draw(st.booleans()):
        array = np.where(values > 1.0, draw(st.sampled_from([np.nan, np.inf])), array).astype(dtype)
    layout = draw(st.sampled_from(["C", "F", "strided", "reversed", "broadcast", "read-only", "unaligned"]))
    if layout == "F":
        return np.asfortranarray(array)
    if layout == "strided":
        return np.repeat(array, 2, axis=-1)[..., ::2] if array.ndim else array
    if layout == "reversed":
        return array[::-1] if array.ndim else array
    if layout == "broadcast":
        return np.broadcast_to(array, (2, *shape))
    if layout == "unaligned" and dtype.kind != "O":
        raw = np.zeros(array.nbytes + 1, np.uint8)[1:]
        raw[:] = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
        return raw.view(dtype).reshape(shape) if array.nbytes else array
    array.flags.writeable = layout != "read-only"
    return array


class Hostile:
    """Objects that numpy asks and that answer with nonsense."""

    __array__ = None
    shape = "shape"

    def __repr__(self) -> str:
        return "<hostile>"


JUNK = st.one_of(
    st.none(),
    NUMBERS,
    st.text(max_size=3),
    st.binary(max_size=3),
    arrays(),
    st.lists(st.one_of(NUMBERS, st.none(), st.lists(NUMBERS, max_size=2)), max_size=3),
    st.tuples(arrays(), arrays()),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
    st.builds(Hostile),
)


def often(right: Any) -> Any:
    """Mostly the right thing, so that the other arguments of a call are reached; else a relative of it, or junk."""
    choices = [st.just(right), st.just(right), JUNK]
    if isinstance(right, np.ndarray):
        relatives = [right[:-1], right[..., :-1], right[None], right.astype("float64"), right.astype("int32")]
        relatives += [right.tolist(), np.full_like(right, 77), np.asfortranarray(right)]
        choices.append(st.sampled_from(relatives))
    return st.one_of(*choices)


def is_huge(value: Any) -> bool:
    """A count that is in order but would take a machine's memory or a day."""
    return isinstance(value, int) and value > 2**20


def attempt(operation: str, call: Callable[[], Any]) -> None:
    """The call works, or its error says whose it is and what was expected."""
    try:
        call()
    except (ValueError, TypeError) as error:
        text = str(error)
        assert re.match(rf"({operation})\b", text), f"begins with another operation than {operation}: {text!r}"
        assert re.search(r"\b(got|expected|must)\b", text), text


X = np.linspace(-1.0, 1.0, 2 * 4 * 3, dtype=np.float32).reshape(2, 4, 3)
H = np.zeros((1, 2, 5), np.float32)
TOKENS = np.arange(8).reshape(2, 4) % 7
LAYERS: dict[str, tuple[Callable[[], Any], Any, Any]] = {  # how to make it, a right x, a right state
    "LSTM": (lambda: rc.LSTM(3, 5, seed=0), X, (H, H)),
    "GRU": (lambda: rc.GRU(3, 5, return_sequences=False, seed=0), X, H),
    "RNN": (lambda: rc.RNN(3, 5, batch_first=False, seed=0), np.swapaxes(X, 0, 1), H),
    "MinGRU": (lambda: rc.MinGRU(3, 5, seed=0), X, H),
    "Linear": (lambda: rc.Linear(3, 5, seed=0), X, None),
    "Embedding": (lambda: rc.Embedding(7, 5, seed=0), TOKENS, None),
    "Dropout": (lambda: rc.Dropout(0.5), X, None),
    "Sequential": (lambda: rc.Sequential(rc.Embedding(7, 3), rc.GRU(3, 5), seed=0), TOKENS, [None, H]),
}
LENGTHS, RESET = np.array([4, 2]), np.zeros((2, 4), bool)


@pytest.mark.parametrize("name", LAYERS)
@SETTINGS
@given(data=st.data())
def test_calls(name: str, data: Any) -> None:
    make, x, state = LAYERS[name]
    layer = make()
    arguments = [data.draw(often(right)) for right in (x, state, LENGTHS, RESET)]
    attempt(name, lambda: layer(*arguments))
    attempt(name, lambda: layer.record(*arguments))


@pytest.mark.parametrize("name", LAYERS)
@SETTINGS
@given(data=st.data())
def test_recording_and_backward(name: str, data: Any) -> None:
    make, x, state = LAYERS[name]
    layer = make()
    training, input_grad, seed = (data.draw(often(right)) for right in (True, True, 3))
    attempt(name, lambda: layer.record(x, training=training, input_grad=input_grad, seed=seed))
    tape = layer.record(x, state, seed=0)
    dy, dstate = data.draw(often(np.ones_like(tape.y))), data.draw(often(state))
    attempt(name, lambda: tape.backward(dy, dstate))


@pytest.mark.parametrize("name", ["LSTM", "MinGRU", "Linear", "Embedding", "Dropout", "Sequential"])
@SETTINGS
@given(data=st.data())
def test_streams(name: str, data: Any) -> None:
    make, x, state = LAYERS[name]
    layer = make()
    rows, copies, chosen, new = (data.draw(often(right)) for right in (2, 2, np.array([1]), state))
    source, target = data.draw(often(np.array([0]))), data.draw(often([1]))
    stream = layer.stream(batch_size=2)
    y = stream.process(x)
    step = [data.draw(often(right)) for right in (x[:, 0], RESET[:, 0], y[:, 0].copy())]
    chunk = [data.draw(often(right)) for right in (x, RESET, y.copy())]
    operation = rf"{name}|Stream|stream"
    attempt(operation, lambda: stream.step(*step))
    attempt(operation, lambda: stream.process(*chunk))
    attempt(operation, lambda: stream.step(*step, rows=chosen))
    attempt(operation, lambda: stream.process(*chunk, rows=chosen))
    attempt(operation, lambda: stream.reset(chosen))
    attempt(operation, lambda: stream.state(chosen))
    attempt(operation, lambda: stream.copy_rows(source, target))
    attempt(operation, lambda: stream.load_state(new))
    attempt(operation, lambda: stream.load_state(new, chosen))
    if not is_huge(rows):
        attempt(name, lambda: layer.stream(rows))
    if not is_huge(copies):
        attempt(operation, lambda: stream.fork(copies))
        attempt(operation, lambda: stream.fork(copies, chosen))
    assert stream.process(x).shape == y.shape, "the stream is none the worse"


@pytest.mark.parametrize("name", ["LSTM", "Embedding", "Dropout"])
@settings(SETTINGS, max_examples=60)
@given(data=st.data())
def test_pools(name: str, data: Any) -> None:
    make, x, _state = LAYERS[name]
    arguments = {"max_streams": 3, "max_batch": 2, "max_wait": 0.0, "max_queue": 9}
    chosen = {key: data.draw(often(right)) for key, right in arguments.items()}
    if not any(map(is_huge, chosen.values())):
        attempt("Pool", lambda: rc.serving.Pool(make(), **chosen).close())
    step, chunk, timeout, data_of = (data.draw(often(right)) for right in (x[0, 0], x[0], 1.0, b"bytes"))
    with rc.serving.Pool(make(), 3) as pool:
        stream = pool.open()
        y = stream.process(x[0])
        attempt("PoolStream", lambda: stream.step(step, timeout=timeout))
        attempt("PoolStream", lambda: stream.process(chunk, timeout=timeout))
        attempt("PoolStream", lambda: stream.submit_step(step).result(20))
        attempt("PoolStream", lambda: stream.submit_process(chunk).result(20))
        attempt("restore", lambda: pool.restore(data_of))
        assert stream.process(x[0]).shape == y.shape, "the stream is none the worse"


CONSTRUCTORS: dict[str, tuple[Any, dict[str, Any]]] = {
    "LSTM": (rc.LSTM, {"input_size": 3, "hidden_size": 5, "num_layers": 2, "bias": True, "batch_first": True}),
    "GRU": (
        rc.GRU,
        {
            "input_size": 3,
            "hidden_size": 5,
            "num_layers": 2,
            "dropout": 0.5,
            "bidirectional": True,
            "reset_after": False,
        },
    ),
    "RNN": (rc.RNN, {"input_size": 3, "hidden_size": 5, "nonlinearity": "relu", "return_sequences": False, "seed": 0}),
    "LSTM with options": (
        rc.LSTM,
        {"input_size": 3, "hidden_size": 5, "proj_size": 2, "peepholes": True, "layer_norm": True, "cell_clip": 1.0},
    ),
    "GRU with options": (
        rc.GRU,
        {"input_size": 3, "hidden_size": 5, "reset_after": True, "layer_norm": True, "recurrent_init": "orthogonal"},
    ),
    "RNN with options": (
        rc.RNN,
        {"input_size": 3, "hidden_size": 5, "input_dropout": 0.1, "recurrent_dropout": 0.1, "zoneout": 0.1},
    ),
    "MinLSTM": (rc.MinLSTM, {"input_size": 3, "hidden_size": 5, "positive": True, "bias": False, "dtype": "float32"}),
    "Linear": (rc.Linear, {"in_features": 3, "out_features": 5, "bias": True, "dtype": "float64", "seed": 0}),
    "Embedding": (rc.Embedding, {"num_embeddings": 3, "embedding_dim": 5, "dtype": "float32", "seed": 0}),
    "Dropout": (rc.Dropout, {"p": 0.5, "dtype": "float32"}),
    "SGD": (rc.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    "Adam": (rc.optim.Adam, {"lr": 0.1, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.1}),
    "RMSprop": (rc.optim.RMSprop, {"lr": 0.1, "alpha": 0.9, "eps": 1e-8, "momentum": 0.9, "centered": True}),
    "AdamW": (rc.optim.AdamW, {"lr": 0.1, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.1}),
}


@pytest.mark.parametrize("name", CONSTRUCTORS)
@SETTINGS
@given(data=st.data())
def test_constructors(name: str, data: Any) -> None:
    make, arguments = CONSTRUCTORS[name]
    drawn = {key: data.draw(often(right)) for key, right in arguments.items()}
    attempt(make.__name__, lambda: make(**drawn))


@pytest.mark.parametrize("size", [2**31, 2**40, 2**62, 2**63, 2**64])
def test_sizes_that_no_machine_has(size: int) -> None:
    """Found by arithmetic that does not overflow, before memory is asked for."""
    for make in (
        lambda: rc.LSTM(size, size),
        lambda: rc.GRU(3, size),
        lambda: rc.RNN(3, 5, size),
        lambda: rc.Linear(size, size),
        lambda: rc.Embedding(size, size),
    ):
        with pytest.raises(ValueError, match=r"got.*expected"):
            make()


def test_arrays_that_no_machine_has_room_to_copy() -> None:
    """A view may be of any size; where a copy in the usual layout is needed, there is no memory for it."""
    huge = np.broadcast_to(np.zeros((1, 1, 1), np.float32), (2**46, 1, 3))
    tokens = np.broadcast_to(np.zeros((1, 1), np.int32), (2**46, 1))
    layer = rc.LSTM(3, 5, seed=0)
    x = np.zeros((1, 1, 3), np.float32)
    for call in (
        lambda: layer(huge),
        lambda: layer(x, state=(huge, huge)),
        lambda: layer.record(x).backward(huge),
        lambda: layer.stream(1).process(x, out=huge),
        lambda: rc.Embedding(3, 4)(tokens),
        lambda: layer.params.__setitem__("weight_ih_l0", huge),
    ):
        with pytest.raises((ValueError, MemoryError)):
            call()


@SETTINGS
@given(layers=st.lists(st.one_of(JUNK, st.sampled_from(list(LAYERS)).map(lambda name: LAYERS[name][0]())), max_size=3))
def test_sequential(layers: list[Any]) -> None:
    attempt("Sequential", lambda: rc.Sequential(*layers))


@SETTINGS
@given(data=st.data())
def test_parameters(data: Any) -> None:
    layer = rc.LSTM(3, 5, seed=0)
    name = data.draw(st.sampled_from(list(layer.params)))
    value = data.draw(often(layer.params[name]))
    attempt("params|Parameters|LSTM", lambda: layer.params.__setitem__(name, value))
    mapping = layer.state_dict()
    mapping[name] = value
    attempt("LSTM", lambda: layer.load_state_dict(mapping))
    junk = data.draw(JUNK)
    attempt("LSTM", lambda: layer.load_state_dict(junk))


LOSSES = {
    "CrossEntropy": (rc.losses.CrossEntropy(), TOKENS % 3),
    "BinaryCrossEntropy": (rc.losses.BinaryCrossEntropy(), np.abs(X)),
    "MeanSquaredError": (rc.losses.MeanSquaredError(), X),
    "Huber": (rc.losses.Huber(), X),
    "Quantile": (rc.losses.Quantile(), X[..., :1]),
    "MixtureDensity": (rc.losses.MixtureDensity(1, 1), X[..., :1]),
    "PPO": (rc.losses.PPO(), X * 0.0),
    "ValueFunction": (rc.losses.ValueFunction(0.1), np.concatenate([X, X], -1)),
    "CTC": (rc.losses.CTC(), [TOKENS[row, :row] % 2 + 1 for row in range(len(TOKENS))]),
}


@pytest.mark.parametrize("name", LOSSES)
@SETTINGS
@given(data=st.data())
def test_losses(name: str, data: Any) -> None:
    loss, targets = LOSSES[name]
    arguments = [data.draw(often(right)) for right in (X, targets, LENGTHS)]
    attempt(name, lambda: loss(*arguments))


@SETTINGS
@given(options=st.fixed_dictionaries({}, optional=dict.fromkeys(("label_smoothing", "ignore_index"), JUNK)), w=JUNK)
def test_options_of_losses(options: dict[str, Any], w: Any) -> None:
    attempt("CrossEntropy", lambda: rc.losses.CrossEntropy(**options, class_weights=w)(X, TOKENS % 3))
    attempt("Quantile", lambda: rc.losses.Quantile(w)(X, X))
    attempt("CTC", lambda: rc.losses.CTC(w, options.get("ignore_index", "ignore")))


@SETTINGS
@given(data=st.data())
def test_decoding(data: Any) -> None:
    arguments = [data.draw(often(right)) for right in (X, LENGTHS)]
    blank, size, best = (data.draw(often(right)) for right in (0, 4, 2))
    attempt(r"ctc\.greedy", lambda: rc.ctc.greedy(*arguments, blank=blank))
    if not is_huge(size):
        attempt(r"ctc\.beam_search", lambda: rc.ctc.beam_search(*arguments, blank=blank, beam_size=size, n_best=best))


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "RMSprop"])
@SETTINGS
@given(data=st.data())
def test_optimisers(name: str, data: Any) -> None:
    layer = rc.Linear(3, 5, seed=0)
    optimizer = getattr(rc.optim, name)(0.1)
    models = data.draw(often(layer))
    scale, clip_norm, clip_value = (data.draw(often(right)) for right in (0.5, 1.0, None))
    attempt(name, lambda: optimizer.step(models, scale=scale, clip_norm=clip_norm, clip_value=clip_value))


SCHEDULES: dict[str, tuple[Any, dict[str, Any]]] = {
    "StepDecay": (rc.optim.schedules.StepDecay, {"lr": 0.1, "step_size": 5, "gamma": 0.5}),
    "ExponentialDecay": (rc.optim.schedules.ExponentialDecay, {"lr": 0.1, "gamma": 0.5, "steps": 3}),
    "CosineDecay": (rc.optim.schedules.CosineDecay, {"lr": 0.1, "steps": 5, "floor": 0.01}),
    "OneCycle": (
        rc.optim.schedules.OneCycle,
        {"max_lr": 0.1, "total_steps": 9, "pct_start": 0.3, "anneal_strategy": "cos", "div_factor": 5.0}
        | {"final_div_factor": 10.0, "three_phase": True},
    ),
    "Warmup": (rc.optim.schedules.Warmup, {"schedule": 0.1, "steps": 5, "start_factor": 0.1}),
    "Chain": (rc.optim.schedules.Chain, {"schedules": [0.1, 0.2], "milestones": [3]}),
}


@pytest.mark.parametrize("name", SCHEDULES)
@SETTINGS
@given(data=st.data())
def test_schedules(name: str, data: Any) -> None:
    make, arguments = SCHEDULES[name]
    drawn = {key: data.draw(often(right)) for key, right in arguments.items()}
    step = data.draw(often(7))
    attempt(name, lambda: make(**drawn)(step))


@SETTINGS
@given(threads=JUNK)
def test_thread_counts(threads: Any) -> None:
    attempt("set_num_threads", lambda: rc.set_num_threads(threads))


def model_and_data() -> tuple[Any, dict[str, Any]]:
    model = rc.Sequential(rc.Embedding(7, 3), rc.GRU(3, 5), rc.Linear(5, 7), seed=0)
    return model, {"x": TOKENS, "y": TOKENS, "lengths": LENGTHS}


@settings(SETTINGS, max_examples=300)
@given(data=st.data())
def test_fit_evaluate_and_predict(data: Any) -> None:
    model, right = model_and_data()
    arguments = {key: data.draw(often(value)) for key, value in right.items()}
    options: dict[str, Any] = {"epochs": 1, "batch_size": 2, "clip_norm": 1.0, "seed": 0, "verbose": 0}
    options |= {"loss": rc.losses.CrossEntropy(), "optimizer": rc.optim.SGD(0.1), "validation_data": (TOKENS, TOKENS)}
    changed = data.draw(st.sampled_from(list(options)))
    options[changed] = data.draw(often(options[changed]))
    if not (changed == "epochs" and is_huge(options[changed])):
        attempt(r"Sequential|fit", lambda: model.fit(**arguments, **options))
    loss = options["loss"]
    attempt(r"Sequential|evaluate|CrossEntropy", lambda: model.evaluate(**arguments, loss=loss))
    attempt(r"Sequential|predict", lambda: model.predict(arguments["x"], lengths=arguments["lengths"]))


@pytest.mark.parametrize(
    ("call", "fix"),
    [
        (lambda: rc.LSTM(3, 5)(X[0], (H, H)), r"\[None\]"),
        (lambda: rc.LSTM(3, 5)(np.full(X.shape, 1e300)), r"scale it, or make the layers with dtype=.float64"),
        (lambda: rc.LSTM(3, 5)(X[..., :2]), r"3"),
        (lambda: rc.LSTM(3, 5)(X, H), r"h, c"),
        (lambda: rc.GRU(3, 5)(X, (H, H)), r"h"),
        (lambda: rc.GRU(3, 5)(X, lengths=[4, 5]), r"4"),
        (lambda: rc.GRU(3, 5)(X, lengths=[4]), r"\(2,\)"),
        (lambda: rc.GRU(3, 5)(X, lengths=[4.0, 2.0]), r"int"),
        (lambda: rc.GRU(3, 5)(X, reset=np.zeros((2, 4))), r"bool"),
        (lambda: rc.Embedding(7, 3)(TOKENS + 3), r"6"),
        (lambda: rc.Embedding(7, 3)(X), r"int"),
        (lambda: rc.Sequential(rc.GRU(3, 5), rc.Linear(4, 2)), r"5.*4"),
        (lambda: rc.Sequential(rc.GRU(3, 5, batch_first=False)), r"batch_first"),
        (lambda: rc.GRU(3, 5, nonlinearity="relu"), r"nonlinearity"),
        (lambda: rc.GRU(3, 5, peepholes=True), r"peepholes"),
        (lambda: rc.GRU(3, 5, reset_after=False, layer_norm=True), r"^GRU: got.*expected reset_after=True.*leave one"),
        (lambda: rc.LSTM(3, 5, bias=False, forget_bias=1.0), r"^LSTM: got.*expected bias=True.*leave one"),
        (lambda: rc.LSTM(3, 5, proj_size=5), r"^LSTM: got proj_size=5, expected less than hidden_size=5.*lower"),
        (lambda: rc.LSTM(3, 5, cell_clip=0.0), r"^LSTM: got cell_clip=0.0, expected a number above 0"),
        (lambda: rc.LSTM(3, 5, zoneout=1.0), r"^LSTM: got zoneout=1.0, expected 0 <= zoneout < 1"),
        (lambda: rc.RNN(3, 5, dropout=1.0), r"^RNN: got dropout=1.0, expected 0 <= dropout < 1"),
        (lambda: rc.RNN(3, 5, recurrent_init="identity"), r"^RNN: got.*'uniform', 'orthogonal'"),
        (lambda: rc.LSTM(3, 5, proj_size=2)(X, (H, H)), r"5.*2|2.*5"),
    ],
)
def test_the_errors_that_everybody_makes_say_how_to_fix_them(call: Callable[[], Any], fix: str) -> None:
    with pytest.raises((ValueError, TypeError), match=fix):
        call()
