"""Reads handwritten lines of digits: a convolution, a bidirectional LSTM and CTC, which needs no cuts between digits.

    python examples/handwriting.py                      # about half a minute
    python examples/handwriting.py --quick              # a few seconds
    python examples/handwriting.py --plot lines.png     # what it reads, and where in the line it knows

Data: the 1797 digits that scikit-learn ships (8 x 8 pixels, UCI's "optical recognition of handwritten digits"). The
first four fifths make the training lines, the others the test lines: 4 to 8 digits, made narrower or wider, moved up
or down; they stand apart, touch or overlap.

Model: a column of pixels is a step. Two convolutions look at a few columns at a time, the LSTM reads them both ways,
and a Linear scores ten digits and a blank in each column. `rc.losses.CTC` sums over all ways to spread a line's
digits over its columns, so nobody has to say where a digit is.

Baseline: cut the line into digits, and ask for the three most similar training digits of each piece. It is told how
many digits there are. The cuts are of equal width, or go through the least ink; the better way counts. The score is
the label error rate on the test lines: wrong, missing and superfluous digits over the digits that are written.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

import common
import recurra as rc

HEIGHT = 14  # pixels of a line
BLANK = 10  # CTC's class that is no digit
LEARNING_RATE = 8e-3
BATCH_SIZE = 8

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


def digits() -> tuple[Floats, Labels]:
    """All images, (1797, 8, 8) from 0 to 1, and what they show."""
    from sklearn.datasets import load_digits

    data = load_digits()
    return (data.images / 16).astype(np.float32), data.target.astype(np.int64)


def resized(image: Floats, width: int) -> Floats:
    """The image with as many columns, linearly interpolated."""
    at = np.linspace(0, image.shape[1] - 1, width)
    left = np.minimum(at.astype(int), image.shape[1] - 2)
    columns: Floats = image[:, left] + (at - left) * (image[:, left + 1] - image[:, left])
    return columns.astype(np.float32)


def lines(images: Floats, labels: Labels, count: int, rng: np.random.Generator) -> tuple[list[Floats], list[Labels]]:
    """Lines, each (columns, HEIGHT), and their digits."""
    made, written = [], []
    for _ in range(count):
        chosen = rng.integers(len(images), size=rng.integers(4, 9))
        line, x = np.zeros((HEIGHT, 120), np.float32), int(rng.integers(1, 4))
        for index in chosen:
            digit = resized(images[index], int(rng.integers(6, 11)))
            y, width = int(rng.integers(1, HEIGHT - 8)), digit.shape[1]
            place = line[y : y + 8, x : x + width]
            np.maximum(place, digit, out=place)
            x += width + int(rng.integers(-2, 4))  # less than 0: over the next one
        line = line[:, : x + int(rng.integers(1, 4))]
        made.append(np.clip(line + 0.08 * rng.standard_normal(line.shape), 0, 1).astype(np.float32).T)
        written.append(labels[chosen])
    return made, written


def error_rate(read: list[Labels], written: list[Labels]) -> float:
    """Wrong, missing and superfluous digits over those that are written."""
    return float(rc.metrics.edit_distance(read, written).sum()) / sum(map(len, written))


def equal_widths(line: Floats, count: int) -> list[int]:
    """The cuts that make `count` equal pieces."""
    return [round(len(line) * cut / count) for cut in range(1, count)]


def least_ink(line: Floats, count: int) -> list[int]:
    """The cuts through the least ink that make `count` pieces of 4 to 12 columns, by dynamic programming."""
    ink = line.sum(1)
    best: dict[int, tuple[float, list[int]]] = {x: (0.0, [x]) for x in range(4, 13)}
    for _ in range(count - 2):
        longer: dict[int, tuple[float, list[int]]] = {}
        for x, (cost, cuts) in best.items():
            for cut in range(x + 4, min(x + 13, len(line))):
                option = (cost + float(ink[x]), [*cuts, cut])
                longer[cut] = min(longer.get(cut, option), option)
        best = longer
    finished = [(cost + float(ink[x]), cuts) for x, (cost, cuts) in best.items() if 4 <= len(line) - x <= 14]
    return min(finished)[1]


class CutAndClassify:
    """The baseline: cut the line, bring each piece to 8 x 8 pixels, ask for the most similar training digits."""

    def __init__(self, images: Floats, labels: Labels) -> None:
        from sklearn.neighbors import KNeighborsClassifier

        self.nearest = KNeighborsClassifier(3).fit(np.stack([self.piece(image.T) for image in images]), labels)

    @staticmethod
    def piece(columns: Floats) -> Floats:
        """(64,): what lies in the columns, cut to the ink."""
        ink = columns > 0.3
        x, y = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
        if len(x) > 1 and len(y) > 1:
            columns = columns[x[0] : x[-1] + 1, y[0] : y[-1] + 1]
        return resized(resized(columns, 8).T, 8).ravel()

    def read(self, line: Floats, cuts: list[int]) -> Labels:
        read: Labels = self.nearest.predict(np.stack([self.piece(part) for part in np.split(line, cuts)]))
        return read


def reader(hidden: int, seed: int) -> rc.Sequential:
    """From columns, (N, T, HEIGHT), to the scores of ten digits and the blank, (N, T, 11)."""
    return rc.Sequential(
        rc.Conv1d(HEIGHT, 48, 5, padding="same"),
        rc.BatchNorm(48),
        rc.Activation("relu"),
        rc.Conv1d(48, 48, 3, padding="same"),
        rc.BatchNorm(48),
        rc.Activation("relu"),
        rc.Dropout(0.3),
        rc.LSTM(48, hidden, bidirectional=True),
        rc.Linear(2 * hidden, 11),
        seed=seed,
    )


def read(model: rc.Sequential, images: list[Floats]) -> list[Labels]:
    """What the model reads in each line: the most probable digits of a beam search."""
    scores = model.predict(images, batch_size=64)
    return [rc.ctc.beam_search(line[None], beam_size=8, blank=BLANK)[0][0].labels for line in scores]


def draw(model: rc.Sequential, images: list[Floats], written: list[Labels], path: Path) -> None:
    """Each line, what is read in it, and below it the probability of each digit in each column."""
    figure = common.new_figure(10, 2.1 * len(images))
    axes = figure.subplots(2 * len(images), 1, height_ratios=[1.3, 1] * len(images))
    colours = [f"C{digit}" for digit in range(10)]
    scores = [line - line.max(1, keepdims=True) for line in model.predict(images)]
    for image, labels, text, line, above, below in zip(
        images, written, read(model, images), scores, axes[::2], axes[1::2], strict=True
    ):
        probability = np.exp(line) / np.exp(line).sum(1, keepdims=True)
        above.imshow(image.T, cmap="gray_r", aspect="auto")
        above.set_title(
            f"written {''.join(map(str, labels))}    read {''.join(map(str, text))}", fontsize=11, loc="left"
        )
        above.set(xticks=[], yticks=[], xlim=(-0.5, len(image) - 0.5))
        below.fill_between(range(len(image)), probability[:, BLANK], color="0.9", lw=0)
        for digit in range(10):
            below.plot(probability[:, digit], color=colours[digit], lw=1.5)
            for column in np.flatnonzero(probability[:, digit] > 0.5):
                if column == 0 or probability[column - 1, digit] <= 0.5:
                    below.text(column, 1.04, str(digit), color=colours[digit], fontsize=11, weight="bold", ha="center")
        below.set(xticks=[], yticks=[0, 1], ylim=(0, 1.35), xlim=(-0.5, len(image) - 0.5))
    axes[-1].set_xlabel("column; grey: the blank, coloured: the digits")
    common.save_plot(figure, path)


def main() -> int:
    options = common.arguments(__doc__)
    rng = np.random.default_rng(options.seed)
    images, labels = digits()
    known = len(images) * 4 // 5
    epochs, count, hidden = (3, 4000, 48) if options.quick else (6, 8000, 64)
    test, written = lines(images[known:], labels[known:], 200 if options.quick else 500, rng)
    print(f"{known} digits to make training lines of; {len(images) - known} others in {len(test)} test lines")

    cutter = CutAndClassify(images[:known], labels[:known])
    baselines = []
    for name, cuts in (("cut at equal widths", equal_widths), ("cut through the least ink", least_ink)):
        found = [cutter.read(line, cuts(line, len(truth))) for line, truth in zip(test, written, strict=True)]
        baselines.append(error_rate(found, written))
        print(f"{name}, then nearest neighbours: label error rate {baselines[-1]:.3f}")

    model = reader(hidden, options.seed)
    x, y = lines(images[:known], labels[:known], count, rng)
    model.fit(
        x,
        y,
        loss=rc.losses.CTC(BLANK),
        optimizer=rc.optim.Adam(rc.optim.schedules.CosineDecay(LEARNING_RATE, epochs * count // BATCH_SIZE)),
        metrics=rc.metrics.EditDistance(BLANK),
        validation_data=(test, written),
        epochs=epochs,
        batch_size=BATCH_SIZE,
        clip_norm=1.0,
        seed=options.seed,
    )

    if options.plot:
        draw(model, test[:3], written[:3], options.plot)
    score = error_rate(read(model, test), written)
    measure = "label error rate"
    return common.report(
        "handwriting.py", score, min(baselines), measure=measure, against="nearest neighbours", better="lower"
    )


if __name__ == "__main__":
    raise SystemExit(main())
