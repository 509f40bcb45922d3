"""The specification itself: it agrees with torch.nn in float64, and with a masked loop of torch operations where
torch.nn has no such cell or option; its finite differences agree with calculus."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import masks
import reference
import torch_peer
from cell_cases import Case, draw, grid, option_grid
from cell_runs import Outcome, specified
from cell_variants import VARIANTS

CASES = [case for case in grid() if case.steps < 30 or case.num_layers < 3]


def assert_agrees(case: Case, peer: Outcome, training: bool = False) -> None:
    y, state = specified(draw(case), training)
    # Values of order 1, after 33 x 6 steps of a few hundred roundings of 1e-16: 1e-12 leaves two orders of room.
    np.testing.assert_allclose(peer.y, y, rtol=0, atol=1e-12)
    for mine, its in zip(state, peer.state, strict=True):
        np.testing.assert_allclose(its, mine, rtol=0, atol=1e-12)


@pytest.mark.parametrize("case", [c for c in CASES if c.cell in torch_peer.MODULES and not c.resets], ids=str)
def test_reference_agrees_with_torch_nn(case: Case) -> None:
    assert_agrees(case, torch_peer.run_module(draw(case), "float64"))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_reference_agrees_with_a_loop_of_torch_operations(case: Case) -> None:
    assert_agrees(case, torch_peer.run_loop(draw(case), "float64"))


@pytest.mark.parametrize("case", [c for c in option_grid() if c.variant.random], ids=str)
def test_training_agrees_with_a_loop_of_torch_operations(case: Case) -> None:
    assert_agrees(case, torch_peer.run_loop(draw(case), "float64", training=True), training=True)


@pytest.mark.parametrize("cell", torch_peer.MODULES)
def test_reference_without_bias_or_initial_state(cell: str) -> None:
    case = Case(cell, 3, 5, 4, 9, 2, bidirectional=True, ragged=True, bias=False, state=False)
    assert_agrees(case, torch_peer.run_module(draw(case), "float64"))


@pytest.mark.parametrize("cell", torch_peer.MODULES)
def test_the_two_torch_peers_agree_in_every_gradient(cell: str) -> None:
    problem = draw(Case(cell, 3, 5, 4, 9, 2, bidirectional=True, ragged=True))
    one, other = torch_peer.run_module(problem, "float64"), torch_peer.run_loop(problem, "float64")
    for (name, a), (_, b) in zip(one.arrays(), other.arrays(), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-11, err_msg=name)


@pytest.mark.parametrize("cell", VARIANTS)
def test_a_reset_is_a_new_sequence(cell: str) -> None:
    """With a reset at step 3, the forward direction is two sequences, and so is the reverse one."""
    problem = draw(replace(Case(cell, 3, 5, 1, 7, bidirectional=True), state=False))
    reset = np.zeros((1, 7), bool)
    reset[0, 3] = True
    whole, _ = specified(replace(problem, reset=reset))
    parts = [specified(replace(problem, x=x))[0] for x in (problem.x[:, :3], problem.x[:, 3:])]
    np.testing.assert_array_equal(whole, np.concatenate(parts, axis=1))


@pytest.mark.parametrize(
    ("key", "high", "low", "words"),
    [
        (0, 0, 0, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        (2**64 - 1, 2**64 - 1, 2**64 - 1, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (0x299F31D0A4093822, 0x0370734413198A2E, 0x85A308D3243F6A88, "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_philox_gives_its_authors_answers(key: int, high: int, low: int, words: str) -> None:
    assert " ".join(f"{int(word):08x}" for word in masks.philox(key, high, low)) == words


def test_central_difference() -> None:
    array = np.linspace(-1.0, 1.0, 6).reshape(2, 3)
    kept = array.copy()
    slopes = reference.central_difference(lambda: float(np.tanh(array).sum()), array, np.arange(6))
    np.testing.assert_allclose(slopes, 1.0 - np.tanh(kept).ravel() ** 2, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(array, kept)
