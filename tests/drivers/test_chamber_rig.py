"""Stage and camera of the simulated chamber rig together: what the pictures show of the table's faults."""

from __future__ import annotations

import threading
import time

import cv2
import numpy as np
import pytest

from hspc_drivers.chamber_world import ChamberWorld
from hspc_drivers.simulated_chamber_camera import SimulatedChamberCamera
from hspc_drivers.simulated_stage import SimulatedStage
from hspc_live.core.clock import HostClock, VirtualClock
from hspc_live.core.values import Frame, StageTarget
from hspc_live.settings.chamber_twin import CameraMounting, TwinChamberSettings, TwinStageSettings
from hspc_live.twin.cells import CLASSES
from hspc_live.twin.chamber_score import Listed, score_listed
from hspc_live.twin.view import View

STRAIGHT = CameraMounting(rotation_deg=0, scale_error=0, aspect_error=0, shear=0)
CHAMBER = TwinChamberSettings(
    height_px=320, width_px=384, width_mm=0.5, height_mm=0.5, density_per_mm2=900, dust=0, illumination_slope=0.0
)
Rig = tuple[SimulatedStage, SimulatedChamberCamera, VirtualClock]


def rig(**changes: object) -> Rig:
    clock = VirtualClock(1_000_000)
    world = ChamberWorld(TwinChamberSettings.model_validate(CHAMBER.model_dump() | changes), clock)
    stage, camera = SimulatedStage(world), SimulatedChamberCamera(world)
    stage.open()
    camera.open()
    return stage, camera, clock


def go(stage: SimulatedStage, x_um: float, y_um: float) -> None:
    stage.move_to(StageTarget(1, x_um, y_um))
    assert stage.wait(60.0) is not None


def shift_px(one: Frame, other: Frame) -> np.ndarray:
    """How far the cells moved from `one` picture to the `other`, by phase correlation."""
    window = cv2.createHanningWindow(one.pixels.shape[::-1], cv2.CV_32F)
    (x, y), _ = cv2.phaseCorrelate(one.pixels.astype(np.float32), other.pixels.astype(np.float32), window)
    return np.array([x, y])


def test_backlash_shows_in_the_pictures_and_not_in_the_encoder() -> None:
    faults = TwinStageSettings(backlash_um=3.0, slip_chance=0, drift_um_per_min=0, ringing_um=0)
    stage, camera, _ = rig(stage=faults, mounting=STRAIGHT, creep_um_per_sqrt_min=0.0)
    go(stage, -100, 0)
    go(stage, 0, 0)
    from_left, reported = camera.snap("transmitted"), stage.position()
    go(stage, 100, 0)
    go(stage, 0, 0)
    from_right = camera.snap("transmitted")
    assert (stage.position().x_um, stage.position().y_um) == (reported.x_um, reported.y_um)
    assert shift_px(from_left, from_right) == pytest.approx([-3.0 / 0.25, 0.0], abs=0.3)


def test_a_picture_taken_too_early_is_shifted_and_one_taken_later_is_not() -> None:
    faults = TwinStageSettings(backlash_um=0, slip_chance=0, drift_um_per_min=0, ringing_um=4.0)
    stage, camera, clock = rig(stage=faults, mounting=STRAIGHT, creep_um_per_sqrt_min=0.0)
    go(stage, -600, 0)
    go(stage, 0, 0)
    early = camera.snap("transmitted")
    clock.advance_to(clock.now_ns() + 300_000_000)
    settled, again = camera.snap("transmitted"), camera.snap("transmitted")
    assert np.linalg.norm(shift_px(early, settled)) > 2.0
    assert np.linalg.norm(shift_px(settled, again)) < 0.1
    swept = camera.truth().exposures["swept_um"]
    assert swept[0] > 0.5 and swept[1] < 1e-3


def test_a_run_on_virtual_time_repeats_exactly() -> None:
    def film() -> tuple[list[Frame], np.ndarray]:
        stage, camera, _ = rig()
        frames = []
        for x_um in (-60.0, 60.0, -60.0):
            go(stage, x_um, 20.0)
            frames += [camera.snap("transmitted"), camera.snap("gfp")]
        return frames, camera.truth().seen

    (one, seen), (again, seen_again) = film(), film()
    for a, b in zip(one, again, strict=True):
        assert (a.index, a.captured_ns, a.received_ns) == (b.index, b.captured_ns, b.received_ns)
        np.testing.assert_array_equal(a.pixels, b.pixels)
    np.testing.assert_array_equal(seen, seen_again)


def test_both_channels_show_the_same_cells() -> None:
    stage, camera, _ = rig(mounting=STRAIGHT)
    go(stage, 0, 0)
    light, glow = (camera.snap(channel).pixels.astype(np.float32) for channel in camera.channels)
    structure = cv2.GaussianBlur(np.abs(light - np.median(light)), (0, 0), 4)
    bright = glow > 3 * np.median(glow)
    assert bright.any() and structure[bright].mean() > 4 * structure[~bright].mean()


def test_hundred_fields_take_virtual_minutes_and_the_list_by_truth_is_complete() -> None:
    """An ideal pipeline that believes the encoder lists every cell, in the encoder's coordinates."""
    stage, camera, clock = rig(height_px=160, width_px=160, width_mm=0.36, height_mm=0.36)
    for row in range(10):
        for column in range(10) if row % 2 == 0 else reversed(range(10)):
            go(stage, 36.0 * column - 162, 36.0 * row - 162)
            clock.advance_to(clock.now_ns() + 200_000_000)
            camera.snap("transmitted")
    assert clock.now_ns() > 20_000_000_000
    truth = camera.truth()
    view = View.of(TwinChamberSettings.model_validate(CHAMBER.model_dump() | {"height_px": 160, "width_px": 160}))
    first: dict[int, Listed] = {}
    for row in truth.seen[truth.seen["whole"]]:
        shot = truth.exposures[int(row["exposure"])]
        reported = shot["reported_x_um"], shot["reported_y_um"]
        x_um, y_um = view.to_um((row["x_px"], row["y_px"]), reported).tolist()
        number = int(row["object"])
        if truth.kinds[int(truth.bodies["kind"][truth.bodies["object"] == number][0])] in CLASSES:
            first.setdefault(number, Listed(number, x_um, y_um, int(shot["captured_ns"])))
    score = score_listed(list(first.values()), truth, CLASSES)
    assert score["cells"] > 60
    assert score["found_rate"] > 0.98
    assert score["frame"] == "encoder" and score["position_error_um"] < 0.1


def test_cells_are_smeared_along_the_way_while_the_table_moves() -> None:
    stage, camera, clock = rig(mounting=STRAIGHT, specks_per_mm2=0.0)
    stage.move_to(StageTarget(1, 60.0, 0.0))
    clock.advance_to(clock.now_ns() + 20_000_000)
    moving = camera.snap("transmitted", 5.0)
    go(stage, 60.0, 0.0)
    clock.advance_to(clock.now_ns() + 300_000_000)
    still = camera.snap("transmitted", 5.0)

    def edges(frame: Frame, x: int, y: int) -> float:
        smooth = cv2.GaussianBlur(frame.pixels.astype(np.float32), (0, 0), 1.5)
        return float(np.percentile(np.abs(cv2.Sobel(smooth, cv2.CV_32F, x, y)), 99.5))

    assert edges(moving, 1, 0) < 0.6 * edges(still, 1, 0)
    assert edges(moving, 0, 1) > 1.5 * edges(moving, 1, 0)


def test_a_move_that_begins_while_the_shutter_is_open_is_in_the_picture() -> None:
    world = ChamberWorld(CHAMBER, HostClock())
    stage, camera = SimulatedStage(world), SimulatedChamberCamera(world)
    stage.open()
    camera.open()
    filming = threading.Thread(target=lambda: camera.snap("transmitted", 800.0))
    filming.start()
    time.sleep(0.05)
    go(stage, 100.0, 0.0)
    filming.join(30.0)
    assert camera.truth().exposures["swept_um"][0] == pytest.approx(100.0, abs=5.0)


def test_on_the_host_clock_camera_and_stage_work_at_once() -> None:
    world = ChamberWorld(CHAMBER, HostClock())
    stage, camera = SimulatedStage(world), SimulatedChamberCamera(world)
    stage.open()
    camera.open()
    frames: list[Frame] = []
    filming = threading.Thread(target=lambda: frames.extend(camera.snap("transmitted", 20.0) for _ in range(4)))
    filming.start()
    begun = time.perf_counter()
    go(stage, 1500.0, 0.0)
    went_s = time.perf_counter() - begun
    filming.join(30.0)
    assert went_s > 1500 / 8000
    assert len(frames) == 4
    swept = camera.truth().exposures["swept_um"]
    assert swept.max() > 20.0, "the table moved while the shutter was open"
