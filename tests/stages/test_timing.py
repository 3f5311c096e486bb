"""Arrival, pulse and deadlines."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hspc_live.settings.sort import TimingSettings, TrackSettings
from hspc_live.stages.timing import Arrival, JunctionTiming

MS = 1_000_000
TRACK = TrackSettings()


def timing(**changes: float) -> JunctionTiming:
    return JunctionTiming(TimingSettings(**changes), TRACK, 220.0)


def test_geometry_is_distance_over_velocity() -> None:
    arrival = timing(junction_um=2600.0, transit_sd_fraction=0.0).arrival(10 * MS, 200.0, 4000.0, 0.0, 0.0, 0.0)
    assert arrival == Arrival(10 * MS + 600 * MS, 0)


def test_a_calibrated_delay_scales_with_the_measured_velocity() -> None:
    rule = timing(sort_delay_ms=500.0, sort_delay_velocity_um_s=4000.0)
    at_reference, faster = (rule.arrival(0, 220.0, v, 0.0, 0.0, 0.0) for v in (4000.0, 5000.0))
    assert at_reference is not None and at_reference.at_ns == 500 * MS
    assert faster is not None and faster.at_ns == 400 * MS


def test_what_stands_still_never_arrives() -> None:
    assert timing().arrival(0, 100.0, 50.0, 0.1, 0.0, 100.0) is None
    assert timing().arrival(0, 100.0, -10.0, 0.1, 0.0, 100.0) is None


def test_the_uncertainty_is_that_of_simulated_arrivals() -> None:
    dice = np.random.default_rng(1)
    covariance = np.array([[0.09, 0.8], [0.8, 900.0]])
    xs, vs = dice.multivariate_normal([200.0, 4000.0], covariance, 20_000).T
    transits = (2600.0 - xs) / vs * dice.normal(1.0, 0.004, xs.size)
    arrival = timing(transit_sd_fraction=0.004).arrival(0, 200.0, 4000.0, 0.09, 0.8, 900.0)
    assert arrival is not None
    assert arrival.sd_ns == pytest.approx(transits.std() * 1e9, rel=0.03)
    assert arrival.at_ns == pytest.approx(transits.mean() * 1e9, rel=0.002)


def test_the_prior_arrival_is_as_wide_as_the_prior() -> None:
    arrival = timing(transit_sd_fraction=0.0).prior_arrival(0, 200.0)
    assert arrival == Arrival(600 * MS, 120 * MS)


def test_what_the_camera_s_times_may_be_off_by_widens_every_arrival() -> None:
    rule = JunctionTiming(TimingSettings(transit_sd_fraction=0.0), TRACK, 220.0, time_sd_us=5000.0)
    assert rule.arrival(0, 200.0, 4000.0, 0.0, 0.0, 0.0) == Arrival(600 * MS, 5 * MS)
    assert rule.prior_arrival(0, 200.0).sd_ns == pytest.approx(np.hypot(120, 5) * MS)


def test_pulses_have_a_shortest_and_a_longest_length() -> None:
    rule = timing(k_sigma=3.0, min_pulse_ms=2.0, max_pulse_ms=40.0)
    sure, fair, vague = (rule.pulse(Arrival(1000 * MS, sd)) for sd in (0, 3 * MS, 7 * MS))
    assert sure is not None and sure.width_ns == 2 * MS
    assert fair is not None and (fair.start_ns, fair.end_ns) == (991 * MS, 1009 * MS)
    assert vague is None


def test_the_deadline_leaves_the_sorter_its_lead() -> None:
    rule = timing(device_lead_ms=20.0)
    pulse = rule.pulse(Arrival(1000 * MS, 3 * MS))
    assert pulse is not None and rule.deadline_ns(pulse) == 971 * MS
    assert rule.commit_ns(Arrival(1000 * MS, 3 * MS)) == 880 * MS


@given(st.integers(0, 10**10), st.integers(0, 10**9))
def test_too_late_comes_before_the_deadline_always(at_ns: int, sd_ns: int) -> None:
    rule = timing()
    pulse = rule.pulse(Arrival(at_ns, sd_ns))
    latest = rule.latest_ns(Arrival(at_ns, sd_ns))
    if pulse is not None:
        assert latest < rule.deadline_ns(pulse) < pulse.start_ns
        window = rule.window(Arrival(at_ns, sd_ns))
        assert pulse.start_ns <= window.start_ns <= window.end_ns <= pulse.end_ns
    else:
        assert latest >= at_ns - 41 * MS  # however vague the arrival: not before the longest pulse would need it


@given(st.floats(1000, 8000), st.floats(0, 250))
def test_the_faster_the_earlier(v: float, x: float) -> None:
    slow, fast = (timing().arrival(0, x, velocity, 0.1, 0.0, 100.0) for velocity in (v, v * 1.1))
    assert slow is not None and fast is not None and fast.at_ns < slow.at_ns


def test_pulses_hold_the_true_arrival_as_often_as_k_sigma_promises() -> None:
    """Whole chain in miniature: tracks fitted from noisy looks, transits with scatter, pulses of two sigma."""
    from hspc_live.core.values import Detection
    from hspc_live.stages.track import Track

    dice = random.Random(7)
    rule = timing(k_sigma=2.0, min_pulse_ms=0.1, max_pulse_ms=1000.0, transit_sd_fraction=0.004)
    held = 0
    for _ in range(500):
        v = dice.gauss(4000.0, 400.0)
        track: Track | None = None
        for index in range(5):
            x = 10.0 + v * index * 0.01 + dice.gauss(0, 0.3)
            look = Detection(x, 30.0, 50.0, 8.0, 0.0, 0.0, 0.0, 0.0, 0, 0, 1, 1, 0)
            if track is None:
                track = Track(0, index, index * 10 * MS, look, TRACK)
            else:
                track.update(index, index * 10 * MS, look, TRACK)
        assert track is not None
        wide = track.inflation
        arrival = rule.arrival(
            track.at_ns, track.x_um, track.v_um_s, track.pxx * wide, track.pxv * wide, track.pvv * wide
        )
        assert arrival is not None
        pulse = rule.pulse(arrival)
        at_ns = (2600.0 - 10.0) / v * dice.gauss(1.0, 0.004) * 1e9
        held += pulse is not None and pulse.start_ns <= at_ns <= pulse.end_ns
    assert 0.93 < held / 500
