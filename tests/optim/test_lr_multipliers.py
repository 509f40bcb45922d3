"""Learning rates of their own for groups of parameters: PyTorch's parameter groups, as factors by patterns of names."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import recurra as rc
from recurra.optim.spans import Groups

FACTORS = {"0.weight_hh*": 0.0, "0.*": 0.1, "*bias*": 3.0}
MAKERS: dict[str, tuple[Any, Any]] = {
    "SGD": (rc.optim.SGD, {"momentum": 0.9, "weight_decay": 0.1}),
    "Adam": (rc.optim.Adam, {"weight_decay": 0.1}),
    "AdamW": (rc.optim.AdamW, {"weight_decay": 0.1}),
    "RMSprop": (rc.optim.RMSprop, {"momentum": 0.5}),
    "Adagrad": (rc.optim.Adagrad, {"weight_decay": 0.1}),
}


def model() -> Any:
    return rc.Sequential(rc.GRU(3, 5), rc.Linear(5, 2), rc.Linear(2, 2), seed=0)


def factor(name: str) -> float:
    return 0.0 if name.startswith("0.weight_hh") else 0.1 if name.startswith("0.") else 3.0 if "bias" in name else 1.0


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("clip", [None, 0.5])
def test_a_step_is_that_of_pytorchs_groups(name: str, clip: float | None) -> None:
    make, options = MAKERS[name]
    rng = np.random.default_rng(1)
    subject = model()
    values = {key: torch.nn.Parameter(torch.tensor(value)) for key, value in subject.state_dict().items()}
    groups = [{"params": [value], "lr": 0.01 * factor(key)} for key, value in values.items()]
    peer = getattr(torch.optim, name)(groups, lr=0.01, **options)
    ours = make(0.01, lr_multipliers=FACTORS, **options)
    for _ in range(4):
        for key, value in values.items():
            gradient = rng.standard_normal(value.shape).astype(np.float32)
            subject.grads[key][...] = gradient
            value.grad = torch.tensor(gradient)
        if clip:
            torch.nn.utils.clip_grad_norm_(list(values.values()), clip)
        peer.step()
        ours.step(subject, clip_norm=clip)
    for key, value in values.items():
        np.testing.assert_allclose(subject.params[key], value.detach().numpy(), rtol=2e-4, atol=1e-6, err_msg=key)


def test_without_a_fitting_pattern_the_bits_are_the_plain_ones() -> None:
    plain, ours = model(), model()
    for subject, factors in ((plain, None), (ours, {"*": 1.0})):
        optimizer = rc.optim.Adam(0.01, lr_multipliers=factors)
        for key, gradient in subject.grads.items():
            gradient[...] = len(key)
        optimizer.step(subject)
    assert all((plain.params[key] == ours.params[key]).all() for key in plain.params)


def test_a_rate_that_is_set_and_a_schedule_are_multiplied() -> None:
    for lr in (0.5, rc.optim.schedules.StepDecay(0.5, 1, gamma=0.5)):
        subject = rc.Sequential(rc.Linear(1, 1), rc.Linear(1, 1), seed=0)
        optimizer = rc.optim.SGD(lr, lr_multipliers={"0.*": 0.1})
        before = subject.state_dict()
        for gradient in subject.grads.values():
            gradient[...] = 1.0
        optimizer.step(subject)
        if lr == 0.5:
            optimizer.lr = 0.25
        optimizer.step(subject)
        moved = {key: float((before[key] - value).sum()) for key, value in subject.params.items()}
        assert moved == pytest.approx({"0.weight": 0.075, "0.bias": 0.075, "1.weight": 0.75, "1.bias": 0.75}, rel=1e-5)


def test_sparse_layers() -> None:
    subject = rc.Sequential(rc.Embedding(6, 2, sparse=True), rc.Linear(2, 1), seed=0)
    before = subject.state_dict()
    tape = subject.record(np.array([[1, 4]]))
    tape.backward(np.ones_like(tape.y))
    rc.optim.SGD(1.0, lr_multipliers={"0.weight": 0.5}).step(subject)
    moved = before["0.weight"] - subject.params["0.weight"]
    np.testing.assert_allclose(moved[[1, 4]], 0.5 * np.repeat(before["1.weight"], 2, 0), rtol=1e-5)
    assert not moved[[0, 2, 3, 5]].any()


def test_spans_of_equal_factors_are_one() -> None:
    """So a step has as few native updates as it can."""
    layer = rc.LSTM(3, 4, 2)
    found = Groups((), (("weight*", 1.0),)).spans("", layer.parameters, 0.0)
    assert len(found) == 1
    assert (found[0].begin, found[0].end) == (0, layer.parameters.size)
    found = Groups(("bias",), (("*_l1", 0.5),)).spans("", layer.parameters, 0.1)
    assert [(one.decay, one.factor) for one in found] == [(0.1, 1.0), (0.0, 1.0), (0.1, 0.5), (0.0, 0.5)]
    assert all(one.end == two.begin for one, two in itertools.pairwise(found))


def test_a_run_resumes_with_them(tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((8, 4, 3))
    y = x[..., :2]

    def run(epochs: int, directory: str, factors: dict[str, float]) -> Any:
        subject = model()
        backup = rc.callbacks.BackupAndRestore(tmp_path / directory, delete_checkpoint=False)
        subject.fit(x, y, loss="mse", optimizer=rc.optim.Adam(0.01, lr_multipliers=factors), epochs=epochs, seed=0,
                    verbose=0, callbacks=backup)  # fmt: skip
        return subject.state_dict()

    whole = run(3, "a", FACTORS)
    run(1, "b", FACTORS)
    again = run(3, "b", FACTORS)
    assert all((whole[key] == again[key]).all() for key in whole)
    with pytest.raises(ValueError, match=r"lr_multipliers.*0\.2"):
        run(4, "b", {**FACTORS, "0.*": 0.2})


def test_copies_and_configuration() -> None:
    optimizer = copy.deepcopy(rc.optim.Adagrad(0.1, lr_multipliers={"0.*": 0.5}))
    assert optimizer.lr_multipliers == {"0.*": 0.5}
    assert optimizer.config()["lr_multipliers"] == {"0.*": 0.5}
    assert "lr_multipliers={'0.*': 0.5}" in repr(optimizer)


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ([0.1], r"SGD: got lr_multipliers=\[0\.1\], expected a dict"),
        ({0: 0.1}, r"SGD: got lr_multipliers=\{0: 0\.1\}, expected a dict"),
        ({"0.*": -1.0}, r"SGD: got lr_multipliers\['0\.\*'\]=-1\.0"),
        ({"0.*": None}, r"SGD: got lr_multipliers\['0\.\*'\]=None"),
        ({"0": 0.1}, r"SGD\.step: got lr_multipliers with the pattern '0', which no parameter fits.*0\.weight_ih_l0"),
    ],
)
def test_errors(factors: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        rc.optim.SGD(0.1, lr_multipliers=factors).step(model())
