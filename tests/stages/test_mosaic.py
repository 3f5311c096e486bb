"""Cells seen in many fields stand once in the list, and the stage's errors between fields are found and taken out."""

from __future__ import annotations

import math
import random
import time
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from hspc_live.settings.chamber import MosaicSettings, PositionSettings
from hspc_live.stages.looks import Look
from hspc_live.stages.mosaic import Calibrated, build_mosaic
from hspc_live.stages.offsets import Adjustment, Link, Offset, agreed_offset, common_offset
from hspc_live.stages.tiling import Footprint

SETTINGS, POSITION = MosaicSettings(), PositionSettings()
RADIUS = 4.0
MINUTE = 60_000_000_000


def look(field, view, x, y, **kwargs):
    given = {"sd_um": 0.1, "radius_um": RADIUS, "border_um": 20.0, "sharpness": 1.0, "accepted": True, "whole": True}
    return Look(field, view, kwargs.pop("at", field) * 2_000_000_000, x, y, **{**given, **kwargs})


def apart(rng, n, extent, least=2 * RADIUS + 0.5):
    """Places of cells that do not overlap."""
    places = rng.uniform(0, extent, (n, 2))
    close = cKDTree(places).query_pairs(least, output_type="ndarray")
    return np.delete(places, np.unique(close[:, 1]), axis=0)


def film(rng, cells, side, field_um, *, step_share=0.9, jitter=0.1, errors=None, centroid=0.1):
    """Looks of `side` × `side` fields at `cells`; (looks, whose they are). What the border cuts is seen in part."""
    looks, owner = [], {}
    for number in range(side * side):
        row, column = divmod(number, side)
        column = side - 1 - column if row % 2 else column
        reported = field_um / 2 + np.array([column, row]) * field_um * step_share
        error = rng.normal(0, jitter, 2) if errors is None else errors[number]
        centre = reported - error
        inside = field_um / 2 - np.abs(cells - centre).max(axis=1)
        for view, cell in enumerate(np.flatnonzero(inside > -RADIUS / 2)):
            whole = bool(inside[cell] >= RADIUS)
            place = cells[cell] + rng.normal(0, centroid, 2)
            if not whole:
                low, high = centre - field_um / 2, centre + field_um / 2
                place = (np.maximum(cells[cell] - RADIUS, low) + np.minimum(cells[cell] + RADIUS, high)) / 2
            x, y = place + error
            looks.append(look(number, view, x, y, border_um=max(float(inside[cell]), 0.0), whole=whole, accepted=whole))
            owner[number, view] = int(cell)
    return looks, owner


def owners(mosaic, owner):
    return [{owner[look.field, look.view] for look in seen.looks} for seen in mosaic.objects]


def test_a_hundred_fields_with_slip_and_drift_list_no_cell_twice_and_merge_no_two():
    rng = np.random.default_rng(4)
    side, field = 10, 256.0
    cells = apart(rng, 2300, field * (1 + 0.9 * 9))
    slips = np.where(rng.random((side * side, 1)) < 0.03, rng.normal(0, 2.0, (side * side, 2)), 0).cumsum(axis=0)
    drift = np.linspace(0, 3, side * side)[:, None] * (1.0, 0.5)
    errors = slips + drift + rng.normal(0, 0.1, (side * side, 2))
    looks, owner = film(rng, cells, side, field, errors=errors)
    mosaic = build_mosaic(looks, SETTINGS, POSITION)
    assert all(len(whose) == 1 for whose in owners(mosaic, owner))
    whole = [owner[seen.kept.field, seen.kept.view] for seen in mosaic.objects if seen.kept.whole]
    assert len(whole) == len(set(whole))
    assert len(mosaic.objects) + mosaic.duplicates == len(looks) == sum(len(seen.looks) for seen in mosaic.objects)
    found = np.array([(mosaic.offsets[f].dx_um, mosaic.offsets[f].dy_um) for f in range(side * side)])
    misses = np.hypot(*(found - errors + errors[-1] - (found - errors + errors[-1]).mean(axis=0)).T)
    assert np.median(misses) < 0.3 < np.hypot(*(errors - errors.mean(axis=0)).T).max()
    shift = (found - errors).mean(axis=0)  # the whole chamber may stand elsewhere: only the last field's error says
    off = [
        math.dist((seen.x_um, seen.y_um), cells[owner[seen.kept.field, seen.kept.view]] - shift)
        for seen in mosaic.objects
        if seen.kept.whole
    ]
    assert np.median(off) < 0.5


def test_without_taking_out_the_offsets_the_same_cells_would_stand_twice():
    """What the estimate is for: here fields are off by more than any two looks at one cell may be apart."""
    rng = np.random.default_rng(5)
    cells = apart(rng, 300, 500.0)
    errors = np.array([(0.0, 0.0), (6.0, -5.0), (0.0, 0.0), (6.0, 5.0)])
    looks, owner = film(rng, cells, 2, 256.0, errors=errors)
    mosaic = build_mosaic(looks, SETTINGS, POSITION)
    whole = [owner[seen.kept.field, seen.kept.view] for seen in mosaic.objects if seen.kept.whole]
    assert len(whole) == len(set(whole))
    assert mosaic.offsets[1].dx_um - mosaic.offsets[0].dx_um == pytest.approx(6.0, abs=0.5)
    none = build_mosaic(looks, SETTINGS.model_copy(update={"min_common": 10_000, "step_sd_um": 0.01}), POSITION)
    assert len(none.objects) > len(mosaic.objects)


scattered = st.builds(
    lambda seed, n, jitter: (seed, n, jitter), st.integers(0, 10_000), st.integers(0, 120), st.floats(0, 1.0)
)


@given(scattered)
@settings(max_examples=40, deadline=None)
def test_every_look_is_in_one_object_and_no_object_has_two_of_a_field(case):
    seed, n, jitter = case
    rng = np.random.default_rng(seed)
    looks, _ = film(rng, apart(rng, n, 180.0), 2, 100.0, step_share=0.8, jitter=jitter)
    mosaic = build_mosaic(looks, SETTINGS, POSITION)
    assert Counter(look for seen in mosaic.objects for look in seen.looks) == Counter(looks)
    for seen in mosaic.objects:
        assert len({look.field for look in seen.looks}) == len(seen.looks)
        assert seen.kept in seen.looks and seen.sd_um > 0
        places = [(a.x_um, a.y_um) for a in seen.looks if a.whole]
        assert all(math.dist(a, b) <= SETTINGS.max_merge_um + 6 for a in places for b in places)
    assert [seen.number for seen in mosaic.objects] == list(range(len(mosaic.objects)))
    shuffled = random.Random(seed).sample(looks, len(looks))
    again = build_mosaic(shuffled, SETTINGS, POSITION)
    assert again.objects == mosaic.objects


@given(st.floats(0, 2 * math.pi), st.floats(2 * RADIUS + 1.5, 30), st.booleans())
@settings(max_examples=60, deadline=None)
def test_two_real_neighbours_stay_two(turn, distance, third_field):
    dx, dy = distance * math.cos(turn), distance * math.sin(turn)
    looks = [look(0, 0, 0, 0), look(0, 1, dx, dy), look(1, 0, 0.2, 0), look(1, 1, dx + 0.2, dy)]
    if third_field:  # sees only the second of them
        looks.append(look(2, 0, dx, dy + 0.2))
    mosaic = build_mosaic(looks, SETTINGS, POSITION)
    assert sorted(len(seen.looks) for seen in mosaic.objects) == [2, 3 if third_field else 2]


def test_the_look_farther_from_the_border_is_kept_then_the_sharper_one():
    near, far = look(0, 0, 0, 0, border_um=5.0, sharpness=9.0), look(1, 0, 0.1, 0, border_um=7.0, sharpness=1.0)
    [seen] = build_mosaic([near, far], SETTINGS, POSITION).objects
    assert seen.kept == far
    clear = replace(near, border_um=30.0), replace(far, border_um=90.0)
    [seen] = build_mosaic(clear, SETTINGS, POSITION).objects
    assert seen.kept == clear[0], "both are clear of the border, so focus decides"
    refused = replace(near, border_um=90.0, accepted=False)
    [seen] = build_mosaic([refused, far], SETTINGS, POSITION).objects
    assert seen.kept == far


def test_a_cell_cut_by_one_border_and_whole_beyond_is_one_cell_where_it_is_whole():
    cut = look(0, 0, 3.8, 0.0, whole=False, accepted=False, border_um=0.0, radius_um=2.0)
    whole = look(1, 0, 0.0, 0.0)
    [seen] = build_mosaic([cut, whole], SETTINGS, POSITION).objects
    assert seen.kept == whole and (seen.x_um, seen.y_um) == pytest.approx((0.0, 0.0), abs=0.2)
    [alone] = build_mosaic([cut], SETTINGS, POSITION).objects
    assert alone.sd_um > 2.0, "half of it is missing"


def test_a_chain_of_looks_is_not_one_object():
    """Each is near the next, but the ends are too far apart to be one cell."""
    chain = [look(0, 0, 0.0, 0.0), look(1, 0, 3.0, 0.0), look(2, 0, 6.0, 0.0)]
    assert sorted(len(seen.looks) for seen in build_mosaic(chain, SETTINGS, POSITION).objects) == [1, 2]
    two_of_a_field = [look(0, 0, 0.0, 0.0), look(1, 0, 1.5, 0.0), look(2, 0, 3.0, 0.0), look(0, 1, 4.5, 0.0)]
    for seen in build_mosaic(two_of_a_field, SETTINGS, POSITION).objects:
        assert len({one.field for one in seen.looks}) == len(seen.looks)


def test_a_false_link_does_not_bend_the_chamber():
    ring = [(0, 1), (1, 2), (2, 3), (0, 3), (1, 3)]
    links = [Link(a, b, Offset(0.0, 0.0, 0.1, 10)) for a, b in ring]
    false = Link(0, 2, Offset(8.0, 0.0, 0.1, 3))
    found = Adjustment([0, 1, 2, 3], [*links, false], SETTINGS).offsets
    assert max(math.hypot(offset.dx_um, offset.dy_um) for offset in found.values()) < 0.5
    assert found[3].links == 3 and found[3].sd_um < 0.01 < found[0].sd_um


def test_older_looks_at_a_creeping_cell_weigh_less():
    fast = POSITION.model_copy(update={"creep_um_per_sqrt_min": 1.0})
    old, new = look(0, 0, 0.0, 0.0, at=0), look(1, 0, 1.0, 0.0, at=60)
    [seen] = build_mosaic([old, new], SETTINGS, fast).objects
    assert seen.x_um > 0.9 and seen.seen_ns == new.captured_ns


def test_nothing_and_nonsense():
    assert build_mosaic([], SETTINGS, POSITION).objects == ()
    with pytest.raises(ValueError, match="same field and view"):
        build_mosaic([look(0, 0, 1, 1), look(0, 0, 2, 2)], SETTINGS, POSITION)
    with pytest.raises(ValueError, match="finite"):
        build_mosaic([look(0, 0, math.nan, 1)], SETTINGS, POSITION)


@given(st.integers(0, 1000), st.floats(-10, 10), st.floats(-5, 5), st.integers(4, 60), st.floats(0, 0.4))
@settings(max_examples=60, deadline=None)
def test_an_offset_is_found_among_strangers(seed, dx, dy, n, strangers):
    rng = np.random.default_rng(seed)
    first = apart(rng, n, 400.0)
    extra = rng.uniform(0, 400, (int(strangers * len(first)), 2))
    second = np.vstack([first + np.array([dx, dy]) + rng.normal(0, 0.1, first.shape), extra])
    found = common_offset(first, rng.permutation(second), 0.6, SETTINGS)
    if len(first) >= 4:
        assert found is not None
        assert math.dist((found.dx_um, found.dy_um), (dx, dy)) < 0.3
        assert found.common >= len(first) * 0.9


def test_strangers_agree_no_more_often_than_chance_may():
    believed = 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        first, second = (apart(rng, 60, 300.0) for _ in range(2))
        believed += common_offset(first, second, 0.5, SETTINGS.model_copy(update={"chance": 0.01})) is not None
    assert believed <= 12, "4 of 400 are to be expected"


def test_cells_on_a_grid_fit_in_many_ways_so_in_none():
    grid = np.stack(np.meshgrid(np.arange(8) * 10.0, np.arange(8) * 10.0), axis=-1).reshape(-1, 2)
    assert common_offset(grid, grid + np.array([4.0, 0.0]), 0.5, SETTINGS) is None
    differences, numbers = np.zeros((2, 2)), np.arange(2)
    assert agreed_offset(differences, numbers, numbers, 0.5, SETTINGS) is None, "two are fewer than min_common"


def test_ten_thousand_cells_are_joined_in_seconds():
    rng = np.random.default_rng(2)
    cells = apart(rng, 13_000, 512 * 9.1)
    looks, _ = film(rng, cells, 10, 512.0)
    assert len(looks) > 10_000
    begun = time.process_time()
    build_mosaic(looks, SETTINGS, POSITION)
    assert time.process_time() - begun < 20


@pytest.mark.parametrize("drift", [0.0, 3.0])
def test_an_error_of_the_calibration_does_not_add_up_from_field_to_field(drift):
    """A thousandth of scale and turn is 0.2 µm between neighbours, and 2 µm from one end to the other."""
    rng = np.random.default_rng(6)
    side, field = 8, 256.0
    step = field * 0.9
    cells = apart(rng, 4000, field * (1 + 0.9 * (side - 1)))
    slips = np.where(rng.random((side * side, 1)) < 0.03, rng.normal(0, 2.0, (side * side, 2)), 0).cumsum(axis=0)
    errors = slips + np.linspace(0, drift, side * side)[:, None] * (1.0, -0.5)
    straight, owner = film(rng, cells, side, field, errors=errors)
    places, looks = {}, []
    wrong = np.array([[1.2e-3, -6e-4], [8e-4, 1.5e-3]])
    for one in straight:
        row, column = divmod(one.field, side)
        column = side - 1 - column if row % 2 else column
        places[one.field] = (field / 2 + column * step, field / 2 + row * step)
        dx, dy = wrong @ (one.x_um - places[one.field][0], one.y_um - places[one.field][1])
        looks.append(replace(one, x_um=one.x_um + dx, y_um=one.y_um + dy))

    def misses(mosaic):
        seen = [seen for seen in mosaic.objects if seen.kept.whole]
        true = np.array([cells[owner[s.kept.field, s.kept.view]] for s in seen]) + errors[-1]
        off = np.hypot(*(np.array([(s.x_um, s.y_um) for s in seen]) - true).T)
        return off, np.array([s.sd_um for s in seen])

    plain, _ = misses(build_mosaic(looks, SETTINGS, POSITION))
    position = POSITION.model_copy(update={"drift_um_per_min": 1.0})
    off, sd = misses(build_mosaic(looks, SETTINGS, position, Calibrated(places, 1e-3)))
    assert np.median(plain) > 2 * np.median(off) and np.median(plain) > 0.5
    assert np.mean(off <= 2.45 * sd) > 0.9
    one_field = build_mosaic([one for one in looks if one.field == 0], SETTINGS, position, Calibrated(places, 1e-3))
    assert len(one_field.objects) == sum(one.field == 0 for one in looks)


# ---- a stage that is worse than it is said to be ---------------------------------------------------------------------


def snake(side, step, field):
    """Where the stage says it is at each field of `film`."""
    places = {}
    for number in range(side * side):
        row, column = divmod(number, side)
        places[number] = (field / 2 + (side - 1 - column if row % 2 else column) * step, field / 2 + row * step)
    return places


def off_by(mosaic, owner, cells, last):
    """How far each whole object lies from where its cell is by the stage's last reading, and its ±."""
    seen = [seen for seen in mosaic.objects if seen.kept.whole]
    true = np.array([cells[owner[one.kept.field, one.kept.view]] for one in seen]) + last
    off = np.hypot(*(np.array([(one.x_um, one.y_um) for one in seen]) - true).T)
    return off, np.array([one.sd_um for one in seen])


@pytest.mark.parametrize("play", [8.0, 30.0])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_play_that_nobody_spoke_of_is_found_or_owned_up_to(play, seed):
    """Row after row is come to from the other side: so many cells are shared by two rows, and so few by two fields."""
    rng = np.random.default_rng(seed)
    side, field = 5, 256.0
    cells = apart(rng, 620, field * (1 + 0.9 * (side - 1)), 14.0)
    errors = np.array([(play / 2 * (-1) ** (number // side), 0.0) for number in range(side * side)])
    looks, owner = film(rng, cells, side, field, errors=errors)
    calibration = Calibrated(snake(side, 0.9 * field, field), 1e-3, Footprint(field, field))
    mosaic = build_mosaic(looks, SETTINGS, POSITION, calibration)
    off, sd = off_by(mosaic, owner, cells, errors[-1])
    sure = POSITION.k_sigma * sd < 6.0
    assert np.mean(off[sure] <= 3.0) > 0.98  # what is said to be sure is
    if play < SETTINGS.max_offset_um:
        assert mosaic.unsteady_um is not None and mosaic.unsteady_um > 1.5
        assert np.median(off) < 1.0
    else:
        assert len(mosaic.in_doubt) >= 2 * side


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_a_stage_as_good_as_said_is_not_doubted(seed):
    rng = np.random.default_rng(seed)
    side, field = 6, 256.0
    cells = apart(rng, 900, field * (1 + 0.9 * (side - 1)), 14.0)
    slips = np.where(rng.random((side * side, 1)) < 0.03, rng.normal(0, 2.0, (side * side, 2)), 0).cumsum(axis=0)
    looks, _ = film(rng, cells, side, field, errors=slips)
    kept = [one for one in looks if rng.random() > 0.05]  # the odd cell is not found
    calibration = Calibrated(snake(side, 0.9 * field, field), 1e-3, Footprint(field, field))
    mosaic = build_mosaic(kept, SETTINGS, POSITION, calibration)
    assert mosaic.unsteady_um is None and not mosaic.in_doubt
