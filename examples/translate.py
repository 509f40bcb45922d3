"""Translates dates from forty-three languages into English: "5 de marzo de 2026", "2026年3月5日木曜日" and
"2026. március 5." all become "5 March 2026".

    python examples/translate.py                        # a minute or two
    python examples/translate.py --plot translate.png   # and what the decoder looks at while it writes

Data: dates from 1900 to 2099 in the full, long and medium style of each language, written by Babel, which ships the
Unicode Consortium's locale data. The days to test with are in no language among those to learn from.

Model: an encoder reads the date's characters in both directions; a decoder with additive attention writes the English
date, looking back at the encoder's outputs before each character. In training it is fed the right characters (teacher
forcing), afterwards its own, by beam search.

Baseline: what one would program without knowing the languages. The longest number is the year. A word stands for the
month that it met most often in the training data, and the most telling word of a date decides. Where there are three
numbers they are day, month, year, or year, month, day.
"""

from __future__ import annotations

import datetime
import math
import re
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

import common
import recurra as rc

Integers = npt.NDArray[np.int64]

LANGUAGES = """af az bg bn ca cs da de el es et eu fi fr ga he hi hr hu id is it ja ka ko lt lv nb nl pl pt ro ru sk sl
sq sv sw th tr uk vi zh"""
STYLES = ("full", "long", "medium")
UNKNOWN, START, END = 0, 1, 2  # symbols beside the characters


class Pair(NamedTuple):
    """A date in some language and in English."""

    source: str
    target: str


def pairs(count: int, languages: list[str], rng: np.random.Generator) -> list[Pair]:
    """Different days, anywhere in 1900 to 2099, each in a language and style of its own."""
    from babel.dates import format_date

    first = datetime.date(1900, 1, 1)
    days = rng.choice((datetime.date(2100, 1, 1) - first).days, count, replace=False)
    chosen = rng.choice(languages, count).tolist()
    styles = rng.choice(STYLES, count).tolist()
    result = []
    for day, language, style in zip(days.tolist(), chosen, styles, strict=True):
        date = first + datetime.timedelta(day)
        source = format_date(date, style, locale=language)
        result.append(Pair(source, format_date(date, "long", locale="en_GB")))
    return result


class Alphabet:
    """The characters of some texts as numbers."""

    def __init__(self, texts: list[str]) -> None:
        self.characters = ["?", "<", ">", *sorted(set("".join(texts)))]  # the first three are UNKNOWN, START, END
        self._numbers = {character: number for number, character in enumerate(self.characters) if number > END}

    def __len__(self) -> int:
        return len(self.characters)

    def encode(self, text: str) -> Integers:
        return np.array([self._numbers.get(character, UNKNOWN) for character in text], np.int64)

    def decode(self, symbols: list[int]) -> str:
        return "".join(self.characters[symbol] for symbol in symbols if symbol != END)


class Translator:
    """An encoder and a decoder: one model to train, and its parts to search with."""

    def __init__(self, train: list[Pair], seed: int) -> None:
        self._sources = Alphabet([pair.source for pair in train])
        self._targets = Alphabet([pair.target for pair in train])
        source, target = rc.Input(tokens=len(self._sources)), rc.Input(tokens=len(self._targets))
        self._read, self._encoder = rc.Embedding(len(self._sources), 32), rc.GRU(32, 64, bidirectional=True)
        memory = self._encoder(self._read(source))  # (N, Tm, 128)
        embed, attend = rc.Embedding(len(self._targets), 32), rc.AttentionDecoder(32, 128, 128)
        score = rc.Linear(128, len(self._targets))
        self._decoder = embed, attend, score
        self._model = rc.Model((source, target), score(attend((embed(target), memory), state=memory.state)), seed=seed)

    def fit(self, train: list[Pair], seed: int) -> None:
        """Learns to write the targets' next character from the sources and the right characters before it."""
        x = [self._sources.encode(pair.source) for pair in train]
        y = [np.append(self._targets.encode(pair.target), END) for pair in train]
        fed = [np.append(START, symbols[:-1]) for symbols in y]
        epochs, batch_size = 6, 32
        self._model.fit(
            (x, fed),
            y,
            loss=rc.losses.CrossEntropy(),
            optimizer=rc.optim.Adam(rc.optim.schedules.OneCycle(6e-3, epochs * math.ceil(len(train) / batch_size))),
            epochs=epochs,
            batch_size=batch_size,
            clip_norm=1.0,
            seed=seed,
            verbose=2,
        )

    def __call__(self, texts: list[str]) -> tuple[list[str], npt.NDArray[np.floating]]:
        """The best translation of each text, and the attention's weights, (N, T, Tm)."""
        lengths = [len(text) for text in texts]
        x = np.zeros((len(texts), max(lengths)), np.int64)
        for row, text in zip(x, texts, strict=True):
            row[: len(text)] = self._sources.encode(text)
        memory, state = self._encoder(self._read(x)[0], lengths=lengths)
        found = rc.search.beam_search(
            self._decoder,
            start=START,
            end=END,
            max_steps=20,
            beam_size=4,
            memory=memory,
            memory_lengths=lengths,
            state=np.concatenate(list(state), axis=-1)[None],  # both directions side by side
        )
        return [self._targets.decode(symbols) for symbols in found.lists()], found.weights[:, 0]


class Rules:
    """The baseline: a dictionary of the months, learnt by counting, and the usual order of numbers."""

    def __init__(self, train: list[Pair]) -> None:
        met: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for source, target in train:
            for word in set(words(source)):
                met[word][target.split()[1]] += 1
        best = {word: months.most_common(1)[0] for word, months in met.items()}
        self._month = {word: month for word, (month, _) in best.items()}
        self._sureness = {word: count / (1 + sum(met[word].values())) for word, (_, count) in best.items()}

    def __call__(self, text: str) -> str:
        numbers = [str(int(number)) for number in re.findall(r"\d+", text)]
        year = max(numbers, key=len)
        others = [number for number in numbers if number != year]
        if len(others) == 2:
            day, number = others if numbers[-1] == year else reversed(others)
            month = datetime.date(2000, min(max(int(number), 1), 12), 1).strftime("%B")
        else:
            day = others[0] if others else "1"
            month = self._month.get(max(words(text), key=lambda word: self._sureness.get(word, 0)), "January")
        return f"{day} {month} {year}"


def words(text: str) -> list[str]:
    """Whatever stands between blanks, digits and punctuation."""
    return re.findall(r"[^\d\s.,()/-]+", text) or [""]


def draw(path: Path, translator: Translator, texts: list[str]) -> None:
    """For each text, how much of the attention each character of the translation paid to each of the text's."""
    figure = common.new_figure(9, 6)
    translations, weights = translator(texts)
    for axes, text, translation, shares in zip(figure.subplots(2, 2).flat, texts, translations, weights, strict=True):
        axes.imshow(shares[: len(translation), : len(text)], cmap="Blues", vmin=0, vmax=1, aspect="auto")
        axes.set_xticks(range(len(text)), list(text))
        axes.set_yticks(range(len(translation)), list(translation))
        axes.tick_params(length=0)
        axes.set_title(f"{text}\n{translation}", fontsize=10)
    common.save_plot(figure, path)


def main() -> int:
    arguments = common.arguments(__doc__)
    rng = np.random.default_rng(arguments.seed)
    languages = LANGUAGES.split()[:: 2 if arguments.quick else 1]
    held_out = 1000 if arguments.quick else 2000
    data = pairs(held_out + (4000 if arguments.quick else 12000), languages, rng)
    test, train = data[:held_out], data[held_out:]
    print(f"{len(train)} dates to learn from, {len(test)} held out, such as")
    for source, target in test[:4]:
        print(f"    {source} = {target}")

    translator = Translator(train, arguments.seed)
    translator.fit(train, seed=arguments.seed)
    translations, _ = translator([pair.source for pair in test])
    rules = Rules(train)
    score = np.mean([translation == pair.target for translation, pair in zip(translations, test, strict=True)])
    baseline = np.mean([rules(pair.source) == pair.target for pair in test])
    for translation, (source, target) in zip(translations, test, strict=True):
        if translation != target:
            print(f"wrong, for example: {source} = {target}, not {translation}")
            break
    if arguments.plot:
        draw(
            arguments.plot,
            translator,
            ["Πέμπτη 5 Μαρτίου 2026", "21. maaliskuuta 1987", "2049. gada 30. augusts", "11 de outubro de 1903"],
        )
    return common.report(
        "translate.py", 100 * score, 100 * baseline, measure="right dates", against="the rules", unit=" %"
    )


if __name__ == "__main__":
    sys.exit(main())
