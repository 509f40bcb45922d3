"""Forecasts a year of carbon dioxide in the air over Mauna Loa, month by month, with prediction intervals.

    python examples/forecast.py                       # a few seconds
    python examples/forecast.py --plot forecast.png   # and the picture

Data: weekly measurements from March 1958 to December 2001 (Keeling and Whorf), which statsmodels ships; here their
monthly means, in parts per million (ppm). The model learns from the months before 1990. From then on, at the end of
every month, it forecasts the next twelve.

Model: a GRU reads the last two years and gives, for each of the next twelve months, five quantiles of how much the air
gains on the same month a year earlier; it is trained on the quantile loss. The median is the forecast; between the
outer two quantiles 90 % of the months should fall.

Baselines: seasonal-naive, the same month a year earlier; and seasonal-naive with drift, which adds what the last month
has gained in a year. The second is the better one, and the one to beat.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

import common
import recurra as rc

Array = npt.NDArray[np.float64]
Months = npt.NDArray[np.datetime64]

YEAR = 12
WINDOW = 24  # months that the model reads
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
FIRST_TEST_MONTH = np.datetime64("1990-01")


def monthly_co2() -> tuple[Months, Array]:
    """Months and their mean concentration in ppm; the five without a measurement are interpolated."""
    from statsmodels.datasets import co2

    series = co2.load_pandas().data["co2"].resample("MS").mean().interpolate()
    return series.index.to_numpy().astype("datetime64[M]"), series.to_numpy()


def features(months: Months, gains: Array) -> Array:
    """What the model sees of each month, (T, 3): its gain on the year before, and the season as a point on a circle."""
    season = 2 * np.pi * (months.astype(int) % YEAR) / YEAR
    return np.stack([gains, np.sin(season), np.cos(season)], axis=-1)


def draw(path: Path, months: Months, values: Array, quantiles: Array) -> None:
    """Forecasts of whole years, one after the other: the months that they are about, (T,), and `quantiles` (T, Q)."""
    figure = common.new_figure(9, 4.2)
    axes = figure.add_subplot(ylabel="CO$_2$ at Mauna Loa, ppm", title="Forecasts made each December for the next year")
    forecast = months[-len(quantiles) :]
    for outer, share, alpha in ((0, 90, 0.2), (1, 50, 0.35)):
        low, high = quantiles[:, outer], quantiles[:, -1 - outer]
        axes.fill_between(forecast, low, high, color="tab:blue", alpha=alpha, lw=0, label=f"{share} % interval")
    axes.plot(forecast, quantiles[:, len(QUANTILES) // 2], color="tab:blue", label="median of the GRU")
    axes.plot(forecast, values[-len(forecast) - YEAR : -YEAR], color="tab:red", ls=":", label="seasonal-naive")
    axes.plot(months, values, "k.", ms=4, label="measured")
    for start in forecast[::YEAR]:
        axes.axvline(start, color="0.85", lw=0.8, zorder=0)
    axes.legend(loc="upper left", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    common.save_plot(figure, path)


def main() -> int:
    arguments = common.arguments(__doc__)
    months, values = monthly_co2()
    gains = values[YEAR:] - values[:-YEAR]  # the season and most of the growth are gone
    months, values, before = months[YEAR:], values[YEAR:], values[:-YEAR]

    # A forecast that starts at month s reads the months s - WINDOW .. s - 1 and is about s .. s + YEAR - 1.
    starts = np.arange(WINDOW, len(values) - YEAR + 1)
    train = starts[months[starts + YEAR - 1] < FIRST_TEST_MONTH]
    test = starts[months[starts] >= FIRST_TEST_MONTH]
    past = gains[months < FIRST_TEST_MONTH]
    mean, scale = past.mean(), past.std()
    x = sliding_window_view(features(months, (gains - mean) / scale), WINDOW, axis=0).swapaxes(1, 2)  # (., WINDOW, 3)
    y = sliding_window_view((gains - mean) / scale, YEAR)  # (., YEAR)
    print(
        f"{len(values)} months; {len(train)} forecasts to learn from, {len(test)} held out, from {FIRST_TEST_MONTH} on"
    )

    model = rc.Sequential(
        rc.GRU(3, 16, return_sequences=False),
        rc.Dropout(0.2),
        rc.Linear(16, YEAR * len(QUANTILES)),
        seed=arguments.seed,
    )
    model.fit(
        x[train - WINDOW],
        y[train],
        loss=rc.losses.Quantile(QUANTILES),
        optimizer=rc.optim.Adam(3e-3),
        epochs=10 if arguments.quick else 20,
        clip_norm=1.0,
        seed=arguments.seed,
        verbose=2,
    )

    predicted = model.predict(x[test - WINDOW]).reshape(-1, YEAR, len(QUANTILES))
    year_before = sliding_window_view(before, YEAR)[test]
    truth = sliding_window_view(values, YEAR)[test]
    quantiles = year_before[..., None] + mean + scale * np.sort(predicted, axis=-1)

    def mean_absolute_error(forecast: Array) -> float:
        return float(np.abs(forecast - truth).mean())

    score = mean_absolute_error(quantiles[..., 2])
    naive = mean_absolute_error(year_before)
    drift = mean_absolute_error(year_before + gains[test - 1, None])
    inside = ((truth >= quantiles[..., 0]) & (truth <= quantiles[..., -1])).mean()
    width = (quantiles[..., -1] - quantiles[..., 0]).mean()
    print(
        f"GRU: mean absolute error {score:.3f} ppm; {inside:.0%} of the months in the 90 % interval, {width:.2f} ppm "
        "wide"
    )
    print(f"seasonal-naive: {naive:.3f} ppm; with drift: {drift:.3f} ppm")
    if arguments.plot:
        years = quantiles[months[test].astype(int) % YEAR == 0][-6:].reshape(-1, len(QUANTILES))  # starting in January
        draw(arguments.plot, months[-7 * YEAR :], values[-7 * YEAR :], years)
    return common.report(
        "forecast.py", score, drift, measure="MAE", against="seasonal-naive with drift", better="lower", unit=" ppm"
    )


if __name__ == "__main__":
    sys.exit(main())
