"""calibrate-stage: camera against stage and the stage's play, measured where the stage stands, and written down.

A chamber run measures the same affine before every scan (`chamber_calibrate`); once measured on its own it can be
looked at, kept, and given to runs over chambers that show too little to measure it by.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import yaml

from hspc_live.core.errors import OutputError, SettingsError
from hspc_live.core.protocols import SnapCamera, Stage
from hspc_live.core.values import Pixels, StageTarget
from hspc_live.processes.chamber_calibrate import LIKE, calibrate_affine, check_calibration, looker
from hspc_live.processes.chamber_motion import Rig, open_rig
from hspc_live.settings.chamber_run import ChamberRunSettings, GivenAffine, MeasuredAffine
from hspc_live.stages.affine import AffineFit
from hspc_live.stages.settle import picture_shift
from hspc_live.stages.tiling import Point, reachable

TURNS = 3
"""So often is a place come to from either side, for the play; a slip spoils one of them."""
FAR_OFF = 0.03
"""Share by which the measured scale may differ from the stated one before that is said."""
DIGITS = 7
"""Decimals of µm per pixel that are written: a ten-thousandth of a pixel over a large sensor."""


@dataclass(frozen=True, slots=True, eq=False)
class StageCalibration:
    """How the camera sits over the stage, measured around `at_um`; `date` is ISO 8601, `stated_um_per_px` the camera's.

    `residuals_um` (n,) is how far stage and picture disagree in each picture once the affine is known. `backlash_um`
    is by how far the table lags, along x and y, when a place is come to from the other side; None where the pictures
    did not show it.
    """

    fit: AffineFit
    residuals_um: tuple[float, ...]
    backlash_um: tuple[float | None, float | None]
    at_um: Point
    stated_um_per_px: float
    date: str

    @property
    def residual_rms_um(self) -> float:
        """Root mean square of the residuals."""
        return math.sqrt(float(np.mean(np.square(self.residuals_um))))

    @property
    def residual_max_um(self) -> float:
        """The largest residual."""
        return max(self.residuals_um)

    def given(self) -> dict[str, Any]:
        """The section `calibration` by which a run takes this."""
        x, y = self.fit.affine.matrix[:, :2].tolist()
        return {
            "kind": "given",
            "x_per_px": [round(value, DIGITS) for value in x],
            "y_per_px": [round(value, DIGITS) for value in y],
            "scale_sd": round(self.fit.affine.scale_sd, DIGITS),
        }

    def remarks(self) -> Iterator[str]:
        """What a person should look at."""
        for axis, found in zip("xy", self.fit.affine.um_per_px, strict=True):
            if abs(found / self.stated_um_per_px - 1) > FAR_OFF:
                yield (
                    f"along the picture's {axis} a pixel is {found:.4g} µm, the camera's settings say "
                    f"{self.stated_um_per_px:.4g}: look at objective, binning and camera.um_per_px"
                )
        if self.fit.slips:
            yield f"the stage slipped in {len(self.fit.slips)} of {len(self.residuals_um) - 1} moves; they are left out"


def calibrate_stage(
    stage: Stage, camera: SnapCamera, settings: ChamberRunSettings, date: str, at: Point | None = None
) -> StageCalibration:
    """Measure around `at`, or where the stage stands; once that is done it stands there again. Closes the devices.

    Raises SettingsError before anything moves for a way beyond the limits; AffineError for a fit that must not be used
    (too little to see, moves along one line, stage and picture that disagree); DeviceError.
    """
    measure = settings.calibration
    if isinstance(measure, GivenAffine):  # what a run would take is just what is to be measured
        measure = MeasuredAffine()
    tiling = settings.chamber.tiling
    try:
        rig, info, stage_info = open_rig(stage, camera, settings)
        if at is None:
            here = stage.position()
            at = here.x_um, here.y_um
        if not all(map(math.isfinite, at)):
            raise SettingsError(f"({at[0]:g}, {at[1]:g}) is no place to calibrate at")
        check_calibration(info, measure, tiling, [at], reachable(settings.chamber.limits, stage_info))
        numbers = count()
        look = looker(rig, tiling, lambda x, y: StageTarget(next(numbers), x, y))
        fit = calibrate_affine(look, info, measure, at)
        play = tuple(_backlash(rig, fit, at, axis, tiling.overshoot_um, numbers) for axis in (0, 1))
        look(at)
    finally:
        try:
            stage.close()
        finally:
            camera.close()
    residuals = tuple(np.hypot(*fit.residuals_um.T).tolist())
    return StageCalibration(fit, residuals, (play[0], play[1]), at, info.um_per_px, date)


def _backlash(rig: Rig, fit: AffineFit, at: Point, axis: int, way_um: float, numbers: Iterator[int]) -> float | None:
    """How far the table stands short of where it stands when it comes from below, µm along `axis`; None if unseen."""
    lags = []
    for _ in range(TURNS):
        below, above = (_come(rig, at, axis, side * way_um, way_um, next(numbers)) for side in (-1, 1))
        if below is None or above is None:
            continue
        shift = picture_shift(below, above, 1.0, rig.empty)
        if shift.response >= LIKE:
            # the picture goes against the table; coming from above the table lags above
            lags.append(-float((fit.affine.matrix[:, :2] @ (shift.dx_um, shift.dy_um))[axis]))
    return median(lags) if lags else None


def _come(rig: Rig, at: Point, axis: int, from_um: float, back_um: float, number: int) -> Pixels | None:
    """The picture at `at`, come to from `from_um` beside it along `axis` and from below along the other."""
    start = [place - back_um for place in at]
    start[axis] = at[axis] + from_um
    receipt = rig.go([(start[0], start[1]), at], StageTarget(number, *at))
    rig.still(receipt)  # what counts as still swings a little yet, and the other way when it comes from above
    _, frame = rig.still(receipt)
    return None if frame is None else frame.pixels


def write_affine(path: Path, found: StageCalibration) -> None:
    """Write what a run's settings take, as YAML. Raises OutputError if `path` exists or cannot be written."""
    affine = found.fit.affine
    x, y = affine.um_per_px
    note = (
        f"# Camera against stage, measured {found.date} around ({found.at_um[0]:g}, {found.at_um[1]:g}) µm.\n"
        f"# {x:.5g} × {y:.5g} µm/px, turned by {affine.rotation_deg:.3f}°{', mirrored' if affine.mirrored else ''}; "
        f"residuals {found.residual_rms_um:.3f} µm (root mean square of {len(found.residuals_um)} pictures).\n"
        "# Holds for this objective, binning and camera adapter only.\n"
    )
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(note + yaml.safe_dump({"calibration": found.given()}, sort_keys=False, default_flow_style=None))
    except OSError as error:
        raise OutputError(f"{path}: cannot write the calibration: {error.strerror}") from error
