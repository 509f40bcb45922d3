"""A misspelt keyword argument is told by the name that was called, with the one that was meant."""

from __future__ import annotations

import importlib
import inspect
import pickle
from typing import Any

import numpy as np
import pytest

import recurra as rc
from public import PACKAGES
from recurra.common.synonyms import SYNONYMS


def keywords_of(thing: Any) -> list[str]:
    try:
        arguments = inspect.signature(thing).parameters.values()
    except (TypeError, ValueError):
        return []
    return [a.name for a in arguments if a.kind in (a.POSITIONAL_OR_KEYWORD, a.KEYWORD_ONLY)]


def public() -> list[Any]:
    """All public functions and classes that take arguments by name, each once."""
    found: dict[str, Any] = {}
    for package in PACKAGES:
        module = importlib.import_module(package)
        for name in getattr(module, "__all__", dir(module)):
            thing = getattr(module, name)
            plain = inspect.isclass(thing) or inspect.isfunction(thing)
            own = getattr(thing, "__module__", "").startswith("recurra" if hasattr(module, "__all__") else package)
            made = inspect.isclass(thing) and (issubclass(thing, BaseException | tuple) or inspect.isabstract(thing))
            if plain and own and not made and not name.startswith("_") and keywords_of(thing):
                found[f"{package}.{name}"] = thing
    del found["recurra.decoding.search.greedy"]  # which has its own test
    del found["recurra.from_onnx"]  # any other name is an input of the graph
    return [pytest.param(thing, id=name) for name, thing in found.items()]


@pytest.mark.parametrize("thing", public())
def test_a_misspelt_argument_of_everything_public(thing: Any) -> None:
    required = [a.name for a in inspect.signature(thing).parameters.values() if a.default is a.empty and a.kind < 2]
    known = keywords_of(thing)
    meant = max(set(known) - set(required) or known, key=len)  # long enough to be recognised
    wrong = meant[:-1] + "z"
    others = {name: 1 for name in required if name != meant}
    with pytest.raises(TypeError, match=rf"^{thing.__name__}: got an unknown argument {wrong}, .*") as found:
        thing(**others, **{wrong: 1})
    if len(meant) > 3:
        assert str(found.value).endswith(f"write {meant}=")


@pytest.mark.parametrize(
    ("make", "name", "meant"),
    [
        (lambda: rc.LSTM(3, 16, hiden_size=3, nonsense=1), "LSTM", "hidden_size"),
        (lambda: rc.LSTM(3, 16, bidirectionl=True), "LSTM", "bidirectional"),
        (lambda: rc.GRU(3, 16, recurrent_dropot=0.1), "GRU", "recurrent_dropout"),
        (lambda: rc.MinGRU(3, 16, num_layer=2), "MinGRU", "num_layers"),
        (lambda: rc.search.greedy([], start=0, end=1, max_step=3), "greedy", "max_steps"),
        (lambda: rc.callbacks.EarlyStopping(patienc=1), "EarlyStopping", "patience"),
        (lambda: rc.callbacks.LambdaCallback(on_epoch_ends=print), "LambdaCallback", "on_epoch_end"),
        (lambda: model().fit(X, X, loss=LOSS, optimizer=rc.optim.SGD(0.1), epoch=3), "fit", "epochs"),
        (lambda: model().evaluate(X, X, loss=LOSS, metric="mae"), "evaluate", "metrics"),
        (lambda: model().predict(X, batchsize=3), "predict", "batch_size"),
        (lambda: rc.GRU(3, 4).record(X, length=[1, 2]), r"GRU\.record", "lengths"),
        (lambda: model().stream(batchsize=3), r"Sequential\.stream", "batch_size"),
        (lambda: rc.optim.SGD(0.1).step(model(), clipnorm=3), r"SGD\.step", "clip_norm"),
        (lambda: model().record(X).backward(None, dstat=1), r"Tape\.backward", "dstate"),
        (lambda: LOSS(X, X, weigths=3), "L1", "weights"),
    ],
)
def test_the_name_called_and_the_one_meant(make: Any, name: str, meant: str) -> None:
    with pytest.raises(TypeError, match=rf"^{name}: got .*; write {meant}=$"):
        make()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda: rc.LSTM(32),
            r"LSTM: got no hidden_size, .*input_size is the number of features.*write LSTM\(input_size, 32\)",
        ),
        (lambda: rc.Linear(32), r"Linear: got no out_features, .*write Linear\(in_features, 32\)"),
        (lambda: rc.RNN(), r"RNN: got no input_size and hidden_size, .*write RNN\(input_size, hidden_size\)"),
        (
            lambda: rc.Embedding(5),
            r"Embedding: got no embedding_dim, .*write Embedding\(num_embeddings, embedding_dim\)",
        ),
        (
            lambda: model().fit(X, X),
            r"fit: got no loss and optimizer, .*write fit\(\.\.\., loss='mse', optimizer='adam'\)",
        ),
        (lambda: model().fit(X, X, loss="mse"), r"fit: got no optimizer, .*optimizer='adam'\)"),
        (lambda: model().fit(loss="mse", optimizer="adam"), r"fit: got no x, .*write fit\(x\)?"),
        (lambda: rc.optim.Adam(model().params, lr=0.1), r"Adam: got lr twice, .*leave the parameters out"),
        (lambda: rc.LSTM(3, 4, input_size=3), r"LSTM: got input_size twice, .*leave one out"),
        (
            lambda: rc.optim.schedules.CosineDecay(T_max=10),
            r"CosineDecay: got an unknown argument T_max, .*write steps=",
        ),
    ],
)
def test_what_is_missing_or_given_twice(make: Any, said: str) -> None:
    with pytest.raises(TypeError, match=f"^{said}"):
        make()


def synonyms() -> list[tuple[str, str, str]]:
    return [(name, wrong, meant) for name, table in SYNONYMS.items() for wrong, meant in table.items()]


@pytest.mark.parametrize(("name", "wrong", "meant"), synonyms())
def test_the_names_of_other_frameworks(name: str, wrong: str, meant: str) -> None:
    homes = (rc, rc.callbacks, rc.losses, rc.search, rc.optim.schedules, rc.Sequential)
    found = rc.optim.Adam if name == "Optimizer" else next(getattr(one, name) for one in homes if hasattr(one, name))
    given: dict[str, Any] = {"loss": LOSS}
    if name == "fit":
        given["optimizer"] = rc.optim.SGD(0.1)
    call = {"fit": lambda **own: model().fit(X, X, **given, **own),
            "evaluate": lambda **own: model().evaluate(X, X, **given, **own),
            "beam_search": lambda **own: found([], start=0, end=1, **own),
            "greedy": lambda **own: found([], start=0, end=1, **own)}.get(name, found)  # fmt: skip
    with pytest.raises(TypeError, match=rf": got an unknown argument {wrong}, ") as error:
        call(**{wrong: 1})
    expected, _, hint = str(error.value).partition("expected some of ")[2].rpartition("; ")
    assert hint == (meant if " " in meant else f"write {meant}=")
    assert " " in meant or meant in expected.split(", ")


@pytest.mark.parametrize(
    "make",
    [
        lambda: rc.Embedding(5, 3, embeddings_initializer=1),
        lambda: rc.LSTM(3, 4, stateful=True),
        lambda: rc.LSTM(3, 4, unroll=True),
        lambda: rc.Linear(3, 4, kernel_regularizer=1),
        lambda: rc.optim.Adam(use_ema=True),
        lambda: rc.search.beam_search([], start=0, end=1, max_steps=2, temperature=1.0),
        lambda: model().fit(X, X, loss=LOSS, optimizer=rc.optim.SGD(0.1), workers=3),
    ],
)
def test_another_word_is_not_taken_for_a_misspelling(make: Any) -> None:
    with pytest.raises(TypeError, match=r"got an unknown argument .*; leave it out$"):
        make()


X, LOSS = np.zeros((2, 3, 1), np.float32), rc.losses.L1()


def model() -> Any:
    return rc.Sequential(rc.Linear(1, 1))


class Own(rc.LSTM):
    """A user's layer."""


def test_a_class_of_ones_own_has_its_own_name() -> None:
    with pytest.raises(TypeError, match=r"^Own: got an unknown argument dropot, .*write dropout=$"):
        Own(3, 4, dropot=0.5)


def test_other_errors_stay_what_they_are() -> None:
    def broken(epoch: int) -> Any:
        return {"wrong": model(wrong=1)}  # type: ignore[call-arg]

    with pytest.raises(TypeError, match=r"^model\(\) got an unexpected keyword argument 'wrong'"):
        model().fit(broken, loss=LOSS, optimizer=rc.optim.SGD(0.1), verbose=0)

    def lacking(epoch: int) -> Any:
        return {"wrong": rc.Linear.from_config()}  # type: ignore[call-arg]

    with pytest.raises(TypeError, match="missing 1 required positional argument: 'config'"):
        model().fit(lacking, loss=LOSS, optimizer=rc.optim.SGD(0.1), verbose=0)


def test_what_is_explained_is_what_it_was() -> None:
    """Signatures, pickles and names."""
    assert list(inspect.signature(rc.LSTM).parameters)[:3] == ["input_size", "hidden_size", "num_layers"]
    assert pickle.loads(pickle.dumps(rc.data.windows)) is rc.data.windows
    assert pickle.loads(pickle.dumps(rc.load)) is rc.load
    assert rc.optim.find_lr.__doc__
