"""Hears how a customer feels in each turn of a telephone call, and from all of them whether the call is going wrong.

    python examples/call_centre.py                        # a minute or two
    python examples/call_centre.py --quick                # some fifteen seconds
    python examples/call_centre.py --plot call_centre.png       # turns as they sound, and calls as they were understood

Data: made for the purpose. The synthesiser espeak-ng (Debian, Ubuntu: apt-get install espeak-ng) says sentences that
tell nothing of the mood, in many voices with a pitch and speed of their own. A mood is a course of speed, pitch and
loudness over the sentence: level (calm), slower in the middle (hesitant), ever faster, higher and louder (impatient),
or the other way (resigned). Its mean is the same for all. A call is three to five turns of one customer, who begins
calm or hesitant mostly and ends impatient or resigned, or the other way round. Test voices are in no training call.

Models: a convolution and a bidirectional GRU read a turn's log-mel spectrogram, many to one, and name the mood; a
second GRU reads what the first one says of each turn of a call, and tells whether it is getting worse.

Baselines: logistic regression on mean and deviation of every band over the turn, and over the whole call. The score
is the share of turns whose mood is heard right; the calls, of which there are fewer, are told beside it.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

import common
import recurra as rc
from speech import ACCENTS, BANDS, HOP, RATE, TEST_VOICES, TRAIN_VOICES, log_mel, synthesise, with_noise

MOODS = ("calm", "hesitant", "impatient", "resigned")
COURSES = np.array([[0, 0, 0], [1, -2, 1], [-1, 0, 1], [1, 0, -1]])  # of the three thirds of a sentence
BEGINS, ENDS = np.array([0.6, 0.3, 0.05, 0.05]), np.array([0.05, 0.05, 0.5, 0.4])  # moods in calls that get worse
OPENERS = ("I am calling about", "this is again about", "I would like to talk about", "it is a question about")
TOPICS = ("the invoice that", "the new contract that", "the parcel that", "the telephone line that", "the repair that")
TIMES = ("you sent me on Monday", "was promised for last week", "my neighbour told me of", "I ordered in the summer")
LEARNING_RATE = 3e-3
BATCH_SIZE = 32

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]


class Call(NamedTuple):
    """The log-mel spectrogram and the mood of each turn, and whether the call gets worse."""

    sounds: list[Floats]  # (T, BANDS) each
    moods: Integers
    worse: int


def sentence(mood: int, rng: np.random.Generator) -> str:
    """A sentence in the mood, in SSML: each third has its own speed, pitch and loudness."""
    thirds = rng.choice(OPENERS), rng.choice(TOPICS), rng.choice(TIMES)
    strength = rng.uniform(0.5, 1.1) * COURSES[mood] + rng.normal(0, 0.12, 3)
    return "".join(
        f'<prosody rate="{100 + 25 * by:.0f}%" pitch="{100 + 20 * by:.0f}%" volume="{4 * by:+.1f}dB">{words}</prosody> '
        for by, words in zip(strength, thirds, strict=True)
    )


def calls(count: int, voices: Sequence[str], rng: np.random.Generator) -> list[Call]:
    """Calls, half of which get worse, of customers with a voice, a speed and a pitch of their own."""
    if not shutil.which("espeak-ng"):
        raise SystemExit("call_centre.py: espeak-ng is not installed; on Debian and Ubuntu: apt-get install espeak-ng")
    moods, commands = [], []
    for number in range(count):
        first, last = (BEGINS, ENDS) if number % 2 else (ENDS, BEGINS)
        parts = np.linspace(0, 1, rng.integers(3, 6))
        moods.append(np.array([rng.choice(len(MOODS), p=(1 - part) * first + part * last) for part in parts]))
        voice, speed, pitch = (
            f"{rng.choice(ACCENTS)}+{rng.choice(voices)}",
            rng.integers(150, 211),
            rng.integers(30, 71),
        )
        options = ["espeak-ng", "--stdout", "-m", "-v", voice, "-s", str(speed), "-p", str(pitch)]
        commands += [[*options, sentence(int(mood), rng)] for mood in moods[-1]]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        sounds = iter(list(pool.map(synthesise, commands)))
    # every second frame: moods are slower than letters
    return [
        Call([log_mel(with_noise(next(sounds), rng))[::2] for _ in own], own, number % 2)
        for number, own in enumerate(moods)
    ]


def summary(sounds: list[Floats]) -> Floats:
    """Mean and deviation of each band over all steps."""
    steps = np.concatenate(sounds)
    return np.concatenate([steps.mean(0), steps.std(0)])


def linear(x: list[Floats], y: Sequence[int], test: list[Floats]) -> Integers:
    """The baselines' answers."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return np.asarray(make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(x, y).predict(test))


def fit(model: rc.Sequential, x: list[Floats], y: Sequence[int], epochs: int, seed: int) -> None:
    """Trains either model."""
    model.fit(
        x,
        np.array(y),
        loss=rc.losses.CrossEntropy(),
        optimizer=rc.optim.Adam(rc.optim.schedules.OneCycle(LEARNING_RATE, epochs * math.ceil(len(x) / BATCH_SIZE))),
        epochs=epochs,
        batch_size=BATCH_SIZE,
        clip_norm=1.0,
        seed=seed,
        verbose=0,
    )


def log_softmax(logits: Floats) -> Floats:
    """The logarithms of probabilities."""
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def said(model: rc.Sequential, given: list[Call]) -> list[Floats]:
    """What the model of turns says of each call: (turns, moods), logarithms of probabilities."""
    logits = model.predict([sound for call in given for sound in call.sounds])
    return np.split(log_softmax(logits), np.cumsum([len(call.moods) for call in given])[:-1])


def draw(path: Path, test: list[Call], heard: list[Floats], worse: Floats) -> None:
    """A turn in each mood, and the moods heard in some calls."""
    figure = common.new_figure(11, 4.6)
    grid = figure.add_gridspec(2, 4, height_ratios=(1, 1))
    turns = [
        (sound, mood, row)
        for call, rows in zip(test, heard, strict=True)
        for sound, mood, row in zip(*call[:2], rows, strict=True)
    ]
    for mood, name in enumerate(MOODS):
        axis = figure.add_subplot(grid[0, mood])
        sound, _, row = next(turn for turn in turns if turn[1] == mood)
        seconds = len(sound) * 2 * HOP / RATE
        axis.imshow(sound.T, origin="lower", aspect="auto", cmap="magma", extent=(0, seconds, 0, BANDS))
        axis.set_title(f"{name}: heard as {MOODS[int(row.argmax())]}", fontsize=10)
        axis.set_xlabel("seconds")
        if not mood:
            axis.set_ylabel("mel band")
    for place in range(4):
        axis = figure.add_subplot(grid[1, place])
        call, rows, probability = test[place], np.exp(heard[place]), worse[place]
        below = np.zeros(len(rows))
        for mood in range(len(MOODS)):
            axis.bar(
                np.arange(1, len(rows) + 1),
                rows[:, mood],
                0.8,
                below,
                color=("C0", "C2", "C3", "C1")[mood],
                label=MOODS[mood],
            )
            below += rows[:, mood]
        for turn, mood in enumerate(call.moods, 1):
            axis.text(turn, 1.03, MOODS[mood][0], ha="center", fontsize=9)
        axis.set(ylim=(0, 1.15), xlabel="turn", xticks=range(1, len(rows) + 1))
        axis.set_title(f"{'worse' if call.worse else 'better'}: {probability:.0%} that it gets worse", fontsize=10)
        if not place:
            axis.set_ylabel("probability of moods")
            axis.legend(fontsize=7, loc="lower left", framealpha=0.9)
    common.save_plot(figure, path)


def main() -> int:
    options = common.arguments(__doc__)
    rng = np.random.default_rng(options.seed)
    train = calls(140 if options.quick else 450, TRAIN_VOICES, rng)
    test = calls(60 if options.quick else 200, TEST_VOICES, rng)
    (sounds, moods), (test_sounds, test_moods) = (
        ([sound for call in given for sound in call.sounds], np.concatenate([call.moods for call in given]))
        for given in (train, test)
    )
    worse, test_worse = (np.array([call.worse for call in given]) for given in (train, test))
    print(f"{len(train)} calls of {len(sounds)} turns to learn from; {len(test)} of {len(test_sounds)} in other voices")

    of_turns = rc.Sequential(
        rc.Conv1d(BANDS, 48, 5, stride=2, padding="same"),
        rc.Activation("relu"),
        rc.GRU(48, 48, bidirectional=True),
        rc.Pool("mean"),
        rc.Dropout(0.3),
        rc.Linear(2 * 48, len(MOODS)),
        seed=options.seed,
    )
    fit(of_turns, sounds, moods, 14 if options.quick else 16, options.seed)
    of_calls = rc.Sequential(rc.GRU(len(MOODS), 16, return_sequences=False), rc.Linear(16, 2), seed=options.seed)
    fit(of_calls, said(of_turns, train), worse, 40, options.seed)

    heard = said(of_turns, test)
    judged = of_calls.predict(heard)
    answers = {
        "mean and deviation of bands, linear": (
            linear([summary([sound]) for sound in sounds], moods, [summary([sound]) for sound in test_sounds]),
            linear([summary(call.sounds) for call in train], worse, [summary(call.sounds) for call in test]),
        ),
        "GRU over turns, GRU over calls": (np.concatenate(heard).argmax(-1), judged.argmax(-1)),
    }
    rates = {}
    print(f"{'':38}{'moods':>8}{'calls':>8}")
    for name, (of_turn, of_call) in answers.items():
        rates[name] = 100 * np.mean(of_turn == test_moods), 100 * np.mean(of_call == test_worse)
        print(f"{name:38}" + "".join(f"{rate:7.1f}%" for rate in rates[name]))
    if options.plot:
        draw(options.plot, test, heard, np.exp(log_softmax(judged))[:, 1])
    (baseline, _), (score, _) = rates.values()
    return common.report(
        "call_centre.py", score, baseline, measure="moods heard right", against="means and deviations", unit=" %"
    )


if __name__ == "__main__":
    raise SystemExit(main())
