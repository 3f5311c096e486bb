"""Tables of a chamber recording as the values they were made from: the inverse of the row functions in its layout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hspc_live.core.chamber import GLOW, ChamberCell, ChamberOutcome, Revisited
from hspc_live.core.values import Classification, Detection
from hspc_live.recording.layout import NONE


def chamber_cells(rows: NDArray[np.void], looks: NDArray[np.void], channels: Sequence[str]) -> list[ChamberCell]:
    """Rows of `cell_dtype` and `LOOK_DTYPE` as cells; features that are NaN stay out, texts may have been cut."""
    looks_of: dict[int, list[tuple[int, int]]] = {}
    for cell, visit, view in looks.tolist():
        looks_of.setdefault(cell, []).append((visit, view))
    names = rows.dtype.names or ()
    return [_cell(dict(zip(names, row.tolist(), strict=True)), looks_of, channels) for row in rows]


def _cell(row: dict[str, Any], looks_of: dict[int, list[tuple[int, int]]], channels: Sequence[str]) -> ChamberCell:
    features = {name: row[f"look_{name}"] for name in Detection._fields}
    features |= {GLOW + name: value for name, value in zip(channels[1:], row.get("glow", ()), strict=True)}
    return ChamberCell(
        cell=row["cell"],
        x_um=row["x_um"],
        y_um=row["y_um"],
        sd_um=row["sd_um"],
        radius_um=row["radius_um"],
        seen_ns=row["seen_ns"],
        visit=row["visit"],
        view=row["view"],
        looks=tuple(looks_of.get(row["cell"], ())),
        outcome=ChamberOutcome(row["outcome"].decode()),
        reason=row["reason"].decode(),
        outlet=row["outlet"].decode() or None,
        classification=_classification(row),
        order=None if row["order"] == NONE else row["order"],
        features={name: float(value) for name, value in features.items() if not np.isnan(value)},
    )


def _classification(row: dict[str, Any]) -> Classification | None:
    if not row["predicted"]:
        return None
    scores = tuple(float(score) for score in row.get("scores", ()))
    return Classification(row["cell"], scores, row["predicted"].decode(), row["scored_views"])


def revisited_cells(rows: NDArray[np.void]) -> list[Revisited]:
    """Rows of `REVISITED_DTYPE` as values."""
    return [Revisited(cell, visit, lost.decode(), *numbers) for cell, visit, lost, *numbers in rows.tolist()]
