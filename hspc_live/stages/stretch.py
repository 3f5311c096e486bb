"""What is wrong with scale and turn of all pictures of a scan, told from what overlapping fields have in common.

Where the picture is stretched, a shared cell lies too far out in both fields, so their offset is off by as much as the
fields are apart, and always the same way: from field to field it adds up.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hspc_live.stages.offsets import Floats, Link

FEW_LINKS = 5
LEAST_MISFIT_UM = 0.02
LEAST_DRIFT = 1e-3
"""From so many links along an axis their median says something; links agree no better, drift is no surer than this."""

STANDS_UM = 0.1
"""Each field stands off by so much besides, per axis: what is left of its swing, and of the encoder's step."""

MOST_SIGMA = 4.0
"""A stretch beyond so many ± of the calibration is something else that looks like one, and is not taken out."""

REWEIGHTINGS = 8


@dataclass(frozen=True, slots=True, eq=False)
class Stretch:
    """How wrong the pictures' scale and turn are: a cell is reported at `matrix` · (its place - the field's) too far.

    `matrix` is (2, 2), `covariance` (2, 2) is that of either of its rows.
    """

    matrix: Floats
    covariance: Floats

    def variance(self, way_um: Floats) -> Floats:
        """What the ± of this adds up to over ways (n, 2), µm² per axis, (n,)."""
        return np.asarray(np.einsum("ni,ij,nj->n", way_um, self.covariance, way_um))


def common_stretch(
    links: Sequence[Link],
    places: Mapping[int, tuple[float, float]],
    minutes: Mapping[int, float],
    scale_sd: float,
    drift_um_per_min: float,
    side_um: float,
) -> Stretch:
    """The error of scale and turn that the offsets of all links have in common; `scale_sd` is its relative ± before.

    `places` are those of the stage at each field, `minutes` when it was there. Told apart are a stage that drifts
    evenly (0 ± `drift_um_per_min`: offsets grow with the time) and one that stands elsewhere depending on the side it
    came from (0 ± `side_um`: play, or a swing not quite over). Slips spoil some links, so weights fall with the misfit
    (Cauchy), from the medians on.

    A field that stands elsewhere does so in all its links, so the links are fewer than they seem: the covariance
    reckons with that (the sandwich of generalised least squares).
    """
    ways = np.array([np.subtract(places[link.first], places[link.second]) for link in links]).reshape(-1, 2)
    found = np.array([(link.offset.dx_um, link.offset.dy_um) for link in links]).reshape(-1, 2)
    later = np.array([minutes[link.second] - minutes[link.first] for link in links]).reshape(-1, 1)
    sides = _sides(places, minutes)
    turned = np.array([np.subtract(sides[link.second], sides[link.first]) for link in links]).reshape(-1, 2)
    design = np.hstack([ways, later, turned])
    before = np.array([scale_sd, scale_sd, max(drift_um_per_min, LEAST_DRIFT), side_um, side_um])
    prior = np.diag(before**-2)
    matrix = np.zeros((2, 5))
    for axis in (0, 1):
        along = np.abs(ways[:, axis]) > 2 * np.abs(ways[:, 1 - axis])
        if along.sum() >= FEW_LINKS:
            matrix[:, axis] = np.median(found[along] / ways[along, axis, None], axis=0)
    weights = np.zeros(len(links))
    inverse = np.linalg.inv(prior)
    for _ in range(REWEIGHTINGS if len(links) else 0):
        misfit = np.hypot(*(found - design @ matrix.T).T)
        scale = max(float(np.median(misfit)), LEAST_MISFIT_UM)
        weights = 1 / (1 + np.square(misfit / scale)) / max(scale, STANDS_UM) ** 2
        inverse = np.linalg.inv((design * weights[:, None]).T @ design + prior)
        matrix = (found * weights[:, None]).T @ design @ inverse
    if np.abs(matrix[:, :2]).max() > MOST_SIGMA * scale_sd:
        return Stretch(np.zeros((2, 2)), np.eye(2) * scale_sd**2)
    own = (design * weights[:, None]).T @ design
    covariance = inverse @ (own + _shared_by_fields(links, design * weights[:, None], weights) + prior) @ inverse
    return Stretch(matrix[:, :2], np.asarray(covariance[:2, :2]))


def _shared_by_fields(links: Sequence[Link], pulls: Floats, weights: Floats) -> Floats:
    """What the fields' own errors do to the sum of all links' `pulls` (n, p): its covariance, (p, p)."""
    rows = {field: row for row, field in enumerate(sorted({f for link in links for f in (link.first, link.second)}))}
    sums = np.zeros((len(rows), pulls.shape[1]))
    np.add.at(sums, [rows[link.second] for link in links], pulls)
    np.subtract.at(sums, [rows[link.first] for link in links], pulls)
    variance = float(np.median(1 / weights)) if len(links) else 0.0
    return np.asarray(variance * sums.T @ sums)


def _sides(places: Mapping[int, tuple[float, float]], minutes: Mapping[int, float]) -> Mapping[int, tuple[float, ...]]:
    """From which side the stage last came to each field, ± ½ per axis; 0 before it has moved along one."""
    sides: dict[int, tuple[float, ...]] = {}
    here: tuple[float, float] | None = None
    side = [0.0, 0.0]
    for field in sorted(set(places) & set(minutes), key=lambda field: (minutes[field], field)):
        for axis, (now, was) in enumerate(zip(places[field], here or places[field], strict=True)):
            side[axis] = math.copysign(0.5, now - was) if abs(now - was) > 1.0 else side[axis]
        sides[field], here = tuple(side), places[field]
    return sides
