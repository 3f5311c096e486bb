"""The Micro-Manager camera beyond the common suite: what only a real core does, seen on the DemoCamera."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from hspc_drivers import micromanager_info
from hspc_drivers.micromanager_adapters import adapter_files, adapter_folder, adapter_interface
from hspc_drivers.micromanager_camera import MicroManagerCamera
from hspc_drivers.micromanager_core import CoreSession
from hspc_drivers.micromanager_time import behind_ns, residency_ns, time_sd_us
from hspc_live.core.errors import DeviceError
from hspc_live.core.values import Frame
from hspc_live.settings.devices import RigSettings
from hspc_live.settings.micromanager import MicroManagerCamera as Settings
from hspc_live.settings.micromanager import MicroManagerCore

SMALL = {"PixelType": "16bit", "OnCameraCCDXSize": 256, "OnCameraCCDYSize": 128}
FAST = {**SMALL, "FastImage": 1}
PLUS = MicroManagerCore(backend="pymmcore-plus", buffer_mb=16)

Make = Callable[..., MicroManagerCamera]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[MicroManagerCamera] = []

    def one(**changes: Any) -> MicroManagerCamera:
        keys = {"kind": "micromanager", "core": PLUS, "um_per_px": 0.25, "properties": FAST, **changes}
        settings = Settings.model_validate(keys)
        made.append(MicroManagerCamera(settings, RigSettings(), CoreSession(settings.core)))
        return made[-1]

    yield one
    for camera in made:
        camera.close()


def read(camera: MicroManagerCamera, count: int) -> list[Frame]:
    frames: list[Frame] = []
    until = time.monotonic() + 30
    while len(frames) < count and time.monotonic() < until:
        if (frame := camera.read(0.5)) is not None:
            frames.append(frame)
    return frames


def core_of(camera: MicroManagerCamera) -> Any:
    return camera._session.core


# ---- what it says of itself -----------------------------------------------------------------------------------------


def test_the_settings_reach_the_camera_and_come_back_in_its_promise(make: Make) -> None:
    camera = make(exposure_ms=4.0, binning=2, roi=(8, 4, 64, 32))
    info = camera.open()
    assert (info.height_px, info.width_px, info.dtype) == (32, 64, "uint16")
    assert info.exposure_us == 4000.0 and info.um_per_px == 0.25 and info.model == "DemoCamera/DCam"
    assert 1 < info.frames_per_s < 300, "measured, and free-running at 4 ms"
    assert info.device["Camera-Binning"] == "2" and info.device["roi"] == "8 4 64 32"
    assert "75" in info.device["interface"] and len(info.device["affine"].split()) == 6
    camera.start()
    assert all(frame.pixels.shape == (32, 64) for frame in read(camera, 3))


def test_a_pixel_size_that_nobody_knows_is_asked_for(make: Make) -> None:
    with pytest.raises(DeviceError, match=r"camera\.um_per_px"):
        make(um_per_px=None).open()


def test_the_pixel_size_of_a_configuration_is_taken_and_binning_counted(make: Make) -> None:
    folder = adapter_folder(MicroManagerCore())
    core = PLUS.model_copy(update={"config": folder / "MMConfig_demo.cfg"})
    one = make(core=core, um_per_px=None, properties={})
    um_per_px = one.open().um_per_px
    one.close()
    assert make(core=core, um_per_px=None, properties={}, binning=2).open().um_per_px == 2 * um_per_px


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"device": "Kamera"}, "there are: Camera"),
        ({"properties": {"PixelTyp": "16bit"}}, "no property 'PixelTyp'; it has .*PixelType"),
        ({"properties": {"PixelType": "12bit"}}, "it takes .*16bit"),
        ({"properties": {"PixelType": "32bitRGB"}}, "8 or 16 bit grey"),
        ({"binning": 3}, "it takes 1, 2, 4, 8"),
        ({"roi": (200, 0, 100, 50)}, "256 x 128"),
        ({"core": PLUS.model_copy(update={"config": Path("/no/such.cfg")})}, "no such file"),
        ({"core": PLUS.model_copy(update={"adapters": Path("/no/such")})}, r"core\.adapters: /no/such"),
    ],
)
def test_what_cannot_be_is_said_with_the_mend(make: Make, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DeviceError, match=message):
        make(**changes).open()
    make().open()  # and nothing is left behind that would be in the way


# ---- frames ---------------------------------------------------------------------------------------------------------


def test_frames_that_the_core_threw_away_are_gaps_in_the_index(make: Make) -> None:
    """The core's own overflow flag stays false: only the numbers tell."""
    camera = make(exposure_ms=1.0, core=PLUS.model_copy(update={"buffer_mb": 1}), frames_per_s=500.0)
    camera.open()
    camera.start()
    time.sleep(0.5)  # the buffer holds 16 frames
    assert not core_of(camera).isBufferOverflowed()
    frames = read(camera, 20)
    camera.stop()
    indices = [frame.index for frame in frames]
    gaps = indices[0] + sum(b - a - 1 for a, b in pairwise(indices))
    assert gaps > 0 and indices == sorted(set(indices))
    assert camera.exposed > indices[-1], "those that wait when it is stopped were exposed, too"


def test_mid_exposure_lies_before_the_core_had_the_frame_however_late_it_is_fetched(make: Make) -> None:
    camera = make(exposure_ms=20.0, core=PLUS)
    info = camera.open()
    started_ns = time.perf_counter_ns()
    camera.start()
    time.sleep(0.6)  # the first frames wait in the buffer
    frames = read(camera, 3)
    late_ns = frames[0].received_ns - frames[0].captured_ns
    assert late_ns > 200_000_000, "the wait in the buffer counts"
    assert frames[0].captured_ns >= started_ns
    assert info.time_sd_us > 1000, "of a transfer that was not measured the frame period is stated"
    camera.close()
    told = make(exposure_ms=20.0, transfer_ms=1.0, transfer_sd_ms=0.05, frames_per_s=50.0).open()
    assert told.time_sd_us == pytest.approx(50.0)


def test_waiting_costs_little_of_a_core(make: Make) -> None:
    camera = make(exposure_ms=10.0)
    camera.open()
    camera.start()
    read(camera, 5)
    begun, used = time.perf_counter(), time.thread_time()
    read(camera, 60)
    assert (time.thread_time() - used) / (time.perf_counter() - begun) < 0.25


# ---- failures -------------------------------------------------------------------------------------------------------


def until_failure(camera: MicroManagerCamera) -> tuple[str, float]:
    """What read says at last, and how long after the last frame."""
    last = time.monotonic()
    while time.monotonic() - last < 20:
        try:
            if camera.read(0.1) is not None:
                last = time.monotonic()
        except DeviceError as error:
            return str(error), time.monotonic() - last
    return "", 20.0


def test_a_camera_that_stalls_is_noticed_within_five_frame_periods_of_looking(make: Make) -> None:
    camera = make(exposure_ms=20.0)
    period_s = 1 / camera.open().frames_per_s
    camera.start()
    read(camera, 5)
    core_of(camera).setExposure("Camera", 1500.0)
    message, after_s = until_failure(camera)
    assert "no frame for" in message and "trigger" in message
    assert 4 * period_s < after_s, "not by one late frame"
    assert camera._quiet_s < 6 * period_s


def test_a_sequence_that_ends_by_itself_is_no_end_of_the_stream(make: Make) -> None:
    camera = make(exposure_ms=10.0)
    camera.open()
    camera.start()
    read(camera, 3)
    core_of(camera).stopSequenceAcquisition()
    message, _ = until_failure(camera)
    assert "by itself" in message


def test_devices_that_vanish_are_a_device_error(make: Make) -> None:
    camera = make(exposure_ms=10.0)
    camera.open()
    camera.start()
    read(camera, 3)
    core_of(camera).stopSequenceAcquisition()
    core_of(camera).unloadAllDevices()
    message, _ = until_failure(camera)
    assert message.startswith("camera Camera")


def test_a_camera_that_gives_no_frames_at_the_opening_may_wait_for_a_trigger(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(micromanager_info, "TRIAL_S", 0.3)
    camera = make(exposure_ms=1.0)
    camera.open()
    core_of(camera).setExposure("Camera", 1000.0)
    with pytest.raises(DeviceError, match=r"camera\.frames_per_s"):
        micromanager_info.measured_rate(camera._session, "Camera", 1.0)


# ---- the core -------------------------------------------------------------------------------------------------------


def test_one_process_holds_one_core_of_pycromanager(make: Make) -> None:
    first, second = make(core=MicroManagerCore()), make(core=MicroManagerCore())
    first.open()
    with pytest.raises(DeviceError, match="pymmcore-plus"):
        second.open()
    make().open()  # cores of pymmcore-plus stand beside it
    first.close()
    second.open()


def test_a_micro_manager_that_does_not_run_is_said_with_its_port(make: Make) -> None:
    with pytest.raises(DeviceError, match="port 48999"):
        make(core=MicroManagerCore(backend="java", port=48_999)).open()


def test_all_devices_of_a_configuration_that_fail_are_told_together(make: Make, tmp_path: Path) -> None:
    config = tmp_path / "rig.cfg"
    config.write_text(
        "Property,Core,Initialize,0\nDevice,Camera,DemoCamera,DCam\nDevice,XY,Prior,XYStage\nDevice,Z,DemoCamera,DNope\n"
        "Property,Core,Initialize,1\n"
    )
    core = PLUS.model_copy(update={"config": config, "adapters": adapter_folder(MicroManagerCore())})
    with pytest.raises(DeviceError) as caught:
        make(core=core).open()
    xy, z = sorted(str(caught.value).splitlines())
    assert "device XY" in xy and "no adapter Prior" in xy and "DemoCamera" in xy
    assert "device Z" in z and str(config) in z


@pytest.mark.skipif(platform.machine() != "x86_64" or platform.system() != "Linux", reason="the adapter is patched")
def test_an_adapter_of_another_device_interface_is_named_with_both_numbers(make: Make, tmp_path: Path) -> None:
    source = adapter_files(adapter_folder(MicroManagerCore()))["DemoCamera"]
    code = source.read_bytes()
    says_75 = bytes.fromhex("b84b000000c3")  # mov eax, 75; ret
    assert code.count(says_75) == 1
    (tmp_path / source.name).write_bytes(code.replace(says_75, bytes.fromhex("b84a000000c3")))
    assert adapter_interface(tmp_path / source.name) == 74
    with pytest.raises(DeviceError, match="built for device interface 74, this core speaks 75: install"):
        make(core=PLUS.model_copy(update={"adapters": tmp_path})).open()


# ---- time -----------------------------------------------------------------------------------------------------------


def test_the_wait_in_the_buffer_is_taken_from_the_core_s_local_time() -> None:
    waited_ns, _ = residency_ns(str(datetime.now() - timedelta(milliseconds=250)))
    assert waited_ns >= 250_000_000
    assert residency_ns(str(datetime.now() + timedelta(hours=1)))[0] == 0, "a clock that was set back"
    assert behind_ns(10.0, 2.0) == 7_000_000
    assert time_sd_us(None, 0.1, 100.0, 0.0) == pytest.approx(1e4 / 3**0.5)
