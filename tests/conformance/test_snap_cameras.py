"""One suite for every camera that takes single pictures: what a chamber run may rely on."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from hspc_drivers.chamber_world import ChamberWorld
from hspc_drivers.micromanager_adapters import adapter_folder
from hspc_drivers.micromanager_core import CoreSession
from hspc_drivers.micromanager_snap import MicroManagerSnapCamera
from hspc_drivers.simulated_chamber_camera import SimulatedChamberCamera
from hspc_live.core.clock import HostClock, VirtualClock
from hspc_live.core.errors import DeviceError
from hspc_live.core.protocols import SnapCamera
from hspc_live.settings.chamber_twin import TwinChamberSettings
from hspc_live.settings.devices import RigSettings
from hspc_live.settings.micromanager import MicroManagerChannel, MicroManagerCore
from hspc_live.settings.micromanager import MicroManagerSnapCamera as MicroManagerSettings

CHAMBER = TwinChamberSettings(height_px=64, width_px=128, width_mm=0.1, height_mm=0.1)


def demo(backend: str) -> SnapCamera:
    """Micro-Manager's demo microscope on the real core: a preset of its filter wheels a channel."""
    config = adapter_folder(MicroManagerCore()) / "MMConfig_demo.cfg"
    core = MicroManagerCore.model_validate({"backend": backend, "buffer_mb": 16, "config": config})
    settings = MicroManagerSettings(
        kind="micromanager",
        core=core,
        channels=(
            MicroManagerChannel(name="transmitted", group="Channel", preset="Rhodamine"),
            MicroManagerChannel(name="gfp", group="Channel", preset="FITC", exposure_ms=20.0),
        ),
        properties={"PixelType": "16bit"},
    )
    return MicroManagerSnapCamera(settings, RigSettings(), CoreSession(core), HostClock())


CAMERAS: dict[str, Callable[[], SnapCamera]] = {
    "host clock": lambda: SimulatedChamberCamera(ChamberWorld(CHAMBER, HostClock())),
    "virtual clock": lambda: SimulatedChamberCamera(ChamberWorld(CHAMBER, VirtualClock(7))),
    "pycromanager": lambda: demo("pycromanager"),
    "pymmcore-plus": lambda: demo("pymmcore-plus"),
}


@pytest.fixture(params=CAMERAS.values(), ids=CAMERAS.keys())
def camera(request: pytest.FixtureRequest) -> Iterator[SnapCamera]:
    one: SnapCamera = request.param()
    yield one
    one.close()


def test_pictures_are_as_promised_and_numbered(camera: SnapCamera) -> None:
    info = camera.open()
    frames = [camera.snap(channel) for channel in camera.channels for _ in range(2)]
    assert [frame.index for frame in frames] == list(range(len(frames)))
    for frame in frames:
        assert frame.pixels.shape == (info.height_px, info.width_px)
        assert str(frame.pixels.dtype) == info.dtype
        assert frame.captured_ns < frame.received_ns
    captured = [frame.captured_ns for frame in frames]
    assert captured == sorted(set(captured))


def test_the_exposure_is_as_long_as_asked(camera: SnapCamera) -> None:
    camera.open()
    channel = camera.channels[0]
    short, long = camera.snap(channel, 1.0), camera.snap(channel, 2.0)
    assert long.pixels.mean() == pytest.approx(2 * short.pixels.mean(), rel=0.05)
    assert long.received_ns - long.captured_ns >= 1_000_000, "mid-exposure is half an exposure before its end"


def test_a_picture_keeps_its_pixels_when_the_next_one_is_taken(camera: SnapCamera) -> None:
    camera.open()
    first = camera.snap(camera.channels[0])
    copy = first.pixels.copy()
    second = camera.snap(camera.channels[0])
    assert np.array_equal(first.pixels, copy) and not np.array_equal(first.pixels, second.pixels)


@pytest.mark.parametrize("exposure_ms", [0.0, -1.0, float("nan"), float("inf")])
def test_an_exposure_that_is_none_is_refused(camera: SnapCamera, exposure_ms: float) -> None:
    camera.open()
    with pytest.raises(DeviceError, match="ms"):
        camera.snap(camera.channels[0], exposure_ms)


def test_a_channel_that_it_lacks_is_named_with_those_it_has(camera: SnapCamera) -> None:
    camera.open()
    with pytest.raises(DeviceError, match=camera.channels[0]):
        camera.snap("no such channel")


def test_misuse_is_said_and_closing_is_harmless(camera: SnapCamera) -> None:
    with pytest.raises(DeviceError, match=r"open"):
        camera.snap(camera.channels[0])
    camera.close()
    camera.open()
    camera.close()
    camera.close()
    with pytest.raises(DeviceError):
        camera.snap(camera.channels[0])
