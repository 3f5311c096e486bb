"""Tracks: identity, velocity and its honesty."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hspc_live.core.values import Detection, Reject
from hspc_live.settings.sort import TrackSettings
from hspc_live.stages.track import Track, Tracker

SETTINGS = TrackSettings()
DT_NS = 10_000_000


def seen(x: float, y: float = 30.0, reject: int = 0, diameter: float = 8.0) -> Detection:
    return Detection(x, y, 50.0, diameter, 0.02, 120.0, 9.0, 3.0, 0, 0, 1, 1, reject)


def step(tracker: Tracker, index: int, *detections: Detection, at_ns: int | None = None) -> list[Track | None]:
    order = sorted(range(len(detections)), key=detections.__getitem__)
    return tracker.step(index, index * DT_NS if at_ns is None else at_ns, detections, order).tracks


def test_one_object_is_one_track() -> None:
    tracker = Tracker(SETTINGS, 100)
    found = [step(tracker, index, seen(20.0 + 40.0 * index))[0] for index in range(6)]
    assert len({id(track) for track in found}) == 1
    track = found[0]
    assert track is not None and track.looks == 6
    assert track.v_um_s == pytest.approx(4000.0, rel=1e-6)
    assert track.predict_x(6 * DT_NS) == pytest.approx(260.0)


def test_velocity_equals_the_weighted_line_through_the_looks() -> None:
    """The filter against the closed form: least squares with the prior velocity as one more observation."""
    dice = np.random.default_rng(3)
    times = np.array([0.0, 0.01, 0.02, 0.04, 0.05])  # a frame was missed
    xs = 15.0 + 4350.0 * times + dice.normal(0, SETTINGS.position_sd_um, times.size)
    track = Track(0, 0, 0, seen(float(xs[0])), SETTINGS)
    for index, (t, x) in enumerate(zip(times[1:], xs[1:], strict=True), start=1):
        track.update(index, round(t * 1e9), seen(float(x)), SETTINGS)
    r = SETTINGS.position_sd_um**2
    design = np.column_stack([np.ones_like(times), times])
    information = design.T @ design / r + np.diag([0.0, 1 / SETTINGS.velocity_sd_um_s**2])
    right = design.T @ xs / r + np.array([0.0, SETTINGS.velocity_um_s / SETTINGS.velocity_sd_um_s**2])
    _, velocity = np.linalg.solve(information, right)
    assert track.v_um_s == pytest.approx(velocity, rel=1e-9)
    assert math.sqrt(track.pvv) == pytest.approx(math.sqrt(np.linalg.inv(information)[1, 1]), rel=1e-6)


def test_the_velocity_error_is_as_large_as_it_says() -> None:
    dice = random.Random(5)
    off = []
    for _ in range(400):
        truth = dice.gauss(4000.0, 300.0)
        tracker = Tracker(SETTINGS, 100)
        track = None
        for index in range(5):
            (track,) = step(tracker, index, seen(10.0 + truth * index * 0.01 + dice.gauss(0, SETTINGS.position_sd_um)))
        assert track is not None and track.looks == 5
        off.append((track.v_um_s - truth) / track.velocity_sd_um_s)
    inside = sum(abs(one) < 2 for one in off) / len(off)
    assert 0.92 < inside <= 1.0
    assert 0.6 < np.std(off) < 1.2


def test_scatter_beyond_the_position_error_widens_the_velocity() -> None:
    straight, crooked = Track(0, 0, 0, seen(10.0), SETTINGS), Track(0, 0, 0, seen(10.0), SETTINGS)
    for index, wobble in enumerate((0.0, 1.5, -1.5, 1.5), start=1):
        straight.update(index, index * DT_NS, seen(10.0 + 40.0 * index), SETTINGS)
        crooked.update(index, index * DT_NS, seen(10.0 + 40.0 * index + wobble), SETTINGS)
    assert crooked.velocity_sd_um_s > 2 * straight.velocity_sd_um_s


@pytest.mark.parametrize(("gap", "kept"), [(1, True), (2, True), (3, False)])
def test_a_track_survives_max_missed_frames_and_no_more(gap: int, kept: bool) -> None:
    tracker = Tracker(SETTINGS, 100)
    for index in range(3):
        (first,) = step(tracker, index, seen(20.0 + 40.0 * index))
    for index in range(3, 3 + gap):
        step(tracker, index)
    (after,) = step(tracker, 3 + gap, seen(20.0 + 40.0 * (3 + gap)))
    assert (after is first) is kept


def test_lost_frames_count_like_unseen_ones() -> None:
    tracker = Tracker(SETTINGS, 100)
    (first,) = step(tracker, 0, seen(20.0))
    assert tracker.expire(2) == []
    assert tracker.expire(3) == [first]
    assert tracker.live == []


def test_prediction_goes_by_captured_time_not_by_frame_number() -> None:
    tracker = Tracker(SETTINGS, 100)
    for index in range(3):
        (first,) = step(tracker, index, seen(20.0 + 40.0 * index))
    (after,) = step(tracker, 3, seen(20.0 + 40.0 * 4.7), at_ns=47_000_000)
    assert after is first


def test_crossing_cells_are_told_apart_by_all_of_the_frame_not_by_the_nearest() -> None:
    """Greedy nearest-first would give the second track's object to the first and leave the rest over."""
    tracker = Tracker(SETTINGS, 100)
    for index in range(3):
        one, two = step(tracker, index, seen(20.0 + 40.0 * index, 30.0), seen(22.2 + 40.0 * index, 30.0))
    (a, b) = step(tracker, 3, seen(20.0 + 120.0 + 1.15, 30.0), seen(22.2 + 120.0 + 1.15, 30.0))
    assert (a, b) == (one, two)


def test_objects_on_other_streamlines_are_never_the_same() -> None:
    tracker = Tracker(SETTINGS, 100)
    (first,) = step(tracker, 0, seen(20.0, 10.0))
    (second,) = step(tracker, 1, seen(60.0, 40.0))
    assert first is not second


def test_a_part_at_the_border_does_not_spoil_the_velocity() -> None:
    whole, cut = Tracker(SETTINGS, 100), Tracker(SETTINGS, 100)
    (entering,) = step(cut, 0, seen(3.0, reject=Reject.BORDER, diameter=6.0))  # really at 0.5: half of it is not seen
    for index in range(1, 5):
        (a,) = step(whole, index, seen(0.5 + 40.0 * index))
        (b,) = step(cut, index, seen(0.5 + 40.0 * index))
    assert a is not None and b is entering
    assert b.v_um_s == pytest.approx(a.v_um_s, rel=0.002)


def test_what_stands_still_stays_one_track_and_is_counted() -> None:
    tracker = Tracker(SETTINGS, 100)
    for index in range(3):
        (moving,) = step(tracker, index, seen(20.0 + 40.0 * index))
    dice = random.Random(1)
    for index in range(3, 33):
        (stuck,) = step(tracker, index, seen(100.0 + dice.gauss(0, 0.3), 30.0 + dice.gauss(0, 0.3)))
        assert stuck is moving
    assert moving is not None and moving.still_frames >= 29
    for index in range(33, 37):
        (freed,) = step(tracker, index, seen(100.0 + 40.0 * (index - 32)))
        assert freed is moving
    assert moving.still_frames == 0
    assert moving.v_um_s == pytest.approx(4000.0, rel=0.02)


def test_at_a_high_frame_rate_standing_and_moving_are_told_apart() -> None:
    stuck, moving = Track(0, 0, 0, seen(20.0), SETTINGS), Track(1, 0, 0, seen(20.0), SETTINGS)
    dice = random.Random(2)
    for index in range(1, 40):
        at = index * 290_000  # 1.2 µm a frame
        stuck.update(index, at, seen(20.0 + dice.gauss(0, 0.3)), SETTINGS)
        moving.update(index, at, seen(20.0 + at * 4e-6 + dice.gauss(0, 0.3)), SETTINGS)
    assert stuck.still_frames > 30
    assert moving.still_frames < 5


def test_objects_beyond_the_cap_are_counted() -> None:
    tracker = Tracker(SETTINGS, 2)
    things = [seen(20.0, 10.0 * number) for number in range(5)]
    tracked = tracker.step(0, 0, things, range(5))
    assert tracked.over_cap == 3
    assert sum(track is None for track in tracked.tracks) == 3


def test_ten_thousand_candidates_stay_bounded() -> None:
    """200 objects and as many tracks in one gate: the worst that the caps let through."""
    dice = random.Random(4)
    tracker = Tracker(SETTINGS, 500)
    crowd = sorted(seen(dice.uniform(0, 250), dice.uniform(0, 60)) for _ in range(200))
    for index in range(4):
        tracked = tracker.step(index, index * DT_NS, crowd, range(200))
        assert len(tracker.live) <= 500
        owners = [id(track) for track in tracked.tracks if track is not None]
        assert len(owners) == len(set(owners))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 250), st.floats(0, 60), st.floats(3000, 5000)), min_size=1, max_size=6),
    st.integers(0, 1000),
)
def test_association_does_not_depend_on_the_order_of_the_detections(
    objects: list[tuple[float, float, float]], seed: int
) -> None:
    dice = random.Random(seed)
    plain, shuffled = Tracker(SETTINGS, 100), Tracker(SETTINGS, 100)
    for index in range(5):
        frame = [
            seen(x + v * index * 0.01, y)._replace(area_um2=50.0 + number) for number, (x, y, v) in enumerate(objects)
        ]
        mixed = frame.copy()
        dice.shuffle(mixed)
        numbers = []
        for tracker, detections in ((plain, frame), (shuffled, mixed)):
            tracks = step(tracker, index, *detections)
            numbers.append({one: track.number for one, track in zip(detections, tracks, strict=True) if track})
        assert numbers[0] == numbers[1]


def test_every_object_gets_exactly_one_track_in_every_frame() -> None:
    dice = random.Random(9)
    tracker = Tracker(SETTINGS, 500)
    for index in range(30):
        crowd = [seen(dice.uniform(0, 250), dice.uniform(0, 60)) for _ in range(dice.randint(0, 12))]
        tracks = step(tracker, index, *crowd)
        assert all(track is not None for track in tracks)
        assert all(one is not other for one, other in itertools.combinations(tracks, 2))
