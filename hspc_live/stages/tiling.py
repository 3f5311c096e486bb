"""Which fields cover an area of the chamber, in which order, and how the stage comes to each.

Nothing here moves: the plan is made and checked against the limits of travel before the stage is asked for anything.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import assert_never

import numpy as np

from hspc_live.core.errors import DeviceError, SettingsError
from hspc_live.core.values import StageInfo
from hspc_live.settings.chamber import Area, CircleArea, RectangleArea, StageLimits, TilingSettings
from hspc_live.stages.affine import Affine

Point = tuple[float, float]

_HAIR = 1e-9


@dataclass(frozen=True, slots=True)
class Footprint:
    """What one picture shows of the stage: a rectangle along the stage's axes, and where its centre lies.

    The centre is relative to the stage's position. Of a camera turned against the stage it is the part that a
    rectangle along the axes can use.
    """

    width_um: float
    height_um: float
    centre_x_um: float = 0.0
    centre_y_um: float = 0.0


@dataclass(frozen=True, slots=True)
class Tile:
    """One field. The stage goes through `waypoints` in turn and stands at the last of them for the exposure.

    `x_um`, `y_um` are the stage's position then; the field's middle is `centre_x_um`, `centre_y_um`.
    """

    field: int
    row: int
    column: int
    x_um: float
    y_um: float
    centre_x_um: float
    centre_y_um: float
    waypoints: tuple[Point, ...]


def footprint(affine: Affine, width_px: int, height_px: int) -> Footprint:
    """The largest rectangle along the stage's axes, in the picture's middle, of the shape of its bounding box."""
    linear = affine.matrix[:, :2]
    width, height = np.abs(linear) @ (width_px, height_px)
    corners = np.array([[width, height], [width, -height]]) / 2
    reach = np.abs(corners @ np.linalg.inv(linear).T).max(axis=0)  # of the corners, in pixels from the middle
    share = float(min(width_px / 2 / reach[0], height_px / 2 / reach[1]))
    middle = linear @ ((width_px - 1) / 2, (height_px - 1) / 2) + affine.matrix[:, 2]
    return Footprint(float(width) * share, float(height) * share, float(middle[0]), float(middle[1]))


def plan_tiles(
    settings: TilingSettings, shows: Footprint, limits: StageLimits, start: Point | None = None
) -> tuple[Tile, ...]:
    """Fields that cover `settings.area` with at least the wanted overlap, in the shorter of two orders.

    The orders are snake and raster, each by rows or by columns, from either corner; with a same-side approach the ways
    back count, so a raster may win. `start` is where the stage stands, None where that does not matter.

    Raises SettingsError for too many fields, and for any waypoint beyond `limits`: nothing has moved then.
    """
    if not (shows.width_um > 0 and shows.height_um > 0):
        raise SettingsError(f"tiling: a field of {shows.width_um:g} × {shows.height_um:g} µm shows nothing")
    (x_span, y_span), share = _bounds(settings.area), 1.0 - settings.overlap
    counts = [_count(span, size, share) for span, size in ((x_span, shows.width_um), (y_span, shows.height_um))]
    if counts[0] * counts[1] > settings.max_fields:
        raise SettingsError(
            f"tiling: {float(counts[0]):g} × {float(counts[1]):g} fields are more than tiling.max_fields "
            f"({settings.max_fields}); make the area smaller, or take a lower magnification"
        )
    xs, ys = _places(x_span, shows.width_um, counts[0]), _places(y_span, shows.height_um, counts[1])
    kept = {
        (row, column)
        for row, y in enumerate(ys)
        for column, x in enumerate(xs)
        if _touches(settings.area, x, y, shows.width_um, shows.height_um)
    }
    plans = []
    for order in _orders(len(ys), len(xs)):
        cells = [(row, column, xs[column], ys[row]) for row, column in order if (row, column) in kept]
        plans.append(_approached(cells, shows, settings, start))
    best = min(plans, key=lambda plan: path_um(plan, start))
    check_targets((point for tile in best for point in tile.waypoints), limits)
    return best


def path_um(tiles: Iterable[Tile], start: Point | None = None) -> float:
    """Length of the way through all waypoints, from `start` on (from the first waypoint without one)."""
    points = [*([start] if start is not None else []), *(point for tile in tiles for point in tile.waypoints)]
    return sum(math.dist(a, b) for a, b in pairwise(points))


def reachable(limits: StageLimits, stage: StageInfo) -> StageLimits:
    """What both the settings and the stage allow. Raises DeviceError where that is nothing."""
    (x0, x1), (y0, y1) = stage.x_limits_um, stage.y_limits_um
    low = max(limits.x_min_um, x0), max(limits.y_min_um, y0)
    high = min(limits.x_max_um, x1), min(limits.y_max_um, y1)
    if low[0] >= high[0] or low[1] >= high[1]:
        raise DeviceError(
            f"chamber.limits leave nothing of the stage's travel, x {x0:g} to {x1:g} and y {y0:g} to {y1:g} µm"
        )
    return StageLimits(x_min_um=low[0], x_max_um=high[0], y_min_um=low[1], y_max_um=high[1])


def within(x_um: float, y_um: float, limits: StageLimits) -> bool:
    """Whether a place lies in the limits; NaN lies nowhere."""
    return limits.x_min_um <= x_um <= limits.x_max_um and limits.y_min_um <= y_um <= limits.y_max_um


def check_targets(targets: Iterable[Point], limits: StageLimits) -> None:
    """Raise SettingsError naming the first target that is NaN or beyond the limits; else do nothing."""
    for x, y in targets:
        if not within(x, y, limits):
            raise SettingsError(
                f"stage target ({x:g}, {y:g}) µm is outside the limits of travel, x {limits.x_min_um:g} to "
                f"{limits.x_max_um:g}, y {limits.y_min_um:g} to {limits.y_max_um:g} µm; nothing was moved"
            )


def approach(target: Point, before: Point | None, settings: TilingSettings) -> tuple[Point, ...]:
    """The waypoints to `target` from `before`: one, or two where an axis has to come back from beyond.

    With a same-side approach every axis moves towards + last, so backlash always stands on the same side. Where the
    stage came from before is not known, both axes go back first.
    """
    match settings.approach:
        case "any":
            return (target,)
        case "same_side":
            origin = (math.inf, math.inf) if before is None else before
            back = [t - settings.overshoot_um if t < o - _HAIR else t for t, o in zip(target, origin, strict=True)]
            first = (back[0], back[1])
            return (target,) if first == target else (first, target)
        case _:
            assert_never(settings.approach)


def _approached(
    cells: Sequence[tuple[int, int, float, float]], shows: Footprint, settings: TilingSettings, start: Point | None
) -> tuple[Tile, ...]:
    """The tiles of one order. `start` does not tell from which side the stage came there, so the first goes back."""
    tiles = []
    before: Point | None = start if settings.approach == "any" else None
    for number, (row, column, x, y) in enumerate(cells):
        target = (x - shows.centre_x_um, y - shows.centre_y_um)
        tiles.append(Tile(number, row, column, *target, x, y, approach(target, before, settings)))
        before = target
    return tuple(tiles)


def _orders(rows: int, columns: int) -> list[list[tuple[int, int]]]:
    """Snake and raster, by rows and by columns, begun at each of the four corners."""
    orders = []
    for down in (range(rows), range(rows - 1, -1, -1)):
        for across in (range(columns), range(columns - 1, -1, -1)):
            orders.append([(r, c) for r in down for c in across])
            orders.append([(r, c) for c in across for r in down])
            orders.append([(r, c) for i, r in enumerate(down) for c in (across[::-1] if i % 2 else across)])
            orders.append([(r, c) for i, c in enumerate(across) for r in (down[::-1] if i % 2 else down)])
    return orders


def _bounds(area: Area) -> tuple[Point, Point]:
    """The area's extent: (least, greatest) x, (least, greatest) y."""
    match area:
        case RectangleArea():
            return (area.x0_um, area.x0_um + area.width_um), (area.y0_um, area.y0_um + area.height_um)
        case CircleArea():
            r = area.radius_um
            return (area.x_um - r, area.x_um + r), (area.y_um - r, area.y_um + r)
        case _:
            assert_never(area)


def _touches(area: Area, x: float, y: float, width: float, height: float) -> bool:
    """Whether a field around (x, y) shows anything of the area; of a rectangle every field of the grid does."""
    match area:
        case RectangleArea():
            return True
        case CircleArea():
            nearest = (max(abs(x - area.x_um) - width / 2, 0.0), max(abs(y - area.y_um) - height / 2, 0.0))
            return math.hypot(*nearest) <= area.radius_um
        case _:
            assert_never(area)


def _count(span: Point, size: float, share: float) -> int:
    """Fields along one axis: the least number that covers `span` when each adds `share` of its size to the first."""
    return 1 + max(0, math.ceil((span[1] - span[0] - size) / (size * share) - _HAIR))


def _places(span: Point, size: float, count: int) -> list[float]:
    """Middles of `count` fields: evenly spread from edge to edge, a single one in the middle."""
    low, high = span
    if count == 1:
        return [(low + high) / 2]
    return [float(place) for place in np.linspace(low + size / 2, high - size / 2, count)]
