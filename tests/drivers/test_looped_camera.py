"""The benchmark's camera by the clock: frames when they are due, and gaps where nobody took them."""

from __future__ import annotations

import pytest

from hspc_drivers.looped_camera import HELD, LoopedCamera
from hspc_live.core.clock import NS_PER_S, VirtualClock
from hspc_live.core.protocols import EndOfStream
from hspc_live.settings.devices import LoopedCamera as Settings
from hspc_live.settings.twin import TwinFlowSettings

TWIN = TwinFlowSettings(height_px=64, width_px=256, um_per_px=0.34, frames_per_s=100.0, exposure_us=10.0, dust=0)
PERIOD_NS = NS_PER_S // 100


@pytest.fixture
def clock():
    return VirtualClock(5 * NS_PER_S)


@pytest.fixture
def camera(clock):
    one = LoopedCamera(Settings(kind="looped", twin=TWIN, cells=2, distinct=5, frames=200, paced=True), clock)
    one.open()
    one.start()
    yield one
    one.close()


def test_no_frame_comes_before_its_exposure_is_over(camera, clock):
    assert camera.read(0.001) is None and camera.exposed == 0
    clock.advance_to(5 * NS_PER_S + PERIOD_NS)
    frame = camera.read(0.001)
    assert frame.index == 0 and frame.captured_ns < clock.now_ns() == frame.received_ns
    assert camera.read(0.001) is None


def test_who_lags_gets_what_the_driver_holds_and_then_finds_a_gap(camera, clock):
    clock.advance_to(5 * NS_PER_S + 20 * PERIOD_NS)
    assert [camera.read(0.001).index for _ in range(3)] == [0, 1, 2], "a short lag costs nothing"
    clock.advance_to(5 * NS_PER_S + 100 * PERIOD_NS)
    assert camera.exposed == 100
    assert camera.read(0.001).index == 100 - HELD


def test_what_comes_behind_the_last_frame_read_is_counted_and_the_film_ends(camera, clock):
    clock.advance_to(5 * NS_PER_S + 1000 * PERIOD_NS)
    assert camera.exposed == 200
    indices = []
    with pytest.raises(EndOfStream):
        while True:
            indices.append(camera.read(0.001).index)
    assert indices == list(range(200 - HELD, 200))
    camera.stop()
    assert camera.exposed == 200
