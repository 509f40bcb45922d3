"""Inputs without a batch axis, and with masks in place of lengths: the bits of the batch with its padding behind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import recurra as rc
from agreement import assert_same_bits
from array_types import Array
from cell_runs import unpack
from user_layers import Mean, Scale

ROWS, STEPS = 6, 9


def recurrent(**options: Any) -> Any:
    return rc.LSTM(3, 4, 2, seed=0, **options)


def tagger() -> Any:
    return rc.Sequential(
        rc.Linear(3, 5), rc.Bidirectional(rc.GRU(5, 4), rc.LSTM(5, 4)), rc.LayerNorm(8), rc.Linear(8, 2), seed=0
    )


def two_inputs() -> Any:
    a, b = rc.Input(features=3), rc.Input(features=3)
    h = rc.GRU(3, 4)(a)
    d = rc.GRU(3, 4)(b, state=h.state)
    context = rc.MultiplicativeAttention(4, 4)((d, h))
    return rc.Model((a, b), {"d": d + context, "last": rc.Pool("last")(h)}, seed=0)


def drawn(seed: int = 0, steps: int = STEPS) -> Array:
    return np.random.default_rng(seed).standard_normal((ROWS, steps, 3)).astype(np.float32)


def masks() -> dict[str, Array]:
    """By name: behind, before, on both sides, anywhere; rows without a valid step, and with all."""
    rng = np.random.default_rng(3)
    lengths = np.array([9, 0, 4, 1, 7, 9])
    step = np.arange(STEPS)
    shift = (STEPS - lengths) // 2
    holes = rng.random((ROWS, STEPS)) < 0.5
    holes[1] = False
    return {
        "suffix": step < lengths[:, None],
        "left": step >= STEPS - lengths[:, None],
        "both": (step >= shift[:, None]) & (step < (shift + lengths)[:, None]),
        "holes": holes,
    }


@pytest.mark.parametrize("kind", masks())
@pytest.mark.parametrize("make", [recurrent, tagger])
def test_a_mask_means_its_valid_steps_alone(make: Any, kind: str) -> None:
    """Each row, its valid steps cut out and called by themselves; NaN elsewhere is not read. Gradients likewise."""
    model, mask, x = make(), masks()[kind], drawn()
    x[~mask] = np.nan
    reset = np.random.default_rng(4).random((ROWS, STEPS)) < 0.2
    for episodes in (None, reset):
        y, state = model(x, reset=episodes, mask=mask)
        tape = model.record(x, reset=episodes, mask=mask)
        assert_same_bits(tape.y, y)
        assert not tape.y.flags.writeable
        dy = np.random.default_rng(5).standard_normal(y.shape).astype(np.float32)
        dy[~mask] = np.nan
        dx, _ = tape.backward(dy)
        assert not y[~mask].any()
        assert not dx[~mask].any()
        for row in range(ROWS):
            valid = np.flatnonzero(mask[row])
            starts = None
            if episodes is not None:  # an episode that starts at padding starts at the step behind it
                starts = np.array(
                    [[episodes[row, b + 1 : e + 1].any() for b, e in zip([-1, *valid], valid, strict=False)]]
                )
                starts = starts.reshape(1, len(valid)).astype(bool)
            alone = model.record(x[row : row + 1, valid], reset=starts)
            assert_same_bits(alone.y[0], y[row, valid])
            for one, whole in zip(arrays_of(alone.state), arrays_of(state), strict=True):
                assert_same_bits(one[:, 0], whole[:, row])
            assert_same_bits(alone.backward(dy[row : row + 1, valid])[0][0], dx[row, valid])


def arrays_of(state: Any) -> list[Array]:
    entries = state if isinstance(state, list) else [state]
    return [array for entry in entries if entry is not None for array in unpack(entry)]


def test_a_suffix_mask_is_lengths() -> None:
    model, x, mask = tagger(), drawn(), masks()["suffix"]
    y, _ = model(x, mask=mask)
    assert_same_bits(y, model(x, lengths=mask.sum(1))[0])


def test_masks_of_several_inputs() -> None:
    model, a, b = two_inputs(), drawn(0), drawn(1)
    left, holes = masks()["left"], masks()["holes"]
    y, _ = model((a, b), mask=(left, holes))
    for row in range(ROWS):
        alone, _ = model((a[row : row + 1, left[row]], b[row : row + 1, holes[row]]))
        assert_same_bits(alone["d"][0], y["d"][row, holes[row]])
        assert_same_bits(alone["last"][0], y["last"][row])
    assert not y["d"][~holes].any()
    some, _ = model((a, b), mask=(None, holes))
    assert some["d"].shape == y["d"].shape
    add = rc.Add()
    assert_same_bits(add((a, b), mask=(left, left))[0], np.where(left[..., None], a + b, 0))
    with pytest.raises(ValueError, match="different masks"):
        add((a, b), mask=(left, ~left | True))
    with pytest.raises(ValueError, match="different masks"):
        add((a, b), mask=(left, holes))


@pytest.mark.parametrize(
    "layer",
    [
        rc.Conv1d(3, 4, 3, seed=0),
        rc.Conv1d(3, 4, 4, padding="same", seed=0),
        rc.MaxPool1d(3, 1, "same"),
        rc.Conv1d(3, 4, 2, stride=2, padding="valid", seed=0),
        rc.AvgPool1d(2),
    ],
    ids=repr,
)
def test_windows_go_with_padding_before_but_not_with_holes(layer: Any) -> None:
    x, mask = drawn(), masks()["both"]
    x[~mask] = np.nan
    y, _ = layer(x, mask=mask)
    counts = layer.output_lengths(mask.sum(1))
    for row in range(ROWS):
        alone, _ = layer(x[row : row + 1, mask[row]])
        own = y[row, mask[row]] if layer.keeps_steps else y[row, : counts[row]]
        assert_same_bits(alone[0], own)
    for model in (layer, rc.Sequential(rc.Linear(3, 3), layer)):
        with pytest.raises(ValueError, match=rf"padding between the valid steps of row \d.*before {layer.label}"):
            model(x, mask=masks()["holes"])


def test_layers_of_users() -> None:
    x, holes = drawn(), masks()["holes"]
    y, _ = Scale(3)(x, mask=holes)
    assert_same_bits(y, np.where(holes[..., None], x * Scale(3).params["scale"], np.float32(0)))
    with pytest.raises(ValueError, match="Mean"):
        rc.Sequential(rc.GRU(3, 3), Mean())(x, mask=holes)
    mixed = rc.Sequential(rc.GRU(3, 3), Scale(3), rc.GRU(3, 2), seed=0)
    y, _ = mixed(x, mask=holes)
    tape = mixed.record(x, mask=holes)
    assert_same_bits(tape.y, y)
    assert not tape.backward(np.ones_like(y))[0][~holes].any()


def test_masks_that_do_not_fit() -> None:
    layer, x, mask = recurrent(), drawn(), masks()["left"]
    for given, error, text in [
        ({"mask": mask, "lengths": mask.sum(1)}, ValueError, "both lengths and mask"),
        ({"mask": mask[:, :3]}, ValueError, r"\(6, 3\), expected \(6, 9\)"),
        ({"mask": mask[0]}, ValueError, "mask of shape"),
    ]:
        with pytest.raises(error, match=text):
            layer(x, **given)
    with pytest.raises(ValueError, match="mask"):
        layer(rc.Input(features=3), mask=mask)
    with pytest.raises(ValueError, match="with a list of arrays"):
        tagger()([x[0]], mask=mask)
    time_major = rc.GRU(3, 4, batch_first=False, seed=0)
    y, _ = time_major(x.swapaxes(0, 1), mask=mask.T)
    assert_same_bits(y.swapaxes(0, 1), rc.GRU(3, 4, seed=0)(x, mask=mask)[0])


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", ["RNN", "LSTM", "GRU"])
def test_without_a_batch_axis_as_torch(cell: str, bidirectional: bool) -> None:
    ours = getattr(rc, cell)(3, 4, 2, bidirectional=bidirectional, dtype="float64", seed=0)
    theirs = getattr(torch.nn, cell)(3, 4, 2, bidirectional=bidirectional).double()
    theirs.load_state_dict({name: torch.tensor(array) for name, array in ours.params.items()})
    rng = np.random.default_rng(0)
    x, slots = rng.standard_normal((7, 3)), 4 if bidirectional else 2
    start = tuple(rng.standard_normal((slots, 4)) for _ in ours.state_names)
    for state in (None, start if cell == "LSTM" else start[0]):
        y, final = ours(x, state)
        wanted, ends = theirs(torch.tensor(x), None if state is None else _tensors(state))
        assert y.shape == tuple(wanted.shape)
        np.testing.assert_allclose(y, wanted.detach().numpy(), rtol=0, atol=1e-12)
        for one, other in zip(unpack(final), ends if cell == "LSTM" else (ends,), strict=True):
            assert one.shape == tuple(other.shape)
            np.testing.assert_allclose(one, other.detach().numpy(), rtol=0, atol=1e-12)


def _tensors(state: Any) -> Any:
    return tuple(map(torch.tensor, state)) if isinstance(state, tuple) else torch.tensor(state)


@pytest.mark.parametrize("sequences", [True, False])
def test_without_a_batch_axis_the_bits_are_those_of_one_row(sequences: bool) -> None:
    """Gradients, lengths, resets, masks; time first; tokens; models with several inputs and outputs."""
    x, mask = drawn()[2], masks()["both"][2]
    reset = np.arange(STEPS) % 4 == 3
    for options in (
        {},
        {"lengths": 5},
        {"reset": reset},
        {"mask": mask},
        {"mask": masks()["holes"][2], "reset": reset},
    ):
        layer = recurrent(return_sequences=sequences)
        batched = {name: np.asarray(one)[None] for name, one in options.items()}
        tape, whole = layer.record(x, **options), layer.record(x[None], **batched)
        assert_same_bits(layer(x, **options)[0], whole.y[0])
        assert_same_bits(tape.y, whole.y[0])
        dy = np.random.default_rng(1).standard_normal(tape.y.shape).astype(np.float32)
        dh = np.random.default_rng(2).standard_normal((2, 4)).astype(np.float32)
        for one, other in zip(tape.state, whole.state, strict=True):
            assert_same_bits(one, other[:, 0])
        dx, dstate = tape.backward(dy, (dh, None))
        dx_whole, dstate_whole = whole.backward(dy[None], (dh[:, None], None))
        assert_same_bits(dx, dx_whole[0])
        for one, other in zip(dstate, dstate_whole, strict=True):
            assert_same_bits(one, other[:, 0])
    late = rc.GRU(3, 4, batch_first=False, return_sequences=sequences, seed=0)
    assert_same_bits(late(x, reset=reset)[0], rc.GRU(3, 4, return_sequences=sequences, seed=0)(x, reset=reset)[0])
    model = rc.Sequential(rc.Embedding(5, 3), rc.GRU(3, 4, return_sequences=sequences), rc.Linear(4, 2), seed=0)
    tokens = np.arange(STEPS) % 5
    assert_same_bits(model(tokens)[0], model(tokens[None])[0][0])
    pair = two_inputs()
    one, _ = pair((x, x[:4]))
    other, _ = pair((x[None], x[None, :4]))
    for name in one:
        assert_same_bits(one[name], other[name][0])
    assert_same_bits(tagger()(x)[0], tagger()(x[None])[0][0])
    assert_same_bits(rc.Conv1d(3, 2, 3, seed=0)(x)[0], rc.Conv1d(3, 2, 3, seed=0)(x[None])[0][0])
    assert_same_bits(rc.Pool("max")(x)[0], x.max(0))
    assert_same_bits(rc.Linear(3, 2, seed=0)(x)[0], rc.Linear(3, 2, seed=0)(x[None])[0][0])


def test_a_batch_axis_that_is_half_there() -> None:
    layer, x = recurrent(), drawn()[0]
    _, state = layer(x[None])
    for call, text in [
        (lambda: layer(x, state), r"without a batch axis"),
        (lambda: layer(x, lengths=[2, 3]), r"expected \(1,\)"),
        (lambda: layer(x, reset=np.zeros((1, STEPS), bool)), "reset has shape"),
        (lambda: two_inputs()((x, x[None])), r"x\[1\] has shape"),
        (lambda: layer(np.zeros(3, np.float32)), "x has shape"),
    ]:
        with pytest.raises(ValueError, match=text):
            call()


@pytest.mark.parametrize("kind", masks())
def test_fit_with_a_mask_is_fit_on_the_valid_steps(kind: str) -> None:
    """The bits of lists with the valid steps alone: losses, weights, predictions; also in batches ready made."""
    mask, x = masks()[kind], drawn()
    rng = np.random.default_rng(7)
    y, weight = rng.integers(0, 2, (ROWS, STEPS)), rng.random((ROWS, STEPS))
    x[~mask], y[~mask], weight[~mask] = np.nan, -7, 0
    given: dict[str, Any] = {"loss": rc.losses.CrossEntropy(), "verbose": 0}
    whole = {"batch_size": ROWS, "seed": 0, "shuffle": False}
    cut = [[one[valid] for one, valid in zip(array, mask, strict=True)] for array in (x, y, weight)]

    def trained(*data: Any, **options: Any) -> Any:
        model = tagger()
        model.fit(*data, optimizer=rc.optim.Adam(0.1), **given, **whole, **options)
        return model

    wanted = trained(cut[0], cut[1], sample_weight=cut[2])
    batch = rc.data.Batch(x, y, None, weight, mask=mask)
    for model in (trained(x, y, mask=mask, sample_weight=weight), trained([batch])):
        for name in model.params:
            assert_same_bits(model.params[name], wanted.params[name], name)
    found = wanted.predict(x, mask=mask, batch_size=4)
    assert not found[~mask].any()
    for row, own in enumerate(wanted.predict(cut[0])):
        assert_same_bits(found[row, mask[row]], own)
    assert_same_bits(wanted.predict(x, mask=mask, batch_size=2, steps=2), found[:4])
    assert_same_bits(wanted.predict([batch, batch]), np.concatenate([found, found]))
    assert wanted.evaluate(x, y, mask=mask, **given) == wanted.evaluate(cut[0], cut[1], **given)


@pytest.mark.parametrize("tokens", [False, True], ids=["features", "tokens"])
@pytest.mark.parametrize("kind", masks())
def test_padding_that_an_input_finds_is_left_out_of_losses_and_metrics(kind: str, tokens: bool) -> None:
    """As in Keras, with mask_zero or Masking: what `mask=` gives, in arrays, in batches and as validation data."""
    mask, rng = masks()[kind], np.random.default_rng(8)
    x = rng.integers(1, 5, (ROWS, STEPS)) if tokens else drawn()
    y = rng.integers(0, 2, (ROWS, STEPS))
    x[~mask], y[~mask] = 0, -7

    def model(mask_value: float | None) -> rc.Model:
        given = rc.Input(tokens=5, mask_value=mask_value) if tokens else rc.Input(features=3, mask_value=mask_value)
        below = rc.Embedding(5, 3, seed=1)(given) if tokens else given
        return rc.Model(given, rc.Linear(4, 2, seed=0)(rc.GRU(3, 4, seed=0)(below)))

    def trained(mask_value: float | None, *data: Any, **options: Any) -> tuple[Any, Any]:
        made = model(mask_value)
        history = made.fit(
            *data, loss="cross_entropy", optimizer="adam", metrics=["accuracy"], seed=0, verbose=0, **options
        )
        return made, history.history

    wanted, told = trained(None, x, y, mask=mask, shuffle=False)
    found, own = trained(0.0, x, y, validation_data=(x, y), shuffle=False)
    assert own["loss"] == told["loss"]
    assert own["accuracy"] == told["accuracy"]
    from_batches, _told = trained(0.0, [rc.data.Batch(x, y)])
    for name in wanted.params:
        assert_same_bits(found.params[name], wanted.params[name], name)
        assert_same_bits(from_batches.params[name], wanted.params[name], name)
    after = wanted.evaluate(x, y, mask=mask, loss="cross_entropy")
    assert found.evaluate(x, y, loss="cross_entropy") == after == own["val_loss"][-1]
    assert_same_bits(found.predict(x), wanted.predict(x, mask=mask))


def test_masks_in_fit_that_do_not_fit() -> None:
    model, x, mask = tagger(), drawn(), masks()["left"]
    for call, text in [
        (lambda: model.predict(x, mask=mask[:, :4]), r"predict: got mask of shape"),
        (lambda: model.predict(list(x), mask=mask), r"predict: got mask with a list"),
        (lambda: model.predict(x, [9] * ROWS, mask=mask), "both lengths and mask"),
        (
            lambda: model.fit(
                [rc.data.Batch(x, x)], mask=mask, loss=rc.losses.CrossEntropy(), optimizer=rc.optim.SGD(0.1)
            ),
            r"data\.Batch",
        ),
    ]:
        with pytest.raises(ValueError, match=text):
            call()


def test_labels_without_steps_stay_where_they_are() -> None:
    """CTC's labels, and one target for each row."""
    mask, x = masks()["left"], drawn()
    mask[1] = mask[0]
    model = rc.Sequential(rc.GRU(3, 4), rc.Linear(4, STEPS + 1), seed=0)
    labels = np.full((ROWS, STEPS), -1)
    labels[:, 0] = np.arange(ROWS) + 1
    loss, cut = rc.losses.CTC(), [one[valid] for one, valid in zip(x, mask, strict=True)]
    assert model.evaluate(x, labels, mask=mask, loss=loss) == model.evaluate(cut, labels, loss=loss)
    pooled = rc.Sequential(rc.GRU(3, 4), rc.Pool("last"), rc.Linear(4, 2), seed=0)
    y, error = np.ones((ROWS, 2)), rc.losses.MeanSquaredError()
    assert pooled.evaluate(x, y, mask=mask, loss=error) == pooled.evaluate(cut, y, loss=error)


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.int8, np.uint8, torch.int64])
def test_masks_of_0_and_1(dtype: Any) -> None:
    """As tokenizers make them."""
    x, mask = drawn(), masks()["left"]
    given: Any = torch.tensor(mask).to(dtype) if isinstance(dtype, torch.dtype) else mask.astype(dtype)
    layer, model = rc.GRU(x.shape[-1], 3, seed=0), tagger()
    assert_same_bits(layer(x, mask=given)[0], layer(x, mask=mask)[0])
    assert_same_bits(model.predict(x, mask=given), model.predict(x, mask=mask))
    y = np.zeros(mask.shape, np.int64)
    loss = rc.losses.CrossEntropy()
    wanted = model.evaluate(x, y, mask=mask, loss=loss)
    assert model.evaluate(x, y, mask=given, loss=loss) == wanted
    assert model.evaluate([rc.data.Batch(x, y, mask=given)], loss=loss) == wanted


@pytest.mark.parametrize("wrong", [2, -1, 0.5, 1.0])
def test_masks_of_other_numbers(wrong: float) -> None:
    x, mask = drawn(), masks()["left"]
    given = mask.astype(type(wrong))
    given[0, 0] = wrong
    with pytest.raises(
        TypeError, match=r"got mask of \w+, from .* expected bool, or integers 0 and 1, .*; write mask != 0,"
    ):
        rc.GRU(x.shape[-1], 3, seed=0)(x, mask=given)
