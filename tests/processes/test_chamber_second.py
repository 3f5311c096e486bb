"""Pick targets of the second visit: no cell is picked that the fresh picture does not clear."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hspc_live.core.chamber import Revisited
from hspc_live.processes.chamber_second import pick_targets
from hspc_live.settings.chamber import ChamberSettings, PickingSettings, PositionSettings, StageLimits
from hspc_live.stages.looks import Look
from hspc_live.stages.revisit import Lost, Picture

EDGE = 250.0  # µm, of the fresh pictures
CLEAR = 20.0
SETTINGS = ChamberSettings(
    picking=PickingSettings(clear_um=CLEAR, tolerance_um=6.0), position=PositionSettings(repeatability_um=1.0)
)
LIMITS = StageLimits(x_min_um=0, x_max_um=200, y_min_um=0, y_max_um=1000)


def picture(*places, field=7, radius=4.0):
    looks = tuple(
        Look(field, view, 0, x, y, 0.1, radius, min(x, y, EDGE - x, EDGE - y), 1.0, True)
        for view, (x, y) in enumerate(places)
    )
    return Picture(field, 0, 0.0, 0.0, EDGE, EDGE, looks)


def again(number, x, y, field=7, sd=0.1, lost=""):
    return Revisited(number, field, lost, x, y, 0.0, 0.0, sd)


def test_each_reason_keeps_a_cell_from_being_picked():
    fresh = picture((100, 100), (100, 120), (100, 15), (220, 100), (60, 200), (150, 235))
    cells = [
        again(0, 100, 100),  # the edge of its neighbour is 16 µm away
        again(1, 100, 15),  # at the border of the fresh picture
        again(2, 220, 100),  # beyond the limits
        again(3, 60, 200, sd=3.0),
        again(4, 0, 0, lost=Lost.GONE.value),
        again(5, 60, 200),
        again(6, 150, 235),
    ]
    targets, kept_from = pick_targets(cells, [fresh], SETTINGS, None, LIMITS, 40)
    assert [(target.target, target.x_um, target.y_um, target.cell) for target in targets] == [(40, 60, 200, 5)]
    assert kept_from == {
        "neighbour_too_near": 1, "out_of_reach": 1, "position_uncertain": 1, "surroundings_unseen": 2,
    }  # fmt: skip


places = st.lists(st.tuples(st.floats(0, EDGE), st.floats(0, EDGE)), min_size=1, max_size=12, unique=True)


@given(places)
def test_around_every_target_the_fresh_picture_shows_nothing_as_far_as_must_be_clear(crowd):
    cells = [again(number, x, y) for number, (x, y) in enumerate(crowd)]
    targets, kept_from = pick_targets(cells, [picture(*crowd)], SETTINGS, None, LIMITS, 0)
    assert len(targets) + sum(kept_from.values()) == len(crowd)
    for target in targets:
        assert all(CLEAR <= value <= EDGE - CLEAR for value in (target.x_um, target.y_um))
        gaps = [((x - target.x_um) ** 2 + (y - target.y_um) ** 2) ** 0.5 - 4.0 for x, y in crowd]
        assert sum(gap < CLEAR for gap in gaps) == 1, "itself alone"
