"""The sharpness sweep on the twin and on Micro-Manager's own demonstration camera, which shows beads out of focus."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from hspc_drivers.micromanager_adapters import adapter_folder
from hspc_live.core.errors import SettingsError
from hspc_live.processes.focus_sweep import BELOW_UM, Focused, find_focus
from hspc_live.processes.stage_calibration import calibrate_stage
from hspc_live.settings.chamber_run import ChamberRunSettings
from hspc_live.settings.load import load_run_text
from hspc_live.settings.micromanager import MicroManagerCore
from hspc_live.stages.focus import FocusError
from hspc_live.twin.chamber import ChamberTwin
from hspc_live.wiring_chamber import ChamberDevices, build_chamber_devices

Small = Callable[..., ChamberRunSettings]
DRIVE = "focus={kind: simulated, z_min_um: -20, z_max_um: 20}"


def swept(settings: ChamberRunSettings, range_um: float, step_um: float) -> tuple[Focused, ChamberDevices]:
    devices = build_chamber_devices(settings)
    assert devices.focus is not None
    return find_focus(devices.focus, devices.camera, range_um, step_um), devices


@pytest.mark.parametrize("off_um", [-3.3, 2.6])
def test_cells_are_brought_into_focus(small: Small, off_um: float) -> None:
    found, devices = swept(small(DRIVE, f"camera.twin.focus_offset_um={off_um}"), 7.0, 1.0)
    assert found.curve.z_um == pytest.approx(-off_um, abs=0.5) and found.began_um == 0.0
    assert devices.focus is not None and devices.truth is not None
    devices.focus.open()
    assert devices.focus.position() == pytest.approx(found.curve.z_um, abs=0.02), "it is left there"
    truth = devices.truth()
    last = truth.seen[truth.seen["exposure"] == len(truth.exposures) - 1]
    assert abs(float(np.median(last["defocus_um"]))) < 0.6


def test_a_picture_blurs_away_from_focus(small: Small) -> None:
    twin = ChamberTwin(small("camera.twin.dust=0", "camera.twin.illumination_slope=0").camera.twin)
    spread = [float(twin.render(0.0, 0.0, z_um=z).astype(float).std()) for z in (0.0, 3.0, 9.0)]
    assert spread[0] > 1.2 * spread[1] > 1.2 * spread[2]
    assert (twin.visible(0.0, 0.0)["defocus_um"] - twin.visible(0.0, 0.0, z_um=2.0)["defocus_um"]).tolist() == (
        pytest.approx([2.0] * len(twin.visible(0.0, 0.0)))
    )


def test_an_empty_field_is_refused_and_the_drive_goes_back(small: Small) -> None:
    empty = small(DRIVE, "camera.twin.density_per_mm2=0", "camera.twin.specks_per_mm2=0")
    devices = build_chamber_devices(empty)
    assert devices.focus is not None
    devices.focus.open()
    devices.focus.move_to(4.5)
    with pytest.raises(FocusError, match="nowhere sharper"):
        find_focus(devices.focus, devices.camera, 5.0, 1.0)
    devices.focus.open()
    assert devices.focus.position() == 4.5


def test_a_focus_outside_the_sweep_is_not_guessed(small: Small) -> None:
    with pytest.raises(FocusError, match="near the end"):
        swept(small(DRIVE, "camera.twin.focus_offset_um=9"), 4.0, 1.0)


@pytest.mark.parametrize(
    ("range_um", "step_um"), [(20.0, 1.0), (19.0, 1.0), (1.0, 1.0), (5.0, 0.0), (float("nan"), 1.0)]
)
def test_a_sweep_beyond_the_limits_or_of_no_steps_moves_nothing(small: Small, range_um: float, step_um: float) -> None:
    devices = build_chamber_devices(small(DRIVE))
    assert devices.focus is not None
    with pytest.raises(SettingsError):
        find_focus(devices.focus, devices.camera, range_um, step_um)
    devices.focus.open()
    assert devices.focus.position() == 0.0
    assert 18.0 + BELOW_UM == 20.0, "19 is too far, and only because it is come to from below"


BEADS = """
mode: chamber
camera:
  kind: micromanager
  core: {{backend: pymmcore-plus, buffer_mb: 16, config: {folder}/MMConfig_demo.cfg}}
  channels: [{{name: dic, exposure_ms: 5}}]
  properties: {{PixelType: 16bit, Mode: {mode}}}
stage: {{kind: micromanager}}
focus: {{kind: micromanager, z_min_um: -20, z_max_um: 20, settle_ms: 1}}
engine: {{kind: "null"}}
"""


def demo(mode: str) -> ChamberRunSettings:
    settings = load_run_text(BEADS.format(folder=adapter_folder(MicroManagerCore()), mode=mode), "demo devices")
    assert isinstance(settings, ChamberRunSettings)
    return settings


def test_beads_of_the_real_core_are_brought_into_focus_and_the_stage_is_calibrated_on_them() -> None:
    """The DemoCamera shows beads that move with its stage and blur with its focus drive, sharpest at 0."""
    found, devices = swept(demo("Fluorescent Beads"), 7.0, 1.0)
    assert found.curve.z_um == pytest.approx(0.0, abs=0.1)
    calibrated = calibrate_stage(devices.stage, devices.camera, demo("Fluorescent Beads"), "")
    assert calibrated.residual_max_um < 0.3
    scale = np.array([[1, 0], [0, 1]]) * calibrated.stated_um_per_px
    assert np.allclose(calibrated.fit.affine.matrix[:, :2], scale, rtol=0.01, atol=0.01 * calibrated.stated_um_per_px)
    assert calibrated.backlash_um == pytest.approx((0.0, 0.0), abs=0.1)


def test_noise_of_the_real_core_is_no_focus() -> None:
    with pytest.raises(FocusError, match="nowhere sharper"):
        swept(demo("Noise"), 3.0, 1.0)
