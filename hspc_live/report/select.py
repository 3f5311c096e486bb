"""Which frames, crops and cells are worth showing: pure functions of the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hspc_live.core.values import CellOutcome, CellRecord, Reject

FOLLOW_UM = 4.0
"""How far an object may lie from where its cell should be by now, and still be taken for it."""

CROWD = 14
"""More objects than this cannot be labelled legibly; a frame with more is taken only where there is no other."""


def score_of(record: CellRecord) -> float | None:
    """The score of the predicted class; None for a cell without a classification."""
    return None if record.classification is None else max(record.classification.scores)


def owners(
    frame: int, objects: NDArray[np.void], records: Sequence[CellRecord], captured_ns: Mapping[int, int]
) -> list[CellRecord | None]:
    """The cell that each detection of one frame shows, (n,) for the (n,) rows of `objects`; None where it is unknown.

    A cell's own views are known. Looks at it before its first or after its last view (it enters, or has been decided
    and flows on) are found where its velocity puts it, the nearest pairs first.
    """
    found: list[CellRecord | None] = [None] * len(objects)
    rows = {int(view): row for row, view in enumerate(objects["view"].tolist())}
    elsewhere: list[CellRecord] = []
    for record in records:
        mine = [rows[view] for at, view in record.views if at == frame and view in rows]
        if mine:
            found[mine[0]] = record
        else:
            elsewhere.append(record)
    pairs = []
    for number, record in enumerate(elsewhere):
        place = _place(record, captured_ns.get(frame), captured_ns)
        if place is not None:
            away = np.hypot(objects["x_um"] - place[0], objects["y_um"] - place[1])
            pairs += [(float(away[row]), row, number) for row in np.flatnonzero(away < FOLLOW_UM).tolist()]
    taken: set[int] = set()
    for _, row, number in sorted(pairs):
        if found[row] is None and number not in taken:
            found[row] = elsewhere[number]
            taken.add(number)
    return found


def _place(record: CellRecord, now_ns: int | None, captured_ns: Mapping[int, int]) -> tuple[float, float] | None:
    """Where the cell should be at `now_ns`, in µm."""
    times = [captured_ns[frame] for frame, _ in record.views if frame in captured_ns]
    if now_ns is None or not times or record.velocity_um_s is None or "x_um" not in record.features:
        return None
    seconds = (now_ns - sum(times) / len(times)) * 1e-9
    return record.features["x_um"] + record.velocity_um_s * seconds, record.y_um


@dataclass(slots=True)
class _Worth:
    """What one frame would show."""

    classes: set[str]
    reasons: set[int]
    cells: int = 0
    is_sorted: bool = False
    objects: int = 0

    def gain(self, classes: set[str], reasons: set[int]) -> tuple[bool, bool, int]:
        """Legible, with a cell in it, then by how much there is to see; what was not shown yet counts double."""
        new = len(self.classes - classes) + len(self.reasons - reasons)
        return self.objects <= CROWD, self.cells > 0, 2 * new + 2 * self.cells + min(self.objects - self.cells, 3)


def choose_frames(
    frames: NDArray[np.int64], objects: NDArray[np.void], records: Sequence[CellRecord], count: int = 4
) -> list[int]:
    """Up to `count` of `frames` that show most, in order of capture, spread over the run.

    The first choice shows a sorted cell where there is one; then classes and reasons for rejection not yet shown count
    most, then the number of cells. Frames without any detection are not chosen.
    """
    kept = set(frames.tolist())
    worth: dict[int, _Worth] = {}
    for frame, reject in objects[["frame", "reject"]].tolist():
        if frame in kept:
            here = worth.setdefault(frame, _Worth(set(), set()))
            here.objects += 1
            if reject != Reject.ACCEPTED:
                here.reasons.add(reject)
    for record in records:
        for frame, _ in record.views:
            if frame in worth:
                worth[frame].cells += 1
                worth[frame].is_sorted |= record.outcome is CellOutcome.SORTED
                if record.classification is not None:
                    worth[frame].classes.add(record.classification.predicted)
    chosen: list[int] = []
    classes: set[str] = set()
    reasons: set[int] = set()
    apart = max(8, int(np.ptp(frames)) // (3 * count)) if len(frames) else 0
    while len(chosen) < count:
        free = [frame for frame in worth if all(abs(frame - other) >= apart for other in chosen)]
        if not chosen and any(worth[frame].is_sorted for frame in free):
            free = [frame for frame in free if worth[frame].is_sorted]
        if not free:
            break
        best = max(free, key=lambda frame: (worth[frame].gain(classes, reasons), -frame))
        chosen.append(best)
        classes |= worth[best].classes
        reasons |= worth[best].reasons
    return sorted(chosen)


def by_certainty(records: Sequence[CellRecord]) -> list[CellRecord]:
    """Cells with a classification, the most certain first; among equals the newest."""
    scored = [(score, record) for record in records if (score := score_of(record)) is not None]
    return [record for _, record in sorted(scored, key=lambda pair: (-pair[0], -pair[1].cell))]


def ends(records: Sequence[CellRecord], best: int, least: int) -> tuple[list[CellRecord], list[CellRecord]]:
    """The `best` most certain and the `least` least certain cells (least certain last), none twice."""
    ranked = by_certainty(records)
    first = ranked[:best]
    rest = ranked[best:]
    return first, rest[max(0, len(rest) - least) :]


def said(records: Sequence[CellRecord], classes: Sequence[str]) -> dict[str, list[CellRecord]]:
    """Cells by the class that was said of them, in class order; those abstained on stand under no class."""
    groups: dict[str, list[CellRecord]] = {name: [] for name in classes}
    for record in records:
        if record.classification is not None and record.outcome is not CellOutcome.ABSTAINED:
            groups.setdefault(record.classification.predicted, []).append(record)
    return groups


def reject_examples(objects: NDArray[np.void], per_reason: int) -> dict[Reject, list[int]]:
    """Rows of `objects` for each reason that occurs: evenly spread over the run, by order of judgement."""
    examples: dict[Reject, list[int]] = {}
    for reason in Reject:
        rows = np.flatnonzero(objects["reject"] == reason)
        if reason is not Reject.ACCEPTED and len(rows):
            many = min(per_reason, len(rows))
            middles = (np.arange(many) + 0.5) / many  # of equal parts of the run: its very beginning is not typical
            examples[reason] = rows[(middles * len(rows)).astype(int)].tolist()
    return examples
