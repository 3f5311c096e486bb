"""The picking list: which of the wanted cells can be picked, where, until when, and in which order.

Every wanted cell ends in exactly one place: picked, or left out by a reason that is counted. Nothing is picked whose
place is not sure enough, or beside which anything else, debris too, would come along.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from hspc_live.settings.chamber import PickingSettings, PositionSettings, StageLimits
from hspc_live.stages.looks import NS_PER_MIN
from hspc_live.stages.mosaic import Seen
from hspc_live.stages.path import short_path
from hspc_live.stages.tiling import within

NS_PER_S = 1_000_000_000
WITHIN_95 = math.sqrt(-2 * math.log(0.05))
"""Radius that holds 95 % of a round normal error, in its standard deviations per axis (Rayleigh's quantile)."""


class LeftOut(StrEnum):
    """Why a wanted cell is not picked. The order is that of judgement: the first that holds is booked."""

    OUT_OF_REACH = "out_of_reach"  # beyond the limits of travel
    POSITION_UNCERTAIN = "position_uncertain"  # a pick might miss it, however soon
    EXPIRED = "expired"  # it has had time to creep away
    SURROUNDINGS_UNSEEN = "surroundings_unseen"  # at the edge of the scan: who knows what lies beyond
    NEIGHBOUR_TOO_NEAR = "neighbour_too_near"  # something else would come along
    OVER_TOP = "over_top"  # better ones fill the list


@dataclass(frozen=True, slots=True)
class Wanted:
    """A cell that a gate wants: `number` is that of its object in the mosaic. Highest `rank` is picked first.

    `glow` is its light in the further channels, in counts above its surroundings, in the order of the channels.
    """

    number: int
    outlet: str
    predicted: str
    scores: tuple[float, ...]
    rank: float
    diameter_um: float
    glow: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Pick:
    """One line of the list, in stage coordinates. `field` and `view` name the look that was classified.

    `pick_sd_um` per axis is what a pick now has to reckon with: centroid, field, creep since, and the stage's
    coming back (a cell's own `sd_um` is of where it lies, without these two); `place_later` tells how it grows.
    `nearest_um` is from centre to centre, to the nearest object of any kind (infinite without one); `expires_in_s` is
    infinite for cells that do not creep on a stage that does not drift.
    """

    order: int
    cell: int
    outlet: str
    predicted: str
    scores: tuple[float, ...]
    rank: float
    x_um: float
    y_um: float
    pick_sd_um: float
    diameter_um: float
    nearest_um: float
    age_s: float
    expires_in_s: float
    field: int
    view: int
    glow: tuple[float, ...] = ()

    @property
    def plus_minus_um(self) -> float:
        """The ± of the place: of picks that go there now, 95 % find their cell within so many µm of it."""
        return WITHIN_95 * self.pick_sd_um


@dataclass(frozen=True, slots=True)
class PickingList:
    """Picks in the order of a short path; the numbers of the objects left out, with reasons.

    `classes` name the scores of a pick, `channels` its `glow`.
    """

    classes: tuple[str, ...]
    picks: tuple[Pick, ...]
    left_out: tuple[tuple[int, LeftOut], ...]
    channels: tuple[str, ...] = ()

    def ledger(self) -> dict[str, Any]:
        """The books: wanted = picked + left_out{reason}."""
        reasons = Counter(reason.value for _, reason in self.left_out)
        return {
            "wanted": len(self.picks) + len(self.left_out),
            "picked": len(self.picks),
            "left_out": {reason: reasons[reason] for reason in sorted(reasons)},
        }


def make_picking_list(
    wanted: Sequence[Wanted],
    objects: Sequence[Seen],
    classes: tuple[str, ...],
    now_ns: int,
    settings: PickingSettings,
    position: PositionSettings,
    limits: StageLimits,
    start: tuple[float, float] | None = None,
    channels: tuple[str, ...] = (),
) -> PickingList:
    """Judge every wanted cell at `now_ns` and order those to pick by a short path from `start`.

    `objects` are all of the mosaic: cells that nobody wants, debris and pieces at the border are neighbours, too.
    Raises ValueError if a wanted cell is none of the objects, or named twice.
    """
    place_of = {seen.number: place for place, seen in enumerate(objects)}
    missing = [cell.number for cell in wanted if cell.number not in place_of]
    if missing or len({cell.number for cell in wanted}) < len(wanted):
        raise ValueError(f"wanted cells must be objects of the mosaic, each named once; unknown: {missing[:5]}")
    around = Neighbourhood(objects, position.k_sigma)
    left_out: dict[int, LeftOut] = {}
    fit: list[tuple[Wanted, Seen, float, float]] = []
    for cell in wanted:
        seen = objects[place_of[cell.number]]
        sd, expires_s = place_now(seen, now_ns, settings, position)
        reason = None
        if not within(seen.x_um, seen.y_um, limits):
            reason = LeftOut.OUT_OF_REACH
        elif position.k_sigma * place_now(seen, seen.seen_ns, settings, position)[0] > settings.tolerance_um:
            reason = LeftOut.POSITION_UNCERTAIN
        elif expires_s <= 0:
            reason = LeftOut.EXPIRED
        elif max(look.border_um for look in seen.looks) < settings.clear_um:
            reason = LeftOut.SURROUNDINGS_UNSEEN
        elif around.clearance_um(place_of[cell.number]) < settings.clear_um:
            reason = LeftOut.NEIGHBOUR_TOO_NEAR
        if reason is None:
            fit.append((cell, seen, sd, expires_s))
        else:
            left_out[cell.number] = reason
    fit.sort(key=lambda found: (-found[0].rank, found[0].number))
    most = _most(len(wanted), settings)
    left_out.update((cell.number, LeftOut.OVER_TOP) for cell, *_ in fit[most:])
    fit = fit[:most]
    order = short_path(np.array([(seen.x_um, seen.y_um) for _, seen, *_ in fit]).reshape(-1, 2), start)
    picks = []
    for number, index in enumerate(order, 1):
        cell, seen, sd, expires_s = fit[index]
        picks.append(
            Pick(
                number, cell.number, cell.outlet, cell.predicted, cell.scores, cell.rank, seen.x_um, seen.y_um, sd,
                cell.diameter_um, around.nearest_um(place_of[cell.number]), (now_ns - seen.seen_ns) / NS_PER_S,
                expires_s, seen.kept.field, seen.kept.view, cell.glow,
            )
        )  # fmt: skip
    return PickingList(classes, tuple(picks), tuple(sorted(left_out.items())), channels)


def _most(wanted: int, settings: PickingSettings) -> int:
    """How many may be picked: the smaller of both limits. A share of few cells may be none of them."""
    share = 100.0 if settings.top_percent is None else settings.top_percent
    most = math.floor(wanted * share / 100.0 + 1e-9)
    return most if settings.top is None else min(most, settings.top)


def place_now(seen: Seen, now_ns: int, settings: PickingSettings, position: PositionSettings) -> tuple[float, float]:
    """(± µm per axis of a pick at `now_ns`, seconds from then until `k_sigma` of it exceed the tolerance).

    Cells creep as if pushed at random, so the variance grows in proportion to time since they were seen. The stage
    drifts, too: one way, so its part of the ± grows in proportion, from `now_ns` on, as the fields have told its errors
    until then. The seconds may be negative.
    """
    fresh = seen.sd_um**2 + position.repeatability_um**2
    creep, drift = position.creep_um_per_sqrt_min**2, position.drift_um_per_min  # µm² and µm a minute
    age_min = (now_ns - seen.seen_ns) / NS_PER_MIN
    room = (settings.tolerance_um / position.k_sigma) ** 2 - fresh - creep * age_min
    return math.sqrt(fresh + creep * max(age_min, 0.0)), 60.0 * _minutes(room, creep, drift)


def place_later(sd_um: float, after_s: float, position: PositionSettings) -> float:
    """What a ± of `sd_um` per axis has grown to `after_s` later, if no picture has told anything since."""
    minutes = after_s / 60.0
    return math.sqrt(
        sd_um**2 + position.creep_um_per_sqrt_min**2 * minutes + (position.drift_um_per_min * minutes) ** 2
    )


def _minutes(room: float, creep: float, drift: float) -> float:
    """The t at which creep · t + (drift · t)² is `room`; looking back, where it is negative, there is creep alone."""
    if room >= 0 and drift > 0:
        return 2 * room / (creep + math.sqrt(creep**2 + 4 * drift**2 * room)) if room > 0 else 0.0
    return room / creep if creep > 0 else math.copysign(math.inf, room)


class Neighbourhood:
    """What lies around each object of a mosaic."""

    def __init__(self, objects: Sequence[Seen], k_sigma: float) -> None:
        self._xy = np.array([(seen.x_um, seen.y_um) for seen in objects]).reshape(-1, 2)
        self._radius = np.array([seen.radius_um for seen in objects])
        self._sd = np.array([seen.sd_um for seen in objects])
        self._k = k_sigma
        self._tree = cKDTree(self._xy) if len(objects) else None
        self._largest = float((self._radius + k_sigma * self._sd).max(initial=0.0))

    def nearest_um(self, place: int) -> float:
        """Distance from centre to centre to the nearest other object; infinite if it is alone."""
        if self._tree is None or len(self._xy) < 2:
            return math.inf
        distances, places = self._tree.query(self._xy[place], k=2)
        # of objects in one place, either may come first
        return float(distances[1] if places[0] == place else distances[0])

    def clearance_um(self, place: int) -> float:
        """From the object's centre to the nearest edge of another, at worst: less what both places are unsure by."""
        reach = self.nearest_um(place) + 2 * self._largest
        if self._tree is None or math.isinf(reach):
            return math.inf
        others = np.array([o for o in self._tree.query_ball_point(self._xy[place], reach) if o != place], np.int64)
        return float(self._edges(place, others).min())

    def _edges(self, place: int, others: NDArray[np.int64]) -> NDArray[np.float64]:
        distances = np.hypot(*(self._xy[others] - self._xy[place]).T)
        unsure = self._k * np.hypot(self._sd[others], self._sd[place])
        return np.asarray(distances - self._radius[others] - unsure)
