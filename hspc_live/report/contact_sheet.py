"""A contact sheet: some crops of every class side by side, in one contrast, with a scale bar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Final

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from hspc_live.core.errors import OutputError
from hspc_live.core.values import Pixels
from hspc_live.report import style

NAME: Final = "contact_sheet"
COLUMNS: Final = 14
ROWS: Final = 2
"""Lines of crops a class."""

_LEFT_IN: Final = 1.9
_HEAD_IN: Final = 0.8
_FOOT_IN: Final = 0.5
_BETWEEN_IN: Final = 0.22
_CELL_IN: Final = (style.WIDTH_IN - _LEFT_IN - 0.2) / COLUMNS


def draw_contact_sheet(
    images: Pixels,
    rows_of: Mapping[str, Sequence[int]],
    counts: Mapping[str, int],
    um_per_px: float | None,
    folder: Path,
    source: str,
) -> list[Path]:
    """Write `contact_sheet.png` and `.svg`. Of `images` (n, S, S), `rows_of` has the rows to show of each class.

    `counts`: how many crops each class has; `um_per_px` None draws no bar, and says so. Raises OutputError.
    """
    figure = contact_sheet(images, rows_of, counts, um_per_px, source)
    paths = [folder / f"{NAME}.{suffix}" for suffix in ("png", "svg")]
    try:
        style.save(figure, paths[0])
        figure.savefig(paths[1], metadata={"Creator": "HSPC Live", "Date": None})
    except OSError as error:
        raise OutputError(f"{folder}: the picture cannot be written: {error.strerror or error}") from error
    return paths


def contact_sheet(
    images: Pixels,
    rows_of: Mapping[str, Sequence[int]],
    counts: Mapping[str, int],
    um_per_px: float | None,
    source: str,
) -> Figure:
    """The picture that `draw_contact_sheet` writes."""
    lines = {name: max(1, -(-min(len(rows), ROWS * COLUMNS) // COLUMNS)) for name, rows in rows_of.items()}
    tall_in = _HEAD_IN + sum(n * _CELL_IN + _BETWEEN_IN for n in lines.values()) + _FOOT_IN
    figure = style.new_figure(tall_in)
    style.heading(figure, f"Crops by class (n = {sum(counts.values())})", source)
    shown = [row for rows in rows_of.values() for row in rows]
    # the ends are left to the few brightest and darkest pixels, or one glint would make all the others dim
    low, high = style.contrast(images[shown], 0.2, 99.8)
    colours = style.class_colours(list(rows_of))
    top_in = _HEAD_IN
    for name, rows in rows_of.items():
        tall = lines[name] * _CELL_IN
        # a bar in the class's colour, as words in yellow cannot be read
        bar = (0.02, 1 - (top_in + tall) / tall_in, 0.06 / style.WIDTH_IN, tall / tall_in)
        figure.add_artist(Rectangle(bar[:2], *bar[2:], color=colours[name], lw=0, transform=figure.transFigure))
        for down_in, words, size, weight, colour in (
            (0.08, fill(name, 20), style.NORMAL, "bold", style.INK),
            (tall - 0.2, f"n = {counts[name]}", style.SMALL, "normal", "#555555"),
        ):
            figure.text(
                0.032, 1 - (top_in + down_in) / tall_in, words, fontsize=size, fontweight=weight, color=colour, va="top"
            )
        # one picture a class: hundreds of axes would take many seconds to draw
        sheet = _tiled(images, rows[: ROWS * COLUMNS], lines[name], low, high)
        axes = figure.add_axes(
            (
                _LEFT_IN / style.WIDTH_IN,
                1 - (top_in + tall) / tall_in,
                COLUMNS * _CELL_IN / style.WIDTH_IN,
                tall / tall_in,
            )
        )
        axes.imshow(sheet, cmap="gray", vmin=0, vmax=1, interpolation="nearest", aspect="auto")
        axes.set_axis_off()
        top_in += tall + _BETWEEN_IN
    _foot(figure, images.shape[1], um_per_px, tall_in)
    return figure


def _tiled(images: Pixels, rows: Sequence[int], lines: int, low: float, high: float) -> NDArray[np.float32]:
    """Crops in lines of `COLUMNS`, from 0 (dark) to 1, with a white rim."""
    edge = images.shape[1]
    step = edge + max(1, edge // 24)
    sheet = np.ones((lines * step, COLUMNS * step), np.float32)
    for place, row in enumerate(rows):
        y, x = place // COLUMNS * step, place % COLUMNS * step
        sheet[y : y + edge, x : x + edge] = np.clip((images[row] - low) / (high - low), 0, 1)
    return sheet


def _foot(figure: Figure, edge_px: int, um_per_px: float | None, tall_in: float) -> None:
    """The scale bar, as long as it is in the crops."""
    x_in, words = _LEFT_IN, "scale unknown"
    if um_per_px is not None:
        step = edge_px + max(1, edge_px // 24)
        length_um = style.nice_length(edge_px * um_per_px, 0.5)
        length_in = _CELL_IN * length_um / (step * um_per_px)
        bar = figure.add_axes((x_in / style.WIDTH_IN, 0.22 / tall_in, length_in / style.WIDTH_IN, 0.05 / tall_in))
        bar.set_facecolor(style.INK)
        bar.set_xticks([])
        bar.set_yticks([])
        x_in += length_in + 0.1
        words = f"{length_um:g} µm"
    figure.text(
        x_in / style.WIDTH_IN, 0.245 / tall_in,
        f"{words}      Drawn by chance, each picture once. All crops share one contrast.",
        fontsize=style.SMALL, color=style.INK, va="center",
    )  # fmt: skip
