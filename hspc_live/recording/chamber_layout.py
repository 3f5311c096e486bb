"""Where everything lies in the recording of a chamber run: names and column types.

One picture shows hundreds of cells here, so RT-DC's row per event with a picture of its own would repeat every field
hundreds of times. Everything lies under `/hspc`, joined by the number of the visit:

    plan                                        the targets of the scan, in order
    visits                                      a row per visited field: stage as reported, how the check for rest ended
    fields/{image,index,visit,channel,…}        every exposure once, in order; `channel` counts `channels`
    results/{labels,rows}                       what segmentation said of a visit's transmitted picture; its label image
    objects                                     a row per object of a visit: OBJECT_DTYPE, whether whole, why rejected
    crops/{image,visit,view}                    what was classified
    scores                                      by visit and view, in class order
    cells, cell_looks                           every object of the chamber once, and the looks that it was seen in;
                                                `order` is its place on the picking list
    revisited                                   what became of every listed cell at the second visit
    notes, ledger, settings, card, summary, committed      as in flow recordings (`layout`)

Attributes of `/hspc`: format, run, times, camera, stage, channels, classes, affine and versions. Integers that are None
hold `layout.NONE`, floats NaN, strings are empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hspc_live.core.chamber import GLOW, ChamberCell, FieldObjects, Revisited, Visit
from hspc_live.core.values import OBJECT_DTYPE, Detection, StageTarget
from hspc_live.recording.layout import NONE, RESULT_DTYPE, text

FORMAT: Final = "hspc-live-chamber/1"

TARGET_DTYPE: Final = np.dtype([("target", "<i8"), ("x_um", "<f8"), ("y_um", "<f8"), ("cell", "<i8")])
VISIT_DTYPE: Final = np.dtype(
    [
        ("visit", "<i8"),
        ("phase", "S8"),
        ("target", "<i8"),
        ("target_x_um", "<f8"),
        ("target_y_um", "<f8"),
        ("cell", "<i8"),
        ("x_um", "<f8"),
        ("y_um", "<f8"),
        ("pictures", "<u4"),
        ("unsettled", "S32"),
        ("settle_looks", "<u4"),
        ("settle_ns", "<i8"),
        ("moved_um", "<f8"),
    ]
)
FIELD_COLUMNS: Final = {
    "index": "<i8",
    "visit": "<i8",
    "channel": "<u4",
    "captured_ns": "<i8",
    "received_ns": "<i8",
}
FIELD_RESULT_DTYPE: Final = np.dtype([("visit", "<i8"), *RESULT_DTYPE.descr])
VIEW_COLUMNS: Final = {"visit": "<i8", "view": "<u4"}
LOOK_DTYPE: Final = np.dtype([("cell", "<i8"), ("visit", "<i8"), ("view", "<u4")])
REVISITED_DTYPE: Final = np.dtype(
    [
        ("cell", "<i8"),
        ("visit", "<i8"),
        ("lost", "S32"),
        ("x_um", "<f8"),
        ("y_um", "<f8"),
        ("error_um", "<f8"),
        ("raw_error_um", "<f8"),
        ("sd_um", "<f8"),
    ]
)


def _glow(channels: Sequence[str]) -> list[Any]:
    """The column of light in the further channels, in their order; none without them."""
    return [("glow", "<f8", (len(channels) - 1,))] if len(channels) > 1 else []


def object_dtype(channels: Sequence[str]) -> np.dtype[Any]:
    """Columns of `objects`; `reason` is empty for accepted views, `glow` is by further channel."""
    head: list[Any] = [("visit", "<i8"), ("view", "<u4")]
    return np.dtype([*head, *OBJECT_DTYPE.descr, ("whole", "?"), ("reason", "S16"), *_glow(channels)])


def score_dtype(classes: int) -> np.dtype[Any]:
    """Columns of `scores` of so many classes."""
    return np.dtype([("visit", "<i8"), ("view", "<u4"), *([("scores", "<f4", (classes,))] if classes else [])])


def cell_dtype(classes: Sequence[str], channels: Sequence[str]) -> np.dtype[Any]:
    """Columns of `cells`: those of `ChamberCell`, its features as `look_…` and `glow`."""
    return np.dtype(
        [
            ("cell", "<i8"),
            ("x_um", "<f8"),
            ("y_um", "<f8"),
            ("sd_um", "<f8"),
            ("radius_um", "<f8"),
            ("seen_ns", "<i8"),
            ("visit", "<i8"),
            ("view", "<u4"),
            ("looks", "<u4"),
            ("outcome", "S16"),
            ("reason", "S64"),
            ("outlet", "S64"),
            ("order", "<i8"),
            ("predicted", "S64"),
            ("scored_views", "<i8"),
            *((f"look_{name}", "<f8") for name in Detection._fields),
            *_glow(channels),
            *([("scores", "<f8", (len(classes),))] if classes else []),
        ]
    )


def target_rows(targets: Sequence[StageTarget]) -> NDArray[np.void]:
    """Targets as rows of `TARGET_DTYPE`."""
    return np.array([(t.target, t.x_um, t.y_um, NONE if t.cell is None else t.cell) for t in targets], TARGET_DTYPE)


def visit_rows(visit: Visit) -> NDArray[np.void]:
    """One visit as a row of `VISIT_DTYPE`; its pictures are not in it."""
    target, settled = visit.target, visit.settled
    row = (
        visit.number, text(visit.phase.value, 8), target.target, target.x_um, target.y_um,
        NONE if target.cell is None else target.cell, visit.x_um, visit.y_um, len(visit.pictures),
        text(settled.reason, 32), settled.looks, settled.waited_ns,
        np.nan if settled.moved_um is None else settled.moved_um,
    )  # fmt: skip
    return np.array([row], VISIT_DTYPE)


def result_rows(visit: int, found: FieldObjects) -> NDArray[np.void]:
    """What was found in one visit, as a row of `FIELD_RESULT_DTYPE`."""
    r = found.result
    alarms = text(",".join(r.alarms), 128)
    row = (visit, r.index, r.captured_ns, r.background, len(r.objects), r.over_cap, r.segment_ns, alarms)
    return np.array([row], FIELD_RESULT_DTYPE)


def object_rows(visit: int, found: FieldObjects, channels: Sequence[str]) -> NDArray[np.void]:
    """The objects of one visit as rows of `object_dtype`."""
    objects = found.result.objects
    rows = np.zeros(len(objects), object_dtype(channels))
    rows["visit"], rows["view"] = visit, np.arange(len(objects))
    for name in objects.dtype.names or ():
        rows[name] = objects[name]
    rows["whole"] = found.whole
    rows["reason"] = [text(reason, 16) for reason in found.reasons]
    for column, channel in enumerate(channels[1:]):
        rows["glow"][:, column] = found.glow.get(channel, np.nan)
    return rows


def score_rows(visit: int, views: NDArray[np.int64], scores: NDArray[np.float32]) -> NDArray[np.void]:
    """Scores (m, classes) of the views (m,) of one visit as rows of `score_dtype`."""
    rows = np.zeros(len(views), score_dtype(scores.shape[1]))
    rows["visit"], rows["view"] = visit, views
    if scores.shape[1]:
        rows["scores"] = scores
    return rows


def cell_rows(cells: Sequence[ChamberCell], classes: Sequence[str], channels: Sequence[str]) -> NDArray[np.void]:
    """Cells as rows of `cell_dtype`."""
    rows = np.zeros(len(cells), cell_dtype(classes, channels))
    for row, cell in zip(rows, cells, strict=True):
        for name in ("cell", "x_um", "y_um", "sd_um", "radius_um", "seen_ns", "visit", "view"):
            row[name] = getattr(cell, name)
        row["looks"] = len(cell.looks)
        row["outcome"] = text(cell.outcome.value, 16)
        row["reason"], row["outlet"] = text(cell.reason, 64), text(cell.outlet or "", 64)
        row["order"] = NONE if cell.order is None else cell.order
        found = cell.classification
        row["predicted"] = text(found.predicted, 64) if found else b""
        row["scored_views"] = found.views if found else NONE
        for name in Detection._fields:
            row[f"look_{name}"] = cell.features.get(name, np.nan)
        for column, channel in enumerate(channels[1:]):
            row["glow"][column] = cell.features.get(GLOW + channel, np.nan)
        if classes:
            row["scores"] = found.scores if found else np.nan
    return rows


def look_rows(cells: Sequence[ChamberCell]) -> NDArray[np.void]:
    """Which looks show each cell: one row a look."""
    return np.array([(cell.cell, visit, view) for cell in cells for visit, view in cell.looks], LOOK_DTYPE)


def revisited_rows(cells: Sequence[Revisited]) -> NDArray[np.void]:
    """Second visits as rows of `REVISITED_DTYPE`."""
    return np.array(
        [(c.cell, c.visit, text(c.lost, 32), c.x_um, c.y_um, c.error_um, c.raw_error_um, c.sd_um) for c in cells],
        REVISITED_DTYPE,
    )
