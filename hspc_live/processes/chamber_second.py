"""The second visit: the fields of the listed cells looked at again, and where each cell lies now.

A pick goes to the place found in the fresh picture, never to the listed one: the stage has moved and the cell may have.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from hspc_live.core.chamber import Revisited
from hspc_live.core.values import StageTarget
from hspc_live.settings.chamber import ChamberSettings, PositionSettings, StageLimits
from hspc_live.stages.looks import Look
from hspc_live.stages.mosaic import Mosaic
from hspc_live.stages.picking import LeftOut, PickingList
from hspc_live.stages.revisit import Picture, Revisit, match_revisit
from hspc_live.stages.tiling import within


def fields_of(
    listed: PickingList, mosaic: Mosaic, plan: Mapping[int, StageTarget], first_number: int
) -> list[StageTarget]:
    """The fields that show the listed cells farthest from the border, each once, in the order of the list's path.

    The field of the look that was classified may show a cell at its very border, and the stage comes back elsewhere.
    """
    by_number = {seen.number: seen for seen in mosaic.objects}
    visits = dict.fromkeys(
        max(by_number[pick.cell].looks, key=lambda look: (look.whole, look.border_um)).field for pick in listed.picks
    )
    return [
        StageTarget(first_number + number, plan[visit].x_um, plan[visit].y_um) for number, visit in enumerate(visits)
    ]


def match_second(
    listed: PickingList, mosaic: Mosaic, pictures: Sequence[Picture], settings: ChamberSettings
) -> Revisit:
    """Every listed cell in the pictures of the second visit, in the order of the list."""
    by_number = {seen.number: seen for seen in mosaic.objects}
    cells = [by_number[pick.cell] for pick in listed.picks]
    position = as_shown(settings.position, mosaic.unsteady_um)
    return match_revisit(cells, mosaic.objects, pictures, settings.revisit, settings.mosaic, position)


def as_shown(position: PositionSettings, unsteady_um: float | None) -> PositionSettings:
    """`position` with the stage's repeatability as pictures have shown it, where that is worse."""
    shown = max(position.repeatability_um, unsteady_um or 0.0)
    return position.model_copy(update={"repeatability_um": shown})


def revisited(found: Revisit) -> list[Revisited]:
    """The result as values of a recording."""
    return [
        Revisited(
            one.cell, one.field, "" if one.lost is None else one.lost.value, one.x_um, one.y_um, one.error_um,
            one.raw_error_um, one.sd_um,
        )
        for one in found.cells
    ]  # fmt: skip


def pick_targets(
    cells: Iterable[Revisited],
    pictures: Sequence[Picture],
    settings: ChamberSettings,
    unsteady_um: float | None,
    limits: StageLimits,
    first_number: int,
) -> tuple[list[StageTarget], dict[str, int]]:
    """Where to send the stage for a pick: the fresh place of every cell that was found again, and still lies alone.

    A fresh place beyond `limits`, the border of the fresh picture or the edge of another object nearer than `clear_um`
    in it, or a stage that comes back too far off (`unsteady_um`, as the pictures of the second visit have it) keeps a
    cell from being picked: how many, by reason, comes second. `pictures` are those of `cells`.
    """
    picking, position = settings.picking, as_shown(settings.position, unsteady_um)
    looks = {picture.field: picture.looks for picture in pictures}
    targets: list[StageTarget] = []
    kept_from: Counter[str] = Counter()
    for cell in cells:
        if cell.lost:
            continue
        if not within(cell.x_um, cell.y_um, limits):
            kept_from[LeftOut.OUT_OF_REACH.value] += 1
            continue
        if position.k_sigma * math.hypot(cell.sd_um, position.repeatability_um) > picking.tolerance_um:
            kept_from[LeftOut.POSITION_UNCERTAIN.value] += 1
            continue
        own, others = _around(cell, looks[cell.visit])
        if own.border_um < picking.clear_um:  # the stage came back elsewhere: who knows what lies beyond
            kept_from[LeftOut.SURROUNDINGS_UNSEEN.value] += 1
        elif any(math.dist((own.x_um, own.y_um), (o.x_um, o.y_um)) - o.radius_um < picking.clear_um for o in others):
            kept_from[LeftOut.NEIGHBOUR_TOO_NEAR.value] += 1
        else:
            targets.append(StageTarget(first_number + len(targets), cell.x_um, cell.y_um, cell.cell))
    return targets, dict(sorted(kept_from.items()))


def _around(cell: Revisited, looks: Sequence[Look]) -> tuple[Look, list[Look]]:
    """The look at the cell in its fresh picture, whose place the cell has, and those at everything else there."""
    own = next(look for look in looks if (look.x_um, look.y_um) == (cell.x_um, cell.y_um))
    return own, [look for look in looks if look is not own]


def report(found: Revisit) -> dict[str, Any]:
    """The figures of a second visit: what was found again, and how far cells had moved against their fellows.

    `refound_fraction` is of all listed cells, `refound_of_shown` of those that the new pictures show off their borders.
    `raw_position_error_um` has what the stage was off by in it; a pick does not, since it goes to the fresh place.
    """
    told = found.report()
    return {
        "listed": told["listed"],
        "refound": told["found"],
        "lost": told["lost"],
        "refound_fraction": told["found"] / told["listed"] if told["listed"] else None,
        "refound_of_shown": told["refound_fraction"],
        "position_error_um": _spread([cell.error_um for cell in found.cells]),
        "raw_position_error_um": _spread([cell.raw_error_um for cell in found.cells]),
        "stage_unsteady_um": found.unsteady_um,
        "fields": told["fields"],
    }


def _spread(values: Sequence[float]) -> dict[str, float | None]:
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return {"median": None, "p95": None}
    return {"median": float(np.median(known)), "p95": float(np.percentile(known, 95))}
