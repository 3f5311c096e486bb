"""Which fields of a scan are off by how much: found from the cells that they share, in three steps of lessening proof.

Fields that share many cells tell their offset wherever these lie. What those say of the others narrows the search
there, so that fewer common cells will do. What still hangs together by the stage's word alone is tried as a whole:
fields that are sure of each other vote together, so that a row which the stage's play has set off shows it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree
from scipy.stats import binom

from hspc_live.settings.chamber import MosaicSettings, PositionSettings
from hspc_live.stages.looks import Table, crept
from hspc_live.stages.offsets import Adjustment, Floats, Ints, Link, Offset, agreed_offset, lone_offset

LEAST_TOLERANCE_UM = 0.5
ROUNDS = 4
BEYOND = 3.0
SLIPS = 0.05
"""A link that says more than so many ± of the stage's steps is a slip; more than this share of links are not."""


def agreed_links(
    table: Table, whole: Ints, settings: MosaicSettings, position: PositionSettings
) -> dict[tuple[int, int], Link]:
    """Links between fields that share many cells, wherever these lie."""
    links = {}
    for fields, first, second in _shared(table, whole, settings.max_offset_um):
        tolerance = _tolerance(table, first, second, position)
        offset = agreed_offset(table.xy[second] - table.xy[first], first, second, tolerance, settings)
        if offset is not None:
            links[fields] = Link(*fields, offset)
    return links


@dataclass(frozen=True, slots=True, eq=False)
class Registered:
    """The fields' errors, and the links that they are from, by field.

    `unsteady_um` is how far per axis the stage steps aside between fields, where that is more than the settings say.
    """

    links: tuple[Link, ...]
    adjustment: Adjustment
    unsteady_um: float | None


def register(table: Table, settings: MosaicSettings, position: PositionSettings) -> Registered:
    """Find the fields' errors and take them out of `table`.

    Links from a narrowed search are as good as what the settings say of the stage. If surer links contradict that,
    the narrowed ones are given up, and what the links say of the stage is believed.
    """
    reported = table.xy
    order = sorted(set(table.field.tolist()), key=lambda f: (table.minutes[table.field == f].min(), f))
    whole = np.flatnonzero(table.whole)
    sure = agreed_links(table, whole, settings, position)
    narrow: dict[tuple[int, int], Link] = {}
    density = _density(table, whole)
    unsteady: float | None = None
    for _ in range(2 * len(order) + ROUNDS):  # each but the last few joins two groups
        if unsteady is None and (unsteady := _unsteady(order, sure.values(), settings)) is not None:
            settings, narrow = settings.model_copy(update={"step_sd_um": unsteady}), {}
        links = sure | narrow
        adjustment = Adjustment(order, list(links.values()), settings)
        found = adjustment.offsets
        errors = np.array([(found[f].dx_um, found[f].dy_um) for f in table.field.tolist()])
        table.xy = reported - errors
        if together := _together(table, reported, whole, links, adjustment, settings, position):
            sure |= together
        elif new := _narrowed(table, reported, whole, links, adjustment, density, settings, position):
            narrow |= new
        else:
            break
    return Registered(tuple(links[fields] for fields in sorted(links)), adjustment, unsteady)


def _unsteady(order: Sequence[int], links: Collection[Link], settings: MosaicSettings) -> float | None:
    """How far per axis the stage steps aside from field to field, µm, if the links say it is not ± `step_sd_um`.

    A slip now and then is no contradiction: so many links beyond three ± that slips would rarely explain them are.
    """
    if not links:
        return None
    place = {field: number for number, field in enumerate(order)}
    steps = np.array([abs(place[link.second] - place[link.first]) for link in links])
    squares = np.array([link.offset.dx_um**2 + link.offset.dy_um**2 for link in links])
    beyond = int((squares > (BEYOND * settings.step_sd_um) ** 2 * steps).sum())
    if beyond < 2 or binom.sf(beyond - 1, len(squares), SLIPS) >= settings.chance:
        return None
    return math.sqrt(float(squares.mean()) / 2)


def groups(fields: Sequence[int], links: Iterable[tuple[int, int]]) -> Mapping[int, int]:
    """Field → the least field that it hangs together with through links."""
    parent = {field: field for field in fields}

    def root(field: int) -> int:
        while parent[field] != field:
            parent[field] = parent[parent[field]]
            field = parent[field]
        return field

    for first, second in links:
        low, high = sorted((root(first), root(second)))
        parent[high] = low
    return {field: root(field) for field in fields}


Pairs = tuple[tuple[int, int], Ints, Ints]


def _narrowed(
    table: Table,
    reported: Floats,
    whole: Ints,
    links: Mapping[tuple[int, int], Link],
    adjustment: Adjustment,
    density: float,
    settings: MosaicSettings,
    position: PositionSettings,
) -> dict[tuple[int, int], Link]:
    """Links of fields of which others tell nearly where they are, from as little as one common cell."""
    new = {}
    open_pairs = [group for group in _shared(table, whole, settings.max_offset_um) if group[0] not in links]
    variances = adjustment.relative_variance([fields for fields, _, _ in open_pairs])
    for (fields, first, second), variance in zip(open_pairs, variances.tolist(), strict=True):
        tolerance = _tolerance(table, first, second, position)
        reach = min(position.k_sigma * math.sqrt(variance) + tolerance, settings.max_offset_um)
        apart = table.xy[second] - table.xy[first]
        near = np.hypot(*apart.T) <= reach
        first, second = first[near], second[near]
        offset = lone_offset(reported[second] - reported[first], first, second, tolerance, reach, density)
        if offset is not None:
            new[fields] = Link(*fields, offset)
    return new


def _together(
    table: Table,
    reported: Floats,
    whole: Ints,
    links: Mapping[tuple[int, int], Link],
    adjustment: Adjustment,
    settings: MosaicSettings,
    position: PositionSettings,
) -> dict[tuple[int, int], Link]:
    """Links between the two groups of fields whose common cells agree best; none where no two groups' do."""
    group = groups(sorted(set(table.field.tolist())), links)
    between: dict[tuple[int, int], list[Pairs]] = {}
    for (a, b), first, second in _shared(table, whole, settings.max_offset_um):
        if group[a] < group[b]:
            between.setdefault((group[a], group[b]), []).append(((a, b), first, second))
        elif group[a] > group[b]:
            between.setdefault((group[b], group[a]), []).append(((b, a), second, first))
    best: tuple[Offset, list[Pairs], float] | None = None
    for pairs in (between[key] for key in sorted(between)):
        first, second = np.concatenate([f for _, f, _ in pairs]), np.concatenate([s for _, _, s in pairs])
        inner = [(pairs[0][0][side], fields[side]) for fields, _, _ in pairs[1:] for side in (0, 1)]
        loose = float(adjustment.relative_variance([i for i in inner if i[0] != i[1]]).max(initial=0.0))
        tolerance = _tolerance(table, first, second, position)
        wide = math.hypot(tolerance, position.k_sigma * math.sqrt(loose))
        offset = agreed_offset(table.xy[second] - table.xy[first], first, second, wide, settings)
        if offset is not None and (best is None or offset.common > best[0].common):
            best = offset, pairs, wide
    if best is None:
        return {}
    offset, pairs, wide = best
    new = {}
    for fields, first, second in pairs:
        agree = np.hypot(*(table.xy[second] - table.xy[first] - (offset.dx_um, offset.dy_um)).T) <= wide
        first, second = first[agree], second[agree]
        common = min(len(np.unique(first)), len(np.unique(second)))
        if common and common == agree.sum():
            x, y = np.median(reported[second] - reported[first], axis=0).tolist()
            tolerance = _tolerance(table, first, second, position)
            turned = fields if fields[0] < fields[1] else fields[::-1]
            sign = 1.0 if turned == fields else -1.0
            new[turned] = Link(*turned, Offset(sign * x, sign * y, tolerance / 3 / math.sqrt(common), common))
    return new


def _shared(table: Table, whole: Ints, reach_um: float) -> Iterator[tuple[tuple[int, int], Ints, Ints]]:
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


def _tolerance(table: Table, first: Ints, second: Ints, position: PositionSettings) -> float:
    """How far apart two looks at one cell may lie once the fields' errors are out, for pairs of two fields."""
    minutes = np.abs(table.minutes[second] - table.minutes[first])
    variance = np.median(table.variance[first] + table.variance[second] + crept(minutes, position))
    return max(position.k_sigma * math.sqrt(variance), LEAST_TOLERANCE_UM)


def _density(table: Table, whole: Ints) -> float:
    """Cells per µm² in the fields, from the boxes that their cells span; a single cell is taken for a crowd."""
    cells, area = 0, 0.0
    for field in np.unique(table.field[whole]).tolist():
        inside = table.xy[whole[table.field[whole] == field]]
        cells, area = cells + len(inside), area + float(np.prod(np.ptp(inside, axis=0)))
    return cells / area if area > 0 else math.inf
