"""Cell options: what the tables in cell_variants.py do not say by themselves. Those take every option through the tests
of values, gradients, invariance, ragged batches and streams, in inference; here come the masks of training, first
values, statistics."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from test_gradients import assert_central_differences

import masks
import recurra as rc
import torch_peer
from agreement import assert_as_close_as, assert_same_bits
from array_types import DTYPES, Array
from cell_cases import Case, draw, option_grid, pad, steady, take
from cell_runs import Outcome, assert_same_outcome, forward, make_layer, solve, solver, specified
from cell_variants import CELLS, NORMALISED, VARIANTS

pytestmark = pytest.mark.every_isa

RANDOM = [case for case in option_grid() if case.variant.random]
MASKED = [cell for cell in CELLS if VARIANTS[cell].random]


@pytest.mark.parametrize("case", RANDOM, ids=str)
def test_training_is_the_specification(case: Case) -> None:
    """With the masks of numpy's Philox."""
    problem = draw(case)
    y, state = specified(problem, training=True)
    outcome = solve(problem, "float64", training=True)
    for actual, expected in zip((outcome.y, *outcome.state), (y, *state), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-12 * max(1.0, np.abs(expected).max()))


@pytest.mark.parametrize("case", RANDOM, ids=str)
def test_training_agrees_with_autograd(case: Case) -> None:
    actual, peer = solve(draw(case), "float64", training=True), torch_peer.solved(case, "float64", training=True)
    for (name, mine), (_, its) in zip(actual.arrays(), peer.arrays(), strict=True):
        # As in test_gradients.
        np.testing.assert_allclose(mine, its, rtol=0, atol=1e-11 * max(1.0, np.abs(its).max(initial=0.0)), err_msg=name)


@pytest.mark.parametrize("case", steady(RANDOM), ids=str)
def test_float32_training_is_as_close_as_torch(case: Case) -> None:
    exact, peer = (torch_peer.solved(case, dtype, training=True) for dtype in ("float64", "float32"))
    actual = solve(draw(case), "float32", training=True)
    for (name, mine), (_, its), (_, truth) in zip(actual.arrays(), peer.arrays(), exact.arrays(), strict=True):
        assert_as_close_as(its, mine, truth, name)


@pytest.mark.parametrize("size", [(1, 5, 5, 7, 1), (3, 17, 3, 7, 2), (20, 45, 3, 12, 1)], ids=str)
@pytest.mark.parametrize("cell", NORMALISED)
def test_float32_layer_norm_is_as_close_as_torch_on_average(cell: str, size: tuple[int, ...]) -> None:
    """The geometric mean, over twelve problems, of our errors over the peer's: at most the 2 of every other cell."""
    inputs, hidden, rows, steps, layers = size
    ratios: dict[str, list[float]] = {}
    for seed in range(12):
        case = Case(cell, inputs, hidden, rows, steps, layers, seed=seed)
        exact, peer = (torch_peer.solved(case, dtype, training=True) for dtype in ("float64", "float32"))
        actual = solve(draw(case), "float32", training=True)
        for (name, mine), (_, its), (_, truth) in zip(actual.arrays(), peer.arrays(), exact.arrays(), strict=True):
            errors = [np.sqrt(np.square(array - truth).mean()) + 1e-12 for array in (mine, its)]
            ratios.setdefault(name, []).append(errors[0] / errors[1])
    for name, values in ratios.items():
        assert np.exp(np.log(values).mean()) <= 2.0, name


# (input, hidden, rows, steps, layers)
DIFFERENCE_SIZES = [(1, 1, 1, 1, 1), (3, 5, 3, 6, 2), (2, 17, 2, 2, 1), (20, 16, 2, 3, 1), (3, 45, 2, 3, 1)]


@pytest.mark.parametrize("size", DIFFERENCE_SIZES, ids=str)
@pytest.mark.parametrize("cell", [name for name, variant in VARIANTS.items() if variant.keywords])
def test_central_differences_in_training(cell: str, size: tuple[int, ...]) -> None:
    inputs, hidden, rows, steps, layers = size
    flags = {"bidirectional": hidden in (5, 17), "ragged": hidden == 5, "resets": hidden > 5}
    assert_central_differences(draw(Case(cell, inputs, hidden, rows, steps, layers, **flags, seed=5)), training=True)


@pytest.mark.parametrize("cell", ["lstm+extended", "lstm+all", "gru+all", "rnn_tanh+all"])
def test_no_bias(cell: str) -> None:
    problem = draw(Case(cell, 3, 17, 3, 5, 2, bidirectional=True, bias=False))
    assert_central_differences(problem, training=True)


def assert_same_first_rows(actual: Outcome, expected: Outcome, rows: int, steps: int) -> None:
    assert_same_bits(actual.y[:, :steps], expected.y[:rows, :steps], "y")
    assert_same_bits(actual.dx[:, :steps], expected.dx[:rows, :steps], "dx")
    for one, other in zip(actual.state + actual.dstate, expected.state + expected.dstate, strict=True):
        assert_same_bits(one, other[:, :rows], "state")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [(3, 5, 9), (20, 67, 12), (3, 17, 150)], ids=str)
@pytest.mark.parametrize("cell", MASKED)
def test_masks_do_not_depend_on_the_batch(cell: str, size: tuple[int, ...], dtype: str) -> None:
    """The rows before others, padding, other lengths of the others: the same bits in training."""
    inputs, hidden, steps = size
    problem = draw(Case(cell, inputs, hidden, 17, steps, 2, bidirectional=True, ragged=True, resets=True))
    layer = solver(problem, dtype)
    whole = solve(problem, dtype, layer, training=True)
    for rows in (1, 2, 5, 8, 16):
        few = solve(take(problem, range(rows)), dtype, layer, training=True)
        assert_same_first_rows(few, whole, rows, steps)
    padded = solve(pad(problem, 11), dtype, layer, training=True)
    assert_same_first_rows(padded, whole, 17, steps)
    assert problem.lengths is not None
    shorter = replace(problem, lengths=np.where(np.arange(17) < 9, problem.lengths, problem.lengths // 2))
    other = solve(shorter, dtype, layer, training=True)
    assert_same_bits(other.y[:9], whole.y[:9], "y")
    assert_same_bits(other.dx[:9], whole.dx[:9], "dx")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", MASKED)
def test_threads_change_no_bit_in_training(cell: str, dtype: str) -> None:
    for case in (
        Case(cell, 32, 64, 64, 60),
        Case(cell, 32, 128, 3, 60),
        Case(cell, 32, 33, 37, 60, 2, bidirectional=True, ragged=True, resets=True),
    ):
        problem = draw(case)
        layer = solver(problem, dtype)
        rc.set_num_threads(1)
        expected = solve(problem, dtype, layer, training=True)
        for threads in (2, 3):
            rc.set_num_threads(threads)
            assert_same_outcome(solve(problem, dtype, layer, training=True), expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", [name for name, variant in VARIANTS.items() if variant.keywords])
def test_every_option_streams(cell: str, dtype: str) -> None:
    """Inference in steps, and in chunks, has the bits of a whole call."""
    for rows, hidden in ((1, 45), (5, 17)):
        problem = draw(Case(cell, 3, hidden, rows, 12, 2, resets=True, state=False))
        layer, x = solver(problem, dtype), problem.x.astype(dtype)
        assert problem.reset is not None
        whole, _ = layer(x, reset=problem.reset)
        stream = layer.stream(batch_size=rows)
        steps = [stream.step(x[:, t], reset=problem.reset[:, t]) for t in range(12)]
        assert_same_bits(np.stack(steps, axis=1), whole, "steps")
        stream.reset()
        chunks = [stream.process(x[:, part], reset=problem.reset[:, part]) for part in (slice(7), slice(7, 12))]
        assert_same_bits(np.concatenate(chunks, axis=1), whole, "chunks")


def test_a_projected_state_has_two_sizes() -> None:
    layer = rc.LSTM(3, 20, 2, proj_size=7, bidirectional=True, seed=0)
    x = np.zeros((5, 4, 3), np.float32)
    y, state = layer(x)
    assert layer.output_size == 14
    assert y.shape == (5, 4, 14)
    expected = [(4, 5, 7), (4, 5, 20)]
    for parts in (state, layer.init_state(5), layer.record(x).state):
        assert [part.shape for part in parts] == expected
    model = rc.Sequential(rc.LSTM(3, 20, 2, proj_size=7), rc.Linear(7, 2))
    stream = model.stream(batch_size=5)
    assert stream.process(x).shape == (5, 4, 2)
    assert [part.shape for part in stream.state()[0]] == [(2, 5, 7), (2, 5, 20)]
    with pytest.raises(ValueError, match="7"):
        rc.Sequential(rc.LSTM(3, 20, proj_size=7), rc.Linear(20, 2))


def test_an_option_that_does_nothing_changes_nothing() -> None:
    """Peepholes of 0, a bound that nobody reaches."""
    problem = draw(Case("lstm", 3, 17, 5, 9, 2, bidirectional=True, ragged=True, resets=True))
    expected = solve(problem, "float64")
    layer = make_layer(problem.case, "float64", peepholes=True, cell_clip=1e6)
    with layer.edit() as params:
        for name, value in layer.params.items():
            params[name][...] = problem.params.get(name, np.zeros_like(value))
    assert_same_outcome(solve(problem, "float64", layer), expected)


@pytest.mark.parametrize("bound", [0.05, 0.2])
def test_a_clipped_state_is_within_its_bound(bound: float) -> None:
    problem = draw(Case("lstm", 3, 17, 5, 30))
    layer = make_layer(problem.case, "float32", cell_clip=bound)
    _, (_, c) = layer(problem.x.astype("float32"))
    assert np.abs(c).max() == np.float32(bound)


def ones_through(seed: int, **options: Any) -> Array:
    """tanh(mask * 1) of an RNN of 200 units on 30 rows and 40 steps whose weights are the unit matrix and 0."""
    layer = rc.RNN(200, 200, seed=0, **options)
    with layer.edit() as params:
        for value in params.values():
            value[...] = 0.0
        params["weight_ih_l0"][...] = np.eye(200)
    y: Array = layer.record(np.ones((30, 40, 200), np.float32), seed=seed).y
    return y


def assert_share(hits: Array, p: float) -> None:
    """Of independent draws, within five standard deviations."""
    assert abs(hits.mean() - p) < 5 * np.sqrt(p * (1 - p) / hits.size)


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_the_input_mask_is_one_per_sequence(p: float) -> None:
    y = ones_through(3, input_dropout=p)
    dropped = y[:, 0] == 0
    assert_share(dropped, p)
    np.testing.assert_allclose(y[:, 0][~dropped], np.tanh(1 / (1 - p)), rtol=1e-6)
    assert (y == y[:, :1]).all(), "the same at every step"
    for other in (
        ones_through(4, input_dropout=p)[:, 0] == 0,
        np.roll(dropped, 1, axis=0),
        np.roll(dropped, 1, axis=1),
    ):
        assert_share(dropped == other, p**2 + (1 - p) ** 2)


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_zoneout_keeps_units_step_by_step(p: float) -> None:
    """y is 0 until the first step at which the unit is not left as it was, and stays: the masks of all steps in one."""
    y = ones_through(3, zoneout=p)
    alive = y != 0
    np.testing.assert_allclose(y[alive], np.tanh(1.0), rtol=1e-6)
    for t in range(4):
        assert_share(~alive[:, t], p ** (t + 1))


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_zoneout_takes_its_mean_in_inference(p: float) -> None:
    x, h = np.zeros((1, 1, 200), np.float32), np.ones((1, 1, 200), np.float32)
    y, _ = rc.RNN(200, 200, zoneout=p, seed=0)(x, state=h)
    new, _ = rc.RNN(200, 200, seed=0)(x, state=h)
    np.testing.assert_allclose(y, p + (1 - p) * new, rtol=1e-5, atol=1e-6)


def test_masks_are_independent_of_one_another() -> None:
    """Kinds, layers, directions, rows, units and, for zoneout, steps."""
    row, step = np.indices((20, 15))
    streams = [kind << 20 | slot for kind in range(1, 5) for slot in range(3)] + [0, 1]
    drawn = [masks.hit(7, stream, row, step, 150, 0.5) for stream in streams]
    drawn += [np.roll(drawn[0], 1, axis) for axis in range(3)] + [masks.hit(8, streams[0], row, step, 150, 0.5)]
    for k, one in enumerate(drawn):
        assert_share(one, 0.5)
        for other in drawn[:k]:
            assert_share(one == other, 0.5)


@pytest.mark.parametrize("cell", MASKED)
def test_training_false_is_inference(cell: str) -> None:
    problem = draw(Case(cell, 3, 17, 5, 9, 2, bidirectional=True, ragged=True))
    layer = solver(problem, "float32")
    y, _ = forward(problem, "float32", layer)
    assert_same_bits(solve(problem, "float32", layer).y, y)
    assert not np.array_equal(solve(problem, "float32", layer, training=True).y, y)


ORTHOGONAL: dict[str, Any] = {"recurrent_init": "orthogonal"}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("make", [rc.RNN, rc.LSTM, rc.GRU])
def test_orthogonal_recurrent_weights(make: Any, dtype: str) -> None:
    layer, plain = (make(3, 17, 2, bidirectional=True, dtype=dtype, seed=5, **init) for init in (ORTHOGONAL, {}))
    for name, value in layer.params.items():
        if not name.startswith("weight_hh"):
            continue
        assert not np.array_equal(value, plain.params[name])
        for block in np.split(value.astype(np.float64), layer.gates):
            np.testing.assert_allclose(block @ block.T, np.eye(17), rtol=0, atol=1e-6 if dtype == "float32" else 1e-14)
    determinants = [
        np.linalg.det(block) for seed in range(30) for block in gates_of(make(1, 3, seed=seed, **ORTHOGONAL))
    ]
    assert min(determinants) < 0 < max(determinants), "rotations and reflections alike"


def gates_of(layer: Any) -> list[Array]:
    return np.split(layer.params["weight_hh_l0"], layer.gates)


def test_orthogonal_columns_of_a_projected_lstm() -> None:
    for block in gates_of(rc.LSTM(3, 17, proj_size=4, dtype="float64", seed=5, **ORTHOGONAL)):
        assert block.shape == (17, 4)
        np.testing.assert_allclose(block.T @ block, np.eye(4), rtol=0, atol=1e-14)


@pytest.mark.parametrize("value", [1.0, -2, 0])
def test_the_forget_bias(value: float) -> None:
    layer, plain = (rc.LSTM(3, 5, 2, bidirectional=True, forget_bias=bias, seed=5) for bias in (value, None))
    forget = slice(5, 10)
    for name, array in layer.params.items():
        expected = plain.params[name].copy()
        if name.startswith("bias"):
            expected[forget] = value if name.startswith("bias_ih") else 0.0
        assert_same_bits(array, expected, name)
    layer.reset_parameters(6)
    assert (layer.params["bias_ih_l1_reverse"][forget] == value).all()


@pytest.mark.parametrize("cell", [name for name, variant in VARIANTS.items() if variant.keywords])
def test_parameters_are_named_in_the_order_of_the_buffer(cell: str) -> None:
    case = Case(cell, 3, 17, num_layers=3, bidirectional=True)
    layer = make_layer(case)
    assert [(name, value.shape) for name, value in layer.params.items()] == [
        (name, value.shape) for name, value in draw(case).params.items()
    ]
    assert layer.count_parameters(layer.config()) == sum(value.size for value in layer.params.values())


def test_training_learns_with_every_option() -> None:
    """The parity of the bits so far: a small LSTM with all options learns it."""
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2, (256, 6))
    x, y = bits[:, :, None].astype(np.float32) * 2 - 1, np.cumsum(bits, axis=1) % 2
    options: dict[str, Any] = {**VARIANTS["lstm+all"].keywords, "cell_clip": 3.0, "forget_bias": 1.0, **ORTHOGONAL}
    options |= dict.fromkeys(("input_dropout", "recurrent_dropout", "zoneout", "zoneout_cell"), 0.02)
    model = rc.Sequential(rc.LSTM(1, 24, **options), rc.Linear(20, 2), seed=0)
    model.fit(x, y, loss=rc.losses.CrossEntropy(), optimizer=rc.optim.Adam(0.01), epochs=60, seed=0, verbose=0)
    prediction, _ = model(x)
    assert (prediction.argmax(axis=2) == y).mean() > 0.97


@pytest.mark.parametrize("make", [rc.RNN, rc.LSTM, rc.GRU, rc.MinGRU, rc.MinLSTM])
def test_dropout_of_a_single_layer_is_warned_of(make: Any) -> None:
    """It lies between layers; the warning points at the line that asks for it."""
    with pytest.warns(UserWarning, match=rf"{make.__name__}: got dropout=0.5 with num_layers=1") as found:
        make(3, 16, dropout=0.5)
    assert found[0].filename == __file__
    make(3, 16, 2, dropout=0.5)
    make(3, 16)
