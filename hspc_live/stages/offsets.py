"""How far two pictures of the same cells are apart, and from many such pairs, how wrong the stage was at each field.

A stage that has backlash, slips or drifts reports a place that is off by the same amount for all cells of a field. Two
fields that share cells show the difference of their errors; one adjustment over all of them gives each its own.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import splu
from scipy.spatial import cKDTree
from scipy.stats import poisson

from hspc_live.settings.chamber import MosaicSettings

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

AMBIGUOUS = 0.7
"""A second offset that so large a share of the first one's cells agree on makes both worthless (cells on a grid)."""

LONE = 0.05
"""How often a stranger may lie where the only common cell of two fields is looked for."""

HUBER = 2.5
PINNED_UM = 1e-3
REWEIGHTINGS = 8
COLUMNS = 256


@dataclass(frozen=True, slots=True)
class Offset:
    """The second picture's cells lie (dx, dy) from where the first one's lie, ± sd per axis; `common` agree on it."""

    dx_um: float
    dy_um: float
    sd_um: float
    common: int


@dataclass(frozen=True, slots=True)
class Link:
    """Two fields that share cells: error of `second` minus error of `first`."""

    first: int
    second: int
    offset: Offset


@dataclass(frozen=True, slots=True)
class FieldOffset:
    """A field's error beyond that of the last field, ± sd per axis; `links` other fields speak for it.

    Reported place - error = what the stage would report for it now.
    """

    dx_um: float
    dy_um: float
    sd_um: float
    links: int


def common_offset(first: Floats, second: Floats, tolerance_um: float, settings: MosaicSettings) -> Offset | None:
    """The offset on which the most cells of two pictures, (n, 2) and (m, 2) in µm, agree; None where none is sure."""
    if not len(first) or not len(second):
        return None
    pairs = cKDTree(first).sparse_distance_matrix(
        cKDTree(second), settings.max_offset_um, output_type="coo_matrix"
    )  # zero distances are entries, too, in this form
    rows, columns = np.asarray(pairs.row, np.int64), np.asarray(pairs.col, np.int64)
    return agreed_offset(second[columns] - first[rows], rows, columns, tolerance_um, settings)


def agreed_offset(
    differences: Floats, first: Ints, second: Ints, tolerance_um: float, settings: MosaicSettings
) -> Offset | None:
    """The difference on which most pairs agree: (m, 2) in µm, `first` and `second` (m,) say whose difference it is.

    Every pair votes for its difference (a Hough transform without bins). The fullest disc of radius `tolerance_um`
    wins; it is believed if enough different cells are in it, if scattered pairs would rarely fill one like it (Poisson,
    over all discs), and if no other disc is nearly as full.
    """
    m = len(differences)
    if m < settings.min_common:
        return None
    votes = cKDTree(differences)
    counts = votes.query_ball_point(differences, tolerance_um, return_length=True)
    lengths = np.hypot(*differences.T)
    centre = differences[np.lexsort((lengths, -counts))[0]]
    inside = np.hypot(*(differences - centre).T) <= tolerance_um
    for _ in range(3):
        centre = np.median(differences[inside], axis=0)
        inside = np.hypot(*(differences - centre).T) <= tolerance_um
        if not inside.any():
            return None
    common = min(len(np.unique(first[inside])), len(np.unique(second[inside])))
    expected = (m - 1) * min(1.0, tolerance_um / settings.max_offset_um) ** 2
    if common < settings.min_common or m * poisson.sf(common - 2, expected) > settings.chance:
        return None
    others = np.hypot(*(differences - centre).T) > 2 * tolerance_um
    if others.any() and counts[others].max() >= max(2.0, AMBIGUOUS * common):
        return None
    rest = differences[inside] - centre
    scatter = math.sqrt(float(np.square(rest).sum()) / max(2 * common - 2, 1))
    return Offset(float(centre[0]), float(centre[1]), max(scatter, tolerance_um / 6) / math.sqrt(common), common)


def lone_offset(
    differences: Floats, first: Ints, second: Ints, tolerance_um: float, reach_um: float, density: float
) -> Offset | None:
    """The offset of two pictures that are already known to within `reach_um`, from as little as one common cell.

    Believed if no cell has two partners in reach, all pairs agree, and a stranger would rarely lie in reach (`density`
    is that of the cells, per µm²): to be misled, the true partner must be missing besides.
    """
    m = len(differences)
    if not m or len(np.unique(first)) < m or len(np.unique(second)) < m:
        return None
    centre = np.median(differences, axis=0)
    rest = np.hypot(*(differences - centre).T)
    by_chance = density * math.pi * reach_um**2 * min(1.0, tolerance_um / reach_um) ** (2 * (m - 1))
    if rest.max() > tolerance_um or by_chance > LONE:
        return None
    return Offset(float(centre[0]), float(centre[1]), tolerance_um / 3 / math.sqrt(m), m)


class Adjustment:
    """The errors of all fields at once: least squares on the links, each error near 0 beforehand.

    `fields` are in the order of their visit: from one to the next the error changes by 0 ± `step_sd_um` beforehand.
    What contradicts the rest (a slip, a false link) loses weight (iteratively reweighted, Huber, *Robust Statistics*,
    1981). Errors count from that of the last field, so corrected places are those the stage would report now.
    """

    def __init__(self, fields: Sequence[int], links: Sequence[Link], settings: MosaicSettings) -> None:
        self._place = {field: number for number, field in enumerate(fields)}
        n = len(fields)
        steps = [Link(a, b, Offset(0.0, 0.0, settings.step_sd_um, 0)) for a, b in pairwise(fields)]
        counts = Counter(field for link in links for field in (link.first, link.second))
        links = [*steps, *links]
        first = np.array([self._place[link.first] for link in links], np.int64)
        second = np.array([self._place[link.second] for link in links], np.int64)
        found = np.array([(link.offset.dx_um, link.offset.dy_um) for link in links]).reshape(-1, 2)
        sd = np.array([link.offset.sd_um for link in links])
        weights = np.ones(len(links))
        errors = np.zeros((n, 2))
        for _ in range(REWEIGHTINGS):
            self._solve = _factor(n, first, second, weights / sd**2)
            pull = (weights / sd**2)[:, None] * found
            right = np.zeros((n, 2))
            np.add.at(right, second, pull)
            np.subtract.at(right, first, pull)
            errors = self._solve(right)
            misfit = np.hypot(*(errors[second] - errors[first] - found).T) / sd if len(links) else np.empty(0)
            weights = HUBER / np.maximum(misfit, HUBER)
        variances = self._variances(n)
        self.offsets: Mapping[int, FieldOffset] = {
            field: FieldOffset(float(errors[i, 0]), float(errors[i, 1]), math.sqrt(variances[i]), counts[field])
            for field, i in self._place.items()
        }

    def relative_variance(self, pairs: Sequence[tuple[int, int]]) -> Floats:
        """Variance per axis, µm², of the difference between two fields' errors, for each pair of fields."""
        result = np.empty(len(pairs))
        for start in range(0, len(pairs), COLUMNS):
            part = pairs[start : start + COLUMNS]
            right = np.zeros((len(self._place), len(part)))
            for column, (first, second) in enumerate(part):
                right[self._place[second], column] += 1.0
                right[self._place[first], column] -= 1.0
            result[start : start + len(part)] = (right * self._solve(right)).sum(axis=0)
        return np.maximum(result, 0.0)

    def _variances(self, n: int) -> Floats:
        """The diagonal of the inverse, a block of columns at a time."""
        result = np.empty(n)
        for start in range(0, n, COLUMNS):
            stop = min(start + COLUMNS, n)
            right = np.zeros((n, stop - start))
            right[np.arange(start, stop), np.arange(stop - start)] = 1.0
            result[start:stop] = self._solve(right)[np.arange(start, stop), np.arange(stop - start)]
        return result


def _factor(n: int, first: Ints, second: Ints, weights: Floats) -> Callable[[Floats], Floats]:
    """Solver of the normal equations; the last field's error is held at 0."""
    diagonal = np.zeros(n)
    diagonal[-1] = PINNED_UM**-2.0
    np.add.at(diagonal, first, weights)
    np.add.at(diagonal, second, weights)
    rows = np.concatenate([np.arange(n), first, second])
    columns = np.concatenate([np.arange(n), second, first])
    values = np.concatenate([diagonal, -weights, -weights])
    matrix = sparse.csc_matrix((values, (rows, columns)), shape=(n, n))
    solve: Callable[[Floats], Floats] = splu(matrix).solve
    return solve
