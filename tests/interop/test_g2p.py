"""Spelling to sounds: the GRUs of the package g2p-en, plain numpy arrays, against its equations in f64.

Where it is not installed, the file has the same names and shapes with random weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np

import recurra as rc
from packages import packaged
from reference import Array, sigmoid

LETTERS = "abcdefghijklmnopqrstuvwxyz"
UNKNOWN, END, START, STOP = 1, 2, 2, 3  # letters' and sounds' numbers


@cache
def weights() -> Mapping[str, Array]:
    path = packaged("g2p_en", "checkpoint20.npz")
    if path is not None:
        with np.load(path) as file:
            return dict(file)
    rng = np.random.default_rng(0)
    sizes = {"w_ih": (768, 256), "w_hh": (768, 256), "b_ih": (768,), "b_hh": (768,)}
    shapes = {f"{side}_{name}": shape for side in ("enc", "dec") for name, shape in sizes.items()}
    shapes |= {"enc_emb": (29, 256), "dec_emb": (74, 256), "fc_w": (74, 256), "fc_b": (74,)}
    return {name: rng.normal(0, 0.1, shape).astype(np.float32) for name, shape in shapes.items()}


def models(path: Path) -> tuple[rc.Sequential, rc.Sequential]:
    """Encoder and decoder, as docs/interop.md has them."""
    with np.load(path) as w:
        parameters = {f"{name}.weight": w[name] for name in ("enc_emb", "dec_emb")}
        parameters |= {"fc.weight": w["fc_w"], "fc.bias": w["fc_b"]}
        for side in ("enc", "dec"):
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                parameters[f"{side}.{name}"] = w[f"{side}_{name[0]}{name[-3:]}"]
    layers = rc.interop.torch_layers(parameters)
    encoder = rc.Sequential(layers["enc_emb"], layers["enc"])
    return encoder, rc.Sequential(layers["dec_emb"], layers["dec"], layers["fc"])


def words() -> list[list[int]]:
    """200 words as numbers of letters, with the end; some letters are unknown."""
    rng = np.random.default_rng(1)
    made = ["".join(rng.choice([*LETTERS, "'"], rng.integers(0, 15))) for _ in range(200)]
    return [[LETTERS.find(letter) + 3 if letter in LETTERS else UNKNOWN for letter in word] + [END] for word in made]


def wanted(tokens: Array) -> tuple[Array, Array]:
    """The encoder's h of every step, (T, N, 256), and sounds, (20, N), from the h behind each word's end, in f64."""
    w = {name: value.astype(float) for name, value in weights().items()}

    def step(side: str, token: Array, h: Array) -> Array:
        inner = w[f"{side}_emb"][token] @ w[f"{side}_w_ih"].T + w[f"{side}_b_ih"]
        outer = h @ w[f"{side}_w_hh"].T + w[f"{side}_b_hh"]
        r, z = np.split(sigmoid((inner + outer)[:, :512]), 2, -1)
        n = np.tanh(inner[:, 512:] + r * outer[:, 512:])
        return (1 - z) * n + z * h

    h, steps, sounds = np.zeros((len(tokens), 256)), [], [np.full(len(tokens), START)]
    for column in tokens.T:
        h = step("enc", column, h)
        steps.append(h)
    h = np.array(steps)[(tokens == END).argmax(1), range(len(tokens))]
    for _ in range(20):
        h = step("dec", sounds[-1], h)
        sounds.append((h @ w["fc_w"].T + w["fc_b"]).argmax(-1))
    return np.array(steps), np.array(sounds[1:])


def test_200_words_whole_and_streamed(tmp_path: Path) -> None:
    np.savez(tmp_path / "weights.npz", **weights())
    encoder, decoder = models(tmp_path / "weights.npz")
    spelt = words()
    lengths = np.array([len(word) for word in spelt])
    tokens = np.zeros((len(spelt), lengths.max()), int)
    for row, word in zip(tokens, spelt, strict=True):
        row[: len(word)] = word
    y, state = encoder(tokens, lengths=lengths)
    found = rc.search.greedy(decoder, start=START, end=STOP, max_steps=20, state=state[1])
    stream = encoder.stream(len(spelt))
    streamed = np.stack([stream.step(column) for column in tokens.T], 1)
    steps, sounds = wanted(tokens)
    np.testing.assert_allclose(streamed, steps.swapaxes(0, 1), rtol=0, atol=1e-5)
    for row, (length, got) in enumerate(zip(lengths, found.lists(), strict=True)):
        np.testing.assert_allclose(y[row, :length], steps[:length, row], rtol=0, atol=1e-5)
        np.testing.assert_allclose(state[1][0, row], steps[length - 1, row], rtol=0, atol=1e-5)
        spoken = sounds[:, row].tolist()
        assert got == (spoken[: spoken.index(STOP) + 1] if STOP in spoken else spoken)
