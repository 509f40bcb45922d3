"""Tells lines of Python that compile from lines with a typing error, without knowing any grammar.

    python examples/classify.py                       # about a minute
    python examples/classify.py --plot classify.png   # and where the model looks in held-out lines

Data: short lines of Python's standard library, as it is installed, that are statements by themselves. Half of them get
an error: a character is left out, doubled, changed, or swapped with the next, so that Python's own parser refuses the
line. Every eighth module is held out.

Model: text classification, many to one. A convolution and a bidirectional GRU read the characters, attention pools the
GRU's outputs into one vector, and a linear layer decides. The attention's weights show what the verdict rests on.

Baseline: logistic regression on the counts (tf-idf) of all strings of one to three characters, from scikit-learn.
"""

from __future__ import annotations

import ast
import math
import sys
import sysconfig
import tokenize
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt

import common
import recurra as rc

Integers = npt.NDArray[np.int64]

LABELS = ("valid", "broken")


def parses(line: str) -> bool:
    """Whether Python accepts the line as a statement."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd escapes and the like are no errors
            ast.parse(line.strip())
    except (SyntaxError, ValueError):
        return False
    return True


def statements() -> tuple[list[str], list[str]]:
    """Lines to learn from, and lines of other modules to test with; each of them once."""
    train: list[str] = []
    held_out: list[str] = []
    seen: set[str] = set()
    for index, path in enumerate(sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))):
        with tokenize.open(path) as file:
            lines = dict.fromkeys(line.strip() for line in file)  # a set that keeps the order
        chosen = train if index % 8 else held_out
        chosen += [line for line in lines if line not in seen and suits(line)]
        seen.update(lines)
    return train, held_out


def suits(line: str) -> bool:
    """Whether this is a statement of some length, with something in it that a slip can break."""
    breakable = not set(line).isdisjoint("([{'\"")
    return breakable and 16 <= len(line) <= 40 and line.isascii() and not line.startswith("#") and parses(line)


def with_error(line: str, rng: np.random.Generator) -> str:
    """The line with one slip of the fingers, such that it does not parse."""
    while True:
        place, other = rng.integers(len(line) - 1), rng.integers(len(line))
        before, here, after = line[:place], line[place], line[place + 1 :]
        left_out, doubled = before + after, before + here + here + after
        changed, swapped = before + line[other] + after, before + after[0] + here + after[1:]
        slip = (left_out, doubled, changed, swapped)[rng.integers(4)]
        if not parses(slip):
            return slip


def labelled(lines: list[str], count: int, rng: np.random.Generator) -> tuple[list[str], Integers]:
    """`count` of the lines, half of them broken, and their labels."""
    lines = [lines[index] for index in rng.permutation(len(lines))[:count]]
    labels = rng.permutation(len(lines)) % 2
    return [with_error(line, rng) if label else line for line, label in zip(lines, labels, strict=True)], labels


def encode(lines: list[str]) -> list[Integers]:
    """Characters as numbers, 0 to 127."""
    return [np.frombuffer(line.encode("ascii"), np.uint8).astype(np.int64) for line in lines]


def ngram_accuracy(train: list[str], y: Integers, test: list[str], y_test: Integers) -> float:
    """The baseline's share of right answers."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    counts = TfidfVectorizer(analyzer="char", ngram_range=(1, 3), lowercase=False, sublinear_tf=True, min_df=2)
    return float(make_pipeline(counts, LogisticRegression(C=10, max_iter=200)).fit(train, y).score(test, y_test))


def draw(path: Path, model: rc.Sequential, lines: list[str], labels: Integers) -> None:
    """The lines with their verdicts; the redder a character, the more attention it gets."""
    from matplotlib.colors import to_rgba
    from matplotlib.patches import Rectangle

    *reader, pool, _ = model.layers
    reader = rc.Sequential(*reader)  # the same layers, with their weights
    columns = max(map(len, lines)) + 18
    figure = common.new_figure(9, 0.26 * len(lines) + 0.1)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(-1, columns - 1), ylim=(len(lines) - 0.4, -0.6))
    axes.axis("off")
    style = {"size": 9 * 72 / columns / 0.602, "family": "DejaVu Sans Mono", "va": "center"}  # 0.602: width over size
    for row, (line, x, label) in enumerate(zip(lines, encode(lines), labels, strict=True)):
        weights = pool.weights(reader(x[None])[0])[0]
        logits = model(x[None])[0][0].astype(np.float64)
        probability = 1 / (1 + np.exp(logits[0] - logits[1]))
        verdict = f"{probability:4.0%} {LABELS[1]}"
        axes.text(
            0, row, verdict, color="#0a7d33" if (probability > 0.5) == label else "#cf222e", weight="bold", **style
        )
        for column, (character, weight) in enumerate(zip(line, weights, strict=True), start=16):
            axes.add_patch(
                Rectangle((column, row - 0.45), 1, 0.9, color=to_rgba("#ff3333", min(float(weight), 1.0)), lw=0)
            )
            axes.text(column, row, character, **style)
    common.save_plot(figure, path)


def main() -> int:
    arguments = common.arguments(__doc__)
    rng = np.random.default_rng(arguments.seed)
    lines, other_lines = statements()
    train, y = labelled(lines, 4500 if arguments.quick else 10000, rng)
    test, y_test = labelled(other_lines, 600 if arguments.quick else 3000, rng)
    print(f"{len(train)} lines to learn from, {len(test)} held out, half of them broken, such as")
    for line, label in zip(test[:4], y_test, strict=False):
        print(f"    {LABELS[label]}: {line}")

    model = rc.Sequential(
        rc.Embedding(128, 32),
        rc.Conv1d(32, 48, 3, padding="same"),
        rc.Activation("relu"),
        rc.GRU(48, 48, bidirectional=True),
        rc.AttentionPool(96, 32),
        rc.Linear(96, len(LABELS)),
        seed=arguments.seed,
    )
    epochs, batch_size = 6 if arguments.quick else 8, 16
    model.fit(
        encode(train),
        y,
        loss=rc.losses.CrossEntropy(),
        optimizer=rc.optim.Adam(rc.optim.schedules.OneCycle(6e-3, epochs * math.ceil(len(train) / batch_size))),
        metrics=["accuracy"],
        epochs=epochs,
        batch_size=batch_size,
        clip_norm=1.0,
        seed=arguments.seed,
        verbose=2,
    )

    predicted = np.argmax(model.predict(encode(test)), axis=-1)
    score = np.mean(predicted == y_test)
    for label, name in enumerate(LABELS):
        print(f"of the {name} lines {np.mean(predicted[y_test == label] == label):.1%} are recognised")
    baseline = ngram_accuracy(train, y, test, y_test)
    if arguments.plot:
        draw(arguments.plot, model, test[:20], y_test[:20])
    return common.report(
        "classify.py", 100 * score, 100 * baseline, measure="accuracy", against="character trigrams", unit=" %"
    )


if __name__ == "__main__":
    sys.exit(main())
