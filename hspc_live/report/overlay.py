"""Frames with everything that was found in them drawn in: what the pipeline saw, and what it made of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from hspc_live.core.values import CellOutcome, CellRecord, Frame, Reject
from hspc_live.report import style
from hspc_live.report.evidence import Evidence
from hspc_live.report.labels import Box, FreePlaces
from hspc_live.report.select import CROWD, choose_frames, owners, score_of

MARGIN_IN = 0.3
FOOT_IN = 0.62
HEAD_IN = 0.72
MAX_IMAGE_IN = 7.5


def draw_overlays(evidence: Evidence, folder: Path) -> list[Path]:
    """Write `overlay_<frame>.png` for a few frames; none where the recording kept no frames."""
    if not evidence.recording.has_frames:
        return []
    kept = evidence.results["frame"]
    times = dict(evidence.results[["frame", "captured_ns"]].tolist())
    paths = []
    for index in choose_frames(kept, evidence.objects, evidence.records):
        frame = evidence.recording.frame(index)
        if frame is not None:
            cells = owners(index, evidence.in_frame(index), evidence.records, times)
            seconds = (times[index] - evidence.begin_ns) * 1e-9
            paths.append(_draw(evidence, frame, seconds, cells, folder / f"overlay_{index:06d}.png"))
    return paths


def _draw(evidence: Evidence, frame: Frame, seconds: float, cells: list[CellRecord | None], path: Path) -> Path:
    height, width = frame.pixels.shape
    image_in = min((style.WIDTH_IN - 2 * MARGIN_IN) * height / width, MAX_IMAGE_IN)
    wide_in = image_in * width / height
    tall_in = HEAD_IN + image_in + FOOT_IN
    figure = style.new_figure(tall_in)
    left = (style.WIDTH_IN - wide_in) / 2
    axes = figure.add_axes((left / style.WIDTH_IN, FOOT_IN / tall_in, wide_in / style.WIDTH_IN, image_in / tall_in))
    black, white = style.contrast(frame.pixels)
    axes.imshow(frame.pixels, cmap="gray", vmin=black, vmax=white, interpolation="bicubic")
    axes.set_axis_off()
    axes.autoscale(False)  # or an outline at the border would widen the view
    objects = evidence.in_frame(frame.index)
    colours = style.class_colours(evidence.classes)
    boxes = [(float(o["x0_px"]), float(o["y0_px"]), float(o["x1_px"]), float(o["y1_px"])) for o in objects]
    labels = _Labels(axes, FreePlaces(width, height, boxes), width / (wide_in * 72))
    order = sorted(range(len(objects)), key=lambda i: (cells[i] is None, i))  # cells are labelled before rejects
    for rank, i in enumerate(order):
        text, colour = _outline(axes, evidence, objects[i], boxes[i], cells[i], colours)
        if rank < 2 * CROWD:
            labels.add(text, boxes[i], colour)
    um = evidence.recording.info.um_per_px
    style.heading(figure, f"Frame {frame.index} at {seconds:.3f} s: {_count_words(objects)}", evidence.source)
    below = -0.3 / image_in
    style.scale_bar(axes, 0, below, um, style.nice_length(width * um))
    style.flow_arrow(axes, below)
    figure.legend(
        handles=_key(colours), loc="center", ncols=len(colours) + 3, frameon=False, fontsize=style.NORMAL,
        bbox_to_anchor=(0.5, (FOOT_IN - 0.3) / tall_in), handlelength=1.8, columnspacing=1.6,
    )  # fmt: skip
    return style.save(figure, path)


def _count_words(objects: NDArray[np.void]) -> str:
    found = int(np.count_nonzero(objects["reject"] == Reject.ACCEPTED))
    things = "1 object" if len(objects) == 1 else f"{len(objects)} objects"
    return f"{things}, {found} accepted as {'a single cell' if found == 1 else 'single cells'}"


def _key(colours: dict[str, str]) -> list[Line2D]:
    return [
        *style.class_key(colours),
        Line2D([], [], color=style.INK, lw=2, ls=(0, (2, 1.2)), label="abstained"),
        Line2D([], [], color=style.GREY, lw=2, marker="s", ms=9, mfc="none", ls="none", label="rejected"),
        Line2D([], [], color=style.INK, lw=0, marker="v", ms=9, label="sorted"),
    ]


def _outline(
    axes: Axes, evidence: Evidence, row: np.void, box: Box, cell: CellRecord | None, colours: dict[str, str]
) -> tuple[str, str]:
    """Draw one detection's outline; returns its label and the label's colour."""
    reject = Reject(int(row["reject"]))
    if reject is not Reject.ACCEPTED:
        # the recording keeps no mask of what was rejected, only its box
        axes.add_patch(
            Rectangle(
                (box[0] - 2, box[1] - 2), box[2] - box[0] + 3, box[3] - box[1] + 3, fill=False, lw=1.6, ec=style.PALE,
                path_effects=[withStroke(linewidth=3.6, foreground="#303030")],
            )
        )  # fmt: skip
        whose = "" if cell is None else f"#{cell.cell} "
        return whose + style.REJECT_WORDS[reject], style.PALE
    said = None if cell is None else cell.classification
    colour = "white" if said is None else colours.get(said.predicted, "white")
    abstained = cell is not None and cell.outcome is CellOutcome.ABSTAINED
    for line in _contours(evidence, row):
        axes.plot(
            line[:, 0], line[:, 1], color=colour, lw=2.2, ls=(0, (2, 1.2)) if abstained else "-",
            path_effects=[withStroke(linewidth=3.6, foreground="#00000090")],
        )  # fmt: skip
    if cell is None:
        return "no verdict", "white"
    if cell.outcome is CellOutcome.SORTED:
        axes.plot(
            (box[0] + box[2]) / 2, box[1] - 7, marker="v", ms=9, color=colour, mec="black", mew=0.8, clip_on=False
        )
    head = f"#{cell.cell}" if said is None else f"#{cell.cell} {said.predicted} {score_of(cell):.2f}"
    return f"{head}\n{style.outcome_words(cell)}", colour


def _contours(evidence: Evidence, row: np.void) -> list[NDArray[np.float64]]:
    """Closed outlines of a detection's mask in pixels of the frame, each (n, 2); none where no mask was kept."""
    at = evidence.row_of.get((int(row["frame"]), int(row["view"])))
    kept = None if at is None else evidence.recording.window(at)
    if at is None or kept is None:
        return []
    outlines, _ = cv2.findContours(kept[1].astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    origin = np.array([evidence.views["x0_px"][at], evidence.views["y0_px"][at]], dtype=np.float64)
    return [np.vstack((line[:, 0], line[:1, 0])) + origin for line in outlines]


@dataclass(slots=True)
class _Labels:
    """Places labels beside their objects so that none covers an object or another label."""

    axes: Axes
    places: FreePlaces
    px_per_pt: float

    def add(self, text: str, box: Box, colour: str) -> None:
        """Write `text` near `box`: below, above, or to a side, wherever it is free; below if nowhere is."""
        lines = text.split("\n")
        wide = max(map(len, lines)) * 0.62 * style.SMALL * self.px_per_pt
        tall = len(lines) * 1.25 * style.SMALL * self.px_per_pt
        gaps = (6 * self.px_per_pt, 18 * self.px_per_pt)  # above it there may be the mark of a sorted cell
        place = self.places.find(wide, tall, box, *gaps)
        if place is None:
            place = self.places.places(wide, tall, box, *gaps)[0]
            self.places.take(*place, wide, tall)
        self.axes.text(
            place[0] + wide / 2, place[1] + tall / 2, text, color=style.lighter(colour), fontsize=style.SMALL,
            fontweight="bold", ha="center", va="center", linespacing=1.15, clip_on=True,
            bbox={"boxstyle": "round,pad=0.22", "fc": "#202020", "ec": "none", "alpha": 0.72},
        )  # fmt: skip
