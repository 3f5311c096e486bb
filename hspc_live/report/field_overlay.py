"""A still field with everything that was found drawn in: which cells would be taken, which not, and why.

Colour is for accepted cells alone, and a full line. What is not accepted is light grey: whole cells with an outline
whose dashes tell the reason, what is no whole cell with a cross or a box; a word stands beside it where there is room.
The legend lies on a dark ground, so that every line looks there as it does on the picture.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from hspc_live.core.values import Pixels
from hspc_live.report import style
from hspc_live.report.labels import Box, FreePlaces
from hspc_live.stages.field import NO_CELL, FieldResult, Reason

OVERLAY = f"{style.SOFTWARE}, still field"  # by which a later run tells the file from other figures
MARGIN_IN = 0.3
FOOT_IN = 0.55
HEAD_IN = 0.72
KEY_IN = 3.3
"""Width of the legend, right of the picture."""

KEY_TALL_IN = 3.9
"""The height of a legend with every line in it; a flat picture has as much beside it."""

MAX_IMAGE_IN = 9.0
ACCEPTED_COLOUR = "#009E73"
REJECTED_COLOUR = "#E2E2E2"
GROUND = "#3A3A3A"
_SHADOW = [withStroke(linewidth=3.4, foreground="#000000A0")]

Dashes = tuple[float, tuple[float, ...]]
_DASHES: dict[Reason, Dashes] = {
    Reason.NOT_UNIQUE: (0, (2.4, 1.2)),
    Reason.TOO_LARGE: (0, (7.0, 1.6)),
    Reason.NOT_ROUND: (0, (0.9, 1.1)),
    Reason.UNCROPPABLE: (0, (5.0, 1.4, 0.9, 1.4)),
    Reason.BLURRED: (0, (1.6, 3.0)),
    Reason.SATURATED: (0, (3.0, 1.2, 0.9, 1.2, 0.9, 1.2)),
}
_BOXES: dict[Reason, str | Dashes] = {Reason.CLUSTER: "-", Reason.BORDER: (0, (1.5, 1.8))}  # debris has a cross
WORDS = {
    Reason.NOT_UNIQUE: "too close to another cell",
    Reason.TOO_LARGE: "too large",
    Reason.NOT_ROUND: "not round",
    Reason.UNCROPPABLE: "too close to the edge",
    Reason.BLURRED: "out of focus",
    Reason.SATURATED: "overexposed",
    Reason.CLUSTER: "clump, cannot be parted",
    Reason.BORDER: "cut by the edge",
    Reason.DEBRIS: "debris",
}
BESIDE = {
    Reason.NOT_UNIQUE: "too close",
    Reason.TOO_LARGE: "too large",
    Reason.NOT_ROUND: "not round",
    Reason.UNCROPPABLE: "edge",
    Reason.BLURRED: "out of focus",
    Reason.SATURATED: "overexposed",
    Reason.CLUSTER: "clump",
    Reason.BORDER: "cut",
}
"""Beside the object; debris has its cross alone, as there may be hundreds of it."""


def draw_field(
    pixels: Pixels,
    result: FieldResult,
    um_per_px: float,
    title: str,
    path: Path,
    names: Sequence[str] = (),
    colours: Sequence[str] = (),
    key: Mapping[str, str] | None = None,
) -> Path:
    """Write the picture of one field as PNG; `names` label the accepted cells, in row order (classes, say).

    `colours` are those of the accepted cells' outlines, in row order, and `key` says what each of them means.
    `pixels` is the image (height, width) that `result` was made of. Raises OSError where it cannot be written.
    """
    return style.save(field_figure(pixels, result, um_per_px, title, names, colours, key), path, OVERLAY)


def field_figure(
    pixels: Pixels,
    result: FieldResult,
    um_per_px: float,
    title: str,
    names: Sequence[str] = (),
    colours: Sequence[str] = (),
    key: Mapping[str, str] | None = None,
) -> Figure:
    """The picture that `draw_field` writes."""
    height, width = pixels.shape
    image_in = min((style.WIDTH_IN - 3 * MARGIN_IN - KEY_IN) * height / width, MAX_IMAGE_IN)
    wide_in = image_in * width / height
    tall_in = HEAD_IN + max(image_in + FOOT_IN, KEY_TALL_IN)
    figure = style.new_figure(tall_in)
    top = 1 - HEAD_IN / tall_in
    share = image_in / tall_in
    axes = figure.add_axes((MARGIN_IN / style.WIDTH_IN, top - share, wide_in / style.WIDTH_IN, share))
    black, white = style.contrast(pixels)
    axes.imshow(
        _shrunk(pixels, int(2 * wide_in * style.DPI)), cmap="gray", vmin=black, vmax=white, interpolation="bicubic",
        extent=(-0.5, width - 0.5, height - 0.5, -0.5),
    )  # fmt: skip
    axes.set_axis_off()
    axes.autoscale(False)  # or an outline at the border would widen the view
    _outline(axes, result, colours)
    unsaid = _label(axes, result, names, width, height, wide_in)
    counts = Counter(result.reasons)
    cells = int(result.whole.sum())
    alarms = "" if not result.frame.alarms else f" (image {', '.join(result.frame.alarms)})"
    style.heading(
        figure, f"{cells} cell{'' if cells == 1 else 's'} found, {counts[None]} accepted{alarms}",
        f"{title}   ·   {width} × {height} pixels of {um_per_px:.4g} µm",
    )  # fmt: skip
    style.scale_bar(axes, 0, -0.28 / image_in, um_per_px, style.nice_length(width * um_per_px))
    _legend(figure, counts, key, ((2 * MARGIN_IN + wide_in) / style.WIDTH_IN, top), unsaid)
    return figure


def _outline(axes: Axes, result: FieldResult, colours: Sequence[str]) -> None:
    """Every object's outline or mark; in `labels` the whole cells are numbered from 1, in row order."""
    coloured, number = iter(colours), 0
    for reason, row in zip(result.reasons, result.frame.objects, strict=True):
        x0, y0, x1, y1 = (int(row[name]) for name in ("x0_px", "y0_px", "x1_px", "y1_px"))
        if reason is Reason.DEBRIS:
            axes.plot(
                [(x0 + x1 - 1) / 2], [(y0 + y1 - 1) / 2], marker="x", ms=6, mew=1.5, color=REJECTED_COLOUR,
                path_effects=_SHADOW,
            )  # fmt: skip
        elif reason in _BOXES:
            axes.add_patch(
                Rectangle((x0 - 3, y0 - 3), x1 - x0 + 5, y1 - y0 + 5, fill=False, lw=1.5, ec=REJECTED_COLOUR,
                          ls=_BOXES[reason], path_effects=_SHADOW)
            )  # fmt: skip
        else:
            number += 1
            for line in _contours(result.labels[y0:y1, x0:x1] == number):
                axes.plot(
                    line[:, 0] + x0, line[:, 1] + y0, lw=2.2 if reason is None else 1.6, path_effects=_SHADOW,
                    color=next(coloured, ACCEPTED_COLOUR) if reason is None else REJECTED_COLOUR,
                    ls="-" if reason is None else _DASHES[reason],
                )  # fmt: skip


def _label(axes: Axes, result: FieldResult, names: Sequence[str], width: int, height: int, wide_in: float) -> int:
    """Words beside the objects where there is room, accepted cells first; how many found none."""
    px_per_dot = width / (wide_in * style.DPI)
    boxes = _boxes(result)
    free, named, unsaid = FreePlaces(width, height, boxes), iter(names), 0
    wanted = [
        (next(named, ""), True, box) if reason is None else (BESIDE.get(reason, ""), False, box)
        for reason, box in zip(result.reasons, boxes, strict=True)
    ]
    # a label of several lines says most: it is on the picking list
    for text, accepted, box in sorted(wanted, key=lambda one: (not one[1], -one[0].count("\n"))):
        if not text:
            continue
        words = axes.text(
            0, 0, text, color="white" if accepted else REJECTED_COLOUR, fontsize=style.SMALL, ha="center", va="center",
            fontweight="bold" if accepted else "normal", linespacing=1.25, path_effects=_SHADOW,
        )  # fmt: skip
        extent = words.get_window_extent()
        wide, tall = (extent.width + 6) * px_per_dot, (extent.height + 4) * px_per_dot
        place = free.find(wide, tall, box, 5 * px_per_dot, 5 * px_per_dot)
        if place is None:
            words.remove()
            unsaid += 1
        else:
            words.set_position((place[0] + wide / 2, place[1] + tall / 2))
    return unsaid


def _boxes(result: FieldResult) -> list[Box]:
    rows = result.frame.objects[["x0_px", "y0_px", "x1_px", "y1_px"]].tolist()
    return [(float(x0), float(y0), float(x1), float(y1)) for x0, y0, x1, y1 in rows]


def _legend(
    figure: Figure, counts: Counter[Reason | None], key: Mapping[str, str] | None, place: tuple[float, float],
    unsaid: int,
) -> None:  # fmt: skip
    """What every line on the picture means, with counts; beneath it, how many labels had no room."""
    accepted = key or {f"single cell: {counts[None]}": ACCEPTED_COLOUR}
    sections: list[tuple[str, list[Line2D | Patch]]] = [
        ("Accepted", [Line2D([], [], color=colour, lw=3, label=text) for text, colour in accepted.items()]),
        ("Found, not accepted", [_sample(reason, counts) for reason in _DASHES if counts[reason]]),
        ("No whole cell", [_sample(reason, counts) for reason in WORDS if reason in NO_CELL and counts[reason]]),
    ]
    handles: list[Line2D | Patch] = []
    titles = []
    for title, samples in sections:
        if samples:
            titles.append(title)
            handles += [Line2D([], [], lw=0, label=title), *samples]
    legend = figure.legend(
        handles=handles, loc="upper left", bbox_to_anchor=place, facecolor=GROUND, edgecolor="none", framealpha=1,
        labelcolor="white", fontsize=style.NORMAL, handlelength=3.0, labelspacing=0.6, borderpad=0.9,
        borderaxespad=0, fancybox=False,
    )  # fmt: skip
    for text in legend.get_texts():
        if text.get_text() in titles:
            text.set_fontweight("bold")
            text.set_x(-3.8 * style.NORMAL * style.DPI / 72)  # as far left as the lines
    if unsaid:
        figure.canvas.draw()
        bottom = legend.get_window_extent().y0 / (style.DPI * figure.get_figheight())
        words = "1 label has" if unsaid == 1 else f"{unsaid} labels have"
        figure.text(
            place[0], bottom - 0.1 / figure.get_figheight(), f"{words} no room on the picture", va="top",
            fontsize=style.SMALL, color="#555555",
        )  # fmt: skip


def _sample(reason: Reason, counts: Counter[Reason | None]) -> Line2D | Patch:
    """The legend's line for a reason."""
    text = f"{WORDS[reason]}: {counts[reason]}"
    if reason in _DASHES:
        return Line2D([], [], color=REJECTED_COLOUR, lw=1.8, ls=_DASHES[reason], label=text)
    if reason in _BOXES:
        return Patch(fill=False, ec=REJECTED_COLOUR, lw=1.5, ls=_BOXES[reason], label=text)
    return Line2D([], [], color=REJECTED_COLOUR, lw=0, marker="x", ms=7, mew=1.8, label=text)


def _shrunk(pixels: Pixels, width: int) -> Pixels:
    """A picture that is much wider than it is shown, made smaller: drawing all of its pixels takes gigabytes."""
    by = pixels.shape[1] // width
    if by < 2:
        return pixels
    size = (pixels.shape[1] // by, max(1, pixels.shape[0] // by))
    return cast("Pixels", cv2.resize(pixels, size, interpolation=cv2.INTER_AREA))


def _contours(mask: NDArray[np.bool_]) -> list[NDArray[np.int32]]:
    """Closed outlines of a mask, each (n, 2) of (x, y)."""
    found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return [np.vstack((line[:, 0], line[:1, 0])).astype(np.int32) for line in found]
