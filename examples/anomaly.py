"""Finds abnormal heartbeats in an ECG as it comes in: a GRU predicts each sample, a surprise is an alarm.

    python examples/anomaly.py                          # about half a minute
    python examples/anomaly.py --quick                  # a few seconds
    python examples/anomaly.py --plot anomaly.png       # the signal, the surprise and the alarms

Data: made here with numpy. A heartbeat is a sum of five bell curves, the waves P, Q, R, S and T (in the manner of
McSharry et al. 2003), 100 samples a second. Rate, breath, height, drift and noise vary. In the test signal some beats
are abnormal: early and wide ones, beats that fail to come, a raised or an upside-down end of the beat.

Model: a GRU and a Linear give mean and variance of the sample 40 ms ahead (`rc.losses.GaussianNLL`). It learns on
normal beats only, from stateful batches: each goes on where the one before it ended. Then the test signal is fed
sample by sample to `model.stream().step`, as if it came from a patient; the surprise at a sample is its -log density.

Baselines: the distance from the moving average in moving deviations (z-score), and the error of a linear prediction
from the last second, by least squares. Everybody's alarm goes off at the level that 1 % of the beats of another
normal signal reach. The score is the F1 of the alarms, by beats; a beat that follows an abnormal one does not count.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

import common
import recurra as rc

RATE = 100  # samples a second
AHEAD = 4  # samples from the newest one to the one that is predicted
PAST = 100  # samples that the baselines look back
LEARNING_RATE = 5e-3
BATCH_SIZE, STEPS = 8, RATE

Floats = npt.NDArray[np.floating]
WAVES = np.array(  # of a beat: time from R in seconds, height in millivolt, width in seconds
    [[-0.18, 0.15, 0.025], [-0.04, -0.12, 0.016], [0, 1.0, 0.018], [0.04, -0.25, 0.016], [0.28, 0.3, 0.05]]
)


class Recording(NamedTuple):
    signal: Floats  # (T, 1) float32, in millivolt
    starts: npt.NDArray[np.int64]  # where each beat begins, and where the last one ends
    kinds: npt.NDArray[np.str_]  # of each beat, "" for a normal one
    counts: npt.NDArray[np.bool_]  # of each beat: whether it is scored


def changed(waves: Floats, kind: str, rng: np.random.Generator) -> Floats:
    """The waves of an abnormal beat."""
    p, q, r, s, t = range(5)
    if kind == "early":  # and wide, without a P wave
        waves[[p], 1] = 0
        waves[[q, r, s], 2] *= rng.uniform(1.8, 2.8)
        waves[t, 1] *= -1
    elif kind == "missing":
        waves[:, 1] = 0
    elif kind == "raised":  # between S and T
        waves = np.vstack([waves, [0.14, rng.uniform(0.15, 0.3), 0.06]])
    elif kind == "inverted":
        waves[t, 1] *= -1
    return waves


def record(beats: int, abnormal_share: float, rng: np.random.Generator) -> Recording:
    abnormal = rng.random(beats) < abnormal_share
    abnormal[1:] &= ~abnormal[:-1]
    breath = np.sin(np.cumsum(rng.uniform(0.9, 1.3, beats)))
    intervals = 0.85 + 0.04 * breath + 0.02 * rng.standard_normal(beats)  # seconds from the beat before
    kinds = np.where(abnormal, rng.choice(["early", "missing", "raised", "inverted"], beats), "")
    early = np.flatnonzero(kinds == "early")
    shorter = rng.uniform(0.2, 0.35, len(early)) * intervals[early]
    intervals[early] -= shorter
    intervals[np.minimum(early + 1, beats - 1)] += shorter
    peaks = np.cumsum(intervals)
    seconds = np.arange(int((peaks[-1] + 0.5) * RATE)) / RATE
    signal = 0.1 * np.sin(2 * np.pi * 0.23 * seconds) + 0.02 * rng.standard_normal(len(seconds))
    for peak, kind in zip(peaks, kinds, strict=True):
        waves = WAVES * (1 + 0.06 * rng.standard_normal(WAVES.shape))
        first, last = np.searchsorted(seconds, [peak - 0.4, peak + 0.6])
        for at, height, width in changed(waves, str(kind), rng):
            signal[first:last] += height * np.exp(-(((seconds[first:last] - peak - at) / width) ** 2) / 2)
    starts = np.searchsorted(seconds, np.append(peaks - 0.3, peaks[-1] + 0.4))
    counts = np.arange(beats) >= 3
    counts[1:] &= ~abnormal[:-1]
    return Recording(signal[:, None].astype(np.float32), starts, kinds, counts)


def z_score(signal: Floats) -> Floats:
    """How many deviations each sample lies from the mean of the second before it."""
    past = np.lib.stride_tricks.sliding_window_view(signal[:-1, 0], PAST)
    return np.pad(np.abs(signal[PAST:, 0] - past.mean(1)) / past.std(1), (PAST, 0))


def linear(normal: Floats) -> Callable[[Floats], Floats]:
    """The squared error of the linear prediction, as far ahead as the model's, that fits `normal` best."""
    first = PAST + AHEAD - 1  # the first sample that can be predicted

    def past(signal: Floats) -> Floats:
        windows = np.lib.stride_tricks.sliding_window_view(signal[:-AHEAD, 0], PAST)
        return np.hstack([windows, np.ones((len(windows), 1))])

    weights = np.linalg.lstsq(past(normal), normal[first:, 0], rcond=None)[0]
    return lambda signal: np.pad((signal[first:, 0] - past(signal) @ weights) ** 2, (first, 0))


def surprise(model: rc.Sequential, signal: Floats) -> Floats:
    """-log of the density that was predicted for each sample AHEAD samples before. One step of a stream at a time."""
    stream = model.stream()
    found = np.zeros(len(signal))
    predicted = deque([(0.0, 0.0)] * AHEAD)
    for step, sample in enumerate(signal):
        mean, log_variance = predicted.popleft()
        found[step] = ((sample[0] - mean) ** 2 / math.exp(log_variance) + log_variance + math.log(2 * math.pi)) / 2
        predicted.append(stream.step(sample[None])[0].tolist())
    return found


def levels(score: Floats) -> Floats:
    """The mean of the last fifth of a second: one sample alone is no alarm."""
    width = RATE // 5
    return np.convolve(score, np.full(width, 1 / width))[: len(score)]


def by_beat(score: Floats, recording: Recording) -> Floats:
    """The highest level of each beat."""
    return np.maximum.reduceat(levels(score), recording.starts)[:-1]


def judge(score: Floats, threshold: float, recording: Recording) -> dict[str, float]:
    """What the alarms are worth, beat by beat."""
    highest, abnormal = by_beat(score, recording)[recording.counts], recording.kinds[recording.counts] != ""
    alarms = highest > threshold
    area = rc.metrics.AUC()
    area.update(highest[:, None], abnormal[:, None])
    hits = int((alarms & abnormal).sum())
    return {
        "AUC": area.result(),
        "found": hits / abnormal.sum(),
        "false": float(alarms[~abnormal].mean()),
        "F1": 2 * hits / (alarms.sum() + abnormal.sum()),
    }


def draw(recording: Recording, score: Floats, threshold: float, path: Path) -> None:
    """The twenty seconds with most kinds of abnormal beats, and the surprise with the alarms."""
    span, kinds, starts = 20 * RATE, recording.kinds, recording.starts[:-1]
    first = max(
        range(0, len(score) - span, RATE),
        key=lambda t: len(set(kinds[(starts >= t + RATE) & (starts < t + span - 2 * RATE)])),
    )
    part = slice(first, first + span)
    seconds, level = np.arange(len(score)) / RATE, levels(score)
    figure = common.new_figure(11, 4.8)
    above, below = figure.subplots(2, 1, sharex=True)
    for beat in np.flatnonzero((kinds != "") & (starts >= first) & (starts < first + span)):
        begin, end = recording.starts[beat : beat + 2] / RATE
        for axis in (above, below):
            axis.axvspan(begin, end, color="C1", alpha=0.25, lw=0)
        above.text((begin + end) / 2, 1.45, kinds[beat], ha="center", color="C1", weight="bold", clip_on=True)
    above.plot(seconds[part], recording.signal[part, 0], color="0.2", lw=1)
    above.set(ylabel="millivolt", ylim=(-0.6, 1.7), title="ECG, abnormal beats shaded")
    below.plot(seconds[part], level[part], color="C0", lw=1)
    below.axhline(threshold, color="C3", lw=1, ls="--")
    alarm = np.flatnonzero(level[part] > threshold) + first
    below.plot(seconds[alarm], level[alarm], ".", color="C3", ms=4)
    below.set_yscale("symlog", linthresh=5)
    below.set_yticks([0, 10, 100], ["0", "10", "100"])
    below.set(xlabel="seconds", ylabel="surprise", xlim=(first / RATE, (first + span) / RATE))
    below.set_title("-log density of the samples of 0.2 s, alarms in red")
    common.save_plot(figure, path)


def main() -> int:
    options = common.arguments(__doc__)
    rng = np.random.default_rng(options.seed)
    beats, epochs, hidden = (1000, 30, 32) if options.quick else (2000, 40, 64)
    train, calm = (record(beats, 0.0, rng) for _ in range(2))
    test = record(600, 0.1, rng)
    print(
        f"{beats} normal beats to learn, {beats} to set the alarm, {(test.kinds != '').sum()} of 600 abnormal to find"
    )

    model = rc.Sequential(rc.GRU(1, hidden), rc.Linear(hidden, 2), seed=options.seed)
    batches = rc.data.stateful(train.signal[:-AHEAD], train.signal[AHEAD:], batch_size=BATCH_SIZE, steps=STEPS)
    model.fit(
        batches,
        loss=rc.losses.GaussianNLL(),
        optimizer=rc.optim.Adam(rc.optim.schedules.CosineDecay(LEARNING_RATE, epochs * len(batches))),
        epochs=epochs,
        clip_norm=1.0,
        seed=options.seed,
    )

    scores: dict[str, Callable[[Floats], Floats]] = {
        "z-score": z_score,
        "linear prediction": linear(train.signal),
        "recurra": lambda signal: surprise(model, signal),
    }
    print(f"{'':20}{'AUC':>8}{'found':>8}{'false':>8}{'F1':>8}")
    results = {}
    for name, score in scores.items():
        threshold = float(np.quantile(by_beat(score(calm.signal), calm)[calm.counts], 0.99))
        begin = time.perf_counter()
        found = score(test.signal)
        seconds = time.perf_counter() - begin
        results[name] = judge(found, threshold, test)
        print(f"{name:20}" + "".join(f"{value:8.3f}" for value in results[name].values()))
    print(f"streamed {len(found)} samples in {seconds:.2f} s: {len(found) / seconds:,.0f} steps a second")
    if options.plot:
        draw(test, found, threshold, options.plot)
    baseline = max(["z-score", "linear prediction"], key=lambda name: results[name]["F1"])
    return common.report(
        "anomaly.py", results["recurra"]["F1"], results[baseline]["F1"], measure="F1", against=baseline
    )


if __name__ == "__main__":
    raise SystemExit(main())
