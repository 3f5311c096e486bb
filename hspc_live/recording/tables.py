"""Tables of a recording as the values they were made from: the inverse of the row functions in `layout`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hspc_live.core.values import CellOutcome, CellRecord, Classification, Detection
from hspc_live.recording.layout import NONE
from hspc_live.recording.reader import Recording


def cell_records(recording: Recording) -> list[CellRecord]:
    """The cells of a recording of ours, in the order in which they closed; empty for RT-DC files."""
    cells, views = recording.table("cells"), recording.table("cell_views")
    if cells is None or views is None:
        return []
    return records_of(cells, views)


def records_of(cells: NDArray[np.void], views: NDArray[np.void]) -> list[CellRecord]:
    """Rows of `layout.cell_dtype` and of `layout.CELL_VIEW_DTYPE` as the records that they were made from.

    What the rows do not keep stays out: a text longer than its column is cut, scores of another number than the
    recording's classes are NaN and make no classification.
    """
    views_of: dict[int, list[tuple[int, int]]] = {}
    for cell, frame, view in views.tolist():
        views_of.setdefault(cell, []).append((frame, view))
    names = cells.dtype.names or ()
    return [_record(dict(zip(names, row, strict=True)), views_of) for row in cells.tolist()]


def _record(row: dict[str, Any], views_of: dict[int, list[tuple[int, int]]]) -> CellRecord:
    def whole(name: str) -> int | None:
        return None if row[name] == NONE else int(row[name])

    def real(name: str) -> float | None:
        return None if np.isnan(row[name]) else float(row[name])

    features = {name: real(f"mean_{name}") for name in Detection._fields}
    return CellRecord(
        cell=row["cell"],
        first_frame=row["first_frame"],
        last_frame=row["last_frame"],
        views=tuple(views_of.get(row["cell"], ())),
        outcome=CellOutcome(row["outcome"].decode()),
        reason=row["reason"].decode(),
        outlet=row["outlet"].decode() or None,
        classification=_classification(row),
        velocity_um_s=real("velocity_um_s"),
        velocity_sd_um_s=real("velocity_sd_um_s"),
        arrival_ns=whole("arrival_ns"),
        arrival_sd_ns=whole("arrival_sd_ns"),
        y_um=row["y_um"],
        last_capture_ns=row["last_capture_ns"],
        decided_ns=row["decided_ns"],
        latency_ns=whole("latency_ns"),
        command=whole("command"),
        features={name: value for name, value in features.items() if value is not None},
        gate_revision=int(row.get("gate_revision", 0)),
    )


def _classification(row: dict[str, Any]) -> Classification | None:
    scores = tuple(float(score) for score in row.get("scores", ()))
    if not row["predicted"] or not scores or not np.all(np.isfinite(scores)):
        return None
    return Classification(row["cell"], scores, row["predicted"].decode(), row["scored_views"])
