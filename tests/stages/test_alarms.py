"""The watches over velocity, clog and focus."""

from __future__ import annotations

from hspc_live.core.values import Detection, Reject
from hspc_live.settings.sort import AlarmSettings, TrackSettings
from hspc_live.stages.alarms import Watches
from hspc_live.stages.track import Track

TRACK = TrackSettings()


def track(v: float = 4000.0, looks: int = 5, reject: int = 0) -> Track:
    def seen(x: float) -> Detection:
        return Detection(x, 30.0, 50.0, 8.0, 0.0, 0.0, 0.0, 0.0, 0, 0, 1, 1, reject)

    one = Track(0, 0, 0, seen(10.0), TRACK)
    for index in range(1, looks):
        one.update(index, index * 10_000_000, seen(10.0 + v * index * 0.01), TRACK)
    return one


def watches(**changes: float) -> Watches:
    return Watches(AlarmSettings(**changes), 4000.0)


def test_velocity_is_judged_by_the_median_of_a_full_window() -> None:
    watch = watches(velocity_window=5, velocity_drift=0.1)
    for _ in range(4):
        watch.departed(track(4600.0))
    assert watch.active == {}  # four tell nothing yet
    watch.departed(track(4000.0))
    assert "velocity_drift" in watch.active  # one that is right among five does not save it
    assert "4600" in watch.active["velocity_drift"] and "+15%" in watch.active["velocity_drift"]
    for _ in range(3):
        watch.departed(track(4050.0))
    assert watch.active == {}


def test_slower_is_a_drift_too() -> None:
    watch = watches(velocity_window=5, velocity_drift=0.1)
    for _ in range(5):
        watch.departed(track(3500.0))
    assert "velocity_drift" in watch.active


def test_single_looks_say_nothing_about_velocity() -> None:
    watch = watches(velocity_window=5, velocity_drift=0.1)
    for _ in range(10):
        watch.departed(track(looks=1))
    for _ in range(5):
        watch.departed(track(5000.0))
    assert "velocity_drift" in watch.active


def test_focus_is_judged_by_objects_and_debris_says_nothing() -> None:
    watch = watches(window=6, blur_fraction=0.5)
    for _ in range(20):
        watch.departed(track(reject=Reject.DEBRIS))
    for reject in (0, 0, 0, Reject.BLURRED, Reject.BLURRED, Reject.BLURRED):
        watch.departed(track(reject=reject))
    assert watch.active == {}
    watch.departed(track(reject=Reject.BLURRED))
    assert "blur" in watch.active


def test_a_clog_is_an_object_that_stands_and_goes_when_it_goes() -> None:
    watch = watches(clog_frames=3)
    stuck = track(looks=1)
    for index in range(1, 4):
        assert watch.active == {}
        look = Detection(10.0, 30.0, 50.0, 8.0, 0.0, 0.0, 0.0, 0.0, 0, 0, 1, 1, 0)
        stuck.stand(index, index * 10_000_000, look, TRACK)
        watch.look([track(), stuck])
    assert "clog" in watch.active
    watch.look([track()])
    assert watch.active == {}
