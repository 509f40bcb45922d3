"""Finds speech in a recording as it comes in, with the voice detector of silero-vad, and without its framework.

    python examples/voice.py                     # about half a minute
    python examples/voice.py --plot voice.png    # the recording, and how probable speech is

Model: the ONNX file in the package silero-vad, which nothing here trains: `pip install --no-deps silero-vad` brings it
without PyTorch, which only the package's own code needs. `rc.from_onnx` reads it, `stream.step` takes 32 ms at a time,
of one recording after another, and gives the probability that somebody speaks.

Data: made for the purpose. The synthesiser espeak-ng (Debian, Ubuntu: apt-get install espeak-ng) says phrases in many
voices. Pauses lie between them, and over everything a noise whose level wanders, with gusts of wind, knocks and beeps.
So where speech is, is known to the sample.

Baselines: the energy of each 32 ms, and how far it is above the least of the last two seconds, the classical detector.
Each gets a weighted mean over its past and the threshold that are best on other recordings of the kind. The detector
has the threshold that it comes with, 0.5. The score is the F1 of the pieces of 32 ms.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

import common
import recurra as rc

if TYPE_CHECKING:
    from recurra.interop.onnx.stream import OnnxStream

PHRASES = """the train to the coast leaves from platform nine|please put the kettle on
nobody has seen the key since monday|it will rain again in the afternoon|we could meet at the old bridge
turn left behind the library|this is not what i ordered|she sold the boat and bought a piano|can you hear me now
all windows on the second floor are open|twenty four hours later|my neighbour grows tomatoes on the roof
there is a letter for you|what time does the museum close|hold the line please"""
VOICES = ("m1", "m2", "m3", "m4", "m5", "m7", "f1", "f2", "f3", "f4", "f5")
ACCENTS = ("en-us", "en-029", "en-gb-scotland", "en-gb-x-rp")

RATE = 16000  # samples a second
STEP = 512  # samples: 32 ms
BEFORE = 64  # samples before them that the detector looks at, too
SPEECH = 0.5  # probability

Floats = npt.NDArray[Any]


class Recording(NamedTuple):
    sound: npt.NDArray[np.float32]  # whole pieces of 32 ms
    speaks: npt.NDArray[np.bool_]  # in each piece: whether somebody speaks during half of it
    spans: list[tuple[float, float]]  # the phrases, in seconds


def say(phrase: str, rng: np.random.Generator) -> Floats:
    """A phrase in some voice, from its first sound to its last, with a root mean square of 0.1."""
    if not shutil.which("espeak-ng"):
        raise SystemExit("voice.py: espeak-ng is not installed; on Debian and Ubuntu: apt-get install espeak-ng")
    voice, speed, pitch = f"{rng.choice(ACCENTS)}+{rng.choice(VOICES)}", rng.integers(130, 200), rng.integers(30, 71)
    command = ["espeak-ng", "--stdout", "-v", voice, "-s", str(speed), "-p", str(pitch), phrase]
    wave = subprocess.run(command, capture_output=True, check=True).stdout
    sound = np.frombuffer(wave[44:], "<i2") / 2**15  # behind 44 bytes that say what they are
    loud = np.flatnonzero(np.abs(sound) > 0.01)
    sound = resampled(sound[loud[0] : loud[-1] + 1], int.from_bytes(wave[24:28], "little"))
    return sound * (0.1 / float(np.sqrt(np.mean(sound**2))))


def resampled(sound: Floats, rate: int) -> Floats:
    """The same at RATE samples a second."""
    size = len(sound) * RATE // rate
    spectrum = np.fft.rfft(sound, len(sound) * 2)[: size + 1]  # with zeros behind, as a spectrum is of a circle
    found: Floats = np.fft.irfft(spectrum, 2 * size)[:size] * RATE / rate
    return found


def wandering(size: int, seconds: float, rng: np.random.Generator) -> Floats:
    """A line through random numbers of deviation 1, one every so many seconds."""
    knots = rng.standard_normal(int(size / RATE / seconds) + 2)
    return np.interp(np.arange(size) / RATE / seconds, np.arange(len(knots)), knots)


def hiss(size: int, slope: float, rng: np.random.Generator) -> Floats:
    """Noise whose amplitude falls with frequency to this power, with a root mean square of 1."""
    spectrum = np.fft.rfft(rng.standard_normal(size))
    spectrum /= np.maximum(np.arange(len(spectrum)) * RATE / size, 50) ** slope
    sound: Floats = np.fft.irfft(spectrum, size)
    return sound / float(sound.std())


def event(rng: np.random.Generator) -> Floats:
    """A gust of wind, a knock or a beep."""
    kind, level = rng.choice(["gust", "knock", "beep"]), 10 ** rng.uniform(-1.6, -0.7)
    size = int(RATE * {"gust": rng.uniform(0.5, 2), "knock": 0.3, "beep": rng.uniform(0.1, 0.6)}[kind])
    if kind == "gust":
        return level * hiss(size, 1.0, rng) * np.hanning(size)
    if kind == "knock":
        return 2 * level * hiss(size, 0.5, rng) * np.exp(-np.arange(size) / RATE / 0.05)
    return level * np.sin(2 * np.pi * rng.uniform(400, 2000) * np.arange(size) / RATE)


def record(phrases: int, rng: np.random.Generator) -> Recording:
    """Phrases with pauses of half a second to four between them, and noise 6 to 20 dB below them."""
    parts, spans, end = [np.zeros(RATE)], [], RATE
    for phrase in rng.choice(PHRASES.replace("\n", "|").split("|"), phrases):
        spoken, pause = say(str(phrase), rng) * 10 ** rng.uniform(-0.3, 0.3), int(RATE * rng.uniform(0.5, 4))
        parts += [spoken, np.zeros(pause)]
        spans.append((end / RATE, (end + len(spoken)) / RATE))
        end += len(spoken) + pause
    sound = np.concatenate(parts)[: end // STEP * STEP]
    seconds = (np.arange(len(sound)) + 0.5) / RATE
    speaks = sum(((begin <= seconds) & (seconds < stop)).reshape(-1, STEP).mean(axis=1) for begin, stop in spans)
    sound += 10 ** (-1.6 + 0.15 * wandering(len(sound), 3.0, rng)) * hiss(len(sound), 0.5, rng)
    for begin in np.arange(0.5, len(sound) / RATE - 2.5, 2.5):
        heard, at = event(rng), int(RATE * (begin + rng.uniform(0, 2.4)))
        sound[at : at + len(heard)] += heard[: len(sound) - at]
    return Recording(np.clip(sound, -1, 1).astype(np.float32), np.asarray(speaks) >= 0.5, spans)


def detector() -> Path:
    """silero-vad's ONNX file, from its package, whose code is not run."""
    found = importlib.util.find_spec("silero_vad")
    if found is None or found.origin is None:
        raise SystemExit("voice.py: silero-vad is not installed: pip install --no-deps silero-vad")
    return Path(found.origin).parent / "data" / "silero_vad.onnx"


def probabilities(stream: OnnxStream, sound: npt.NDArray[np.float32]) -> Floats:
    """Of speech in each piece, heard one after the other."""
    heard = np.zeros((1, BEFORE + STEP), np.float32)
    found = np.empty(len(sound) // STEP)
    stream.reset()
    for at, piece in enumerate(sound.reshape(-1, STEP)):
        heard[:, :BEFORE] = heard[:, -BEFORE:]
        heard[:, BEFORE:] = piece
        found[at] = stream.step(heard)[0, 0]
    return found


def energy(sound: Floats) -> Floats:
    """Decibels of each piece."""
    levels: Floats = 10 * np.log10(np.mean(sound.astype(np.float64).reshape(-1, STEP) ** 2, axis=1) + 1e-10)
    return levels


def above_the_floor(sound: Floats) -> Floats:
    """Decibels above the least energy of the last two seconds."""
    levels, past = energy(sound), 2 * RATE // STEP
    padded = np.pad(levels, (past - 1, 0), mode="edge")
    floor: Floats = np.lib.stride_tricks.sliding_window_view(padded, past).min(axis=1)
    return levels - floor


def smoothed(levels: Floats, keeps: float) -> Floats:
    """The mean over the past, each piece weighing so much less than the next."""
    found, level = np.empty_like(levels), levels[0]
    for at, one in enumerate(levels):
        level = keeps * level + (1 - keeps) * one
        found[at] = level
    return found


def f1(says: npt.NDArray[np.bool_], speaks: npt.NDArray[np.bool_]) -> float:
    return float(2 * (says & speaks).sum() / (says.sum() + speaks.sum()))


def best_setting(score: Callable[[Floats], Floats], others: list[Recording]) -> tuple[float, float]:
    """How much a baseline keeps of its past, and its threshold, with the highest F1 on these recordings."""
    speaks = np.concatenate([one.speaks for one in others])
    tried = {}
    for keeps in (0.0, 0.3, 0.5, 0.7, 0.8, 0.9):
        levels = np.concatenate([smoothed(score(one.sound), keeps) for one in others])
        for threshold in np.quantile(levels, np.linspace(0.02, 0.98, 97)):
            tried[keeps, float(threshold)] = f1(levels > threshold, speaks)
    return max(tried, key=lambda setting: tried[setting])


def draw(path: Path, recording: Recording, found: Floats, levels: Floats, threshold: float, name: str) -> None:
    """Twenty-four seconds: the sound, the probability of speech, and the best baseline."""
    figure = common.new_figure(11, 6)
    axes = figure.subplots(3, 1, sharex=True, height_ratios=(2, 1.5, 1.5))
    seconds = (np.arange(len(found)) + 1) * STEP / RATE  # a piece is judged when it has ended
    for axis in axes:
        for begin, end in recording.spans:
            axis.axvspan(begin, end, color="C2", alpha=0.2, lw=0)
    axes[0].plot(np.arange(len(recording.sound)) / RATE, recording.sound, color="0.3", lw=0.3)
    axes[0].set(ylim=(-0.7, 0.7), title="The recording, phrases shaded")
    for axis, values, limit, colour in ((axes[1], found, SPEECH, "C0"), (axes[2], levels, threshold, "C1")):
        axis.plot(seconds, values, color=colour, lw=1)
        axis.axhline(limit, color="C3", lw=1, ls="--")
        axis.fill_between(seconds, values, limit, where=values > limit, color=colour, alpha=0.4, lw=0)
    axes[1].set(ylim=(-0.03, 1.03), title="Probability of speech, streamed in pieces of 32 ms")
    axes[2].set(ylabel="decibels", title=f"The best baseline: {name}")
    axes[2].set(xlabel="seconds", xlim=(0, min(24, seconds[-1])))
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    common.save_plot(figure, path)


def main() -> int:
    options = common.arguments(__doc__)
    rng = np.random.default_rng(options.seed)
    count = 2 if options.quick else 8
    others, recordings = ([record(20, rng) for _ in range(count)] for _ in range(2))
    speaks = np.concatenate([one.speaks for one in recordings])
    minutes = len(speaks) * STEP / RATE / 60
    print(f"{minutes:.1f} minutes, speech in {speaks.mean():.0%} of them; as many to set the baselines")

    stream = rc.from_onnx(detector(), sr=RATE).stream()
    begin = time.perf_counter()
    found = [probabilities(stream, one.sound) for one in recordings]
    micros = (time.perf_counter() - begin) / len(speaks) * 1e6

    baselines = {"energy": energy, "energy above the floor": above_the_floor}
    settings = {name: best_setting(score, others) for name, score in baselines.items()}
    levels = {
        name: [smoothed(score(one.sound), settings[name][0]) for one in recordings] for name, score in baselines.items()
    }
    says = {name: np.concatenate(levels[name]) > settings[name][1] for name in baselines}
    says["silero-vad"] = np.concatenate(found) > SPEECH
    print(f"{'':24}{'F1':>8}{'found':>8}{'false':>8}")
    for name, said in says.items():
        print(f"{name:24}{f1(said, speaks):8.3f}{said[speaks].mean():8.1%}{said[~speaks].mean():8.1%}")
    print(f"a step takes {micros:.0f} us, {32000 / micros:.0f} times less than the 32 ms that it hears")
    best = max(baselines, key=lambda name: f1(says[name], speaks))
    if options.plot:
        draw(options.plot, recordings[0], found[0], levels[best][0], settings[best][1], best)
    return common.report(
        "voice.py", f1(says["silero-vad"], speaks), f1(says[best], speaks), measure="F1", against=f"the {best}"
    )


if __name__ == "__main__":
    raise SystemExit(main())
