"""How the twin's camera sits over the stage: chamber micrometres to pixels and back.

Chamber coordinates are those of the stage's *true* position: the place (x, y) lies in the middle of the frame when the
stage truly stands at (x, y). Pixel coordinates count pixel centres, (0, 0) being the centre of the upper left one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hspc_live.settings.chamber_twin import TwinChamberSettings

Points = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """`px_per_um` (2, 2) turns a way on the glass into one in the picture; `middle_px` (2,) is the frame's middle."""

    px_per_um: Points
    middle_px: Points

    @classmethod
    def of(cls, settings: TwinChamberSettings) -> View:
        """The true mounting that `settings` describe."""
        mounting = settings.mounting
        angle = np.deg2rad(mounting.rotation_deg)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        skew = np.array([[1.0, np.sin(mounting.shear)], [0.0, np.cos(mounting.shear)]])
        x_um = settings.um_per_px * (1 + mounting.scale_error)
        scale = np.diag([1 / x_um, 1 / (x_um * (1 + mounting.aspect_error))])
        mirror = np.diag([-1.0 if mounting.mirrored else 1.0, 1.0])
        middle = np.array([(settings.width_px - 1) / 2, (settings.height_px - 1) / 2])
        return cls(mirror @ turn @ skew @ scale, middle)

    @property
    def um_per_px(self) -> Points:
        """The affine that a calibration looks for, (2, 2): a way in the picture to one on the glass."""
        return np.asarray(np.linalg.inv(self.px_per_um))

    @property
    def mean_um_per_px(self) -> float:
        """One number for the scale: the root of the area of a pixel."""
        return float(abs(np.linalg.det(self.px_per_um)) ** -0.5)

    def to_px(self, places_um: ArrayLike, stage_um: ArrayLike) -> Points:
        """Pixels (…, 2) of `places_um` (…, 2) with the stage truly at `stage_um` (2,)."""
        way = np.asarray(places_um, np.float64) - np.asarray(stage_um, np.float64)
        return np.asarray(way @ self.px_per_um.T + self.middle_px)

    def to_um(self, places_px: ArrayLike, stage_um: ArrayLike) -> Points:
        """Chamber coordinates (…, 2) of `places_px` (…, 2): the inverse of `to_px`."""
        way = np.asarray(places_px, np.float64) - self.middle_px
        return np.asarray(way @ self.um_per_px.T + np.asarray(stage_um, np.float64))

    def reach_um(self) -> float:
        """From the middle of the frame to its farthest corner, on the glass."""
        return float(
            np.linalg.norm(self.um_per_px @ np.array([self.middle_px, self.middle_px * [1, -1]]).T, axis=0).max()
        )
