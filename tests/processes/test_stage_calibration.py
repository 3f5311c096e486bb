"""calibrate-stage on the twin: found as it truly is, the play seen, what cannot be believed refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from skimage.registration import phase_cross_correlation

from hspc_live.cli.options import mounted
from hspc_live.core.errors import DeviceError, OutputError, SettingsError
from hspc_live.core.values import Pixels
from hspc_live.processes.chamber_calibrate import calibrate_affine
from hspc_live.processes.stage_calibration import StageCalibration, calibrate_stage, write_affine
from hspc_live.settings.chamber_run import ChamberRunSettings, GivenAffine, MeasuredAffine
from hspc_live.stages.affine import AffineError
from hspc_live.stages.settle import _band, picture_shift
from hspc_live.stages.tiling import Point
from hspc_live.twin.chamber import ChamberTwin
from hspc_live.twin.view import View
from hspc_live.wiring_chamber import build_chamber_devices

Small = Callable[..., ChamberRunSettings]
TURNED = "camera.twin.mounting={rotation_deg: 7, mirrored: true}"


def measured(settings: ChamberRunSettings, at: Point | None = None) -> StageCalibration:
    devices = build_chamber_devices(settings)
    return calibrate_stage(devices.stage, devices.camera, settings, "2026-12-01T12:00:00+00:00", at)


def test_a_camera_that_is_turned_and_mirrored_is_found_and_a_run_takes_it(small: Small, tmp_path: Path) -> None:
    settings = small(TURNED)
    found = measured(settings)
    assert found.residual_max_um <= 0.3
    true = View.of(settings.camera.twin).um_per_px
    assert np.hypot(*((found.fit.affine.matrix[:, :2] - true) @ (288, 288))) < 0.25, "in a corner of the picture"
    assert found.backlash_um == pytest.approx((1.0, 1.0), abs=0.25), "the twin's stage has a µm of play"
    file = tmp_path / "affine.yaml"
    write_affine(file, found)
    given = small(TURNED, *mounted(file)).calibration
    assert isinstance(given, GivenAffine)
    assert np.allclose([given.x_per_px, given.y_per_px], found.fit.affine.matrix[:, :2], atol=1e-6)
    assert given.scale_sd == pytest.approx(found.fit.affine.scale_sd, rel=0.01)
    with pytest.raises(OutputError, match="exists"):
        write_affine(file, found)


def test_a_stage_without_play_shows_none(small: Small) -> None:
    assert measured(small("camera.twin.stage.backlash_um=0")).backlash_um == pytest.approx((0.0, 0.0), abs=0.15)


def test_an_empty_field_is_refused(small: Small) -> None:
    with pytest.raises(AffineError, match="go to where there are cells"):
        measured(small("camera.twin.density_per_mm2=0", "camera.twin.specks_per_mm2=0"))


def test_an_axis_that_does_not_move_is_refused(small: Small) -> None:
    """Its encoder counts, and the table stays."""
    twin = ChamberTwin(small().camera.twin)

    def look(place: Point) -> tuple[Pixels, Point]:
        return twin.render(place[0], 0.0), place

    with pytest.raises(AffineError, match="on one line"):
        calibrate_affine(look, twin.info(), MeasuredAffine(), (0.0, 0.0))


def test_a_table_that_jumps_about_is_refused(small: Small) -> None:
    with pytest.raises(DeviceError, match=r"slipped in|agree only to"):
        measured(small("camera.twin.stage.slip_chance=1", "camera.twin.stage.slip_um=2"))


def test_a_way_beyond_the_limits_is_refused_before_anything_moves(small: Small) -> None:
    settings = small("chamber.limits={x_min_um: -60, x_max_um: 60, y_min_um: -60, y_max_um: 60}")
    devices = build_chamber_devices(settings)
    with pytest.raises(SettingsError, match="outside the limits"):
        calibrate_stage(devices.stage, devices.camera, settings, "")
    for place in ((float("nan"), 0.0), (0.0, float("inf"))):
        with pytest.raises(SettingsError, match="no place"):
            calibrate_stage(devices.stage, devices.camera, settings, "", place)
    devices.stage.open()
    assert (devices.stage.position().x_um, devices.stage.position().y_um) == (0.0, 0.0)
    devices.stage.close()


def test_a_wrong_objective_is_said(small: Small) -> None:
    found = measured(small("camera.twin.mounting={scale_error: 0.1}"))
    assert ["0.275" in remark and "objective" in remark for remark in found.remarks()] == [True, True]


@pytest.mark.parametrize("way", [(0.36, -0.17), (3.1, -1.7), (20.0, 0.0)])
def test_shifts_are_those_that_scikit_image_finds(small: Small, way: Point) -> None:
    """The upsampled correlation of Guizar-Sicairos et al. (Optics Letters 33, 2008) as an independent word."""
    twin = ChamberTwin(small("camera.twin.dust=0", "camera.twin.illumination_slope=0").camera.twin)
    before, after = twin.render(0.0, 0.0), twin.render(*way, number=1)
    bands = _band(before, None), _band(after, None)
    (back_y, back_x), _, _ = phase_cross_correlation(*bands, upsample_factor=50, normalization=None)
    found = picture_shift(before, after, 1.0)
    assert (found.dx_um, found.dy_um) == pytest.approx((-back_x, -back_y), abs=0.03)
    assert (found.dx_um, found.dy_um) == pytest.approx(tuple(-twin.view.px_per_um @ way), abs=0.1)
