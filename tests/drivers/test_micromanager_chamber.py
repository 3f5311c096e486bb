"""The Micro-Manager stage and snap camera beyond the common suites, on the real core's demo devices."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from hspc_drivers.micromanager_adapters import adapter_folder
from hspc_drivers.micromanager_core import CoreSession
from hspc_drivers.micromanager_snap import MicroManagerSnapCamera
from hspc_drivers.micromanager_stage import MicroManagerStage
from hspc_live.core.clock import HostClock
from hspc_live.core.errors import DeviceError
from hspc_live.core.values import StageTarget
from hspc_live.settings.chamber import StageLimits
from hspc_live.settings.devices import RigSettings
from hspc_live.settings.micromanager import MicroManagerCore
from hspc_live.settings.micromanager import MicroManagerSnapCamera as SnapSettings
from hspc_live.settings.micromanager import MicroManagerStage as StageSettings

CORE = MicroManagerCore(
    backend="pymmcore-plus", buffer_mb=16, config=adapter_folder(MicroManagerCore()) / "MMConfig_demo.cfg"
)
GREY = {"PixelType": "16bit"}
LIMITS = StageLimits(x_min_um=-1000, x_max_um=1000, y_min_um=-1000, y_max_um=1000)


@pytest.fixture
def session() -> CoreSession:
    return CoreSession(CORE)


MakeStage = Callable[..., MicroManagerStage]
MakeCamera = Callable[..., MicroManagerSnapCamera]


@pytest.fixture
def stage(session: CoreSession) -> Iterator[MakeStage]:
    made: list[MicroManagerStage] = []

    def one(**keys: Any) -> MicroManagerStage:
        settings = StageSettings.model_validate({"kind": "micromanager", **keys})
        made.append(MicroManagerStage(settings, LIMITS, session, HostClock()))
        return made[-1]

    yield one
    for it in made:
        it.close()


@pytest.fixture
def camera(session: CoreSession) -> Iterator[MakeCamera]:
    made: list[MicroManagerSnapCamera] = []

    def one(*channels: dict[str, Any], **keys: Any) -> MicroManagerSnapCamera:
        settings = SnapSettings.model_validate({"kind": "micromanager", "channels": channels, **keys})
        made.append(MicroManagerSnapCamera(settings, RigSettings(), session, HostClock()))
        return made[-1]

    yield one
    for it in made:
        it.close()


def test_stage_and_camera_share_one_core_and_the_last_one_closes_it(
    stage: MakeStage, camera: MakeCamera, session: CoreSession
) -> None:
    a, b = stage(), camera({"name": "dic"})
    a.open()
    b.open()
    a.close()
    assert b.snap("dic").pixels.size
    b.close()
    with pytest.raises(DeviceError, match="not open"):
        _ = session.core


def test_a_backlash_approach_comes_from_before_the_target_on_both_axes(stage: MakeStage, session: CoreSession) -> None:
    one = stage(backlash_um=50.0)
    info = one.open()
    assert info.x_limits_um == (-950.0, 1000.0), "what lies too near the lower limit cannot be come to from before it"
    one.move_to(StageTarget(0, 500.0, 500.0))
    assert one.wait(10.0) is not None
    one.move_to(StageTarget(1, 100.0, 100.0))
    least = 500.0
    while one.wait(0.0) is None:
        here = one.position()
        least = min(least, here.x_um, here.y_um)
    assert least < 60.0
    receipt = one.wait(0.0)
    assert receipt is not None and (receipt.x_um, receipt.y_um) == pytest.approx((100.0, 100.0), abs=0.1)
    with pytest.raises(DeviceError, match=r"x_um = -1020 .* from 50 µm before it"):
        one.move_to(StageTarget(2, -970.0, 0.0))
    assert not one.position().moving


def test_a_stage_that_stands_elsewhere_than_it_was_sent_has_not_arrived(stage: MakeStage, session: CoreSession) -> None:
    one = stage()
    one.open()
    one.move_to(StageTarget(0, 300.0, 0.0))
    session.core.waitForDevice("XY")
    session.core.setXYPosition("XY", 200.0, 0.0)  # a hand on the joystick
    session.core.waitForDevice("XY")
    with pytest.raises(DeviceError, match="obstacle"):
        one.wait(10.0)


def test_a_stage_that_is_not_there_is_named_with_those_that_are(stage: MakeStage) -> None:
    with pytest.raises(DeviceError, match="there are: XY"):
        stage(device="Tisch").open()


def test_channels_switch_the_filters_and_back(camera: MakeCamera, session: CoreSession) -> None:
    one = camera(
        {"name": "dic", "group": "Channel", "preset": "Rhodamine", "exposure_ms": 5},
        {"name": "gfp", "group": "Channel", "preset": "FITC", "exposure_ms": 30},
    )
    info = one.open()
    assert one.channels == ("dic", "gfp") and info.exposure_us == 5000
    for name, preset, exposure in (("gfp", "FITC", 30), ("dic", "Rhodamine", 5), ("gfp", "FITC", 30)):
        one.snap(name)
        assert session.core.getCurrentConfig("Channel") == preset and session.core.getExposure() == exposure
    taken = one.snap("dic", 200.0)
    assert taken.received_ns - taken.captured_ns >= 100_000_000, "mid-exposure"


@pytest.mark.parametrize(
    ("channel", "message"),
    [
        ({"name": "x", "group": "Kanal", "preset": "DIC"}, "no configuration group 'Kanal'; there are: .*Channel"),
        ({"name": "x", "group": "Channel", "preset": "DIC"}, "no preset 'DIC'; it has .*FITC"),
        ({"name": "x", "device": "Kamera 2"}, "there are: Camera"),
    ],
)
def test_a_channel_that_cannot_be_shown_is_said_at_the_opening(
    camera: MakeCamera, channel: dict[str, Any], message: str
) -> None:
    with pytest.raises(DeviceError, match=message):
        camera({"name": "dic"}, channel).open()


def test_a_second_camera_may_film_the_second_channel(camera: MakeCamera, session: CoreSession) -> None:
    one = camera(
        {"name": "dic", "device": "Camera"}, {"name": "gfp", "device": "Camera 2"}, properties={"PixelType": "16bit"}
    )
    session.open()
    session.core.loadDevice("Camera 2", "DemoCamera", "DCam")
    session.core.initializeDevice("Camera 2")
    try:
        one.open()
        one.snap("gfp")
        assert session.core.getCameraDevice() == "Camera 2"
        first = one.snap("dic").pixels
        assert session.core.getCameraDevice() == "Camera"
        session.core.setProperty("Camera 2", "OnCameraCCDXSize", "100")
        with pytest.raises(DeviceError, match="start a new run"):
            one.snap("gfp")
        one.close()
        with pytest.raises(DeviceError, match="differ in their pictures"):
            one.open()
        assert isinstance(first, np.ndarray)
    finally:
        session.close()
