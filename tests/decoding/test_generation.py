"""Generation: what is drawn follows the model's distribution, and each row is drawn by itself."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

import recurra as rc
from agreement import assert_same_bits
from array_types import DTYPES, Array
from recurra import _core
from single_thread import one_thread
from user_layers import Scale

V = 12
PROMPTS = [np.array([1, 2, 3]), np.array([4]), np.array([5, 6, 7, 8, 9, 1, 2]), np.array([3, 3])]


def language_model(dtype: str = "float32", vocabulary: int = V, seed: int = 0) -> rc.Sequential:
    last = rc.Linear(16, vocabulary, dtype=dtype, seed=seed + 2)
    last.params["weight"] = last.params["weight"] * 6  # so that tokens differ
    return rc.Sequential(
        rc.Embedding(vocabulary, 8, dtype=dtype, seed=seed), rc.LSTM(8, 16, dtype=dtype, seed=seed + 1), last
    )


def constant_model(outputs: Any, dtype: str = "float64") -> rc.Sequential:
    """Says the same at every step."""
    outputs = np.asarray(outputs, dtype)
    last = rc.Linear(2, len(outputs), dtype=dtype)
    last.params["weight"], last.params["bias"] = np.zeros((len(outputs), 2), dtype), outputs
    return rc.Sequential(rc.Embedding(len(outputs), 2, dtype=dtype), last)


def log_softmax(logits: Array) -> Array:
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))


def reference(logits: Array, seen: list[int], temperature: float, penalty: float, top_k: int, top_p: float) -> Array:
    """The probabilities that are drawn from, in Hugging Face's order."""
    x = np.array(logits, np.float64)
    x[seen] = np.where(x[seen] < 0, x[seen] * penalty, x[seen] / penalty)
    x /= temperature
    if top_k:
        x[x < np.sort(x)[-top_k]] = -np.inf
    p = np.exp(log_softmax(x))
    order = np.argsort(-p, kind="stable")
    kept = np.cumsum(p[order]) - p[order] < top_p
    p[order[~kept]] = 0
    return np.asarray(p / p.sum())


def chi_square(tokens: Array, probabilities: Array) -> None:
    """Within four standard deviations of its mean, and nothing impossible is drawn."""
    counts = np.bincount(tokens.ravel(), minlength=len(probabilities))
    possible = probabilities > 0
    assert not counts[~possible].any()
    expected = probabilities[possible] * counts.sum()
    freedom = possible.sum() - 1
    value = ((counts[possible] - expected) ** 2 / expected).sum()
    assert abs(value - freedom) < 4 * np.sqrt(2 * max(freedom, 1)), (value, freedom)


CHOICES = [
    {},
    {"temperature": 0.7},
    {"top_k": 4},
    {"top_p": 0.8},
    {"temperature": 1.6, "repetition_penalty": 1.7, "top_k": 6, "top_p": 0.9},
]


@pytest.mark.every_isa
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("choice", CHOICES)
def test_a_hundred_thousand_draws_follow_the_distribution(choice: dict[str, Any], dtype: str) -> None:
    logits = np.array([1.5, -1.0, 0.3, 2.0, 0.3, -3.0, 0.9, 0.0])
    seen = [3, 1]
    options = {"temperature": 1.0, "repetition_penalty": 1.0, "top_k": 0, "top_p": 1.0} | choice
    expected = reference(
        logits, seen, options["temperature"], options["repetition_penalty"], options["top_k"], options["top_p"]
    )
    drawn = rc.generate(constant_model(logits, dtype=dtype), np.tile(seen, (100_000, 1)), 1, seed=1, **choice)
    chi_square(drawn.samples, expected)
    if "repetition_penalty" not in choice:  # which changes the distribution from step to step
        chi_square(
            rc.generate(constant_model(logits, dtype=dtype), [seen], 100_000, seed=1, **choice).samples, expected
        )


def test_neighbouring_draws_are_independent() -> None:
    """Pairs along steps, rows and outputs."""
    tokens, other = rc.Input(tokens=4), rc.Input(tokens=4)
    model = rc.Model(
        (tokens, other), tuple(rc.Linear(2, 4)(rc.Embedding(4, 2, seed=0)(one)) for one in (tokens, other))
    )
    for layer in model.layers:
        for name in layer.params:
            layer.params[name] = np.zeros_like(layer.params[name])
    prompt = np.zeros((300, 1), np.int64)
    first, second = rc.generate(model, (prompt, prompt), 300, seed=3).samples
    for one, two in ((first[:, 1:], first[:, :-1]), (first[1:], first[:-1]), (first, second)):
        chi_square(4 * one + two, np.full(16, 1 / 16))


@pytest.mark.every_isa
@pytest.mark.parametrize("dtype", DTYPES)
def test_log_probabilities_are_those_of_whole_sequences(dtype: str) -> None:
    model = language_model(dtype)
    drawn = rc.generate(model, PROMPTS, 30, seed=2, temperature=0.7, top_k=5, stop=0)
    assert drawn.lengths.min() < 30
    for row, prompt in enumerate(PROMPTS):
        tokens = drawn.lists()[row]
        whole, _ = model(np.concatenate([prompt, tokens[:-1]])[None].astype(np.int64))
        said = log_softmax(whole[0, len(prompt) - 1 :])
        tolerance = 1e-5 if dtype == "float32" else 1e-12
        np.testing.assert_allclose(
            drawn.log_probs[row, : len(tokens)], said[np.arange(len(tokens)), tokens], rtol=0, atol=tolerance
        )
        assert not drawn.samples[row, len(tokens) :].any()
        assert 0 not in tokens[:-1]
        assert tokens[-1] == 0 or len(tokens) == 30


@pytest.mark.every_isa
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_has_the_same_bits_in_any_company(dtype: str) -> None:
    model = language_model(dtype)
    options: dict[str, Any] = {"temperature": 1.3, "top_p": 0.9, "repetition_penalty": 1.2, "stop": [0, 7], "seed": 5}
    together = rc.generate(model, PROMPTS * 9, 40, **options)
    with one_thread():
        assert_same_generation(rc.generate(model, PROMPTS * 9, 40, **options), together)
    for row in (0, 1, 2, 3, 33):
        alone = rc.generate(model, [PROMPTS[row % 4]], 40, row_ids=[row], **options)
        assert alone.lists()[0] == together.lists()[row]
        assert_same_bits(alone.log_probs[0], together.log_probs[row, : alone.lengths[0]])
        assert_same_bits(alone.state[1][0][:, 0], together.state[1][0][:, row])
    assert len({tuple(row) for row in together.lists()}) > 20, "rows with one prompt differ"
    padded = np.full((4, 9), 11)
    for row, prompt in enumerate(PROMPTS):
        padded[row, : len(prompt)] = prompt
    again = rc.generate(model, padded, 40, lengths=[len(prompt) for prompt in PROMPTS], **options)
    assert again.lists() == together.lists()[:4]


def assert_same_generation(actual: rc.Generated, expected: rc.Generated) -> None:
    assert_same_bits(actual.samples, expected.samples)
    assert_same_bits(actual.log_probs, expected.log_probs)
    assert_same_bits(actual.lengths, expected.lengths)


@pytest.mark.every_isa
def test_a_generation_goes_on_where_another_ended() -> None:
    """From a state, in a stream, and with a callback at every step."""
    model = language_model()
    prompt = np.array([[1, 2, 3], [4, 5, 6]])
    whole = rc.generate(model, prompt, 30, seed=8)
    first = rc.generate(model, prompt, 11, seed=8)
    rest = rc.generate(model, first.samples[:, -1:], 19, seed=8, first_step=11, state=first.state)
    assert_same_bits(np.concatenate([first.samples, rest.samples], 1), whole.samples)
    stream = model.stream(2)
    stream.process(prompt[:, :1])
    pieces = [rc.generate(stream, prompt[:, 1:], 11, seed=8)]
    pieces.append(rc.generate(stream, pieces[0].samples[:, -1:], 19, seed=8, first_step=11))
    assert_same_bits(np.concatenate([one.samples for one in pieces], 1), whole.samples)
    assert_same_bits(stream.state()[1][0], whole.state[1][0])

    heard: list[Array] = []

    def listen(step: int, tokens: Array, drew: Array) -> Any:
        assert step == len(heard)
        assert drew.tolist() == [True, step < 20]
        heard.append(tokens)
        return [False, step == 19] if step < 24 else True

    told = rc.generate(model, prompt, 30, seed=8, callback=lambda *one: np.array(listen(*one)))
    assert told.lengths.tolist() == [25, 20]
    assert told.lists() == [whole.samples[0, :25].tolist(), whole.samples[1, :20].tolist()]
    assert_same_bits(np.array(heard)[:20].T, whole.samples[:, :20])


def test_greedy_is_the_search_of_one_beam() -> None:
    model = language_model("float64")
    drawn = rc.generate(model, [[10], [10]], 15, temperature=0, stop=11)
    found = rc.search.greedy(model, start=10, end=11, max_steps=15, batch_size=2)
    assert drawn.lists() == found.lists()
    assert_same_bits(drawn.log_probs, found.log_probs[:, 0])


@pytest.mark.parametrize("attention", ["additive", "general"])
def test_a_decoder_attends_to_what_an_encoder_read(attention: str) -> None:
    source, target = rc.Input(tokens=V), rc.Input(tokens=V)
    encoder = rc.GRU(8, 6, bidirectional=True, dtype="float64", seed=1)
    read, said = (rc.Embedding(V, 8, dtype="float64", seed=one) for one in (2, 3))
    decoder = rc.AttentionDecoder(8, 12, 12, attention=attention, dtype="float64", seed=4)
    scores = rc.Linear(12, V, dtype="float64", seed=5)
    scores.params["weight"] = scores.params["weight"] * 4
    memory = encoder(read(source))
    state = memory.state if attention == "additive" else (memory.state, None)
    model = rc.Model((source, target), scores(decoder((said(target), memory), state=state)))
    sources = [np.array([1, 2, 3, 4]), np.array([5]), np.array([6, 7])]
    drawn = rc.generate(model, np.full((3, 1), 10), 9, given={0: sources}, temperature=0, stop=11)
    padded = np.array([[1, 2, 3, 4], [5, 0, 0, 0], [6, 7, 0, 0]])
    looked_at, (forward, backward) = encoder(read(padded)[0], lengths=[4, 1, 2])
    begin = np.concatenate([forward, backward], -1)[None]
    found = rc.search.greedy(
        (said, decoder, scores),
        start=10,
        end=11,
        max_steps=9,
        memory=looked_at,
        memory_lengths=[4, 1, 2],
        state=begin if attention == "additive" else (begin, None, None)[: len(decoder.state_names)],
    )
    assert drawn.lists() == found.lists()
    assert drawn.weights is not None
    assert found.weights is not None
    for row, steps in enumerate(drawn.lengths):
        assert_same_bits(drawn.weights[row, :steps], found.weights[row, 0, :steps])
    prompt = np.concatenate([np.full((3, 1), 10), drawn.samples[:, :3]], 1)  # a prompt is what was drawn before
    rest = rc.generate(model, prompt, 6, given={0: sources}, temperature=0, stop=11)
    for row in np.flatnonzero(drawn.lengths > 3):
        assert rest.lists()[row] == drawn.lists()[row][3:]
    with_others = rc.generate(model, np.full((3, 1), 10), 9, given={0: sources}, seed=4)
    alone = rc.generate(model, [[10]], 9, given={0: [[6, 7]]}, seed=4, row_ids=[2])
    assert alone.lists()[0] == with_others.lists()[2]


def chorale(dtype: str = "float64") -> rc.Model[Any]:
    """Two voices and the place in the bar."""
    beat = rc.Input(tokens=4)
    voices = {name: rc.Input(tokens=5 + index) for index, name in enumerate(("high", "low"))}
    parts = [
        rc.Embedding(size, 4, dtype=dtype, seed=size)(one)
        for size, one in zip((5, 6, 4), (*voices.values(), beat), strict=True)
    ]
    x = rc.Concatenate(dtype=dtype)(tuple(parts))
    h = rc.GRU(12, 16, dtype=dtype, seed=3)(x)
    last = {name: rc.Linear(16, 5 + index, dtype=dtype, seed=4 + index) for index, name in enumerate(voices)}
    for layer in last.values():
        layer.params["weight"] = layer.params["weight"] * 5
    return rc.Model({**voices, "beat": beat}, {"low": last["low"](h), "high": last["high"](h)})


def test_several_outputs_feed_several_inputs() -> None:
    model = chorale()
    rng = np.random.default_rng(0)
    prompt = {"high": rng.integers(5, size=(3, 2)), "low": rng.integers(6, size=(3, 2))}
    beat = rng.integers(4, size=(3, 21))
    drawn = rc.generate(model, prompt, 20, given={"beat": beat}, temperature=0)
    stream = model.stream(3)
    y = [stream.step({"high": prompt["high"][:, t], "low": prompt["low"][:, t], "beat": beat[:, t]}) for t in (0, 1)][1]
    for step in range(20):
        expected = {name: one.argmax(-1) for name, one in y.items()}
        for name, tokens in expected.items():
            assert (drawn.samples[name][:, step] == tokens).all()
        if step < 19:
            y = stream.step({**expected, "beat": beat[:, step + 2]})
    told = rc.generate(
        model,
        prompt,
        20,
        given={"beat": [row[:21] for row in beat]},
        seed=1,
        top_k={"high": 1, "low": None},
        stop={"high": None, "low": 2},
    )
    ends = {row: int(told.lengths[row]) for row in range(3)}
    assert all(told.samples["low"][row, end - 1] == 2 or end == 20 for row, end in ends.items())
    assert set(told.lists()) == {"high", "low"}


MIXTURE = rc.losses.MixtureDensity(2, correlated=True, end_of_stroke=True)
#: Weights 1 : 3; means; log standard deviations; correlations 0.6 and -0.3 before tanh; 0.2 for the end of a stroke.
PREDICTIONS = np.array(
    [0, np.log(3), -2, 1, 3, 0.5, *np.log([0.5, 1, 0.3, 0.2]), np.arctanh(0.6), np.arctanh(-0.3), np.log(0.25)]
)


def vector_model(outputs: Array, features: int, dtype: str = "float64") -> rc.Sequential:
    layer = rc.Linear(features, len(outputs), dtype=dtype)
    layer.params["weight"], layer.params["bias"] = np.zeros((len(outputs), features), dtype), outputs.astype(dtype)
    return rc.Sequential(layer)


@pytest.mark.parametrize("tau", [1.0, 0.5])
@pytest.mark.parametrize("dtype", DTYPES)
def test_mixtures(tau: float, dtype: str) -> None:
    model = vector_model(PREDICTIONS.astype(dtype), 3, dtype)
    drawn = rc.generate(model, np.zeros((2000, 1, 3), dtype), 20, loss=MIXTURE, temperature=tau, seed=0)
    points = drawn.samples.reshape(-1, 3).astype(np.float64)
    first = points[:, 0] < 1.0  # six deviations from either mean
    weights = np.array([1, 3.0]) ** (1 / tau)
    sizes = np.array([first.sum(), (~first).sum()])
    np.testing.assert_allclose(sizes / len(points), weights / weights.sum(), atol=0.01)
    for part, mean, sigma, rho in (
        (points[first], [-2, 1], [0.5, 1], 0.6),
        (points[~first], [3, 0.5], [0.3, 0.2], -0.3),
    ):
        np.testing.assert_allclose(part[:, :2].mean(0), mean, atol=0.06)
        np.testing.assert_allclose(part[:, :2].std(0), np.array(sigma) * np.sqrt(tau), rtol=0.04)
        assert abs(np.corrcoef(part[:, :2].T)[0, 1] - rho) < 0.05
    assert abs(points[:, 2].mean() - 0.25 ** (1 / tau) / (1 + 0.25 ** (1 / tau))) < 0.01
    said = np.broadcast_to(PREDICTIONS, (1, len(points), len(PREDICTIONS))).astype(dtype)
    value = MIXTURE(said, points[None])
    np.testing.assert_allclose(-drawn.log_probs.mean(dtype=np.float64), value.mean, rtol=1e-5)
    surest = rc.generate(model, np.zeros((1, 1, 3), dtype), 2, loss=MIXTURE, temperature=0)
    np.testing.assert_allclose(surest.samples, [[[3, 0.5, 0]] * 2], rtol=1e-6)


def test_bits_numbers_and_values() -> None:
    logits = np.array([0.0, 2.0, -1.0])
    bits = rc.generate(vector_model(logits, 3), np.zeros((4000, 1, 3)), 5, loss="bce", seed=1, temperature=2)
    np.testing.assert_allclose(bits.samples.mean((0, 1)), 1 / (1 + np.exp(-logits / 2)), atol=0.012)
    gaussian = vector_model(np.array([1.0, -2.0, np.log(4), np.log(0.25)]), 2)
    drawn = rc.generate(gaussian, np.zeros((4000, 1, 2)), 5, loss="gaussian_nll", seed=1)
    np.testing.assert_allclose(drawn.samples.mean((0, 1)), [1, -2], atol=0.05)
    np.testing.assert_allclose(drawn.samples.std((0, 1)), [2, 0.5], rtol=0.03)
    value = rc.losses.GaussianNLL()(
        np.tile([1.0, -2.0, np.log(4), np.log(0.25)], (1, 20_000, 1)), drawn.samples.reshape(1, -1, 2)
    )
    np.testing.assert_allclose(-drawn.log_probs.sum(), value.sum, rtol=1e-9)
    forecaster = rc.Sequential(rc.GRU(2, 8, seed=0), rc.Linear(8, 2, seed=1))
    prompt = np.ones((2, 3, 2), np.float32)
    rolled = rc.generate(forecaster, prompt, 4, loss="mse")
    stream = forecaster.stream(2)
    y = stream.process(prompt)[:, -1]
    for step in range(4):
        assert_same_bits(rolled.samples[:, step], y)
        y = stream.step(y)


def test_one_hot_inputs() -> None:
    """A model that reads one-hot vectors draws what the one with an Embedding draws."""
    layer, last = rc.LSTM(V, 16, seed=0), rc.Linear(16, V, seed=1)
    embedding = rc.Embedding(V, V, seed=0)
    embedding.params["weight"] = np.eye(V, dtype=np.float32)
    by_token = rc.generate(rc.Sequential(embedding, layer, last), [[1, 2]], 30, seed=0, repetition_penalty=1.5)
    by_vector = rc.generate(rc.Sequential(layer, last), np.eye(V)[[[1, 2]]], 30, seed=0, repetition_penalty=1.5)
    assert_same_generation(by_vector, by_token)


def test_the_ends_of_the_options() -> None:
    model = language_model()
    prompt = [[1, 2], [3, 4]]
    plain = rc.generate(model, prompt, 20, seed=0)
    greedy = rc.generate(model, prompt, 20, temperature=0)
    assert_same_generation(rc.generate(model, prompt, 20, seed=0, top_k=V + 50, top_p=1), plain)
    for choice in ({"top_p": 0}, {"top_k": 1}, {"temperature": 1e-30}, {"temperature": 1e-9, "top_p": 0.5}):
        assert_same_generation(rc.generate(model, prompt, 20, seed=0, **choice), greedy)
    hot = rc.generate(model, prompt, 20, seed=0, temperature=1e30).samples
    assert len(np.unique(hot)) == V
    only = rc.generate(model, prompt, 20, seed=0, suppress=[token for token in range(V) if token != 5])
    assert (only.samples == 5).all()
    none = rc.generate(model, prompt, 0)
    assert none.samples.shape == (2, 0)
    assert_same_bits(none.state[1][0], model(np.array(prompt)[:, :1])[1][1][0])
    empty = rc.generate(model, np.zeros((0, 3), np.int64), 20, stop=3)
    assert empty.samples.shape == (0, 0)
    assert empty.lists() == []
    impossible = constant_model([0.0, -np.inf, 1.0])
    assert 1 not in rc.generate(impossible, [[0]], 500, seed=0).samples
    assert rc.generate(model, prompt, 3, stop=range(V)).lengths.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"prompt": [[]]}, "row 0 has no step, expected at least 1"),
        ({"prompt": [[1], [2]], "lengths": [1, 0]}, "row 1 has no step"),
        ({"prompt": [1, 2]}, "prompt[None]"),
        ({"prompt": [[V]]}, "holds token 12"),
        ({"prompt": [[0.5]]}, "expected integers"),
        ({"steps": -1}, "steps=-1"),
        ({"steps": 2.5}, "steps=2.5"),
        ({"stop": V}, "stop holds 12, expected tokens from 0 to 11"),
        ({"stop": [1, -1]}, "stop=-1"),
        ({"suppress": [V]}, "suppress holds 12"),
        ({"suppress": range(V)}, "no token that is possible"),
        ({"temperature": -1}, "temperature=-1"),
        ({"temperature": np.nan}, "temperature=nan"),
        ({"top_k": 0}, "top_k=0"),
        ({"top_p": 1.5}, "top_p=1.5"),
        ({"repetition_penalty": 0}, "repetition_penalty=0"),
        ({"row_ids": [1, 2]}, "expected 1 numbers"),
        ({"row_ids": [-1]}, "0 or more"),
        ({"seed": -1}, "seed=-1"),
        ({"given": {1: [[0]]}}, "given input 1"),
        ({"given": {0: [[0]]}}, "got 0 inputs that are not given"),
        ({"loss": "ctc"}, "got loss=CTC"),
        ({"loss": "mse", "top_k": 3}, "got top_k=3"),
        ({"loss": MIXTURE}, "expected 13, the loss's prediction_size"),
        ({"loss": "gaussian_nll"}, "the output that feeds it is numbers"),
        ({"callback": 3}, "expected a function"),
        ({"callback": lambda *_: "yes"}, "expected None, a bool"),
        ({"model": 3}, "got int as model"),
        ({"max_new_tokens": 3}, "write steps="),
        ({"eos_token_id": 3}, "write stop="),
        ({"model": rc.Sequential(rc.Embedding(V, 4), rc.LSTM(4, 4, bidirectional=True))}, "bidirectional"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(arguments: dict[str, Any], words: str) -> None:
    arguments = {"model": language_model(), "prompt": [[1]], "steps": 3, **arguments}
    with pytest.raises((ValueError, TypeError)) as error:
        rc.generate(**arguments)
    assert words in str(error.value), error.value


def test_nan_is_found_and_a_stream_keeps_its_state() -> None:
    model = language_model()
    stream = model.stream(2)
    stream.process(np.array([[1, 2], [3, 4]]))
    before = stream.state()
    spoilt = np.array(model.layers[2].params["bias"])
    spoilt[3] = np.nan

    def fail(step: int, _tokens: Array, _drew: Array) -> None:
        if step == 4:
            raise RuntimeError("heard enough")

    def spoil(step: int, _tokens: Array, _drew: Array) -> None:
        if step == 4:
            model.layers[2].params["bias"] = spoilt

    with pytest.raises(RuntimeError, match="heard enough"):
        rc.generate(stream, [[1], [2]], 9, callback=fail)
    with pytest.raises(ValueError, match=r"NaN or infinity.* in row 0 at step 5"):
        rc.generate(stream, [[1], [2]], 9, callback=spoil)
    for one, other in zip(stream.state()[1], before[1], strict=True):
        assert_same_bits(one, other)
    with pytest.raises(ValueError, match="batch_size"):
        rc.generate(stream, [[1]], 9)
    with pytest.raises(ValueError, match="not finite"):
        rc.generate(vector_model(np.full(13, np.inf), 3), np.zeros((1, 1, 3)), 2, loss=MIXTURE)


def test_ctrl_c_at_any_poll() -> None:
    """Nothing has changed, and the next call gives what it would have given."""
    model = language_model()
    stream = model.stream(40)
    prompt = np.tile(np.arange(11), (40, 20))
    expected = rc.generate(model, prompt, 400, seed=0).samples
    for poll in (1, 2, 60, 300):
        _core.interrupt_at(poll)
        with one_thread(), pytest.raises(KeyboardInterrupt):  # the caller's, which polls, has all steps
            rc.generate(stream, prompt, 400, seed=0)
        _core.interrupt_at(0)
    assert_same_bits(rc.generate(stream, prompt, 400, seed=0).samples, expected)


def test_threads_share_a_model_while_weights_change() -> None:
    """Each call sees one version of the weights."""
    model = language_model()
    versions = [model.state_dict(), language_model(seed=7).state_dict()]
    expected = []
    for version in versions:
        model.load_state_dict(version)
        expected.append(rc.generate(model, PROMPTS, 60, seed=1).samples.tolist())
    found: list[Any] = []
    going = True

    def draw() -> None:
        while going:
            found.append(rc.generate(model, PROMPTS, 60, seed=1).samples.tolist())

    threads = [threading.Thread(target=draw) for _ in range(2)]
    for thread in threads:
        thread.start()
    for turn in range(40):
        model.load_state_dict(versions[turn % 2])
    going = False
    for thread in threads:
        thread.join()
    assert found
    assert all(one in expected for one in found)


def test_layers_in_python_are_refused_where_they_step() -> None:
    model = rc.Sequential(rc.Embedding(V, 4), Scale(4), rc.Linear(4, V))
    with pytest.raises(TypeError, match="Scale, which is written in Python"):
        rc.generate(model, [[1]], 3)
