import threading
import time

import numpy as np
import pytest

from hspc_drivers.simulated_camera import SimulatedFlowCamera
from hspc_live.core.clock import HostClock, VirtualClock
from hspc_live.core.errors import DeviceError
from hspc_live.core.protocols import EndOfStream
from hspc_live.core.values import Frame
from hspc_live.settings.devices import SimulatedCamera
from hspc_live.settings.twin import TwinFlowSettings
from hspc_live.twin.flow import FlowTwin

TINY = TwinFlowSettings(height_px=64, width_px=128, frames_per_s=50.0, events_per_s=30)


def film(camera: SimulatedFlowCamera, pause_s: float = 0.0) -> list[Frame]:
    frames = []
    camera.open()
    camera.start()
    try:
        while True:
            frame = camera.read(2.0)
            assert frame is not None
            frames.append(frame)
            time.sleep(pause_s)
    except EndOfStream:
        return frames
    finally:
        camera.stop()
        camera.close()


def test_paced_frames_come_at_their_moments() -> None:
    camera = SimulatedFlowCamera(SimulatedCamera(twin=TINY, frames=30), HostClock())
    begun = time.perf_counter_ns()
    frames = film(camera)
    assert (time.perf_counter_ns() - begun) / 1e9 == pytest.approx(0.6, abs=0.25)
    indices = np.array([f.index for f in frames])
    assert (np.diff(indices) >= 1).all()
    captured = np.array([f.captured_ns for f in frames])
    np.testing.assert_array_equal(captured - captured[0], (indices - indices[0]) * 20_000_000)
    latency = np.array([f.received_ns - f.captured_ns for f in frames])
    assert latency.min() >= 25_000  # never before the exposure is over
    assert np.median(latency) < 5_000_000  # the rendering is done beforehand
    np.testing.assert_array_equal(frames[-1].pixels, FlowTwin(TINY).render(frames[-1].index))


def test_a_slow_reader_loses_frames_but_no_time() -> None:
    camera = SimulatedFlowCamera(SimulatedCamera(twin=TINY, frames=40), HostClock())
    begun = time.perf_counter_ns()
    frames = film(camera, pause_s=0.07)
    took_s = (time.perf_counter_ns() - begun) / 1e9
    indices = [f.index for f in frames]
    assert len(frames) < 25
    assert max(np.diff(indices)) >= 2
    assert took_s < 1.2  # 40 frames at 50 a second, and the last pauses
    twin = FlowTwin(TINY)
    for frame in frames[::5]:  # a dropped frame changes no other
        np.testing.assert_array_equal(frame.pixels, twin.render(frame.index))
    assert all(f.received_ns - f.captured_ns < 75_000_000 for f in frames)


def test_a_frame_that_nobody_fetched_before_the_stop_was_exposed_all_the_same() -> None:
    camera = SimulatedFlowCamera(SimulatedCamera(twin=TINY), HostClock())
    camera.open()
    camera.start()
    first = camera.read(2.0)
    assert first is not None
    time.sleep(0.1)  # five frames of 20 ms
    camera.stop()
    assert 4 <= camera.exposed - (first.index + 1) <= 30
    last = camera.truth().sightings["frame"].max(initial=0)
    assert last < camera.exposed


def test_too_slow_rendering_still_films_and_keeps_time() -> None:
    hasty = TINY.model_copy(update={"frames_per_s": 20_000.0, "height_px": 256, "width_px": 512})
    frames = film(SimulatedFlowCamera(SimulatedCamera(twin=hasty, frames=4000), HostClock()))
    assert 3 <= len(frames) < 2000
    assert (np.diff([f.index for f in frames]) > 0).all()


def test_unpaced_times_follow_the_index_and_nothing_is_dropped() -> None:
    clock = VirtualClock(1_000)
    frames = film(SimulatedFlowCamera(SimulatedCamera(twin=TINY, frames=20), clock, paced=False), pause_s=0.0)
    assert [f.index for f in frames] == list(range(20))
    assert [f.captured_ns for f in frames] == [1_000 + 10_000_000 + k * 20_000_000 for k in range(20)]
    assert {f.received_ns - f.captured_ns for f in frames} == {25_000}


def test_a_frame_that_is_not_due_is_none_and_comes_later() -> None:
    camera = SimulatedFlowCamera(SimulatedCamera(twin=TINY.model_copy(update={"frames_per_s": 4.0})), HostClock())
    camera.open()
    camera.start()
    assert camera.read(0.01) is None
    frame = camera.read(2.0)
    assert frame is not None
    assert frame.index == 0


def test_stop_wakes_a_waiting_reader() -> None:
    camera = SimulatedFlowCamera(SimulatedCamera(twin=TINY.model_copy(update={"frames_per_s": 0.2})), HostClock())
    camera.open()
    camera.start()
    got: list[Frame | None] = []
    reader = threading.Thread(target=lambda: got.append(camera.read(30.0)))
    reader.start()
    time.sleep(0.1)
    camera.stop()
    reader.join(2.0)
    assert got == [None]


def test_truth_covers_what_was_filmed() -> None:
    camera = SimulatedFlowCamera(SimulatedCamera(twin=TINY, frames=50), VirtualClock(500), paced=False)
    film(camera)
    truth, expected = camera.truth(), FlowTwin(TINY).truth(50, 500)
    np.testing.assert_array_equal(truth.objects, expected.objects)
    np.testing.assert_array_equal(truth.sightings, expected.sightings)
    assert len(truth.sightings)


def test_a_stream_of_no_frames_ends_at_once_and_restarts_begin_anew() -> None:
    assert film(SimulatedFlowCamera(SimulatedCamera(twin=TINY, frames=0), HostClock())) == []
    camera = SimulatedFlowCamera(SimulatedCamera(twin=TINY, frames=3), VirtualClock(), paced=False)
    first, again = film(camera), film(camera)
    assert [f.index for f in first] == [f.index for f in again] == [0, 1, 2]


def test_misuse_names_the_call_that_is_missing() -> None:
    camera = SimulatedFlowCamera(SimulatedCamera(twin=TINY), HostClock())
    with pytest.raises(DeviceError, match="open"):
        camera.start()
    with pytest.raises(DeviceError, match="start"):
        camera.read(0.1)
    with pytest.raises(DeviceError, match="nothing"):
        camera.truth()
    camera.stop()
    camera.close()
    camera.close()
