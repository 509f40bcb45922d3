"""Captions pictures: a convolution and a GRU look at a picture, a second GRU writes a sentence about it.

    python examples/captions.py                         # about a minute
    python examples/captions.py --quick                 # a few seconds
    python examples/captions.py --plot captions.png     # pictures, and what the model writes about them

Data: made here with numpy. A noisy picture of 28 x 28 pixels shows one shape or two, of three kinds, three colours
and two sizes: "a large red circle", "a small green square above a large blue triangle". Of the 648 sentences about
two shapes a tenth is kept from training: pictures of them come in the test only, where they are a fifth of all.

Model (one to many): the columns of a picture are steps. Two Conv1d over them and a GRU both ways make a vector of it,
the state with which the writing GRU begins. In training that one is given the words so far (teacher forcing); later
`rc.search.beam_search` looks for the sentence that is most probable as a whole.

Baselines: the caption of the most similar training picture, pixel by pixel, and the most frequent caption. The score
is the share of test pictures whose caption is right in every word.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt

import common
import recurra as rc

SIZE = 28  # pixels
RADII = np.array([3.2, 6.0])
COLOURS = np.array([[0.95, 0.2, 0.15], [0.15, 0.75, 0.25], [0.15, 0.3, 0.95]])
SHAPES = [
    " ".join(words)
    for words in product(["a"], ["small", "large"], ["red", "green", "blue"], ["circle", "square", "triangle"])
]
PAIRS = [" ".join(words) for words in product(SHAPES, ["above", "left of"], SHAPES)]
SENTENCES = PAIRS + SHAPES
WORDS = sorted(set(" ".join(PAIRS).split()))
START, END = len(WORDS), len(WORDS) + 1  # the tokens around a sentence
STEPS = 11  # words of the longest sentence, and its end
LEARNING_RATE = 6e-3
BATCH_SIZE = 16

Floats = npt.NDArray[np.floating]
Tokens = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


def place(radii: Floats, wanted: Floats, two: Flags, rng: np.random.Generator) -> Floats:
    """Centres (N, 2, 2) as x and y: shapes are whole and, where there are two, apart in the direction (N, 2) wanted."""
    centres = np.zeros((len(radii), 2, 2))
    missing = np.arange(len(radii))
    while len(missing):
        margin = radii[missing, :, None] + 0.5
        centres[missing] = rng.uniform(margin, SIZE - 1 - margin, (len(missing), 2, 2))
        step = centres[missing, 1] - centres[missing, 0]
        along, across = (step * wanted[missing]).sum(1), (step * wanted[missing][:, ::-1]).sum(1)
        fits = (along > radii[missing].sum(1) + 0.5) & (along > 1.5 * np.abs(across))
        missing = missing[two[missing] & ~fits]
    return centres


def paint(sentences: Tokens, rng: np.random.Generator) -> Floats:
    """Floats (N, SIZE, SIZE, 3) of sentences given by their numbers: rows, columns, colours from 0 to 1."""
    count, two = len(sentences), sentences < len(PAIRS)
    first, verb, second = np.unravel_index(np.minimum(sentences, len(PAIRS) - 1), (len(SHAPES), 2, len(SHAPES)))
    first = np.where(two, first, sentences - len(PAIRS))
    size, colour, kind = np.unravel_index(np.stack([first, second], 1), (2, 3, 3))  # (N, 2) each
    radii = RADII[size]
    centres = place(radii, np.eye(2)[1 - verb], two, rng)
    pictures = np.tile(rng.uniform(0, 0.3, (count, 1, 1, 1)), (1, SIZE, SIZE, 3))
    for shape in range(2):
        r, (x, y) = radii[:, shape, None, None], centres[:, shape].T[..., None, None]
        across, down = np.abs(np.arange(SIZE) - x), np.arange(SIZE)[:, None] - y  # (N, 1, SIZE), (N, SIZE, 1)
        circle = across**2 + down**2 <= r**2
        square = np.maximum(across, np.abs(down)) <= 0.85 * r
        triangle = (np.abs(down) <= r) & (across <= (down + r) / 2)
        inside = np.choose(kind[:, shape, None, None], [circle, square, triangle])
        if shape == 1:
            inside &= two[:, None, None]
        paints = COLOURS[colour[:, shape]] + rng.uniform(-0.1, 0.1, (count, 3))
        pictures = np.where(inside[..., None], paints[:, None, None], pictures)
    return np.clip(pictures + 0.08 * rng.standard_normal(pictures.shape), 0, 1).astype(np.float32)


def draw_sentences(count: int, pairs: Tokens, rng: np.random.Generator) -> Tokens:
    """Numbers of sentences: a quarter about one shape, the others about two."""
    shapes = len(PAIRS) + rng.integers(len(SHAPES), size=count)
    return np.where(rng.random(count) < 0.25, shapes, rng.choice(pairs, count))


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
            rc.Conv1d(64, 64, 3, padding="same"),
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
    def columns(pictures: Floats) -> Floats:
        """(N, SIZE, SIZE * 3): a step for each column of the pictures, from left to right."""
        return np.swapaxes(pictures, 1, 2).reshape(len(pictures), SIZE, SIZE * 3)

    def write(self, pictures: Floats) -> list[str]:
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


def nearest(pictures: Floats, sentences: list[str], test: Floats) -> list[str]:
    """The caption of the training picture with the smallest sum of squared differences."""
    known, asked = pictures.reshape(len(pictures), -1), test.reshape(len(test), -1)
    distance = (known**2).sum(1) - 2 * asked @ known.T  # without |asked|^2, the same for all
    return [sentences[row] for row in distance.argmin(1)]


def draw(pictures: Floats, said: list[str], true: list[str], path: Path) -> None:
    figure = common.new_figure(10, 5.6)
    for axis, picture, sentence, truth in zip(figure.subplots(2, 4).flat, pictures, said, true, strict=True):
        axis.imshow(picture, interpolation="nearest")
        verb = next((word for word in (" above ", " left of ") if word in sentence), "")
        lines = sentence.replace(verb, f"\n{verb.strip()} ") if verb else sentence + "\n"
        axis.set_title(lines, fontsize=10, color="C2" if sentence == truth else "C3")
        axis.set(xticks=[], yticks=[])
    common.save_plot(figure, path)


def main() -> int:
    options = common.arguments(__doc__)
    rng = np.random.default_rng(options.seed)
    count, epochs, hidden = (6000, 6, 64) if options.quick else (20000, 8, 96)
    shuffled = rng.permutation(len(PAIRS))
    unseen, seen = np.split(shuffled, [len(PAIRS) // 10])
    numbers = draw_sentences(count, seen, rng)
    numbers_test = np.concatenate([draw_sentences(800, seen, rng), rng.choice(unseen, 200)])
    x, x_test = paint(numbers, rng), paint(numbers_test, rng)
    train, test = ([SENTENCES[number] for number in some] for some in (numbers, numbers_test))
    print(f"{len(x)} pictures to train on, {len(x_test)} held out; 200 of them have sentences that training lacks")

    captioner = Captioner(hidden, options.seed)
    given, wanted, lengths = tokens(train)
    captioner.model.fit(
        (captioner.columns(x), given),
        wanted,
        lengths=(None, lengths),
        loss=rc.losses.CrossEntropy(),
        optimizer=rc.optim.Adam(rc.optim.schedules.CosineDecay(LEARNING_RATE, epochs * count // BATCH_SIZE)),
        metrics="accuracy",
        epochs=epochs,
        batch_size=BATCH_SIZE,
        clip_norm=1.0,
        seed=options.seed,
    )

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
    return common.report(
        "captions.py", scores[-1], max(scores[:-1]), measure="exact captions", against="the nearest picture's caption"
    )


if __name__ == "__main__":
    raise SystemExit(main())
