"""Pictures of fluorescence beside predicted classes: every cell a dot in a violin, and what the brightest cells are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter
from numpy.typing import NDArray
from scipy.stats import gaussian_kde

from hspc_live.report import style

MOST_PANELS: Final = 4
"""Thresholds beside each other; more could not be read, and the JSON has them all."""

_HALF: Final = 0.38  # of a violin's greatest width
_FEWEST: Final = 5  # cells below which a violin would be made up
_SKEW: Final = 20.0  # brightest over median from which the axis is logarithmic
_STEPS: Final = 120


@dataclass(frozen=True, slots=True, eq=False)
class GlowPanel:
    """Fluorescence by class, (n,) each, of the cells called at `threshold`; `pairs` are classes and their stars."""

    threshold: float
    values: Mapping[str, NDArray[np.floating]]
    pairs: Sequence[tuple[str, str, str]]


def glow_figure(panels: Sequence[GlowPanel], channel: str, unit: str, source: str) -> Figure:
    """One panel for each of the first thresholds: violin outlines, every cell a dot, a line at the median."""
    panels = panels[:MOST_PANELS]
    tall_in = 6.0
    figure = style.new_figure(tall_in)
    style.heading(figure, f"Fluorescence in {channel} by predicted class, at each score threshold", source)
    everything = np.concatenate([values for panel in panels for values in panel.values.values()])
    log = _logarithmic(everything)
    colours = style.class_colours(list(panels[0].values))
    wide = 0.91 / len(panels)
    low, high = (float(everything.min()), float(everything.max()))
    for number, panel in enumerate(panels):
        axes = figure.add_axes((0.065 + number * wide, 0.17, wide - 0.015, 0.66))
        for place, (name, values) in enumerate(panel.values.items()):
            _violin(axes, place, values, colours[name], log)
        style.plain(axes)
        names = [f"{fill(name, 12)}\nn = {len(values):,}" for name, values in panel.values.items()]
        axes.set_xticks(range(len(names)), names, fontsize=style.SMALL if len(panels) > 2 else style.NORMAL)
        axes.set_xlim(-0.55, len(names) - 0.45)
        axes.set_title(f"score ≥ {panel.threshold:g}", fontsize=style.NORMAL, color=style.INK)
        _vertical(axes, low, high, log, len(panel.pairs))
        _brackets(axes, panel, list(panel.values))
        if number:
            axes.tick_params(labelleft=False)
        else:
            axes.set_ylabel(f"{channel} ({unit})")
    note = (
        "Every dot is a cell, the outline a density estimate, the line the median. Stars: t test, without Holm's "
        "correction (* p < 0.05, ** p < 0.01, *** p < 0.001); p values speak of these cells, not of animals."
    )
    figure.text(0.02, 0.1 / tall_in, note, fontsize=style.SMALL, color="#555555")
    return figure


def brightest_figure(
    values: NDArray[np.floating], columns: NDArray[np.integer], classes: Sequence[str], top_percent: float,
    channel: str, words: str, source: str,
) -> Figure:  # fmt: skip
    """Which classes the brightest x % are, for every x; `values` (n,) brightest first, `columns` (n,) their classes."""
    tall_in = 5.4
    figure = style.new_figure(tall_in)
    style.heading(figure, f"What the brightest cells in {channel} are called", source)
    axes = figure.add_axes((0.07, 0.25, 0.60, 0.56))
    n = len(values)
    percent = 100 * np.arange(1, n + 1) / n
    colours = style.class_colours(classes)
    below = np.zeros(n)
    for column, name in enumerate(classes):
        share = 100 * np.cumsum(columns == column) / np.arange(1, n + 1)
        axes.fill_between(percent, below, below + share, color=colours[name], lw=0, label=name, step="mid")
        below = below + share
    axes.axvline(top_percent, color=style.INK, lw=1.6, ls=(0, (4, 3)))
    axes.text(top_percent, 101, f"top {top_percent:g} %", ha="center", va="bottom", fontsize=style.NORMAL)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlim(percent[0], 100)
    axes.set_ylim(0, 100)
    axes.set_xlabel("brightest share of the cells (%)")
    axes.set_ylabel("of these, called (%)")
    style.plain(axes)
    axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1.0), frameon=False, fontsize=style.NORMAL)
    axes.text(1.03, 0.55, fill(words, 44), transform=axes.transAxes, fontsize=style.NORMAL, va="top", linespacing=1.5)
    figure.text(
        0.02, 0.1 / tall_in, f"Of {n:,} measured cells; the leftmost place is the one brightest cell.",
        fontsize=style.SMALL, color="#555555",
    )  # fmt: skip
    return figure


def _logarithmic(values: NDArray[np.floating]) -> bool:
    """Whether the values are so skewed, and all above 0, that only a logarithmic axis shows them."""
    return bool(values.min() > 0 and values.max() > _SKEW * np.median(values))


def _violin(axes: Axes, place: int, values: NDArray[np.floating], colour: str, log: bool) -> None:
    if not len(values):
        return
    scaled = np.log10(values) if log else np.asarray(values, np.float64)
    spread = np.full(len(values), 0.25)
    if len(values) >= _FEWEST and scaled.min() < scaled.max():
        density = gaussian_kde(scaled)
        reach = np.linspace(scaled.min(), scaled.max(), _STEPS)
        heights = density(reach)
        half = _HALF * heights / heights.max()
        y = 10**reach if log else reach
        axes.fill_betweenx(y, place - half, place + half, facecolor=colour, alpha=0.18, lw=0)
        outline = np.concatenate((place - half, (place + half)[::-1], (place - half)[:1]))
        axes.plot(outline, np.concatenate((y, y[::-1], y[:1])), color=style.INK, lw=1.1, zorder=3)
        spread = np.interp(scaled, reach, half)
    aside = 0.92 * spread * (2 * ((np.argsort(np.argsort(scaled)) * 0.6180339887498949) % 1.0) - 1)
    axes.scatter(
        place + aside, values, s=float(np.clip(1500 / len(values), 3, 22)), color=colour, lw=0,
        alpha=0.85 if len(values) < 500 else 0.5, rasterized=True, zorder=2,
    )  # fmt: skip
    median = float(np.median(values))
    axes.plot([place - 0.24, place + 0.24], [median, median], color=style.INK, lw=2.6, solid_capstyle="butt", zorder=4)


def _vertical(axes: Axes, low: float, high: float, log: bool, pairs: int) -> None:
    room = 0.06 + 0.075 * pairs
    if log:
        axes.set_yscale("log")
        decades = np.log10(high / low)
        axes.set_ylim(low / 10 ** (0.05 * decades), high * 10 ** (room * decades))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        return
    span = max(high - low, 1e-9)
    axes.set_ylim(low - 0.05 * span, high + room * span)


def _brackets(axes: Axes, panel: GlowPanel, names: list[str]) -> None:
    """The stars of every pair above the violins, in shares of the axis, so that they stand alike on both scales."""
    top = 0.985 - 0.062 * (len(panel.pairs) - 1)
    across = axes.get_xaxis_transform()
    for level, (first, second, stars) in enumerate(panel.pairs):
        y = top + 0.062 * level - 0.04
        left, right = sorted((names.index(first), names.index(second)))
        axes.plot([left, left, right, right], [y - 0.012, y, y, y - 0.012], color=style.INK, lw=1, transform=across)
        axes.text((left + right) / 2, y + 0.002, stars, ha="center", va="bottom", fontsize=style.SMALL,
                  transform=across)  # fmt: skip
