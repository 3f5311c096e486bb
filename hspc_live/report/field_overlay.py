"""A still field with everything that was found drawn in: which cells would be taken, which not, and why.

Accepted cells have a full line, found ones that are not accepted a dashed one in the colour of the reason, what is no
whole cell a thin box and a cross. The legend says it in words, with counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from hspc_live.core.values import Pixels
from hspc_live.report import style
from hspc_live.stages.field import NO_CELL, FieldResult, Reason

MARGIN_IN = 0.3
FOOT_IN = 0.95
HEAD_IN = 0.72
MAX_IMAGE_IN = 9.0
ACCEPTED_COLOUR = "#009E73"
_SHADOW = [withStroke(linewidth=3.4, foreground="#000000A0")]

# Okabe & Ito (2008), "Color universal design"; dashes tell them from the accepted where colours do not
_COLOURS = {
    Reason.NOT_UNIQUE: "#56B4E9",
    Reason.TOO_LARGE: "#E69F00",
    Reason.NOT_ROUND: "#F0E442",
    Reason.UNCROPPABLE: "#CC79A7",
    Reason.BLURRED: "#0072B2",
    Reason.SATURATED: "#D55E00",
    Reason.CLUSTER: "#FFFFFF",
    Reason.BORDER: style.PALE,
    Reason.DEBRIS: style.GREY,
}
WORDS = {
    Reason.NOT_UNIQUE: "neighbour in its crop",
    Reason.TOO_LARGE: "too large",
    Reason.NOT_ROUND: "not round",
    Reason.UNCROPPABLE: "crop leaves the image",
    Reason.BLURRED: "out of focus",
    Reason.SATURATED: "saturated",
    Reason.CLUSTER: "no cell: clump",
    Reason.BORDER: "no cell: cut by the border",
    Reason.DEBRIS: "no cell: debris",
}


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
    height, width = pixels.shape
    image_in = min((style.WIDTH_IN - 2 * MARGIN_IN) * height / width, MAX_IMAGE_IN)
    wide_in = image_in * width / height
    tall_in = HEAD_IN + image_in + FOOT_IN
    figure = style.new_figure(tall_in)
    left = (style.WIDTH_IN - wide_in) / 2 / style.WIDTH_IN
    axes = figure.add_axes((left, FOOT_IN / tall_in, wide_in / style.WIDTH_IN, image_in / tall_in))
    black, white = style.contrast(pixels)
    axes.imshow(pixels, cmap="gray", vmin=black, vmax=white, interpolation="bicubic")
    axes.set_axis_off()
    axes.autoscale(False)  # or an outline at the border would widen the view
    _cells(axes, result, names, colours)
    _others(axes, result)
    counts = Counter(result.reasons)
    cells = int(result.whole.sum())
    alarms = "" if not result.frame.alarms else f" (image {', '.join(result.frame.alarms)})"
    style.heading(
        figure, f"{cells} cell{'' if cells == 1 else 's'} found, {counts[None]} accepted{alarms}",
        f"{title}   ·   {width} × {height} pixels of {um_per_px:g} µm",
    )  # fmt: skip
    style.scale_bar(axes, 0, -0.3 / image_in, um_per_px, style.nice_length(width * um_per_px))
    figure.legend(
        handles=_key(counts, key), loc="center", ncols=5, frameon=False, fontsize=style.NORMAL,
        bbox_to_anchor=(0.58, (FOOT_IN - 0.62) / tall_in), handlelength=2.4, columnspacing=1.6,
    )  # fmt: skip
    return style.save(figure, path)


def _cells(axes: Axes, result: FieldResult, names: Sequence[str], colours: Sequence[str]) -> None:
    reasons = [reason for reason, whole in zip(result.reasons, result.whole, strict=True) if whole]
    boxes = result.frame.objects[["x0_px", "y0_px", "x1_px", "y1_px"]][result.whole].tolist()
    named, coloured = iter(names), iter(colours)
    for number, (reason, (x0, y0, x1, y1)) in enumerate(zip(reasons, boxes, strict=True), start=1):
        colour = next(coloured, ACCEPTED_COLOUR) if reason is None else _COLOURS[reason]
        for line in _outlines(result.labels[y0:y1, x0:x1] == number):
            axes.plot(
                line[:, 0] + x0, line[:, 1] + y0, color=colour, lw=2.0, ls="-" if reason is None else (0, (2.2, 1.2)),
                path_effects=_SHADOW,
            )  # fmt: skip
        text = next(named, "") if reason is None else ""
        if text:
            axes.text(
                (x0 + x1) / 2, y1 + 3, text, color="white", fontsize=style.SMALL, fontweight="bold", ha="center",
                va="top", clip_on=True, path_effects=_SHADOW,
            )  # fmt: skip


def _others(axes: Axes, result: FieldResult) -> None:
    for reason, row in zip(result.reasons, result.frame.objects, strict=True):
        if reason is None or reason not in NO_CELL:
            continue
        x0, y0, x1, y1 = (float(row[name]) for name in ("x0_px", "y0_px", "x1_px", "y1_px"))
        axes.add_patch(
            Rectangle((x0 - 3, y0 - 3), x1 - x0 + 5, y1 - y0 + 5, fill=False, lw=1.2, ec=_COLOURS[reason],
                      path_effects=_SHADOW)
        )  # fmt: skip
        axes.plot(
            [(x0 + x1 - 1) / 2], [(y0 + y1 - 1) / 2], marker="x", ms=5, mew=1.4, color=_COLOURS[reason],
            path_effects=_SHADOW,
        )  # fmt: skip


def _key(counts: Counter[Reason | None], key: Mapping[str, str] | None) -> list[Line2D]:
    accepted = key or {f"accepted: {counts[None]}": ACCEPTED_COLOUR}
    lines = [Line2D([], [], color=_ink(colour), lw=3, label=text) for text, colour in accepted.items()]
    for reason, colour in _COLOURS.items():
        if not counts[reason]:
            continue
        ink = _ink(colour)
        text = f"{WORDS[reason]}: {counts[reason]}"
        if reason in NO_CELL:
            lines.append(Line2D([], [], color=ink, lw=0, marker="x", ms=7, mew=2, label=text))
        else:
            lines.append(Line2D([], [], color=ink, lw=3, ls=(0, (1.6, 0.8)), label=text))
    return lines


def _ink(colour: str) -> str:
    """White shows on the image, not on paper."""
    return style.INK if colour == "#FFFFFF" else colour


def _outlines(mask: NDArray[np.bool_]) -> list[NDArray[np.int32]]:
    """Closed outlines of a mask, each (n, 2) of (x, y)."""
    found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return [np.vstack((line[:, 0], line[:1, 0])).astype(np.int32) for line in found]
