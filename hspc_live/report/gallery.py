"""Crops of cells by what was said of them: the surest and the least sure of each class, the abstained, the rejected."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from hspc_live.core.values import CellOutcome, CellRecord, Reject
from hspc_live.report import style
from hspc_live.report.evidence import Evidence
from hspc_live.report.select import by_certainty, ends, reject_examples, said, score_of
from hspc_live.twin.score import match_records

BEST, LEAST = 8, 4
COLUMNS = BEST + LEAST
CELL_IN = 0.93
ROW_IN = 1.42
EMPTY_IN = 0.85
LEFT_IN = 1.75
GAP_IN = 0.22
HEAD_IN = 1.05
FOOT_IN = 0.5
CROP_UM = 16.0

Picture = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """One crop and what stands under it. `wrong`: truth says otherwise."""

    picture: Picture
    caption: str
    wrong: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Band:
    """One row of the gallery: `right` tiles stand apart, at the right end."""

    name: str
    note: str
    colour: str
    left: list[Tile]
    right: list[Tile]


def draw_gallery(evidence: Evidence, folder: Path) -> list[Path]:
    """Write `gallery.png`; nothing where there is no crop to show."""
    crops = _Crops(evidence)
    bands = [*_class_bands(crops), *_abstained_band(crops), *_reject_band(evidence)]
    tiles = [tile for band in bands for tile in (*band.left, *band.right)]
    if not tiles:
        return []
    heights = [ROW_IN if band.left else EMPTY_IN for band in bands]
    tall_in = HEAD_IN + sum(heights) + FOOT_IN
    figure = style.new_figure(tall_in)
    cells = sum(record.classification is not None for record in evidence.records)
    style.heading(figure, f"What the cells look like, by what was said of them (n = {cells} cells)", evidence.source)
    levels = style.contrast(np.concatenate([tile.picture[np.isfinite(tile.picture)] for tile in tiles]), 0.3, 99.7)
    for x, words in ((LEFT_IN, "most certain →"), (LEFT_IN + BEST * CELL_IN + GAP_IN, "→ least certain")):
        if any(band.right for band in bands):
            figure.text(
                x / style.WIDTH_IN, 1 - (HEAD_IN - 0.08) / tall_in, words, fontsize=style.SMALL, color="#555555",
                va="bottom",
            )  # fmt: skip
    for number, band in enumerate(bands):
        top_in = HEAD_IN + sum(heights[:number])
        figure.text(
            0.02, 1 - (top_in + 0.30) / tall_in, band.name, fontsize=style.LARGE, fontweight="bold", color=band.colour,
            va="center",
        )  # fmt: skip
        figure.text(
            0.02, 1 - (top_in + 0.47) / tall_in, band.note, fontsize=style.SMALL, color="#555555", va="top",
            linespacing=1.3,
        )  # fmt: skip
        if not band.left:
            figure.text(
                LEFT_IN / style.WIDTH_IN, 1 - (top_in + 0.30) / tall_in, "no such cell in this run", color="#555555",
                fontsize=style.NORMAL, va="center",
            )  # fmt: skip
        for column, tile in enumerate(band.left):
            _place(figure, tile, LEFT_IN + column * CELL_IN, top_in, band.colour, levels)
        for column, tile in enumerate(band.right):
            x_in = LEFT_IN + (BEST + column) * CELL_IN + GAP_IN
            _place(figure, tile, x_in, top_in, band.colour, levels)
    _foot(figure, evidence, tiles[0].picture.shape[1], tall_in)
    return [style.save(figure, folder / "gallery.png")]


def _place(figure: Figure, tile: Tile, x_in: float, top_in: float, colour: str, levels: tuple[float, float]) -> None:
    tall_in, edge = figure.get_figheight(), CELL_IN - 0.07
    axes = figure.add_axes(
        (x_in / style.WIDTH_IN, 1 - (top_in + edge) / tall_in, edge / style.WIDTH_IN, edge / tall_in)
    )
    axes.imshow(tile.picture, cmap="gray", vmin=levels[0], vmax=levels[1], interpolation="lanczos", aspect="equal")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(color=colour, linewidth=1.6)
    axes.set_xlabel(
        tile.caption, fontsize=8.5, labelpad=3, linespacing=1.1, color="#B03000" if tile.wrong else style.INK
    )


def _foot(figure: Figure, evidence: Evidence, edge_px: int, tall_in: float) -> None:
    """The scale bar, as long as it is in the crops, and how to read the captions."""
    um = evidence.recording.info.um_per_px
    length_um = style.nice_length(edge_px * um, 0.5)
    length_in = (CELL_IN - 0.07) * length_um / (edge_px * um)
    bar = figure.add_axes((LEFT_IN / style.WIDTH_IN, 0.22 / tall_in, length_in / style.WIDTH_IN, 0.05 / tall_in))
    bar.set_facecolor(style.INK)
    bar.set_xticks([])
    bar.set_yticks([])
    words = f"{length_um:g} µm"
    words += "      Under each crop: cell number and score of its class, all looks combined"
    words += "; in red what it really was, where that differs." if evidence.truth is not None else "."
    words += " All crops share one contrast."
    figure.text(
        (LEFT_IN + length_in + 0.1) / style.WIDTH_IN, 0.245 / tall_in, words, fontsize=style.SMALL, color=style.INK,
        va="center",
    )  # fmt: skip


# ---- what goes into the bands --------------------------------------------------------------------------------------


class _Crops:
    """Tiles of cells; knows what each cell really was, where that is known."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self._edge = _edge_px(evidence)
        self._x_px, self._y_px = (
            np.empty(0) if column is None else column / evidence.recording.info.um_per_px
            for column in (evidence.recording.event("pos_x"), evidence.recording.event("pos_y"))
        )
        self._kind: dict[int, str] = {}
        truth = evidence.truth
        if truth is not None:
            for record, row in zip(evidence.records, match_records(evidence.records, truth), strict=True):
                if row is not None:
                    self._kind[record.cell] = truth.kinds[int(truth.objects["kind"][row])]

    def tiles(self, records: list[CellRecord], name_class: bool = False) -> list[Tile]:
        """One tile a cell: the middle one of the views it was judged by."""
        tiles = []
        for record in records:
            rows = [self.evidence.row_of[view] for view in record.views if view in self.evidence.row_of]
            picture = self._picture(rows[len(rows) // 2]) if rows else None
            if picture is None or record.classification is None:
                continue
            predicted, kind = record.classification.predicted, self._kind.get(record.cell)
            wrong = kind is not None and kind != predicted
            words = f"#{record.cell}   {score_of(record):.2f}"
            words += f"\n({predicted})" if name_class else ""
            words += f"\nis {kind}" if wrong else ""
            tiles.append(Tile(picture, words, wrong))
        return tiles

    def _picture(self, row: int) -> Picture | None:
        kept = self.evidence.recording.window(row)
        if kept is None:
            return None
        corner = self.evidence.views[row]
        return cut_out(kept[0], self._x_px[row] - corner["x0_px"], self._y_px[row] - corner["y0_px"], self._edge)


def _class_bands(crops: _Crops) -> list[Band]:
    classes, records = crops.evidence.classes, crops.evidence.records
    colours = style.class_colours(classes)
    bands = []
    for name, mine in said(records, classes).items():
        best, least = ends(mine, BEST, LEAST)
        taken = sum(record.outcome is CellOutcome.SORTED for record in mine)
        note = f"n = {len(mine)} cells\n{taken} sorted"
        bands.append(Band(name, note, colours.get(name, style.INK), crops.tiles(best), crops.tiles(least)))
    return bands


def _abstained_band(crops: _Crops) -> list[Band]:
    records = [record for record in crops.evidence.records if record.outcome is CellOutcome.ABSTAINED]
    if not records:
        return []
    tiles = crops.tiles(by_certainty(records)[:COLUMNS], name_class=True)
    return [Band("abstained", f"n = {len(records)} cells\n(best class)", "#444444", tiles, [])]


def _reject_band(evidence: Evidence) -> list[Band]:
    """Rejected detections, cut from the frames: only a recording that kept them can show these."""
    objects = evidence.objects
    total = int(np.count_nonzero(objects["reject"]))
    if not total or not evidence.recording.has_frames:
        return []
    each = max(1, COLUMNS // len(reject_examples(objects, 1)))
    um, edge = evidence.recording.info.um_per_px, _edge_px(evidence)
    tiles = []
    for reason, rows in reject_examples(objects, each).items():
        count = int(np.count_nonzero(objects["reject"] == reason))
        for row in rows:
            frame = evidence.recording.frame(int(objects["frame"][row]))
            if frame is not None:
                picture = cut_out(frame.pixels, objects["x_um"][row] / um, objects["y_um"][row] / um, edge)
                words = fill(style.REJECT_WORDS[reason], 15)
                tiles.append(Tile(picture, words + (f"\nn = {count}" if row == rows[0] else "")))
    note = f"n = {total} detections\n(a cell is seen in\nseveral frames)"
    return [Band("rejected", note, style.GREY, tiles, [])]


def _edge_px(evidence: Evidence) -> int:
    """Edge of a crop in pixels: `CROP_UM`, more where cells are longer, no more than the recording keeps of a cell."""
    info, kept = evidence.recording.info, evidence.recording.window(0)
    height, width = (info.height_px, info.width_px) if kept is None else kept[0].shape
    cells = evidence.objects[evidence.objects["reject"] == Reject.ACCEPTED]
    longest = float(np.percentile(cells["x1_px"] - cells["x0_px"], 95)) if len(cells) else 0.0
    return min(int(height), int(width), round(max(CROP_UM / info.um_per_px, 1.25 * longest)))


def cut_out(pixels: NDArray[Any], x_px: float, y_px: float, edge_px: int) -> Picture:
    """The square around a place, (edge, edge) float64; what lies outside `pixels` is NaN, which is drawn white."""
    picture = np.full((edge_px, edge_px), np.nan)
    x0, y0 = round(x_px) - edge_px // 2, round(y_px) - edge_px // 2
    seen = pixels[max(0, y0) : max(0, y0 + edge_px), max(0, x0) : max(0, x0 + edge_px)]
    top, left = max(0, -y0), max(0, -x0)
    picture[top : top + seen.shape[0], left : left + seen.shape[1]] = seen
    return picture
