"""Captions pictures: a convolution and a GRU look at a picture, a second GRU writes a sentence about it.

    python examples/captions.py                         # about a minute
    python examples/captions.py --quick                 # a few seconds
    python examples/captions.py --plot captions.png     # pictures, and what the model writes about them

Data: made here with numpy. A noisy picture of 24 x 24 pixels shows one shape or two, of three kinds, three colours and
two sizes: "a large red circle", "a small green square above a large blue triangle". Of the 648 sentences about two
shapes a tenth is kept from training: pictures of them come in the test only, where they are a fifth of all.

Model (one to many): the columns of a picture are steps. A Conv1d over them and a GRU both ways make a vector of it, the
state with which the writing GRU begins. In training that one is given the words so far (teacher forcing); later
`rc.search.beam_search` looks for the sentence that is most probable as a whole.

Baselines: the caption of the most similar training picture, pixel by pixel, and the most frequent caption. The score is
the share of test pictures whose caption is right in every word.
"""

from __future__ import annotations

import math
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt

import recurra as rc
from common import arguments, new_figure, report, save_plot

SIZE = 24  # pixels
RADIUS = {"small": 2.5, "large": 5.0}
COLOUR = {"red": (0.95, 0.2, 0.15), "green": (0.15, 0.75, 0.25), "blue": (0.15, 0.3, 0.95)}
SHAPES = [" ".join(words) for words in product(["a"], RADIUS, COLOUR, ["circle", "square", "triangle"])]
PAIRS = [" ".join(words) for words in product(SHAPES, ["above", "left of"], SHAPES)]
WORDS = sorted(set(" ".join(PAIRS).split()))
START, END = len(WORDS), len(WORDS) + 1  # the tokens around a sentence
STEPS = 11  # words of the longest sentence, and its end
LEARNING_RATE = 4e-3

Pictures = npt.NDArray[np.float32]
Tokens = npt.NDArray[np.int64]


def places(caption: str, radii: list[float], rng: np.random.Generator) -> Pictures:
    """Centres of the shapes, (1 or 2, 2) as x and y: whole in the picture, apart, and where the caption says."""
    margin = np.array(radii)[:, None] + 0.5
    while True:
        centres = rng.uniform(margin, SIZE - 1 - margin, (len(radii), 2)).astype(np.float32)
        if len(radii) == 1:
            return centres
        right, down = centres[1] - centres[0]
        along, across = (down, right) if "above" in caption else (right, down)
        if along > sum(radii) + 0.5 and along > 1.5 * abs(across):
            return centres


def paint(caption: str, rng: np.random.Generator) -> Pictures:
    """A picture (SIZE, SIZE, 3) of what the caption says: rows, columns, colours from 0 to 1."""
    picture = np.full((SIZE, SIZE, 3), rng.uniform(0, 0.3))
    shapes = [shape.split() for shape in caption.replace(" above", ",").replace(" left of", ",").split(", ")]
    radii = [RADIUS[size] for _a, size, _colour, _kind in shapes]
    for (_a, _size, colour, kind), r, (x, y) in zip(shapes, radii, places(caption, radii, rng), strict=True):
        across, down = np.abs(np.arange(SIZE) - x), (np.arange(SIZE) - y)[:, None]
        inside = {
            "circle": across**2 + down**2 <= r**2,
            "square": np.maximum(across, np.abs(down)) <= 0.85 * r,
            "triangle": (np.abs(down) <= r) & (across <= (down + r) / 2),
        }[kind]
        picture[inside] = np.array(COLOUR[colour]) + rng.uniform(-0.1, 0.1, 3)
    return np.clip(picture + 0.08 * rng.standard_normal(picture.shape), 0, 1).astype(np.float32)


def captions(count: int, pairs: list[str], rng: np.random.Generator) -> list[str]:
    """A quarter about one shape, the others about two."""
    return [str(rng.choice(SHAPES if rng.random() < 0.25 else pairs)) for _ in range(count)]


def tokens(sentences: list[str]) -> tuple[Tokens, Tokens, Tokens]:
    """What the writer is given and what it shall say, (N, STEPS) each, and how many steps of them count, (N,)."""
    given, wanted = np.full((2, len(sentences), STEPS), END)
    for row, sentence in enumerate(sentences):
        numbers = [WORDS.index(word) for word in sentence.split()]
        given[row, : len(numbers) + 1] = [START, *numbers]
        wanted[row, : len(numbers)] = numbers
    return given, wanted, np.array([len(sentence.split()) + 1 for sentence in sentences])


class Captioner:
    """The layers, the model that trains them, and how they write."""

    def __init__(self, hidden: int, seed: int) -> None:
        self.eye = rc.Sequential(
            rc.Conv1d(3 * SIZE, 64, 3, padding="same"),
            rc.BatchNorm(64),
            rc.Activation("relu"),
            rc.GRU(64, hidden, bidirectional=True, return_sequences=False),
            rc.Linear(2 * hidden, hidden),
        )
        self.writer = (rc.Embedding(len(WORDS) + 2, 16), rc.GRU(16, hidden), rc.Linear(hidden, len(WORDS) + 2))
        embed, gru, scores = self.writer
        columns, words = rc.Input(features=3 * SIZE), rc.Input(tokens=len(WORDS) + 2)
        self.model = rc.Model((columns, words), scores(gru(embed(words), state=self.eye(columns))), seed=seed)

    @staticmethod
    def columns(pictures: Pictures) -> Pictures:
        """(N, SIZE, SIZE * 3): a step for each column of the pictures, from left to right."""
        return np.swapaxes(pictures, 1, 2).reshape(len(pictures), SIZE, SIZE * 3)

    def write(self, pictures: Pictures) -> list[str]:
        seen = self.eye(self.columns(pictures))[0][None]  # (1, N, hidden)
        found = rc.search.beam_search(self.writer, start=START, end=END, max_steps=STEPS, beam_size=4, state=seen)
        return [" ".join(WORDS[token] for token in sentence if token < START) for sentence in found.lists()]


def exact(said: list[str], true: list[str]) -> float:
    """The share of sentences that are right in every word."""
    return sum(one == other for one, other in zip(said, true, strict=True)) / len(true)


def words_right(said: list[str], true: list[str]) -> float:
    """The share of the true words that stand at their place in what is said."""
    pairs = [(one.split(), other.split()) for one, other in zip(said, true, strict=True)]
    right = sum(a == b for one, other in pairs for a, b in zip(one, other, strict=False))
    return right / sum(len(other) for _one, other in pairs)


def nearest(pictures: Pictures, sentences: list[str], test: Pictures) -> list[str]:
    """The caption of the training picture with the smallest sum of squared differences."""
    known, asked = pictures.reshape(len(pictures), -1), test.reshape(len(test), -1)
    distance = (known**2).sum(1) - 2 * asked @ known.T  # without |asked|^2, the same for all
    return [sentences[row] for row in distance.argmin(1)]


def draw(pictures: Pictures, said: list[str], true: list[str], path: Path) -> None:
    figure = new_figure(10, 5.6)
    for axis, picture, sentence, truth in zip(figure.subplots(2, 4).flat, pictures, said, true, strict=True):
        axis.imshow(picture, interpolation="nearest")
        verb = next((word for word in (" above ", " left of ") if word in sentence), "")
        lines = sentence.replace(verb, f"\n{verb.strip()} ") if verb else sentence + "\n"
        axis.set_title(lines, fontsize=10, color="C2" if sentence == truth else "C3")
        axis.set(xticks=[], yticks=[])
    save_plot(figure, path)


def main() -> int:
    options = arguments(__doc__)
    rng = np.random.default_rng(options.seed)
    count, epochs, hidden = (3000, 8, 64) if options.quick else (8000, 20, 96)
    shuffled = [PAIRS[index] for index in rng.permutation(len(PAIRS))]
    unseen, seen = shuffled[: len(PAIRS) // 10], shuffled[len(PAIRS) // 10 :]
    train = captions(count, seen, rng)
    test = captions(800, seen, rng) + list(rng.choice(unseen, 200))
    x, x_test = (np.stack([paint(sentence, rng) for sentence in some]) for some in (train, test))
    print(f"{len(x)} pictures to train on, {len(x_test)} held out; 200 of them have sentences that training lacks")

    captioner, optimizer = Captioner(hidden, options.seed), rc.optim.Adam(LEARNING_RATE)
    given, wanted, lengths = tokens(train)
    for epoch in range(epochs):
        optimizer.lr = LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * epoch / epochs))
        history = captioner.model.fit(
            (captioner.columns(x), given),
            wanted,
            lengths=(None, lengths),
            loss=rc.losses.CrossEntropy(),
            optimizer=optimizer,
            clip_norm=1.0,
            seed=epoch,
            verbose=0,
        )
        print(f"epoch {epoch + 1} of {epochs}: cross-entropy of a word {history.history['loss'][0]:.4f}")

    print(f"{'':24}{'exact':>8}{'unseen':>8}{'words':>8}")
    scores = []
    for name, said in (
        ("most frequent caption", [max(set(train), key=train.count)] * len(test)),
        ("nearest picture", nearest(x, train, x_test)),
        ("recurra", captioner.write(x_test)),
    ):
        scores.append(exact(said, test))
        print(f"{name:24}{scores[-1]:8.3f}{exact(said[800:], test[800:]):8.3f}{words_right(said, test):8.3f}")
    if options.plot:
        draw(x_test[796:804], said[796:804], test[796:804], options.plot)
    return report(
        "captions.py", scores[-1], max(scores[:-1]), measure="exact captions", against="the nearest picture's caption"
    )


if __name__ == "__main__":
    raise SystemExit(main())
