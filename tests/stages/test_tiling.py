"""Fields cover the area, overlap enough, lie within the limits, and are come to from one side."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hspc_live.core.errors import SettingsError
from hspc_live.settings.chamber import CircleArea, RectangleArea, StageLimits, TilingSettings
from hspc_live.stages.affine import Affine, nominal
from hspc_live.stages.tiling import Footprint, approach, check_targets, footprint, path_um, plan_tiles

LIMITS = StageLimits()
shapes = st.builds(Footprint, st.floats(50, 600), st.floats(50, 600), st.floats(-30, 30), st.floats(-30, 30))
rectangles = st.builds(
    RectangleArea,
    x0_um=st.floats(-3000, 3000),
    y0_um=st.floats(-3000, 3000),
    width_um=st.floats(10, 3000),
    height_um=st.floats(10, 3000),
)
circles = st.builds(
    CircleArea,
    kind=st.just("circle"),
    x_um=st.floats(-900, 900),
    y_um=st.floats(-900, 900),
    radius_um=st.floats(10, 1500),
)
plans = st.builds(
    TilingSettings,
    area=st.one_of(rectangles, circles),
    overlap=st.floats(0, 0.4),
    approach=st.sampled_from(["any", "same_side"]),
)


@given(plans, shapes, st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_every_point_of_the_area_is_in_a_field(plan, shows, seed):
    tiles = plan_tiles(plan, shows, LIMITS)
    rng = np.random.default_rng(seed)
    match plan.area:
        case RectangleArea() as a:
            points = np.array([a.x0_um, a.y0_um]) + rng.uniform(0, 1, (300, 2)) * (a.width_um, a.height_um)
        case CircleArea() as c:
            r, t = c.radius_um * np.sqrt(rng.uniform(0, 1, 300)), rng.uniform(0, 2 * np.pi, 300)
            points = np.array([c.x_um, c.y_um]) + np.column_stack([r * np.cos(t), r * np.sin(t)])
    centres = np.array([(t.x_um + shows.centre_x_um, t.y_um + shows.centre_y_um) for t in tiles])
    off = np.abs(points[:, None] - centres[None])
    assert (off <= np.array([shows.width_um, shows.height_um]) / 2 + 1e-6).all(axis=2).any(axis=1).all()
    assert [tile.field for tile in tiles] == list(range(len(tiles)))
    assert len({(tile.row, tile.column) for tile in tiles}) == len(tiles)


@given(rectangles, shapes, st.floats(0, 0.4))
@settings(max_examples=60, deadline=None)
def test_neighbours_overlap_by_the_share_asked_for(area, shows, overlap):
    tiles = plan_tiles(TilingSettings(area=area, overlap=overlap), shows, LIMITS)
    for name, size in (("x_um", shows.width_um), ("y_um", shows.height_um)):
        lines = sorted({round(getattr(tile, name), 6) for tile in tiles})
        assert all(b - a <= size * (1 - overlap) + 1e-5 for a, b in pairwise(lines))


@given(plans, shapes)
@settings(max_examples=60, deadline=None)
def test_a_same_side_approach_ends_towards_plus_in_both_axes(plan, shows):
    tiles = plan_tiles(plan, shows, LIMITS)
    assert all(tile.waypoints[-1] == (tile.x_um, tile.y_um) for tile in tiles)
    if plan.approach == "any":
        assert all(len(tile.waypoints) == 1 for tile in tiles)
        return
    directions = [-1.0, -1.0]  # nobody knows from where the stage came first
    before = (math.inf, math.inf)
    for tile in tiles:
        for point in tile.waypoints:
            for axis in (0, 1):
                if abs(point[axis] - before[axis]) > 1e-6:
                    directions[axis] = math.copysign(1, point[axis] - before[axis])
            before = point
        assert directions == [1.0, 1.0]


def test_ten_by_ten_fields_take_a_short_path():
    area = RectangleArea(width_um=1000, height_um=1000)
    tiles = plan_tiles(TilingSettings(area=area, overlap=0, approach="any"), Footprint(100, 100), LIMITS)
    assert len(tiles) == 100
    assert path_um(tiles) == pytest.approx(9900)  # a snake: 99 steps of one field
    near_the_end = plan_tiles(
        TilingSettings(area=area, overlap=0, approach="any"), Footprint(100, 100), LIMITS, start=(1000, 1000)
    )
    assert math.dist(near_the_end[0].waypoints[0], (1000, 1000)) < 100


def test_a_raster_is_taken_where_ways_back_cost_less_than_overshoots():
    area = RectangleArea(width_um=1000, height_um=300)
    plan = TilingSettings(area=area, overlap=0, approach="same_side", overshoot_um=400)
    tiles = plan_tiles(plan, Footprint(100, 100), LIMITS)
    assert sum(len(tile.waypoints) for tile in tiles) < 40  # a snake would overshoot in every field of a row back


@pytest.mark.parametrize("bad", [(math.nan, 0.0), (0.0, math.inf), (60_000.0, 0.0), (0.0, -50_001.0)])
def test_targets_beyond_the_limits_are_refused_before_motion(bad):
    with pytest.raises(SettingsError, match="nothing was moved"):
        check_targets([(0.0, 0.0), bad], LIMITS)


def test_a_plan_that_leaves_the_limits_is_refused_even_by_its_overshoot():
    area = RectangleArea(x0_um=0, y0_um=0, width_um=100, height_um=100)
    limits = StageLimits(x_min_um=40, x_max_um=60, y_min_um=40, y_max_um=60)
    plan_tiles(TilingSettings(area=area, approach="any"), Footprint(100, 100), limits)
    with pytest.raises(SettingsError, match="limits of travel"):
        plan_tiles(TilingSettings(area=area, approach="same_side"), Footprint(100, 100), limits)


def test_too_many_fields_and_a_field_of_nothing_are_refused():
    with pytest.raises(SettingsError, match="max_fields"):
        plan_tiles(TilingSettings(max_fields=10), Footprint(100, 100), LIMITS)
    with pytest.raises(SettingsError, match="shows nothing"):
        plan_tiles(TilingSettings(), Footprint(0, 100), LIMITS)


@given(st.floats(-180, 180), st.integers(100, 2048), st.integers(100, 2048))
@settings(max_examples=60, deadline=None)
def test_the_footprint_of_a_turned_camera_lies_inside_the_picture(turn, width, height):
    affine = nominal(0.25, width, height, rotation_deg=turn)
    shows = footprint(affine, width, height)
    half = np.array([shows.width_um, shows.height_um]) / 2
    corners = np.array([(a, b) for a in (-1, 1) for b in (-1, 1)]) * half + (shows.centre_x_um, shows.centre_y_um)
    pixels = (corners - affine.matrix[:, 2]) @ np.linalg.inv(affine.matrix[:, :2]).T
    assert (pixels >= -0.5 - 1e-6).all() and (pixels <= np.array([width, height]) - 0.5 + 1e-6).all()


def test_a_straight_camera_uses_its_whole_picture_and_an_offset_one_says_where_it_looks():
    straight = nominal(0.5, 200, 100)
    assert footprint(straight, 200, 100) == Footprint(100.0, 50.0, 0.0, 0.0)
    aside = Affine(straight.matrix + np.array([[0, 0, 7.0], [0, 0, -3.0]]), np.zeros((6, 6)))
    [tile] = plan_tiles(
        TilingSettings(area=RectangleArea(width_um=40, height_um=40), approach="any"),
        footprint(aside, 200, 100),
        LIMITS,
    )
    assert (tile.x_um, tile.y_um) == pytest.approx((13.0, 23.0))
    assert (tile.centre_x_um, tile.centre_y_um) == pytest.approx((20.0, 20.0))


def test_approach_goes_back_only_on_the_axis_that_would_come_from_beyond():
    plan = TilingSettings(approach="same_side", overshoot_um=10)
    assert approach((5.0, 5.0), (0.0, 0.0), plan) == ((5.0, 5.0),)
    assert approach((5.0, 5.0), (9.0, 0.0), plan) == ((-5.0, 5.0), (5.0, 5.0))
    assert approach((5.0, 5.0), None, plan) == ((-5.0, -5.0), (5.0, 5.0))
