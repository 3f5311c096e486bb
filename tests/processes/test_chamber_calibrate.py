"""Camera against stage, measured by moving the twin's stage over its cells, however the camera is mounted."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from hspc_live.core.chamber import ChamberFacts
from hspc_live.processes.chamber_source import LiveFields
from hspc_live.settings.chamber_run import ChamberRunSettings
from hspc_live.stages.affine import Affine, AffineError, apply
from hspc_live.twin.view import View
from hspc_live.wiring_chamber import build_chamber_devices

Small = Callable[..., ChamberRunSettings]


def measured(settings: ChamberRunSettings) -> tuple[ChamberFacts, LiveFields]:
    devices = build_chamber_devices(settings)
    source = LiveFields(devices.stage, devices.camera, settings)
    try:
        return source.open(), source
    finally:
        source.close()


@pytest.mark.parametrize(
    "mounting",
    [
        "camera.twin.mounting={}",
        "camera.twin.mounting={rotation_deg: 90, scale_error: -0.02}",
        "camera.twin.mounting={rotation_deg: -33, mirrored: true, shear: 0.01}",
        "camera.twin.mounting={rotation_deg: 178, aspect_error: 0.01}",
    ],
)
def test_any_mounting_is_found(small: Small, mounting: str) -> None:
    settings = small(mounting)
    facts, source = measured(settings)
    view = View.of(settings.camera.twin)
    corners = np.array([[0, 0], [511, 0], [0, 511], [511, 511], [255.5, 255.5]])
    away = view.to_px(apply(Affine(facts.affine, facts.affine_covariance), corners).xy, (0.0, 0.0)) - corners
    assert np.hypot(*away.T).max() < 1.0  # a quarter of a µm at the corners
    assert (
        source.calibration is not None and source.calibration.affine.mirrored == settings.camera.twin.mounting.mirrored
    )


def test_the_uncertainty_covers_the_error(small: Small) -> None:
    misses = []
    for seed in range(4):
        settings = small(f"camera.twin.seed={seed}")
        facts, _ = measured(settings)
        corners = np.array([[0.0, 0.0], [511.0, 511.0]])
        places = apply(Affine(facts.affine, facts.affine_covariance), corners)
        true = View.of(settings.camera.twin).to_um(corners, (0.0, 0.0))
        misses += (np.hypot(*(places.xy - true).T) / places.sd).tolist()
    assert max(misses) < 3.0


def test_dust_and_shading_do_not_say_that_nothing_moved(small: Small) -> None:
    settings = small("camera.twin.dust=60", "camera.twin.illumination_slope=0.4")
    facts, _ = measured(settings)
    assert np.abs(facts.affine[:, :2] - View.of(settings.camera.twin).um_per_px).max() < 1e-3


def test_where_there_is_nothing_to_see_it_looks_elsewhere(small: Small) -> None:
    few = ["camera.twin.width_mm=0.1", "camera.twin.height_mm=0.1", "camera.twin.density_per_mm2=5000"]
    # the area's middle is beside the only cells, which lie a quarter of the area from there
    square = "chamber.tiling.area={{kind: rectangle, x0_um: {0}, y0_um: {0}, width_um: 500, height_um: 500}}"
    facts, _ = measured(small(*few, square.format(-125)))
    assert np.abs(facts.affine[:, :2] - View.of(small().camera.twin).um_per_px).max() < 2e-3
    with pytest.raises(AffineError, match="where there are cells"):
        measured(small(*few, square.format(2000)))
