"""The books of a run: what was captured, seen, decided and commanded, and whether it all adds up.

    frames    captured = processed + dropped{} + lost{}
    views     detected = classified + rejected{} + skipped{}      (+ those still with the engine)
    cells     tracked  = sorted + passed + abstained + aborted{} + unresolved{}      (+ those still open)
    commands  sent     = fired + refused + unacknowledged      (+ those without a receipt yet)

What is still open is counted by the core's own tables, not derived from the other side of the equation; so a view or a
cell that fell out of a table shows up here. At the end of a run nothing is open.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from hspc_live.core.values import CellOutcome, Reject

REJECT_NAMES = {int(reject): reject.name.lower() for reject in Reject if reject is not Reject.ACCEPTED}


@dataclass(slots=True)
class FrameBook:
    """Frames; `dropped` never entered the pipeline, `lost` perished inside it, each by reason."""

    captured: int = 0
    processed: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class ViewBook:
    """Objects in frames; those that a cap left unmeasured count as detected and skipped{over_cap}."""

    detected: int = 0
    classified: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    open: int = 0


@dataclass(slots=True)
class CellBook:
    """Cells by outcome."""

    tracked: int = 0
    sorted: int = 0
    passed: int = 0
    abstained: int = 0
    doubts: Counter[str] = field(default_factory=Counter)  # why those were abstained on
    aborted: Counter[str] = field(default_factory=Counter)
    unresolved: Counter[str] = field(default_factory=Counter)
    open: int = 0


@dataclass(slots=True)
class CommandBook:
    """Commands and the sorter's receipts."""

    sent: int = 0
    fired: int = 0
    refused: int = 0
    unacknowledged: int = 0
    open: int = 0


@dataclass(slots=True)
class Ledger:
    """The four books. Mutable: the sort core writes it, everyone else reads."""

    frames: FrameBook = field(default_factory=FrameBook)
    views: ViewBook = field(default_factory=ViewBook)
    cells: CellBook = field(default_factory=CellBook)
    commands: CommandBook = field(default_factory=CommandBook)
    gated: int = 0  # cells whose gates were judged in time and that were not too late afterwards
    late: int = 0  # cells for which verdict or command came too late

    def close_cell(self, outcome: CellOutcome, reason: str) -> None:
        """Book the outcome of one cell."""
        cells = self.cells
        if outcome is CellOutcome.SORTED:
            cells.sorted += 1
        elif outcome is CellOutcome.PASSED:
            cells.passed += 1
        elif outcome is CellOutcome.ABSTAINED:
            cells.abstained += 1
            cells.doubts[reason] += 1
        elif outcome is CellOutcome.ABORTED:
            cells.aborted[reason] += 1
        else:
            cells.unresolved[reason] += 1

    def balanced(self, captured: int | None = None) -> list[str]:
        """The equations that do not hold, in words; empty if all do. Holds at any moment, not only at the end.

        `captured` is the camera's own count of frames, where the caller has one: then it must be ours, too.
        """
        frames, views, cells, commands = self.frames, self.views, self.cells, self.commands
        rejected, skipped = views.rejected.total(), views.skipped.total()
        aborted, unresolved = cells.aborted.total(), cells.unresolved.total()
        sides = [
            (
                "frames",
                "captured",
                frames.captured,
                {"processed": frames.processed, "dropped": frames.dropped.total(), "lost": frames.lost.total()},
            ),
            (
                "views",
                "detected",
                views.detected,
                {"classified": views.classified, "rejected": rejected, "skipped": skipped, "open": views.open},
            ),
            (
                "cells",
                "tracked",
                cells.tracked,
                {
                    "sorted": cells.sorted,
                    "passed": cells.passed,
                    "abstained": cells.abstained,
                    "aborted": aborted,
                    "unresolved": unresolved,
                    "open": cells.open,
                },
            ),
            (
                "commands",
                "sent",
                commands.sent,
                {
                    "fired": commands.fired,
                    "refused": commands.refused,
                    "unacknowledged": commands.unacknowledged,
                    "open": commands.open,
                },
            ),
            ("cells", "sorted", cells.sorted, {"commands sent": commands.sent}),
            ("cells", "abstained", cells.abstained, dict(cells.doubts)),
        ]
        if captured is not None:
            sides.append(("frames", "captured by the camera", captured, {"booked": frames.captured}))
        return [
            f"{book}: {name} {left} is not " + (" + ".join(f"{part} {n}" for part, n in right.items() if n) or "0")
            for book, name, left, right in sides
            if left != sum(right.values())
        ]

    @property
    def doubts(self) -> dict[str, int]:
        """Why cells were abstained on, in alphabetical order of the reasons; they sum to the cells abstained."""
        return _plain(self.cells.doubts)

    @property
    def open(self) -> int:
        """Views, cells and commands that are still under way; 0 after the end of a run."""
        return self.views.open + self.cells.open + self.commands.open

    @property
    def met_fraction(self) -> float | None:
        """Share of the cells whose verdict came in time; None before the first."""
        judged = self.gated + self.late
        return self.gated / judged if judged else None

    def to_json(self) -> dict[str, Any]:
        """The books as in every summary: frames, views, cells, commands; reasons in alphabetical order."""
        frames, views, cells, commands = self.frames, self.views, self.cells, self.commands
        return {
            "frames": {
                "captured": frames.captured,
                "processed": frames.processed,
                "dropped": _plain(frames.dropped),
                "lost": _plain(frames.lost),
            },
            "views": {
                "detected": views.detected,
                "classified": views.classified,
                "rejected": _plain(views.rejected),
                "skipped": _plain(views.skipped),
            },
            "cells": {
                "tracked": cells.tracked,
                "sorted": cells.sorted,
                "passed": cells.passed,
                "abstained": cells.abstained,
                "aborted": _plain(cells.aborted),
                "unresolved": _plain(cells.unresolved),
            },
            "commands": {
                "sent": commands.sent,
                "fired": commands.fired,
                "refused": commands.refused,
                "unacknowledged": commands.unacknowledged,
            },
        }


def _plain(counts: Counter[str]) -> dict[str, int]:
    return {reason: counts[reason] for reason in sorted(counts)}


class FrameNumbers:
    """Which frame indices have been booked, in memory that grows only with the gaps."""

    __slots__ = ("_gaps", "last")

    def __init__(self) -> None:
        self.last = -1
        self._gaps: list[tuple[int, int]] = []  # skipped so far: (first, last) of each stretch, ascending

    def book(self, index: int) -> bool:
        """Book `index`; False if it was booked before."""
        if index > self.last:
            if index > self.last + 1:
                self._gaps.append((self.last + 1, index - 1))
            self.last = index
            return True
        place = bisect_right(self._gaps, (index, self.last)) - 1
        if place < 0 or self._gaps[place][1] < index:
            return False
        first, last = self._gaps[place]
        self._gaps[place : place + 1] = [part for part in ((first, index - 1), (index + 1, last)) if part[0] <= part[1]]
        return True
