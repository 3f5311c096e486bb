"""Cells looked for again: found where they are, lost by reason, and the stage's error is not booked as theirs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hspc_live.settings.chamber import MosaicSettings, PositionSettings, RevisitSettings
from hspc_live.stages.looks import Look
from hspc_live.stages.mosaic import Seen
from hspc_live.stages.revisit import Lost, Picture, match_revisit

SETTINGS, MOSAIC, POSITION = RevisitSettings(), MosaicSettings(), PositionSettings()
SIZE = 300.0
LATER = 600_000_000_000


def seen(number, x, y, **kwargs):
    kept = Look(0, number, 0, x, y, 0.1, 4.0, 50.0, 1.0, True, **kwargs)
    return Seen(number, x, y, 0.1, 4.0, 0, kept, (kept,))


def now(view, x, y, *, accepted=True, whole=True):
    return Look(0, view, LATER, x, y, 0.1, 4.0, 50.0, 1.0, accepted, whole)


def picture(looks, x0=0.0, y0=0.0, field=0):
    return Picture(field, LATER, x0, y0, x0 + SIZE, y0 + SIZE, tuple(looks))


def spread(rng, n):
    grid = [(x, y) for x in range(20, 281, 26) for y in range(20, 281, 26)]
    return np.array([grid[i] for i in rng.permutation(len(grid))[:n]]) + rng.uniform(-7, 7, (n, 2))


def revisit(listed, objects, pictures):
    return match_revisit(listed, objects, pictures, SETTINGS, MOSAIC, POSITION)


@given(st.integers(0, 1000), st.floats(-8, 8), st.floats(-8, 8), st.integers(15, 60))
@settings(max_examples=50, deadline=None)
def test_the_stages_error_is_taken_out_and_the_cells_own_remain(seed, dx, dy, n):
    rng = np.random.default_rng(seed)
    places = spread(rng, n)
    crept = rng.normal(0, 0.3, places.shape)
    objects = [seen(i, *place) for i, place in enumerate(places)]
    looks = [now(i, *place) for i, place in enumerate(places + crept + (dx, dy))]
    found = revisit(objects, objects, [picture(looks)])
    [(_, offset)] = found.offsets
    assert offset is not None and math.dist((offset.dx_um, offset.dy_um), (dx, dy)) < 0.6
    shown = [cell for cell in found.cells if cell.lost is None]
    assert len(shown) == sum(cell.lost is not Lost.NOT_IN_PICTURE for cell in found.cells)
    for cell in shown:
        assert cell.error_um == pytest.approx(np.hypot(*crept[cell.cell]), abs=0.7)
        assert (cell.x_um, cell.y_um) == pytest.approx(tuple(places[cell.cell] + crept[cell.cell] + (dx, dy)))
    if shown:
        assert found.report()["median_error_um"] < 1.0


def test_lost_cells_are_lost_by_reason_and_the_books_balance():
    rng = np.random.default_rng(2)
    places = spread(rng, 40)
    places[:5] = [(60, 60), (90, 60), (150, 150), (296, 150), (900, 900)]
    places[5:] = [p for p in spread(rng, 80) if min(math.dist(p, q) for q in places[:4]) > 15][:35]
    objects = [seen(i, *place) for i, place in enumerate(places)]
    looks = [now(i, *place) for i, place in enumerate(places) if i not in (0, 4)]
    looks[0] = now(1, *places[1], accepted=False)
    found = revisit(objects[:5], objects, [picture(looks)])
    assert [cell.lost for cell in found.cells] == [
        Lost.GONE,
        Lost.NO_CELL,
        None,
        Lost.NOT_IN_PICTURE,
        Lost.NOT_IN_PICTURE,
    ]
    report = found.report()
    assert report["listed"] == report["found"] + sum(report["lost"].values()) == 5
    assert report["refound_fraction"] == pytest.approx(1 / 3)


def test_a_cell_that_left_is_not_taken_for_the_neighbour_that_stayed():
    objects = [seen(0, 100, 100), seen(1, 109, 100), *(seen(i, 30 * i, 250) for i in range(2, 9))]
    looks = [now(i, o.x_um, o.y_um) for i, o in enumerate(objects) if i != 0]
    found = revisit(objects[:2], objects, [picture(looks)])
    assert [cell.lost for cell in found.cells] == [Lost.GONE, None]
    assert found.cells[1].error_um < 0.01


def test_a_cell_s_own_error_does_not_pull_the_stage_s_towards_it():
    """With few cells an offset fitted to all of them would hide part of every error."""
    rng = np.random.default_rng(6)
    objects = [seen(i, *place) for i, place in enumerate([(60, 60), (200, 80), (90, 220), (230, 230)])]
    squares = []
    for _ in range(150):
        looks = [now(i, *(np.array([o.x_um, o.y_um]) + rng.normal(0, 0.15, 2))) for i, o in enumerate(objects)]
        found = revisit(objects, objects, [picture(looks)])
        squares += [cell.error_um**2 for cell in found.cells if found.offsets[0][1] is not None]
    assert len(squares) > 300 and np.mean(squares) > 2 * 0.15**2


def test_a_field_with_a_single_cell_cannot_tell_stage_from_cell_and_says_so():
    alone = seen(0, 150, 150)
    found = revisit([alone], [alone], [picture([now(0, 152, 150)])])
    assert found.offsets == ((0, None),)
    assert found.cells[0].error_um == pytest.approx(2.0)
    assert found.report()["fields"][0]["common_cells"] == 0


def test_a_cell_in_two_pictures_is_judged_where_it_lies_deeper_inside():
    objects = [seen(0, 280, 150), *(seen(i, 200 + 20 * i, 40 + 30 * i) for i in range(1, 6))]
    left = picture([])
    right = picture([now(i, o.x_um + 1, o.y_um) for i, o in enumerate(objects)], x0=180.0, field=1)
    for pictures in ([left, right], [right, left]):
        [cell] = revisit(objects[:1], objects, pictures).cells
        assert cell.lost is None and cell.field == 1


def test_no_picture_at_all_leaves_everything_unjudged():
    report = revisit([seen(0, 1, 1)], [seen(0, 1, 1)], []).report()
    assert report["lost"] == {"not_in_picture": 1} and report["refound_fraction"] is None
    assert revisit([], [], [picture([])]).report()["listed"] == 0


def test_where_two_cells_may_be_it_neither_is_taken():
    """Two cells in the picture are too few to tell the stage's error, which may be as large as they are apart."""
    objects = [seen(0, 150, 150), seen(1, 154, 150)]
    alike = revisit(objects[:1], objects, [picture([now(0, 151, 150), now(1, 155, 150)])])
    assert alike.offsets[0][1] is None and [cell.lost for cell in alike.cells] == [Lost.NOT_SURE_WHICH]
    clear = revisit(objects[:1], objects[:1], [picture([now(0, 151, 150), now(1, 190, 150)])])
    assert [cell.lost for cell in clear.cells] == [None]


def test_a_picture_of_other_cells_is_not_believed():
    """Three neighbours agree by chance, all others are missing: the picture is of another place."""
    rng = np.random.default_rng(8)
    places, others = spread(rng, 45), spread(rng, 45)
    objects = [seen(i, *place) for i, place in enumerate(places)]
    same = np.add(places[:3], (2.0, 1.0))
    far = [place for place in others if np.hypot(*(places - place).T).min() > 9]
    looks = [now(i, *place) for i, place in enumerate([*same, *far])]
    found = revisit(objects, objects, [picture(looks)])
    assert not [cell for cell in found.cells if cell.lost is None]


@pytest.mark.parametrize(("play", "worse"), [(0.5, False), (8.0, True)])
def test_a_stage_that_comes_back_elsewhere_each_time_is_told_from_one_that_drifts(play, worse):
    rng = np.random.default_rng(5)
    places = spread(rng, 30)
    objects = [seen(i, *place) for i, place in enumerate(places)]
    pictures = []
    for number in range(12):
        dx, dy = play / 2 * (-1) ** (number // 2) + 0.2 * number, 0.1 * number
        pictures.append(picture([now(i, *place) for i, place in enumerate(np.add(places, (dx, dy)))], field=number))
    found = revisit(objects, objects, pictures)
    assert (found.unsteady_um is not None) is worse
    if found.unsteady_um is not None:
        assert 2.0 < found.unsteady_um < 8.0
