"""Attention and the attention decoder: values, gradients and bits, against plain numpy, differences and PyTorch."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import attention_reference
import recurra as rc
from agreement import assert_same_bits
from array_types import DTYPES, Array
from cell_runs import unpack
from layer_cases import decoder
from recurra import _core
from single_thread import central_difference

pytestmark = pytest.mark.every_isa

# Below, at and above the vectors' widths.
SIZES = [(1, 1, 1), (5, 6, 7), (19, 16, 33)]  # query, memory, hidden
LENGTHS, MEMORY_LENGTHS = np.array([6, 3, 0, 4, 1]), np.array([4, 2, 3, 0, 7])
ROWS, STEPS, MEMORY_STEPS = 5, 6, 7


def attention(score: str, size: tuple[int, int, int], dtype: str, seed: int = 0) -> Any:
    query, memory, hidden = size
    if score == "additive":
        return rc.AdditiveAttention(query, memory, hidden, dtype=dtype, seed=seed)
    if score != "general":
        memory = query
    return rc.MultiplicativeAttention(query, memory, score=score, dtype=dtype, seed=seed)


SCORES = ["additive", "dot", "scaled_dot", "general"]
KINDS = ["additive", "dot", "scaled_dot unfed", "general", "general unfed"]
Make = Callable[[str], Any]
LAYERS: dict[str, Make] = {f"{score}-{size}": partial(attention, score, size) for score in SCORES for size in SIZES}
LAYERS |= {
    f"{cell}-{kind}-{hidden}": partial(decoder, cell, kind, hidden)
    for cell in ("gru", "lstm", "rnn_tanh", "gru_reset_before")
    for kind in KINDS
    for hidden in (5, 19)
}
every_layer = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)


class Problem:
    """Inputs with NaN for padding, gradients for outputs, and a state; exact in f32."""

    def __init__(self, layer: Any, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)

        def drawn(*shape: int) -> Array:
            return rng.standard_normal(shape).astype(np.float32).astype(layer.dtype)

        self.x, self.memory = drawn(ROWS, STEPS, layer.input_size), drawn(ROWS, MEMORY_STEPS, layer.memory_size)
        self.dy = drawn(ROWS, STEPS, layer.output_size)
        for r in range(ROWS):
            self.x[r, LENGTHS[r] :] = self.dy[r, LENGTHS[r] :] = np.nan
            self.memory[r, MEMORY_LENGTHS[r] :] = np.nan
        self.lengths: Any = (LENGTHS, MEMORY_LENGTHS)
        shape = (1, ROWS, layer.output_size)
        self.state = [drawn(*shape) for _ in layer.state_names]
        self.dstate = [drawn(*shape) for _ in layer.state_names]

    def row(self, r: int) -> Problem:
        """That row alone, without padding."""
        one = copy.copy(self)
        one.x, one.dy = self.x[r : r + 1, : LENGTHS[r]], self.dy[r : r + 1, : LENGTHS[r]]
        one.memory = self.memory[r : r + 1, : MEMORY_LENGTHS[r]]
        one.lengths = None
        one.state, one.dstate = ([a[:, r : r + 1] for a in arrays] for arrays in (self.state, self.dstate))
        return one


def nest(arrays: list[Array]) -> Any:
    return None if not arrays else arrays[0] if len(arrays) == 1 else tuple(arrays)


def run(layer: Any, p: Problem) -> tuple[Array, list[Array]]:
    y, state = layer((p.x, p.memory), state=nest(p.state), lengths=p.lengths)
    return y, list(unpack(state)) if p.state else []


def solve(layer: Any, p: Problem) -> dict[str, Array]:
    layer.zero_grad()
    tape = layer.record((p.x, p.memory), state=nest(p.state), lengths=p.lengths)
    found = {"y": tape.y}
    found |= {f"state{i}": a for i, a in enumerate(unpack(tape.state) if p.state else ())}
    (dx, dmemory), dstate = tape.backward(p.dy, nest(p.dstate))
    found |= {"dx": dx, "dmemory": dmemory}
    found |= {f"dstate{i}": a for i, a in enumerate(unpack(dstate) if p.state else ())}
    return found | {name: gradient.copy() for name, gradient in layer.grads.items()}


def specified(layer: Any, p: Problem) -> tuple[Array, list[Array], Array]:
    """Outputs, states and weights, by the specification."""
    params = {name: np.asarray(value, np.float64) for name, value in layer.params.items()}
    y = np.zeros((ROWS, STEPS, layer.output_size))
    weights = np.zeros((ROWS, STEPS, MEMORY_STEPS))
    state = [np.zeros((1, ROWS, layer.output_size)) for _ in p.state]
    for r, (n, m) in enumerate(zip(LENGTHS, MEMORY_LENGTHS, strict=True)):
        x, memory = p.x[r, :n].astype(np.float64), p.memory[r, :m].astype(np.float64)
        if isinstance(layer, rc.AttentionDecoder):
            begin = [a[0, r].astype(np.float64) for a in p.state]
            y[r, :n], final, weights[r, :n, :m] = attention_reference.decoder(
                layer.cell, layer.attention, "a" in layer.state_names, params, x, memory, begin
            )
            for to, value in zip(state, final, strict=True):
                to[0, r] = value
        else:
            score = getattr(layer, "score", "additive")
            for t in range(n):
                y[r, t], weights[r, t, :m] = attention_reference.attention(score, params, x[t], memory)
    return y, state, weights


@pytest.mark.parametrize("dtype", DTYPES)
@every_layer
def test_values(make: Make, dtype: str) -> None:
    layer = make(dtype)
    p = Problem(layer)
    y, state = run(layer, p)
    weights = layer.weights((p.x, p.memory), lengths=p.lengths, **({"state": nest(p.state)} if p.state else {}))
    expected, final, looked = specified(layer, p)
    # f32: a few units in the last place of sums of 20 to 50 terms of order 1, through 6 steps.
    tolerance = 1e-12 if dtype == "float64" else 1e-5
    np.testing.assert_allclose(y, expected, rtol=0, atol=tolerance)
    np.testing.assert_allclose(weights, looked, rtol=0, atol=tolerance)
    for one, other in zip(state, final, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance)


@every_layer
def test_central_differences(make: Make) -> None:
    layer = make("float64")
    p = Problem(layer)
    found = solve(layer, p)
    valid = np.arange(STEPS) < LENGTHS[:, None]

    def loss() -> float:
        y, state = run(layer, p)
        total = float(np.where(valid[:, :, None], y * p.dy, 0.0).sum())
        return total + sum(float((a * d).sum()) for a, d in zip(state, p.dstate, strict=True))

    variables = {"dx": p.x, "dmemory": p.memory, **{f"dstate{i}": a for i, a in enumerate(p.state)}}
    variables |= {name: value.copy() for name, value in layer.params.items()}
    rng = np.random.default_rng(0)
    for name, variable in variables.items():

        def f(name: str = name, variable: Array = variable) -> float:
            if name in layer.params:
                layer.params[name] = variable
            return loss()

        entries = rng.permutation(np.flatnonzero(~np.isnan(variable)))[:25]
        expected = central_difference(f, variable, entries)
        f()
        scale = max(1.0, np.abs(expected).max(initial=0.0))
        np.testing.assert_allclose(found[name].flat[entries], expected, rtol=0, atol=1e-6 * scale, err_msg=name)
        assert not found[name][np.isnan(variable)].any(), f"{name} past the lengths"


@pytest.mark.parametrize("dtype", DTYPES)
@every_layer
def test_bits(make: Make, dtype: str) -> None:
    """A row alone and in a batch, padded or not, with one thread or two; parameter gradients for any number of
    threads."""
    layer = make(dtype)
    p = Problem(layer)
    rc.set_num_threads(1)
    found = solve(layer, p)
    rc.set_num_threads(2)
    for name, array in solve(layer, p).items():
        assert_same_bits(array, found[name], name)
    assert_same_bits(run(layer, p)[0], found["y"])
    for r in range(ROWS):
        alone = solve(layer, p.row(r))
        for name in ("y", "dx", "dmemory"):
            count = (MEMORY_LENGTHS if name == "dmemory" else LENGTHS)[r]
            assert_same_bits(alone[name][0], found[name][r, :count], name)
            assert not found[name][r, count:].any()
        for i in range(len(p.state)):
            for name in (f"state{i}", f"dstate{i}"):
                assert_same_bits(alone[name][:, 0], found[name][:, r], name)


@pytest.mark.parametrize("large", ["weight_query", "weight_memory"])
def test_large_queries_and_keys(large: str) -> None:
    """Past the range in which exponentials of queries and keys are made apart: some rows of a batch are, others not."""
    layer = rc.AdditiveAttention(5, 6, 19, dtype="float64", seed=0)
    layer.params[large] = layer.params[large] * 25
    p = Problem(layer)
    keys = np.abs(np.nan_to_num(p.memory) @ layer.params["weight_memory"].T).max((1, 2))
    queries = np.abs(np.nan_to_num(p.x) @ layer.params["weight_query"].T + layer.params["bias_query"]).max(2)
    magnitudes = keys if large == "weight_memory" else queries[np.arange(STEPS) < LENGTHS[:, None]]
    assert (magnitudes > 20).any()
    assert (magnitudes < 20).any()
    found = solve(layer, p)
    np.testing.assert_allclose(found["y"], specified(layer, p)[0], rtol=0, atol=1e-12)
    for r in range(ROWS):
        assert_same_bits(solve(layer, p.row(r))["dx"][0], found["dx"][r, : LENGTHS[r]])
    entries = np.flatnonzero(~np.isnan(p.memory))[:40]
    valid = (np.arange(STEPS) < LENGTHS[:, None])[:, :, None]
    expected = central_difference(
        lambda: float(np.where(valid, run(layer, p)[0] * p.dy, 0.0).sum()), p.memory, entries, step=1e-6
    )
    # A step of 1e-6, since the scores bend 25 times as fast: rounding leaves 1e-9.
    np.testing.assert_allclose(found["dmemory"].flat[entries], expected, rtol=0, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("kind", KINDS)
def test_threads_share_a_large_batch(kind: str) -> None:
    """Enough work for threads: see test_bits for small ones."""
    layer = decoder("gru", kind, 64, "float32")
    rng = np.random.default_rng(0)
    x, memory = (rng.standard_normal((48, 20, n)).astype(np.float32) for n in (3, layer.memory_size))
    lengths = (rng.integers(0, 21, 48), rng.integers(0, 21, 48))
    dy = rng.standard_normal((48, 20, 64)).astype(np.float32)
    found = []
    for threads in (1, 2):
        rc.set_num_threads(threads)
        layer.zero_grad()
        tape = layer.record((x, memory), lengths=lengths)
        (dx, dmemory), _ = tape.backward(dy)
        found.append([tape.y, dx, dmemory, layer.parameters.grads.copy()])
    for one, other in zip(*found, strict=True):
        assert_same_bits(one, other)


@pytest.mark.parametrize("kind", KINDS)
def test_chunks(kind: str) -> None:
    """In two calls, the second from the first one's state: the same bits."""
    layer = decoder("lstm", kind, 19, "float32")
    p = Problem(layer)
    memory = np.nan_to_num(p.memory)
    x = np.nan_to_num(p.x)
    whole, final = layer((x, memory), lengths=(None, MEMORY_LENGTHS))
    first, state = layer((x[:, :2], memory), lengths=(None, MEMORY_LENGTHS))
    second, last = layer((x[:, 2:], memory), state=state, lengths=(None, MEMORY_LENGTHS))
    assert_same_bits(np.concatenate([first, second], 1), whole)
    for one, other in zip(last, final, strict=True):
        assert_same_bits(one, other)


@pytest.mark.parametrize("make", [LAYERS["additive-(5, 6, 7)"], LAYERS["gru-dot-5"], LAYERS["lstm-additive-5"]])
def test_nothing_there(make: Make) -> None:
    """No rows, no steps, no memory steps; no gradient coming in."""
    layer = make("float64")
    for rows, steps, memory_steps in [(0, 3, 4), (2, 0, 4), (2, 3, 0)]:
        x, memory = np.ones((rows, steps, layer.input_size)), np.ones((rows, memory_steps, layer.memory_size))
        tape = layer.record((x, memory))
        (dx, dmemory), _ = tape.backward(np.ones_like(tape.y))
        assert dx.shape == x.shape
        assert dmemory.shape == memory.shape
        assert np.isfinite(layer.parameters.grads).all()
    p = Problem(layer)
    layer.zero_grad()
    (dx, dmemory), _ = layer.record((p.x, p.memory), lengths=p.lengths).backward(None)
    assert not dx.any()
    assert not dmemory.any()
    assert not layer.parameters.grads.any()


def test_vectors_as_queries() -> None:
    layer = rc.AdditiveAttention(5, 6, 7, seed=0)
    p = Problem(layer)
    q = np.nan_to_num(p.x[:, 0])
    y, _ = layer((q, p.memory), lengths=(None, MEMORY_LENGTHS))
    same, _ = layer((q[:, None], p.memory), lengths=(None, MEMORY_LENGTHS))
    assert_same_bits(y, same[:, 0])
    weights = layer.weights((q, p.memory), lengths=(None, MEMORY_LENGTHS))
    assert weights.shape == (ROWS, MEMORY_STEPS)
    np.testing.assert_allclose(weights.sum(1), MEMORY_LENGTHS > 0, atol=1e-6)


@pytest.mark.parametrize("score", SCORES)
def test_attention_is_pytorchs(score: str) -> None:
    """Random inputs, masks: scaled dot with PyTorch's own function, the others in its operations."""
    rng = np.random.default_rng(4)
    layer = attention(score, (19, 16, 33), "float64")
    p = Problem(layer, seed=7)
    lengths = np.array([4, 2, 3, 1, 7])  # PyTorch's softmax over nothing is NaN
    params = {name: torch.tensor(value.copy(), requires_grad=True) for name, value in layer.params.items()}
    x, memory = (torch.tensor(np.nan_to_num(a), requires_grad=True) for a in (p.x, p.memory))
    mask = torch.arange(MEMORY_STEPS)[None, None] < torch.tensor(lengths)[:, None, None]
    if score == "scaled_dot":
        y = torch.nn.functional.scaled_dot_product_attention(x, memory, memory, attn_mask=mask)
    else:
        keys = memory if score == "dot" else memory @ params["weight_memory"].T
        if score == "additive":
            q = x @ params["weight_query"].T + params["bias_query"]
            e = torch.tanh(q[:, :, None] + keys[:, None]) @ params["weight_score"]
        else:
            e = x @ keys.transpose(1, 2)
        y = torch.softmax(e.masked_fill(~mask, -torch.inf), 2) @ memory
    dy = rng.standard_normal(tuple(y.shape))
    y.backward(torch.tensor(dy))
    layer.zero_grad()
    tape = layer.record((x.detach().numpy(), memory.detach().numpy()), lengths=(None, lengths))
    (dx, dmemory), _ = tape.backward(dy)
    valid = np.arange(MEMORY_STEPS) < lengths[:, None]
    pairs = [
        (tape.y, y.detach()),
        (dx, x.grad),
        (dmemory[valid], memory.grad[valid] if memory.grad is not None else None),
    ]
    for mine, its in [*pairs, *((layer.grads[name], one.grad) for name, one in params.items())]:
        assert its is not None
        np.testing.assert_allclose(mine, its.numpy(), rtol=0, atol=1e-12 * max(1.0, float(its.abs().max())))


def test_the_decoder_is_pytorchs_loop() -> None:
    """A GRU with additive attention over 12 steps, in f64, against GRUCell and autograd."""
    rng = np.random.default_rng(1)
    layer = rc.AttentionDecoder(4, 20, 6, attention_size=9, dtype="float64", seed=2)
    params = {name: torch.tensor(value.copy(), requires_grad=True) for name, value in layer.params.items()}
    x, memory, h = (torch.tensor(rng.standard_normal(s), requires_grad=True) for s in [(3, 12, 4), (3, 8, 6), (3, 20)])
    keys = memory @ params["weight_memory"].T
    state, ys = h, []
    for t in range(12):
        q = state @ params["weight_query"].T + params["bias_query"]
        w = torch.softmax(torch.tanh(q[:, None] + keys) @ params["weight_score"], 1)
        context = torch.bmm(w[:, None], memory)[:, 0]
        weights = [params[f"{name}_l0"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        state = torch.gru_cell(torch.cat([x[:, t], context], 1), state, *weights)
        ys.append(state)
    y = torch.stack(ys, 1)
    dy = rng.standard_normal(tuple(y.shape))
    y.backward(torch.tensor(dy))
    tape = layer.record((x.detach().numpy(), memory.detach().numpy()), state=h.detach().numpy()[None])
    (dx, dmemory), dstate = tape.backward(dy)
    pairs = [(tape.y, y.detach()), (dx, x.grad), (dmemory, memory.grad), (np.asarray(dstate)[0], h.grad)]
    for mine, its in [*pairs, *((layer.grads[name], one.grad) for name, one in params.items())]:
        assert its is not None
        np.testing.assert_allclose(mine, its.numpy(), rtol=0, atol=1e-11 * max(1.0, float(its.abs().max())))


@pytest.mark.parametrize("make", [LAYERS["additive-(5, 6, 7)"], LAYERS["general-(5, 6, 7)"], LAYERS["lstm-general-5"]])
def test_copies_and_files(make: Make, tmp_path: Path) -> None:
    layer = make("float32")
    p = Problem(layer)
    layer.save(tmp_path / "layer.safetensors")
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), rc.load(tmp_path / "layer.safetensors")):
        assert type(twin) is type(layer)
        assert twin.config() == layer.config()
        assert_same_bits(run(twin, p)[0], run(layer, p)[0])
    assert layer.count_parameters(layer.config()) == layer.parameters.size


def test_in_a_model() -> None:
    """An encoder's state begins the decoder; gradients reach the encoder by the memory and by the state."""
    source, target = rc.Input(features=3), rc.Input(features=4)
    encoder = rc.GRU(3, 5, dtype="float64")
    decoder = rc.AttentionDecoder(4, 5, 5, attention="dot", dtype="float64")
    h = encoder(source)
    model = rc.Model((source, target), decoder((target, h), state=(h.state, None)), seed=0)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((ROWS, MEMORY_STEPS, 3)), rng.standard_normal((ROWS, STEPS, 4))
    lengths = (MEMORY_LENGTHS, LENGTHS)
    tape = model.record(x, lengths=lengths)
    memory, state = encoder(x[0], lengths=MEMORY_LENGTHS)
    y, _ = decoder((x[1], memory), state=(state, None), lengths=(LENGTHS, MEMORY_LENGTHS))
    assert_same_bits(tape.y, y)
    dy = rng.standard_normal(y.shape)
    dx, _ = tape.backward(dy)
    for index, one in enumerate(x):
        entries = rng.permutation(one.size)[:20]
        expected = central_difference(lambda: float((model(x, lengths=lengths)[0] * dy).sum()), one, entries)
        np.testing.assert_allclose(dx[index].flat[entries], expected, rtol=0, atol=1e-6)


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"MultiplicativeAttention: got query_size=3 and memory_size=4 .*'general'"):
        rc.MultiplicativeAttention(3, 4)
    with pytest.raises(ValueError, match=r"AttentionDecoder: got hidden_size=3 and memory_size=4"):
        rc.AttentionDecoder(2, 3, 4, attention="scaled_dot")
    with pytest.raises(ValueError, match=r"got input_feeding=False with attention='additive'"):
        rc.AttentionDecoder(2, 3, 4, input_feeding=False)
    with pytest.raises(ValueError, match=r"got attention_size=3 with attention='dot'"):
        rc.AttentionDecoder(2, 4, 4, attention="dot", attention_size=3)
    with pytest.raises(ValueError, match=r"got cell='gru2'"):
        rc.AttentionDecoder(2, 4, 4, cell="gru2")
    with pytest.raises(
        ValueError, match=r"AttentionDecoder: got cell 'min_gru', expected one whose gates see the state"
    ):
        _core.AttentionDecoder("min_gru", 2, 4, 4, attention="additive", attention_size=4)
    layer = rc.AttentionDecoder(2, 3, 4)
    x, memory = np.zeros((2, 5, 2), np.float32), np.zeros((2, 6, 4), np.float32)
    with pytest.raises(TypeError, match=r"expected a tuple of 2 inputs"):
        layer(x)
    with pytest.raises(ValueError, match=r"AttentionDecoder: .*rows"):
        layer((x, memory[:1]))
    with pytest.raises(ValueError, match=r"AttentionDecoder: .*features, expected 4"):
        layer((x, memory[:, :, :3]))
    with pytest.raises(ValueError, match=r"AttentionDecoder: got reset, expected none"):
        layer((x, memory), reset=(np.zeros((2, 5), bool), None))
    with pytest.raises(ValueError, match=r"AttentionDecoder.stream: .*memory"):
        layer.stream()
    with pytest.raises(ValueError, match=r"AttentionDecoder.weights: memory has shape"):
        layer.weights((x, memory[:1]))
    with pytest.raises(ValueError, match=r"AttentionDecoder.weights: query has shape"):
        layer.weights((x[:, :, :1], memory))
    with pytest.raises(ValueError, match=r"AttentionDecoder: got a memory of shape"):
        layer((rc.Input(features=2), rc.Input(features=3)))


#: A decoder's arguments, the layer whose cell it has, and what the core and older files call it.
CELL_NAMES: list[tuple[dict[str, Any], Any, str]] = [
    ({"cell": "GRU"}, rc.GRU, "gru"),
    ({"cell": "gru", "reset_after": False}, rc.GRU, "gru_reset_before"),
    ({"cell": "LSTM", "forget_bias": 1.5}, rc.LSTM, "lstm"),
    ({"cell": "RNN"}, rc.RNN, "rnn_tanh"),
    ({"cell": "rnn", "nonlinearity": "relu", "recurrent_init": "orthogonal"}, rc.RNN, "rnn_relu"),
    ({"cell": "Rnn", "nonlinearity": "sigmoid"}, rc.RNN, "rnn_sigmoid"),
]


@pytest.mark.parametrize(("options", "layer", "old"), CELL_NAMES, ids=[old for *_, old in CELL_NAMES])
def test_cells_are_named_and_set_as_their_layers(options: dict[str, Any], layer: Any, old: str) -> None:
    """With the options of the layer, whose first weights they share; the core's names do as well."""
    x = (np.ones((2, 3, 2), np.float32), np.ones((2, 5, 4), np.float32))
    decoder = rc.AttentionDecoder(2, 4, 4, attention="dot", input_feeding=False, seed=0, **options)
    drawn = {name: value for name, value in options.items() if name != "cell"}
    own = layer(2, 4, seed=0, **drawn)
    h = own(x[0])[0]
    for name in own.params:
        decoder.params[name] = own.params[name]
    other = rc.AttentionDecoder(2, 4, 4, cell=old, attention="dot", input_feeding=False, seed=1)
    other.load_state_dict(decoder.state_dict())
    y, _ = decoder(x)
    assert_same_bits(other(x)[0], y)
    context = np.einsum("nqm,nmk->nqk", decoder.weights(x), x[1])
    wanted = np.tanh(np.concatenate([context, h], axis=-1) @ decoder.params["weight_combine"].T)
    np.testing.assert_allclose(y, wanted, rtol=0, atol=1e-6)
    for twin in (decoder, other):
        again = rc.AttentionDecoder.from_config(twin.config())
        assert again.config() == twin.config()
        again.load_state_dict(twin.state_dict())
        assert_same_bits(again(x)[0], y)
    older = {name: value for name, value in other.config().items() if name not in ("reset_after", "nonlinearity")}
    del older["forget_bias"], older["recurrent_init"]
    aged = rc.AttentionDecoder.from_config(older)
    aged.load_state_dict(decoder.state_dict())
    assert_same_bits(aged(x)[0], y)
    assert rc.AttentionDecoder.count_parameters(older) == decoder.parameters.size
    fresh = rc.AttentionDecoder(2, 4, 4, seed=3, **options)
    if "forget_bias" in options:
        np.testing.assert_array_equal(fresh.params["bias_ih_l0"][4:8], 1.5)
        assert not fresh.params["bias_hh_l0"][4:8].any()
    if "recurrent_init" in options:
        weight = fresh.params["weight_hh_l0"]
        np.testing.assert_allclose(weight @ weight.T, np.eye(4), atol=1e-6)


def test_a_decoders_options_belong_to_their_cells() -> None:
    for options, text in [
        ({"cell": "MinGRU"}, r"cell='MinGRU', expected one of 'gru', 'lstm', 'rnn'"),
        ({"cell": "LSTM", "reset_after": False}, "it is an option of GRU"),
        ({"cell": "GRU", "nonlinearity": "relu"}, "it is an option of RNN"),
        ({"cell": "rnn_relu", "nonlinearity": "sigmoid"}, "cell='rnn_relu'"),
        ({"cell": "RNN", "nonlinearity": "gelu"}, "nonlinearity"),
        ({"cell": "GRU", "forget_bias": 1.0}, "it is an option of LSTM"),
        ({"cell": "LSTM", "forget_bias": 1.0, "bias": False}, "expected bias=True"),
        ({"recurrent_init": "identity"}, "'orthogonal'"),
    ]:
        with pytest.raises(ValueError, match=text):
            rc.AttentionDecoder(2, 4, 4, **options)
