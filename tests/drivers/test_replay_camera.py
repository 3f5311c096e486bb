"""A recording as a camera: the same frames and times at any speed, paced against the clock."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from hspc_drivers.replay_camera import ReplayCamera
from hspc_live.core.clock import HostClock
from hspc_live.core.errors import DataLoss, DeviceError, RecordingError
from hspc_live.core.protocols import Camera, EndOfStream
from hspc_live.settings import devices


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Ten frames of 20 × 30 at 100 frames/s."""
    path = tmp_path / "ten.rtdc"
    with h5py.File(path, "w") as file:
        file.attrs["imaging:pixel size"], file.attrs["imaging:frame rate"] = 0.3, 100.0
        file["events/frame"] = np.arange(10)
        file["events/time"] = np.arange(10) / 100
        file["events/image"] = np.arange(10, dtype="u1")[:, None, None] * np.ones((1, 20, 30), "u1")
    return path


def replay(path: Path, speed: float | None = None, **flags: float) -> ReplayCamera:
    return ReplayCamera(devices.ReplayCamera(kind="replay", path=path, **flags), HostClock(), speed)


def all_frames(camera: Camera, timeout_s: float = 5.0) -> list:
    frames = []
    while True:
        try:
            frame = camera.read(timeout_s)
        except EndOfStream:
            return frames
        if frame is not None:
            frames.append(frame)


@pytest.mark.parametrize("speed", [None, 1.0, 4.0])
def test_frames_and_times_do_not_depend_on_the_speed(path, speed):
    camera = replay(path, speed)
    info = camera.open()
    camera.start()
    began = time.perf_counter()
    frames = all_frames(camera)
    took = time.perf_counter() - began
    camera.close()
    assert (info.height_px, info.width_px, info.counts_gaps) == (20, 30, False)
    assert [f.index for f in frames] == list(range(10))
    assert [f.captured_ns for f in frames] == [i * 10_000_000 for i in range(10)]
    assert [int(f.pixels[0, 0]) for f in frames] == list(range(10))
    if speed is not None:
        assert took >= 0.09 / speed
        host = np.array([f.received_ns - f.captured_ns / speed for f in frames])
        assert host.min() >= frames[0].received_ns - 5e6  # none comes before its time


def test_a_frame_that_is_not_due_is_not_lost(path):
    camera = replay(path, 1.0)
    camera.open()
    camera.start()
    assert camera.read(1.0).index == 0
    assert camera.read(0.0) is None
    assert [f.index for f in all_frames(camera)] == list(range(1, 10))
    camera.close()


def test_start_begins_again(path):
    camera = replay(path)
    camera.open()
    for _ in range(2):
        camera.start()
        assert len(all_frames(camera)) == 10
    camera.close()


def test_stop_ends_a_waiting_read(path):
    camera = replay(path, 0.001)
    camera.open()
    camera.start()
    camera.read(1.0)
    threading.Timer(0.1, camera.stop).start()
    began = time.perf_counter()
    assert camera.read(30.0) is None
    assert time.perf_counter() - began < 5
    with pytest.raises(DeviceError, match="not running"):
        camera.read(0.1)
    camera.close()
    camera.close()


def test_flags_override_with_a_warning(path):
    camera = replay(path, um_per_px=0.5, frames_per_s=50.0)
    info = camera.open()
    assert (info.um_per_px, info.frames_per_s) == (0.5, 50.0) and len(camera.warnings) == 2
    camera.close()


def test_errors_name_the_file_and_the_mistake(path, tmp_path):
    with pytest.raises(RecordingError, match="absent"):
        replay(tmp_path / "absent.rtdc").open()
    with pytest.raises(DeviceError, match="not open"):
        replay(path).start()
    with pytest.raises(DeviceError, match="speed"):
        replay(path, 0.0)


def test_what_could_not_be_read_is_said_at_the_end(path):
    with h5py.File(path, "r+") as file:
        del file["events/frame"]
        file["events/frame"] = np.arange(8)
    camera = replay(path)
    camera.open()
    camera.start()
    assert [camera.read(1.0).index for _ in range(8)] == list(range(8))
    for _ in range(2):
        with pytest.raises(DataLoss, match=r"ten\.rtdc.*events/frame 8"):
            camera.read(1.0)
    camera.close()
