"""Highlights Python code: says of every character whether it belongs to a keyword, a string, a comment and so on.

    python examples/tagging.py                      # about a minute
    python examples/tagging.py --plot tagging.png   # and a piece of held-out code, in the colours that the model sees

Data: the modules of Python's standard library, as they are installed, cut into windows of 256 characters. Python's own
`tokenize` says what each character is. Every eighth module is held out.

Model: sequence tagging, an output for every step of the input. A bidirectional GRU reads each window from both ends, so
that a character's tag can depend on all that stands before and behind it: a window may begin in the middle of a
docstring, and only the quotes at its end tell. A conditional random field behind it learns which tags follow each
other, and `viterbi` finds the best tags of a window as a whole, so that fewer words and strings fall into pieces.

Baseline: the commonest tag of a character among four neighbours on each side, in the training data; of fewer
neighbours where those were never seen.
"""

from __future__ import annotations

import io
import keyword
import math
import re
import sys
import sysconfig
import tokenize
from pathlib import Path

import numpy as np
import numpy.typing as npt

import common
import recurra as rc

Integers = npt.NDArray[np.int64]

COLOURS = {  # of every tag
    "blank": "#24292f",
    "keyword": "#cf222e",
    "name": "#24292f",
    "definition": "#8250df",
    "number": "#0550ae",
    "string": "#0a7d33",
    "comment": "#8c959f",
    "operator": "#bc6c00",
}
TAGS = list(COLOURS)
KINDS = {tokenize.NUMBER: "number", tokenize.COMMENT: "comment", tokenize.OP: "operator", tokenize.STRING: "string"}
for fstring in ("FSTRING_START", "FSTRING_MIDDLE", "FSTRING_END"):  # from Python 3.12 on
    KINDS |= {getattr(tokenize, fstring): "string"} if hasattr(tokenize, fstring) else {}
SYMBOLS = 128  # ASCII; all other characters count as the last one
WINDOW = 256


def encode(source: str) -> Integers:
    """Characters as numbers."""
    return np.array([min(ord(character), SYMBOLS - 1) for character in source], np.int64)


def tag(source: str) -> Integers:
    """The tag of every character, by Python's own tokenizer."""
    lines = list(io.StringIO(source))
    starts = np.cumsum([0] + [len(line) for line in lines])
    tags = np.full(len(source), TAGS.index("blank"), np.int64)
    before = ""
    for token in tokenize.generate_tokens(iter(lines).__next__):
        kind = KINDS.get(token.type)
        if token.type == tokenize.NAME:
            defines = before in ("def", "class")
            kind = "keyword" if keyword.iskeyword(token.string) else "definition" if defines else "name"
        if kind:
            (first, left), (last, right) = token.start, token.end
            tags[starts[first - 1] + left : starts[last - 1] + right] = TAGS.index(kind)
        before = token.string
    return tags


def standard_library() -> tuple[list[str], list[str]]:
    """The sources of its modules: those to learn from, and those held out."""
    sources = []
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        with tokenize.open(path) as file:
            sources.append(file.read())
    return [source for index, source in enumerate(sources) if index % 8], sources[::8]


def windows(sources: list[str], count: int, rng: np.random.Generator) -> tuple[Integers, Integers]:
    """Characters and their tags, (count, WINDOW) each, from anywhere in the sources."""
    characters = np.concatenate([encode(source) for source in sources])
    tags = np.concatenate([tag(source) for source in sources])
    chosen = rng.permutation(len(tags) // WINDOW)[:count, None] * WINDOW + np.arange(WINDOW)
    return characters[chosen], tags[chosen]


def commonest_tags(x: Integers, tags: Integers, x_test: Integers) -> Integers:
    """The baseline: for every character of `x_test` the commonest tag in the widest context that `x` has, too."""
    found = np.zeros_like(x_test)
    for radius in range(5):
        strings, index = np.unique(contexts(x, radius), return_inverse=True)
        counts = np.bincount(index.ravel() * len(TAGS) + tags.ravel(), minlength=len(strings) * len(TAGS))
        best = counts.reshape(-1, len(TAGS)).argmax(axis=-1)
        wanted = contexts(x_test, radius)
        place = np.minimum(np.searchsorted(strings, wanted), len(strings) - 1)
        found = np.where(strings[place] == wanted, best[place], found)
    return found


def contexts(x: Integers, radius: int) -> Integers:
    """Every character with `radius` neighbours on either side, as one number."""
    padded = np.pad(x, ((0, 0), (radius, radius)))
    codes = np.zeros_like(x)
    for offset in range(2 * radius + 1):
        codes = codes * SYMBOLS + padded[:, offset : offset + x.shape[1]]
    return codes


def whole(right: npt.NDArray[np.bool_], tags: Integers) -> float:
    """The share of the runs of one tag in which every character is right."""
    starts = np.flatnonzero(np.diff(tags.ravel(), prepend=-1))
    return float(np.logical_and.reduceat(right.ravel(), starts).mean())


def varied_piece(sources: list[str], lines: int = 26) -> tuple[str, Integers]:
    """The beginning of a class where there is something of everything, with its tags."""
    pieces = []
    for source in sources:
        tags = tag(source)
        for match in re.finditer(rf"^class (.*\n){{{lines}}}", source, re.MULTILINE):
            pieces.append((match.group(), tags[match.start() : match.end()]))
    return max(pieces, key=lambda piece: np.sort(np.bincount(piece[1], minlength=len(TAGS)))[:4].tolist())


def draw(path: Path, source: str, tags: Integers, truth: Integers) -> None:
    """The source in the colours of its tags; where they are not the true ones it lies on red."""
    from matplotlib.patches import Rectangle

    lines = source.splitlines()
    columns = max(map(len, lines)) + 2
    figure = common.new_figure(9, 0.21 * len(lines) + 0.4)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(-1, columns - 1), ylim=(len(lines) - 0.4, -1.6))
    axes.axis("off")
    for index, name in enumerate(TAGS[1:]):
        axes.text(index * columns / len(TAGS), -1, name, color=COLOURS[name], size=9, weight="bold", va="center")
    style = {"size": 9 * 72 / columns / 0.602, "family": "DejaVu Sans Mono", "va": "center"}  # 0.602: width over size
    position = 0
    for row, line in enumerate(lines):
        for column, character in enumerate(line):
            if tags[position] != truth[position]:
                axes.add_patch(Rectangle((column, row - 0.5), 1, 1, color="#ffb3b3", lw=0))
            axes.text(column, row, character, color=COLOURS[TAGS[tags[position]]], **style)
            position += 1
        position += 1  # the line's end
    common.save_plot(figure, path)


def main() -> int:
    arguments = common.arguments(__doc__)
    rng = np.random.default_rng(arguments.seed)
    train, held_out = standard_library()
    x, y = windows(train, 700 if arguments.quick else 4000, rng)
    x_test, y_test = windows(held_out, 300 if arguments.quick else 1000, rng)
    print(
        f"{len(train)} modules to learn from, {len(held_out)} held out; {y.size:,} and {y_test.size:,} characters of "
        "them"
    )

    crf = rc.CRF(len(TAGS))
    model = rc.Sequential(
        rc.Embedding(SYMBOLS, 32),
        rc.GRU(32, 96, bidirectional=True),
        rc.Linear(2 * 96, len(TAGS)),
        crf,
        seed=arguments.seed,
    )
    epochs, batch_size = 3, 16
    model.fit(
        x,
        y,
        loss=rc.losses.CRF(crf),
        optimizer=rc.optim.Adam(rc.optim.schedules.OneCycle(6e-3, epochs * math.ceil(len(x) / batch_size))),
        metrics=[rc.metrics.Viterbi(crf, "accuracy")],
        epochs=epochs,
        batch_size=batch_size,
        clip_norm=1.0,
        seed=arguments.seed,
        verbose=2,
    )

    scores = model.predict(x_test)
    right = crf.viterbi(scores) == y_test
    baseline = commonest_tags(x, y, x_test) == y_test
    print("tag         share  model  baseline   (of the characters with this tag, how many are found)")
    for index, name in enumerate(TAGS):
        these = y_test == index
        print(f"{name:10} {these.mean():6.1%} {right[these].mean():6.1%}    {baseline[these].mean():6.1%}")
    print(
        f"words, strings, ... without a wrong character: {whole(right, y_test):.1%}, of the baseline "
        f"{whole(baseline, y_test):.1%}"
    )
    if arguments.plot:
        part, truth = varied_piece(held_out)
        draw(arguments.plot, part, crf.viterbi(model.predict(encode(part)[None]))[0], truth)
    return common.report(
        "tagging.py",
        100 * right.mean(),
        100 * baseline.mean(),
        measure="accuracy",
        against="the commonest tag in context",
        unit=" %",
    )


if __name__ == "__main__":
    sys.exit(main())
