"""Estimators on words, characters and other tokens, and the numbers that SequenceEncoder gives them."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline

import recurra as rc
from recurra.sklearn import Forecaster, SequenceClassifier, SequenceEncoder, SequenceRegressor, SequenceTagger
from single_thread import one_thread

RNG = np.random.default_rng(0)
#: Whether a comes before b: which letters there are tells nothing.
TEXTS = ["".join(RNG.permutation([*"ab", *RNG.choice([*"xyz"], n)])) for n in RNG.integers(0, 5, 120)]
FIRST = np.array(["ab"[text.index("b") < text.index("a")] for text in TEXTS])
#: The same as numbers, which begin at 0.
X = [np.array([*map("abxyz".index, text)]) for text in TEXTS]
OPTIONS: dict[str, Any] = {"hidden_size": 12, "max_iter": 15, "learning_rate": 0.03, "random_state": 0}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def classifier(**options: Any) -> SequenceClassifier:
    return SequenceClassifier(**{"embedding_dim": 6, **OPTIONS, **options})


def test_a_pipeline_learns_the_order_of_characters() -> None:
    pipeline = make_pipeline(SequenceEncoder(), classifier())
    assert pipeline.fit(TEXTS[:80], FIRST[:80]).score(TEXTS[80:], FIRST[80:]) > 0.9
    assert pipeline.predict(["xQb~a"]).tolist() == ["b"]  # with letters that fit has not seen
    np.testing.assert_allclose(pipeline.predict_proba(TEXTS).sum(1), 1.0)
    restored = pickle.loads(pickle.dumps(pipeline))
    np.testing.assert_array_equal(restored.predict_proba(TEXTS), pipeline.predict_proba(TEXTS))
    words = [[letter * 2 for letter in text] for text in TEXTS]
    search = GridSearchCV(clone(pipeline), {"sequenceclassifier__embedding_dim": [1, 6]}, cv=2, error_score="raise")
    assert search.fit(words, FIRST).best_score_ > 0.8
    stops = classifier(early_stopping=True).fit(X, FIRST)  # whose rows held out may have tokens of their own
    assert stops.score(X, FIRST) > 0.8


def test_forms_of_tokens_agree_and_the_model_takes_them_as_they_are() -> None:
    table = np.stack([row[:2] for row in X])
    objects = np.empty(len(table), object)
    objects[:] = list(table)
    kinds: list[Any] = [table, table.astype(np.uint8), table.astype(float), list(table), table.tolist(), objects]
    fitted = [classifier(max_iter=2).fit(x, FIRST) for x in kinds]
    expected = fitted[0].predict_proba(table)
    for x, model in zip(kinds, fitted, strict=True):
        np.testing.assert_array_equal(model.predict_proba(table), expected)
        np.testing.assert_array_equal(fitted[3].predict_proba(x), expected)
    assert [model.n_features_in_ for model in fitted] == [2, 2, 2, 1, 1, 1]
    assert fitted[0].num_embeddings_ == 5
    assert fitted[0].predict(X).shape == fitted[3].predict(X).shape == (120,)  # of any length
    with pytest.raises(ValueError, match="X has 1 features, but SequenceClassifier is expecting 2"):
        fitted[0].predict(table[:, :1])
    logits = fitted[0].model_.predict(table)
    np.testing.assert_array_equal(fitted[0].decision_function(table), np.diff(logits.astype(float))[:, 0])
    assert isinstance(fitted[0].model_.layers[0], rc.Embedding)


def test_numbers_are_read_as_before_once_embedding_dim_is_gone() -> None:
    model = classifier(max_iter=1).fit(X, FIRST)
    model.set_params(embedding_dim=None)
    before = model.predict_proba(X)  # what was fitted has its embedding
    model.fit([row[:, None] / 4 for row in X], FIRST)
    assert model.num_embeddings_ is None
    np.testing.assert_array_equal(model.set_params(embedding_dim=6).fit(X, FIRST).predict_proba(X), before)


def test_tokens_without_embedding_dim_are_told() -> None:
    rows = [[1, 2, 3], [2, 1]] * 3
    numbers = SequenceClassifier(hidden_size=2, max_iter=1)
    for x in (rows, [np.array(row) for row in rows]):
        with pytest.warns(UserWarning, match=r"taken as amounts.*write SequenceClassifier\(embedding_dim=16\)"):
            numbers.fit(x, [0, 1] * 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        numbers.fit([np.array(row, float) for row in rows], [0, 1] * 3)
        classifier(max_iter=1).fit(rows, [0, 1] * 3)


def test_parts_of_the_data() -> None:
    model = classifier(num_embeddings=6, batch_size=8)
    for _ in range(8):
        for begin in range(0, 120, 40):
            model.partial_fit(X[begin : begin + 40], FIRST[begin : begin + 40], classes=["a", "b"])
    assert model.score(X, FIRST) > 0.9
    before = model.predict_proba(X)
    with pytest.raises(ValueError, match=r"got X with the token 6, expected 0 to 5 as in fit; make the tokens with"):
        model.partial_fit([*X[:3], [6]], FIRST[:4])
    np.testing.assert_array_equal(model.predict_proba(X), before)
    model.partial_fit([[5, 0]], ["a"])  # a token that no part had
    assert (model.predict_proba(X) != before).any()
    fitted = classifier(max_iter=1).fit(X, FIRST).partial_fit(X, FIRST)  # fit has seen how many there are
    assert fitted.num_embeddings_ == 5


def test_a_weight_is_as_good_as_repetition() -> None:
    weight = RNG.integers(0, 3, len(X))
    repeated = [row for row, times in zip(X, weight, strict=True) for _ in range(times)]
    options: dict[str, Any] = {"batch_size": 400, "max_iter": 4}
    one = classifier(**options).fit(X, FIRST, sample_weight=weight)
    other = classifier(**options).fit(repeated, FIRST.repeat(weight))
    np.testing.assert_allclose(one.predict_proba(X), other.predict_proba(X), rtol=1e-4)


def test_regressor_counts() -> None:
    y = np.array([text.count("x") - text.count("z") for text in TEXTS], float)
    model = SequenceRegressor(embedding_dim=4, **{**OPTIONS, "max_iter": 30}).fit(X[:80], y[:80])
    assert model.score(X[80:], y[80:]) > 0.8
    assert model.partial_fit(X, y).predict(X).shape == (120,)


def test_a_stream_takes_token_by_token() -> None:
    tagger = SequenceTagger(embedding_dim=6, bidirectional=False, **OPTIONS).fit(X, X)
    stream = tagger.model_.stream()
    steps = [stream.step(X[0][step : step + 1]) for step in range(len(X[0]))]
    np.testing.assert_array_equal(np.concatenate(steps).argmax(-1), tagger.predict(X[:1])[0])


@pytest.mark.parametrize("crf", [False, True])
def test_tagger(crf: bool) -> None:
    """Whether a was there already."""
    tags = [np.where(np.cumsum(row == 0) > 0, "since", "before") for row in X]
    model = SequenceTagger(embedding_dim=6, crf=crf, **OPTIONS).fit(X[:80], tags[:80])
    assert model.score(X[80:], tags[80:]) > 0.9
    assert [len(row) for row in model.predict(X)] == [len(row) for row in X]
    assert model.predict_proba(X)[0].shape == (len(X[0]), 2)
    table, labels = np.stack([row[:2] for row in X]), np.stack([row[:2] for row in tags])
    assert model.predict(table).shape == (120, 2)
    assert model.fit(table, labels).predict(table).shape == (120, 2)
    with pytest.raises(ValueError, match=r"got y\[0\] of shape \(\), expected \(2,\), a label for every step"):
        model.fit(table, labels[:, 0])


def test_encoder() -> None:
    encoder = SequenceEncoder().fit([["the", "cat"], np.array(["the", "dog"]), ("old",), []])
    assert encoder.vocabulary_ == {"cat": 1, "dog": 2, "old": 3, "the": 4}
    rows = encoder.transform([["the", "new", "cat"], []])
    assert [row.tolist() for row in rows] == [[4, 0, 1], []]
    assert {row.dtype for row in rows} == {np.dtype(np.int64)}
    assert encoder.inverse_transform(rows) == [["the", None, "cat"], []]
    assert SequenceEncoder(min_frequency=2).fit(["abba", "cab"]).vocabulary_ == {"a": 1, "b": 2}
    numbers = SequenceEncoder().fit(np.array([[1000, -5], [-5, 7]]))
    assert numbers.vocabulary_ == {-5: 1, 7: 2, 1000: 3}
    assert [row.tolist() for row in numbers.transform([[7, 8]])] == [[2, 0]]
    assert clone(SequenceEncoder(min_frequency=3)).min_frequency == 3
    np.testing.assert_array_equal(
        cross_val_predict(make_pipeline(encoder, classifier(max_iter=1)), TEXTS, FIRST).shape, 120
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: SequenceClassifier().fit(TEXTS, FIRST),
            r"got X with text, .*make_pipeline\(SequenceEncoder\(\), SequenceClassifier\(embedding_dim=16\)\)",
        ),
        (
            lambda: SequenceTagger().fit([[*text] for text in TEXTS], X),
            r"got X with text, .* SequenceTagger\(embedding",
        ),
        (lambda: classifier().fit(TEXTS, FIRST), r"got text in X\[0\], expected tokens; number them with SequenceEnc"),
        (lambda: classifier().fit([[0, 1], [-1]], [0, 1]), "Negative values in data passed to X: got the token -1"),
        (lambda: classifier().fit([[0, 1], [0.5]], [0, 1]), r"got X\[1\] with 0.5, expected tokens, which are whole"),
        (lambda: classifier().fit([[0, 1], [np.inf]], [0, 1]), "got X with the token"),
        (lambda: classifier().fit([[0, 1], [np.nan]], [0, 1]), r"got X\[1\] with nan, expected tokens"),
        (
            lambda: classifier().fit(np.ones((2, 3, 1)), [0, 1]),
            "dim 3, while dim <= 2 is required by SequenceClassifier",
        ),
        (lambda: classifier().fit([np.ones((3, 1))], [0]), r"got X\[0\] of shape \(3, 1\), expected \(steps,\)"),
        (lambda: classifier().fit([0, 1], [0, 1]), r"got X\[0\] of shape \(\), expected \(steps,\), a token for each"),
        (lambda: classifier().fit([[], []], [0, 1]), "got X without any token .*; give num_embeddings"),
        (
            lambda: classifier().fit([[2**40], [1]], [0, 1]),
            r"token 1099511627776 and num_embeddings=None, expected tok",
        ),
        (lambda: classifier().fit([np.array([2**64 - 1], np.uint64), [1]], [0, 1]), "the token 18446744073709551615"),
        (lambda: classifier(num_embeddings=4).fit(X, FIRST), "got X with the token 4, expected 0 to 3; make"),
        (lambda: classifier(num_embeddings=0).fit(X, FIRST), "got num_embeddings=0, expected an integer from 1"),
        (lambda: classifier(embedding_dim=0).fit(X, FIRST), "got embedding_dim=0, expected an integer from 1"),
        (lambda: SequenceRegressor(num_embeddings=5).fit(X, FIRST), "num_embeddings=5 with embedding_dim=None"),
        (lambda: classifier().partial_fit(X, FIRST, ["a", "b"]), "num_embeddings=None on the first call, expected the"),
        (lambda: SequenceEncoder().fit([[], []]), "got 0 different tokens, none of them 1 times"),
        (lambda: SequenceEncoder(min_frequency=0).fit(TEXTS), "got min_frequency=0, expected an integer from 1"),
        (lambda: SequenceEncoder().fit(["a"]).inverse_transform([[2]]), "got the number 2, expected 0 to 1"),
    ],
)
def test_errors(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SequenceEncoder().fit("text"), "got X='text' of type str, expected sequences; give a list of strings"),
        (lambda: SequenceEncoder().fit([1, 2]), r"got X\[0\]=1 of type int, expected a string, or a list of tokens"),
        (lambda: SequenceEncoder().fit([[["a"]]]), r"got a token \['a'\] of type list in X\[0\], expected a string"),
        (lambda: SequenceEncoder().fit([["a", 1]]), "tokens that have no order, expected all strings or all numbers"),
        (lambda: Forecaster(embedding_dim=4), "embedding_dim"),  # type: ignore[call-arg]
    ],
)
def test_wrong_types(call: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        call()


def test_unfitted() -> None:
    for call in (classifier().predict, SequenceEncoder().transform, SequenceEncoder().inverse_transform):
        with pytest.raises(NotFittedError):
            call([[1]])
