"""Recognises spoken words, letter by letter, in voices that it has never heard.

    python examples/speech.py                     # a minute or two
    python examples/speech.py --plot speech.png   # and where in the sound it hears which letter

Data: made for the purpose. The synthesiser espeak-ng (Debian, Ubuntu: apt-get install espeak-ng) says forty words in
four accents, at varied speeds and pitches, and noise of 5 to 20 dB is laid over it. The model learns from nine voices
and is tested with four others. What goes in is the logarithm of the power in forty bands of the mel scale (log-mel).

Model: a convolution halves the steps, a bidirectional GRU reads them, and CTC learns where the letters are from nothing
but the words' spelling. The most probable of the forty words is what it recognises; what it spells by a prefix beam
search that knows no words, where every letter must be right, is printed, too.

Baseline: the nearest of twelve recordings of each word by dynamic time warping, the classical recogniser of single
words.
"""

from __future__ import annotations

import math
import os
import shutil
import string
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

import common
import recurra as rc

Array = npt.NDArray[np.float32]

WORDS = """zero one two three four five six seven eight nine red green blue yellow white black orange purple start stop
left right up down yes no open close play pause forward back louder quieter morning evening summer winter river
mountain"""
ACCENTS = ("en-us", "en-029", "en-gb-scotland", "en-gb-x-rp")
TRAIN_VOICES = ("m1", "m2", "m4", "m5", "m7", "f1", "f2", "f4", "croak")
TEST_VOICES = ("m3", "m6", "f3", "f5")

RATE = 22050  # samples a second
FRAME, HOP = 512, 256  # samples: 23 ms and 12 ms
BANDS = 40
LETTERS = "-" + string.ascii_lowercase  # class 0 is CTC's blank


class Recording(NamedTuple):
    """A word and its log-mel spectrogram, (T, BANDS)."""

    word: str
    sound: Array


def record(words: list[str], voices: tuple[str, ...], count: int, rng: np.random.Generator) -> list[Recording]:
    """Each word equally often, in voices, accents, speeds, pitches and noises drawn by the generator."""
    if not shutil.which("espeak-ng"):
        raise SystemExit("speech.py: espeak-ng is not installed; on Debian and Ubuntu: apt-get install espeak-ng")
    said = [words[index % len(words)] for index in range(count)]
    commands = []
    for word in said:
        voice = f"{rng.choice(ACCENTS)}+{rng.choice(voices)}"
        speed, pitch = rng.integers(120, 221), rng.integers(20, 81)
        commands.append(["espeak-ng", "--stdout", "-v", voice, "-s", str(speed), "-p", str(pitch), word])
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        sounds = list(pool.map(synthesise, commands))
    return [Recording(word, log_mel(with_noise(sound, rng))) for word, sound in zip(said, sounds, strict=True)]


def synthesise(command: list[str]) -> Array:
    """The samples that it prints, behind 44 bytes that say what they are, without the silence at their end."""
    wave = subprocess.run(command, capture_output=True, check=True).stdout
    sound = np.frombuffer(wave[44:], "<i2").astype(np.float32) / 2**15
    return sound[: max(FRAME, np.flatnonzero(np.abs(sound) > 0.003)[-1])]


def with_noise(sound: Array, rng: np.random.Generator) -> Array:
    """The sound with white noise, 5 to 20 dB below it."""
    level = np.sqrt(np.mean(sound**2)) * 10 ** (-rng.uniform(5, 20) / 20)
    return sound + level * rng.standard_normal(len(sound), np.float32)


def mel_filters() -> Array:
    """Triangles with equal spacing in mel, (FRAME // 2 + 1, BANDS)."""
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + RATE / 2 / 700), BANDS + 2) / 2595) - 1)
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    frequency = np.fft.rfftfreq(FRAME, 1 / RATE)[:, None]
    rising, falling = (frequency - low) / (centre - low), (high - frequency) / (high - centre)
    return np.maximum(0, np.minimum(rising, falling)).astype(np.float32)


def log_mel(sound: Array) -> Array:
    """Log-mel features of every frame, (T, BANDS), each band with mean 0, all together with standard deviation 1."""
    frames = np.lib.stride_tricks.sliding_window_view(sound, FRAME)[::HOP] * np.hanning(FRAME)
    features = np.log(np.abs(np.fft.rfft(frames)) ** 2 @ mel_filters() + 1e-6)
    features -= features.mean(axis=0)
    return (features / features.std()).astype(np.float32)


def spelling(word: str) -> npt.NDArray[np.int64]:
    """A word as labels."""
    return np.array([LETTERS.index(letter) for letter in word], np.int64)


def hear(logits: Array) -> str:
    """The most probable spelling, from the model's outputs for one recording, (T, 27)."""
    best = rc.ctc.beam_search(logits[None])[0][0]
    return "".join(LETTERS[label] for label in best.labels)


def recognise(logits: Array, words: list[str]) -> str:
    """The most probable of some words."""
    loss = rc.losses.CTC(infeasible="error")
    return min(words, key=lambda word: loss(logits[None], [spelling(word)], gradient=False).sum)


def warped_distances(sound: Array, templates: list[Array]) -> Array:
    """Dynamic time warping: the mean distance along the best alignment of `sound` with each template."""
    steps = np.array([len(template) for template in templates])
    stacked = np.zeros((len(templates), steps.max(), BANDS), np.float32)
    for row, template in zip(stacked, templates, strict=True):
        row[: len(template)] = template
    squares = (sound**2).sum(-1)[:, None, None] + (stacked**2).sum(-1) - 2 * np.einsum("if,kjf->ikj", sound, stacked)
    cost = np.sqrt(np.maximum(squares, 0))  # (T, templates, steps)
    total = np.cumsum(cost[0], axis=-1)
    for here in cost[1:]:
        diagonal = np.minimum(total[:, 1:], total[:, :-1])
        total[:, 0] += here[:, 0]
        for step in range(1, total.shape[1]):
            total[:, step] = here[:, step] + np.minimum(diagonal[:, step - 1], total[:, step - 1])
    return total[np.arange(len(templates)), steps - 1] / (steps + len(sound))


def nearest_words(train: list[Recording], test: list[Recording], each: int) -> list[str]:
    """The baseline: for each recording to test with, the word of the nearest one among `each` of every word."""
    templates = train[: each * len({recording.word for recording in train})]
    sounds = [recording.sound[::2] for recording in templates]
    return [templates[int(np.argmin(warped_distances(sound[::2], sounds)))].word for _, sound in test]


def draw(path: Path, model: rc.Sequential, recordings: list[Recording]) -> None:
    """Spectrograms, and below them the probability of every letter at each step."""
    figure = common.new_figure(9, 4.5)
    grid = figure.subplots(2, len(recordings), sharex="col", height_ratios=(1, 1))
    for (top, bottom), (word, sound) in zip(grid.T, recordings, strict=True):
        logits = model.predict([sound])[0]
        probabilities = np.exp(logits - logits.max(-1, keepdims=True))
        probabilities /= probabilities.sum(-1, keepdims=True)
        seconds = np.arange(len(logits)) * 2 * HOP / RATE
        top.imshow(sound.T, origin="lower", aspect="auto", cmap="magma", extent=(0, len(sound) * HOP / RATE, 0, BANDS))
        top.set_title(f"“{word}”, heard as “{hear(logits)}”", fontsize=10)
        bottom.plot(seconds, probabilities[:, 0], color="0.8", lw=1)
        best = probabilities.argmax(-1)
        begins = np.flatnonzero((best != 0) & (np.diff(best, prepend=0) != 0))  # the steps at which a letter begins
        for index, (begin, label) in enumerate(zip(begins, best[begins], strict=True)):
            colour = f"C{index}"
            bottom.plot(seconds, probabilities[:, label], color=colour, lw=1.5)
            bottom.text(seconds[begin], 1.05, LETTERS[label], color=colour, ha="center", weight="bold")
        bottom.set(xlabel="seconds", ylim=(0, 1.2))
        bottom.spines[["top", "right"]].set_visible(False)
    grid[0, 0].set_ylabel("mel band")
    grid[1, 0].set_ylabel("probability (grey: blank)")
    common.save_plot(figure, path)


def main() -> int:
    arguments = common.arguments(__doc__)
    rng = np.random.default_rng(arguments.seed)
    words = WORDS.split()[: 20 if arguments.quick else 40]
    train = record(words, TRAIN_VOICES, 700 if arguments.quick else 3000, rng)
    test = record(words, TEST_VOICES, 200 if arguments.quick else 400, rng)
    minutes = sum(len(recording.sound) for recording in train) * HOP / RATE / 60
    print(
        f"{len(train)} recordings of {len(words)} words to learn from, {minutes:.0f} minutes; {len(test)} in other "
        "voices"
    )

    model = rc.Sequential(
        rc.Conv1d(BANDS, 64, 5, stride=2, padding="same"),
        rc.Activation("relu"),
        rc.GRU(64, 96, bidirectional=True),
        rc.Dropout(0.2),
        rc.Linear(2 * 96, len(LETTERS)),
        seed=arguments.seed,
    )
    epochs, batch_size = 24 if arguments.quick else 16, 16
    model.fit(
        [recording.sound for recording in train],
        [spelling(recording.word) for recording in train],
        loss=rc.losses.CTC(),
        optimizer=rc.optim.Adam(rc.optim.schedules.OneCycle(4e-3, epochs * math.ceil(len(train) / batch_size))),
        epochs=epochs,
        batch_size=batch_size,
        clip_norm=5.0,
        seed=arguments.seed,
        verbose=2,
    )

    outputs = model.predict([recording.sound for recording in test])
    heard = [hear(logits) for logits in outputs]
    recognised = [recognise(logits, words) for logits in outputs]
    nearest = nearest_words(train, test, each=12)
    spelled = np.mean([word == recording.word for word, recording in zip(heard, test, strict=True)])
    score = np.mean([word == recording.word for word, recording in zip(recognised, test, strict=True)])
    baseline = np.mean([word == recording.word for word, recording in zip(nearest, test, strict=True)])
    wrong = [
        f"{recording.word} as {word}" for word, recording in zip(heard, test, strict=True) if word != recording.word
    ]
    print(f"spelled without a list of words: {spelled:.1%} right; wrong, for example: {', '.join(wrong[:5]) or 'none'}")
    if arguments.plot:
        draw(
            arguments.plot,
            model,
            [recording for recording in test if recording.word in ("seven", "orange", "yellow")][:3],
        )
    return common.report(
        "speech.py", 100 * score, 100 * baseline, measure="words right", against="dynamic time warping", unit=" %"
    )


if __name__ == "__main__":
    sys.exit(main())
