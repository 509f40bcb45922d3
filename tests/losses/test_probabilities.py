"""Logits and probabilities: which a loss reads is said, mixed up it is refused; both train to the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss

import recurra as rc
from array_types import Array
from single_thread import central_difference

LENGTHS = np.array([4, 0, 6, 1])
DTYPES = ["float32", "float64"]


def garbage(x: Array) -> Array:
    """With NaN past the lengths."""
    x = x.copy()
    x[np.arange(x.shape[1]) >= LENGTHS[:, None]] = np.nan
    return x


def binary(rng: np.random.Generator, features: int = 3) -> tuple[Array, Array]:
    return rng.standard_normal((4, 6, features)), (rng.random((4, 6, features)) < 0.3).astype(float)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("weight", [3.5, [0.5, 0.0, 7.0], 1.0, 0.0])
@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("weighted", [None, "rows", "steps"])
def test_pos_weight_is_pytorchs(dtype: str, weight: Any, ragged: bool, weighted: str | None) -> None:
    rng = np.random.default_rng(0)
    x, t = binary(rng)
    t[0, 0] = 0.25  # soft targets, too
    x = x.astype(dtype)
    scale = np.ones((4, 6)) if weighted is None else rng.random((4, 6) if weighted == "steps" else (4, 1))
    scale = np.broadcast_to(scale, (4, 6)).copy()
    steps = LENGTHS if ragged else np.full(4, 6)
    given: dict[str, Any] = {"lengths": LENGTHS} if ragged else {}
    if weighted:
        given["weights"] = scale if weighted == "steps" else scale[:, 0]
    value = rc.losses.BinaryCrossEntropy(weight)(garbage(x) if ragged else x, garbage(t) if ragged else t, **given)
    leaf = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    terms = torch.nn.functional.binary_cross_entropy_with_logits(
        leaf, torch.tensor(t), pos_weight=torch.tensor(weight, dtype=torch.float64), reduction="none"
    )
    counted = torch.tensor(scale * (np.arange(6) < steps[:, None]))
    total = (terms * counted[..., None]).sum()
    total.backward()
    tolerance = 1e-6 if dtype == "float32" else 1e-13
    np.testing.assert_allclose(value.sum, total.item(), rtol=tolerance)
    np.testing.assert_allclose(value.count, 3 * counted.sum().item(), rtol=1e-12)
    assert value.gradient is not None
    assert leaf.grad is not None
    np.testing.assert_allclose(value.gradient, leaf.grad, atol=tolerance)


def test_pos_weight_has_the_same_bits_whatever_is_beside_a_row() -> None:
    x, t = binary(np.random.default_rng(1))
    loss = rc.losses.BinaryCrossEntropy([2.0, 3.0, 4.0])
    whole = loss(garbage(x), garbage(t), LENGTHS).gradient
    assert whole is not None
    for row, steps in enumerate(LENGTHS):
        alone = loss(x[row : row + 1, :steps], t[row : row + 1, :steps]).gradient
        assert alone is not None
        np.testing.assert_array_equal(whole[row, :steps], alone[0])
        assert not whole[row, steps:].any()


def softmax(x: Array) -> Array:
    shifted = np.exp(x - x.max(-1, keepdims=True))
    made: Array = shifted / shifted.sum(-1, keepdims=True)
    return made


LOSSES: dict[str, tuple[Callable[..., Any], Callable[[Array], Array]]] = {
    "binary": (rc.losses.BinaryCrossEntropy, lambda x: 1 / (1 + np.exp(-x))),
    "weighted": (lambda **own: rc.losses.BinaryCrossEntropy([2.0, 1.0, 0.5], **own), lambda x: 1 / (1 + np.exp(-x))),
    "classes": (rc.losses.CrossEntropy, softmax),
    "smoothed": (
        lambda **own: rc.losses.CrossEntropy(0.1, ignore_index=1, class_weights=[1.0, 2.0, 0.5], **own), softmax),
}  # fmt: skip


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_probabilities_have_the_loss_of_their_logits(name: str, dtype: str) -> None:
    make, activation = LOSSES[name]
    rng = np.random.default_rng(2)
    x, t = binary(rng)
    targets = rng.integers(0, 3, (4, 6)) if activation is softmax else t
    p = activation(x).astype(dtype)
    loss = make(from_logits=False)
    value = loss(garbage(p), targets, LENGTHS)
    logits = make()(x, targets, LENGTHS)
    np.testing.assert_allclose(value.sum, logits.sum, rtol=1e-5 if dtype == "float32" else 1e-12)
    assert value.count == logits.count
    np.testing.assert_allclose(loss.probabilities(p), make().probabilities(x), rtol=1e-6)
    if dtype == "float64":
        estimated = central_difference(
            lambda: loss(p, targets, LENGTHS, gradient=False).sum, p, np.arange(p.size), 1e-6
        )
        np.testing.assert_allclose(value.gradient.ravel(), estimated, atol=1e-6)


@pytest.mark.parametrize(("name", "edge"), [("binary", 0.0), ("binary", 1.0), ("classes", 0.0)])
def test_probabilities_at_the_edge_stay_finite(name: str, edge: float) -> None:
    make, _ = LOSSES[name]
    p = np.full((1, 3), edge, np.float32)
    targets: Any = np.array([0]) if name == "classes" else np.ones((1, 3))
    value = make(from_logits=False)(p, targets)
    assert np.isfinite(value.sum)
    assert np.isfinite(value.gradient).all()


def test_what_is_no_probability_is_refused() -> None:
    for loss, targets in ((rc.losses.BinaryCrossEntropy, np.ones((1, 2))), (rc.losses.CrossEntropy, np.array([1]))):
        with pytest.raises(
            ValueError, match=r"got predictions from -1 to 3 .*expected probabilities .*end the model in"
        ):
            loss(from_logits=False)(np.array([[-1.0, 3.0]]), targets)


def data(classes: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((64, 5, 2)).astype(np.float32)
    total = x.sum((1, 2))
    return x, np.digitize(total, [0.0] if classes == 2 else [-1.5, 1.5])


def model(outputs: int, last: str | None) -> Any:
    layers: list[Any] = [rc.LSTM(2, 8, return_sequences=False, seed=0), rc.Linear(8, outputs, seed=1)]
    return rc.Sequential(*layers, *([rc.Activation(last)] if last else []))


TWICE = [("bce", "sigmoid"), ("cross_entropy", "softmax"), ("cross_entropy", "sigmoid"), ("bce", "softmax")]


@pytest.mark.parametrize(("loss", "last"), TWICE)
@pytest.mark.parametrize("how", ["fit", "evaluate", "find_lr"])
def test_a_second_sigmoid_or_softmax_is_refused(loss: str, last: str, how: str) -> None:
    made = model(3, last)
    x, labels = data(3)
    y = np.eye(3)[labels] if loss == "bce" else labels
    calls = {
        "fit": lambda: made.fit(x, y, loss=loss, optimizer="adam", verbose=0),
        "evaluate": lambda: made.evaluate(x, y, loss=loss),
        "find_lr": lambda: rc.optim.find_lr(made, x, y, loss=loss),
    }
    with pytest.raises(ValueError, match=rf"^{how}: .*Activation\('{last}'\).*leave that layer out.*from_logits=False"):
        calls[how]()


def test_it_is_found_behind_layers_that_change_no_probability() -> None:
    x = rc.Input(features=2)
    p = rc.Dropout(0.1)(rc.Reverse()(rc.Activation("sigmoid")(rc.Linear(2, 3)(x))))
    both = rc.Model(x, {"a": rc.Linear(2, 3)(x), "b": p})
    array, y = np.zeros((2, 4, 2), np.float32), np.zeros((2, 4, 3))
    with pytest.raises(ValueError, match="leave that layer out"):
        both.fit(array, {"a": y, "b": y}, loss={"a": "mse", "b": "bce"}, optimizer="sgd", verbose=0)
    both.fit(array, {"a": y, "b": y}, loss={"a": "bce", "b": "mse"}, optimizer="sgd", verbose=0)
    with pytest.raises(ValueError, match="leave that layer out"):
        rc.Sequential(rc.Sequential(rc.Linear(2, 3), rc.Activation("softmax"))).fit(
            array, [[1], [1]], loss="ctc", optimizer="sgd", verbose=0
        )


@pytest.mark.parametrize(("loss", "last"), TWICE[:2])
def test_probabilities_train_as_logits_do(loss: str, last: str) -> None:
    """The layer at the end and from_logits=False: the losses, metrics and weights of logits, up to rounding."""
    x, labels = data(3)
    y = np.eye(3)[labels] if loss == "bce" else labels
    kind = rc.losses.BinaryCrossEntropy if loss == "bce" else rc.losses.CrossEntropy
    histories = []
    for made, given in ((model(3, None), kind()), (model(3, last), kind(from_logits=False))):
        histories.append(
            made.fit(x, y, loss=given, optimizer=rc.optim.Adam(0.02), metrics=["accuracy", "auc", "f1"], epochs=5,
                     seed=1, verbose=0).history
        )  # fmt: skip
        proba = made.predict_proba(x)
        histories[-1]["proba"] = [proba.mean(0)]
        if loss != "bce":
            np.testing.assert_allclose(proba.sum(-1), 1, rtol=1e-6)
            np.testing.assert_allclose(made.evaluate(x, y, loss=given), log_loss(y, proba), rtol=1e-5)
            reached = made.evaluate(x, y, loss=given, metrics="accuracy")["accuracy"]
            assert reached == accuracy_score(y, proba.argmax(-1))
    for name, values in histories[0].items():
        np.testing.assert_allclose(histories[1][name], values, rtol=1e-3, err_msg=name)
    assert histories[0]["accuracy"][-1] > histories[0]["accuracy"][0]


def test_predict_proba_says_what_it_lacks() -> None:
    made = model(3, None)
    x, labels = data(3)
    with pytest.raises(ValueError, match=r"^predict_proba: got no loss .*loss='cross_entropy'"):
        made.predict_proba(x)
    first = made.predict_proba(x, loss="cross_entropy")
    np.testing.assert_allclose(first, softmax(made.predict(x)), rtol=1e-5)
    ragged = made.predict_proba([x[0], x[1, :2]], loss=rc.losses.CrossEntropy)
    np.testing.assert_allclose(ragged[0], first[0], rtol=1e-6)
    made.fit(x, labels[:, None] * np.ones((1, 3)), loss="mse", optimizer="sgd", verbose=0)
    with pytest.raises(TypeError, match=r"^predict_proba: got a model of the loss MeanSquaredError"):
        made.predict_proba(x)


def test_predict_proba_of_ctc_and_crf() -> None:
    """The symbols' probabilities at every step; each tag's marginals."""
    x = np.random.default_rng(0).standard_normal((3, 6, 2))
    symbols = rc.Sequential(rc.GRU(2, 3), rc.Linear(3, 4), seed=0)
    np.testing.assert_array_equal(symbols.predict_proba(x, loss="ctc"), symbols.predict_proba(x, loss="cross_entropy"))
    crf = rc.CRF(3, seed=1)
    tagger = rc.Sequential(rc.GRU(2, 4), rc.Linear(4, 3), crf, seed=0)
    lengths = np.array([6, 2, 4])
    loss = rc.losses.CRF(crf)
    found = tagger.predict_proba(x, lengths, loss=loss)
    np.testing.assert_array_equal(found, crf.marginals(tagger.predict(x, lengths), lengths))
    rows = [row[:steps] for row, steps in zip(x, lengths, strict=True)]
    for one, row, steps in zip(tagger.predict_proba(rows, loss=loss), found, lengths, strict=True):
        np.testing.assert_allclose(one, row[:steps], rtol=1e-5)
        np.testing.assert_allclose(one.sum(-1), 1, rtol=1e-5)
    with pytest.raises(ValueError, match=r"^predict_proba: got mask for a model of the loss CRF"):
        tagger.predict_proba(x, loss=loss, mask=np.ones((3, 6), bool))
