"""The losses' specification: plain float64 numpy, the sum over all valid elements. Shapes as in `recurra.losses`."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]


def log_softmax(x: Array) -> Array:
    shifted = x - x.max(-1, keepdims=True)
    result: Array = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return result


def log_sum(values: list[float] | Array) -> float:
    most = np.max(values)
    return float(most) if most == -np.inf else float(most + np.log(np.exp(np.asarray(values) - most).sum()))


def cross_entropy(x: Array, labels: Labels, smoothing: float, ignored: int, weights: Array) -> float:
    """The target of a step is 1 - e at its label and e / C everywhere."""
    x, labels = x.reshape(-1, x.shape[-1])[labels.ravel() != ignored], labels[labels != ignored]
    target = (1 - smoothing) * np.eye(x.shape[-1])[labels] + smoothing / x.shape[-1]
    return float(-(target * weights * log_softmax(x)).sum())


def huber(x: Array, t: Array, delta: float) -> float:
    error = np.abs(x - t)
    return float(np.where(error <= delta, error**2 / 2, delta * (error - delta / 2)).sum())


def quantile(x: Array, t: Array, quantiles: tuple[float, ...]) -> float:
    q, error = np.array(quantiles), t[..., None] - x.reshape(*t.shape, len(quantiles))
    return float(np.maximum(q * error, (q - 1) * error).sum())


def gaussian_nll(x: Array, t: Array, eps: float) -> float:
    mean, variance = x[..., : t.shape[-1]], np.maximum(np.exp(x[..., t.shape[-1] :]), eps)
    return float((0.5 * (t - mean) ** 2 / variance + 0.5 * np.log(2 * np.pi * variance)).sum())


def mixture_density(x: Array, t: Array, components: int, features: int, correlated: bool, binary: bool) -> float:
    """Each component's density by its whole covariance matrix."""
    total, both = 0.0, components * features
    for row, target in zip(x.reshape(-1, x.shape[-1]), t.reshape(-1, t.shape[-1]), strict=True):
        weights, means, sigmas, rest = np.split(row, [components, components + both, components + 2 * both])
        densities = []
        for j in range(components):
            sigma = np.exp(sigmas.reshape(components, features)[j])
            correlation = np.eye(features)
            if correlated:
                correlation[[0, 1], [1, 0]] = np.tanh(rest[j])
            covariance = sigma[:, None] * correlation * sigma
            away = target[:features] - means.reshape(components, features)[j]
            _, log_determinant = np.linalg.slogdet(2 * np.pi * covariance)
            densities.append(-0.5 * (away @ np.linalg.solve(covariance, away) + log_determinant))
        total -= log_sum(log_softmax(weights) + densities)
        if binary:
            total += float(np.log1p(np.exp(-row[-1] if target[-1] else row[-1])))
    return total


def policy(x: Array, t: Array, gaussian: bool, clip: float | None, entropy: float) -> float:
    """REINFORCE, or with `clip` equation 7 of Schulman et al. (2017); both with an entropy term."""
    total, t = 0.0, t.astype(np.float64)
    for row, target in zip(x.reshape(-1, x.shape[-1]), t.reshape(-1, t.shape[-1]), strict=True):
        if gaussian:
            size = len(row) // 2
            variance = np.exp(row[size:])
            densities = np.exp(-((target[:size] - row[:size]) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)
            log_p, own = float(np.log(densities).sum()), float(np.log(2 * np.pi * np.e * variance).sum()) / 2
        else:
            size, p = 1, np.exp(log_softmax(row))
            log_p, own = float(np.log(p[int(target[0])])), float(-(p * np.log(p)).sum())
        advantage = target[size]
        gain = advantage * log_p
        if clip is not None:
            ratio = np.exp(log_p - target[size + 1])
            gain = min(ratio * advantage, np.clip(ratio, 1 - clip, 1 + clip) * advantage)
        total -= gain + entropy * own
    return total


def clipped_value(x: Array, t: Array, clip: float) -> float:
    wanted, old = np.split(t.astype(np.float64), 2, -1)
    return float(np.maximum((x - wanted) ** 2, (np.clip(x, old - clip, old + clip) - wanted) ** 2).sum())


def ctc(x: Array, labels: Labels, blank: int) -> float:
    """-log p of one row, (T, C): infinity where there is no path. Graves et al. (2006), equations 6 to 8."""
    log_p = log_softmax(x)
    states = np.full(2 * len(labels) + 1, blank)
    states[1::2] = labels
    skip = np.zeros(len(states), bool)
    skip[3::2] = labels[1:] != labels[:-1]
    alpha = np.full(len(states), -np.inf)
    alpha[0] = 0.0  # before the first step; the first label may follow at once
    for step in range(len(x)):
        one, two = np.roll(alpha, 1), np.where(skip, np.roll(alpha, 2), -np.inf)
        one[0] = -np.inf
        alpha = np.logaddexp(np.logaddexp(alpha, one), two) + log_p[step, states]
    return -log_sum(alpha[-2:])


def collapse(path: tuple[int, ...], blank: int) -> tuple[int, ...]:
    return tuple(symbol for symbol, _ in itertools.groupby(path) if symbol != blank)


def ctc_by_paths(x: Array, blank: int) -> dict[tuple[int, ...], float]:
    """log p of every label sequence, summed over all C^T paths."""
    log_p = log_softmax(x)
    found: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(x.shape[1]), repeat=len(x)):
        labels = collapse(path, blank)
        log_path = float(sum(log_p[step, symbol] for step, symbol in enumerate(path)))
        found[labels] = float(np.logaddexp(found.get(labels, -np.inf), log_path))
    return found
