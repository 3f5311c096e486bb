"""Pictures of a scored population: shares of the classes, and shares and scores at every threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import Final

import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from hspc_live.report import style

ABSTAINED: Final = "abstained"
_BINS: Final = 40


@dataclass(frozen=True, slots=True)
class Share:
    """A share with the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def shares_figure(
    raw: Mapping[str, Share], corrected: Mapping[str, Share] | None, n: int, declared: bool, source: str
) -> Figure:
    """A bar for each class, as predicted and, hatched, corrected for the classifier's confusion; 95 % intervals."""
    tall_in = 4.8
    figure = style.new_figure(tall_in)
    style.heading(figure, f"What the population consists of, by the classifier (n = {n:,} cells)", source)
    axes = figure.add_axes((0.07, 0.16, 0.62, 0.67))
    colours = style.class_colours(list(raw))
    wide = 0.36
    series = [(raw, -wide / 2 if corrected else 0.0, "")]
    if corrected:
        series.append((corrected, wide / 2, "////"))
    for shares, aside, hatch in series:
        for place, (name, share) in enumerate(shares.items()):
            x = place + aside
            axes.bar(x, 100 * share.value, wide, color=colours[name], edgecolor=style.INK, lw=0.8, hatch=hatch)
            ends = [[100 * (share.value - share.low)], [100 * (share.high - share.value)]]
            axes.errorbar(x, 100 * share.value, yerr=ends, fmt="none", ecolor=style.INK, capsize=4, lw=1.3)
            axes.text(
                x, 100 * share.high + 1.5, style.per_cent(share.value, 1), ha="center", fontsize=style.NORMAL,
                color=style.INK,
            )  # fmt: skip
    style.plain(axes)
    axes.set_xticks(range(len(raw)), [fill(name, 18) for name in raw])
    axes.set_ylabel("share of the cells (%)")
    axes.set_ylim(0, min(112, 14 + 100 * max(share.high for shares, *_ in series for share in shares.values())))
    said = "predicted, for the declared shares" if declared else "predicted: class of the highest score"
    key: list[Artist] = [Patch(facecolor=style.PALE, edgecolor=style.INK, label=said)]
    if corrected:
        key.append(Patch(facecolor=style.PALE, edgecolor=style.INK, hatch="////", label="corrected for confusion"))
    key.append(Line2D([], [], color=style.INK, marker="|", label="95 % interval"))
    axes.legend(handles=key, loc="upper left", bbox_to_anchor=(1.02, 1.0), frameon=False, fontsize=style.NORMAL)
    return figure


def thresholds_figure(
    counts: Sequence[Mapping[str, int]],
    thresholds: Sequence[float],
    scores: Mapping[str, NDArray[np.floating]],
    source: str,
) -> Figure:
    """Left: of all cells the share of each class, and of those abstained on, at each threshold (`counts` in its order).

    Right: how the best scores are spread, by predicted class (`scores`).
    """
    tall_in = 5.2
    figure = style.new_figure(tall_in)
    n = sum(counts[0].values()) if counts else 0
    style.heading(figure, f"Fewer cells are called as the score threshold rises (n = {n:,} cells)", source)
    left, right = figure.add_axes((0.07, 0.17, 0.40, 0.62)), figure.add_axes((0.56, 0.17, 0.42, 0.62))
    colours = style.class_colours(list(scores)) | {ABSTAINED: "#FFFFFF"}
    for place, found in enumerate(counts):
        total, below = max(1, sum(found.values())), 0.0
        for name, count in found.items():
            share = 100 * count / total
            left.bar(place, share, 0.62, bottom=below, color=colours[name], edgecolor=style.INK, lw=0.8)
            if share >= 5:
                middle = below + share / 2
                left.text(place, middle, f"{share:.0f} %", ha="center", va="center", fontsize=style.NORMAL)
            below += share
    left.set_xticks(range(len(thresholds)), [f"{threshold:g}" for threshold in thresholds])
    left.set_xlabel("score threshold")
    left.set_ylabel("share of all cells (%)")
    left.set_ylim(0, 100)
    edges = np.linspace(min(min((v.min() for v in scores.values() if len(v)), default=0.0), 1 / len(scores)), 1, _BINS)
    for name, values in scores.items():
        if len(values):
            heights = np.histogram(values, edges)[0]
            right.stairs(heights, edges, color=colours[name], lw=2)
            right.stairs(heights, edges, color=colours[name], fill=True, alpha=0.15)
    for threshold in thresholds:
        right.axvline(threshold, color=style.GREY, lw=1, ls=(0, (3, 3)))
    right.set_xlabel("highest score of a cell")
    right.set_ylabel("cells")
    right.set_ylim(bottom=0)
    for axes in (left, right):
        style.plain(axes)
    key = [Patch(facecolor=colours[name], edgecolor=style.INK, label=name) for name in (*scores, ABSTAINED)]
    figure.legend(
        handles=key, loc="upper left", bbox_to_anchor=(0.06, 0.89), ncol=len(key), frameon=False, fontsize=style.NORMAL
    )
    return figure
