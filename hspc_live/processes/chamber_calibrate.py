"""How the camera sits over the stage, found by moving the stage over real cells and watching how the picture moves.

No target is needed. Short moves first, which any mounting shows; what they tell predicts where the picture goes on long
moves, and those tell turn, scale and shear to a ten-thousandth.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import cast

import numpy as np

from hspc_live.core.errors import DeviceError
from hspc_live.core.values import CameraInfo, Pixels, StageTarget
from hspc_live.processes.chamber_motion import Rig
from hspc_live.settings.chamber import StageLimits, TilingSettings
from hspc_live.settings.chamber_run import MeasuredAffine
from hspc_live.stages.affine import AffineError, AffineFit, centred, invert
from hspc_live.stages.affine_track import UnsteadyStageError, check_steady, fit_track
from hspc_live.stages.settle import picture_shift
from hspc_live.stages.tiling import Point, approach, check_targets

SHORT = ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0), (0.0, 0.0))
"""Back to the start at last: with it five pictures tell which one move slipped."""
LONG = ((1.0, 1.0), (-1.0, -1.0), (1.0, -1.0), (-1.0, 1.0), (1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0))
"""From one side to the other: whatever two slips there are, the pictures between them span the field."""
REACH = 0.3
"""Long moves, as a share of the field's shorter edge: what both pictures show must still be the greater part."""
LIKE = 0.3
"""Likeness of two pictures below which they do not show the same cells."""
PLAUSIBLE_UM = 5.0
"""How far a picture may be from where those before it say, beyond what they leave open: slips; farther is dust."""
SURE = 3.0
"""± of what the pictures before say that count as open."""

Look = Callable[[Point], tuple[Pixels, Point]]


def looker(rig: Rig, tiling: TilingSettings, numbered: Callable[[float, float], StageTarget]) -> Look:
    """Goes to a place, always from the same side, and gives the picture there and where the stage says it is.

    `numbered` makes the targets.
    """
    one_sided = tiling.model_copy(update={"approach": "same_side"})

    def look(place: Point) -> tuple[Pixels, Point]:
        receipt = rig.go(approach(place, None, one_sided), numbered(*place))
        settled, frame = rig.still(receipt)
        if frame is None:
            raise DeviceError(
                f"the picture at ({place[0]:g}, {place[1]:g}) µm never stood still ({settled.reason}): camera against "
                "stage cannot be measured"
            )
        return frame.pixels, (receipt.x_um, receipt.y_um)

    return look


def calibration_places(
    info: CameraInfo, settings: MeasuredAffine, tiling: TilingSettings, at: Point
) -> tuple[Point, ...]:
    """Every place that `calibrate_affine` may send the stage to from `at`, ways back included: for the limits."""
    reach = max(settings.step_um, _long_um(info)) + tiling.overshoot_um
    return tuple((at[0] + sx * reach, at[1] + sy * reach) for sx in (-1, 1) for sy in (-1, 1))


def calibrate_affine(look: Look, info: CameraInfo, settings: MeasuredAffine, at: Point) -> AffineFit:
    """Measure the affine around `at`; its constant part puts the frame's middle at the stage's position.

    Raises AffineError if there is too little to see at `at`, or the moves do not agree; DeviceError.
    """
    first, origin = look(at)
    seen = [look((at[0] + dx * settings.step_um, at[1] + dy * settings.step_um)) for dx, dy in SHORT]
    # dust and shading of the camera never move, and would say that nothing did: the median of places far enough apart
    apart = np.stack([first, *(pixels for pixels, _ in seen[:-1])])
    empty = cast("Pixels", np.sort(apart, axis=0)[len(apart) // 2])
    pairs = [(picture_shift(first, pixels, 1.0, empty), here) for pixels, here in seen]
    # (how far the stage went, how far the picture moved) since the first picture, in the order they were taken
    track = [((0.0, 0.0), (0.0, 0.0))]
    track += [(_from(origin, here), (shift.dx_um, shift.dy_um)) for shift, here in pairs if shift.response >= LIKE]
    try:
        measured = _fitted(track, settings.noise_um)
        for dx, dy in LONG:
            reach = _long_um(info)
            pixels, here = look((at[0] + dx * reach, at[1] + dy * reach))
            went = _from(origin, here)
            expected, open_px = _expected(measured, went)
            plausible_px = min(PLAUSIBLE_UM / info.um_per_px + open_px, _long_um(info) / 2 / info.um_per_px)
            if (moved := _shift(first, pixels, expected, plausible_px)) is not None:
                track.append((went, moved))
                measured = _fitted(track, settings.noise_um)
        check_steady(measured, settings.noise_um)
    except UnsteadyStageError:
        raise
    except AffineError as error:
        raise AffineError(
            f"how the camera sits over the stage cannot be measured around ({at[0]:g}, {at[1]:g}) µm ({error}): go to "
            "where there are cells in focus, or give `calibration: {kind: given}`"
        ) from error
    return replace(measured, affine=centred(measured.affine, info.width_px, info.height_px))


def _from(origin: Point, here: Point) -> Point:
    return here[0] - origin[0], here[1] - origin[1]


def _fitted(track: Sequence[tuple[Point, Point]], noise_um: float) -> AffineFit:
    """The affine of (how far the stage went, how far the picture moved).

    After a move by +s a pixel shows what lies s further, so a cell's picture has gone the other way.
    """
    went, moved = np.array(track).reshape(-1, 2, 2).transpose(1, 0, 2)
    return fit_track(moved, -went, noise_um=noise_um)


def check_calibration(
    info: CameraInfo, settings: MeasuredAffine, tiling: TilingSettings, at: Sequence[Point], limits: StageLimits
) -> None:
    """Raise SettingsError if calibrating at any of `at` might leave the limits of travel."""
    check_targets((place for one in at for place in calibration_places(info, settings, tiling, one)), limits)


def _long_um(info: CameraInfo) -> float:
    return REACH * info.um_per_px * min(info.height_px, info.width_px)


def _expected(measured: AffineFit, went: Point) -> tuple[tuple[int, int], float]:
    """How far the picture should have gone, in whole pixels, and how far off that may be by what is measured yet."""
    there = invert(measured.affine, [(-went[0], -went[1])])
    dx, dy = np.rint(there.xy[0]).astype(int).tolist()
    return (dx, dy), SURE * float(there.sd[0])


def _shift(before: Pixels, after: Pixels, expected: tuple[int, int], plausible_px: float) -> Point | None:
    """The shift of `after` against `before` in px, told from what both show if it is about `expected`."""
    (height, width), (dx, dy) = before.shape, expected
    if abs(dx) >= width or abs(dy) >= height:
        return None
    old = before[max(0, -dy) : height - max(0, dy), max(0, -dx) : width - max(0, dx)]
    new = after[max(0, dy) : height + min(0, dy), max(0, dx) : width + min(0, dx)]
    rest = picture_shift(old, new, 1.0)
    if rest.response < LIKE or math.hypot(rest.dx_um, rest.dy_um) > plausible_px:
        return None
    return dx + rest.dx_um, dy + rest.dy_um
