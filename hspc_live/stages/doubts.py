"""Whether overlapping fields agree with what is said of the stage: a cell that two fields must show has to be in both.

Errors of the stage beyond what is searched for, or where too few cells are shared to tell them, would put cells of some
fields in wrong places with a small ± all the same. They betray themselves: where two fields overlap, the cells of the
one are missing in the other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree
from scipy.stats import binom

from hspc_live.settings.chamber import PositionSettings
from hspc_live.stages.looks import Table
from hspc_live.stages.offsets import Adjustment, Floats
from hspc_live.stages.registration import LEAST_TOLERANCE_UM
from hspc_live.stages.tiling import Footprint

MISSED = 0.2
"""How often a cell that lies whole in two pictures is found in one of them only: with the odd failure of the eye, and
what has crept apart, generously."""


@dataclass(slots=True)
class Shown:
    """Cells of one field that another must show: so many it did, so many it did not."""

    met: int = 0
    unmet: int = 0

    def add(self, other: Shown) -> None:
        """Count both together."""
        self.met, self.unmet = self.met + other.met, self.unmet + other.unmet

    def contradict(self, chance: float) -> bool:
        """Whether more are missing than misfortune explains in a share `chance` of cases."""
        return self.unmet > 0 and missing_by_chance(self.met, self.unmet) < chance


def missing_by_chance(met: int, unmet: int) -> float:
    """How often so many of met + unmet cells would be missing though everything is right."""
    return float(binom.sf(unmet - 1, met + unmet, MISSED))


def fields_in_doubt(
    table: Table,
    adjustment: Adjustment,
    group: Mapping[int, int],
    places: Mapping[int, tuple[float, float]],
    shows: Footprint,
    position: PositionSettings,
    chance: float,
) -> frozenset[int]:
    """The fields that stand elsewhere than their cells are listed: what their neighbours show is not what they show.

    `table` is corrected; `group` names the fields that hang together by links, `places` where the stage was. Judged are
    each field against all others, each two groups, and all groups together; of two groups at odds the one of the last
    field is believed, from which the errors count.
    """
    fields = sorted(set(table.field.tolist()))
    by_field = {field: Shown() for field in fields}
    by_groups: dict[tuple[int, int], Shown] = {}
    between = Shown()
    for (a, b), seen in _overlaps(table, adjustment, fields, places, shows, position).items():
        if group[a] == group[b]:
            by_field[a].add(seen)
            by_field[b].add(seen)
        else:
            low, high = sorted((group[a], group[b]))
            by_groups.setdefault((low, high), Shown()).add(seen)
            between.add(seen)
    last = group[min(fields, key=lambda field: adjustment.offsets[field].sd_um)] if fields else -1
    odd = {pair for pair, seen in by_groups.items() if seen.contradict(chance)}
    strangers = {one for pair in odd for one in pair if one != last}
    if between.contradict(chance):
        strangers |= {one for pair in by_groups for one in pair if one != last}
    alone = {field for field, seen in by_field.items() if seen.contradict(chance)}
    return frozenset({field for field in fields if group[field] in strangers} | alone)


def _overlaps(
    table: Table,
    adjustment: Adjustment,
    fields: Sequence[int],
    places: Mapping[int, tuple[float, float]],
    shows: Footprint,
    position: PositionSettings,
) -> dict[tuple[int, int], Shown]:
    """For every two fields that overlap: of the cells of either that the other must show, how many it does."""
    middles = np.array(
        [
            (
                places[field][0] + shows.centre_x_um - adjustment.offsets[field].dx_um,
                places[field][1] + shows.centre_y_um - adjustment.offsets[field].dy_um,
            )
            for field in fields
        ]
    ).reshape(-1, 2)
    half = np.array((shows.width_um, shows.height_um)) / 2
    rows = {field: np.flatnonzero(table.field == field) for field in fields}
    near = [(fields[i], fields[j]) for i, j in sorted(cKDTree(middles / half).query_pairs(2.0, p=math.inf))]
    variances = adjustment.relative_variance(near)
    at = dict(zip(fields, middles, strict=True))
    found: dict[tuple[int, int], Shown] = {}
    for (a, b), variance in zip(near, variances.tolist(), strict=True):
        shown = Shown()
        for here, there in ((a, b), (b, a)):
            cells, others = rows[here][table.accepted[rows[here]]], rows[there]
            sure = 2 * float(np.median(table.variance[cells])) if len(cells) else 0.0
            reach = max(position.k_sigma * math.sqrt(variance + sure), LEAST_TOLERANCE_UM)
            inside = (half - np.abs(table.xy[cells] - at[there])).min(axis=1) if len(cells) else np.empty(0)
            cells = cells[inside >= table.radius[cells] + reach]
            if len(cells):
                met = _nearest(table.xy[cells], table.xy[others]) <= np.maximum(reach, table.radius[cells])
                shown.add(Shown(int(met.sum()), int((~met).sum())))
        found[a, b] = shown
    return found


def _nearest(xy: Floats, others: Floats) -> Floats:
    """Distance from each of `xy` (n, 2) to the nearest of `others`, (n,)."""
    return np.asarray(cKDTree(others).query(xy)[0]) if len(others) else np.full(len(xy), math.inf)
