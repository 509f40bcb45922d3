"""Generation: greedy and beam search against enumeration, and what they learn to say."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

import recurra as rc
from agreement import assert_same_bits
from array_types import DTYPES, Array

pytestmark = pytest.mark.every_isa

VOCABULARY, START, END = 4, 0, 3
MEMORY_LENGTHS = np.array([5, 2, 0])


def translator(kind: str, dtype: str = "float64", vocabulary: int = VOCABULARY) -> tuple[Any, ...]:
    """Layers from tokens to scores: "gru", without attention, or the attention of a decoder."""
    if kind == "gru":
        middle: tuple[Any, ...] = (rc.GRU(3, 6, 2, dtype=dtype, seed=1), rc.Dropout(0.5, dtype=dtype))
    else:
        cell = "lstm" if kind == "general" else "gru"
        middle = (rc.AttentionDecoder(3, 6, 5, cell=cell, attention=kind, dtype=dtype, seed=1),)
    last = rc.Linear(6, vocabulary, dtype=dtype, seed=2)
    last.params["weight"] = last.params["weight"] * 4  # so that tokens differ
    return (rc.Embedding(vocabulary, 3, dtype=dtype, seed=0), *middle, last)


def given(kind: str, rows: int = 3, dtype: str = "float64") -> dict[str, Any]:
    rng = np.random.default_rng(3)
    if kind == "gru":
        return {"state": rng.standard_normal((2, rows, 6)).astype(dtype)}
    memory = rng.standard_normal((rows, 5, 5)).astype(dtype)
    state = [rng.standard_normal((1, rows, 6)).astype(dtype) for _ in range(1 if kind == "additive" else 3)]
    lengths = np.resize(MEMORY_LENGTHS, rows)
    memory[np.arange(5) >= lengths[:, None]] = np.nan
    return {"memory": memory, "memory_lengths": lengths, "state": state[0] if len(state) == 1 else tuple(state)}


def row_of(options: dict[str, Any], r: int) -> dict[str, Any]:
    state = options["state"]
    one: dict[str, Any] = {
        "state": tuple(a[:, r : r + 1] for a in state) if isinstance(state, tuple) else state[:, r : r + 1]
    }
    if "memory" in options:
        n = options["memory_lengths"][r]
        one["memory"] = options["memory"][r : r + 1, :n]
    return one


def forced(layers: tuple[Any, ...], options: dict[str, Any], row: int, tokens: list[int]) -> tuple[Array, Array | None]:
    """The log-probability of each token after those before it, and what the steps looked at: by whole-sequence
    calls."""
    one = row_of(options, row)
    y: Any = np.array([[START, *tokens[:-1]]])
    weights = None
    for layer in layers:
        if isinstance(layer, rc.AttentionDecoder):
            weights = layer.weights((y, one["memory"]), state=one["state"])[0]
            y, _ = layer((y, one["memory"]), state=one["state"])
        else:
            y, _ = layer(y, state=one["state"] if isinstance(layer, rc.GRU) else None)
    logits = y[0]
    shifted = logits - logits.max(1, keepdims=True)
    log_probs = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return log_probs[np.arange(len(tokens)), tokens], weights


def enumerated(layers: tuple[Any, ...], options: dict[str, Any], row: int, steps: int, alpha: float) -> list[Any]:
    """Every sequence that ends, or has `steps` tokens, best first: (score, tokens)."""
    found = []
    inner = [token for token in range(VOCABULARY) if token != END]
    for length in range(1, steps + 1):
        lasts = range(VOCABULARY) if length == steps else [END]
        for head in product(inner, repeat=length - 1):
            for last in lasts:
                tokens = [*head, last]
                score = forced(layers, options, row, tokens)[0].sum() / ((5 + length) / 6) ** alpha
                found.append((score, tokens))
    return sorted(found, key=lambda one: -one[0])


KINDS = ["gru", "additive", "general"]


@pytest.mark.parametrize("alpha", [0.0, 0.7, 2.0])
@pytest.mark.parametrize("kind", KINDS)
def test_a_wide_beam_finds_the_best(kind: str, alpha: float) -> None:
    layers, options = translator(kind), given(kind)
    found = rc.search.beam_search(
        layers, start=START, end=END, max_steps=4, beam_size=108, n_best=6, length_penalty=alpha, **options
    )
    for row in range(3):
        expected = enumerated(layers, options, row, 4, alpha)[:6]
        assert [found.lists(rank)[row] for rank in range(6)] == [tokens for _, tokens in expected]
        np.testing.assert_allclose(found.scores[row], [score for score, _ in expected], rtol=0, atol=1e-11)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_what_comes_with_the_tokens(kind: str, dtype: str) -> None:
    """Log-probabilities and weights are those of the whole sequence, weights bit for bit."""
    layers, options = translator(kind, dtype), given(kind, dtype=dtype)
    found = rc.search.beam_search(layers, start=START, end=END, max_steps=6, beam_size=3, n_best=3, **options)
    assert len(found) == 3
    for row, rank in product(range(3), range(3)):
        n = int(found.lengths[row, rank])
        tokens = found.tokens[row, rank, :n].tolist()
        log_probs, weights = forced(layers, options, row, tokens)
        np.testing.assert_allclose(
            found.log_probs[row, rank, :n], log_probs, rtol=0, atol=1e-5 if dtype == "float32" else 1e-12
        )
        np.testing.assert_allclose(found.scores[row, rank], found.log_probs[row, rank].sum(dtype=np.float64), rtol=1e-6)
        assert not found.log_probs[row, rank, n:].any()
        assert (weights is None) == (found.weights is None)
        if weights is not None and found.weights is not None:
            valid = weights.shape[1]
            assert_same_bits(found.weights[row, rank, :n, :valid], weights)
            assert not found.weights[row, rank, :n, valid:].any()


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_is_the_most_probable_token_at_each_step(kind: str) -> None:
    layers, options = translator(kind), given(kind)
    found = rc.search.greedy(layers, start=START, end=END, max_steps=7, **options)
    same = rc.search.beam_search(layers, start=START, end=END, max_steps=7, beam_size=1, **options)
    assert found.lists() == same.lists()
    for row, tokens in enumerate(found.lists()):
        for n, token in enumerate(tokens):
            each = [forced(layers, options, row, [*tokens[:n], other])[0][n] for other in range(VOCABULARY)]
            assert token == int(np.argmax(each))
        assert END not in tokens[:-1]
        assert tokens[-1] == END or len(tokens) == 7


@pytest.mark.parametrize("kind", KINDS)
def test_rows_do_not_see_each_other(kind: str) -> None:
    """Alone, in a batch, without the padding of its memory, on one thread or two: the same bits."""
    layers, options = translator(kind, "float32", 40), given(kind, 7, "float32")
    settings: dict[str, Any] = {
        "start": START,
        "end": END,
        "max_steps": 60,
        "beam_size": 9,
        "n_best": 4,
        "length_penalty": 0.6,
    }
    results = []
    for threads in (1, 2):
        rc.set_num_threads(threads)
        results.append(rc.search.beam_search(layers, **settings, **options))
    one, other = results
    for name in ("tokens", "lengths", "scores", "log_probs"):
        assert_same_bits(getattr(other, name), getattr(one, name), name)
    for row in range(7):
        alone = rc.search.beam_search(layers, **settings, **row_of(options, row))
        n = alone.tokens.shape[2]
        assert_same_bits(alone.scores[0], one.scores[row])
        assert_same_bits(alone.log_probs[0], one.log_probs[row, :, :n])
        assert [alone.lists(rank)[0] for rank in range(4)] == [one.lists(rank)[row] for rank in range(4)]


def test_ties_and_ends() -> None:
    """Where all tokens are alike, the smallest come first; without an end all steps are made."""
    layers = translator("gru")
    layers[-1].params["weight"] = np.zeros((VOCABULARY, 6))
    layers[-1].params["bias"] = np.zeros(VOCABULARY)
    found = rc.search.beam_search(layers, start=START, end=None, max_steps=2, beam_size=4, n_best=4, batch_size=2)
    for row in range(2):
        assert found.tokens[row].tolist() == [[0, 0], [0, 1], [0, 2], [0, 3]]
    assert rc.search.greedy(layers, start=START, end=None, max_steps=3, batch_size=1).lists() == [[0, 0, 0]]
    ended = rc.search.beam_search(layers, start=START, end=END, max_steps=3, beam_size=4, n_best=1, batch_size=1)
    assert ended.lists() == [[END]]
    few = rc.search.beam_search(layers, start=START, end=END, max_steps=1, beam_size=9, n_best=9, batch_size=1)
    assert few.lengths.tolist() == [[1] * VOCABULARY + [0] * 5]
    assert np.isneginf(few.scores[0, VOCABULARY:]).all()
    none = rc.search.greedy(layers, start=START, end=END, max_steps=3, batch_size=0)
    assert none.tokens.shape == (0, 1, 0)


def test_errors() -> None:
    layers, options = translator("additive"), given("additive")
    settings: dict[str, Any] = {"start": START, "end": END, "max_steps": 3}

    def refused(match: str, chain: Any = layers, **changed: Any) -> None:
        with pytest.raises(ValueError, match=match):
            rc.search.beam_search(chain, **{**settings, **options, **changed})

    refused(r"search: got no memory, which the attention decoder looks at", memory=None, memory_lengths=None)
    refused(r"search: memory has shape .*, expected \(3, steps, 5\)", memory=np.zeros((3, 5, 4)))
    refused(r"search: lengths\[0\] is 9, expected 0 to 5", memory_lengths=np.array([9, 1, 1]))
    refused(r"search: start is 4, expected a token from 0 to 3", start=4)
    refused(r"search: end is 4, expected a token from 0 to 3", end=4)
    refused(r"search: n_best is 6, expected 1 to 5", n_best=6)
    refused(r"beam_search: got max_steps=0", max_steps=0)
    refused(r"beam_search: got length_penalty=-1", length_penalty=-1)
    refused(r"search: state h has shape", state=np.zeros((1, 3, 7)))
    refused(r"search: the first layer must read tokens", layers[1:])
    refused(
        r"search: layer 2 .* takes 6 features, but the layer before it gives 3",
        (layers[0], rc.Dropout(dtype="float64"), layers[2]),
        state=None,
    )
    refused(r"search: got a memory, but no layer looks at one", translator("gru"), state=None)
    backwards = rc.GRU(3, 3, bidirectional=True, dtype="float64")
    refused(r"search: layer 1 \(gru\) cannot run step by step", (layers[0], backwards, layers[2]), state=None)
    broken = translator("gru")
    broken[-1].params["bias"] = np.full(VOCABULARY, np.nan)
    refused(r"search: got scores that hold NaN", broken, memory=None, memory_lengths=None, **given("gru"))
    with pytest.raises(ValueError, match=r"greedy: got memory_lengths without a memory"):
        rc.search.greedy(translator("gru"), batch_size=1, memory_lengths=[1], **settings)
    with pytest.raises(ValueError, match=r"greedy: got no memory, state or batch_size"):
        rc.search.greedy(translator("gru"), **settings)
    chain = translator("gru")
    nested = rc.Sequential(chain[0], rc.Sequential(*chain[1:]))
    for model, owner in ((chain, r"Sequential\(Embedding, GRU, Dropout, Linear\)"), (nested, "Sequential")):
        with pytest.raises(ValueError, match=rf"as the state of GRU, .*; start from {owner}\.init_state\(batch_size\)"):
            rc.search.greedy(model, state="h", **settings)
    rc.search.greedy(nested, state=nested.init_state(2), **settings)
    x = rc.Input(tokens=4)
    model = rc.Model(x, layers[0](x))
    with pytest.raises(TypeError, match=r"greedy: got Model as layers, expected layers in sequence"):
        rc.search.greedy(model, **settings)


def reversal(rng: np.random.Generator, rows: int) -> tuple[Array, Array, Array, Array]:
    """Digits, and the same turned round between a start (10) and an end (11)."""
    lengths = rng.integers(2, 8, rows)
    source, fed, wanted = (np.zeros((rows, n), np.int64) for n in (7, 8, 8))
    for r, n in enumerate(lengths):
        digits = rng.integers(0, 10, n)
        source[r, :n] = digits
        fed[r, : n + 1] = [10, *digits[::-1]]
        wanted[r, : n + 1] = [*digits[::-1], 11]
    return source, fed, wanted, lengths


@pytest.mark.parametrize("attention", ["additive", "general"])
def test_it_learns_to_reverse(attention: str) -> None:
    rc.set_num_threads(1)
    rng = np.random.default_rng(0)
    source, target = rc.Input(tokens=12), rc.Input(tokens=12)
    read, encoder = rc.Embedding(12, 16), rc.GRU(16, 24, bidirectional=True)
    said, decoder, scores = (
        rc.Embedding(12, 16),
        rc.AttentionDecoder(16, 48, 48, attention=attention),
        rc.Linear(48, 12),
    )
    h = encoder(read(source))
    begin = h.state if attention == "additive" else (h.state, None)
    model = rc.Model((source, target), scores(decoder((said(target), h), state=begin)), seed=0)
    x, fed, wanted, lengths = reversal(rng, 2000)
    history = model.fit(
        (x, fed),
        wanted,
        lengths=(lengths, lengths + 1),
        loss=rc.losses.CrossEntropy(),
        optimizer=rc.optim.Adam(rc.optim.schedules.CosineDecay(8e-3, 500)),
        epochs=10,
        batch_size=40,
        clip_norm=1.0,
        seed=0,
        verbose=0,
    )
    assert history.history["loss"][-1] < 0.2
    x, _, wanted, lengths = reversal(rng, 100)
    memory, state = encoder(read(x, lengths=lengths)[0], lengths=lengths)
    begin = np.concatenate(state, -1)[None]
    found = rc.search.beam_search(
        (said, decoder, scores),
        start=10,
        end=11,
        max_steps=9,
        beam_size=3,
        memory=memory,
        memory_lengths=lengths,
        state=begin if attention == "additive" else (begin, None),
    )
    right = [tokens == wanted[r, : lengths[r] + 1].tolist() for r, tokens in enumerate(found.lists())]
    assert np.mean(right) > 0.9
    assert found.weights is not None


def test_it_describes_a_vector() -> None:
    """One to many: a vector becomes the state that a language model begins with."""
    rng = np.random.default_rng(0)
    words = np.array([[3, 4, 5, 1], [6, 3, 7, 1], [8, 8, 4, 1]])  # 1 ends, 2 starts
    pictures = np.eye(3, dtype=np.float32)
    which = rng.integers(0, 3, 300)
    see, speak = rc.Linear(3, 16), rc.Sequential(rc.Embedding(9, 8), rc.GRU(8, 16), rc.Linear(16, 9))
    picture, target = rc.Input(features=3, sequence=False), rc.Input(tokens=9)
    embedding, gru, linear = speak.layers
    model = rc.Model((target, picture), linear(gru(embedding(target), state=see(picture))), seed=0)
    fed = np.concatenate([np.full((300, 1), 2), words[which, :-1]], 1)
    model.fit(
        (fed, pictures[which]),
        words[which],
        loss=rc.losses.CrossEntropy(),
        optimizer=rc.optim.Adam(2e-2),
        epochs=6,
        batch_size=20,
        seed=0,
        verbose=0,
    )
    state = see(pictures)[0][None]
    found = rc.search.greedy(speak, start=2, end=1, max_steps=8, state=state)
    assert found.lists() == words.tolist()
    assert found.weights is None
