"""What the screen knows of a chamber: the newest message, what a person has chosen, what may be done. No Qt."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from hspc_live.view.about import ChamberAbout
from hspc_live.view.connection import Bond
from hspc_live.wire.chamber_telemetry import ChamberShown, Listed, Mark

WORDS = {
    Mark.WAITING: "not classified yet",
    Mark.CLASSIFIED: "not wanted by any gate",
    Mark.UNSURE: "not sure enough which class",
    Mark.LEFT_OUT: "wanted, but cannot be picked safely",
    Mark.LISTED: "on the list",
    Mark.NOT_RECOGNISED: "a cell, but not recognised (touching, blurred …)",
    Mark.NO_CELL: "no whole cell (debris, cut off, clump)",
}
NO_STAGE = "these are the results of a run that has ended: there is no stage to drive"


@dataclass(frozen=True, slots=True)
class Spot:
    """A place on the map that a person has chosen; `row` and `cell` are those of the object there, -1: none."""

    x_um: float
    y_um: float
    row: int = -1
    cell: int = -1


class ChamberModel:
    """Fed with what comes (`attach`, `take`), asked by the panel."""

    def __init__(self) -> None:
        self.about: ChamberAbout | None = None
        self.shown: ChamberShown | None = None
        self.books: dict[str, Any] = {}
        self.chosen: Spot | None = None
        self.received = 0
        self.missed = 0
        self._lines: dict[int, Listed] = {}

    def attach(self, about: ChamberAbout) -> None:
        """A run; what is known of another one is forgotten."""
        if self.about is not None and about.run != self.about.run:
            self.shown, self.chosen, self.books, self._lines = None, None, {}, {}
            self.received = self.missed = 0
        self.about = about

    def take(self, shown: ChamberShown) -> None:
        """The newest message."""
        if self.shown is not None:
            self.missed += max(0, shown.told.number - self.shown.told.number - 1)
        self.received += 1
        self.shown = shown
        self.books = json.loads(shown.told.standing.books)
        self._lines = {line.cell: line for line in shown.told.listed}
        if self.chosen is not None and self.chosen.row >= 0:
            cell, row, numbers = self.chosen.cell, self.chosen.row, shown.marks.kinds[:, 0]
            if cell >= 0:
                self.chosen = self.spot_of(cell)
            elif row >= len(numbers) or numbers[row] >= 0:  # rows were objects of fields, and are cells now
                self.chosen = Spot(self.chosen.x_um, self.chosen.y_um)

    # ---- asked -------------------------------------------------------------------------------------------------------

    def nearest(self, x_um: float, y_um: float, reach_um: float) -> Spot:
        """The object nearest to a place, if its outline is within reach; else the bare place."""
        if self.shown is not None and len(self.shown.marks.scores):
            places = self.shown.marks.places
            gaps = np.hypot(places[:, 0] - x_um, places[:, 1] - y_um) - places[:, 2]
            row = int(gaps.argmin())
            if gaps[row] <= reach_um:
                return self._spot(row)
        return Spot(x_um, y_um)

    def spot_of(self, cell: int) -> Spot | None:
        """Where a cell lies; None if there is none of that number."""
        if self.shown is None:
            return None
        rows = np.flatnonzero(self.shown.marks.kinds[:, 0] == cell)
        return self._spot(int(rows[0])) if len(rows) else None

    def _spot(self, row: int) -> Spot:
        assert self.shown is not None
        cell = int(self.shown.marks.kinds[row, 0])
        line = self._lines.get(cell) if cell >= 0 else None
        if line is not None:  # the second visit knows better where it lies now
            return Spot(line.x_um, line.y_um, row, cell)
        x_um, y_um, _ = self.shown.marks.places[row].tolist()
        return Spot(x_um, y_um, row, cell)

    def words(self, spot: Spot) -> str:
        """What lies there, for a person."""
        place = f"({spot.x_um:.1f}, {spot.y_um:.1f}) µm"
        if spot.row < 0 or self.shown is None or self.about is None:
            return f"place {place}"
        marks = self.shown.marks
        said = int(marks.kinds[spot.row, 1])
        name = f"cell {spot.cell}" if spot.cell >= 0 else "object"
        verdict = f"{self.about.head.classes[said]} {marks.scores[spot.row]:.2f}, " if said >= 0 else ""
        line = self._lines.get(spot.cell)
        if line is not None:
            again = f"; second visit: {line.again}" if line.again else ""
            return f"{name} at {place}: {verdict}number {line.order} of the list, for {line.outlet}{again}"
        mark = Mark(int(marks.kinds[spot.row, 2]))
        fate = "its field has been classified" if mark is Mark.CLASSIFIED and spot.cell < 0 else WORDS[mark]
        return f"{name} at {place}: {verdict}{fate}"

    def visit_of(self, spot: Spot) -> int | None:
        """The visit whose picture shows the object; None for a bare place."""
        return None if spot.row < 0 or self.shown is None else int(self.shown.marks.kinds[spot.row, 3])

    def classes(self) -> dict[str, int]:
        """How many objects were taken for each class; those that the classifier was not sure of are left out."""
        if self.about is None or self.shown is None:
            return {}
        kinds = self.shown.marks.kinds
        counts = Counter(kinds[kinds[:, 2] != Mark.UNSURE, 1].tolist())
        return {name: counts[place] for place, name in enumerate(self.about.head.classes)}

    def no_driving(self, bond: Bond) -> str:
        """Why the stage cannot be driven now; empty where it can."""
        match bond:
            case Bond.FINISHED:
                return NO_STAGE
            case Bond.ATTACHED:
                return (
                    "nothing has come from the run yet" if self.shown is None else self.shown.told.standing.no_driving
                )
            case _:
                return "not attached to a run"
