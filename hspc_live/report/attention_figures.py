"""Pictures of what a classifier looks at: crops with their maps, mean maps, shares of attention inside the cell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from textwrap import fill
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from hspc_live.core.values import Pixels
from hspc_live.report import style

COLUMNS: Final = 12
"""Cells of a class that are shown; more could not be seen."""

_MAP: Final = "inferno"
_OUTLINE: Final = "#56B4E9"
_LEFT_IN: Final = 1.5
_HEAD_IN: Final = 0.85
_FOOT_IN: Final = 0.62
_BETWEEN_IN: Final = 0.16
_PALE_MAP: Final = 0.55  # a map over its crop lets the cell shine through

Maps = NDArray[np.floating]
Masks = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Looked:
    """Cells of one class: crops, maps (0 to 1) and outlines (n, S, S); `inside` (n,) NaN where it cannot be said.

    `mean`, `low`, `high`: the class's share inside with its interval (NaN: none); `even`, `sharpest` to judge it by.
    """

    images: Pixels
    maps: Maps
    masks: Masks
    inside: NDArray[np.floating]
    mean: float
    low: float
    high: float
    even: float
    sharpest: float


def cells_figure(looked: Mapping[str, Looked], um_per_px: float, layer: str, source: str) -> Figure:
    """Of each class two rows: the crops with the outline, and the same crops under their maps."""
    shown = {name: one for name, one in looked.items() if len(one.images)}
    edge = next(iter(shown.values())).images.shape[-1]
    columns = min(COLUMNS, max(len(one.images) for one in shown.values()))
    cell = min(1.35, (style.WIDTH_IN - _LEFT_IN - 0.75) / columns)
    tall_in = _HEAD_IN + len(shown) * (2 * cell + _BETWEEN_IN) + _FOOT_IN
    figure = style.new_figure(tall_in)
    style.heading(figure, f"What the network looks at: Score-CAM of {layer}, class by class", source)
    low, high = style.contrast(np.concatenate([one.images for one in shown.values()]), 0.2, 99.8)
    colours = style.class_colours(list(looked))
    top = _HEAD_IN
    for name, one in shown.items():
        _class_label(
            figure,
            name,
            "1 cell" if len(one.images) == 1 else f"{len(one.images)} cells",
            colours[name],
            top,
            2 * cell,
            tall_in,
        )
        for line in range(2):
            for place in range(min(columns, len(one.images))):
                left = (_LEFT_IN + place * cell) / style.WIDTH_IN
                bottom = 1 - (top + (line + 1) * cell) / tall_in
                axes = figure.add_axes((left, bottom, 0.97 * cell / style.WIDTH_IN, 0.97 * cell / tall_in))
                axes.imshow(one.images[place], cmap="gray", vmin=low, vmax=high, interpolation="nearest")
                if line:
                    axes.imshow(one.maps[place], cmap=_MAP, vmin=0, vmax=1, alpha=_PALE_MAP, interpolation="bilinear")
                _outline(axes, one.masks[place].astype(float), 1.2)
                if line and np.isfinite(one.inside[place]):
                    axes.text(
                        0.96, 0.04, style.per_cent(float(one.inside[place])), transform=axes.transAxes, ha="right",
                        fontsize=style.SMALL, color="white",
                    )  # fmt: skip
                axes.set_axis_off()
        top += 2 * cell + _BETWEEN_IN
    _bar_of_length(figure, cell, edge, um_per_px, tall_in)
    note = (
        "Upper rows: crops in one contrast, blue: the outline. Lower rows: the map over the crop, with the share "
        "of it that lies inside the outline."
    )
    figure.text(_LEFT_IN / style.WIDTH_IN, 0.1 / tall_in, note, fontsize=style.SMALL, color="#555555")
    _colour_bar(figure, tall_in, (_LEFT_IN + columns * cell + 0.15) / style.WIDTH_IN)
    return figure


def means_figure(looked: Mapping[str, Looked], um_per_px: float, layer: str, source: str) -> Figure:
    """The mean crop of each class, and beneath it the mean map with the outline that half of the cells reach."""
    shown = {name: one for name, one in looked.items() if len(one.images)}
    edge = next(iter(shown.values())).images.shape[-1]
    columns = len(shown)
    cell = min(2.3, (style.WIDTH_IN - 2.4) / columns)
    tall_in = _HEAD_IN + 0.35 + 2 * cell + 0.55
    figure = style.new_figure(tall_in)
    style.heading(figure, f"Mean attention of each class: Score-CAM of {layer}", source)
    start = 1.3
    for words, line in (("mean crop", 0), ("mean map", 1)):
        y = 1 - (_HEAD_IN + 0.35 + (line + 0.5) * cell) / tall_in
        figure.text(0.02, y, words, fontsize=style.NORMAL, color=style.INK, va="center")
    for place, (name, one) in enumerate(shown.items()):
        means = one.images.mean(axis=0), one.maps.mean(axis=0)
        for line, picture in enumerate(means):
            box = (
                (start + place * cell) / style.WIDTH_IN,
                1 - (_HEAD_IN + 0.35 + (line + 1) * cell) / tall_in,
                0.96 * cell / style.WIDTH_IN,
                0.96 * cell / tall_in,
            )
            axes = figure.add_axes(box)
            if line:
                axes.imshow(picture, cmap=_MAP, vmin=0, vmax=1, interpolation="bilinear")
                _outline(axes, one.masks.mean(axis=0), 1.6)
            else:
                black, white = style.contrast(picture, 0.2, 99.8)
                axes.imshow(picture, cmap="gray", vmin=black, vmax=white, interpolation="nearest")
                axes.set_title(f"{name}\nn = {len(one.images)}", fontsize=style.NORMAL, color=style.INK)
            axes.set_axis_off()
    _bar_of_length(figure, cell, edge, um_per_px, tall_in, start)
    note = "Blue: the outline that half of the cells reach to. Each map runs from 0 to 1 by itself."
    figure.text(start / style.WIDTH_IN, 0.08 / tall_in, note, fontsize=style.SMALL, color="#555555")
    _colour_bar(figure, tall_in, (start + columns * cell + 0.15) / style.WIDTH_IN)
    return figure


def shares_figure(looked: Mapping[str, Looked], layer: str, source: str) -> Figure:
    """The share of each cell's map inside its outline: every cell a dot, the mean with its 95 % interval."""
    tall_in = 4.8
    figure = style.new_figure(tall_in)
    style.heading(figure, f"How much of the attention lies inside the cell: Score-CAM of {layer}", source)
    axes = figure.add_axes((0.07, 0.19, 0.60, 0.64))
    colours = style.class_colours(list(looked))
    names = list(looked)
    for place, (name, one) in enumerate(looked.items()):
        values = one.inside[np.isfinite(one.inside)]
        if not len(values):
            continue
        aside = place - 0.12 + 0.16 * ((np.arange(len(values)) * 0.6180339887498949) % 1.0 - 0.5)
        axes.scatter(aside, values, s=26, color=colours[name], edgecolors=style.INK, linewidths=0.5, zorder=3)
        if np.isfinite(one.low):
            error = [[one.mean - one.low], [one.high - one.mean]]
            axes.errorbar(place + 0.12, one.mean, yerr=error, fmt="D", ms=6, mfc=colours[name], color=style.INK,
                          capsize=4, lw=1.4, zorder=4)  # fmt: skip
        else:
            axes.plot(place + 0.12, one.mean, "D", ms=6, mfc=colours[name], color=style.INK, zorder=4)
        axes.plot([place - 0.3, place + 0.3], [one.even, one.even], color=style.INK, lw=1.5, ls=(0, (2, 2)), zorder=2)
        axes.plot([place - 0.3, place + 0.3], [one.sharpest, one.sharpest], color=style.GREY, lw=2.0, zorder=2)
    style.plain(axes)
    counts = [int(np.isfinite(one.inside).sum()) for one in looked.values()]
    axes.set_xticks(range(len(names)), [f"{fill(n, 16)}\nn = {c}" for n, c in zip(names, counts, strict=True)])
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.set_ylim(0, 1.02)
    axes.set_ylabel("share of the map inside the outline")
    axes.grid(axis="y", color=style.PALE, lw=0.5)
    key = [
        Line2D([], [], marker="o", ls="", mfc=style.PALE, color=style.INK, label="a cell"),
        Line2D([], [], marker="D", ls="", mfc=style.PALE, color=style.INK, label="mean with 95 % interval"),
        Line2D([], [], color=style.GREY, lw=2.0, label="attention on the cell alone,\nas coarse as the layer's map"),
        Line2D([], [], color=style.INK, lw=1.5, ls=(0, (2, 2)), label="attention spread evenly\n(share of the area)"),
    ]
    axes.legend(handles=key, loc="upper left", bbox_to_anchor=(1.03, 1.0), frameon=False, fontsize=style.NORMAL)
    return figure


def _outline(axes: Axes, share: NDArray[np.floating], width: float) -> None:
    if share.min() < 0.5 <= share.max():
        axes.contour(share, levels=[0.5], colors=[_OUTLINE], linewidths=width)


def _class_label(figure: Figure, name: str, under: str, colour: str, top: float, tall: float, tall_in: float) -> None:
    """A bar in the class's colour and its name, as words in yellow cannot be read."""
    bar = figure.add_axes((0.02, 1 - (top + tall) / tall_in, 0.06 / style.WIDTH_IN, tall / tall_in))
    bar.set_facecolor(colour)
    bar.set_xticks([])
    bar.set_yticks([])
    bar.spines[:].set_visible(False)
    y = 1 - (top + 0.08) / tall_in
    figure.text(0.032, y, fill(name, 14), fontsize=style.NORMAL, fontweight="bold", color=style.INK, va="top")
    figure.text(0.032, 1 - (top + tall - 0.25) / tall_in, under, fontsize=style.SMALL, color="#555555")


def _bar_of_length(
    figure: Figure, cell: float, edge: int, um_per_px: float, tall_in: float, start: float = _LEFT_IN
) -> None:
    length_um = style.nice_length(edge * um_per_px, 0.5)
    wide = 0.97 * cell * length_um / (edge * um_per_px)
    axes = figure.add_axes((start / style.WIDTH_IN, 0.40 / tall_in, wide / style.WIDTH_IN, 0.05 / tall_in))
    axes.set_facecolor(style.INK)
    axes.set_xticks([])
    axes.set_yticks([])
    figure.text(
        (start + wide + 0.1) / style.WIDTH_IN, 0.425 / tall_in, f"{length_um:g} µm", fontsize=style.SMALL, va="center"
    )


def _colour_bar(figure: Figure, tall_in: float, left: float) -> None:
    axes = figure.add_axes((left, 1 - (_HEAD_IN + 1.9) / tall_in, 0.14 / style.WIDTH_IN, 1.4 / tall_in))
    axes.imshow(np.linspace(1, 0, 128)[:, None], cmap=_MAP, aspect="auto", extent=(0, 1, 0, 1))
    axes.set_xticks([])
    axes.set_yticks([0, 1])
    axes.yaxis.tick_right()
    axes.tick_params(labelsize=style.SMALL)
    axes.set_title("map", fontsize=style.SMALL)
