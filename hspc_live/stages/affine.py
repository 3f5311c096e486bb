"""From camera pixels to stage µm and back: a 2 × 3 affine that carries its own uncertainty.

`stage position of a cell = stage position of the field + affine(pixel)`. Pixels are (x, y) of pixel centres, x to the
right. The camera may be turned, mirrored or sheared against the stage; the affine takes all of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hspc_live.core.errors import HspcError

Floats = NDArray[np.float64]

FLATTEST = 1e-3
"""Extent across over extent along: points flatter than this lie on a line, and say nothing about the other axis."""


class AffineError(HspcError):
    """The pairs do not determine camera against stage; the message says what to change."""

    exit_code = 6


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """Points with their uncertainty: `xy` is (n, 2), `covariance` (n, 2, 2), both in one unit (µm, or px)."""

    xy: Floats
    covariance: Floats

    @property
    def sd(self) -> Floats:
        """± of each point, (n,): the standard deviation along its least certain direction."""
        return np.asarray(np.sqrt(np.maximum(np.linalg.eigvalsh(self.covariance)[:, -1], 0.0)))


@dataclass(frozen=True, slots=True, eq=False)
class Affine:
    """`matrix` is (2, 3) float64, µm per px and µm; `covariance` is (6, 6), of the matrix read row by row."""

    matrix: Floats
    covariance: Floats

    @property
    def um_per_px(self) -> tuple[float, float]:
        """Scale along the camera's x and y."""
        along_x, along_y = np.hypot(*self.matrix[:, :2]).tolist()
        return along_x, along_y

    @property
    def scale_sd(self) -> float:
        """Relative ± of scale and turn: of the numbers that map pixels, as a share of µm per pixel."""
        linear = np.diag(self.covariance)[[0, 1, 3, 4]]
        return float(np.sqrt(linear.mean()) / np.sqrt(abs(np.linalg.det(self.matrix[:, :2]))))

    @property
    def rotation_deg(self) -> float:
        """Direction of the camera's x axis on the stage, counted from +x towards +y."""
        return math.degrees(math.atan2(self.matrix[1, 0], self.matrix[0, 0]))

    @property
    def mirrored(self) -> bool:
        """Whether the picture is a mirror image of the stage."""
        return bool(np.linalg.det(self.matrix[:, :2]) < 0)


@dataclass(frozen=True, slots=True, eq=False)
class AffineFit:
    """A fitted affine: `residuals_um` (n, 2) of all pictures, and before which of them (1…n-1) the stage slipped.

    Moves tell nothing of where the frame lies: the affine's constant part is 0, and so is its uncertainty. `noise_um`
    is the error of one picture per axis that the uncertainty rests on, `scatter_um` the one that was seen. `walk_um` is
    what the stage slips by per axis at every single move, where that explains the pictures better than a few slips.
    """

    affine: Affine
    residuals_um: Floats
    slips: tuple[int, ...]
    noise_um: float
    scatter_um: float
    walk_um: float = 0.0


def nominal(
    um_per_px: float, width_px: int, height_px: int, *, rotation_deg: float = 0.0, scale_sd: float = 0.0
) -> Affine:
    """The affine of a rig that was not calibrated: known scale, the frame's centre at the stage's position.

    `scale_sd` is the relative standard deviation of the scale. Raises AffineError for a scale that is none.
    """
    if not (math.isfinite(um_per_px) and um_per_px > 0):
        raise AffineError(f"a scale of {um_per_px} µm/px is none; measure it, or read it off the objective")
    turn = math.radians(rotation_deg)
    linear = um_per_px * np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    centre = np.array([(width_px - 1) / 2, (height_px - 1) / 2])
    matrix = np.column_stack([linear, -linear @ centre])
    spread = matrix.ravel() * scale_sd  # a wrong scale is wrong everywhere alike
    return Affine(matrix, np.outer(spread, spread))


def centred(affine: Affine, width_px: int, height_px: int) -> Affine:
    """The same camera, with the frame's middle at the stage's position by definition.

    So it is used after a calibration from shifts, where a pair is (how far the picture moved in px, minus how far the
    stage moved in µm): moves tell scale, turn and shear, and nothing of where the frame lies.
    """
    linear, x, y = affine.matrix[:, :2], (width_px - 1) / 2, (height_px - 1) / 2
    to_middle = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [-x, -y, 0.0]])
    turn = np.kron(np.eye(2), to_middle)
    return Affine(np.column_stack([linear, -linear @ (x, y)]), turn @ affine.covariance @ turn.T)


def apply(affine: Affine, pixels: ArrayLike, *, centroid_sd_px: float = 0.0, repeatability_um: float = 0.0) -> Places:
    """Pixels (n, 2) as places on the stage, µm, relative to where the stage stood.

    The covariance holds the affine's own, the centroids' (through the matrix) and the stage's repeatability.
    """
    points = finite_points(pixels, "pixels")
    linear = affine.matrix[:, :2]
    xy = points @ linear.T + affine.matrix[:, 2]
    cell = centroid_sd_px**2 * (linear @ linear.T) + repeatability_um**2 * np.eye(2)
    return Places(xy, _from_parameters(affine, points) + cell)


def invert(affine: Affine, stage_um: ArrayLike, *, position_sd_um: float = 0.0) -> Places:
    """Where places (n, 2), µm relative to the stage's position, show in the frame: px with their uncertainty.

    `position_sd_um` is the places' own. Raises AffineError for a matrix without an inverse.
    """
    places = finite_points(stage_um, "places")
    linear = affine.matrix[:, :2]
    if abs(np.linalg.det(linear)) <= FLATTEST**2 * np.square(linear).sum():
        raise AffineError("the affine maps the picture onto a line: it cannot be inverted; calibrate again")
    back = np.linalg.inv(linear)
    pixels = (places - affine.matrix[:, 2]) @ back.T
    # implicit function theorem: M p + t = s, so dp = M⁻¹ (ds - dM p - dt)
    spread = _from_parameters(affine, pixels) + position_sd_um**2 * np.eye(2)
    return Places(pixels, back @ spread @ back.T)


def _from_parameters(affine: Affine, points: Floats) -> Floats:
    """What the affine's own uncertainty means at `points`, (n, 2, 2)."""
    jacobian = np.zeros((len(points), 2, 6))
    jacobian[:, 0, :3] = jacobian[:, 1, 3:] = np.column_stack([points, np.ones(len(points))])
    return np.asarray(jacobian @ affine.covariance @ jacobian.transpose(0, 2, 1))


def finite_points(values: ArrayLike, name: str) -> Floats:
    """(n, 2) float64. Raises AffineError, with `name`, for another shape and for NaN."""
    points = np.asarray(values, np.float64)
    if points.ndim != 2 or points.shape[1] != 2:
        raise AffineError(f"{name} must be (n, 2) numbers, found the shape {points.shape}")
    if not np.isfinite(points).all():
        raise AffineError(f"{name} hold NaN or infinity: leave out what was not measured")
    return points
