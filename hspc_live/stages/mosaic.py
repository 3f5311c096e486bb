"""Objects seen in many overlapping fields, as one list in stage coordinates in which nothing stands twice.

First the stage's error at every field is taken out, as far as overlapping fields show it (`offsets`). Then looks from
different fields that lie as near to each other as their uncertainty allows are one object. Everything seen goes in,
debris and what the border cuts, too: a pick needs to know of all its neighbours, and none of them twice.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from hspc_live.settings.chamber import MosaicSettings, PositionSettings
from hspc_live.stages.offsets import Adjustment, FieldOffset, Floats, Ints, Link, agreed_offset, lone_offset

NS_PER_MIN = 60_000_000_000
LEAST_TOLERANCE_UM = 0.5
ROUNDS = 4


@dataclass(frozen=True, slots=True)
class Look:
    """One object in one field. `x_um`, `y_um` on the stage as it was reported; `sd_um` per axis, of the centroid alone.

    `view` is the row in the field's result. `border_um` is the distance of the centre to the nearest border of the
    field. `whole` is False for what the border cuts: its centre is then not the object's.
    """

    field: int
    view: int
    captured_ns: int
    x_um: float
    y_um: float
    sd_um: float
    radius_um: float
    border_um: float
    sharpness: float
    accepted: bool
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Seen:
    """One object of the chamber. `kept` is the look to classify; `looks` are all of them, by field.

    `sd_um` per axis holds the centroids' error and the field's; of an object that only the border's cuts show, half
    its size, too. `seen_ns` is the time that the place holds for.
    """

    number: int
    x_um: float
    y_um: float
    sd_um: float
    radius_um: float
    seen_ns: int
    kept: Look
    looks: tuple[Look, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Mosaic:
    """All objects, numbered by field and view of the look kept; the stage's error at each field; the links it is from.

    looks = objects + `duplicates`.
    """

    objects: tuple[Seen, ...]
    offsets: Mapping[int, FieldOffset]
    links: tuple[Link, ...]
    duplicates: int


def build_mosaic(looks: Sequence[Look], settings: MosaicSettings, position: PositionSettings) -> Mosaic:
    """One list of objects from the looks of all fields; the order of `looks` does not matter.

    Raises ValueError if two looks are of the same field and view, or a place is not finite.
    """
    ordered = sorted(looks, key=lambda look: (look.field, look.view))
    names = [(look.field, look.view) for look in ordered]
    if len(set(names)) < len(names):
        raise ValueError("two looks have the same field and view")
    table = _Table(ordered)
    if not np.isfinite(table.xy).all():
        raise ValueError("a look's place is not finite")
    if not ordered:
        return Mosaic((), {}, (), 0)
    links, adjustment = _register(table, settings, position)
    offsets = adjustment.offsets
    groups = _groups(table, _Nearness(table, adjustment, settings, position))
    objects = sorted(
        (_object(ordered, table.xy, group, offsets, settings, position) for group in groups),
        key=lambda seen: (seen.kept.field, seen.kept.view),
    )
    numbered = tuple(
        Seen(i, s.x_um, s.y_um, s.sd_um, s.radius_um, s.seen_ns, s.kept, s.looks) for i, s in enumerate(objects)
    )
    return Mosaic(numbered, offsets, tuple(links), len(ordered) - len(numbered))


class _Table:
    """The looks as columns; `xy` is corrected once the fields' errors are known."""

    def __init__(self, looks: Sequence[Look]) -> None:
        self.xy: Floats = np.array([(look.x_um, look.y_um) for look in looks], np.float64).reshape(-1, 2)
        self.field: Ints = np.array([look.field for look in looks], np.int64)
        self.minutes: Floats = np.array([look.captured_ns / NS_PER_MIN for look in looks])
        self.variance: Floats = np.array([look.sd_um**2 for look in looks])
        self.radius: Floats = np.array([look.radius_um for look in looks])
        self.whole: NDArray[np.bool_] = np.array([look.whole for look in looks], bool)


def _register(table: _Table, settings: MosaicSettings, position: PositionSettings) -> tuple[list[Link], Adjustment]:
    """Find the fields' errors and take them out of `table`.

    First from fields that share many cells, wherever they lie. What those say of the others narrows the search there,
    so that fewer common cells will do.
    """
    reported = table.xy
    order = sorted(set(table.field.tolist()), key=lambda f: (table.minutes[table.field == f].min(), f))
    links: dict[tuple[int, int], Link] = {}
    whole = np.flatnonzero(table.whole)
    for fields, first, second in _shared(table, whole, settings.max_offset_um):
        tolerance = _tolerance(table, first, second, position)
        offset = agreed_offset(reported[second] - reported[first], first, second, tolerance, settings)
        if offset is not None:
            links[fields] = Link(*fields, offset)
    density = _density(table, whole)
    for _ in range(ROUNDS):
        adjustment = Adjustment(order, list(links.values()), settings)
        found = adjustment.offsets
        errors = np.array([(found[f].dx_um, found[f].dy_um) for f in table.field.tolist()])
        table.xy = reported - errors
        open_pairs = [group for group in _shared(table, whole, settings.max_offset_um) if group[0] not in links]
        variances = adjustment.relative_variance([fields for fields, _, _ in open_pairs])
        before = len(links)
        for (fields, first, second), variance in zip(open_pairs, variances.tolist(), strict=True):
            tolerance = _tolerance(table, first, second, position)
            reach = min(position.k_sigma * math.sqrt(variance) + tolerance, settings.max_offset_um)
            apart = table.xy[second] - table.xy[first]
            near = np.hypot(*apart.T) <= reach
            first, second = first[near], second[near]
            offset = lone_offset(reported[second] - reported[first], first, second, tolerance, reach, density)
            if offset is not None:
                links[fields] = Link(*fields, offset)
        if len(links) == before:
            break
    return [links[fields] for fields in sorted(links)], adjustment


def _shared(table: _Table, whole: Ints, reach_um: float) -> Iterator[tuple[tuple[int, int], Ints, Ints]]:
    """Looks of two fields that lie near each other: (fields, look of the one, look of the other), a pair at a time."""
    if not len(whole):
        return
    pairs = whole[cKDTree(table.xy[whole]).query_pairs(reach_um, output_type="ndarray")]
    pairs = pairs[table.field[pairs[:, 0]] != table.field[pairs[:, 1]]]
    turned = table.field[pairs[:, 0]] > table.field[pairs[:, 1]]
    pairs[turned] = pairs[turned, ::-1]
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0], table.field[pairs[:, 1]], table.field[pairs[:, 0]]))]
    fields = table.field[pairs]
    for stretch in np.split(np.arange(len(pairs)), np.flatnonzero((np.diff(fields, axis=0) != 0).any(axis=1)) + 1):
        if len(stretch):
            a, b = fields[stretch[0]].tolist()
            yield (a, b), pairs[stretch, 0], pairs[stretch, 1]


def _tolerance(table: _Table, first: Ints, second: Ints, position: PositionSettings) -> float:
    """How far apart two looks at one cell may lie once the fields' errors are out, for pairs of two fields."""
    minutes = np.abs(table.minutes[second] - table.minutes[first])
    variance = np.median(table.variance[first] + table.variance[second] + crept(minutes, position))
    return max(position.k_sigma * math.sqrt(variance), LEAST_TOLERANCE_UM)


def _density(table: _Table, whole: Ints) -> float:
    """Cells per µm² in the fields, from the boxes that their cells span; a single cell is taken for a crowd."""
    cells, area = 0, 0.0
    for field in np.unique(table.field[whole]).tolist():
        inside = table.xy[whole[table.field[whole] == field]]
        cells, area = cells + len(inside), area + float(np.prod(np.ptp(inside, axis=0)))
    return cells / area if area > 0 else math.inf


class _Nearness:
    """How far apart two looks are, in units of how far apart two looks at one object may be."""

    def __init__(
        self, table: _Table, adjustment: Adjustment, settings: MosaicSettings, position: PositionSettings
    ) -> None:
        self._table, self._settings, self._position = table, settings, position
        reach = max([settings.max_merge_um, *table.radius[table.whole].tolist()])
        pairs = cKDTree(table.xy).query_pairs(reach, output_type="ndarray")
        self.pairs: Ints = pairs[table.field[pairs[:, 0]] != table.field[pairs[:, 1]]]
        fields = sorted({(min(a, b), max(a, b)) for a, b in table.field[self.pairs].tolist()})
        variances = adjustment.relative_variance(fields)
        self._relative = dict(zip(fields, variances.tolist(), strict=True))
        self.scaled: Floats = np.array([self._ratio(i, j) for i, j in self.pairs.tolist()])
        self._near = {
            (min(i, j), max(i, j))
            for (i, j), ratio in zip(self.pairs.tolist(), self.scaled.tolist(), strict=True)
            if ratio <= 1
        }

    def may_be_one(self, i: int, j: int) -> bool:
        """Whether both can belong to one object. Two cuts of one object show different parts of it, so they may."""
        table = self._table
        if table.field[i] == table.field[j]:
            return False
        return (min(i, j), max(i, j)) in self._near or not (table.whole[i] or table.whole[j])

    def _ratio(self, i: int, j: int) -> float:
        table = self._table
        a, b = int(table.field[i]), int(table.field[j])
        variance = table.variance[i] + table.variance[j] + self._relative[min(a, b), max(a, b)]
        variance += crept(abs(table.minutes[i] - table.minutes[j]), self._position)
        reach = min(self._position.k_sigma * math.sqrt(variance), self._settings.max_merge_um)
        if table.whole[i] and table.whole[j]:  # two of them touch at the sum of their radii: half of it is one
            reach = max(reach, float(table.radius[i] + table.radius[j]) / 2)
        elif table.whole[i] or table.whole[j]:  # the middle of what is left of a cell lies inside the cell
            reach = max(reach, float(table.radius[i] if table.whole[i] else table.radius[j]))
        return math.dist(table.xy[i], table.xy[j]) / reach if reach > 0 else math.inf


def _groups(table: _Table, nearness: _Nearness) -> list[list[int]]:
    """Looks that are one object: nearest to each other in their two fields, and every two of a group near enough.

    Nearest first; a group never holds two looks of one field (complete linkage under that constraint).
    """
    group_of = {i: [i] for i in range(len(table.field))}
    for i, j in _mutual(table, nearness):
        one, other = group_of[i], group_of[j]
        if one is not other and all(nearness.may_be_one(a, b) for a in one for b in other):
            one += other
            for member in other:
                group_of[member] = one
    return list({id(group): group for group in group_of.values()}.values())


def _mutual(table: _Table, nearness: _Nearness) -> list[tuple[int, int]]:
    """Pairs that are each other's nearest in the other's field and near enough, nearest first."""
    near = nearness.scaled <= 1
    pairs, scaled = nearness.pairs[near], nearness.scaled[near]
    best: dict[tuple[int, int], int] = {}
    order = np.lexsort((pairs[:, 1], pairs[:, 0], scaled)).tolist()
    for number in order:
        i, j = pairs[number].tolist()
        best.setdefault((i, int(table.field[j])), j)
        best.setdefault((j, int(table.field[i])), i)
    ordered = [(int(pairs[number, 0]), int(pairs[number, 1])) for number in order]
    return [(i, j) for i, j in ordered if best[i, int(table.field[j])] == j and best[j, int(table.field[i])] == i]


def _object(
    looks: Sequence[Look],
    xy: Floats,
    group: Sequence[int],
    offsets: Mapping[int, FieldOffset],
    settings: MosaicSettings,
    position: PositionSettings,
) -> Seen:
    """One object from its looks; those that show it whole give the place, older ones weigh less as cells creep."""
    members = sorted(group)
    kept = max(members, key=lambda i: preference(looks[i], settings.clear_um))
    whole = [i for i in members if looks[i].whole] or [kept]
    latest = max(looks[i].captured_ns for i in whole)
    aged = [looks[i].sd_um ** 2 + crept((latest - looks[i].captured_ns) / NS_PER_MIN, position) for i in whole]
    weights = 1 / np.maximum(aged, 1e-12)
    x, y = np.average(xy[whole], axis=0, weights=weights).tolist()
    variance = 1 / float(weights.sum()) + min(offsets[looks[i].field].sd_um for i in whole) ** 2
    if not looks[kept].whole:
        variance += looks[kept].radius_um ** 2
    radius = max(looks[i].radius_um for i in whole)
    return Seen(0, x, y, math.sqrt(variance), radius, latest, looks[kept], tuple(looks[i] for i in members))


T = TypeVar("T", float, Floats)


def crept(minutes: T, position: PositionSettings) -> T:
    """Variance per axis, µm², that cells gain in so many minutes: they creep as if pushed at random."""
    return position.creep_um_per_sqrt_min**2 * minutes


def preference(look: Look, clear_um: float) -> tuple[bool, bool, float, float, int, int]:
    """Greater is better to classify: accepted, whole, clear of the border, sharp; ties go to the earlier field."""
    return look.accepted, look.whole, min(look.border_um, clear_um), look.sharpness, -look.field, -look.view
