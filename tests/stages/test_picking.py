"""The picking list: nothing unsafe is picked, nothing is left out without a reason, and the way is short."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hspc_live.settings.chamber import PickingSettings, PositionSettings, StageLimits
from hspc_live.stages.looks import Look
from hspc_live.stages.mosaic import Seen
from hspc_live.stages.path import length_um, short_path
from hspc_live.stages.picking import LeftOut, Neighbourhood, Wanted, make_picking_list, place_later, place_now

MINUTE = 60_000_000_000
PICK = PickingSettings(tolerance_um=6.0, clear_um=20.0)
POSITION = PositionSettings(repeatability_um=1.0, creep_um_per_sqrt_min=0.3, k_sigma=3.0)
LIMITS = StageLimits(x_min_um=-2000, x_max_um=2000, y_min_um=-2000, y_max_um=2000)
CLASSES = ("LT-HSC", "MPP")


def seen(number, x, y, *, sd=0.2, radius=4.0, at=0, border=100.0):
    kept = Look(0, number, at, x, y, 0.1, radius, border, 1.0, True)
    return Seen(number, x, y, sd, radius, at, kept, (kept,))


def wanted(number, rank=0.9):
    return Wanted(number, "keep", "LT-HSC", (rank, 1 - rank), rank, 8.0)


def listing(wants, objects, now_ns=0, settings=PICK, **kwargs):
    return make_picking_list(wants, objects, CLASSES, now_ns, settings, POSITION, LIMITS, **kwargs)


def test_each_reason_is_booked():
    objects = [
        seen(0, 0, 0),
        seen(1, 100, 0),
        seen(2, 115, 0, radius=1.0),  # debris beside 1
        seen(3, 3000, 0),
        seen(4, 200, 0, sd=3.0),
        seen(5, 300, 0, at=-1000 * MINUTE),
        seen(6, 400, 0, border=5.0),
        seen(7, 500, 0),
    ]
    wants = [*(wanted(n) for n in (0, 1, 3, 4, 5, 6)), wanted(7, 0.5)]
    found = listing(wants, objects, settings=PICK.model_copy(update={"top": 1}))
    assert dict(found.left_out) == {
        1: LeftOut.NEIGHBOUR_TOO_NEAR,
        3: LeftOut.OUT_OF_REACH,
        4: LeftOut.POSITION_UNCERTAIN,
        5: LeftOut.EXPIRED,
        6: LeftOut.SURROUNDINGS_UNSEEN,
        7: LeftOut.OVER_TOP,
    }
    [pick] = found.picks
    assert (pick.cell, pick.order, pick.outlet, pick.nearest_um) == (0, 1, "keep", 100.0)
    books = found.ledger()
    assert books["wanted"] == books["picked"] + sum(books["left_out"].values()) == 7


crowds = st.lists(
    st.tuples(st.floats(-2500, 2500), st.floats(-2500, 2500), st.floats(0, 3), st.floats(0.5, 30), st.integers(0, 400)),
    max_size=40,
)


@given(crowds, st.sets(st.integers(0, 39)), st.integers(0, 500), st.none() | st.integers(1, 5))
@settings(max_examples=80, deadline=None)
def test_the_books_balance_and_every_pick_is_safe(crowd, chosen, now_min, top):
    objects = [seen(n, x, y, sd=sd, radius=r, at=at * MINUTE) for n, (x, y, sd, r, at) in enumerate(crowd)]
    wants = [wanted(n, 0.5 + n / 100) for n in sorted(chosen) if n < len(objects)]
    found = listing(wants, objects, now_min * MINUTE, PICK.model_copy(update={"top": top}))
    named = [pick.cell for pick in found.picks] + [cell for cell, _ in found.left_out]
    assert sorted(named) == [cell.number for cell in wants]
    assert [pick.order for pick in found.picks] == list(range(1, len(found.picks) + 1))
    assert top is None or len(found.picks) <= top
    for pick in found.picks:
        me = objects[pick.cell]
        gaps = [math.dist((me.x_um, me.y_um), (o.x_um, o.y_um)) - o.radius_um for o in objects if o.number != pick.cell]
        assert all(gap >= PICK.clear_um for gap in gaps)
        assert pick.expires_in_s > 0 and POSITION.k_sigma * pick.pick_sd_um <= PICK.tolerance_um + 1e-6
        assert abs(pick.x_um) <= 2000 and abs(pick.y_um) <= 2000
    if top is not None and len(found.picks) == top:
        over = [cell for cell, reason in found.left_out if reason is LeftOut.OVER_TOP]
        assert max(over, default=-1) < min(pick.cell for pick in found.picks)


def test_95_of_100_picks_are_within_their_plus_minus():
    objects = [seen(0, 0.0, 0.0, sd=0.5)]
    [pick] = listing([wanted(0, 1.0)], objects, 5 * MINUTE, PICK).picks
    creep = POSITION.creep_um_per_sqrt_min * math.sqrt(5)
    rng = np.random.default_rng(3)
    off = sum(rng.normal(0, sd, (20_000, 2)) for sd in (0.5, creep, POSITION.repeatability_um))
    assert np.mean(np.hypot(*np.transpose(off)) <= pick.plus_minus_um) == pytest.approx(0.95, abs=0.006)


@given(st.floats(0, 1.5), st.floats(0.01, 2), st.floats(0, 3), st.integers(0, 300))
@settings(max_examples=200)
def test_at_expiry_the_uncertainty_just_fills_the_tolerance(sd, creep, drift, age_min):
    position = POSITION.model_copy(update={"creep_um_per_sqrt_min": creep, "drift_um_per_min": drift})
    now, left_s = place_now(seen(0, 0, 0, sd=sd, at=0), age_min * MINUTE, PICK, position)
    if left_s >= 0:
        assert 3.0 * place_later(now, left_s, position) == pytest.approx(6.0, rel=1e-6)
        assert place_later(now, left_s / 2, position) <= place_later(now, left_s, position)
    else:
        assert 3.0 * now > 6.0


def test_a_stage_that_drifts_shortens_the_time_to_expiry_but_not_for_what_is_past():
    """What the stage drifted before the list was made, the fields have told; cells have crept all the while."""
    drifting = POSITION.model_copy(update={"drift_um_per_min": 0.5})
    steady = POSITION.model_copy(update={"drift_um_per_min": 0.0})
    cell = seen(0, 0, 0, at=-5 * MINUTE)
    (sd, left), (same, longer) = (place_now(cell, 0, PICK, position) for position in (drifting, steady))
    assert sd == same and 60 < left < longer
    assert place_later(sd, 600.0, drifting) ** 2 - sd**2 == pytest.approx(0.3**2 * 10 + 5.0**2)


def test_a_stage_that_does_not_come_back_well_makes_every_place_uncertain():
    coarse = POSITION.model_copy(update={"repeatability_um": 2.5})
    found = make_picking_list([wanted(0)], [seen(0, 0, 0, sd=0.0)], CLASSES, 0, PICK, coarse, LIMITS)
    assert found.left_out == ((0, LeftOut.POSITION_UNCERTAIN),)


def test_cells_that_stay_never_expire():
    still = POSITION.model_copy(update={"creep_um_per_sqrt_min": 0.0, "drift_um_per_min": 0.0})
    assert place_now(seen(0, 0, 0), 1000 * MINUTE, PICK, still)[1] == math.inf
    assert place_now(seen(0, 0, 0, sd=5.0), 0, PICK, still)[1] == -math.inf


def test_a_large_clump_counts_by_its_edge_even_if_a_speck_is_nearer():
    objects = [seen(0, 0, 0), seen(1, 40, 0, radius=0.5), seen(2, 0, 100, radius=90.0)]
    around = Neighbourhood(objects, 3.0)
    assert around.nearest_um(0) == 40.0
    assert around.clearance_um(0) == pytest.approx(10.0, abs=1.0)
    assert Neighbourhood(objects[:1], 3.0).clearance_um(0) == math.inf


def test_the_brightest_share_is_picked():
    objects = [seen(n, 60.0 * (n % 20), 60.0 * (n // 20)) for n in range(200)]
    wants = [wanted(n, float(n * 37 % 200)) for n in range(200)]
    found = listing(wants, objects, settings=PICK.model_copy(update={"top_percent": 3.0}))
    assert sorted(pick.rank for pick in found.picks) == [194.0, 195.0, 196.0, 197.0, 198.0, 199.0]
    assert found.ledger()["left_out"] == {"over_top": 194}
    both = PICK.model_copy(update={"top_percent": 3.0, "top": 2})
    assert sorted(pick.rank for pick in listing(wants, objects, settings=both).picks) == [198.0, 199.0]


def test_unknown_or_repeated_cells_are_refused_and_nobody_wanted_is_an_empty_list():
    with pytest.raises(ValueError, match="objects of the mosaic"):
        listing([wanted(5)], [seen(0, 0, 0)])
    with pytest.raises(ValueError, match="named once"):
        listing([wanted(0), wanted(0)], [seen(0, 0, 0)])
    assert listing([], []).ledger() == {"wanted": 0, "picked": 0, "left_out": {}}


places = st.lists(st.tuples(st.floats(-1000, 1000), st.floats(-1000, 1000)), max_size=40).map(
    lambda values: np.array(values, np.float64).reshape(-1, 2)
)


@given(places, st.none() | st.tuples(st.floats(-1000, 1000), st.floats(-1000, 1000)))
@settings(max_examples=80, deadline=None)
def test_a_path_visits_all_once_and_no_turning_round_shortens_it(points, start):
    order = short_path(points, start)
    assert sorted(order) == list(range(len(points)))
    length = length_um(points, order, start)
    for i, j in itertools.combinations(range(len(order)), 2):
        turned = order[:i] + order[i : j + 1][::-1] + order[j + 1 :]
        assert length_um(points, turned, start) >= length - 1e-3


@given(st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_a_path_is_near_the_shortest_of_all(seed):
    points = np.random.default_rng(seed).uniform(0, 100, (7, 2))
    best = min(length_um(points, list(order), (0.0, 0.0)) for order in itertools.permutations(range(7)))
    assert length_um(points, short_path(points, (0.0, 0.0)), (0.0, 0.0)) <= 1.35 * best


def test_a_random_path_comes_near_the_known_length_of_the_best():
    points = np.random.default_rng(1).uniform(0, 1000, (400, 2))
    # Beardwood, Halton & Hammersley: 0.7124 √(n·area), and a little more for few points
    assert length_um(points, short_path(points)) < 1.15 * 0.7124 * math.sqrt(400) * 1000 * (1 + 0.33 / 20)
