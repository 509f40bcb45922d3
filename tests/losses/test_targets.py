"""What someone reads whose y or lengths do not fit: what was got, what was expected, what to do. Nothing is trained."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import recurra as rc

STEPS = (5, 3, 4, 2, 1, 5)
X = np.zeros((6, 5, 3), np.float32)
RAGGED = [X[row, :steps] for row, steps in enumerate(STEPS)]
LABELS = np.array([0, 1, 2, 3, 1, 2])
TAGS = np.arange(30).reshape(6, 5) % 4
RAGGED_TAGS = [TAGS[row, :steps] for row, steps in enumerate(STEPS)]
ENTROPY, BINARY, SQUARED = rc.losses.CrossEntropy(), rc.losses.BinaryCrossEntropy(), rc.losses.MeanSquaredError()
CTC, STRICT_CTC = rc.losses.CTC(), rc.losses.CTC(infeasible="error")
TO_STEPS = "leave return_sequences=True"
TO_ROWS = "return_sequences=False"


def tagger(features: int = 4) -> Any:
    return rc.Sequential(rc.GRU(3, 5, seed=0), rc.Linear(5, features, seed=0))


def classifier(features: int = 4) -> Any:
    return rc.Sequential(rc.GRU(3, 5, return_sequences=False, seed=0), rc.Linear(5, features, seed=0))


# Model, x, y, loss; got, expected, how to fix it.
SHAPES: list[tuple[Any, Any, Any, Any, str, str, str]] = [
    (classifier(), X, TAGS, ENTROPY, "y of shape (6, 5)", "(6,)", TO_STEPS),
    (tagger(), X, LABELS, ENTROPY, "y of shape (6,)", "(6, 5)", TO_ROWS),
    (classifier(), X, np.eye(4, dtype=int)[LABELS], ENTROPY, "y of shape (6, 4)", "(6,)", "write y.argmax(-1)"),
    (tagger(), X, np.eye(4, dtype=int)[TAGS], ENTROPY, "y of shape (6, 5, 4)", "(6, 5)", "write y.argmax(-1)"),
    (classifier(), X, LABELS[:, None], ENTROPY, "y of shape (6, 1)", "(6,)", "write y[..., 0]"),
    (classifier(1), X, LABELS, SQUARED, "y of shape (6,)", "(6, 1)", "write y[..., None]"),
    (tagger(1), X, TAGS, SQUARED, "y of shape (6, 5)", "(6, 5, 1)", "write y[..., None]"),
    (tagger(1), X, LABELS[:, None], SQUARED, "y of shape (6, 1)", "(6, 5, 1)", TO_ROWS),
    (classifier(2), X, np.zeros((6, 3)), SQUARED, "y of shape (6, 3)", "(6, 2)", "change the size of the last layer"),
    (classifier(), X, LABELS, SQUARED, "y of shape (6,)", "(6, 4)", "use CrossEntropy"),
    (tagger(), X, TAGS, BINARY, "y of shape (6, 5)", "(6, 5, 4)", "use CrossEntropy"),
    (classifier(3), X, LABELS, rc.losses.Quantile(), "y of shape (6,)", "(6, 1)", "write y[..., None]"),
    (classifier(), X, LABELS[:5], ENTROPY, "y with 5 rows", "6, as x has", "one target for each row"),
    (tagger(), RAGGED, RAGGED_TAGS[:5], ENTROPY, "y with 5 rows", "6, as x has", "one target for each row"),
    (
        tagger(),
        RAGGED,
        [row[1:] for row in RAGGED_TAGS],
        ENTROPY,
        "y[0] of shape (4,)",
        "5 steps",
        "a target for every",
    ),
    (
        tagger(),
        RAGGED,
        TAGS,
        ENTROPY,
        "y[1] of shape (5,)",
        "3 steps, as the output for x[1] has",
        "a target for every",
    ),
    (tagger(), RAGGED, LABELS, ENTROPY, "y[0] of shape ()", "5 steps", TO_ROWS),
    (tagger(2), RAGGED, RAGGED_TAGS, SQUARED, "y[0] of shape (5,)", "(5, 2)", "use CrossEntropy"),
    (
        classifier(),
        RAGGED,
        RAGGED_TAGS,
        ENTROPY,
        "y with rows of different lengths",
        "one target for each row",
        TO_STEPS,
    ),
    (tagger(), X, RAGGED_TAGS, ENTROPY, "y with rows of different lengths", "one array", "pad y to the steps of x"),
]
VALUES: list[tuple[Any, Any, Any, Any, str, str, str]] = [
    (classifier(), X, LABELS + 1, ENTROPY, "labels from 1 to 4 in y", "0 to 3", "make the last layer give 5 features"),
    (tagger(), RAGGED, [t + 1 for t in RAGGED_TAGS], ENTROPY, "labels from 1 to 4 in y[0]", "0 to 3", "from 0"),
    (tagger(), X, TAGS - 1, ENTROPY, "labels from -1 to 2 in y", "0 to 3", "CrossEntropy(ignore_index=-1)"),
    (tagger(), X, np.where(TAGS, TAGS, -100), ENTROPY, "labels from -100 to 3", "0 to 3", "ignore_index=-100"),
    (classifier(), X, (LABELS - 1).astype(np.uint64), ENTROPY, "to 9223372036854775807 in y", "0 to 3", "number the"),
    (classifier(1), X, LABELS % 2, ENTROPY, "labels from 0 to 1 in y", "0 to 0", "use BinaryCrossEntropy"),
    (classifier(), X, LABELS.astype(float), ENTROPY, "y of float64", "integer labels", "write y.astype(np.int64)"),
    (classifier(), X, LABELS + 0.5, ENTROPY, "y of float64", "integer labels", "MeanSquaredError"),
    (classifier(), X, np.eye(4)[LABELS], ENTROPY, "y of float64", "integer labels", "write y.argmax(-1)"),
    (classifier(2), X, LABELS > 1, ENTROPY, "y of bool", "integer labels", "BinaryCrossEntropy"),
    (classifier(), X, list("abcdef"), ENTROPY, "text in y", "numbers", "np.unique(y, return_inverse=True)[1]"),
    (classifier(), X, None, ENTROPY, "y=None", "targets", "give y"),
    (classifier(), X, np.array([None] * 6), ENTROPY, "y of dtype object", "real numbers", "convert it"),
    (
        classifier(1),
        X,
        LABELS[:, None],
        BINARY,
        "values from 0 to 3 in y",
        "0 to 1",
        "CrossEntropy for several classes",
    ),
    (classifier(1), X, np.full((6, 1), np.nan), SQUARED, "NaN or infinity in y", "finite numbers", "fill gaps in"),
    (tagger(), RAGGED, [[1], [9], *[[1]] * 4], CTC, "labels from 9 to 9 in y[1]", "0 to 3", "10 features"),
    (tagger(), RAGGED, [[1], [0], *[[1]] * 4], CTC, "the blank, 0, in y[1]", "labels only", "change blank"),
    (tagger(), RAGGED, [*[[1]] * 4, [1, 2], [1]], STRICT_CTC, "2 labels in y[4]", "a feasible target", "longer"),
    (
        tagger(),
        X,
        np.array([*[[1, -1]] * 5, [1, 1]]).repeat(3, 1),
        STRICT_CTC,
        "6 labels in row 5 of y",
        "feasible",
        "longer",
    ),
]
LENGTHS: list[tuple[Any, str, str, str]] = [
    ([5, 5, 5, 6, 5, 5], "lengths[3] = 6", "0 to 5", "correct it, or pad the data"),
    ([5, 5, 5, 5, -1, 5], "lengths[4] = -1", "0 to 5", "correct it"),
    ([5, 5], "lengths of shape (2,)", "(6,)", "the valid steps of every row"),
    ([5.0] * 6, "lengths of float64", "integers", "the number of valid steps"),
]


def check(message: str, got: str, expected: str, fix: str) -> None:
    assert message.startswith("fit: got ")
    parts = message.split(", expected ", 1)[0], *message.split(", expected ", 1)[1].split("; ", 1)
    for part, words in zip(parts, (got, expected, fix), strict=True):
        assert words in part, f"{words!r} is not in {part!r} of {message!r}"


@pytest.mark.parametrize(("model", "x", "y", "loss", "got", "expected", "fix"), [*SHAPES, *VALUES])
def test_targets_that_do_not_fit(model: Any, x: Any, y: Any, loss: Any, got: str, expected: str, fix: str) -> None:
    before = model.state_dict()
    with pytest.raises((ValueError, TypeError)) as caught:
        model.fit(x, y, loss=loss, optimizer=rc.optim.SGD(0.1), verbose=0)
    check(str(caught.value), got, expected, fix)
    assert all(np.array_equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(("lengths", "got", "expected", "fix"), LENGTHS)
def test_lengths_that_do_not_fit(lengths: Any, got: str, expected: str, fix: str) -> None:
    with pytest.raises((ValueError, TypeError)) as caught:
        tagger().fit(X, TAGS, lengths, loss=ENTROPY, optimizer=rc.optim.SGD(0.1), verbose=0)
    check(str(caught.value), got, expected, fix)


def test_nested_rows_are_no_trouble() -> None:
    """Where numpy itself would complain."""
    with pytest.raises((ValueError, TypeError), match=r"^fit: got y.*expected"):
        tagger().fit(X, [[[1], [2, 3]]] * 6, loss=ENTROPY, optimizer=rc.optim.SGD(0.1), verbose=0)


def test_what_is_advised_works() -> None:
    fit = {"optimizer": rc.optim.SGD(0.1), "verbose": 0, "seed": 0}
    classifier().fit(X, np.eye(4)[LABELS].argmax(-1), loss=ENTROPY, **fit)
    classifier().fit(X, np.unique(list("abcadd"), return_inverse=True)[1], loss=ENTROPY, **fit)
    classifier(1).fit(X, (LABELS % 2)[..., None], loss=BINARY, **fit)
    tagger().fit(X, np.where(TAGS, TAGS, -100), loss=rc.losses.CrossEntropy(ignore_index=-100), **fit)
    tagger().fit(X, TAGS, STEPS, loss=ENTROPY, **fit)
    tagger().fit(RAGGED, RAGGED_TAGS, loss=ENTROPY, **fit)


@pytest.mark.parametrize("axes", [1, 2])
def test_accuracy_of_one_logit_is_binary_accuracy(axes: int) -> None:
    """Whoever follows the messages arrives."""
    model, y = classifier(1), LABELS % 2
    given: dict[str, Any] = {"loss": BINARY, "optimizer": rc.optim.SGD(0.1), "verbose": 0}
    y = y if axes == 1 else y[:, None]
    if axes == 1:
        with pytest.raises(ValueError, match=r"; write y\[\.\.\., None\]$"):
            model.fit(X, y, metrics=["accuracy"], **given)
        y = y[..., None]
    with pytest.raises(
        ValueError, match=r"metric accuracy: got the targets of BinaryCrossEntropy.*; write 'binary_accuracy'$"
    ):
        model.fit(X, y, metrics=[rc.metrics.Accuracy()], **given)
    model.fit(X, y, metrics=["binary_accuracy"], **given)
    for kind in (rc.metrics.F1, rc.metrics.Precision, rc.metrics.Recall):
        with pytest.raises(ValueError, match=r"; write metrics\.(\w+)\(threshold=0\.5\)$") as found:
            model.fit(X, y, metrics=[kind], **given)
        code = str(found.value).rpartition("; write ")[2]
        model.fit(X, y, metrics=[eval(code, {"metrics": rc.metrics})], **given)


@pytest.mark.parametrize("name", ["accuracy", "f1", "sequence_accuracy", "perplexity"])
@pytest.mark.parametrize("loss", [SQUARED, rc.losses.Huber()])
def test_accuracy_is_for_labels(name: str, loss: Any) -> None:
    with pytest.raises(ValueError, match=rf"metric {name}: got .* numbers, expected labels of classes; .*'mae'"):
        classifier(1).fit(
            X, np.ones((6, 1)), metrics=[name], loss=loss, optimizer=rc.optim.SGD(0.1), validation_split=0.5, verbose=0
        )


@pytest.mark.parametrize("loss", [BINARY, SQUARED])
def test_class_weights_of_a_loss_of_numbers(loss: Any) -> None:
    y, options = (LABELS % 2)[:, None], {"loss": loss, "optimizer": rc.optim.SGD(0.1), "verbose": 0}
    instead = r"write loss=BinaryCrossEntropy\(pos_weight=\)," if loss is BINARY else "give sample_weight,"
    with pytest.raises(
        TypeError, match=rf"class_weight for {type(loss).__name__}, .* targets are numbers, .*; {instead}"
    ):
        classifier(1).fit(X, y, class_weight={1: 2.0}, **options)
    classifier(1).fit(X, y, sample_weight=np.where(LABELS % 2, 2.0, 1.0), **options)
