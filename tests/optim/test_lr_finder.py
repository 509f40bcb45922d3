"""The range test: what it suggests trains well, and nothing is left of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import recurra as rc
from agreement import assert_same_bits
from array_types import Array
from fresh_python import run_python
from recurra.optim import lr_finder
from user_layers import Failing

STEPS = {"start": 1e-5, "stop": 10.0, "steps": 60, "batch_size": 16, "verbose": 0, "seed": 0}


def task() -> tuple[Array, Array]:
    """The sign of the sum of a short series."""
    x = np.random.default_rng(0).standard_normal((160, 8, 3)).astype(np.float32)
    return x, (x.sum(axis=(1, 2)) > 0).astype(np.int64)


def classifier() -> Any:
    return rc.Sequential(
        rc.BatchNorm(3), rc.GRU(3, 16, dropout=0.1, num_layers=2, return_sequences=False), rc.Linear(16, 2), seed=0
    )


def everything(model: Any, optimizer: Any) -> dict[str, Any]:
    grads = {f"grad {name}": array.copy() for name, array in model.grads.items()}
    return {**model.state_dict(), **optimizer.state_dict(), **grads}


def assert_nothing_changed(now: dict[str, Any], before: dict[str, Any]) -> None:
    assert now.keys() == before.keys()
    for name, array in before.items():
        assert_same_bits(now[name], array, name)


def trained() -> tuple[Any, Any]:
    model, optimizer = classifier(), rc.optim.Adam(rc.optim.schedules.CosineDecay(1e-3, 100))
    model.fit(*task(), loss=rc.losses.CrossEntropy(), optimizer=optimizer, seed=0, verbose=0)
    return model, optimizer


def test_nothing_is_left_of_it() -> None:
    model, optimizer = trained()
    before = everything(model, optimizer)
    found = rc.optim.find_lr(model, *task(), loss=rc.losses.CrossEntropy(), optimizer=optimizer, clip_norm=1.0, **STEPS)
    assert_nothing_changed(everything(model, optimizer), before)
    again = rc.optim.find_lr(model, *task(), loss=rc.losses.CrossEntropy(), optimizer=optimizer, clip_norm=1.0, **STEPS)
    assert_same_bits(again.losses, found.losses)
    assert optimizer.lr == optimizer.schedule(optimizer.steps)


def test_the_suggestion_trains() -> None:
    """Far better than a rate a thousand times smaller, and it lies within the range that was tried."""
    losses = []
    for factor in (1.0, 1e-3):
        model = classifier()
        found = rc.optim.find_lr(model, *task(), loss=rc.losses.CrossEntropy(), **STEPS)
        assert found.suggestion is not None
        assert found.rates[0] < found.suggestion < found.rates[int(np.argmin(found.smoothed))]
        optimizer = rc.optim.Adam(found.suggestion * factor)
        history = model.fit(*task(), loss=rc.losses.CrossEntropy(), optimizer=optimizer, epochs=5, seed=0, verbose=0)
        losses.append(history.history["loss"][-1])
    assert losses[0] < 0.5 * losses[1]


def test_a_quadratic_has_a_known_answer() -> None:
    """w -= lr w shrinks the loss w^2 / 2 for 0 < lr < 2 and makes it grow beyond."""
    model = rc.Sequential(rc.Linear(1, 1, bias=False, dtype="float64"))
    model.params["0.weight"] = np.array([[3.0]])
    x, y = np.ones((40, 1, 1)), np.zeros((40, 1, 1))
    found = rc.optim.find_lr(
        model,
        x,
        y,
        loss=rc.losses.MeanSquaredError(),
        optimizer=rc.optim.SGD(0.1),
        start=1e-4,
        stop=1e3,
        steps=140,
        verbose=0,
    )
    w, expected = 3.0, []
    for rate in found.rates:
        expected.append(w * w)
        w -= rate * 2 * w
    np.testing.assert_allclose(found.losses, expected, rtol=1e-9)
    assert found.diverged
    assert len(found.losses) < 140
    np.testing.assert_allclose(found.rates, np.geomspace(1e-4, 1e3, 140)[: len(found.rates)], rtol=1e-12)
    # The loss is 9 exp(-4 sum of the rates so far); over log(rate) that falls fastest where 4 * sum = 1, to be found to
    # half a window of 14 steps.
    sums = np.cumsum(found.rates) - found.rates
    exact = found.rates[int(np.argmin(np.abs(4 * sums - 1)))]
    assert found.suggestion == pytest.approx(exact, rel=1.1 ** (14 / 2) - 1)
    assert model.params["0.weight"][0, 0] == 3.0


def test_a_loss_that_is_not_finite_ends_it() -> None:
    model = rc.Sequential(rc.Linear(1, 1, bias=False), seed=0)
    x = np.full((40, 3, 1), 1e15, np.float32)
    with pytest.warns(RuntimeWarning, match="found no rate"):
        found = rc.optim.find_lr(
            model,
            x,
            x,
            loss=rc.losses.MeanSquaredError(),
            optimizer=rc.optim.SGD(0.1),
            diverge=1e300,
            start=1.0,
            stop=1e30,
            steps=20,
            verbose=0,
        )
    assert found.diverged
    assert len(found.rates) == len(found.losses) == len(found.smoothed) < 20
    assert np.isfinite(found.losses).all()
    assert found.suggestion is None, "it never fell"


def test_an_error_on_the_way_leaves_all_as_it_was() -> None:
    failing = Failing("nowhere else")
    model = rc.Sequential(rc.BatchNorm(3), rc.GRU(3, 5), failing, rc.Linear(5, 2), seed=0)
    optimizer = rc.optim.Adam()
    x = np.random.default_rng(0).standard_normal((64, 4, 3)).astype(np.float32)
    before = everything(model, optimizer)
    with pytest.raises(RuntimeError, match="own error"):
        rc.optim.find_lr(
            model, x, np.zeros((64, 4), int), loss=rc.losses.CrossEntropy(), optimizer=optimizer, verbose=0
        )
    assert_nothing_changed(everything(model, optimizer), before)


def test_an_interrupt_leaves_all_as_it_was() -> None:
    """Ctrl-C once the weights have moved, and again while they are put back."""
    run_python(
        """
        import os, signal
        import numpy as np
        import recurra as rc
        from recurra.optim import SGD
        import test_lr_finder as t

        signal.signal(signal.SIGINT, signal.default_int_handler)

        class Interrupted(rc.Sequential):
            def record(self, *arguments, **options):
                self.calls = getattr(self, "calls", 0) + 1
                if self.calls == 5:
                    os.kill(os.getpid(), signal.SIGINT)
                return super().record(*arguments, **options)

            def load_state_dict(self, *arguments, **options):
                os.kill(os.getpid(), signal.SIGINT)
                super().load_state_dict(*arguments, **options)

        model, optimizer = Interrupted(rc.BatchNorm(3), rc.GRU(3, 5), rc.Linear(5, 2), seed=0), SGD(0.1, momentum=0.9)
        x = np.ones((64, 4, 3), np.float32) * np.arange(64, dtype=np.float32)[:, None, None]
        before = t.everything(model, optimizer)
        try:
            rc.optim.find_lr(model, x, np.zeros((64, 4), int), loss=rc.losses.CrossEntropy(), optimizer=optimizer,
                             start=1.0, verbose=0)
        except KeyboardInterrupt:
            pass
        else:
            raise AssertionError("the interrupt was lost")
        assert model.calls == 5
        t.assert_nothing_changed(t.everything(model, optimizer), before)
        """
    )


def test_ragged_rows_and_rows_without_a_step() -> None:
    x, y = task()
    model = classifier()
    rows = [row[: 1 + index % 8] for index, row in enumerate(x)]
    found = rc.optim.find_lr(model, rows, y, loss=rc.losses.CrossEntropy(), **STEPS)
    assert np.isfinite(found.losses).all()
    tagger = rc.Sequential(rc.GRU(3, 5), rc.Linear(5, 2), seed=0)
    y = np.random.default_rng(0).integers(0, 2, (160, 8))
    lengths = np.where(np.arange(160) < 32, 0, 8)
    options = {**STEPS, "shuffle": False}
    with pytest.warns(RuntimeWarning, match="found no rate"):  # the labels are random
        found = rc.optim.find_lr(tagger, x, y, lengths, loss=rc.losses.CrossEntropy(), **options)
    assert (found.losses > 0).all(), "batches in which nothing counts are passed over"
    with pytest.raises(ValueError, match=r"^find_lr: got data in which nothing counts, expected"):
        rc.optim.find_lr(tagger, x, y, 0 * lengths, loss=rc.losses.CrossEntropy(), **options)


def test_the_plot_shows_the_suggestion() -> None:
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    found = rc.optim.LRRangeTest(np.array([0.1, 1.0]), np.array([2.0, 1.0]), np.array([2.0, 1.5]), 0.3, False)
    _figure, given = plt.subplots()
    assert found.plot(given) is given
    assert given.get_xscale() == "log"
    np.testing.assert_array_equal(given.lines[1].get_xydata(), [[0.1, 2.0], [1.0, 1.5]])
    assert any("0.3" in text.get_text() for text in given.get_legend().get_texts())
    own = found.plot()
    assert own is not given
    plt.close("all")


@pytest.mark.parametrize(
    "options",
    [
        {"start": 0.0},
        {"start": 1.0, "stop": 0.1},
        {"steps": 5},
        {"batch_size": 0},
        {"optimizer": "adamm"},
        {"loss": "msee"},
        {"diverge": 0.0},
        {"clip_norm": -1.0},
        {"clip_value": "much"},
        {"shuffle": 1},
        {"verbose": 2},
        {"seed": -1},
        {"x": np.zeros((3, 4), np.float32)},
        {"y": np.zeros(3)},
        {"model": rc.GRU(3, 5)},
    ],
)
def test_what_does_not_fit_is_explained(options: dict[str, Any]) -> None:
    x, y = task()
    arguments = {"model": classifier(), "x": x, "y": y, "loss": rc.losses.CrossEntropy(), **options}
    with pytest.raises((ValueError, TypeError), match=r"^find_lr: got .*expected .*; "):
        rc.optim.find_lr(**arguments)


def curve(kind: str, rng: np.random.Generator, steps: int) -> list[float]:
    """Losses of a range test."""
    noise, along = 0.1 * rng.standard_normal(steps), np.linspace(0, 1, steps)
    falls = np.clip(4 * along - 2, 0, 1)
    return (1 + {
        "flat": noise, "then up": noise + 5 * np.maximum(0, along - 0.8), "rising": noise + along,
        "skewed": np.exp(5 * noise), "valley": noise - 0.6 * falls, "slope": noise - 0.5 * along, "exact": -0.5 * falls,
    }[kind]).tolist()  # fmt: skip


@pytest.mark.parametrize("steps", [20, 50, 100, 300])
@pytest.mark.parametrize(
    ("kind", "found"),
    [
        ("flat", False),
        ("then up", False),
        ("rising", False),
        ("skewed", False),
        *((one, True) for one in ("valley", "exact")),
    ],
)
def test_noise_is_no_valley(kind: str, found: bool, steps: int) -> None:
    """Of 200 curves, at most one in thirty is taken for what it is not."""
    rates = np.geomspace(1e-6, 10, steps)
    wrong = 0
    for case in range(200):
        losses = curve(kind, np.random.default_rng(case), steps)
        weights = 0.9 ** np.subtract.outer(np.arange(steps), np.arange(steps))
        smoothed = np.tril(weights) @ losses / np.tril(weights).sum(1)
        rate = lr_finder._steepest(rates, losses, smoothed.tolist(), steps // 10)
        wrong += (rate is not None) != found
    assert wrong <= 200 / 30


def test_a_curve_without_a_valley_is_told_of() -> None:
    """Labels that have nothing to do with the inputs, in a single pass over many rows."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((800, 4), np.float32), rng.integers(0, 2, 800)
    model = rc.Sequential(rc.Linear(4, 2), seed=0)
    with pytest.warns(RuntimeWarning, match="find_lr: found no rate"):
        found = rc.optim.find_lr(
            model,
            x,
            y,
            loss=rc.losses.CrossEntropy(),
            optimizer=rc.optim.SGD(0.1),
            stop=1e-2,
            batch_size=8,
            seed=0,
            verbose=0,
        )
    assert found.suggestion is None
