"""One suite for every camera: what acquire may rely on, whatever stands behind the protocol."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from hspc_drivers.looped_camera import LoopedCamera
from hspc_drivers.micromanager_camera import MicroManagerCamera
from hspc_drivers.micromanager_core import CoreSession
from hspc_drivers.replay_camera import ReplayCamera
from hspc_drivers.simulated_camera import SimulatedFlowCamera
from hspc_live.core.clock import HostClock
from hspc_live.core.errors import DeviceError, HspcError
from hspc_live.core.protocols import Camera, EndOfStream
from hspc_live.core.values import CameraInfo, Frame, Modality
from hspc_live.recording.writer import RecordingWriter
from hspc_live.settings import devices
from hspc_live.settings.micromanager import MicroManagerCamera as MicroManagerSettings
from hspc_live.settings.micromanager import MicroManagerCore
from hspc_live.settings.twin import CellMix, TwinFlowSettings

FRAMES = 12
TWIN = TwinFlowSettings(
    height_px=64,
    width_px=256,
    um_per_px=0.34,
    frames_per_s=100.0,
    mix=CellMix(debris=0.0, doublet=0.0, cluster=0.0, dead=0.0),
    dust=0,
)


def simulated(folder: Path) -> Camera:
    return SimulatedFlowCamera(devices.SimulatedCamera(twin=TWIN, frames=FRAMES), HostClock())


def unpaced(folder: Path) -> Camera:
    return SimulatedFlowCamera(devices.SimulatedCamera(twin=TWIN, frames=FRAMES), HostClock(), paced=False)


def looped(folder: Path) -> Camera:
    return LoopedCamera(devices.LoopedCamera(kind="looped", twin=TWIN, cells=2, distinct=5, frames=FRAMES), HostClock())


def paced_loop(folder: Path) -> Camera:
    settings = devices.LoopedCamera(kind="looped", twin=TWIN, cells=2, distinct=5, frames=FRAMES, paced=True)
    return LoopedCamera(settings, HostClock())


def replay(folder: Path, speed: float | None = None) -> Camera:
    path = folder / "film.rtdc"
    if not path.exists():
        with h5py.File(path, "x") as file:
            file.attrs["imaging:pixel size"], file.attrs["imaging:frame rate"] = 0.34, 100.0
            file["events/frame"], file["events/time"] = np.arange(FRAMES), np.arange(FRAMES) / 100
            file["events/image"] = np.random.default_rng(1).integers(0, 255, (FRAMES, 64, 256), dtype=np.uint8)
    return ReplayCamera(devices.ReplayCamera(kind="replay", path=path), HostClock(), speed)


def paced_replay(folder: Path) -> Camera:
    return replay(folder, 1.0)


def own_replay(folder: Path) -> Camera:
    """A recording of ours whose run counted more frames than were kept: the first and the last were dropped."""
    path = folder / "own.rtdc"
    if not path.exists():
        info = CameraInfo(64, 256, "uint8", 0.34, 100.0, Modality.DIC)
        rng = np.random.default_rng(2)
        writer = RecordingWriter.create(
            path,
            run_id="test",
            settings_json="{}",
            camera=info,
            classes=("a", "b"),
            card_yaml="",
            pipeline_id="test",
            versions={},
            window=(32, 32),
            record_frames=True,
        )
        writer.write_background(0, np.full((64, 256), 128, np.uint8), 1.0)
        for index in range(1, FRAMES - 1):
            writer.write_frame(index, index * 10_000_000, rng.integers(0, 255, (64, 256), dtype=np.uint8), 0)
        writer.close({"frames": {"captured": FRAMES}}, {})
    return ReplayCamera(devices.ReplayCamera(kind="replay", path=path), HostClock())


def demo_camera(backend: str) -> Camera:
    """Micro-Manager's own core with its DemoCamera."""
    settings = MicroManagerSettings(
        kind="micromanager",
        core=MicroManagerCore(backend=backend, buffer_mb=16),
        exposure_ms=5.0,
        um_per_px=0.34,
        frames=FRAMES,
        properties={"PixelType": "16bit", "OnCameraCCDXSize": 128, "OnCameraCCDYSize": 64},
    )
    return MicroManagerCamera(settings, devices.RigSettings(), CoreSession(settings.core))


def pycromanager(folder: Path) -> Camera:
    return demo_camera("pycromanager")


def pymmcore_plus(folder: Path) -> Camera:
    return demo_camera("pymmcore-plus")


FILMS = (simulated, unpaced, looped, paced_loop, replay, paced_replay, own_replay)
LIVE = (pycromanager, pymmcore_plus)
CAMERAS = (*FILMS, *LIVE)


@pytest.fixture(params=CAMERAS, ids=lambda make: make.__name__)
def make(request, tmp_path) -> Callable[[], Camera]:
    return lambda: request.param(tmp_path)


@pytest.fixture
def camera(make):
    one = make()
    yield one
    one.stop()
    one.close()


def read_all(camera: Camera) -> list[Frame]:
    frames = []
    while True:
        try:
            frame = camera.read(5.0)
        except EndOfStream:
            return frames
        if frame is not None:
            frames.append(frame)


def test_frames_are_as_promised_and_in_capture_order(camera):
    info = camera.open()
    camera.start()
    frames = read_all(camera)
    assert frames and all(f.pixels.shape == (info.height_px, info.width_px) for f in frames)
    assert all(str(f.pixels.dtype) == info.dtype for f in frames)
    indices = [f.index for f in frames]
    assert indices == sorted(set(indices)) and 0 <= indices[0] and indices[-1] < FRAMES
    period_ns = 1e9 / info.frames_per_s
    for before, after in itertools.pairwise(frames):
        step_ns = (after.index - before.index) * period_ns
        stepped_ns = after.captured_ns - before.captured_ns
        if info.time_sd_us == 0.0:
            assert stepped_ns == pytest.approx(step_ns, abs=2), "time follows from the number"
        assert stepped_ns > 0 and after.captured_ns < after.received_ns
        assert after.received_ns >= before.received_ns


def test_what_was_exposed_covers_every_frame_and_is_final_once_stopped(camera):
    info = camera.open()
    for reads in (3, None):
        camera.start()
        frames = read_all(camera) if reads is None else [f for _ in range(reads) if (f := camera.read(5.0))]
        camera.stop()
        count = camera.exposed
        time.sleep(0.03)
        assert camera.exposed == count, "time goes on, the stopped camera does not"
        if count is None:
            assert not info.counts_gaps, "a camera whose gaps count should count what comes behind the last frame"
        else:
            assert frames[-1].index < count <= FRAMES
            assert reads is not None or count == FRAMES, "the film was exposed to its end"
    camera.close()
    assert camera.exposed == count, "closing forgets nothing"


def test_the_end_stays_the_end(camera):
    camera.open()
    camera.start()
    read_all(camera)
    for _ in range(2):
        with pytest.raises(EndOfStream):
            camera.read(0.01)


@pytest.mark.parametrize("make", FILMS, ids=lambda make: make.__name__)
def test_the_same_frames_again_after_another_start(make, tmp_path):
    camera = make(tmp_path)
    camera.open()
    films = []
    for _ in range(2):
        camera.start()
        films.append({f.index: f.pixels.copy() for f in read_all(camera)})
        camera.stop()
    both = films[0].keys() & films[1].keys()
    camera.close()
    assert both and all(np.array_equal(films[0][i], films[1][i]) for i in both)


def test_a_frame_keeps_its_pixels_when_the_next_one_is_read(camera):
    """A camera that reuses its buffer would make every frame look frozen."""
    camera.open()
    camera.start()
    first = camera.read(5.0)
    assert first is not None
    copy = first.pixels.copy()
    second = camera.read(5.0)
    assert second is not None and np.array_equal(first.pixels, copy)
    assert not np.array_equal(first.pixels, second.pixels)


def test_reading_before_the_start_is_said(camera):
    with pytest.raises(HspcError, match=r"start|open"):
        camera.read(0.01)


def test_starting_before_opening_is_said(camera):
    with pytest.raises(DeviceError, match=r"open\(\)"):
        camera.start()


def test_stop_and_close_are_harmless_at_any_time(make):
    camera = make()
    camera.stop()
    camera.close()
    camera = make()
    camera.open()
    camera.stop()
    camera.close()
    camera.close()


def test_stop_from_another_thread_ends_a_read_that_waits(camera):
    """Ends with None or an error, but ends: acquire must be able to stop."""
    camera.open()
    camera.start()
    ended = threading.Event()

    def read_on() -> None:
        try:
            while not ended.is_set() and camera.read(0.05) is not None:
                time.sleep(0)
        except (EndOfStream, DeviceError):
            pass
        ended.set()

    reader = threading.Thread(target=read_on)
    reader.start()
    camera.stop()
    reader.join(10.0)
    alive = reader.is_alive()
    ended.set()
    reader.join()
    assert not alive, "read did not return within 10 s of stop"
