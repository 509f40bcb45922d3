"""What the examples share: their options, their verdict and their pictures."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def arguments(description: str) -> argparse.Namespace:
    """The options of the command line: `quick`, `seed` and `plot`. `description` is the example's docstring."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--quick", action="store_true", help="fewer data and epochs: at most 20 seconds")
    parser.add_argument(
        "--seed", type=int, default=0, help="another number, another run; the same, the same (default: 0)"
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw what was learnt: a .png, .svg or .pdf")
    return parser.parse_args()


def report(
    name: str, score: float, baseline: float, *, measure: str, against: str, better: str = "higher", unit: str = ""
) -> int:
    """Prints the verdict and returns the command's exit status: 0 if `score` is better than `baseline`, else 1.

    Args:
        name: the example's file, such as "forecast.py".
        score, baseline: of the model and of what it must beat, on the same held-out data.
        measure: what they are, such as "MAE".
        against: what the baseline is, such as "seasonal-naive".
        better: whether the "lower" or the "higher" of the two wins; neither does if they are equal.
        unit: written behind both numbers, such as " ppm" or " %".
    """
    wins = {"lower": score < baseline, "higher": score > baseline}[better]
    verdict = "better" if wins else "not better"
    print(f"{name}: {measure} {score:.4g}{unit} against {baseline:.4g}{unit} of {against}: {verdict}")
    return 0 if wins else 1


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of this size in inches. It needs no screen."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save_plot(figure: Figure, path: Path) -> None:
    """Writes the figure, in the format that the path's ending names, and says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    if path.suffix == ".png":  # 256 colours are enough, and take a third of the room
        from PIL import Image

        with Image.open(path) as picture:
            small = picture.convert("RGB").quantize(256)
        small.save(path, optimize=True)
    print(f"picture: {path}")
