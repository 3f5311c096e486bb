"""PCA of raw pixels beside PCA of the network's features: mixed before, clustered after, or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from hspc_live.report import style


@dataclass(frozen=True, slots=True, eq=False)
class Scattered:
    """Cells (n, 2) in a plane, the shares of variance its axes explain, and words on how clustered they are."""

    title: str
    places: NDArray[np.floating]
    explained: tuple[float, float]
    words: str


def planes_figure(
    planes: Sequence[Scattered], labels: NDArray[np.integer], classes: Sequence[str], coloured_by: str, source: str
) -> Figure:
    """One panel for each plane, every cell a dot in the colour of its class; `labels` (n,) index `classes`."""
    tall_in = 6.4
    figure = style.new_figure(tall_in)
    style.heading(figure, f"The two main components of {len(labels)} cells, by {coloured_by}", source)
    colours = style.class_colours(classes)
    order = np.random.default_rng(0).permutation(len(labels))  # or the last class would cover the others
    dots = np.array([colours[name] for name in classes])[labels][order]
    wide = 0.80 / len(planes)
    for number, one in enumerate(planes):
        axes = figure.add_axes((0.06 + number * (wide + 0.07), 0.23, wide, 0.58))
        places = one.places[order]
        axes.scatter(
            places[:, 0], places[:, 1], c=dots, s=float(np.clip(9000 / len(labels), 8, 40)), alpha=0.75, lw=0,
            rasterized=True,
        )  # fmt: skip
        style.plain(axes)
        axes.set_title(one.title, fontsize=style.NORMAL + 1, loc="left", color=style.INK)
        axes.set_xlabel(f"component 1 ({style.per_cent(one.explained[0])} of the variance)")
        axes.set_ylabel(f"component 2 ({style.per_cent(one.explained[1])})")
        axes.text(0, -0.17, one.words, transform=axes.transAxes, fontsize=style.NORMAL, va="top", linespacing=1.5)
    key = [
        Line2D([], [], marker="o", ls="", color=colours[name], label=f"{name} ({int((labels == column).sum())})")
        for column, name in enumerate(classes)
    ]
    figure.legend(handles=key, loc="upper right", bbox_to_anchor=(0.99, 0.93), ncol=len(classes), frameon=False)
    return figure
