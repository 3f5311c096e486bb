"""What figures of rates share: a mark with its interval, a histogram of scores, columns of text, numbers in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hspc_live.report import style

Metrics = Mapping[str, Any]
"""An evaluation's metrics, plain data as in its `metrics.json`."""

FOOT: Final = "#555555"
MARKERS: Final = "osD^vPX*"
FIRST, SECOND = "#0072B2", "#D55E00"


def dot(
    axes: Axes, at: float, value: float | None, ends: Mapping[str, Any], colour: str, marker: str, across: bool = False
) -> None:
    """One figure with its interval; nothing where it is unknown."""
    if value is None:
        return
    low, high = (value if ends[key] is None else ends[key] for key in ("low", "high"))
    reach = [[max(0.0, value - low)], [max(0.0, high - value)]]
    x, y = (value, at) if across else (at, value)
    axes.errorbar(
        x, y, xerr=reach if across else None, yerr=None if across else reach, fmt=marker, ms=7, color=colour,
        mec=style.INK, mew=0.6, ecolor=style.INK, capsize=4, lw=1.2,
    )  # fmt: skip


def histogram(axes: Axes, metrics: Metrics) -> None:
    """Cells by their best score, those that were consistent below the others."""
    scores = metrics["scores"]
    edges = np.array(scores["edges"])
    right, wrong = np.array(scores["right"]), np.array(scores["wrong"])
    width = edges[1] - edges[0]
    axes.bar(edges[:-1], right, width, align="edge", color="#0072B2", label="consistent")
    axes.bar(
        edges[:-1], wrong, width, bottom=right, align="edge", color="#E69F00", hatch="///", ec="white", lw=0,
        label="not consistent",
    )  # fmt: skip
    style.plain(axes)
    axes.set(xlim=(max(0.0, metrics["chance"] - 0.02), 1), xlabel="best score", ylabel="cells")
    axes.legend(frameon=False, fontsize=style.NORMAL, loc="lower left", bbox_to_anchor=(0, 0.98), ncols=2)


def shares(axes: Axes, label: str) -> None:
    """Axes whose y goes from 0 to 1."""
    style.plain(axes)
    axes.set_ylim(-0.03, 1.08)
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.set_ylabel(label)
    axes.grid(axis="y", color=style.PALE, lw=0.5)


def columns_of_text(figure: Figure, lines: Sequence[Sequence[str]], places: Sequence[float], top: float = 0.8) -> None:
    """Lines of text from `top` downwards, the head first; each part at its place, a share of the figure's width."""
    step = 0.3 / figure.get_figheight()
    for number, line in enumerate(lines):
        bold = number == 0 and len(line) > 2
        for place, text in zip(places, line, strict=True):
            figure.text(
                place, top - number * step, text, fontsize=style.NORMAL - 0.5, color=style.INK, va="top",
                fontweight="bold" if bold else "normal",
            )  # fmt: skip


def foot(figure: Figure, note: str) -> None:
    """What a reader has to know, small, at the bottom."""
    figure.text(0.02, 0.1 / figure.get_figheight(), note, fontsize=style.SMALL, color=FOOT, va="bottom")


def estimate_words(metrics: Metrics) -> str:
    """Balanced accuracy with interval and n, as a title says it."""
    return f"{figure_words(metrics, 'balanced_accuracy')}, n = {metrics['n']} cells"


def figure_words(metrics: Metrics, key: str) -> str:
    """One of the metrics with its interval."""
    low, high = metrics["intervals"][key]
    return f"{fixed(metrics[key])} (95 % interval {fixed(low)} – {fixed(high)})"


def with_interval(one: Mapping[str, Any]) -> str:
    """A rate or an estimate with its interval; a dash where it is unknown."""
    value = one.get("rate", one.get("value"))
    return "–" if value is None else f"{value:.2f} ({fixed(one['low'], 2)}–{fixed(one['high'], 2)})"


def signed(one: Mapping[str, Any]) -> str:
    """The interval of a difference."""
    return " to ".join("–" if one[key] is None else f"{one[key]:+.3f}" for key in ("low", "high"))


def fixed(value: float | None, digits: int = 3) -> str:
    """A number; a dash where it is unknown."""
    return "–" if value is None else f"{value:.{digits}f}"


def over(metrics: Metrics) -> str:
    """What intervals were taken over."""
    units = metrics["units"]
    return f"over {units['n']} {units['are']}" if units["are"] != "cells" else "over cells"


def short(name: str, most: int = 18) -> str:
    """A class name of at most so many letters; its end is kept, for that is where names often differ."""
    return name if len(name) <= most else f"{name[: most - 4]}…{name[-3:]}"
