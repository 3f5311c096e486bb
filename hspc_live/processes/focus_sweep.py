"""The sharpness sweep: up through the heights of the focus drive, a few pictures at each, and to the sharpest.

Every height is come to from below, so that the drive's play stands on the same side in the sweep and at its end. Where
the sweep tells nothing the drive goes back to where it was.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hspc_live.core.errors import SettingsError
from hspc_live.core.protocols import Focus, SnapCamera
from hspc_live.core.values import FocusInfo
from hspc_live.stages.focus import CLEAR, LEAST_HEIGHTS, FocusCurve, FocusError, best_focus, sharpness

PICTURES = 2
"""At each height; how much they differ is the noise of the curve."""
BELOW_UM = 2.0
"""How far below a height the drive goes to come to it from there; above the play of usual drives."""
MOST_HEIGHTS = 1000


@dataclass(frozen=True, slots=True)
class Focused:
    """A sweep that told the focus: where the drive stood before, where it stands now, and how sharp it is there."""

    curve: FocusCurve
    began_um: float
    stands_um: float
    sharpness: float


def sweep_heights(middle_um: float, range_um: float, step_um: float) -> tuple[float, ...]:
    """Even steps, `range_um` to either side of `middle_um`. Raises SettingsError for a sweep that is none."""
    if not (math.isfinite(middle_um) and math.isfinite(range_um) and math.isfinite(step_um) and step_um > 0):
        raise SettingsError(f"a sweep of ± {range_um:g} µm around {middle_um:g} µm in steps of {step_um:g} is none")
    side = round(range_um / step_um)
    if not LEAST_HEIGHTS <= 2 * side + 1 <= MOST_HEIGHTS:
        raise SettingsError(
            f"a sweep of ± {range_um:g} µm in steps of {step_um:g} µm has {2 * side + 1} heights: between "
            f"{LEAST_HEIGHTS} and {MOST_HEIGHTS} make a curve"
        )
    return tuple(middle_um + step_um * number for number in range(-side, side + 1))


def find_focus(
    focus: Focus, camera: SnapCamera, range_um: float, step_um: float, exposure_ms: float | None = None
) -> Focused:
    """Sweep around where the drive stands, go to the sharpest height, and look there. Closes both devices.

    Raises SettingsError before anything moves where the sweep would leave the drive's limits; FocusError where the
    curve tells nothing (the drive is back where it was then); DeviceError.
    """
    channel = camera.channels[0]

    def look() -> float:
        return sharpness(camera.snap(channel, exposure_ms).pixels)

    try:
        camera.open()
        info = focus.open()
        began = focus.position()
        heights = sweep_heights(began, range_um, step_um)
        _check(heights, info)
        try:
            focus.move_to(heights[0] - BELOW_UM)
            curve = best_focus(heights, [_looks(focus, height, look) for height in heights])
            focus.move_to(curve.z_um - BELOW_UM)
            stands = focus.move_to(curve.z_um)
            seen = look()
            _confirm(curve, seen)
        except FocusError:
            focus.move_to(began - BELOW_UM)
            focus.move_to(began)
            raise
    finally:
        try:
            focus.close()
        finally:
            camera.close()
    return Focused(curve, began, stands, seen)


def _check(heights: Sequence[float], info: FocusInfo) -> None:
    low, high = info.limits_um
    least, most = heights[0] - BELOW_UM, heights[-1]
    if least < low or most > high:
        raise SettingsError(
            f"the sweep goes from {least:g} to {most:g} µm (it begins {BELOW_UM:g} µm below), and the focus drive may "
            f"go from {low:g} to {high:g} (focus.z_min_um, focus.z_max_um): sweep over less, or begin elsewhere; "
            "nothing was moved"
        )


def _looks(focus: Focus, height_um: float, look: Callable[[], float]) -> list[float]:
    focus.move_to(height_um)
    return [look() for _ in range(PICTURES)]


def _confirm(curve: FocusCurve, seen: float) -> None:
    """The top is sharper than its neighbours in the sweep, or the drive does not come back to a height."""
    top = max(range(len(curve.sharpness)), key=curve.sharpness.__getitem__)
    least = min(curve.sharpness[top - 1], curve.sharpness[top + 1]) - CLEAR * curve.noise
    if seen < least:
        raise FocusError(
            f"back at {curve.z_um:.2f} µm, the sharpest height, the picture is less sharp than beside it in the sweep: "
            "the drive does not come back to a height, or the sample drifts; look at both"
        )
