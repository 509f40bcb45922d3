"""Trains a character-level LSTM language model, saves it, loads it again and draws a sample from it.

    python examples/language_model.py                   # Python's own language reference, some 350,000 characters
    python examples/language_model.py --text FILE       # any text file (UTF-8)
    python examples/language_model.py --quick           # a small model and two epochs: 20 seconds, poor samples

After every epoch it prints the bits per character on held-out text, beside those of a Witten-Bell 5-gram that was
trained on the same text (`ngram.py`). Lower is better; the two predict the same characters.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import recurra as rc
from ngram import Symbols, WittenBell

WINDOW = 128  # characters of a training sequence
BATCH_SIZE = 16
LEARNING_RATE = 5e-3
TRAINING_CHARACTERS = 4_000_000  # the default number of epochs reads about as many


class Alphabet:
    """The characters of a text, numbered from 1; 0 is any other character."""

    def __init__(self, text: str) -> None:
        self.characters = "\ufffd" + "".join(sorted(set(text)))
        self._numbers = {character: number for number, character in enumerate(self.characters)}

    def encode(self, document: str) -> Symbols:
        """The document's symbols behind one line feed, which is there only to predict the first character from."""
        return np.array([self._numbers.get(character, 0) for character in "\n" + document], np.int64)


def language_reference() -> list[str]:
    """The topics of Python's language reference. Lines seen before, most of them in other topics, are left out."""
    from pydoc_data.topics import topics

    seen: set[str] = set()
    documents = []
    for name in sorted(topics):
        lines = []
        for line in topics[name].split("\n"):
            content = line.strip()
            if content not in seen:
                lines.append(line)
            if content:
                seen.add(content)
        documents.append("\n".join(lines))
    return documents


def pieces(text: str) -> list[str]:
    """The text cut at line ends into about fifty documents."""
    size = len(text) // 50
    documents = [""]
    for line in text.splitlines(keepends=True):
        if len(documents[-1]) > size:
            documents.append("")
        documents[-1] += line
    return documents


def split(documents: list[str]) -> tuple[list[str], list[str]]:
    """Documents to train on, and every tenth to test with."""
    train = [document for index, document in enumerate(documents) if index % 10 != 5]
    test = [document for document in documents[5::10] if document]
    if sum(map(len, train)) < 10 * WINDOW or not test:
        raise SystemExit(f"language_model.py: the text is too short; expected some {20 * WINDOW} characters in lines")
    return train, test


def batches(documents: list[Symbols], rng: np.random.Generator) -> Iterator[tuple[Symbols, Symbols]]:
    """Inputs and targets, each (BATCH_SIZE, WINDOW), from the documents in a new order and with new bounds at each
    call."""
    text = np.concatenate([documents[index] for index in rng.permutation(len(documents))])
    text = text[rng.integers(min(WINDOW, len(text) - WINDOW)) :]
    x, y = rc.data.windows(text, WINDOW, stride=WINDOW, horizon=1, aligned=True)
    order = rng.permutation(len(x))
    for begin in range(0, len(x), BATCH_SIZE):
        rows = order[begin : begin + BATCH_SIZE]
        yield x[rows, :, 0], y[rows, :, 0]


def bits_per_character(model: rc.Sequential, documents: list[Symbols]) -> float:
    """On whole documents, so that every character is predicted from all that comes before it."""
    inputs = [document[:-1] for document in documents]
    targets = [document[1:] for document in documents]
    return model.evaluate(inputs, targets, loss=rc.losses.CrossEntropy()) / math.log(2)


def sample(model: rc.Sequential, alphabet: Alphabet, length: int, temperature: float, seed: int) -> None:
    """Prints characters as the model draws them, but never the one that stands for all others."""
    rc.generate(
        model,
        alphabet.encode("")[None],  # (1, 1): the line feed before a document
        length,
        temperature=temperature,
        suppress=0,
        seed=seed,
        callback=lambda _step, symbols, _drew: print(alphabet.characters[symbols[0]], end="", flush=True),
    )
    print()


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train a character-level LSTM language model and sample from it.")
    parser.add_argument("--text", type=Path, help="a UTF-8 text file; the default is Python's language reference")
    parser.add_argument("--save", type=Path, default=Path("language_model.safetensors"), help="where the model goes")
    parser.add_argument("--epochs", type=int, help=f"the default reads about {TRAINING_CHARACTERS:,} characters")
    parser.add_argument("--hidden", type=int, help="hidden units of the LSTM (default: 256; 96 with --quick)")
    parser.add_argument("--sample", type=int, default=600, help="characters to sample")
    parser.add_argument("--temperature", type=float, default=0.7, help="lower is safer, higher is wilder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="a small model and two epochs, to see it run")
    arguments = parser.parse_args()
    arguments.hidden = arguments.hidden or (96 if arguments.quick else 256)
    return arguments


def main() -> None:
    arguments = parse_arguments()
    start = time.perf_counter()

    documents = pieces(arguments.text.read_text(encoding="utf-8")) if arguments.text else language_reference()
    train_text, test_text = split(documents)
    alphabet = Alphabet("".join(train_text))
    train = [alphabet.encode(document) for document in train_text]
    test = [alphabet.encode(document) for document in test_text]
    characters = sum(map(len, train_text))
    symbols = len(alphabet.characters)
    print(f"{characters:,} characters to train on, {sum(map(len, test_text)):,} held out, {symbols} symbols")

    ngram = WittenBell(train, order=5, vocabulary=symbols).bits_per_symbol(test)
    print(f"Witten-Bell 5-gram: {ngram:.3f} bits per character on the held-out text")

    model = rc.Sequential(
        rc.Embedding(symbols, 64),
        rc.LSTM(64, arguments.hidden),
        rc.Dropout(0.3),
        rc.Linear(arguments.hidden, symbols),
        seed=arguments.seed,
    )
    epochs = arguments.epochs or (2 if arguments.quick else max(1, round(TRAINING_CHARACTERS / characters)))
    steps = epochs * math.ceil(characters / (WINDOW * BATCH_SIZE))

    def report(epoch: int, logs: dict[str, float]) -> None:
        score = f"LSTM {bits_per_character(model, test):.3f}, 5-gram {ngram:.3f} bits per character"
        print(f"after epoch {epoch + 1} of {epochs}: {score} ({time.perf_counter() - start:.0f} s)")

    model.fit(
        lambda epoch: batches(train, np.random.default_rng((arguments.seed, epoch))),
        loss=rc.losses.CrossEntropy(),
        optimizer=rc.optim.Adam(rc.optim.schedules.CosineDecay(LEARNING_RATE, steps)),
        epochs=epochs,
        clip_norm=1.0,
        callbacks=rc.callbacks.LambdaCallback(on_epoch_end=report),
        seed=arguments.seed,
    )

    model.save(arguments.save)
    model = rc.load(arguments.save)
    bits = bits_per_character(model, test)
    verdict = "better than" if bits < ngram else "not better than"
    print(f"\nsaved to {arguments.save} and loaded again: {bits:.3f} bits per character, {verdict} the 5-gram")

    print(f"a sample at temperature {arguments.temperature}:\n")
    sample(model, alphabet, arguments.sample, arguments.temperature, arguments.seed)


if __name__ == "__main__":
    main()
