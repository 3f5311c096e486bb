"""Camera against stage, measured by moving the twin's stage over its cells, however the camera is mounted."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from hspc_live.core.chamber import ChamberFacts
from hspc_live.core.errors import DeviceError
from hspc_live.core.values import CameraInfo, Pixels, StageTarget
from hspc_live.processes.chamber_calibrate import LONG, SHORT, Look, calibrate_affine, looker
from hspc_live.processes.chamber_motion import Rig
from hspc_live.processes.chamber_source import LiveFields
from hspc_live.settings.chamber_run import ChamberRunSettings, MeasuredAffine
from hspc_live.stages.affine import Affine, AffineError, apply
from hspc_live.stages.tiling import Point
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


MOVES = len(SHORT) + len(LONG)


@contextmanager
def over_cells(settings: ChamberRunSettings) -> Iterator[tuple[Look, CameraInfo, MeasuredAffine]]:
    """What `calibrate_affine` looks through, over the twin's cells."""
    devices = build_chamber_devices(settings)
    camera, _ = devices.camera.open(), devices.stage.open()
    chamber, timeout_s = settings.chamber, settings.stage.arrive_timeout_s
    rig = Rig(devices.stage, devices.camera, chamber.settle, camera.um_per_px, timeout_s, None, threading.Event())
    numbers = iter(range(1000))
    assert isinstance(settings.calibration, MeasuredAffine)
    try:
        look = looker(rig, chamber.tiling, lambda x, y: StageTarget(next(numbers), x, y))
        yield look, camera, settings.calibration
    finally:
        devices.camera.close()
        devices.stage.close()


def slipping(look: Look, slips: dict[int, Point]) -> Look:
    """`look`, but before the move of that number the table slips by so much, and the stage does not know."""
    moves, slipped = iter(range(1000)), np.zeros(2)

    def at(place: Point) -> tuple[Pixels, Point]:
        slipped[:] += slips.get(next(moves), (0.0, 0.0))
        pixels, (x, y) = look((place[0] + slipped[0], place[1] + slipped[1]))
        return pixels, (x - float(slipped[0]), y - float(slipped[1]))

    return at


@pytest.mark.parametrize("slips", [{1: (2.0, -1.5)}, {5: (-1.0, 2.5)}, {8: (1.5, 1.5), 12: (-3.0, 0.5)}])
def test_slips_while_it_is_measured_do_no_harm(small: Small, slips: dict[int, Point]) -> None:
    settings = small("camera.twin.stage.slip_chance=0", "camera.twin.mounting={rotation_deg: 12}")
    with over_cells(settings) as (look, camera, calibration):
        found = calibrate_affine(slipping(look, slips), camera, calibration, (0.0, 0.0))
    assert found.slips == tuple(slips)
    view = View.of(settings.camera.twin)
    away = (found.affine.matrix[:, :2] - view.um_per_px) / view.mean_um_per_px
    assert np.sqrt(np.square(away).mean()) < found.affine.scale_sd


def test_a_stage_that_slips_at_every_move_is_refused(small: Small) -> None:
    rng = np.random.default_rng(2)
    slips = {move: (float(x), float(y)) for move, (x, y) in enumerate(rng.normal(0, 2, (MOVES + 1, 2)))}
    with (
        over_cells(small()) as (look, camera, calibration),
        pytest.raises(DeviceError, match=r"slipped in .* moves|agree only to"),
    ):
        calibrate_affine(slipping(look, slips), camera, calibration, (0.0, 0.0))
