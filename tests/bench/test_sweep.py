"""The knee of a load curve: the highest load below the first that is not carried."""

from __future__ import annotations

from hspc_live.bench.load import at_rate, unpaced
from hspc_live.bench.sweep import knee, point
from hspc_live.settings.consistency import contradictions
from hspc_live.settings.load import load
from hspc_live.settings.shipped import shipped_config


def load_of(share, *, dropped=0, lost=0, met=1.0, p99=2.0):
    captured = 1000
    summary = {
        "frames": {"captured": captured, "dropped": {"ring_full": dropped}, "lost": {"no_result_in_time": lost}},
        "deadline": {"met_fraction": met, "met": round(5000 * (met or 0)), "missed": 0},
    }
    return point(
        share, 1000.0 * share, 5000.0 * share, 0.5, [summary] * 3, [{"p50": 1.0, "p99": p99, "p999": None}] * 3
    )


def test_the_knee_is_the_last_load_that_is_carried():
    found = knee([load_of(0.2), load_of(0.8), load_of(1.0, dropped=100), load_of(1.5, dropped=400)])
    assert found["share"] == 0.8 and found["cells_per_s"] == 4000
    assert "10 % of the frames were dropped" in found["limited_by"]


def test_late_cells_and_lost_frames_end_it_too_and_luck_beyond_does_not_count():
    assert knee([load_of(0.2), load_of(0.5, met=0.9), load_of(0.8)])["share"] == 0.2
    assert "90 % of the cells were decided in time" in knee([load_of(0.2), load_of(0.5, met=0.9)])["limited_by"]
    assert knee([load_of(0.2), load_of(0.5, lost=1)])["share"] == 0.2


def test_no_knee_where_nothing_is_carried_and_none_in_sight_where_all_is():
    assert knee([load_of(0.2, met=0.5)]) is None
    assert knee([load_of(0.2, met=None)]) is None
    assert knee([]) is None
    assert knee([load_of(0.2), load_of(0.5)])["limited_by"] is None


def test_a_load_says_what_the_pipeline_takes_beyond_the_engine():
    said = load_of(0.2, p99=3.0).to_json()
    assert said["beyond_engine_ms"] == {"p50": 0.5, "p99": 2.5, "p999": None}
    assert said["deadline_met_fraction"] == 1.0 and said["dropped_fraction"] == 0.0 and said["carried"]


def test_another_rate_leaves_pictures_tracks_and_the_time_to_the_junction():
    settings = load(shipped_config("benchmarks/pipeline_null"), [], {})
    for rate in (20.0, 1000.0, 7000.0):
        played = at_rate(settings, rate, 2.0)
        twin, track = played.camera.twin, played.sort.track
        assert played.camera.paced and played.camera.frames == round(2 * rate)
        assert abs(twin.velocity_um_s / twin.frames_per_s - 108.8) < 1e-9
        assert abs(track.velocity_um_s - twin.velocity_um_s) < 1e-6
        assert abs(played.sort.timing.junction_um / track.velocity_um_s - 65000 / 108800) < 1e-9
        assert contradictions(played) == []
    assert not unpaced(played).camera.paced
