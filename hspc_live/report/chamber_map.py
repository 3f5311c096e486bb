"""The map of a chamber: where every cell lies, what it was taken for, and the way from pick to pick."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

from hspc_live.core.chamber import ChamberCell, ChamberOutcome
from hspc_live.report import style
from hspc_live.report.chamber_evidence import ChamberEvidence
from hspc_live.report.chamber_words import LEFT_OUT
from hspc_live.stages.field import NO_CELL
from hspc_live.stages.picking import LeftOut

NAME = "chamber_map.png"
TALL_IN = 9.6
MAP_IN = (0.95, 0.95, 8.6, 7.9)
"""Left, bottom, width and height of the map's place; it fills it along one axis."""

SMALLEST_PT = 3.0
"""No cell is drawn smaller across than this, or it could not be seen on a map of millimetres."""

NUMBERS = 150
"""Of so many picks every one is numbered; of more, every fifth, tenth …"""

PATH = "#222222"
MARKERS = {
    LeftOut.NEIGHBOUR_TOO_NEAR: "x",
    LeftOut.SURROUNDINGS_UNSEEN: "s",
    LeftOut.POSITION_UNCERTAIN: "P",
    LeftOut.EXPIRED: "v",
    LeftOut.OUT_OF_REACH: "D",
    LeftOut.OVER_TOP: "^",
}
LEFT_OUT_COLOUR = "#5A5A5A"
NO_VERDICT_COLOUR = "#A0A0A0"
NO_CELL_COLOUR = "#D8D8D8"


def draw_map(evidence: ChamberEvidence, folder: Path) -> list[Path]:
    """Write `chamber_map.png`; nothing where no field was visited."""
    return [style.save(map_figure(evidence), folder / NAME)] if evidence.fields_um() else []


def map_figure(evidence: ChamberEvidence) -> Figure:
    """The map of a run that has visited at least one field."""
    fields = evidence.fields_um()
    figure = style.new_figure(TALL_IN)
    style.heading(figure, _title(evidence), evidence.source)
    place = MAP_IN
    axes = figure.add_axes(
        (place[0] / style.WIDTH_IN, place[1] / TALL_IN, place[2] / style.WIDTH_IN, place[3] / TALL_IN), anchor="NW"
    )
    _frame(axes, np.concatenate([corners for corners, _ in fields]), evidence)
    for seen in (True, False):
        outlines = [corners for corners, pictured in fields if pictured is seen]
        axes.add_collection(
            PolyCollection(
                outlines, facecolors="none", edgecolors="#E3E3E3" if seen else "#C08080", linewidths=0.8,
                hatch=None if seen else "////", zorder=1,
            )
        )  # fmt: skip
    colours = style.class_colours(evidence.classes)
    for cells, colour, filled in _groups(evidence, colours):
        _cells(axes, cells, colour, filled)
    for reason, marker in MARKERS.items():
        of = [cell for cell in _left_out(evidence) if cell.reason == reason.value]
        axes.plot(
            [cell.x_um for cell in of], [cell.y_um for cell in of], marker=marker, ms=6.5, mew=1.3, lw=0, mfc="none",
            mec=LEFT_OUT_COLOUR, zorder=4,
        )  # fmt: skip
    _picks(axes, evidence)
    _legend(figure, evidence, colours)
    return figure


def _title(evidence: ChamberEvidence) -> str:
    picks, cells = len(evidence.listed.picks), len(_classified(evidence))
    wanted = picks + len(evidence.listed.left_out)
    outlets = sorted({pick.outlet for pick in evidence.listed.picks})
    of = f" ({', '.join(outlets)})" if outlets else ""
    return f"{cells} cells classified, {wanted} of them wanted{of}, {picks} can be picked"


def _frame(axes: Axes, corners: np.ndarray, evidence: ChamberEvidence) -> None:
    """Limits and axes; the map lies as the pictures do, so that a cell is found again on the screen.

    Where the camera is turned by a quarter against the stage it cannot, and keeps to the stage.
    """
    low, high = corners.min(axis=0), corners.max(axis=0)
    margin = 0.02 * float((high - low).max())
    axes.set_aspect("equal")
    linear = evidence.recording.facts.affine[:, :2]
    turned = abs(linear[0, 1]) > abs(linear[0, 0])
    x_limits, y_limits = (low[0] - margin, high[0] + margin), (high[1] + margin, low[1] - margin)
    axes.set_xlim(*(x_limits if linear[0, 0] >= 0 or turned else x_limits[::-1]))
    axes.set_ylim(*(y_limits if linear[1, 1] >= 0 and not turned else y_limits[::-1]))
    axes.set_xlabel("stage x (µm)")
    axes.set_ylabel("stage y (µm)" if turned else "stage y (µm), as in the pictures")
    style.plain(axes)
    span = float(high[0] - low[0])
    length = style.nice_length(span)
    figure = axes.figure
    assert isinstance(figure, Figure)
    figure.canvas.draw()  # only now does the map have its final place, by its aspect
    box = axes.get_position()
    bar = length / (span + 2 * margin) * box.width
    right, y = box.x1, box.y1 + 0.10 / TALL_IN
    figure.add_artist(Line2D([right - bar, right], [y, y], color=style.INK, lw=3.5, solid_capstyle="butt"))
    figure.text(
        right - bar - 0.006, y, f"{length:g} µm", ha="right", va="center", fontsize=style.NORMAL, color=style.INK
    )


def _classified(evidence: ChamberEvidence) -> list[ChamberCell]:
    return [cell for cell in evidence.cells if cell.classification is not None]


def _left_out(evidence: ChamberEvidence) -> list[ChamberCell]:
    return [cell for cell in evidence.cells if cell.outcome is ChamberOutcome.LEFT_OUT]


def _no_verdict(evidence: ChamberEvidence, *, cells: bool) -> list[ChamberCell]:
    """What was not classified: the cells among it, or what is no whole cell."""
    return [cell for cell in evidence.cells if cell.classification is None and (cell.reason not in NO_CELL) is cells]


def _groups(evidence: ChamberEvidence, colours: dict[str, str]) -> list[tuple[list[ChamberCell], str, bool]]:
    """Cells that are drawn alike: what got no verdict, the abstained (open), each class."""
    sure = [cell for cell in _classified(evidence) if cell.outcome is not ChamberOutcome.ABSTAINED]
    unsure = [cell for cell in _classified(evidence) if cell.outcome is ChamberOutcome.ABSTAINED]
    wanted_out = {cell.cell for cell in _left_out(evidence)}
    groups = [
        (_no_verdict(evidence, cells=False), NO_CELL_COLOUR, True),
        (_no_verdict(evidence, cells=True), NO_VERDICT_COLOUR, True),
        (unsure, style.INK, False),
    ]
    for name, colour in colours.items():
        of = [cell for cell in sure if cell.classification is not None and cell.classification.predicted == name]
        groups.append(([cell for cell in of if cell.cell not in wanted_out], colour, True))
        groups.append(([cell for cell in of if cell.cell in wanted_out], style.PALE, True))
    return groups


def _cells(axes: Axes, cells: Sequence[ChamberCell], colour: str, filled: bool) -> None:
    """Discs of the cells' own size, but never too small to see."""
    if not cells:
        return
    figure = axes.figure
    assert isinstance(figure, Figure)
    x_low, x_high = axes.get_xlim()
    um_per_pt = abs(x_high - x_low) / (axes.get_position().width * style.WIDTH_IN * 72)
    across = np.maximum([2 * cell.radius_um for cell in cells], SMALLEST_PT * um_per_pt)
    axes.add_collection(
        EllipseCollection(
            across, across, np.zeros(len(cells)), units="xy", offsets=[(cell.x_um, cell.y_um) for cell in cells],
            offset_transform=axes.transData, facecolors=colour if filled else "none", edgecolors=colour,
            linewidths=0 if filled else 0.8, zorder=2 if colour in (NO_CELL_COLOUR, NO_VERDICT_COLOUR) else 3,
        )
    )  # fmt: skip


def _picks(axes: Axes, evidence: ChamberEvidence) -> None:
    """Rings around the picks, the path, and numbers along it."""
    picks = evidence.listed.picks
    if not picks:
        return
    x, y = [pick.x_um for pick in picks], [pick.y_um for pick in picks]
    axes.plot(x, y, color=PATH, lw=0.9, alpha=0.75, zorder=5)
    axes.scatter(x, y, s=70, facecolors="none", edgecolors=PATH, linewidths=1.4, zorder=6)
    axes.scatter(x[:1], y[:1], s=190, facecolors="none", edgecolors=PATH, linewidths=1.4, zorder=6)
    every = next(step for step in (1, 5, 10, 20, 50, 100, 1000, 10**9) if len(picks) / step <= NUMBERS)
    labels: list[np.ndarray] = []
    for pick in picks:
        if every == 1 or pick.order == 1 or pick.order % every == 0:
            place = axes.transData.transform((pick.x_um, pick.y_um)) * 72 / style.DPI
            side = _free_side(place, len(str(pick.order)), labels)
            labels.append(place + side)
            axes.annotate(
                str(pick.order), (pick.x_um, pick.y_um), tuple(side), textcoords="offset points", fontsize=style.SMALL,
                fontweight="bold", color=style.INK, zorder=7,
                path_effects=[withStroke(linewidth=2.4, foreground="white")],
            )  # fmt: skip


def _free_side(place: np.ndarray, digits: int, labels: Sequence[np.ndarray]) -> np.ndarray:
    """Where beside a ring its number goes, in points: the first side on which it lies on no number written before."""
    wide, tall = 6.5 * digits, 9.0
    sides = [(5, 5), (5, -5 - tall), (-5 - wide, 5), (-5 - wide, -5 - tall), (-wide / 2, 8), (-wide / 2, -8 - tall)]
    for side in np.array(sides, np.float64):
        if all(abs(x) > wide + 2 or abs(y) > tall for x, y in (place + side - label for label in labels)):
            return np.asarray(side)
    return np.array(sides[0], np.float64)


def _legend(figure: Figure, evidence: ChamberEvidence, colours: dict[str, str]) -> None:
    x = (MAP_IN[0] + MAP_IN[2] + 0.35) / style.WIDTH_IN
    top = 1 - 0.95 / TALL_IN
    cells = _classified(evidence)
    sure = [cell.classification for cell in cells if cell.outcome is not ChamberOutcome.ABSTAINED]
    said = {name: sum(one is not None and one.predicted == name for one in sure) for name in colours}
    dot = partial(Line2D, [], [], marker="o", lw=0, ms=9)
    what = [dot(color=colour, label=f"{name}: {said[name]}") for name, colour in colours.items()]
    unsure = sum(cell.outcome is ChamberOutcome.ABSTAINED for cell in cells)
    if unsure:
        what.append(dot(color=style.INK, mfc="none", label=f"not sure enough: {unsure}"))
    for count, colour, words in (
        (len(_no_verdict(evidence, cells=True)), NO_VERDICT_COLOUR, "not recognised: touching, blurred …"),
        (len(_no_verdict(evidence, cells=False)), NO_CELL_COLOUR, "no whole cell: debris, cut, clump"),
    ):
        if count:
            what.append(dot(color=colour, label=f"{words}: {count}"))
    picks = evidence.listed.picks
    every = "" if len(picks) <= NUMBERS else ", some numbered"
    text = f"picked in this order: {len(picks)}{every}"
    wanted = [Line2D([], [], color=PATH, lw=0.9, marker="o", mfc="none", mec=PATH, ms=9, mew=1.4, label=text)]
    for reason, marker in MARKERS.items():
        count = sum(cell.reason == reason.value for cell in _left_out(evidence))
        if count:
            wanted.append(
                Line2D([], [], color=LEFT_OUT_COLOUR, mfc="none", marker=marker, lw=0, ms=8, mew=1.4,
                       label=f"{LEFT_OUT[reason]}: {count}")
            )  # fmt: skip
    fields = evidence.fields_um()
    ground = [Patch(fc="none", ec="#CCCCCC", label=f"field of view: {sum(seen for _, seen in fields)}")]
    if blind := sum(not seen for _, seen in fields):
        ground.append(Patch(fc="none", ec="#C08080", hatch="////", label=f"never stood still, no picture: {blind}"))
    for title, handles in (("Cells", what), ("Wanted cells", wanted), ("Scan", ground)):
        legend = figure.legend(
            handles=handles, title=title, loc="upper left", bbox_to_anchor=(x, top), frameon=False,
            fontsize=style.NORMAL, title_fontproperties={"weight": "bold", "size": style.NORMAL}, alignment="left",
            labelspacing=0.55, borderpad=0, borderaxespad=0, handletextpad=0.8,
        )  # fmt: skip
        figure.canvas.draw()
        top -= legend.get_window_extent().height / (style.DPI * TALL_IN) + 0.28 / TALL_IN
    if evidence.revisited:
        _revisit_words(figure, evidence, x, top)


def _revisit_words(figure: Figure, evidence: ChamberEvidence, x: float, top: float) -> None:
    found = [cell for cell in evidence.revisited if not cell.lost]
    text = f"{len(found)} of {len(evidence.revisited)} found again"
    if found:
        moved = np.median([cell.error_um for cell in found])
        text += f",\nmoved by {moved:.1f} µm (median)\nagainst their neighbours"
    figure.text(x, top, "Second visit", fontsize=style.NORMAL, fontweight="bold", va="top", color=style.INK)
    figure.text(x, top - 0.24 / TALL_IN, text, fontsize=style.NORMAL, va="top", color=style.INK, linespacing=1.35)
