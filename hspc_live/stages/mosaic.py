"""Objects seen in many overlapping fields, as one list in stage coordinates in which nothing stands twice.

First the stage's error at every field is taken out, as far as overlapping fields show it (`offsets`). Then looks from
different fields that lie as near to each other as their uncertainty allows are one object. Everything seen goes in,
debris and what the border cuts, too: a pick needs to know of all its neighbours, and none of them twice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial import cKDTree

from hspc_live.settings.chamber import MosaicSettings, PositionSettings
from hspc_live.stages.doubts import fields_in_doubt
from hspc_live.stages.looks import NS_PER_MIN, Look, Table, crept
from hspc_live.stages.offsets import Adjustment, FieldOffset, Floats, Ints, Link
from hspc_live.stages.registration import agreed_links, groups, register
from hspc_live.stages.stretch import Stretch, common_stretch
from hspc_live.stages.tiling import Footprint

LEAST_SCALE_SD = 1e-4


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

    looks = objects + `duplicates`. `stretch` is what the overlaps told of the calibration's error; it is out.
    `in_doubt` are fields that overlapping ones contradict: the ± of their objects is that of
    `MosaicSettings.max_offset_um`. `unsteady_um` is how far per axis the stage steps aside from field to field, where
    the overlaps tell that it is more than `MosaicSettings.step_sd_um`.
    """

    objects: tuple[Seen, ...]
    offsets: Mapping[int, FieldOffset]
    links: tuple[Link, ...]
    duplicates: int
    stretch: Stretch | None = None
    in_doubt: frozenset[int] = frozenset()
    unsteady_um: float | None = None


def build_mosaic(
    looks: Sequence[Look], settings: MosaicSettings, position: PositionSettings, calibration: Calibrated | None = None
) -> Mosaic:
    """One list of objects from the looks of all fields; the order of `looks` does not matter.

    With `calibration` its error, which from field to field adds up, is looked for in the overlaps and taken out, and
    where fields show other cells than their neighbours do, the ± of theirs says so.
    Raises ValueError if two looks are of the same field and view, or a place is not finite.
    """
    ordered = sorted(looks, key=lambda look: (look.field, look.view))
    names = [(look.field, look.view) for look in ordered]
    if len(set(names)) < len(names):
        raise ValueError("two looks have the same field and view")
    table = Table(ordered)
    if not np.isfinite(table.xy).all():
        raise ValueError("a look's place is not finite")
    if not ordered:
        return Mosaic((), {}, (), 0)
    stretch = None if calibration is None else _straighten(table, settings, position, calibration)
    registered = register(table, settings, position)
    links, adjustment = registered.links, registered.adjustment
    offsets = adjustment.offsets
    if calibration is not None and stretch is not None:
        offsets = _with_stretch(offsets, stretch, calibration)
    doubt = _doubt(table, adjustment, links, calibration, settings, position)
    offsets = {
        field: replace(offset, sd_um=math.hypot(offset.sd_um, settings.max_offset_um)) if field in doubt else offset
        for field, offset in offsets.items()
    }
    members = _groups(table, _Nearness(table, adjustment, settings, position))
    objects = sorted(
        (_object(ordered, table.xy, group, offsets, settings, position) for group in members),
        key=lambda seen: (seen.kept.field, seen.kept.view),
    )
    numbered = tuple(
        Seen(i, s.x_um, s.y_um, s.sd_um, s.radius_um, s.seen_ns, s.kept, s.looks) for i, s in enumerate(objects)
    )
    return Mosaic(numbered, offsets, links, len(ordered) - len(numbered), stretch, doubt, registered.unsteady_um)


@dataclass(frozen=True, slots=True)
class Calibrated:
    """Where the stage stood at each field, µm, and the relative ± of scale and turn of the camera over it.

    `shows` is what a picture shows around there; without it nothing is expected of overlaps.
    """

    places: Mapping[int, tuple[float, float]]
    scale_sd: float
    shows: Footprint | None = None


def _straighten(table: Table, settings: MosaicSettings, position: PositionSettings, calibration: Calibrated) -> Stretch:
    """Find what is wrong with scale and turn of all pictures, and take it out of `table`."""
    links = agreed_links(table, np.flatnonzero(table.whole), settings, position)
    minutes = {field: float(at) for field, at in zip(table.field.tolist(), table.minutes, strict=True)}
    scale_sd = max(calibration.scale_sd, LEAST_SCALE_SD)
    drift = position.drift_um_per_min
    stretch = common_stretch(
        list(links.values()), calibration.places, minutes, scale_sd, drift, position.repeatability_um
    )
    middles = np.array([calibration.places[field] for field in table.field.tolist()]).reshape(-1, 2)
    table.xy = table.xy - (table.xy - middles) @ stretch.matrix.T
    return stretch


def _doubt(
    table: Table,
    adjustment: Adjustment,
    links: Sequence[Link],
    calibration: Calibrated | None,
    settings: MosaicSettings,
    position: PositionSettings,
) -> frozenset[int]:
    """The fields that overlapping ones contradict."""
    if calibration is None or calibration.shows is None:
        return frozenset()
    group = groups(sorted(set(table.field.tolist())), ((link.first, link.second) for link in links))
    return fields_in_doubt(table, adjustment, group, calibration.places, calibration.shows, position, settings.chance)


def _with_stretch(
    offsets: Mapping[int, FieldOffset], stretch: Stretch, calibration: Calibrated
) -> Mapping[int, FieldOffset]:
    """What is left of the stretch adds up on the way to the last field, from which the errors count."""
    fields = list(offsets)
    places = np.array([calibration.places[field] for field in fields])
    last = min(range(len(fields)), key=lambda place: offsets[fields[place]].sd_um)
    variances = stretch.variance(places - places[last]).tolist()
    return {
        field: replace(offset, sd_um=math.hypot(offset.sd_um, math.sqrt(variance)))
        for (field, offset), variance in zip(offsets.items(), variances, strict=True)
    }


class _Nearness:
    """How far apart two looks are, in units of how far apart two looks at one object may be."""

    def __init__(
        self, table: Table, adjustment: Adjustment, settings: MosaicSettings, position: PositionSettings
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


def _groups(table: Table, nearness: _Nearness) -> list[list[int]]:
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


def _mutual(table: Table, nearness: _Nearness) -> list[tuple[int, int]]:
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


def preference(look: Look, clear_um: float) -> tuple[bool, bool, float, float, int, int]:
    """Greater is better to classify: accepted, whole, clear of the border, sharp; ties go to the earlier field."""
    return look.accepted, look.whole, min(look.border_um, clear_um), look.sharpness, -look.field, -look.view
