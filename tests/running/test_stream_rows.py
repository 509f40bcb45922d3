"""Streams whose rows step in any company: each row has the bits of a stream of its own."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import recurra as rc
from agreement import assert_same_bits
from array_types import DTYPES, Array
from cell_cases import Case
from cell_runs import make_layer
from cell_variants import VARIANTS
from stream_models import FEATURES, MODELS, TOKENS, flat
from user_layers import Failing

ROWS = 7


def forms(rows: Sequence[int], batch_size: int, rng: np.random.Generator) -> Any:
    """The same rows as one of the things that name them."""
    mask = np.zeros(batch_size, bool)
    mask[list(rows)] = True
    all_forms = [list(rows), tuple(rows), np.array(rows, np.int64), np.array(rows, np.int16), np.repeat(rows, 2)[::2]]
    if list(rows) == sorted(rows):
        all_forms += [mask, mask.tolist(), np.repeat(mask, 2)[::2]]
    if len(rows) == 1:
        all_forms += [rows[0], np.int32(rows[0])]
    return all_forms[rng.integers(len(all_forms))] if len(rows) else [[], (), mask, np.zeros(0, int)][rng.integers(4)]


class Company:
    """One stream of many rows beside a stream for each, which do the same and are compared."""

    def __init__(self, model: Any, make_x: Callable[[int, int], Array], batch_size: int, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.make_x, self.batch_size = make_x, batch_size
        self.shared = model.stream(batch_size)
        self.alone = [model.stream(1) for _ in range(batch_size)]

    def some(self, least: int = 0) -> list[int]:
        count = int(self.rng.integers(least, self.batch_size + 1))
        rows = self.rng.permutation(self.batch_size)[:count]
        order = self.rng.integers(3)
        if order == 0:
            rows = np.sort(rows)
        elif order == 1:  # side by side
            rows = np.arange(count) + self.rng.integers(self.batch_size - count + 1)
        return [int(row) for row in rows]

    def feed(self, rows: list[int], steps: int | None, can_reset: bool = True) -> None:
        x = self.make_x(len(rows), 1 if steps is None else steps)
        reset = self.rng.random(x.shape[:2]) < 0.2 if can_reset and self.rng.random() < 0.4 else None
        if steps is None:
            x, reset = x[:, 0], None if reset is None else reset[:, 0]
        method = "step" if steps is None else "process"
        every = rows == list(range(self.batch_size)) and self.rng.random() < 0.5
        listed = None if every else forms(rows, self.batch_size, self.rng)
        expected = [
            getattr(self.alone[row], method)(x[i : i + 1], None if reset is None else reset[i : i + 1])
            for i, row in enumerate(rows)
        ]
        given: dict[str, Any] = {} if every else {"rows": listed}
        if expected and self.rng.random() < 0.3:
            given["out"] = np.full((len(rows), *expected[0].shape[1:]), np.nan, expected[0].dtype)
        y = getattr(self.shared, method)(x, reset, **given)
        assert "out" not in given or y is given["out"]
        assert len(y) == len(rows)
        for i in range(len(rows)):
            assert_same_bits(y[i : i + 1], expected[i], f"row {rows[i]} of {listed}")

    def reset(self) -> None:
        rows = self.some()
        self.shared.reset(forms(rows, self.batch_size, self.rng))
        for row in rows:
            self.alone[row].reset()

    def copy(self) -> None:
        target = self.some(1)
        source = [int(row) for row in self.rng.integers(self.batch_size, size=len(target))]
        if self.rng.random() < 0.3:
            source = source[:1]
        self.shared.copy_rows(source, forms(target, self.batch_size, self.rng))
        states = [self.alone[row].state() for row in source]
        for i, row in enumerate(target):
            self.alone[row].load_state(states[i % len(states)])

    def move(self) -> None:
        """The state of some rows becomes that of others."""
        target = self.some()
        source = [int(row) for row in self.rng.integers(self.batch_size, size=len(target))]
        self.shared.load_state(self.shared.state(source), forms(target, self.batch_size, self.rng))
        states = [self.alone[row].state() for row in source]
        for row, state in zip(target, states, strict=True):
            self.alone[row].load_state(state)

    def twin(self) -> None:
        """Go on with a copy of the stream, its rows in another order."""
        order = self.rng.permutation(self.batch_size)
        kind = self.rng.integers(3)
        if kind == 0:
            self.shared = self.shared.fork(1, order)
            self.alone = [self.alone[row] for row in order]
        else:
            self.shared = copy.copy(self.shared) if kind == 1 else pickle.loads(pickle.dumps(self.shared))

    def compare(self) -> None:
        alone = [flat(stream.state()) for stream in self.alone]
        for index, array in enumerate(flat(self.shared.state())):
            for row in range(self.batch_size):
                assert_same_bits(array[:, row : row + 1], alone[row][index], f"state {index} of row {row}")


def keep_company(company: Company, turns: int, can_reset: bool = True) -> None:
    for _ in range(turns):
        choice = company.rng.random()
        if choice < 0.5:
            company.feed(company.some(), None, can_reset)
        elif choice < 0.6:
            company.feed(list(range(company.batch_size)), None, can_reset)
        elif choice < 0.75:
            company.feed(company.some(), int(company.rng.integers(0, 5)), can_reset)
        elif choice < 0.82:
            company.reset()
        elif choice < 0.9:
            company.copy()
        elif choice < 0.97:
            company.move()
        else:
            company.twin()
    company.compare()


def features(dtype: str, seed: int = 0, size: int = FEATURES) -> Callable[[int, int], Array]:
    rng = np.random.default_rng(seed)
    return lambda rows, steps: rng.standard_normal((rows, steps, size)).astype(dtype)


@pytest.mark.every_isa
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", VARIANTS)
def test_rows_of_a_layer_in_any_company(cell: str, dtype: str) -> None:
    layer = make_layer(Case(cell, FEATURES, 19, ROWS, 1, 2), dtype)
    keep_company(Company(layer, features(dtype), ROWS, len(cell)), 40)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", MODELS)
def test_rows_of_a_model_in_any_company(name: str, dtype: str) -> None:
    rng = np.random.default_rng(1)
    make_x = (lambda n, steps: rng.integers(0, TOKENS, (n, steps))) if name == "tokens" else features(dtype)
    keep_company(Company(MODELS[name](dtype), make_x, ROWS, 2), 60)


@pytest.mark.parametrize(("hidden", "batch_size"), [(16, 40), (128, 24), (200, 50)])
def test_many_rows_on_many_threads(hidden: int, batch_size: int) -> None:
    """Few rows' steps are prepared ones on the caller's thread; those of many are shared out."""
    layer = rc.LSTM(FEATURES, hidden, seed=0)
    keep_company(Company(layer, features("float32"), batch_size, 3), 25)


def test_a_model_with_several_inputs_and_outputs() -> None:
    x, z = rc.Input(features=FEATURES), rc.Input(features=3)
    h = rc.LSTM(FEATURES + 3, 6)(rc.Concatenate()((x, z)))
    model = rc.Model({"x": x, "z": z}, {"h": h, "y": rc.Linear(6, 2)(h)})
    rng = np.random.default_rng(0)
    shared, alone = model.stream(ROWS), [model.stream(1) for _ in range(ROWS)]
    for turn in range(30):
        rows = rng.permutation(ROWS)[: rng.integers(ROWS + 1)]
        shape = (len(rows),) if turn % 2 else (len(rows), 3)
        method = "step" if turn % 2 else "process"
        given = {name: rng.standard_normal((*shape, size)).astype("float32") for name, size in (("x", 5), ("z", 3))}
        made = getattr(shared, method)(given, rows=rows)
        assert made.keys() == {"h", "y"}
        for i, row in enumerate(rows):
            expected = getattr(alone[row], method)({name: array[i : i + 1] for name, array in given.items()})
            for name, y in made.items():
                assert_same_bits(y[i : i + 1], expected[name])


def test_out_may_be_x() -> None:
    layer = rc.RNN(FEATURES, FEATURES)
    shared, twin = layer.stream(ROWS), layer.stream(ROWS)
    x = features("float32")(3, 1)[:, 0]
    expected = twin.step(x, rows=[4, 1, 2])
    assert shared.step(x, out=x, rows=[4, 1, 2]) is x
    assert_same_bits(x, expected)


@pytest.mark.parametrize("name", ["windows", "mixed"])
@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([0, ROWS], rf"rows holds {ROWS}, expected 0 to {ROWS - 1}"),
        ([-1, 2], r"rows holds -1, expected 0 to"),
        ([2, 2], r"rows holds 2 twice, expected each row once"),
        ([[0, 1]], r"rows has shape \(1, 2\), expected one axis; give a list"),
        ([0.0, 1.0], r"rows has dtype float64, expected integers"),
        (np.ones(2, bool), r"rows is a mask of shape \(2,\), expected \(7,\); give one bool for every row"),
        ("ab", r"expected integers"),
        ([0, 1 << 70], r"rows"),
        (np.array([0, 2**64 - 1], np.uint64), r"rows holds \d+, expected 0 to"),
        ([0, 1, 2], r"2 rows|expected 3"),
        ([], r"expected 0"),
    ],
)
def test_rows_that_do_not_fit(name: str, rows: Any, message: str) -> None:
    """Refused before anything happens."""
    stream = MODELS[name]("float32").stream(ROWS)
    x = features("float32")(2, 3)
    stream.step(x[:, 0], rows=[0, 1])
    before = flat(stream.state())
    for call in (lambda: stream.step(x[:, 1], rows=rows), lambda: stream.process(x, rows=rows)):
        with pytest.raises((ValueError, TypeError), match=message):
            call()
    for one, other in zip(flat(stream.state()), before, strict=True):
        assert_same_bits(one, other)


def test_copies_and_states_of_rows_that_do_not_fit() -> None:
    layer = rc.LSTM(FEATURES, 4)
    stream = layer.stream(ROWS)
    state = stream.state([0, 1])
    wrong: list[tuple[Callable[[], object], str]] = [
        (lambda: stream.copy_rows([0, 1], [2, 2]), "twice"),
        (lambda: stream.copy_rows([0, 1], [2, 3, 4]), "2 rows as source and 3 as target"),
        (lambda: stream.copy_rows([ROWS], [2]), "expected 0 to"),
        (lambda: stream.copy_rows(None, [2]), "got None"),  # type: ignore[arg-type]
        (lambda: stream.load_state(state, [0, 1, 2]), "shape"),
        (lambda: stream.load_state(state, [0, 0]), "twice"),
        (lambda: stream.load_state(state, [0, -3]), "expected 0 to"),
        (lambda: stream.state([ROWS]), "expected 0 to"),
        (lambda: stream.reset([ROWS]), "expected 0 to"),
        (lambda: stream.fork(1, [ROWS]), "expected 0 to"),
        (lambda: layer.stream(0).step(np.zeros((1, FEATURES), np.float32), rows=[0]), "rows holds 0"),
    ]
    for call, message in wrong:
        with pytest.raises((ValueError, TypeError), match=rf"^LSTM\b.*{message}"):
            call()
    stream.reset([3, 3])  # harmless
    assert [array.shape for array in flat(stream.state([3, 3, 1]))] == [(1, 3, 4)] * 2


@pytest.mark.parametrize("steps", [None, 3])
def test_a_step_of_some_rows_that_fails_changes_none(steps: int | None) -> None:
    """The native runs before the layer that raises have moved on by then."""
    failing = Failing()
    model = rc.Sequential(rc.GRU(FEATURES, 6), failing, rc.LSTM(6, 4))
    stream = model.stream(ROWS)
    x = features("float32")(ROWS, 5)
    stream.process(x)
    before = flat(stream.state())
    call = stream.step if steps is None else stream.process
    given = x[:3, 0] if steps is None else x[:3, :steps]
    failing.where = "forward"
    with pytest.raises(RuntimeError):
        call(given, rows=[5, 0, 2])
    for one, other in zip(flat(stream.state()), before, strict=True):
        assert_same_bits(one, other)
    failing.where = "backward"
    fork = stream.fork(rows=[5, 0, 2])
    assert_same_bits(call(given, rows=[5, 0, 2]), (fork.step if steps is None else fork.process)(given))


@pytest.mark.parametrize("name", MODELS)
def test_streams_pickle_and_copy(name: str) -> None:
    model = MODELS[name]("float32")
    draw = np.random.default_rng(0)
    x = draw.integers(0, TOKENS, (ROWS, 6)) if name == "tokens" else features("float32")(ROWS, 6)
    stream = model.stream(ROWS)
    stream.process(x[:, :3])
    for twin in (pickle.loads(pickle.dumps(stream)), copy.copy(stream), copy.deepcopy(stream)):
        assert twin.batch_size == ROWS
        fork = stream.fork()
        assert_same_bits(twin.process(x[:, 3:]), fork.process(x[:, 3:]))


def test_copies_of_streams_and_their_models() -> None:
    """A shallow copy runs the same model, another kind a copy of it, and the one that goes with it."""
    layer = rc.LSTM(FEATURES, 4)
    stream = layer.stream(2)
    x = features("float32")(2, 1)[:, 0]
    pair = pickle.loads(pickle.dumps((layer, stream)))
    twins = {"shallow": copy.copy(stream), "deep": copy.deepcopy(stream), "pair": pair[1]}
    old = stream.fork().step(x)
    with layer.edit() as params:
        params["weight_ih_l0"][...] = 0
    assert_same_bits(twins["deep"].step(x), old)
    assert_same_bits(twins["shallow"].step(x), stream.step(x))
    with pair[0].edit() as params:
        params["bias_ih_l0"][...] = 9
    assert (twins["pair"].step(x) != old).all()
