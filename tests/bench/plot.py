"""The plots, as SVG: how many times per message each does, and how costs grow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .findings import Outcome
from .report import number
from .rounds import Spread

__all__ = ["write"]

_OURS = "#d1495b"
_OTHERS = "#8d99ae"
_INK = "#2b2d42"
_NAME = "Stepwire"


def write(folder: Path, outcomes: Mapping[str, Outcome]) -> None:
    """Draws what the rows gave to draw."""
    if "times" in getattr(outcomes.get("B1"), "plot", {}):
        flat_out(folder / "flat-out.svg", outcomes["B1"].plot["times"])
    if "growth" in getattr(outcomes.get("B9"), "plot", {}):
        growth(folder / "growth.svg", outcomes["B9"].plot["growth"])


def flat_out(path: Path, times: Mapping[str, Spread]) -> None:
    """Draws B1 as bars on a log axis, the slowest at the foot, with the spread as a line."""
    figure, axes = _figure(width=9.0, height=0.42 * len(times) + 1.3)
    names = sorted(times, key=lambda name: times[name].median)
    for place, name in enumerate(names):
        spread = times[name]
        colour = _OURS if name.startswith(_NAME) else _OTHERS
        axes.barh(place, spread.median, color=colour, height=0.66, zorder=2)
        axes.plot([spread.least, spread.most], [place, place], color=_INK, linewidth=1.2, zorder=3)
        axes.text(spread.most * 1.08, place, f"{number(spread.median)}x", va="center", fontsize=9, color=_INK)
    axes.set_yticks(range(len(names)), names)
    for label, name in zip(axes.get_yticklabels(), names, strict=True):
        label.set_fontweight("bold" if name.startswith(_NAME) else "normal")
    axes.set_xscale("log")
    axes.set_xlim(right=max(spread.most for spread in times.values()) * 2)
    axes.axvline(1, color=_INK, linewidth=0.8, zorder=1)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}x")
    axes.set_xlabel("events/s, times per message; log axis; lines: minimum to maximum of the rounds", fontsize=9)
    axes.set_title("One stream, flat out: every event decoded and checked", loc="left", fontsize=11, color=_INK)
    _save(figure, path)


def growth(path: Path, curves: Mapping[str, Mapping[float, float]]) -> None:
    """Draws what one unit costs as its number grows, relative to the smallest: a flat line is what is wanted."""
    figure, axes = _figure(width=9.0, height=4.6)
    for name, points in curves.items():
        sizes = sorted(points)
        axes.plot(
            sizes, [points[size] / points[sizes[0]] for size in sizes], marker="o", markersize=4, label=name, zorder=3
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.axhline(1.3, color=_INK, linewidth=0.8, linestyle="--")
    axes.text(0.005, 1.33, "the target: 1.3 times", transform=axes.get_yaxis_transform(), fontsize=8, color=_INK)
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, 0.2), max(high, 5))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}x")
    axes.yaxis.set_minor_formatter(lambda value, _: f"{value:g}x" if f"{value:g}"[-1] in "25" else "")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_xlabel("how many: steps, executions at once, watchers, events in the journal", fontsize=9)
    axes.set_ylabel("cost of one, times that at the smallest size", fontsize=9)
    axes.set_title("What one costs as their number grows", loc="left", fontsize=11, color=_INK)
    axes.legend(frameon=False, fontsize=9, ncols=2)
    _save(figure, path)


def _figure(*, width: float, height: float) -> tuple[Any, Any]:
    import matplotlib as mpl

    mpl.use("svg")
    # The same figures give the same file.
    mpl.rcParams["svg.hashsalt"] = "stepwire"
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(width, height), layout="constrained")
    axes.grid(visible=True, which="major", axis="x", color="#e5e7eb", linewidth=0.8, zorder=0)
    axes.tick_params(colors=_INK, labelsize=9, length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    return figure, axes


def _save(figure: Any, path: Path) -> None:
    from matplotlib import pyplot as plt

    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
