"""The objects of a chamber as marks on its map, and the picking list as lines: for the screen, live or afterwards."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hspc_live.core.chamber import ChamberCell, ChamberOutcome, FieldObjects, Floats, Revisited, Visit
from hspc_live.stages.field import NO_CELL
from hspc_live.wire.chamber_telemetry import Listed, Mark, Marks

MARKS = {
    ChamberOutcome.LISTED: Mark.LISTED,
    ChamberOutcome.PASSED: Mark.CLASSIFIED,
    ChamberOutcome.ABSTAINED: Mark.UNSURE,
    ChamberOutcome.LEFT_OUT: Mark.LEFT_OUT,
}


def of_field(visit: Visit, objects: FieldObjects, affine: Floats, um_per_px: float) -> Marks:
    """What one visit found, none of it classified yet. Overlapping fields show an object twice until it is merged."""
    rows = objects.result.objects
    n = len(rows)
    pixels = np.column_stack([rows["x_um"], rows["y_um"]]).astype(np.float64) / um_per_px
    places = np.empty((n, 3))
    places[:, :2] = pixels @ affine[:, :2].T + affine[:, 2] + (visit.x_um, visit.y_um)
    places[:, 2] = rows["diameter_um"] / 2
    kinds = np.empty((n, 4), np.int32)
    kinds[:] = (-1, -1, Mark.WAITING, visit.number)
    kinds[:, 2] = [
        Mark.WAITING if not reason else Mark.NO_CELL if reason in NO_CELL else Mark.NOT_RECOGNISED
        for reason in objects.reasons
    ]
    return Marks(places, kinds, np.full(n, np.nan, np.float32))


def with_scores(marks: Marks, views: NDArray[np.int64], scores: NDArray[np.float32]) -> Marks:
    """`marks` of one field once its `views` (m,) have their `scores` (m, classes)."""
    kinds, best = marks.kinds.copy(), marks.scores.copy()
    known = np.isfinite(scores).all(axis=1)
    sure = views[known]
    kinds[sure, 1], kinds[sure, 2] = scores[known].argmax(axis=1), Mark.CLASSIFIED
    best[sure] = scores[known].max(axis=1)
    kinds[views[~known], 2] = Mark.NOT_RECOGNISED
    return Marks(marks.places, kinds, best)


def of_cells(cells: Sequence[ChamberCell], classes: Sequence[str]) -> Marks:
    """The last word on every object."""
    place_of = {name: place for place, name in enumerate(classes)}
    places = np.array([(cell.x_um, cell.y_um, cell.radius_um) for cell in cells], np.float64).reshape(-1, 3)
    kinds = np.empty((len(cells), 4), np.int32)
    scores = np.full(len(cells), np.nan, np.float32)
    for row, cell in enumerate(cells):
        said = cell.classification
        mark = MARKS.get(cell.outcome, Mark.NO_CELL if cell.reason in NO_CELL else Mark.NOT_RECOGNISED)
        kinds[row] = (cell.cell, -1 if said is None else place_of[said.predicted], mark, cell.visit)
        if said is not None:
            scores[row] = max(said.scores)
    return Marks(places, kinds, scores)


def listed(cells: Sequence[ChamberCell], again: Sequence[Revisited] = ()) -> list[Listed]:
    """The picking list in its order; where a second visit found a cell again, with its fresh place."""
    seen = {cell.cell: cell for cell in again}
    lines: list[Listed] = []
    for cell in sorted((one for one in cells if one.order is not None), key=lambda one: one.order or 0):
        fresh = seen.get(cell.cell)
        x_um, y_um, words = cell.x_um, cell.y_um, ""
        if fresh is not None and fresh.lost:
            words = fresh.lost.replace("_", " ")
        elif fresh is not None:
            x_um, y_um, words = fresh.x_um, fresh.y_um, f"found, moved {fresh.error_um:.1f} µm"
        lines.append(Listed(cell.order or 0, cell.cell, cell.outlet or "", x_um, y_um, words))
    return lines
