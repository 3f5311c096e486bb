"""Listed cells looked for again in new pictures of their fields: which are there, and how far from where they were.

The stage never comes back to quite the same place. What all cells of a picture have moved by together is the stage's
error and is taken out first, so that the errors that remain are the cells' own.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree
from scipy.stats import chi2

from hspc_live.settings.chamber import MosaicSettings, PositionSettings, RevisitSettings
from hspc_live.stages.doubts import missing_by_chance
from hspc_live.stages.looks import NS_PER_MIN, Look, crept
from hspc_live.stages.mosaic import Seen
from hspc_live.stages.offsets import Floats, Ints, Offset, common_offset
from hspc_live.stages.registration import LEAST_TOLERANCE_UM

FEW = 3
"""From so many common cells on, the stage's error is told from the others' positions alone, without the cell itself."""


SURE = 0.999
"""How rarely a stage as good as the settings say is taken for a worse one."""

CHANCE = 0.01
"""How rarely a picture registered rightly is taken for one of other cells."""


class Lost(StrEnum):
    """Why a cell was not found again."""

    NOT_IN_PICTURE = "not_in_picture"  # the new picture does not show its place, or only at the border
    GONE = "gone"  # nothing is within reach of where it was
    NO_CELL = "no_cell"  # something is there, but no whole cell that can be judged
    NOT_SURE_WHICH = "not_sure_which"  # another may be it as well, or the picture shows other cells than it must


@dataclass(frozen=True, slots=True)
class Picture:
    """A new picture of a field: its looks in stage coordinates as reported now, and what it shows of the stage."""

    field: int
    captured_ns: int
    x0_um: float
    y0_um: float
    x1_um: float
    y1_um: float
    looks: tuple[Look, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """What became of one listed cell. `lost` is None for a cell found again, and then the places hold.

    `error_um` is the cell's own: the stage's error, as its fellows show it, is out. `raw_error_um` has it in. `x_um`,
    `y_um` ± `sd_um` per axis are where it lies by the stage's present reading: where to send the stage.
    """

    cell: int
    field: int
    lost: Lost | None
    x_um: float = math.nan
    y_um: float = math.nan
    error_um: float = math.nan
    raw_error_um: float = math.nan
    sd_um: float = math.nan


@dataclass(frozen=True, slots=True)
class Revisit:
    """All listed cells, and the stage's error in each new picture (None where its cells did not tell).

    `unsteady_um` is how far per axis the stage came back elsewhere, where that is more than the settings say.
    """

    cells: tuple[Found, ...]
    offsets: tuple[tuple[int, Offset | None], ...]
    unsteady_um: float | None = None

    def report(self) -> dict[str, Any]:
        """The books, listed = found + lost{reason}; the re-found fraction is of those that the new pictures show."""
        found = [cell for cell in self.cells if cell.lost is None]
        lost = Counter(cell.lost.value for cell in self.cells if cell.lost is not None)
        shown = len(self.cells) - lost[Lost.NOT_IN_PICTURE.value]
        errors = [cell.error_um for cell in found]
        raw = [cell.raw_error_um for cell in found]
        return {
            "listed": len(self.cells),
            "found": len(found),
            "lost": {reason: lost[reason] for reason in sorted(lost)},
            "refound_fraction": len(found) / shown if shown else None,
            "median_error_um": float(np.median(errors)) if errors else None,
            "p95_error_um": float(np.percentile(errors, 95)) if errors else None,
            "median_raw_error_um": float(np.median(raw)) if raw else None,
            "fields": [
                {"field": field, "offset_x_um": None, "offset_y_um": None, "common_cells": 0}
                if offset is None
                else {
                    "field": field,
                    "offset_x_um": offset.dx_um,
                    "offset_y_um": offset.dy_um,
                    "common_cells": offset.common,
                }
                for field, offset in self.offsets
            ],
        }


def match_revisit(
    listed: Sequence[Seen],
    objects: Sequence[Seen],
    pictures: Sequence[Picture],
    settings: RevisitSettings,
    mosaic: MosaicSettings,
    position: PositionSettings,
) -> Revisit:
    """Look for each of `listed` in the new pictures; `objects` (all of the mosaic) tell where each picture truly is.

    A cell that several pictures show is judged in the one that shows it farthest from the border. Matches are one to
    one: the assignment with the least sum of squared distances, over all objects, so that a cell is not taken for its
    neighbour; where another might be it as well, it is lost. Every listed cell is in the result once, as ordered.
    """
    xy = np.array([(seen.x_um, seen.y_um) for seen in objects]).reshape(-1, 2)
    judged: dict[int, tuple[float, Found]] = {}
    every = [_Shown(picture, objects, xy, settings, mosaic, position) for picture in pictures]
    unsteady = _unsteady([shown.offset for shown in every], position)
    if unsteady is not None:
        position = position.model_copy(update={"repeatability_um": unsteady})
        every = [_Shown(picture, objects, xy, settings, mosaic, position) for picture in pictures]
    offsets = tuple((picture.field, shown.offset) for picture, shown in zip(pictures, every, strict=True))
    for shown in every:
        for cell in listed:
            depth = shown.depth_um(cell)
            if depth >= settings.margin_um and (cell.number not in judged or depth > judged[cell.number][0]):
                judged[cell.number] = (depth, shown.judge(cell))
    nowhere = {cell.number: Found(cell.number, cell.kept.field, Lost.NOT_IN_PICTURE) for cell in listed}
    cells = (judged[cell.number][1] if cell.number in judged else nowhere[cell.number] for cell in listed)
    return Revisit(tuple(cells), offsets, unsteady)


def _unsteady(offsets: Sequence[Offset | None], position: PositionSettings) -> float | None:
    """How far per axis the stage comes back elsewhere, µm, if the pictures say it is not ± `repeatability_um`.

    Half the mean square of what changes from picture to picture, so that drift is out (von Neumann, *Ann. Math.
    Statist.* 12, 1941), against what chance makes of as many changes.
    """
    known = np.array([(offset.dx_um, offset.dy_um) for offset in offsets if offset is not None]).reshape(-1, 2)
    if len(known) < FEW:
        return None
    changes = np.diff(known, axis=0)
    free = len(known) - 1  # changes share pictures, and both axes may err together: fewer are free than counted
    variance = float(np.square(changes).mean()) / 2
    most = position.repeatability_um**2 * chi2.ppf(SURE, free) / free
    return math.sqrt(variance) if variance > most else None


class _Shown:
    """One new picture, registered to the mosaic and matched with it."""

    def __init__(
        self,
        picture: Picture,
        objects: Sequence[Seen],
        xy: Floats,
        settings: RevisitSettings,
        mosaic: MosaicSettings,
        position: PositionSettings,
    ) -> None:
        self._picture, self._settings, self._position = picture, settings, position
        pad = mosaic.max_offset_um
        low, high = (picture.x0_um - pad, picture.y0_um - pad), (picture.x1_um + pad, picture.y1_um + pad)
        near = np.flatnonzero(((xy >= low) & (xy <= high)).all(axis=1)) if len(xy) else np.empty(0, np.int64)
        self._objects = [objects[place] for place in near.tolist()]
        known = xy[near].reshape(-1, 2)
        self._looks = picture.looks
        places = np.array([(look.x_um, look.y_um) for look in picture.looks]).reshape(-1, 2)
        whole = np.array([look.whole for look in picture.looks], bool)
        sure = np.array([seen.kept.whole for seen in self._objects], bool)
        tolerance = self._tolerance(picture)
        self.offset = common_offset(known[sure], places[whole], tolerance, mosaic)
        shift = (0.0, 0.0) if self.offset is None else (self.offset.dx_um, self.offset.dy_um)
        self._known, self._places = known, places - shift
        # where the cells did not tell the stage's error, it is in every distance
        self._reach = settings.max_error_um
        self._reach += 0.0 if self.offset is not None else position.k_sigma * position.repeatability_um
        self._match = _assign(known, self._places, self._reach)
        self._row = {seen.number: row for row, seen in enumerate(self._objects)}
        self._strange = self._shows_others()

    def _tolerance(self, picture: Picture) -> float:
        """How far two looks at one cell may be apart, the stage's error aside."""
        if not self._objects or not picture.looks:
            return LEAST_TOLERANCE_UM
        minutes = float(np.median([abs(picture.captured_ns - seen.seen_ns) for seen in self._objects])) / NS_PER_MIN
        centroid = float(np.median([look.sd_um for look in picture.looks]))
        variance = 2 * centroid**2 + crept(minutes, self._position)
        return max(self._position.k_sigma * math.sqrt(variance), LEAST_TOLERANCE_UM)

    def depth_um(self, cell: Seen) -> float:
        """How far inside the picture the cell's place lies; negative outside. The stage's error is reckoned with."""
        dx, dy = (0.0, 0.0) if self.offset is None else (self.offset.dx_um, self.offset.dy_um)
        x, y, picture = cell.x_um + dx, cell.y_um + dy, self._picture
        return min(x - picture.x0_um, picture.x1_um - x, y - picture.y0_um, picture.y1_um - y)

    def judge(self, cell: Seen) -> Found:
        """Found again or lost, and why."""
        row = self._row.get(cell.number)
        taken = None if row is None else self._match.get(row)
        if row is None or taken is None:
            return Found(cell.number, self._picture.field, Lost.GONE)
        look = self._looks[taken]
        if not look.whole or not look.accepted:
            return Found(cell.number, self._picture.field, Lost.NO_CELL)
        error = float(np.hypot(*(self._places[taken] - self._known[row] - self._others(row))))
        raw = math.dist((look.x_um, look.y_um), (cell.x_um, cell.y_um))
        if error > self._reach:
            return Found(cell.number, self._picture.field, Lost.GONE)
        if self._strange or not self._alone(row, taken):
            return Found(cell.number, self._picture.field, Lost.NOT_SURE_WHICH)
        return Found(cell.number, self._picture.field, None, look.x_um, look.y_um, error, raw, look.sd_um)

    def _alone(self, row: int, taken: int) -> bool:
        """Whether nothing but `taken` may be the object of `row`, nor that any other's, by what places are unsure."""
        seen, look = self._objects[row], self._looks[taken]
        minutes = abs(self._picture.captured_ns - seen.seen_ns) / NS_PER_MIN
        stage = self._position.repeatability_um if self.offset is None else self.offset.sd_um
        unsure = self._position.k_sigma * math.sqrt(
            look.sd_um**2 + stage**2 + crept(minutes, self._position) + seen.kept.sd_um**2
        )
        others = np.hypot(*(self._places - self._known[row]).T)
        owners = np.hypot(*(self._known - self._places[taken]).T)
        others[taken] = owners[row] = math.inf
        return bool(others.min() > unsure and owners.min() > unsure)

    def _shows_others(self) -> bool:
        """Whether more of the cells that must be here are missing than misfortune explains."""
        must = [
            row
            for row, seen in enumerate(self._objects)
            if seen.kept.accepted and self.depth_um(seen) >= self._settings.margin_um + self._reach
        ]
        met = sum(row in self._match for row in must)
        return met < len(must) and missing_by_chance(met, len(must) - met) < CHANCE

    def _others(self, row: int) -> Floats:
        """What is left of the stage's error by the other matched cells: one's own error must not pull it to itself."""
        others = [(known, look) for known, look in self._match.items() if known != row and self._looks[look].whole]
        if self.offset is None or len(others) < FEW:
            return np.zeros(2)
        moved = np.array([self._places[look] - self._known[known] for known, look in others])
        return np.asarray(np.median(moved, axis=0))


def _assign(known: Floats, places: Floats, reach_um: float) -> dict[int, int]:
    """Row of `known` → row of `places`, one to one, within reach; the least sum of squared distances.

    Solved in each island of objects that reach each other by itself: islands are small, so the work stays near linear
    (Kuhn–Munkres by Crouse, *On implementing 2D rectangular assignment algorithms*, IEEE TAES 52, 2016).
    """
    if not len(known) or not len(places):
        return {}
    pairs = cKDTree(known).query_ball_tree(cKDTree(places), reach_um)
    matched: dict[int, int] = {}
    for rows, columns in _islands(pairs):
        distances = np.hypot(*(known[rows][:, None, :] - places[columns][None, :, :]).transpose(2, 0, 1))
        # a pair out of reach costs more than leaving both alone would, whatever else is gained
        costs = np.where(distances <= reach_um, np.square(distances), 1e6 * reach_um**2)
        for r, c in zip(*linear_sum_assignment(costs), strict=True):
            if distances[r, c] <= reach_um:
                matched[int(rows[r])] = int(columns[c])
    return matched


def _islands(pairs: list[list[int]]) -> list[tuple[Ints, Ints]]:
    """Groups of rows and columns that hang together through pairs."""
    owner: dict[int, int] = {}
    parent = list(range(len(pairs)))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    for row, columns in enumerate(pairs):
        for column in columns:
            parent[root(row)] = root(owner.setdefault(column, row))
    rows: dict[int, list[int]] = {}
    for row, columns in enumerate(pairs):
        if columns:
            rows.setdefault(root(row), []).append(row)
    return [
        (np.array(members, np.int64), np.array(sorted({c for m in members for c in pairs[m]}), np.int64))
        for members in rows.values()
    ]
